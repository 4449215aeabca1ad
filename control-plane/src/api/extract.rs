//! Bodies, queries and paths: axum's own extractors, refused in our own words.

use super::problem::Problem;
use axum::{
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, OptionalFromRequest, Request,
        rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection},
    },
    http::{StatusCode, request::Parts},
};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

/// A body as it came.
pub(crate) struct RawBody(pub(crate) Bytes);

/// The parameters after `?`.
pub(crate) struct Query<T>(pub(crate) T);

/// The variable parts of a path.
pub(crate) struct Path<T>(pub(crate) T);

/// Reads a text that no log and no message may hold.
pub(crate) fn secret<'de, D: Deserializer<'de>>(input: D) -> Result<SecretString, D::Error> {
    String::deserialize(input).map(SecretString::from)
}

impl<S, T> FromRequest<S> for Body<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match <axum::Json<T> as FromRequest<S>>::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(body_refused(&rejection)),
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = Problem;

    /// Reads no more than the limit.
    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Bytes::from_request(request, state).await.map(Self).map_err(|rejection| unread(&rejection))
    }
}

impl<S, T> OptionalFromRequest<S> for Body<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    /// An empty body is none, whatever its type is said to be.
    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Problem> {
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts.clone(), body);
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| unread(&rejection))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let request = Request::from_parts(parts, bytes.into());
        <Self as FromRequest<S>>::from_request(request, state).await.map(Some)
    }
}

fn unread(rejection: &BytesRejection) -> Problem {
    match rejection.status() {
        status @ StatusCode::PAYLOAD_TOO_LARGE => too_large(status),
        status => Problem::new(status, "MALFORMED_BODY", rejection.body_text()),
    }
}

fn too_large(status: StatusCode) -> Problem {
    Problem::new(status, "BODY_TOO_LARGE", "the body is larger than this server takes; send less at once")
}

fn body_refused(rejection: &JsonRejection) -> Problem {
    let status = rejection.status();
    match rejection {
        _ if status == StatusCode::PAYLOAD_TOO_LARGE => too_large(status),
        JsonRejection::JsonDataError(error) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_BODY", error.body_text())
        }
        JsonRejection::JsonSyntaxError(error) => {
            Problem::new(StatusCode::BAD_REQUEST, "MALFORMED_JSON", error.body_text())
        }
        JsonRejection::MissingJsonContentType(_) => {
            let error = "send the body as JSON, with `Content-Type: application/json`";
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "NOT_JSON", error)
        }
        other => Problem::new(StatusCode::BAD_REQUEST, "MALFORMED_BODY", other.body_text()),
    }
}

impl<S, T> FromRequestParts<S> for Query<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let refused =
            |rejection: QueryRejection| Problem::new(StatusCode::BAD_REQUEST, "INVALID_QUERY", rejection.body_text());
        let axum::extract::Query(value) =
            axum::extract::Query::from_request_parts(parts, state).await.map_err(refused)?;
        Ok(Self(value))
    }
}

impl<S, T> FromRequestParts<S> for Path<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = Problem;

    /// What has not the form of an id cannot be there.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let refused = |rejection: PathRejection| {
            Problem::new(
                StatusCode::NOT_FOUND,
                "NOT_FOUND",
                format!("there is no such thing: {}", rejection.body_text()),
            )
        };
        let axum::extract::Path(value) =
            axum::extract::Path::from_request_parts(parts, state).await.map_err(refused)?;
        Ok(Self(value))
    }
}
