//! Parameters after `?` at routes that take none: refused as unknown keys are where there are some.
//!
//! Which routes take parameters is read off the description, which a handler with a [`Query`](super::extract::Query) stands
//! in. Those read their own. Never looks at what the parameters hold.

use super::{extract, problem::Problem};
use axum::{
    extract::{MatchedPath, Request, State as Given},
    http::Method,
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use std::{collections::HashSet, sync::Arc};
use utoipa::openapi::{
    OpenApi, PathItem,
    path::{Operation, ParameterIn},
};

/// The operations that take no parameters: method, and path as it is written in the description.
pub(super) struct Queries(HashSet<(Method, String)>);

/// What stands after `?` where nothing may.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Queries {
    /// As the description has them.
    pub(super) fn of(document: &OpenApi) -> Arc<Self> {
        let bare = document.paths.paths.iter().flat_map(|(path, item)| {
            let without = operations(item).filter(|(_, operation)| !takes_parameters(operation));
            without.map(|(method, _)| (method, path.clone()))
        });
        Arc::new(Self(bare.collect()))
    }

    fn is_bare(&self, method: &Method, path: &str) -> bool {
        // HEAD is GET without a body.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        // The router's way to write a part that goes over several segments.
        self.0.contains(&(method.clone(), path.replace("{*", "{")))
    }
}

fn operations(item: &PathItem) -> impl Iterator<Item = (Method, &Operation)> {
    let all = [
        (Method::GET, &item.get),
        (Method::PUT, &item.put),
        (Method::POST, &item.post),
        (Method::DELETE, &item.delete),
        (Method::PATCH, &item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| operation.as_ref().map(|operation| (method, operation)))
}

fn takes_parameters(operation: &Operation) -> bool {
    operation.parameters.iter().flatten().any(|parameter| match parameter {
        utoipa::openapi::RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Query,
        utoipa::openapi::RefOr::Ref(_) => true,
    })
}

/// Lets a request through whose route takes parameters, or that brings none.
pub(super) async fn refuse(Given(queries): Given<Arc<Queries>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let is_bare = path.is_some_and(|path| queries.is_bare(request.method(), path.as_str()));
    match request.uri().query().filter(|_| is_bare).map(extract::parameters::<Nothing>) {
        Some(Err(misfit)) => Problem::from(misfit).into_response(),
        Some(Ok(Nothing {})) | None => next.run(request).await,
    }
}
