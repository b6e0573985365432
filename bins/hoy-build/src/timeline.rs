//! Builds as one page of HTML that needs nothing else: each step is a bar over the time that it took.

use hoy_build::{PastBuild, PastStep};

use crate::history::{name, seconds, took, visible};

/// No script runs, and nothing is loaded from anywhere.
const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Builds</title>
<style>
body { font: 14px/1.4 sans-serif; margin: 2em; color: #222; background: #fff }
h2 { font-size: 1.1em; margin: 2em 0 .3em } h2 small { font-weight: normal; color: #666 }
table { border-collapse: collapse; width: 100%; table-layout: fixed }
td { padding: 1px 6px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
td.text { width: 45%; font-family: monospace } td.took { width: 6em; text-align: right; color: #666 }
div.bar { height: 1em; min-width: 2px; background: #4878a8; border-radius: 2px } div.cached { background: #9c9 }
.failed { color: #a00 }
</style>
</head>
<body>
<h1>Builds</h1>
"#;

/// The whole page.
pub(crate) fn page(builds: &[PastBuild]) -> String {
    let builds: String = builds.iter().map(section).collect();
    format!("{HEAD}{builds}</body>\n</html>\n")
}

fn section(build: &PastBuild) -> String {
    let rows: String = build.steps.iter().map(|step| row(step, build.milliseconds.max(1))).collect();
    let created = build.created.map(|time| time.to_string()).unwrap_or_default();
    let class = if build.outcome == "done" { "done" } else { "failed" };
    let image = build.image.map(|image| format!(", {}", image.hex())).unwrap_or_default();
    let more =
        if build.left_out > 0 { format!("<p>and {} further steps</p>\n", build.left_out) } else { String::new() };
    format!(
        "<h2>{} <small>{} <span class=\"{class}\">{}</span> in {}{image}</small></h2>\n<table>\n{rows}</table>\n{more}",
        escaped(&name(build)),
        escaped(&created),
        escaped(&build.outcome),
        seconds(build.milliseconds),
    )
}

fn row(step: &PastStep, whole: u64) -> String {
    let percent = |part: u64| 100.0 * (part.min(whole) as f64) / (whole as f64);
    let (left, width) = (percent(step.start_milliseconds), percent(step.milliseconds));
    let text = escaped(&format!("{} {}", step.step, step.text));
    let class = if step.cached { "bar cached" } else { "bar" };
    format!(
        "<tr><td class=\"text\" title=\"{text}\">{text}</td><td class=\"took\">{}</td>\
         <td><div class=\"{class}\" style=\"margin-left:{left:.2}%;width:{:.2}%\"></div></td></tr>\n",
        took(step).trim(),
        width.min(100.0 - left),
    )
}

/// Text that is nothing but text in a page, in attributes too.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
