//! From words to a tree.

use serde_json::Value;

use super::lex::{Piece, Token};

/// A step of a template.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    Output(Pipeline),
    If { condition: Pipeline, then: Vec<Self>, otherwise: Vec<Self> },
    Range { over: Pipeline, body: Vec<Self>, otherwise: Vec<Self> },
    With { subject: Pipeline, body: Vec<Self>, otherwise: Vec<Self> },
}

/// `$a := command | command`.
#[derive(Debug, Clone, Default)]
pub(super) struct Pipeline {
    /// The variables it sets.
    pub(super) variables: Vec<String>,
    /// They exist already.
    pub(super) assigns: bool,
    /// Each is an operand, or a function and its arguments; the result of one is the last argument of the next.
    pub(super) commands: Vec<Vec<Operand>>,
}

#[derive(Debug, Clone)]
pub(super) enum Operand {
    /// Fields of the dot; empty for the dot itself.
    Field(Vec<String>),
    /// A variable, empty for the template's data, and its fields.
    Variable(String, Vec<String>),
    Literal(Value),
    Function(String),
    Parenthesis(Pipeline, Vec<String>),
}

/// How a block ended.
enum Stop {
    Text,
    End,
    Else(Vec<Token>),
}

pub(super) fn nodes(pieces: Vec<Piece>) -> Result<Vec<Node>, String> {
    match block(&mut pieces.into_iter())? {
        (nodes, Stop::Text) => Ok(nodes),
        (_, Stop::End) => Err("an {{end}} that ends nothing".to_owned()),
        (_, Stop::Else(_)) => Err("an {{else}} that belongs to nothing".to_owned()),
    }
}

fn block(pieces: &mut std::vec::IntoIter<Piece>) -> Result<(Vec<Node>, Stop), String> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let tokens = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        let (word, rest) = match tokens.split_first() {
            Some((Token::Word(word), rest)) => (word.as_str(), rest),
            _ => ("", tokens.as_slice()),
        };
        match word {
            "end" if rest.is_empty() => return Ok((nodes, Stop::End)),
            "else" => return Ok((nodes, Stop::Else(rest.to_vec()))),
            "if" | "range" | "with" => nodes.push(control(word, rest, pieces)?),
            "define" | "template" | "block" => return Err(format!("{{{{{word}}}}} is not supported")),
            _ => nodes.push(Node::Output(pipeline(&tokens)?)),
        }
    }
    Ok((nodes, Stop::Text))
}

/// `if`, `range` or `with`, from the words after it to its `{{end}}`.
fn control(word: &str, head: &[Token], pieces: &mut std::vec::IntoIter<Piece>) -> Result<Node, String> {
    let pipe = pipeline(head)?;
    let unclosed = || format!("{{{{{word}}}}} has no {{{{end}}}}");
    let (body, end) = block(pieces)?;
    let otherwise = match end {
        Stop::Text => return Err(unclosed()),
        Stop::End => Vec::new(),
        Stop::Else(rest) => match rest.split_first() {
            None => match block(pieces)? {
                (nodes, Stop::End) => nodes,
                (_, Stop::Text) => return Err(unclosed()),
                (_, Stop::Else(_)) => return Err(format!("a second {{{{else}}}} in {{{{{word}}}}}")),
            },
            Some((Token::Word(again), rest)) if again == word && word != "range" => {
                vec![control(word, rest, pieces)?]
            }
            Some(_) => return Err("unexpected words after {{else}}".to_owned()),
        },
    };
    Ok(match word {
        "if" => Node::If { condition: pipe, then: body, otherwise },
        "range" => Node::Range { over: pipe, body, otherwise },
        _ => Node::With { subject: pipe, body, otherwise },
    })
}

fn pipeline(tokens: &[Token]) -> Result<Pipeline, String> {
    let mut parser = Parser { tokens };
    let found = parser.pipeline()?;
    match parser.tokens {
        [] => Ok(found),
        _ => Err("a closing parenthesis that closes nothing".to_owned()),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
}

impl Parser<'_> {
    fn next(&mut self) -> Option<Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first.clone())
    }

    /// `$a :=`, `$a, $b :=` or `$a =`, if the words begin so.
    fn variables(&mut self) -> (Vec<String>, bool) {
        let (variables, assigns, rest) = match self.tokens {
            [Token::Variable(a, _), Token::Comma, Token::Variable(b, _), Token::Declare, rest @ ..] => {
                (vec![a.clone(), b.clone()], false, rest)
            }
            [Token::Variable(a, _), Token::Declare, rest @ ..] => (vec![a.clone()], false, rest),
            [Token::Variable(a, _), Token::Assign, rest @ ..] => (vec![a.clone()], true, rest),
            all => (Vec::new(), false, all),
        };
        self.tokens = rest;
        (variables, assigns)
    }

    /// Commands up to the end or an unmatched `)`.
    fn pipeline(&mut self) -> Result<Pipeline, String> {
        let (variables, assigns) = self.variables();
        let mut commands = vec![Vec::new()];
        while !matches!(self.tokens.first(), None | Some(Token::Close(_))) {
            let Some(token) = self.next() else { break };
            let operand = match token {
                Token::Pipe => {
                    commands.push(Vec::new());
                    continue;
                }
                Token::Field(path) => Operand::Field(path),
                Token::Variable(name, path) => Operand::Variable(name, path),
                Token::Literal(value) => Operand::Literal(value),
                Token::Word(word) => Operand::Function(word),
                Token::Open => {
                    let inner = self.pipeline()?;
                    match self.next() {
                        Some(Token::Close(path)) => Operand::Parenthesis(inner, path),
                        _ => return Err("unclosed parenthesis".to_owned()),
                    }
                }
                other => return Err(format!("unexpected {other:?}")),
            };
            if let Some(command) = commands.last_mut() {
                command.push(operand);
            }
        }
        if commands.iter().any(Vec::is_empty) {
            return Err("empty command".to_owned());
        }
        Ok(Pipeline { variables, assigns, commands })
    }
}
