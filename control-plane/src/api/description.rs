//! The description of the API: an OpenAPI 3.1 document, read off the handlers.

use super::{State, problem::ProblemBody};
use axum::{Json, Router, routing::get};
use std::sync::Arc;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "AgentRuntime",
        description = "Workflows for AI agents: publish graphs, start runs, follow them, answer what they ask.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
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

/// Serves the document.
pub(super) fn routes(document: utoipa::openapi::OpenApi) -> Router<State> {
    let document = Arc::new(document);
    Router::new().route("/v1/openapi.json", get(move || async move { Json(document.as_ref().clone()) }))
}
