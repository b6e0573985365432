//! From a tree and data to text.

use serde_json::Value;

use super::function::{self, is_true};
use super::parse::{Node, Operand, Pipeline};
use super::printf::text;

pub(super) fn render(nodes: &[Node], data: &Value) -> Result<String, String> {
    let mut state = State { data, variables: Vec::new(), out: String::new() };
    state.nodes(nodes, data)?;
    Ok(state.out)
}

/// What a loop does next.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct State<'a> {
    data: &'a Value,
    variables: Vec<(String, Value)>,
    out: String,
}

impl State<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        let depth = self.variables.len();
        let mut flow = Flow::Next;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::Next {
                break;
            }
        }
        self.variables.truncate(depth);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, String> {
        match node {
            Node::Text(piece) => self.out.push_str(piece),
            Node::Output(pipeline) => {
                if let [command] = pipeline.commands.as_slice()
                    && let [Operand::Function(word)] = command.as_slice()
                {
                    match word.as_str() {
                        "break" => return Ok(Flow::Break),
                        "continue" => return Ok(Flow::Continue),
                        _ => {}
                    }
                }
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.out.push_str(&text(&value));
                }
                self.set(pipeline, &[value])?;
            }
            Node::If { condition, then, otherwise } => {
                let depth = self.variables.len();
                let value = self.pipeline(condition, dot)?;
                let branch = if is_true(&value) { then } else { otherwise };
                self.set(condition, &[value])?;
                let flow = self.nodes(branch, dot);
                self.variables.truncate(depth);
                return flow;
            }
            Node::With { subject, body, otherwise } => {
                let depth = self.variables.len();
                let value = self.pipeline(subject, dot)?;
                self.set(subject, std::slice::from_ref(&value))?;
                let flow = if is_true(&value) { self.nodes(body, &value) } else { self.nodes(otherwise, dot) };
                self.variables.truncate(depth);
                return flow;
            }
            Node::Range { over, body, otherwise } => return self.range(over, body, otherwise, dot),
        }
        Ok(Flow::Next)
    }

    fn range(&mut self, over: &Pipeline, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<Flow, String> {
        let items: Vec<(Value, Value)> = match self.pipeline(over, dot)? {
            Value::Null => Vec::new(),
            Value::Array(items) => items.into_iter().enumerate().map(|(i, v)| (Value::from(i), v)).collect(),
            Value::Object(items) => items.into_iter().map(|(k, v)| (Value::String(k), v)).collect(),
            other => return Err(format!("range cannot go over {other}")),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, item) in items {
            let depth = self.variables.len();
            let values = if over.variables.len() == 2 { vec![key, item.clone()] } else { vec![item.clone()] };
            self.set(over, &values)?;
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(depth);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    /// Sets the pipeline's variables to `values`.
    fn set(&mut self, pipeline: &Pipeline, values: &[Value]) -> Result<(), String> {
        for (name, value) in pipeline.variables.iter().zip(values) {
            if pipeline.assigns {
                let found = self.variables.iter_mut().rev().find(|(known, _)| known == name);
                found.ok_or_else(|| format!("undefined variable \"${name}\""))?.1 = value.clone();
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, last, dot)?);
        }
        Ok(last.unwrap_or(Value::Null))
    }

    fn command(&mut self, command: &[Operand], last: Option<Value>, dot: &Value) -> Result<Value, String> {
        match command {
            [Operand::Function(name), arguments @ ..] if matches!(name.as_str(), "and" | "or") => {
                self.and_or(name == "and", arguments, last, dot)
            }
            [Operand::Function(name), arguments @ ..] => {
                let values: Result<Vec<Value>, String> = arguments.iter().map(|a| self.operand(a, dot)).collect();
                let mut values = values?;
                values.extend(last);
                function::call(name, &values)
            }
            [operand] if last.is_none() => self.operand(operand, dot),
            _ => Err("only a function can have arguments".to_owned()),
        }
    }

    /// The first argument that decides; those after it are not looked at.
    fn and_or(&mut self, and: bool, arguments: &[Operand], last: Option<Value>, dot: &Value) -> Result<Value, String> {
        let mut result = None;
        for argument in arguments {
            let value = self.operand(argument, dot)?;
            if is_true(&value) != and {
                return Ok(value);
            }
            result = Some(value);
        }
        last.or(result).ok_or_else(|| format!("{} needs arguments", if and { "and" } else { "or" }))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        match operand {
            Operand::Field(path) => walk(dot, path),
            Operand::Variable(name, path) if name.is_empty() => walk(self.data, path),
            Operand::Variable(name, path) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                walk(&found.ok_or_else(|| format!("undefined variable \"${name}\""))?.1, path)
            }
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Function(name) => function::call(name, &[]),
            Operand::Parenthesis(inner, path) => walk(&self.pipeline(inner, dot)?, path),
        }
    }
}

fn walk(value: &Value, path: &[String]) -> Result<Value, String> {
    let (mut at, mut is_map) = (value, false);
    for field in path {
        at = match get(at, field) {
            Some(found) => found,
            // A label may be missing, a field of a structure may not.
            None if is_map => return Ok(Value::from("<no value>")),
            None => return Err(format!("there is no field {field:?}{}", known(at))),
        };
        is_map = ["labels", "annotations"].iter().any(|end| field.to_ascii_lowercase().ends_with(end));
    }
    Ok(at.clone())
}

/// A field by its key, or by the name that a Go structure would have for it: `RootFS` for `rootfs`, `DiffIDs` for
/// `diff_ids`, `OSVersion` for `os.version`.
fn get<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    let plain = |name: &str| name.replace(['_', '.'], "").to_ascii_lowercase();
    value.get(field).or_else(|| {
        let is_go = field.starts_with(|c: char| c.is_ascii_uppercase());
        let wanted = plain(field);
        value.as_object()?.iter().find(|(key, _)| is_go && plain(key) == wanted).map(|(_, found)| found)
    })
}

/// Says which fields there are, when there are any.
fn known(value: &Value) -> String {
    let names: Vec<&str> = value.as_object().into_iter().flat_map(|map| map.keys()).map(String::as_str).collect();
    if names.is_empty() { String::new() } else { format!(" among {}", names.join(", ")) }
}
