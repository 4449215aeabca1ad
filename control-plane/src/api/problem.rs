//! Refusals: one form for all of them, `application/problem+json` with the members of RFC 9457 and our own.
//!
//! The one place where codes meet HTTP statuses. What failed inside goes to the log, under the request's id, and never into
//! an answer.

use super::codes;
use crate::{
    access::AccessError, integrations::IntegrationError, operations::OperationError, triggers::TriggerError,
    vault::SealError,
};
use agentruntime_engine::{
    database::{Outage, OutageKind},
    graph::Issue,
    node::{Ceiling, StartError},
    store::StoreError,
};
use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// A request that was refused, or could not be served.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Refusal>);

/// Behind a box, because every handler's result has room for it.
#[derive(Clone, Debug)]
struct Refusal {
    status: StatusCode,
    code: &'static str,
    error: String,
    details: Option<Value>,
    issues: Vec<Value>,
    headers: HeaderMap,
}

/// The answer to a request that was refused.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// What to do, as a sentence.
    error: String,
    /// A stable name for programs.
    #[schema(example = "WORKFLOW_NOT_FOUND")]
    code: String,
    /// What a program may want to know besides.
    details: Option<Value>,
    /// What is wrong with a document, each with its place (422).
    issues: Option<Vec<Value>>,
    /// Names the request in the log.
    request_id: String,
    /// RFC 9457: `about:blank`, as the code tells what kind of problem it is.
    #[serde(rename = "type")]
    kind: String,
    /// RFC 9457: the status in words.
    title: String,
    /// RFC 9457: the status.
    status: u16,
    /// RFC 9457: the same sentence as `error`.
    detail: String,
}

impl Problem {
    /// A refusal.
    pub(crate) fn new(status: StatusCode, code: &'static str, error: impl Into<String>) -> Self {
        debug_assert!(codes::is_known(code, status), "list `{code}` with {status} in api/codes.rs");
        let (details, issues, headers) = (None, Vec::new(), HeaderMap::new());
        Self(Box::new(Refusal { status, code, error: error.into(), details, issues, headers }))
    }

    /// What a program may want to know besides.
    pub(crate) fn with_details(mut self, details: Option<Value>) -> Self {
        self.0.details = details;
        self
    }

    /// A header of the answer.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    fn with_issues(mut self, issues: &[Issue]) -> Self {
        self.0.issues = issues.iter().map(|issue| json!(issue)).collect();
        self
    }

    /// Something failed inside: the cause goes to the log.
    pub(crate) fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request could not be served");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL",
            "something failed here; the log has it by the request_id",
        )
    }

    /// The same with what may have been meant, where that is known.
    pub(super) fn with_hint(mut self, hint: Option<&str>) -> Self {
        if let Some(hint) = hint {
            self.0.error.push_str("; ");
            self.0.error.push_str(hint);
        }
        self
    }

    /// A parameter of the query does not hold what it should.
    pub(crate) fn query(field: &str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let details = json!({ "field": field, "reason": reason });
        let error = format!("`{field}`: {reason}");
        Self::new(StatusCode::BAD_REQUEST, "INVALID_QUERY", error).with_details(Some(details))
    }

    /// A dependency is down.
    pub(crate) fn unavailable(what: &str, cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, what, "a dependency does not answer");
        let error = format!("{what} does not answer; try again in a moment");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "DEPENDENCY_UNAVAILABLE", error)
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// A workspace has as much as it may.
    fn at_ceiling(ceiling: Ceiling, code: &'static str, sentence: &str) -> Self {
        let seconds = ceiling.retry_after().map_or(1, |time| time.as_secs());
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, sentence)
            .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The database cannot be used, which it tells the log of itself: once, and not for each request.
    fn outage(outage: &Outage) -> Self {
        let error = match outage.kind {
            OutageKind::Unreachable => "the database does not answer; try again in a moment",
            OutageKind::ReadOnly => "the storage of the database takes no writes; nothing was changed, try again later",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "DEPENDENCY_UNAVAILABLE", error)
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("5"))
    }

    /// A stable name for programs.
    pub(super) fn code(&self) -> &'static str {
        self.0.code
    }

    /// The answer for a request with this id.
    pub(super) fn body(&self, request: &str) -> Vec<u8> {
        let mut body = json!({
            "error": self.0.error,
            "code": self.0.code,
            "request_id": request,
            "type": "about:blank",
            "title": self.0.status.canonical_reason().unwrap_or("Error"),
            "status": self.0.status.as_u16(),
            "detail": self.0.error,
        });
        if let Some(details) = &self.0.details {
            body["details"] = details.clone();
        }
        if !self.0.issues.is_empty() {
            body["issues"] = self.0.issues.clone().into();
        }
        body.to_string().into_bytes()
    }
}

