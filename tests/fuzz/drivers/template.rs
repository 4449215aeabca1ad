//! Any text as a template: reading and filling it in never panic.

use agentruntime_engine::graph::{Condition, Lookup, Path, Template, walk};
use serde_json::{Value, json};
use std::borrow::Cow;

struct Values(Value);

impl Lookup for Values {
    fn lookup(&self, path: &Path) -> Option<Cow<'_, Value>> {
        walk(&self.0, &path.segments).map(Cow::Borrowed)
    }
}

/// Reads bytes as the text of a template and of a condition, and fills both in.
pub(crate) fn drive(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let values = Values(json!({
        "input": { "a": [{ "b": "c" }], "n": 1.5, "empty": "", "nothing": null },
        "steps": { "s": { "result": { "x": { "y": [1, 2, 3] } } } },
    }));
    let value = json!({ "list": [*text], "text": *text });
    if let Ok(template) = Template::parse(&value) {
        for path in template.paths() {
            assert!(
                !path.segments.is_empty() && text.contains(&path.to_string()),
                "a path that is not in the text: {path}"
            );
        }
        if let Ok(resolved) = template.resolve(&values) {
            assert!(resolved.is_object(), "a value of another form");
        }
        if !text.contains("{{") {
            assert_eq!(template.as_constant(), Some(&value), "text without templates comes out as it is");
        }
    }
    if let Ok(condition) = Condition::parse(&json!(*text)) {
        let _ = condition.holds(&values);
    }
}
