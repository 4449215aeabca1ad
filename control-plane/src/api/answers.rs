//! Answers with the data of runs, which can be large.
//!
//! They lie in memory until the client has taken them, so they count as bodies of requests do, until they are sent. What is
//! larger than the workspace's room is sent when it is the only one.

use super::{State, bodies::Share, problem::Problem};
use agentruntime_host_api::TenantId;
use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Serialize;
use std::convert::Infallible;

/// Handed to the connection at once: the rest waits here, and counts.
const PART_BYTES: usize = 64 * 1024;

/// An answer in JSON, and what it counts.
pub(super) struct Large {
    body: Bytes,
    share: Share,
}

/// Room for so many bytes of an answer.
pub(super) fn room(app: &State, tenant: &TenantId, bytes: u64) -> Result<Share, Problem> {
    Ok(app.bodies.for_answer(tenant, usize::try_from(bytes).unwrap_or(usize::MAX))?)
}

impl Large {
    /// Writes an answer that there is room for.
    pub(super) fn of(answer: &impl Serialize, share: Share) -> Result<Self, Problem> {
        let body = serde_json::to_vec(answer).map_err(|error| Problem::internal(&error))?;
        Ok(Self { body: body.into(), share })
    }
}

impl IntoResponse for Large {
    fn into_response(self) -> Response {
        let length = self.body.len();
        let parts = stream::unfold((self.body, self.share), |(mut body, share)| async move {
            let part = body.split_to(body.len().min(PART_BYTES));
            (!part.is_empty()).then(|| (Ok::<_, Infallible>(part), (body, share)))
        });
        let headers =
            [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_LENGTH, length.to_string())];
        (headers, Body::from_stream(parts)).into_response()
    }
}
