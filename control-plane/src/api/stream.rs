//! Live events of runs: over a WebSocket, or as Server-Sent Events.
//!
//! An event is told after it is durable, each once and in order. Who follows one run resumes where they were, from what the
//! store has. A reader that does not keep up is let go, with the place to go on from, and no run ever waits for one.
//!
//! | file | owns |
//! |---|---|
//! | `pump` | what is told when: events, signs of life, the end |
//! | `seats` | how many streams a workspace may have |
//! | `socket` | the WebSocket |

mod pump;
mod seats;
mod socket;

pub(crate) use seats::Seats;

use super::{
    State,
    authenticate::Unprompted,
    extract::{Path, Query},
    problem::{Problem, ProblemBody},
    telling::Trail,
};
use crate::{
    access::{May, permission::ReadWorkflows},
    operations::{RunFeed, RunNews, SharedNews},
};
use agentruntime_engine::{node::OutputDelta, run::event::Event};
use agentruntime_host_api::{RunId, TenantId, WorkflowId};
use axum::{
    extract::{FromRequestParts, State as Given, WebSocketUpgrade},
    http::{HeaderMap, HeaderValue, Request, StatusCode, header, request::Parts},
    response::{
        IntoResponse, Response,
        sse::{self, Sse},
    },
};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use pump::{Break, Farewell, Frame, Message, Pace, Pump};
use seats::Seat;
use serde::Deserialize;
use std::{convert::Infallible, sync::Arc};
use tokio::sync::mpsc;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of streams.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(follow))
}

/// What is followed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StreamQuery {
    /// The run to follow, from after `after_seq` to its end; all runs of the workflow from now on where it is missing.
    run_id: Option<Uuid>,
    /// With `run_id`: the number of the last event that the reader has; 0 where it is missing. The header `Last-Event-ID` counts
    /// instead where it is sent.
    after_seq: Option<u64>,
    /// The workspace, for browsers, which cannot send `X-Tenant-Id` here.
    #[expect(dead_code, reason = "read by the extractor, described here")]
    tenant: Option<String>,
    /// The project, for browsers, which cannot send `X-Project-Id` here.
    #[expect(dead_code, reason = "read by the extractor, described here")]
    project: Option<String>,
}

/// Follows a run, or all runs of a workflow, as they happen.
///
/// A WebSocket where the request asks for an upgrade: each message is an event. It is closed with 1000 when the run has ended,
/// 1012 when the server restarts, 1008 when the permission ended, 4008 when the reader did not keep up (the reason is the id
/// of the last event that was sent). Else Server-Sent Events: each event's id is its number; `event: end`, `event: lagged` and
/// `event: refused` tell why the stream ends. Connect again with the last number (`Last-Event-ID` or `after_seq`) to go on
/// without a gap; 204 says that there is nothing more to come.
///
/// While a model answers a step that asks for it by `"stream": true`, what it says comes as `event: step_output_delta` (over a
/// WebSocket: a message with this `event_type`), without an id: the pieces are in no journal, are lost to a reader that does
/// not keep up, and come from the process alone that works on the run. `data` has the `number` of the request within
/// the step, the `part`, counted from 0, and the `text`; what the step gives in the end comes as an event.
///
/// Without `run_id`, the stream tells what happens from now on in all runs of the workflow, child runs included, and does not
/// end by itself. An event's id is `run:seq`. After a reconnect it begins anew: what happened in between is in the events of each
/// run. Where several nodes share a database, events of other nodes come up to a second later, and of the 100 newest runs.
#[utoipa::path(
    get,
    path = "/workflows/{workflow_id}/stream",
    operation_id = "stream_workflow",
    tag = "runs",
    params(("workflow_id" = Uuid, Path, description = "The workflow"), StreamQuery),
    responses(
        (status = 101, description = "A WebSocket follows"),
        (status = 200, description = "Server-Sent Events follow", content_type = "text/event-stream", body = String),
        (status = 204, description = "The run has ended, and the reader has all of it"),
        (status = "default", body = ProblemBody)
    ),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn follow(
    watching: Watching,
    Given(app): Given<State>,
    Path(workflow): Path<Uuid>,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let workflow = WorkflowId::new(workflow.to_string());
    let seat = app.seats.take(&watching.may.place.tenant.tenant).ok_or_else(too_many)?;
    let source = match query.run_id {
        Some(run) => {
            let after = last_event_id(&headers)?.or(query.after_seq).unwrap_or_default();
            of_run(&app, &watching, &workflow, run.into(), after).await?
        }
        None => of_workflow(&app, &watching, workflow).await?,
    };
    match upgrade {
        Ok(upgrade) => {
            check_origin(&watching.parts, &app)?;
            Ok(socket::accept(upgrade, begin(app, watching, source), seat))
        }
        Err(_) if source.is_told => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(_) => Ok(server_sent(begin(app, watching, source), seat)),
    }
}

