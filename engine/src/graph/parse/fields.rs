//! Reads the members of one object: each by its name, with its type, and what is wrong with it reported where it stands.
//!
//! Null is taken as absent, as editors write it; a condition is the exception, because there it would mean false.

use super::Sink;
use crate::graph::{
    condition::Condition,
    issue::{IssueCode, Place, shown},
    limits::{STEPS_MAX, TEMPLATE_PATHS_MAX},
    report::{Role, TemplateFound, TemplateText},
    template::Template,
};
use serde_json::{Map, Value};
use std::{ops::ControlFlow, ops::RangeInclusive, time::Duration};

/// One object of the document.
pub(super) struct Fields<'d, 's> {
    members: &'d Map<String, Value>,
    pub(super) place: Place,
    pub(super) sink: &'s mut Sink,
}

impl<'d, 's> Fields<'d, 's> {
    pub(super) fn new(members: &'d Map<String, Value>, place: Place, sink: &'s mut Sink) -> Self {
        Self { members, place, sink }
    }

    /// Whether the key is there and not null.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn get(&self, key: &str) -> Option<&'d Value> {
        self.members.get(key).filter(|value| !value.is_null())
    }

    /// The value, null included.
    pub(super) fn get_raw(&self, key: &str) -> Option<&'d Value> {
        self.members.get(key)
    }

    /// The names of all members.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'d str> + use<'d> {
        self.members.keys().map(String::as_str)
    }

    pub(super) fn error(&mut self, key: &str, code: IssueCode, message: impl Into<String>) {
        let issue = self.place.key(key).error(code, message);
        self.sink.report.push(issue);
    }

    fn wrong_type(&mut self, key: &str, wanted: &str) {
        let found = self.members.get(key).map_or("nothing", type_name);
        self.error(key, IssueCode::GraphSchemaValidation, format!("`{key}` is {wanted}, not {found}"));
    }

    /// Refuses members of other names.
    pub(super) fn only(&mut self, known: &[&str], of: &str) {
        for key in self.members.keys().filter(|key| !known.contains(&key.as_str())) {
            if self.sink.report.is_full() {
                return;
            }
            let issue =
                self.place.key(key).error(IssueCode::UnknownKey, format!("`{}` is not a key of {of}", shown(key)));
            let owner = super::keys::owner_of(key).map(|kind| format!("it belongs to a `{}` step", kind.name));
            let issue = match owner {
                Some(owner) => issue.suggest(owner),
                None => issue.suggest_nearest(key, known.iter().copied()),
            };
            self.sink.report.push(issue);
        }
    }

    /// Reports what must be there and is not.
    pub(super) fn require(&mut self, key: &str, of: &str) {
        if !self.has(key) {
            self.error(key, IssueCode::GraphSchemaValidation, format!("{of} needs `{key}`"));
        }
    }

    pub(super) fn text(&mut self, key: &str) -> Option<&'d str> {
        let value = self.get(key)?;
        if value.as_str().is_none() {
            self.wrong_type(key, "a text");
        }
        value.as_str()
    }

    /// A text that names something: not empty.
    pub(super) fn name(&mut self, key: &str) -> Option<&'d str> {
        let text = self.text(key)?;
        if text.trim().is_empty() {
            self.error(key, IssueCode::GraphSchemaValidation, format!("`{key}` is empty"));
            return None;
        }
        Some(text)
    }

    /// A name in which templates are checked, and filled in when the step is carried out.
    pub(super) fn template_name(&mut self, key: &str) -> Option<&'d str> {
        let name = self.name(key)?;
        self.template(key);
        Some(name)
    }

    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        if value.as_bool().is_none() {
            self.wrong_type(key, "true or false");
        }
        value.as_bool()
    }

    pub(super) fn list(&mut self, key: &str) -> Option<&'d [Value]> {
        let value = self.get(key)?;
        if value.as_array().is_none() {
            self.wrong_type(key, "a list");
        }
        value.as_array().map(Vec::as_slice)
    }

    pub(super) fn object(&mut self, key: &str) -> Option<&'d Map<String, Value>> {
        let value = self.get(key)?;
        if value.as_object().is_none() {
            self.wrong_type(key, "an object");
        }
        value.as_object()
    }

    /// A list of step ids, each with its place.
    pub(super) fn ids(&mut self, key: &str) -> Option<Vec<(String, Place)>> {
        let count = self.list(key)?.len();
        if count > STEPS_MAX {
            self.error(
                key,
                IssueCode::GraphTooLarge,
                format!("`{key}` names {count} steps; a graph has at most {STEPS_MAX}"),
            );
            return None;
        }
        let ids = self.texts(key)?;
        Some(ids.into_iter().map(|(id, place)| (id.to_owned(), place)).collect())
    }

    /// A list of texts, each with its place.
    pub(super) fn texts(&mut self, key: &str) -> Option<Vec<(&'d str, Place)>> {
        let items = self.list(key)?;
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let place = self.place.key(key).index(index);
            match item.as_str() {
                Some(text) => texts.push((text, place)),
                None => {
                    let message = format!("`{key}` holds texts, not {}", type_name(item));
                    self.sink.report.push(place.error(IssueCode::GraphSchemaValidation, message));
                }
            }
        }
        Some(texts)
    }

    /// A list of objects, each with its place; nothing where it is no list, which is told elsewhere.
    pub(super) fn objects(&mut self, key: &str) -> Vec<(&'d Map<String, Value>, Place)> {
        let mut objects = Vec::new();
        for (index, item) in self.get(key).and_then(Value::as_array).into_iter().flatten().enumerate() {
            let place = self.place.key(key).index(index);
            match item.as_object() {
                Some(object) => objects.push((object, place)),
                None => {
                    let message = format!("`{key}` holds objects, not {}", type_name(item));
                    self.sink.report.push(place.error(IssueCode::GraphSchemaValidation, message));
                }
            }
        }
        objects
    }

    /// A whole number. One written with a point, such as `3.0`, is taken as well: editors differ.
    pub(super) fn whole(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.get(key)?;
        let Some(number) = value.as_f64() else {
            self.wrong_type(key, "a whole number");
            return None;
        };
        let whole = value.as_u64().or_else(|| (number.fract() == 0.0 && number >= 0.0).then_some(number as u64));
        match whole {
            Some(whole) if range.contains(&whole) => Some(whole),
            _ => {
                let message =
                    format!("`{key}` is {value}; it is a whole number from {} to {}", range.start(), range.end());
                self.error(key, IssueCode::ValueOutOfRange, message);
                None
            }
        }
    }

    pub(super) fn number(&mut self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let value = self.get(key)?;
        let Some(number) = value.as_f64() else {
            self.wrong_type(key, "a number");
            return None;
        };
        if !range.contains(&number) {
            let message = format!("`{key}` is {value}; it is from {} to {}", range.start(), range.end());
            self.error(key, IssueCode::ValueOutOfRange, message);
            return None;
        }
        Some(number)
    }

    /// A number of seconds: at least a millisecond, at most `max`.
    pub(super) fn seconds(&mut self, key: &str, max: u64) -> Option<Duration> {
        self.number(key, 0.001..=max as f64).map(Duration::from_secs_f64)
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let word = self.text(key)?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == word) {
            return Some(*choice);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let message = format!("`{key}` is `{}`; it is one of {}", shown(word), names.join(", "));
        let issue = self.place.key(key).error(IssueCode::ValueOutOfRange, message).suggest_nearest(word, names);
        self.sink.report.push(issue);
        None
    }

    pub(super) fn template(&mut self, key: &str) -> Option<Template> {
        self.template_in_role(key, Role::Setting)
    }

    pub(super) fn template_in_role(&mut self, key: &str, role: Role) -> Option<Template> {
        let value = self.get(key)?;
        let place = self.place.key(key);
        let mut errors = Vec::new();
        let template = Template::parse_all(value, &mut errors);
        let issues = errors.into_iter().map(|error| place.syntax_error(IssueCode::TemplateSyntax, error));
        self.sink.report.extend(issues);
        self.found(place, role, TemplateText::Value(template.clone()));
        Some(template)
    }

    pub(super) fn condition(&mut self, key: &str, role: Role) -> Option<Condition> {
        let value = self.get_raw(key)?;
        let place = self.place.key(key);
        match Condition::parse(value) {
            Ok(condition) => {
                self.found(place, role, TemplateText::Condition(condition.clone()));
                Some(condition)
            }
            Err(error) => {
                self.sink.report.push(place.syntax_error(IssueCode::ConditionInvalid, error));
                None
            }
        }
    }

    /// Keeps a template for the check of what it names, unless the graph has too many.
    fn found(&mut self, place: Place, role: Role, text: TemplateText) {
        let left = TEMPLATE_PATHS_MAX - self.sink.paths;
        let mut paths = 0;
        let count = &mut |_, _: &[_]| {
            paths += 1;
            if paths > left { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let counted = match &text {
            TemplateText::Value(template) => template.each_use(count),
            TemplateText::Condition(condition) => condition.template().each_use(count),
        };
        if counted.is_break() {
            let message = format!("the templates of the graph name more than {TEMPLATE_PATHS_MAX} paths");
            self.sink.report.push(place.error(IssueCode::GraphTooLarge, message));
            return;
        }
        self.sink.paths += paths;
        if let (Some(site), true) = (&self.sink.site, paths > 0) {
            self.sink.templates.push(TemplateFound { site: site.clone(), place, role, text });
        }
    }
}

/// What a value is called in a message.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
