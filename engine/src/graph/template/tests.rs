//! Templates, by example.

use super::*;
use agentruntime_host_api::ErrorCode;
use serde_json::json;

/// Values by their first segment.
struct Values(Value);

impl Lookup for Values {
    fn lookup(&self, path: &Path) -> Option<Cow<'_, Value>> {
        walk(&self.0, &path.segments).map(Cow::Borrowed)
    }

    fn nearest(&self, path: &Path) -> Option<String> {
        nearest_path(path.root(), self.0.get(path.root())?, &path.segments[1..])
    }
}

fn resolve(template: &Value) -> Result<Value, agentruntime_host_api::StepError> {
    let values = json!({
        "input": { "name": "Ada", "empty": "", "nothing": null, "n": 3, "list": [ { "t": "a" }, { "t": "b" } ], "a b": 1 },
        "steps": { "my-step": { "result": { "total": 1.5, "ok": true, "tags": ["x", 1] } } },
    });
    Template::parse(template).unwrap().resolve(&Values(values))
}

fn check(template: Value, expected: Value) {
    assert_eq!(resolve(&template).unwrap(), expected, "{template}");
}

#[test]
fn a_single_template_takes_the_type_of_its_value() {
    check(json!("{{ input.n }}"), json!(3));
    check(json!("{{steps.my-step.result}}"), json!({ "total": 1.5, "ok": true, "tags": ["x", 1] }));
    check(json!("{{ input.list.1.t }}"), json!("b"));
    check(json!("{{ input.nothing }}"), json!(null));
    check(json!({ "deep": [["{{ input.n }}"]] }), json!({ "deep": [[3]] }));
}

#[test]
fn inside_other_text_a_value_is_written_as_text() {
    check(json!("Dear {{ input.name }}, {{input.n}}!"), json!("Dear Ada, 3!"));
    check(json!("{{ steps.my-step.result.tags }} "), json!("[\"x\",1] "));
    check(json!("{{ input.nothing }}/{{ steps.my-step.result.ok }}"), json!("null/true"));
    check(json!("{ input.n } }}"), json!("{ input.n } }}"));
}

#[test]
fn the_first_alternative_that_is_set_is_taken() {
    check(json!("{{ input.missing | input.nothing | input.empty | input.n }}"), json!(3));
    check(json!("{{ input.missing | {\"a\": \"}}|\"} }}"), json!({ "a": "}}|" }));
    check(json!("{{ input.missing | \"x | y\" }}"), json!("x | y"));
    check(json!("{{ input.missing | -1.5e3}}"), json!(-1500.0));
    check(json!("{{ input.missing | [] }}"), json!([]));
    check(json!("{{ input.missing | null }}"), json!(null));
    check(json!("{{ input.missing | input.empty }}"), json!(""));
    check(json!("{{ input.n | 5 }}"), json!(3));
}

#[test]
fn omit_takes_its_key_or_element_with_it() {
    check(json!({ "a": "{{ input.missing | omit }}", "b": 1 }), json!({ "b": 1 }));
    check(json!({ "a": "pre {{ input.missing | omit }}", "b": "{{ input.n | omit }}" }), json!({ "b": 3 }));
    check(json!(["{{ input.missing | omit }}", 2]), json!([2]));
    check(json!("{{ input.missing | omit }}"), json!(null));
}

#[test]
fn an_escape_writes_the_braces() {
    check(json!("\\{{ input.n }}"), json!("{{ input.n }}"));
    check(json!("a \\{{b}} {{ input.n }}"), json!("a {{b}} 3"));
}

#[test]
fn what_does_not_resolve_is_named_with_what_is_nearest() {
    let error = resolve(&json!("{{ steps.my-step.result.totl }}")).unwrap_err();
    assert_eq!(error.code, ErrorCode::TemplateUnresolved);
    assert!(error.message.contains("`{{ steps.my-step.result.totl }}`"), "{error}");
    assert!(error.message.contains("`steps.my-step.result.total`"), "{error}");
    let error = resolve(&json!("{{ input.list.2.t }}")).unwrap_err();
    assert!(error.message.contains("`input.list`"), "{error}");
    assert_eq!(resolve(&json!("{{ input.list.01 }}")).unwrap_err().code, ErrorCode::TemplateUnresolved);
}