/// What a stream tells.
struct Source {
    frames: BoxStream<'static, Result<Vec<Frame>, Break>>,
    /// What the reader has already.
    last_id: String,
    /// Whether that is all there will ever be.
    is_told: bool,
}

/// The events of a run from after a number to its end.
async fn of_run(
    app: &State,
    watching: &Watching,
    workflow: &WorkflowId,
    run: RunId,
    after: u64,
) -> Result<Source, Problem> {
    let project = app.project(&watching.may.place);
    let record = project.run_of(workflow, run).await?;
    let feed = RunFeed::after(project, &app.node, run, after);
    let writer = Writer::of(app, watching);
    let frames = stream::unfold(Some((feed, writer)), move |feed| async move {
        let (mut feed, writer) = feed?;
        match feed.next().await {
            Ok(Some(RunNews::Events(events))) => {
                let frames = writer.frames(run, events.into(), |_, seq| seq.to_string()).await;
                Some((Ok(frames), Some((feed, writer))))
            }
            Ok(Some(RunNews::Output(delta))) => {
                let frame = Frame { id: None, text: delta.public(run).to_string() };
                Some((Ok(vec![frame]), Some((feed, writer))))
            }
            Ok(None) => None,
            Err(error) => Some((Err(Break::Failed(error)), None)),
        }
    });
    let is_told = record.status.is_final() && record.last_seq <= after;
    Ok(Source { frames: frames.boxed(), last_id: after.to_string(), is_told })
}

/// The events of all runs of a workflow from now on.
async fn of_workflow(app: &State, watching: &Watching, workflow: WorkflowId) -> Result<Source, Problem> {
    let project = app.project(&watching.may.place);
    project.workflow(&workflow).await?;
    let feed = app.feeds.follow(project, &app.node, workflow).await?;
    let writer = Writer::of(app, watching);
    let frames = stream::unfold(Some((feed, writer)), |feed| async move {
        let (mut feed, writer) = feed?;
        match feed.next().await {
            SharedNews::Events(run, events) => {
                let frames = writer.frames(run, events, |run, seq| format!("{run}:{seq}")).await;
                Some((Ok(frames), Some((feed, writer))))
            }
            SharedNews::Lost => Some((Err(Break::Lost), None)),
            SharedNews::Broken => Some((Err(Break::Told), None)),
        }
    });
    Ok(Source { frames: frames.boxed(), last_id: String::new(), is_told: false })
}

/// Writes events as they are sent: many or large ones where others do not wait for it.
struct Writer {
    app: State,
    tenant: TenantId,
}

impl Writer {
    fn of(app: &State, watching: &Watching) -> Self {
        Self { app: app.clone(), tenant: watching.may.place.tenant.tenant.clone() }
    }

    async fn frames(&self, run: RunId, events: Arc<[Event]>, id: fn(RunId, u64) -> String) -> Vec<Frame> {
        let bytes = events.iter().map(Event::document_bytes).sum();
        let write = move || {
            let frame = |event: &Event| Frame { id: Some(id(run, event.seq)), text: event.public(run).to_string() };
            events.iter().map(frame).collect()
        };
        self.app.node.work_on_json(&self.tenant, bytes, write).await
    }
}

/// Somebody who may follow, and what is needed to see whether they still may.
struct Watching {
    may: May<ReadWorkflows>,
    parts: Parts,
}

