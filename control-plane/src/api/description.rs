//! The description of the API: an OpenAPI 3.1 document, read off the handlers, and a page for people made of it.

use super::{State, codes, examples, problem::ProblemBody, reference};
use axum::{
    Router,
    body::Bytes,
    http::{HeaderValue, StatusCode, header},
    routing::get,
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        PathItem, RefOr, Response, Schema,
        extensions::Extensions,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "AgentRuntime",
        description = "Workflows for AI agents: publish graphs, start runs, follow them, answer what they ask.\n\n\
            Send a token as `Authorization: Bearer pat_…`. A request that touches a project names it by `X-Tenant-Id` and \
            `X-Project-Id`; a token that is bound to one project may leave them out. Every answer has an `X-Request-Id`. \
            Every refusal has the form `Problem`, whose `code` is for programs and whose `error` says what to do; \
            `RATE_LIMITED` (429) and `DEPENDENCY_UNAVAILABLE` (503) may come from any path, with `Retry-After`; `x-error-codes` of that schema lists all codes. \
            What you may not see answers as if it did not exist.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers((url = "/", description = "Where this document comes from")),
    tags(
        (name = "workflows", description = "A name and a draft, from which versions are published."),
        (name = "versions", description = "What a draft was when it was published; never changed again."),
        (name = "runs", description = "Started, followed, paused, stopped, tried again."),
        (name = "tasks", description = "What runs ask of people."),
        (name = "triggers", description = "Runs that others start by sending something, or that begin at set times."),
        (name = "integrations", description = "What workflows reach outside: credentials that nobody reads, language models, MCP servers and their tools."),
        (name = "auth", description = "Signing up, in and out; passwords; sessions."),
        (name = "workspaces", description = "Members, invitations, verified domains."),
        (name = "projects", description = "Parts of a workspace with members of their own."),
        (name = "tokens", description = "Personal access tokens."),
        (name = "audit", description = "Who changed what."),
    ),
    components(schemas(ProblemBody)),
    modifiers(&Credentials)
)]
struct Frame;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        let session = ApiKey::Cookie(ApiKeyValue::new("__Host-session"));
        components.add_security_scheme("session", SecurityScheme::ApiKey(session));
    }
}

/// The document without paths.
pub(super) fn frame() -> utoipa::openapi::OpenApi {
    Frame::openapi()
}

/// The whole document, with what is the same for all operations: a sentence for each answer that has none, and the media
/// type of refusals; and with examples of bodies.
pub(super) fn completed(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    // A part that goes over several segments is written in the router's own way.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    for item in document.paths.paths.values_mut() {
        let PathItem { get, put, post, delete, patch, .. } = item;
        for operation in [get, put, post, delete, patch].into_iter().flatten() {
            // The source's lines are not the reader's.
            operation.summary = operation.summary.take().map(|summary| summary.replace('\n', " "));
            for parameter in operation.parameters.iter_mut().flatten() {
                let RefOr::T(parameter) = parameter else { continue };
                parameter.description = parameter.description.take().map(sentence);
            }
            let example = operation.operation_id.as_deref().and_then(examples::of);
            if let (Some(example), Some(RefOr::T(body))) = (example, &mut operation.request_body)
                && let Some(RefOr::T(body)) = body.content.get_mut("application/json")
            {
                body.example = Some(example);
            }
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response {
                    complete(status, response);
                }
            }
        }
    }
    list_codes(&mut document);
    document
}

/// With a full stop, on one line.
fn sentence(text: String) -> String {
    let text = text.replace('\n', " ");
    if text.ends_with(['.', '…']) { text } else { text + "." }
}

/// The codes of refusals, where the refusal is described.
fn list_codes(document: &mut utoipa::openapi::OpenApi) {
    let schemas = document.components.as_mut().map(|components| &mut components.schemas);
    if let Some(RefOr::T(Schema::Object(problem))) = schemas.and_then(|schemas| schemas.get_mut("Problem")) {
        let codes = Extensions::builder().add("x-error-codes", codes::described()).build();
        problem.extensions.get_or_insert_default().merge(codes);
    }
}

fn complete(status: &str, response: &mut Response) {
    if status == "default"
        && let Some(content) = response.content.shift_remove("application/json")
    {
        response.content.insert("application/problem+json".into(), content);
    }
    if response.description.is_empty() {
        let status = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok());
        let words = status.and_then(|status| status.canonical_reason());
        response.description = words.unwrap_or("Refused; the code says why, and the sentence what to do").into();
    }
}

/// The document as it is kept in the repository.
pub(crate) fn text() -> String {
    let (_, document) = super::described();
    pretty(&document)
}

fn pretty(document: &utoipa::openapi::OpenApi) -> String {
    let mut text = document.to_pretty_json().expect("a description is plain data");
    text.push('\n');
    text
}

/// Serves the document and the page, both written once.
pub(super) fn routes(document: &utoipa::openapi::OpenApi) -> Router<State> {
    let text = Bytes::from(pretty(document));
    let value = serde_json::to_value(document).expect("a description is plain data");
    let page = Bytes::from(reference::page(&value));
    let policy = HeaderValue::from_str(&reference::policy()).expect("a policy is plain text");
    let document = move || async move { ([(header::CONTENT_TYPE, "application/json"), KEPT], text) };
    let page = move || async move {
        let kind = HeaderValue::from_static("text/html; charset=utf-8");
        let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, policy)];
        (headers, [KEPT], page)
    };
    Router::new().route("/v1/openapi.json", get(document)).route("/v1/docs", get(page))
}

/// The same for everybody until the program changes.
const KEPT: (header::HeaderName, &str) = (header::CACHE_CONTROL, "public, max-age=300");
