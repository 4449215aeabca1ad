//! The API for people: one page made of its description. Without scripts and without anything from elsewhere, so that it
//! needs no trust and reads the same in ten years.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt::Write;

const STYLE: &str = include_str!("reference.css");
const METHODS: [&str; 7] = ["get", "post", "put", "patch", "delete", "head", "options"];

/// What the page may load: its own style, and nothing else.
pub(super) fn policy() -> String {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// An operation of the document.
struct Operation<'a> {
    method: &'static str,
    path: &'a str,
    parts: &'a Value,
}

impl Operation<'_> {
    fn id(&self) -> &str {
        self.parts["operationId"].as_str().unwrap_or_default()
    }

    fn badge(&self) -> String {
        format!(r#"<span class="method {}">{}</span>"#, self.method, self.method.to_uppercase())
    }
}

/// The page.
pub(super) fn page(document: &Value) -> String {
    let tags = by_tag(document);
    let title = escaped(document["info"]["title"].as_str().unwrap_or_default());
    let mut nav = String::new();
    let mut main = format!("<h1>{title} API</h1>{}", prose(&document["info"]["description"]));
    main.push_str(r#"<p>For programs: <a href="/v1/openapi.json">OpenAPI 3.1</a>.</p>"#);
    for (tag, about, operations) in &tags {
        let tag = escaped(tag);
        put(&mut nav, format_args!(r##"<h2><a href="#tag-{tag}">{tag}</a></h2><ul>"##));
        put(&mut main, format_args!(r#"<section id="tag-{tag}"><h2>{tag}</h2>{}"#, prose(about)));
        for operation in operations {
            let (id, badge, path) = (escaped(operation.id()), operation.badge(), escaped(&short(operation.path)));
            put(&mut nav, format_args!(r##"<li>{badge}<a href="#{id}">{path}</a></li>"##));
            main.push_str(&article(operation));
        }
        nav.push_str("</ul>");
        main.push_str("</section>");
    }
    nav.push_str(r##"<h2><a href="#refusals">Refusals</a></h2>"##);
    main.push_str(&refusals(&document["components"]["schemas"]["Problem"]["x-error-codes"]));
    nav.push_str(r##"<h2><a href="#schemas">Schemas</a></h2>"##);
    main.push_str(&schemas(&document["components"]["schemas"]));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title} API</title>\
         <style>{STYLE}</style></head><body><nav aria-label=\"Operations\">{nav}</nav><main>{main}</main></body></html>\n"
    )
}

/// A path for the narrow column: what all begin with is left out, and what varies is not named.
fn short(path: &str) -> String {
    let parts = path.trim_start_matches("/v1").split('/');
    parts.map(|part| if part.starts_with('{') { "…" } else { part }).collect::<Vec<_>>().join("/")
}

type Tag<'a> = (&'a str, Value, Vec<Operation<'a>>);

/// The operations under their tags, in the order of the document; tags without any are left out.
fn by_tag(document: &Value) -> Vec<Tag<'_>> {
    let declared = document["tags"].as_array().into_iter().flatten();
    let mut tags: Vec<Tag<'_>> =
        declared.filter_map(|tag| Some((tag["name"].as_str()?, tag["description"].clone(), Vec::new()))).collect();
    for (path, item) in members(&document["paths"]) {
        for method in METHODS {
            let Some(parts) = item.get(method) else { continue };
            let tag = parts["tags"][0].as_str().unwrap_or("other");
            let place = tags.iter().position(|(name, ..)| *name == tag).unwrap_or_else(|| {
                tags.push((tag, Value::Null, Vec::new()));
                tags.len() - 1
            });
            tags[place].2.push(Operation { method, path, parts });
        }
    }
    tags.retain(|(.., operations)| !operations.is_empty());
    tags
}

fn article(operation: &Operation<'_>) -> String {
    let Operation { path, parts, .. } = operation;
    let (id, badge, path) = (escaped(operation.id()), operation.badge(), escaped(path));
    let mut text = format!(r#"<article id="{id}"><h3>{badge}<code>{path}</code></h3>{}"#, prose(&parts["summary"]));
    text.push_str(&prose(&parts["description"]));
    put(&mut text, format_args!(r#"<p class="needs">{}</p>"#, needs(&parts["security"])));
    text.push_str(&parameters(&parts["parameters"]));
    if let Some(body) = parts.get("requestBody") {
        put(&mut text, format_args!("<h4>Body</h4><p>{}</p>", content(body)));
    }
    text.push_str("<h4>Answers</h4><table>");
    for (status, response) in members(&parts["responses"]) {
        let status = if status == "default" { "refused" } else { status };
        let about = inline(response["description"].as_str().unwrap_or_default());
        put(
            &mut text,
            format_args!("<tr><td>{}</td><td>{}</td><td>{about}</td></tr>", escaped(status), content(response)),
        );
    }
    text + "</table></article>"
}

fn needs(security: &Value) -> String {
    let scheme = |name: &str, scopes: &Value| {
        let scopes: Vec<String> =
            scopes.as_array().into_iter().flatten().filter_map(Value::as_str).map(escaped).collect();
        match (name, scopes.is_empty()) {
            ("token", false) => format!("a token with <code>{}</code>", scopes.join("</code>, <code>")),
            ("token", true) => "a token".to_owned(),
            ("session", _) => "a session".to_owned(),
            (other, _) => escaped(other),
        }
    };
    let alternatives = security.as_array().into_iter().flatten().flat_map(members);
    let alternatives: Vec<String> = alternatives.map(|(name, scopes)| scheme(name, scopes)).collect();
    match alternatives.is_empty() {
        true => "Needs no credential.".to_owned(),
        false => format!("Needs {}.", alternatives.join(" or ")),
    }
}

fn parameters(parameters: &Value) -> String {
    let Some(parameters) = parameters.as_array().filter(|all| !all.is_empty()) else { return String::new() };
    let mut text = "<h4>Parameters</h4><table>".to_owned();
    for parameter in parameters {
        let name = escaped(parameter["name"].as_str().unwrap_or_default());
        let place = escaped(parameter["in"].as_str().unwrap_or_default());
        let required = if parameter["required"] == true { ", required" } else { "" };
        let about = inline(parameter["description"].as_str().unwrap_or_default());
        let kind = kind(&parameter["schema"]);
        put(
            &mut text,
            format_args!(
                r#"<tr><td><code>{name}</code></td><td>{kind} <span class="faint">{place}{required}</span></td><td>{about}</td></tr>"#
            ),
        );
    }
    text + "</table>"
}

/// What a body is: the kind of its JSON, or its media type.
fn content(holder: &Value) -> String {
    let kinds = members(&holder["content"]).map(|(media, content)| match media {
        "application/json" | "application/problem+json" => kind(&content["schema"]),
        media => format!("<code>{}</code>", escaped(media)),
    });
    kinds.collect::<Vec<_>>().join(" or ")
}

/// All codes of refusals.
fn refusals(codes: &Value) -> String {
    let mut text = r##"<section id="refusals"><h2>Refusals</h2><article><p>Each has the form <a href="#schema-Problem">Problem</a>.</p><table>"##.to_owned();
    for code in codes.as_array().into_iter().flatten() {
        let name = escaped(code["code"].as_str().unwrap_or_default());
        let statuses = code["statuses"].as_array().into_iter().flatten().map(Value::to_string).collect::<Vec<_>>();
        let meaning = inline(code["meaning"].as_str().unwrap_or_default());
        put(
            &mut text,
            format_args!("<tr><td><code>{name}</code></td><td>{}</td><td>{meaning}</td></tr>", statuses.join(", ")),
        );
    }
    text + "</table></article></section>"
}

fn schemas(schemas: &Value) -> String {
    let mut text = r#"<section id="schemas"><h2>Schemas</h2>"#.to_owned();
    for (name, schema) in members(schemas) {
        let name = escaped(name);
        put(
            &mut text,
            format_args!(
                r#"<article id="schema-{name}"><h3><code>{name}</code></h3>{}"#,
                prose(&schema["description"])
            ),
        );
        match schema.get("properties") {
            Some(properties) => text.push_str(&fields(properties, &schema["required"])),
            None => put(&mut text, format_args!("<p>{}</p>", kind(schema))),
        }
        text.push_str("</article>");
    }
    text + "</section>"
}

fn fields(properties: &Value, required: &Value) -> String {
    let mut text = "<table>".to_owned();
    for (name, schema) in members(properties) {
        let is_required = required.as_array().is_some_and(|all| all.iter().any(|it| it == name));
        let optional = if is_required { "" } else { r#" <span class="faint">optional</span>"# };
        let about = inline(schema["description"].as_str().unwrap_or_default());
        let (name, kind) = (escaped(name), kind(schema));
        put(&mut text, format_args!("<tr><td><code>{name}</code></td><td>{kind}{optional}</td><td>{about}</td></tr>"));
    }
    text + "</table>"
}

/// What kind of value a schema describes, in words.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escaped(reference.rsplit('/').next().unwrap_or_default());
        return format!(r##"<a href="#schema-{name}">{name}</a>"##);
    }
    for combination in ["oneOf", "anyOf", "allOf"] {
        if let Some(parts) = schema[combination].as_array() {
            return parts.iter().map(kind).collect::<Vec<_>>().join(if combination == "allOf" {
                " and "
            } else {
                " or "
            });
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> =
            values.iter().map(|value| format!("<code>{}</code>", escaped(&value.to_string()))).collect();
        return values.join(" or ");
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(name) => with_format(name, schema),
        Value::Array(names) => {
            let one = |name: &Value| match name.as_str() {
                Some("array") => format!("list of {}", kind(&schema["items"])),
                Some(name) => with_format(name, schema),
                None => "any".to_owned(),
            };
            names.iter().map(one).collect::<Vec<_>>().join(" or ")
        }
        _ => "any".to_owned(),
    }
}

fn with_format(name: &str, schema: &Value) -> String {
    match schema["format"].as_str().filter(|_| name == "string") {
        Some(format) => format!("{} ({})", escaped(name), escaped(format)),
        None => escaped(name),
    }
}

/// Paragraphs.
fn prose(text: &Value) -> String {
    let paragraphs = text.as_str().unwrap_or_default().split("\n\n").filter(|text| !text.trim().is_empty());
    paragraphs.map(|text| format!("<p>{}</p>", inline(text))).collect()
}

/// Text in which backticks mark code.
fn inline(text: &str) -> String {
    let mut shown = String::new();
    for (place, part) in text.split('`').enumerate() {
        let part = escaped(part);
        if place % 2 == 1 {
            put(&mut shown, format_args!("<code>{part}</code>"));
        } else {
            shown.push_str(&part);
        }
    }
    shown
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn members(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object.as_object().into_iter().flat_map(Map::iter).map(|(name, value)| (name.as_str(), value))
}

fn put(text: &mut String, piece: std::fmt::Arguments<'_>) {
    text.write_fmt(piece).expect("a string takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_description_says_is_text_and_nothing_else() {
        let document = json!({
            "info": { "title": "<b>", "description": "a `<i>`" },
            "paths": { "/v1/<x>": { "get": { "operationId": "x", "summary": "<script>", "tags": ["<t>"] } } },
        });
        let page = page(&document);
        for tag in ["<b>", "<i>", "<x>", "<script>", "<t>"] {
            assert!(!page.contains(tag), "{tag}");
        }
        assert!(page.contains("a <code>&lt;i&gt;</code>"));
    }

    #[test]
    fn kinds_are_told_in_words() {
        let check = |schema: Value, words: &str| assert_eq!(kind(&schema), words);
        check(json!({ "type": "string", "format": "uuid" }), "string (uuid)");
        check(json!({ "type": ["integer", "null"] }), "integer or null");
        check(
            json!({ "type": "array", "items": { "$ref": "#/components/schemas/Run" } }),
            r##"list of <a href="#schema-Run">Run</a>"##,
        );
        check(json!({ "oneOf": [{ "type": "null" }, { "type": "object" }] }), "null or object");
        check(json!({}), "any");
    }
}