impl IntoResponse for Problem {
    /// The body is written by `request::identify`, which knows the request's id.
    fn into_response(self) -> Response {
        let mut response = (self.0.status, self.0.headers.clone()).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// No route has this path.
pub(crate) async fn no_such_route() -> Problem {
    let error = "nothing is at this path: those of the API begin with /v1/; /v1/openapi.json lists them, and /v1/docs shows them";
    Problem::new(StatusCode::NOT_FOUND, "ROUTE_NOT_FOUND", error)
}

/// A handler panicked. Where and why was told when it happened.
pub(super) fn panicked(_panic: Box<dyn std::any::Any + Send>) -> Response {
    let error = "something failed here; the log has it by the request_id";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", error).into_response()
}

/// The path exists, with other methods.
pub(crate) async fn wrong_method() -> Problem {
    let error = "this path does not take this method; /v1/openapi.json lists those it takes";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", error)
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        use AccessError as E;
        let sentence = error.to_string();
        let refuse = |status, code| Self::new(status, code, sentence.clone());
        match error {
            E::NotAuthenticated(_) => refuse(StatusCode::UNAUTHORIZED, "NOT_AUTHENTICATED")
                .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            E::NoSuchPlace(_) => refuse(StatusCode::NOT_FOUND, "PLACE_NOT_FOUND"),
            E::PlaceMissing { .. } => refuse(StatusCode::BAD_REQUEST, "PLACE_MISSING"),
            E::ScopeMissing(scope) => {
                refuse(StatusCode::FORBIDDEN, "SCOPE_MISSING").with_details(Some(json!({ "scope": scope })))
            }
            E::ProjectRoleTooLow { needed, have } => refuse(StatusCode::FORBIDDEN, "ROLE_TOO_LOW")
                .with_details(Some(json!({ "needed": needed, "have": have }))),
            E::TenantRoleTooLow { needed, have } => refuse(StatusCode::FORBIDDEN, "ROLE_TOO_LOW")
                .with_details(Some(json!({ "needed": needed, "have": have }))),
            E::SessionNeeded => refuse(StatusCode::FORBIDDEN, "SESSION_NEEDED"),
            E::Forbidden(_) => refuse(StatusCode::FORBIDDEN, "FORBIDDEN"),
            E::Conflict { code, .. } => refuse(StatusCode::CONFLICT, code),
            E::Invalid { field, ref message } => refuse(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_FIELD")
                .with_details(Some(json!({ "field": field, "reason": message }))),
            E::NotFound { .. } => refuse(StatusCode::NOT_FOUND, "NOT_FOUND"),
            E::CrossSite(_) => refuse(StatusCode::FORBIDDEN, "CROSS_SITE"),
            E::NotConfigured(_) => refuse(StatusCode::NOT_FOUND, "NOT_CONFIGURED"),
            E::TooMany { retry_after_s, .. } => refuse(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_ATTEMPTS")
                .with_header(header::RETRY_AFTER, HeaderValue::from(retry_after_s)),
            E::Unavailable { what, ref reason } => Self::unavailable(what, reason),
            E::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is no such thing here"),
            StoreError::AlreadyExists => Self::new(StatusCode::CONFLICT, "ALREADY_EXISTS", error.to_string()),
            StoreError::Repeated { .. } => Self::new(StatusCode::CONFLICT, "IDEMPOTENCY_KEY_REUSED", error.to_string()),
            StoreError::TooManyProjects { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "TOO_MANY_PROJECTS", error.to_string())
            }
            StoreError::AlreadyClosed => Self::new(StatusCode::CONFLICT, "ALREADY_CLOSED", error.to_string()),
            StoreError::Database(cause) => Self::unavailable("the database", &cause),
            StoreError::Outage(outage) => Self::outage(&outage),
            StoreError::Connect { .. }
            | StoreError::Corrupt(_)
            | StoreError::InUse { .. }
            | StoreError::Location(_)
            | StoreError::SchemaTooNew { .. }
            | StoreError::Folder { .. } => Self::internal(&error),
        }
    }
}

impl From<TriggerError> for Problem {
    fn from(error: TriggerError) -> Self {
        use TriggerError as E;
        let sentence = error.to_string();
        match error {
            E::NotGenuine => Self::new(StatusCode::UNAUTHORIZED, "NOT_AUTHENTICATED", sentence)
                .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            E::NotJson(_) => Self::new(StatusCode::BAD_REQUEST, "MALFORMED_JSON", sentence),
            E::BareNumber => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_BODY", sentence),
            E::KeyReused => Self::new(StatusCode::CONFLICT, "IDEMPOTENCY_KEY_REUSED", sentence),
            E::Access(error) => error.into(),
            E::Operation(error) => error.into(),
            E::Seal(error) => error.into(),
        }
    }
}

impl From<SealError> for Problem {
    fn from(error: SealError) -> Self {
        match error {
            SealError::NoMasterKey => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "MASTER_KEY_MISSING", error.to_string())
            }
            error => Self::internal(&error),
        }
    }
}

