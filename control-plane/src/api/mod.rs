//! The REST API: routes, and how requests become calls of operations and outcomes become answers.
//!
//! A handler extracts, calls one operation, converts. Who may call it is in its signature: a
//! [`May`](crate::access::May). What is described at `/v1/openapi.json` is read off the handlers.
//!
//! | file | owns |
//! |---|---|
//! | `problem` | every refusal, as `application/problem+json` |
//! | `extract` | bodies, queries and paths, refused in our own words |
//! | `authenticate` | from a request's credentials to a caller, and to what they may do |
//! | `at_project` | permissions at the project that the path names |
//! | `cookies` | cookies, and whether a request comes from a page of ours |
//! | `request` | the request's id and the client's address |
//! | `page` | pages of lists |
//! | `validation` | the dry-run's question and answer |
//! | `limits` | how many requests anybody may send |
//! | `origins` | pages of other origins |
//! | `telling` | requests in the log, as numbers, and in traces |
//! | `health` | what operators and their machines ask |
//! | `description`, `reference` | the OpenAPI document, and a page made of it |
//! | the rest | one resource each |

mod at_project;
mod audit;
mod auth;
mod authenticate;
mod commands;
mod cookies;
pub(crate) mod description;
mod domains;
mod extract;
pub(crate) mod health;
mod invites;
pub(crate) mod limits;
mod members;
mod openid;
mod origins;
mod page;
mod pats;
mod problem;
mod projects;
mod reference;
mod request;
mod runs;
mod schedules;
pub(crate) mod stream;
mod tasks;
mod telling;
mod tenants;
mod validation;
mod versions;
mod webhooks;
mod workflows;

use crate::app::App;
use axum::{Router, extract::DefaultBodyLimit, middleware};
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

/// What handlers are given.
pub(crate) type State = Arc<App>;

/// All routes of the API, and their description.
fn described() -> (Router<State>, utoipa::openapi::OpenApi) {
    let (routes, document) = OpenApiRouter::with_openapi(description::frame())
        .nest(
            "/v1",
            access_routes()
                .merge(workflows::routes())
                .merge(versions::routes())
                .merge(commands::routes())
                .merge(runs::routes())
                .merge(tasks::routes())
                .merge(stream::routes())
                .merge(webhooks::routes())
                .merge(schedules::routes()),
        )
        .split_for_parts();
    (routes, description::completed(document))
}

/// Who may enter what: accounts, workspaces, projects, tokens, and the log of what was done.
fn access_routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .merge(auth::routes())
        .merge(openid::routes())
        .merge(tenants::routes())
        .merge(members::routes())
        .merge(invites::routes())
        .merge(domains::routes())
        .merge(projects::routes())
        .merge(pats::routes())
        .merge(audit::routes())
}

/// The API as a service.
pub(crate) fn router(app: State) -> Router {
    let (routes, description) = described();
    let api = routes
        .merge(description::routes(&description))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(DefaultBodyLimit::max(app.settings.body_bytes_max))
        .layer(middleware::from_fn_with_state(app.clone(), limits::limit))
        .layer(middleware::from_fn_with_state(app.clone(), origins::allow));
    // The outermost comes last: whatever happens within, an answer has its id, and a line of the log.
    health::routes()
        .method_not_allowed_fallback(problem::wrong_method)
        .merge(api)
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(middleware::from_fn_with_state(app.clone(), telling::tell))
        .layer(middleware::from_fn_with_state(app.clone(), request::identify))
        .with_state(app)
}
