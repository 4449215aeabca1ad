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
//! | `description` | the OpenAPI document |
//! | `validation` | the dry-run's question and answer |
//! | the rest | one resource each |

mod at_project;
mod audit;
mod auth;
mod authenticate;
mod commands;
mod cookies;
mod description;
mod domains;
mod extract;
mod invites;
mod members;
mod openid;
mod page;
mod pats;
mod problem;
mod projects;
mod request;
mod runs;
mod schedules;
pub(crate) mod stream;
mod tasks;
mod tenants;
mod validation;
mod versions;
mod webhooks;
mod workflows;

use crate::app::App;
use axum::{Router, middleware};
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;

/// What handlers are given.
pub(crate) type State = Arc<App>;

/// All routes of the API, and their description.
fn described() -> (Router<State>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(description::frame())
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
        .split_for_parts()
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
    routes
        .merge(description::routes(description))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(axum::extract::DefaultBodyLimit::max(app.settings.body_bytes_max))
        .layer(middleware::from_fn_with_state(app.clone(), request::identify))
        .with_state(app)
}