#[test]
fn what_is_no_template_is_told_with_its_place() {
    for (text, says) in [
        ("{{ input.x", "never closed"),
        ("{{", "never closed"),
        ("{{ input.x | ", "never closed"),
        ("{{ }}", "missing"),
        ("{{ input.x | }}", "missing"),
        ("{{ input..x }}", "between two dots"),
        ("{{ input.x. }}", "between two dots"),
        ("{{ input[0] }}", "brackets"),
        ("{{ input.x == 1 }}", "cannot follow"),
        ("{{ input.x + 1 }}", "cannot follow"),
        ("{{ 'text' }}", "double quotes"),
        ("{{ len(input.x) }}", "cannot stand"),
        ("{{ input.x | 1 | input.y }}", "nothing can follow"),
        ("{{ input.x | omit | 1 }}", "nothing can follow"),
        ("{{ %x }}", "neither a path nor"),
        ("{{ {{ input.x }} }}", "neither a path nor"),
    ] {
        let error = Template::parse(&json!({ "a": ["", text] })).unwrap_err();
        assert!(error.message.contains(says), "{text}: {error}");
        assert_eq!(error.at, [Key::Name("a".into()), Key::Index(1)]);
    }
}

#[test]
fn a_small_template_cannot_make_a_huge_value() {
    let values = Values(json!({ "input": "x".repeat(1 << 20) }));
    let fits = Template::parse(&json!(vec!["{{ input }}"; 7])).unwrap();
    assert!(fits.resolve(&values).is_ok());
    for too_much in [json!(vec!["{{ input }}"; 9]), json!("{{ input }} ".repeat(9))] {
        let error = Template::parse(&too_much).unwrap().resolve(&values).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidInput);
    }
}

#[test]
fn a_resolved_value_nests_no_deeper_than_a_step_can_read() {
    let deep = (0..99).fold(json!(0), |inner, _| json!([inner]));
    let values = Values(json!({ "input": deep }));
    assert!(Template::parse(&json!(["{{ input }}"])).unwrap().resolve(&values).is_ok());
    let error = Template::parse(&json!([["{{ input }}"]])).unwrap().resolve(&values).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidInput);
}

#[test]
fn paths_are_listed_with_their_places() {
    let template =
        Template::parse(&json!({ "a": ["{{ input.x | steps.s.result }}"], "b": "{{ run.run_id }}" })).unwrap();
    let uses: Vec<String> = template
        .uses()
        .iter()
        .map(|found| format!("{} {:?} {}", found.path, found.at, found.has_alternative))
        .collect();
    assert_eq!(
        uses,
        [
            "input.x [Name(\"a\"), Index(0)] true",
            "steps.s.result [Name(\"a\"), Index(0)] true",
            "run.run_id [Name(\"b\")] false"
        ]
    );
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z{}|\\\\ .]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,4}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The text that reads back as it is: each pair of braces is escaped.
    fn escaped(value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(text.replace("{{", "\\{{")),
            Value::Array(items) => items.iter().map(escaped).collect(),
            Value::Object(members) => {
                Value::Object(members.iter().map(|(name, value)| (name.clone(), escaped(value))).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_read_or_refused(text in "(\\{\\{|\\}\\}|\\||[a-z.]|\\\\| |\"|[0-9]|omit|\\[|é){0,24}") {
            if let Ok(template) = Template::parse(&json!(text)) {
                let _ = template.resolve(&Values(json!({})));
            }
        }

        #[test]
        fn escaped_values_come_out_as_they_were(value in any_json()) {
            let template = Template::parse(&escaped(&value)).unwrap();
            prop_assert_eq!(template.resolve(&Values(json!({}))).unwrap(), value);
        }

        #[test]
        fn a_looked_up_value_comes_out_as_it_is(value in any_json(), spaces in " {0,3}") {
            let template = Template::parse(&json!({ "k": format!("{{{{{spaces}input.v{spaces}}}}}") })).unwrap();
            let values = Values(json!({ "input": { "v": value } }));
            prop_assert_eq!(template.resolve(&values).unwrap(), json!({ "k": value }));
        }

        #[test]
        fn a_default_of_any_form_comes_out_as_it_is(value in any_json()) {
            let template = Template::parse(&json!(format!("{{{{ input.missing | {value} }}}}"))).unwrap();
            prop_assert_eq!(template.resolve(&Values(json!({}))).unwrap(), value);
        }
    }
}
