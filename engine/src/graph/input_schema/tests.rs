//! Input schemas, by example.

use super::*;

fn check(schema: Value, input: Value) -> Result<Value, Vec<String>> {
    let schema = InputSchema::parse(&schema).unwrap();
    schema
        .admit(input)
        .map_err(|issues| issues.iter().map(|issue| format!("{} {}", issue.json_path, issue.message)).collect())
}

fn refused(schema: Value) -> String {
    InputSchema::parse(&schema)
        .unwrap_err()
        .iter()
        .map(|issue| format!("{} {}", issue.json_path, issue.message))
        .collect()
}

#[test]
fn defaults_fill_missing_top_level_keys_before_the_check() {
    let schema = json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer", "default": 3 }, "o": { "default": null } } });
    assert_eq!(check(schema.clone(), json!({})).unwrap(), json!({ "n": 3, "o": null }));
    assert_eq!(check(schema.clone(), json!({ "n": 4 })).unwrap(), json!({ "n": 4, "o": null }));
    assert_eq!(check(schema, json!({ "n": "x" })).unwrap_err().len(), 1);
}

#[test]
fn the_short_form_declares_fields() {
    let schema = json!([{ "name": "id", "type": "string" }, { "name": "n", "type": "integer", "optional": true }, { "name": "x", "type": "any", "default": 1 }]);
    assert_eq!(
        check(schema.clone(), json!({ "id": "a", "more": 1 })).unwrap(),
        json!({ "id": "a", "more": 1, "x": 1 })
    );
    assert!(check(schema.clone(), json!({})).unwrap_err()[0].contains("id"));
    assert!(check(schema.clone(), json!({ "id": "a", "n": 1.5 })).unwrap_err()[0].starts_with("$.n "));
    assert!(check(schema, json!([])).is_err());
    assert!(refused(json!([{ "name": "id", "type": "text" }])).contains("$.input_schema[0].type `text` is not a type"));
    assert!(
        refused(json!([{ "name": "id", "type": "string", "optinal": true }])).contains("$.input_schema[0].optinal")
    );
    assert!(refused(json!([{ "type": "string" }])).contains("$.input_schema[0].name"));
    assert!(refused(json!([{ "name": "a", "type": "any" }, { "name": "a", "type": "any" }])).contains("twice"));
}

#[test]
fn what_is_refused_is_named_without_its_value() {
    let errors = check(
        json!({ "properties": { "card": { "properties": { "number": { "maxLength": 3 } } } } }),
        json!({ "card": { "number": "4111" } }),
    );
    let errors = errors.unwrap_err();
    assert!(errors[0].starts_with("$.card.number "), "{errors:?}");
    assert!(!errors[0].contains("4111"), "{errors:?}");
}

#[test]
fn a_schema_whose_check_has_no_bound_is_refused() {
    assert!(refused(json!({ "$ref": "#" })).contains("refers to itself"));
    assert!(refused(json!({ "properties": { "child": { "$ref": "#" } } })).contains("refers to itself"));
    let circle = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/b" }] }, "b": { "not": { "$ref": "#/$defs/a" } } } });
    assert!(refused(circle).contains("refers to itself"));
    let mut definitions = json!({ "d0": { "type": "object" } });
    for level in 1..40 {
        let below = json!({ "$ref": format!("#/$defs/d{}", level - 1) });
        definitions[format!("d{level}")] = json!({ "allOf": [below, below] });
    }
    assert!(refused(json!({ "$ref": "#/$defs/d39", "$defs": definitions })).contains("more than"));
    assert!(refused(json!({ "$ref": "https://example.com/schema" })).contains("nothing is fetched"));
    assert!(refused(json!({ "$ref": "#/$defs/none" })).contains("not there"));
    assert!(refused(json!({ "$dynamicRef": "#x" })).contains("not supported"));
    assert!(refused(json!({ "properties": { "a": { "$id": "x" } } })).contains("not supported"));
}

#[test]
fn a_reference_to_a_definition_works() {
    let schema = json!({ "properties": { "a": { "$ref": "#/$defs/n" }, "b": { "$ref": "#/$defs/n" } }, "$defs": { "n": { "type": "number" } } });
    assert!(check(schema.clone(), json!({ "a": 1, "b": 2 })).is_ok());
    assert!(check(schema, json!({ "a": 1, "b": "2" })).unwrap_err()[0].starts_with("$.b "));
}

#[test]
fn a_pattern_cannot_backtrack_for_ever() {
    let schema = json!({ "properties": { "s": { "pattern": "^(a+)+$" } } });
    assert!(check(schema, json!({ "s": format!("{}b", "a".repeat(50_000)) })).is_err());
    assert!(
        refused(json!({ "properties": { "s": { "pattern": "(((a{100}){100}){100}){100}" } } }))
            .contains("not a JSON Schema")
    );
    let many: Map<String, Value> = (0..65).map(|index| (format!("^x{index}"), json!({}))).collect();
    assert!(refused(json!({ "patternProperties": many })).contains("more than 64 patterns"));
    assert!(refused(json!({ "type": "strin" })).contains("not a JSON Schema"));
}
