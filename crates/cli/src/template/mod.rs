//! Go's text/template, as far as `--format` needs it, over JSON values.

mod eval;
mod function;
mod lex;
mod parse;
mod printf;

use serde_json::Value;

use crate::{Error, Result};
use parse::{Node, Operand, Pipeline};

/// A parsed template: `{{.Name}}`, pipes, `if`, `range`, `with`, variables and the functions of [`Template::parse`].
///
/// Fields are exact, as in Go: one that is not there is an error that names it.
#[derive(Debug, Clone)]
pub struct Template {
    nodes: Vec<Node>,
}

impl Template {
    /// Reads a template. Outside of actions `\t` and `\n` stand for tab and newline.
    ///
    /// Functions: `and or not eq ne lt le gt ge index len print printf println json join split lower upper title
    /// truncate truncn pad slice`.
    ///
    /// # Errors
    /// A message that names the template and what is wrong in it.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |reason: String| Error::msg(format!("template {text:?}: {reason}")).with_code(1);
        let pieces = lex::pieces(text).map_err(wrong)?;
        Ok(Self { nodes: parse::nodes(pieces).map_err(wrong)? })
    }

    /// The text for `data`.
    ///
    /// # Errors
    /// A field that `data` has not, or a function used on what it cannot take.
    pub fn render(&self, data: &Value) -> Result<String> {
        eval::render(&self.nodes, data).map_err(|reason| Error::msg(format!("template: {reason}")))
    }

    /// The paths of all fields that are asked of the template's data outside of `range` and `with`.
    pub(crate) fn fields(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        collect(&self.nodes, &mut found);
        found
    }
}

fn collect(nodes: &[Node], found: &mut Vec<Vec<String>>) {
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Output(pipeline) => collect_pipeline(pipeline, found),
            Node::If { condition, then, otherwise } => {
                collect_pipeline(condition, found);
                collect(then, found);
                collect(otherwise, found);
            }
            Node::Range { over: subject, .. } | Node::With { subject, .. } => collect_pipeline(subject, found),
        }
    }
}

fn collect_pipeline(pipeline: &Pipeline, found: &mut Vec<Vec<String>>) {
    for operand in pipeline.commands.iter().flatten() {
        match operand {
            Operand::Field(path) if !path.is_empty() => found.push(path.clone()),
            Operand::Parenthesis(inner, _) => collect_pipeline(inner, found),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(text: &str) -> Result<String> {
        let data = json!({
            "Name": "web", "Count": 3, "Ratio": 1.5, "Up": true, "None": null, "Empty": [], "Zero": 0,
            "Tags": ["a", "b"], "Labels": {"k": "v", "x.y": "z"}, "Deep": {"Er": {"Value": 7}},
            "Rows": [{"ID": "0123456789abcdef"}, {"ID": "f"}],
        });
        Template::parse(text)?.render(&data)
    }

    #[test]
    fn what_people_write() {
        for (text, want) in [
            ("plain", "plain"),
            ("{{.Name}}", "web"),
            ("{{ .Name }}\\t{{.Count}}\\n", "web\t3\n"),
            ("{{.Deep.Er.Value}}{{ $.Name }}", "7web"),
            ("{{.Tags}} {{.Labels}} {{.None}} {{.Ratio}}", "[a b] map[k:v x.y:z] <nil> 1.5"),
            ("{{json .Tags}}{{json .Name}}{{.Labels | json}}", r#"["a","b"]"web"{"k":"v","x.y":"z"}"#),
            ("{{join .Tags \", \"}}", "a, b"),
            ("{{range .Tags}}<{{.}}>{{end}}", "<a><b>"),
            ("{{range $i, $v := .Tags}}{{$i}}={{$v}};{{end}}", "0=a;1=b;"),
            ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "k=v;x.y=z;"),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            ("{{range .Rows}}{{truncn .ID 4}} {{end}}", "0123 f "),
            ("{{if .Up}}up{{else}}down{{end}}", "up"),
            ("{{if eq .Count 1}}1{{else if eq .Count 2 3}}2or3{{else}}n{{end}}", "2or3"),
            ("{{if and .Up (gt .Count 2) (not .Zero)}}yes{{end}}", "yes"),
            ("{{or .Empty .Name}}{{and .Zero .Nope}}", "web0"),
            ("{{with .Deep}}{{.Er.Value}}{{$.Name}}{{end}}", "7web"),
            ("{{with $x := .Name}}{{$x}}{{else}}-{{end}}", "web"),
            ("{{with .None}}x{{else}}-{{end}}", "-"),
            (
                "{{printf \"%s-%03d|%-5s|%q|%x|%v|%5.2f%%\" .Name .Count .Name .Name 255 .Up .Ratio}}",
                "web-003|web  |\"web\"|ff|true| 1.50%",
            ),
            ("{{printf \"%d\" .Name}}", "%!d(string=web)"),
            ("{{len .Tags}}{{len .Name}}{{index .Tags 1}}{{index .Labels \"x.y\"}}", "23bz"),
            ("[{{index .Labels \"nope\"}}]", "[]"),
            ("{{upper .Name}}{{title .Name}}{{lower \"A\"}}{{split \"a/b\" \"/\"}}", "WEBWeba[a b]"),
            ("{{println .Name .Count}}", "web 3\n"),
            ("{{print 1 2 `raw` 'a'}}", "1 2raw97"),
            ("{{ne .Name \"x\"}} {{lt 1 2}} {{le \"a\" \"a\"}} {{ge 1.5 2}}", "true true true false"),
            ("a \n {{- .Name -}} \n b", "awebb"),
            ("{{/* nothing */}}x{{- /* trimmed */ -}} y", "xy"),
            ("{{$a := 1}}{{if .Up}}{{$a = 2}}{{end}}{{$a}}", "2"),
            ("{{\"}}\"}}{{(index .Rows 1).ID}}", "}}f"),
            ("{{slice .Name 1 3}}{{pad .Name 1 2}}", "eb web  "),
            ("{{range .Tags}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a"),
            ("{{range .Tags}}{{if eq . \"a\"}}{{continue}}{{end}}{{.}}{{end}}", "b"),
        ] {
            assert_eq!(render(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, want) in [
            ("{{.Nope}}", "\"Nope\""),
            ("{{.name}}", "\"name\""),
            ("{{.Name.X}}", "\"X\""),
            ("{{.Name", "unclosed action"),
            ("{{if .Up}}", "no {{end}}"),
            ("{{end}}", "{{end}}"),
            ("{{nope .Name}}", "\"nope\""),
            ("{{$x}}", "$x"),
            ("{{index .Tags 9}}", "9"),
            ("{{}}", "empty"),
            ("{{\"a}}", "string"),
            ("{{range .Name}}{{end}}", "range"),
            ("{{(.Name}}", "parenthesis"),
            ("{{.Name | }}", "empty"),
            ("{{len 3}}", "len"),
        ] {
            let error = render(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