impl From<IntegrationError> for Problem {
    fn from(error: IntegrationError) -> Self {
        match error {
            IntegrationError::Access(error) => error.into(),
            IntegrationError::Seal(error) => error.into(),
            IntegrationError::External(error) => Self::unavailable("the external vault", &error),
            IntegrationError::TooManyInquiries(error) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_INQUIRIES", error.to_string())
                    .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            IntegrationError::McpServer(sentence) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "MCP_SERVER_FAILED", sentence)
            }
            IntegrationError::McpAuthorization { message, scopes } => {
                let details = (!scopes.is_empty()).then(|| json!({ "scopes": scopes }));
                Self::new(StatusCode::CONFLICT, "MCP_AUTHORIZATION_REQUIRED", message).with_details(details)
            }
        }
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        use OperationError as E;
        let (code, sentence, details) = (error.code(), error.to_string(), error.details());
        let refuse = |status| Self::new(status, code, sentence.clone()).with_details(details.clone());
        match error {
            E::Store(error) => error.into(),
            E::Access(error) => error.into(),
            E::TooManyChecks => {
                refuse(StatusCode::TOO_MANY_REQUESTS).with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            E::CheckTooLong => refuse(StatusCode::UNPROCESSABLE_ENTITY),
            E::StaleDraft => refuse(StatusCode::PRECONDITION_FAILED),
            E::InvalidField { .. } => refuse(StatusCode::UNPROCESSABLE_ENTITY),
            E::InvalidGraph { issues } => refuse(StatusCode::UNPROCESSABLE_ENTITY).with_issues(&issues),
            E::Start(StartError::Rejected { issues, .. }) => {
                refuse(StatusCode::UNPROCESSABLE_ENTITY).with_issues(&issues)
            }
            E::InvalidParams { .. } | E::Start(StartError::UnknownStep(_) | StartError::OtherWorkflow(_)) => {
                refuse(StatusCode::UNPROCESSABLE_ENTITY)
            }
            E::Start(StartError::Ceiling { what: Ceiling::InputBytes, .. }) => refuse(StatusCode::PAYLOAD_TOO_LARGE),
            E::Start(StartError::Ceiling { what: what @ Ceiling::UnfinishedRuns, .. }) => {
                let raise = "the operator of this service can raise this (`workspace_unfinished_runs_max`)";
                Self::at_ceiling(what, code, &format!("{sentence}; {raise}")).with_details(details)
            }
            E::Start(StartError::Ceiling { what: what @ Ceiling::StoredBytes, .. }) => {
                let raise = "the operator of this service can have that done (`retention_days`), or raise this \
                    (`workspace_stored_bytes_max`)";
                Self::at_ceiling(what, code, &format!("{sentence}; {raise}")).with_details(details)
            }
            E::Start(StartError::Repeated { .. }) => {
                let error = format!("{sentence}; send another `Idempotency-Key` for another start");
                Self::new(StatusCode::CONFLICT, "IDEMPOTENCY_KEY_REUSED", error)
            }
            E::Start(StartError::Stopping(_) | StartError::Store(_)) => {
                Self::unavailable("the node", &sentence).with_details(details)
            }
            E::StartedUnseen { cause, .. } => {
                tracing::error!(%cause, "a run was started and cannot be read");
                refuse(StatusCode::SERVICE_UNAVAILABLE).with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            E::Panicked => Self::internal(&sentence),
            E::UnknownRun(_) | E::NoRuns | E::UnknownWorkflow(_) | E::UnknownVersion { .. } | E::UnknownTask { .. } => {
                refuse(StatusCode::NOT_FOUND)
            }
            E::AmbiguousRun { .. } | E::AmbiguousTask { .. } | E::ShortRun(_) => refuse(StatusCode::BAD_REQUEST),
            E::TaskClosed { .. }
            | E::WrongStatus { .. }
            | E::RunExists(_)
            | E::WorkflowArchived(_)
            | E::NeverPublished(_)
            | E::VersionNotApproved { .. }
            | E::VersionDecided { .. }
            | E::TooManyWorkflows => refuse(StatusCode::CONFLICT),
            E::Unreadable { .. } => Self::internal(&sentence),
        }
    }
}
