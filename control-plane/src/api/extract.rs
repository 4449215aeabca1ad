//! Bodies, queries and paths: read strictly, and refused in our own words.
//!
//! A key that is not known is refused and never dropped: it was meant to say something. Types say so themselves
//! (`deny_unknown_fields`), and a test asks every route of the description. Free-form are only the members whose content is
//! the caller's: graphs, payloads, parameters of a start.

mod misfit;
mod nul;
mod sound;

use super::{
    State,
    bodies::{Payer, Share},
    problem::Problem,
};
use agentruntime_host_api::Json;
use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, OptionalFromRequest, Request, path::ErrorKind, rejection::PathRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use futures_util::StreamExt;
use misfit::Misfit;
use secrecy::SecretString;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, IgnoredAny},
};
use serde_json::json;
use url::form_urlencoded;

/// A JSON body, and what it counts while it is under way: for as long as a handler keeps that, which is to its end unless it
/// hands it on.
pub(crate) struct Body<T>(pub(crate) T, pub(crate) Share);

/// A body as it came, and what it counts.
pub(crate) struct RawBody(pub(crate) Bytes, pub(crate) Share);

/// The parameters after `?`. All of them: a handler has one.
pub(crate) struct Query<T>(pub(crate) T);

/// The variable parts of a path.
pub(crate) struct Path<T>(pub(crate) T);

/// Reads a text that no log and no message may hold.
pub(crate) fn secret<'de, D: Deserializer<'de>>(input: D) -> Result<SecretString, D::Error> {
    String::deserialize(input).map(SecretString::from)
}

/// Reads an object that may be missing and stays text: as values it would take many times as much while its request waits.
pub(super) fn object<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Json>, D::Error> {
    match Option::<Json>::deserialize(input)? {
        // The white space before a member is not part of its text.
        Some(text) if !text.as_str().starts_with('{') => {
            Err(de::Error::custom(Misfit::no_object(text.as_str()).reason))
        }
        read => Ok(read),
    }
}

impl<T: DeserializeOwned + Send + 'static> FromRequest<State> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &State) -> Result<Self, Problem> {
        check_is_json(request.headers())?;
        let (bytes, share) = read(request, app).await?;
        Self::of(bytes, share, app).await
    }
}

impl FromRequest<State> for RawBody {
    type Rejection = Problem;

    /// Reads no more than the limit.
    async fn from_request(request: Request, app: &State) -> Result<Self, Problem> {
        let (bytes, share) = read(request, app).await?;
        Ok(Self(bytes.into(), share))
    }
}

impl<T: DeserializeOwned + Send + 'static> OptionalFromRequest<State> for Body<T> {
    type Rejection = Problem;

    /// An empty body is none, whatever its type is said to be.
    async fn from_request(request: Request, app: &State) -> Result<Option<Self>, Problem> {
        let typed = check_is_json(request.headers());
        let (bytes, share) = read(request, app).await?;
        match bytes.is_empty() {
            true => Ok(None),
            false => typed.map(|()| Self::of(bytes, share, app))?.await.map(Some),
        }
    }
}

impl<T: DeserializeOwned + Send + 'static> Body<T> {
    /// Reads what came.
    async fn of(bytes: Vec<u8>, share: Share, app: &State) -> Result<Self, Problem> {
        let value = app.node.work_on_json(&share.account(), bytes.len(), move || json(&bytes)).await?;
        Ok(Self(value, share))
    }
}

/// The bytes of a body, which count from before they are read.
async fn read(request: Request, app: &State) -> Result<(Vec<u8>, Share), Problem> {
    let (parts, body) = request.into_parts();
    let bytes_max = app.settings.body_bytes_max;
    let announced = announced(&parts.headers);
    if announced.is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    let mut share = app.bodies.share(Payer::of(&parts));
    share.cover(announced.unwrap_or_default())?;
    let (mut chunks, mut bytes) = (body.into_data_stream(), Vec::with_capacity(announced.unwrap_or_default()));
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| broken_off())?;
        let length = bytes.len() + chunk.len();
        if length > bytes_max {
            return Err(too_large());
        }
        share.cover(length)?;
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, share))
}

