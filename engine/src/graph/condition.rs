//! Conditions: what `condition`, `skip_when` and `while_condition` hold.
//!
//! A condition is true or false and never fails: what does not resolve is false.

use super::{
    issue::shown,
    references::ROOTS,
    template::{Lookup, Path, PathUse, Template, TemplateSyntaxError, parse_path},
};
use serde_json::Value;

const NO_OPERATORS: &str = "conditions have no operators: return a boolean from a `lua_script` step and name it, as in `{{ steps.check.result.ok }}`";

/// A boolean, a number, or a template.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition(Template);

impl Default for Condition {
    /// False.
    fn default() -> Self {
        Self(Template::constant(false.into()))
    }
}

impl Condition {
    /// Reads a condition. A path alone, such as `steps.check.result.ok`, is taken as the template that it means.
    pub fn parse(value: &Value) -> Result<Self, TemplateSyntaxError> {
        match value {
            Value::Bool(_) | Value::Number(_) => Ok(Self(Template::constant(value.clone()))),
            Value::String(text) => Self::parse_text(text.trim()),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                Err(TemplateSyntaxError::new("a condition is true, false, a number or a template")
                    .suggest("write a template such as `{{ steps.check.result.ok }}`"))
            }
        }
    }

    fn parse_text(text: &str) -> Result<Self, TemplateSyntaxError> {
        if text.contains("{{") {
            let template = Template::parse(&text.into())?;
            if template.is_single_path() {
                return Ok(Self(template));
            }
            if template.as_constant().is_none() {
                return Err(TemplateSyntaxError::new(format!(
                    "`{text}` would always be true: it is text around a template"
                ))
                .suggest(NO_OPERATORS));
            }
        }
        match text {
            "true" | "false" => Ok(Self(Template::constant((text == "true").into()))),
            _ => Self::parse_bare_path(text),
        }
    }

    fn parse_bare_path(text: &str) -> Result<Self, TemplateSyntaxError> {
        if let Ok(path) = parse_path(text)
            && ROOTS.contains(&path.root())
        {
            return Template::parse(&format!("{{{{ {text} }}}}").into()).map(Self);
        }
        let operators = ["==", "!=", "<", ">", " and ", " or ", "not ", "&&", "||"];
        let suggestion = if operators.iter().any(|operator| text.contains(operator)) {
            NO_OPERATORS
        } else {
            "write a template such as `{{ steps.check.result.ok }}`, or true or false"
        };
        Err(TemplateSyntaxError::new(format!("`{}` would always be the same: it names no value", shown(text)))
            .suggest(suggestion))
    }

    /// Whether it is true. False is: `false`, null, 0, an empty text, `"false"`, an empty list or object, and whatever does
    /// not resolve.
    pub fn holds(&self, lookup: &dyn Lookup) -> bool {
        self.0.peek(lookup).is_some_and(|value| is_truthy(&value))
    }

    /// Whether it reads anything of that step.
    pub fn reads_step(&self, id: &str) -> bool {
        self.paths().iter().any(|path| path.root() == "steps" && path.segment(1) == Some(id))
    }

    /// Every path it names.
    pub fn paths(&self) -> Vec<&Path> {
        self.0.paths()
    }

    /// The template that it is.
    pub(crate) fn template(&self) -> &Template {
        &self.0
    }

    /// Every path it names, with its place.
    pub fn uses(&self) -> Vec<PathUse<'_>> {
        self.0.uses()
    }
}

/// What a condition makes of a value: false, null, 0, an empty text, `"false"`, an empty list or object are false.
pub fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty() && text != "false",
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::template::walk;
    use serde_json::json;
    use std::borrow::Cow;

    struct Values(Value);

    impl Lookup for Values {
        fn lookup(&self, path: &Path) -> Option<Cow<'_, Value>> {
            walk(&self.0, &path.segments).map(Cow::Borrowed)
        }
    }

    fn holds(condition: Value, value: Value) -> bool {
        Condition::parse(&condition).unwrap().holds(&Values(json!({ "input": { "x": value } })))
    }

    #[test]
    fn what_is_false() {
        for value in [
            json!(false),
            json!(null),
            json!(0),
            json!(0.0),
            json!(-0.0),
            json!(""),
            json!("false"),
            json!([]),
            json!({}),
        ] {
            assert!(!holds(json!("{{ input.x }}"), value.clone()), "{value}");
        }
        for value in [json!(true), json!(1), json!(-1), json!("0"), json!("true"), json!([0]), json!({ "a": null })] {
            assert!(holds(json!("{{ input.x }}"), value.clone()), "{value}");
        }
        assert!(!holds(json!("{{ input.y }}"), json!(1)));
        assert!(!holds(json!("{{ input.y | omit }}"), json!(1)));
    }

    #[test]
    fn a_bare_path_is_the_template_it_means() {
        assert!(holds(json!(" input.x.ok "), json!({ "ok": 1 })));
        assert!(!holds(json!("input.x.ok"), json!({ "ok": 0 })));
        assert!(holds(json!(true), json!(0)) && holds(json!("true"), json!(0)) && !holds(json!(0), json!(1)));
        assert!(Condition::parse(&json!("steps.my-step.result.ok")).unwrap().reads_step("my-step"));
        assert!(!Condition::parse(&json!("steps.my-step.result.ok")).unwrap().reads_step("my"));
    }

    #[test]
    fn what_names_no_value_is_refused_with_advice() {
        for text in [
            "{{ input.x }} > 20",
            "not {{ input.x }}",
            "yes",
            "",
            "input.x == 1",
            "a.b",
            "not input.x",
            "\\{{ input.x }}",
            "{{ input.x > 1 }}",
        ] {
            let error = Condition::parse(&json!(text)).unwrap_err();
            assert!(error.suggestion.is_some(), "{text}: {error}");
        }
        assert!(Condition::parse(&json!("input.x == 1")).unwrap_err().suggestion.unwrap().contains("lua_script"));
        assert!(Condition::parse(&json!(["{{ input.x }}"])).is_err());
    }
}
