//! Cutting a template into text and actions, and actions into words.

use serde_json::Value;

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    /// Text to be copied.
    Text(String),
    /// The words between `{{` and `}}`.
    Action(Vec<Token>),
}

/// A word of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.`, `.A` or `.A.B`, with what stood directly before it: nothing.
    Field(Vec<String>),
    /// `$` or `$name`, then fields.
    Variable(String, Vec<String>),
    /// A string, number, `true`, `false` or `nil`.
    Literal(Value),
    /// A function or keyword.
    Word(String),
    /// `|`
    Pipe,
    /// `(`
    Open,
    /// `)` and the fields directly after it.
    Close(Vec<String>),
    /// `,`
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

/// Cuts `text`; `{{- ` and ` -}}` take the white space beside them away.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim_start = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let trimmed = after.strip_prefix('-').filter(|a| a.starts_with(char::is_whitespace));
        let before = if trim_start { before.trim_start() } else { before };
        push_text(&mut pieces, if trimmed.is_some() { before.trim_end() } else { before });
        let (tokens, end, trims) = action(trimmed.unwrap_or(after))?;
        if let Some(tokens) = tokens {
            pieces.push(Piece::Action(tokens));
        }
        (rest, trim_start) = (end, trims);
    }
    push_text(&mut pieces, if trim_start { rest.trim_start() } else { rest });
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.replace("\\t", "\t").replace("\\n", "\n")));
    }
}

/// The words of an action (none for a comment), what follows it, and whether white space after it goes.
fn action(text: &str) -> Result<(Option<Vec<Token>>, &str, bool), String> {
    let mut rest = text.trim_start();
    if let Some(comment) = rest.strip_prefix("/*") {
        let (_, after) = comment.split_once("*/").ok_or("unclosed comment")?;
        let (end, trims) = closing(after).ok_or("a comment must end before \"}}\"")?;
        return Ok((None, end, trims));
    }
    let mut tokens = Vec::new();
    loop {
        if let Some((end, trims)) = closing(rest) {
            if tokens.is_empty() {
                return Err("empty action".to_owned());
            }
            return Ok((Some(tokens), end, trims));
        }
        let trimmed = rest.trim_start();
        if trimmed.is_empty() {
            return Err("unclosed action".to_owned());
        }
        if trimmed.len() != rest.len() {
            rest = trimmed;
            continue;
        }
        let (token, after) = token(rest)?;
        tokens.push(token);
        rest = after;
    }
}

/// What follows when `text` is at the end of an action.
fn closing(text: &str) -> Option<(&str, bool)> {
    let trimmed = text.trim_start();
    let dash = trimmed.strip_prefix("-}}").filter(|_| trimmed.len() < text.len());
    dash.map(|end| (end, true)).or_else(|| trimmed.strip_prefix("}}").map(|end| (end, false)))
}

fn token(text: &str) -> Result<(Token, &str), String> {
    let mut chars = text.chars();
    let first = chars.next().unwrap_or_default();
    let after = chars.as_str();
    let found = match first {
        '|' => (Token::Pipe, after),
        '(' => (Token::Open, after),
        ')' => fields(after).map(|(path, end)| (Token::Close(path), end)).unwrap_or((Token::Close(Vec::new()), after)),
        ',' => (Token::Comma, after),
        '=' => (Token::Assign, after),
        ':' => (Token::Declare, after.strip_prefix('=').ok_or("unexpected \":\"")?),
        '"' | '`' | '\'' => quoted(first, after)?,
        '$' => {
            let (name, end) = name(after);
            let (path, end) = fields(end).unwrap_or((Vec::new(), end));
            (Token::Variable(name.to_owned(), path), end)
        }
        '.' => fields(text).map(|(path, end)| (Token::Field(path), end)).unwrap_or((Token::Field(Vec::new()), after)),
        c if c.is_ascii_digit() || matches!(c, '-' | '+') => number(text)?,
        c if c.is_alphabetic() || c == '_' => {
            let (word, end) = name(text);
            let token = match word {
                "true" => Token::Literal(Value::Bool(true)),
                "false" => Token::Literal(Value::Bool(false)),
                "nil" => Token::Literal(Value::Null),
                _ => Token::Word(word.to_owned()),
            };
            (token, end)
        }
        c => return Err(format!("unexpected {c:?}")),
    };
    Ok(found)
}

fn name(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    text.split_at(end)
}

/// `.A.B` at the beginning of `text`.
fn fields(text: &str) -> Option<(Vec<String>, &str)> {
    let mut path = Vec::new();
    let mut rest = text;
    while let Some(after) = rest.strip_prefix('.') {
        let (field, end) = name(after);
        if field.is_empty() {
            break;
        }
        path.push(field.to_owned());
        rest = end;
    }
    (!path.is_empty()).then_some((path, rest))
}

fn quoted(quote: char, text: &str) -> Result<(Token, &str), String> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        let c = chars.next().ok_or("unterminated string")?;
        match c {
            c if c == quote => break,
            '\\' if quote != '`' => value.push(match chars.next().ok_or("unterminated string")? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            c => value.push(c),
        }
    }
    let mut characters = value.chars();
    let literal = match (quote, characters.next(), characters.next()) {
        ('\'', Some(only), None) => Value::from(u32::from(only)),
        ('\'', ..) => return Err("a character constant has one character".to_owned()),
        _ => Value::String(value),
    };
    Ok((Token::Literal(literal), chars.as_str()))
}

fn number(text: &str) -> Result<(Token, &str), String> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_')));
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    let plain = digits.replace('_', "");
    let hex = plain.strip_prefix("0x").and_then(|hex| i64::from_str_radix(hex, 16).ok());
    let value = match hex.or_else(|| plain.parse().ok()) {
        Some(integer) => Value::from(integer),
        None => Value::from(plain.parse::<f64>().map_err(|_| format!("bad number {digits:?}"))?),
    };
    Ok((Token::Literal(value), rest))
}