/// How long a body is said to be.
fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn check_is_json(headers: &HeaderMap) -> Result<(), Problem> {
    match is_json(headers) {
        true => Ok(()),
        false => {
            let error = "send the body as JSON, with `Content-Type: application/json`";
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "NOT_JSON", error))
        }
    }
}

/// `application/json`, or a type that is written as JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let named = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let named = named.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    named.strip_prefix("application/").is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
}

fn too_large() -> Problem {
    let error = "the body is larger than this server takes; send less at once";
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", error)
}

fn broken_off() -> Problem {
    let error = "the body broke off before its end; send it again";
    Problem::new(StatusCode::BAD_REQUEST, "MALFORMED_BODY", error)
}

/// Why a body is not taken.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    /// It is no JSON.
    #[error("the body is not JSON: {reason} at line {line}, column {column}")]
    Malformed {
        /// What the parser met.
        reason: String,
        /// Where, counted from 1.
        line: usize,
        /// Where in the line.
        column: usize,
    },
    /// It is JSON of another form.
    #[error("{}", .0.sentence("the body"))]
    Misfit(Misfit),
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let sentence = error.to_string();
        match error {
            BodyError::Malformed { line, column, .. } => Self::new(StatusCode::BAD_REQUEST, "MALFORMED_JSON", sentence)
                .with_details(Some(json!({ "line": line, "column": column }))),
            BodyError::Misfit(misfit) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_BODY", sentence)
                .with_details(Some(json!({ "field": misfit.place, "reason": misfit.reason }))),
        }
    }
}

/// Reads a JSON text, which is an object: serde would take a list of its fields, too.
fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        BodyError::Malformed { reason: "bytes that are not UTF-8".into(), line, column }
    })?;
    if let Some(place) = nul::place(text) {
        return Err(BodyError::Misfit(Misfit::nul(place)));
    }
    let start = text.trim_ascii_start();
    if !start.starts_with('{') {
        return Err(malformed(text).unwrap_or_else(|| BodyError::Misfit(Misfit::no_object(start))));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut reader);
    // What is wrong with the form of a text that is no JSON at all matters to nobody.
    let value = read.map_err(|error| malformed(text).unwrap_or_else(|| misfit(&error)))?;
    reader.end().map_err(|error| broken(&error))?;
    // What is kept as text is not looked at yet, and has to be something that can be read when it is.
    sound::check(text).map_err(|error| misfit(&error))?;
    Ok(value)
}

fn misfit(error: &serde_path_to_error::Error<serde_json::Error>) -> BodyError {
    BodyError::Misfit(Misfit::told(error.path(), &without_position(error.inner())))
}

/// Reads what a member of a body holds: parameters, whose form another member decides.
pub(super) fn member<T: DeserializeOwned>(name: &str, value: &Json) -> Result<T, Problem> {
    let value = value.to_value();
    let read = match value.is_object() {
        true => serde_path_to_error::deserialize(value)
            .map_err(|error| Misfit::told(error.path(), &error.inner().to_string())),
        false => Err(Misfit::no_object(&value.to_string())),
    };
    read.map_err(|misfit| {
        let misfit = misfit.within(name);
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_PARAMS", misfit.sentence(name))
            .with_details(Some(json!({ "field": misfit.place, "reason": misfit.reason })))
    })
}

/// Where the text stops being JSON, if it does.
fn malformed(text: &str) -> Option<BodyError> {
    serde_json::from_str::<IgnoredAny>(text).err().map(|error| broken(&error))
}

fn broken(error: &serde_json::Error) -> BodyError {
    let reason = if error.is_eof() { "it ends too early".to_owned() } else { without_position(error) };
    BodyError::Malformed { reason, line: error.line(), column: error.column() }
}

