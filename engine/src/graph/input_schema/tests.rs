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

/// A schema of so many alternatives for each item, and a payload of so many items that fit none.
fn alternatives(schemas: usize, items: usize) -> (Value, Value) {
    let alternatives: Vec<Value> = (0..schemas).map(|index| json!({ "const": index })).collect();
    (json!({ "items": { "anyOf": alternatives } }), vec![json!("x"); items].into())
}

#[test]
fn what_schema_and_payload_amount_to_is_bounded() {
    let (schema, payload) = alternatives(4_000, 20_000);
    let refused = check(schema.clone(), payload).unwrap_err();
    assert_eq!(refused, ["$ to check it by `input_schema` takes more than 50000000 steps"]);
    let (_, payload) = alternatives(0, 3_000);
    assert_eq!(
        check(schema, payload).unwrap_err(),
        ["$ it does not fit, and the schema has too many alternatives to say where in so much data"]
    );
    let (schema, payload) = alternatives(3, 3);
    assert_eq!(check(schema, payload).unwrap_err().len(), 3);
}

#[test]
fn one_failure_in_much_data_is_named_where_there_are_no_alternatives() {
    let mut payload = vec![json!({ "n": 1 }); 50_000];
    payload[40_000] = json!({ "n": "one" });
    payload[40_001] = json!({ "n": "two" });
    let schema = json!({ "items": { "properties": { "n": { "type": "integer" } } } });
    let refused = check(schema, payload.into()).unwrap_err();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].starts_with("$[40000].n "), "{refused:?}");
}

#[test]
fn a_check_has_a_number_of_steps() {
    let steps = |schema: Value, payload: Value| Cost::of(&schema, &pattern_steps).steps(&payload, u64::MAX).unwrap();
    let flat = |all| Steps { all, in_alternatives: 0 };
    assert_eq!(steps(json!({}), json!([1, 2, 3])), flat(1));
    assert_eq!(steps(json!({ "type": "array", "items": { "type": "number" } }), json!([1, 2, 3])), flat(4 + 3 * 3));
    let alternatives = json!({ "anyOf": [{ "type": "null" }, { "enum": [1, 2, 3] }] });
    assert_eq!(steps(alternatives, json!(1)), Steps { all: 2 + 3 + 6, in_alternatives: 3 + 6 });
    let referring = json!({ "properties": { "a": { "$ref": "#/$defs/d" } }, "$defs": { "d": { "items": {} } } });
    assert_eq!(steps(referring, json!({ "a": [1, 2], "b": [1, 2] })), flat(3 + 2 + 2 + 2 + 2));
    // What cannot be seen from the schema's size: texts that are matched, items that are compared, names that are tried.
    let text = "x".repeat(1_000);
    let pattern = steps(json!({ "pattern": "(a|b|ab)*c" }), json!(text)).all;
    assert!(pattern > 1_000, "{pattern}");
    let large = steps(json!({ "pattern": "^([a-z]{1,100}){20}$" }), json!(text)).all;
    assert!(large > 10 * pattern, "{large}");
    let names = steps(json!({ "patternProperties": { "(a|b|ab)*c": {} } }), json!({ text: 1 })).all;
    assert!(names > pattern, "{names}");
    assert!(steps(json!({ "uniqueItems": true }), json!([1, 2, 3])).all > 16);
    assert!(steps(json!({ "format": "regex" }), json!("a")).all > 1_000_000);
    let unevaluated = json!({ "unevaluatedProperties": false, "properties": { "a": { "type": "null" } } });
    assert!(steps(unevaluated, json!({ "a": 1 })).all > 64 * 3);
}

#[test]
fn a_check_that_would_take_an_asynchronous_thread_is_not_light() {
    let light = |schemas, items| {
        let (schema, payload) = alternatives(schemas, items);
        InputSchema::parse(&schema).unwrap().is_light_for(&payload)
    };
    assert!(light(10, 100) && light(4_000, 1));
    assert!(!light(4_000, 100) && !light(10, 10_000));
}

#[test]
fn references_and_unevaluated_members_cannot_multiply_or_nest_without_end() {
    let chain = |levels: usize| {
        let mut definitions = json!({ "d0": { "type": "object" } });
        for level in 1..levels {
            definitions[format!("d{level}")] = json!({ "not": { "$ref": format!("#/$defs/d{}", level - 1) } });
        }
        json!({ "$ref": format!("#/$defs/d{}", levels - 1), "$defs": definitions })
    };
    check(chain(60), json!({})).unwrap_or_default();
    assert!(refused(chain(70)).contains("nests deeper than 128 levels"));
    // Read from the shallow end, too, where each reference is known already when it is met.
    let mut backwards = chain(70);
    let definitions = backwards["$defs"].take();
    backwards["allOf"] = (0..70).map(|level| json!({ "$ref": format!("#/$defs/d{level}") })).collect();
    backwards["$defs"] = definitions;
    assert!(refused(backwards).contains("nests deeper than 128 levels"));

    let unevaluated = |inside: Value| json!({ "allOf": [inside], "unevaluatedProperties": false });
    let once = unevaluated(json!({ "properties": { "a": { "type": "number" } } }));
    assert!(check(once.clone(), json!({ "a": 1 })).is_ok());
    assert!(check(once.clone(), json!({ "b": 1 })).is_err());
    assert!(refused(unevaluated(once)).contains("more than 5000 subschemas"));
}