impl FromRequestParts<State> for Watching {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &State) -> Result<Self, Problem> {
        let mut own = Request::new(()).into_parts().0;
        own.uri = parts.uri.clone();
        own.headers = parts.headers.clone();
        own.extensions.insert(super::authenticate::origin(parts));
        // The log of requests learns who follows, too.
        own.extensions.insert(parts.extensions.get::<Trail>().cloned().unwrap_or_default());
        name_place(&mut own);
        let may = permitted(&own, app).await?;
        Ok(Self { may, parts: own })
    }
}

async fn permitted(parts: &Parts, app: &State) -> Result<May<ReadWorkflows>, Problem> {
    May::from_request_parts(&mut parts.clone(), app).await
}

/// Takes the place from the query where the headers do not say it.
fn name_place(parts: &mut Parts) {
    let query = parts.uri.query().unwrap_or_default().to_owned();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let name = match &*key {
            "tenant" => "x-tenant-id",
            "project" => "x-project-id",
            _ => continue,
        };
        if let Ok(value) = HeaderValue::from_str(&value) {
            parts.headers.entry(name).or_insert(value);
        }
    }
}

/// A page of another site can open a WebSocket with the reader's cookies, and read it: a session counts from our own pages only.
fn check_origin(parts: &Parts, app: &State) -> Result<(), Problem> {
    if parts.headers.contains_key(header::AUTHORIZATION) {
        return Ok(());
    }
    let own = app.settings.public_url.origin().ascii_serialization();
    match parts.headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()) == Some(own.as_str()) {
        true => Ok(()),
        false => {
            let error = "a session can follow from this server's own pages only; elsewhere send a token";
            Err(Problem::new(StatusCode::FORBIDDEN, "WRONG_ORIGIN", error))
        }
    }
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let seq = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    let seq = seq.filter(|seq| i64::try_from(*seq).is_ok());
    let refused = || {
        let error = "`Last-Event-ID` is the id of an event of this stream: a number";
        Problem::new(StatusCode::BAD_REQUEST, "INVALID_EVENT_ID", error)
    };
    seq.map(Some).ok_or_else(refused)
}

fn too_many() -> Problem {
    let error = format!("this workspace has {} streams open already; close one first", seats::STREAMS_PER_TENANT_MAX);
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_STREAMS", error)
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("5"))
}

/// Lets a pump begin.
fn begin(app: State, watching: Watching, source: Source) -> mpsc::Receiver<Message> {
    let draining = app.draining.clone();
    let mut parts = watching.parts;
    parts.extensions.insert(Unprompted);
    let parts = Arc::new(parts);
    let still_permitted = move || {
        let (app, parts) = (app.clone(), parts.clone());
        async move { permitted(&parts, &app).await.map(drop) }
    };
    Pump { pace: Pace::default(), draining, still_permitted }.start(source.frames, source.last_id)
}

/// The stream as Server-Sent Events. The seat is given up when the connection is.
fn server_sent(messages: mpsc::Receiver<Message>, seat: Seat) -> Response {
    let events = stream::unfold((messages, seat), |(mut messages, seat)| async move {
        let message = messages.recv().await?;
        Some((Ok::<_, Infallible>(sent(message)), (messages, seat)))
    });
    // Proxies that gather answers would hold live events back.
    ([("x-accel-buffering", "no")], Sse::new(events.boxed())).into_response()
}

fn sent(message: Message) -> sse::Event {
    match message {
        Message::Event(frame, room) => {
            drop(room);
            let sent = match frame.id {
                Some(id) => sse::Event::default().id(id),
                // By its name, those who do not know it pass it over.
                None => sse::Event::default().event(OutputDelta::EVENT_TYPE),
            };
            sent.data(frame.text)
        }
        Message::Alive => sse::Event::default().comment("alive"),
        Message::End(Farewell::Ended) => sse::Event::default().event("end").data("{}"),
        Message::End(Farewell::Lagged { last_id }) => {
            let data = serde_json::json!({ "resume_from": last_id }).to_string();
            sse::Event::default().event("lagged").data(data)
        }
        Message::End(Farewell::Draining) => sse::Event::default().comment("the server restarts; connect again"),
        Message::End(Farewell::Refused) => sse::Event::default().event("refused").data("{}"),
        Message::End(Farewell::Failed) => sse::Event::default().comment("the stream broke; connect again"),
    }
}
