//! The REST API: routes, and how requests become calls of operations and outcomes become answers.
//!
//! A handler extracts, calls one operation, converts. Who may call it is in its signature: a
//! [`May`](crate::access::May). What is described at `/v1/openapi.json` is read off the handlers.
//!
//! | file | owns |
//! |---|---|
//! | `problem`, `codes` | every refusal, as `application/problem+json`, and the list of their codes |
//! | `extract` | bodies, queries and paths, refused in our own words |
//! | `queries` | parameters where a route takes none |
//! | `authenticate` | from a request's credentials to a caller, and to what they may do |
//! | `at_project` | permissions at the project that the path names |
//! | `cookies` | cookies, and whether a request comes from a page of ours |
//! | `request` | the request's id and the client's address |
//! | `page` | pages of lists |
//! | `validation` | the dry-run's question and answer |
//! | `limits` | how many requests anybody may send |
//! | `bodies`, `answers` | how many bytes of bodies, and of answers with data of runs, may be under way |
//! | `floods` | which workspace is at a limit |
//! | `slow_bodies` | how slowly a body may come |
//! | `unread` | what is left of a body that nobody read |
//! | `origins` | pages of other origins |
//! | `telling` | requests in the log, as numbers, and in traces |
//! | `health` | what operators and their machines ask |
//! | `examples` | bodies as people write them, for the description |
//! | `description`, `reference` | the OpenAPI document, and a page made of it |
//! | the rest | one resource each |

mod answers;
mod approvals;
mod at_project;
mod audit;
mod auth;
mod authenticate;
pub(crate) mod bodies;
mod codes;
mod commands;
mod connections;
mod cookies;
pub(crate) mod description;
mod domains;
mod examples;
mod extract;
mod floods;
pub(crate) mod health;
mod invites;
pub(crate) mod limits;
mod llm;
mod mcp_instances;
mod mcp_oauth;
mod mcp_servers;
mod members;
mod openid;
mod origins;
mod page;
mod pats;
mod problem;
mod projects;
mod providers;
mod queries;
mod reference;
pub(crate) mod request;
mod run;
mod runs;
mod schedules;
mod secret_body;
mod slow_bodies;
pub(crate) mod stream;
mod tasks;
mod telling;
mod tenants;
mod unread;
mod validation;
mod vault;
mod versions;
mod webhooks;
mod workflows;

use crate::{app::App, observe::Telling};
use axum::{Router, middleware};
use request::Outside;
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
                .merge(approvals::routes())
                .merge(commands::routes())
                .merge(runs::routes())
                .merge(run::routes())
                .merge(tasks::routes())
                .merge(stream::routes())
                .merge(webhooks::routes())
                .merge(schedules::routes())
                .merge(connections::routes())
                .merge(vault::routes())
                .merge(providers::routes())
                .merge(llm::routes())
                .merge(mcp_servers::routes())
                .merge(mcp_oauth::routes())
                .merge(mcp_instances::routes()),
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
        .layer(middleware::from_fn_with_state(queries::Queries::of(&description), queries::refuse))
        .layer(middleware::from_fn_with_state(app.clone(), slow_bodies::limit))
        .layer(middleware::from_fn_with_state(app.clone(), limits::limit))
        .layer(middleware::from_fn_with_state(Arc::new(floods::Floods::default()), floods::note))
        .layer(middleware::from_fn_with_state(app.clone(), origins::allow))
        .layer(middleware::from_fn(unread::take_off));
    let all = health::routes().method_not_allowed_fallback(problem::wrong_method).merge(api);
    outermost(all, Outside::of(&app.settings), app.telling.clone()).with_state(app)
}

/// What lies around all routes. The outermost comes last: whatever happens within, an answer has its id, and a line of the
/// log.
fn outermost<S: Clone + Send + Sync + 'static>(
    routes: Router<S>,
    outside: Outside,
    telling: Arc<Telling>,
) -> Router<S> {
    routes
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(middleware::from_fn_with_state(telling, telling::tell))
        .layer(middleware::from_fn_with_state(Arc::new(outside), request::identify))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::field;
    use axum::{body::Body, http::Request, routing::get};
    use tower::ServiceExt;

    #[test]
    fn no_slug_is_a_word_of_a_path() {
        let (_, document) = described();
        // `test` is a name that projects have, and stands behind the id of a connection alone.
        let paths = document.paths.paths.keys().filter(|path| *path != "/v1/connections/{id}/test");
        let words = paths.flat_map(|path| path.split('/'));
        let words = words.filter(|word| !word.is_empty() && !word.starts_with('{'));
        let free: std::collections::BTreeSet<_> = words.filter(|word| field::check_slug(word).is_ok()).collect();
        assert!(free.is_empty(), "add these words of paths to the reserved slugs in `access/field.rs`: {free:?}");
    }

    #[tokio::test]
    async fn a_handler_that_panics_answers_without_internals_and_the_next_request_is_served() {
        async fn panics() {
            panic!("a secret of the inside")
        }
        let routes = Router::new().route("/panics", get(panics)).route("/fine", get(|| async { "fine" }));
        let outside = Outside { proxies: Vec::new(), is_https: false };
        let router = outermost(routes, outside, Arc::new(Telling::to_nobody()));
        for _ in 0..2 {
            let ask = |path: &str| router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap());
            let answer = ask("/panics").await.unwrap();
            assert_eq!(answer.status(), 500);
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
            let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((&body["code"], &body["request_id"]), (&"INTERNAL".into(), &id.into()));
            assert!(!body.to_string().contains("secret"), "{body}");
            assert_eq!(ask("/fine").await.unwrap().status(), 200);
        }
    }
}
