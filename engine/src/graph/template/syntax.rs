//! The text of a template: literal text, `{{ a | b | default }}`, and `\{{` for the braces themselves.

use super::{super::issue::shown, Key, Path};
use serde_json::Value;
use std::sync::Arc;

/// The longest path: no document nests deeper.
const PATH_SEGMENTS_MAX: usize = 128;

/// A string cannot be read as a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateSyntaxError {
    /// What is wrong.
    pub message: String,
    /// What to write instead, where that can be told.
    pub suggestion: Option<String>,
    /// Where the string stands inside the value.
    pub at: Vec<Key>,
}

impl TemplateSyntaxError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), suggestion: None, at: Vec::new() }
    }

    pub(crate) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    pub(super) fn inside(mut self, at: &[Key]) -> Self {
        self.at = at.to_vec();
        self
    }
}

/// A piece of a string.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Literal(String),
    Expression(Expression),
}

/// What stands between the braces: paths to try in turn, then a fallback.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expression {
    pub(super) paths: Vec<Path>,
    pub(super) fallback: Option<Fallback>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fallback {
    Default(Value),
    Omit,
}

impl Expression {
    pub(super) fn has_alternative(&self) -> bool {
        self.fallback.is_some() || self.paths.len() > 1
    }

    pub(super) fn default_value(&self) -> Option<&Value> {
        match &self.fallback {
            Some(Fallback::Default(value)) => Some(value),
            Some(Fallback::Omit) | None => None,
        }
    }
}

/// Splits a string into literal text and expressions.
pub(super) fn parse_text(text: &str) -> Result<Vec<Part>, TemplateSyntaxError> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        if let Some(before) = rest[..open].strip_suffix('\\') {
            literal.push_str(before);
            literal.push_str("{{");
            rest = &rest[open + 2..];
            continue;
        }
        literal.push_str(&rest[..open]);
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        let (expression, after) = parse_expression(&rest[open + 2..])?;
        parts.push(Part::Expression(expression));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// Reads up to and including `}}`; gives what follows.
fn parse_expression(text: &str) -> Result<(Expression, &str), TemplateSyntaxError> {
    let mut expression = Expression { paths: Vec::new(), fallback: None };
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        rest = parse_alternative(rest, &mut expression)?.trim_start();
        if let Some(after) = rest.strip_prefix("}}") {
            return Ok((expression, after));
        }
        let Some(after) = rest.strip_prefix('|') else { return Err(not_a_separator(rest)) };
        if expression.fallback.is_some() {
            let error = TemplateSyntaxError::new("a default or `omit` is always taken, so nothing can follow it");
            return Err(error.suggest("put the default last: `{{ a | b | \"default\" }}`"));
        }
        rest = after;
    }
}

fn parse_alternative<'t>(text: &'t str, expression: &mut Expression) -> Result<&'t str, TemplateSyntaxError> {
    let word_end =
        text.find(|c: char| c.is_whitespace() || matches!(c, '|' | '{' | '}' | '"' | '[' | ']')).unwrap_or(text.len());
    let word = &text[..word_end];
    match word {
        "omit" => {
            expression.fallback = Some(Fallback::Omit);
            return Ok(&text[word_end..]);
        }
        "true" | "false" | "null" => {}
        _ if word.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
            refuse_after_path(word, &text[word_end..])?;
            expression.paths.push(parse_path(word)?);
            return Ok(&text[word_end..]);
        }
        _ => {}
    }
    let (value, after) = parse_literal(text)?;
    expression.fallback = Some(Fallback::Default(value));
    Ok(after)
}

/// Tells apart the two mistakes that are made most: an index in brackets, and a template that does not end.
fn refuse_after_path(word: &str, rest: &str) -> Result<(), TemplateSyntaxError> {
    let Some(inside) = rest.strip_prefix('[') else { return Ok(()) };
    let index = inside.split(']').next().unwrap_or_default().trim_matches(['"', '\'']);
    let (word, index) = (shown(word), shown(index));
    let error = TemplateSyntaxError::new(format!("`{word}[` is not a path: there are no brackets"));
    Err(error.suggest(format!("write `{word}.{index}`")))
}

pub(crate) fn parse_path(word: &str) -> Result<Path, TemplateSyntaxError> {
    let segments: Vec<Arc<str>> = word.split('.').map(Arc::from).collect();
    if segments.iter().any(|segment| segment.is_empty()) {
        let tidy: Vec<&str> = word.split('.').filter(|segment| !segment.is_empty()).collect();
        let error =
            TemplateSyntaxError::new(format!("`{}` is not a path: a name between two dots is missing", shown(word)));
        return Err(error.suggest(format!("write `{}`", shown(&tidy.join(".")))));
    }
    if segments.len() > PATH_SEGMENTS_MAX {
        return Err(TemplateSyntaxError::new(format!("the path has more than {PATH_SEGMENTS_MAX} segments")));
    }
    let odd = word.chars().find(|c| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.' | '$' | '@' | ':' | '/'));
    if let Some(odd) = odd {
        let error = TemplateSyntaxError::new(format!("`{}` is not a path: `{odd}` cannot stand in one", shown(word)));
        return Err(error.suggest("a template names a value and nothing more; compute in a `lua_script` step"));
    }
    Ok(Path { segments })
}

fn parse_literal(text: &str) -> Result<(Value, &str), TemplateSyntaxError> {
    if text.is_empty() {
        return Err(unclosed());
    }
    if text.starts_with("}}") || text.starts_with('|') {
        let error = TemplateSyntaxError::new("a path is missing between the braces");
        return Err(error.suggest("write a path such as `{{ input.name }}`, or `\\{{` for the braces themselves"));
    }
    // A number would be read up to the first brace even as `1}}`; the stream stops where the value ends.
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match stream.next() {
        Some(Ok(value)) => Ok((value, &text[stream.byte_offset()..])),
        _ if text.starts_with('\'') => {
            Err(TemplateSyntaxError::new("a text default stands in double quotes").suggest("write `\"…\"`"))
        }
        _ => {
            let shown: String = text.chars().take(24).collect();
            let error = TemplateSyntaxError::new(format!("`{shown}` is neither a path nor a JSON value"));
            Err(error.suggest(
                "a path starts with a name such as `input` or `steps`; a default is JSON, such as `\"none\"` or `0`",
            ))
        }
    }
}

fn not_a_separator(rest: &str) -> TemplateSyntaxError {
    if rest.is_empty() {
        return unclosed();
    }
    let shown: String = rest.chars().take(24).collect();
    TemplateSyntaxError::new(format!("`{shown}` cannot follow a path: only `|` and an alternative, or `}}}}`, can"))
        .suggest("a template names a value and nothing more; compute in a `lua_script` step")
}

fn unclosed() -> TemplateSyntaxError {
    TemplateSyntaxError::new("`{{` is never closed")
        .suggest("close it with `}}`, or write `\\{{` for the braces themselves")
}