/// The parser's message without the place behind it, which we tell in our way.
fn without_position(error: &serde_json::Error) -> String {
    let (message, place) = (error.to_string(), format!(" at line {} column {}", error.line(), error.column()));
    message.strip_suffix(&place).unwrap_or(&message).to_owned()
}

impl<S, T> FromRequestParts<S> for Query<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(parameters(parts.uri.query().unwrap_or_default())?))
    }
}

/// Why parameters are not taken.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.sentence("the query"))]
pub(super) struct QueryError(Misfit);

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let sentence = error.to_string();
        let QueryError(misfit) = error;
        Self::new(StatusCode::BAD_REQUEST, "INVALID_QUERY", sentence)
            .with_details(Some(json!({ "field": misfit.place, "reason": misfit.reason })))
    }
}

/// Reads what stands after `?`.
pub(super) fn parameters<T: DeserializeOwned>(query: &str) -> Result<T, QueryError> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    if let Some((name, _)) = pairs.clone().find(|(name, value)| name.contains('\0') || value.contains('\0')) {
        return Err(QueryError(Misfit::nul(name.into_owned())));
    }
    serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs))
        .map_err(|error| QueryError(Misfit::told(error.path(), &error.inner().to_string())))
}

impl<S, T> FromRequestParts<S> for Path<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = Problem;

    /// What has not the form of an id cannot be there, nor what holds a U+0000.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if parts.uri.path().contains("%00") {
            return Err(no_such("a part"));
        }
        let axum::extract::Path(value) =
            axum::extract::Path::from_request_parts(parts, state).await.map_err(|rejection| nowhere(&rejection))?;
        Ok(Self(value))
    }
}

fn nowhere(rejection: &PathRejection) -> Problem {
    let kind = match rejection {
        PathRejection::FailedToDeserializePathParams(error) => error.kind(),
        other => return Problem::internal(other),
    };
    let part = match kind {
        ErrorKind::ParseErrorAtKey { key, .. }
        | ErrorKind::DeserializeError { key, .. }
        | ErrorKind::InvalidUtf8InPathParam { key } => format!("`{{{key}}}`"),
        ErrorKind::ParseErrorAtIndex { index, .. } => format!("the variable part {}", index + 1),
        _ => "a variable part".to_owned(),
    };
    no_such(&part)
}

fn no_such(part: &str) -> Problem {
    let error = format!(
        "there is no such thing: {part} of the path is no id or number as it stands here (ids are UUIDs, which lists give; names \
         are not taken); /v1/openapi.json describes it"
    );
    Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_told_with_its_place() {
        let told = |text: &[u8]| json::<serde_json::Value>(text).unwrap_err().to_string();
        assert_eq!(told(b"{\n  \"a\": }"), "the body is not JSON: expected value at line 2, column 8");
        assert_eq!(told(b"{\"a\":1} 2"), "the body is not JSON: trailing characters at line 1, column 9");
        assert_eq!(told(b"{}\n\xff"), "the body is not JSON: bytes that are not UTF-8 at line 2, column 1");
        assert_eq!(told(b""), "the body is not JSON: it ends too early at line 1, column 0");
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        assert!(told(deep.as_bytes()).ends_with("it is nested more than 127 deep"));
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        limit: Option<u32>,
        archived: Option<bool>,
    }

    #[test]
    fn a_query_is_read_strictly() {
        assert_eq!(
            parameters::<Wanted>("limit=3&archived=true").unwrap(),
            Wanted { limit: Some(3), archived: Some(true) }
        );
        let told = |query: &str| parameters::<Wanted>(query).unwrap_err().to_string();
        assert_eq!(told("limt=3"), "`limt`: it is not known; did you mean `limit`?");
        assert_eq!(told("limit=x"), "`limit`: it should be a whole number");
        assert_eq!(told("archived=yes"), "`archived`: it should be `true` or `false`");
        assert_eq!(told("limit=1&limit=2"), "`limit`: it stands there twice");
        assert_eq!(
            told("archived=%00"),
            "`archived`: its text holds the character U+0000, which cannot be kept; leave it out"
        );
    }
}
