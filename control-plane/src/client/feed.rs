//! Live events of a run: a stream that is taken up again where it broke off, for as long as somebody listens.

use super::{ClientError, http::Http};
use crate::operations::Feed;
use agentruntime_engine::{
    node::{OutputDelta, Told},
    run::event::Event,
};
use agentruntime_host_api::{RunId, WorkflowId};
use async_trait::async_trait;
use axum::body::Bytes;
use eventsource_stream::Eventsource;
use futures_util::{StreamExt, stream};
use reqwest::Response;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::AbortHandle, time};

/// Events that may wait for a slow terminal; further ones wait at the server.
const WAITING_MAX: usize = 256;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_secs(5);
/// A server shows at least this often that it lives; a connection that is silent for longer is dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The events of one run after a number.
pub(super) struct RunEvents {
    told: mpsc::Receiver<Said>,
    /// Output that came after events, while these were handed on.
    waiting: Option<Arc<OutputDelta>>,
    task: AbortHandle,
}

/// One message of the stream.
enum Said {
    Event(Event),
    Output(Arc<OutputDelta>),
}

/// Why a stream was left.
enum Left {
    /// There is nothing more to come, or nothing more to be had.
    ForGood,
    /// It may be taken up again.
    ForNow,
}

struct Stream {
    http: Http,
    workflow: WorkflowId,
    run: RunId,
    after: u64,
    told: mpsc::Sender<Said>,
}

impl RunEvents {
    /// Follows a run's events after a number.
    pub(super) fn after(http: Http, workflow: WorkflowId, run: RunId, after: u64) -> Self {
        let (sender, told) = mpsc::channel(WAITING_MAX);
        let stream = Stream { http, workflow, run, after, told: sender };
        Self { told, waiting: None, task: tokio::spawn(stream.follow()).abort_handle() }
    }
}

impl Drop for RunEvents {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl Feed for RunEvents {
    async fn next(&mut self) -> Option<Told> {
        if let Some(delta) = self.waiting.take() {
            return Some(Told::Output(delta));
        }
        let mut batch = match self.told.recv().await? {
            Said::Output(delta) => return Some(Told::Output(delta)),
            Said::Event(event) => vec![event],
        };
        while let Ok(said) = self.told.try_recv() {
            match said {
                Said::Event(event) => batch.push(event),
                Said::Output(delta) => {
                    self.waiting = Some(delta);
                    break;
                }
            }
        }
        Some(Told::Events(batch.into()))
    }
}

impl Stream {
    /// Ends when the run does, when nobody listens, or when the server refuses; what then can be known is asked for.
    async fn follow(mut self) {
        let mut backoff = BACKOFF_FIRST;
        loop {
            let known = self.after;
            match self.once().await {
                Ok(Left::ForGood) => return,
                Ok(Left::ForNow) => {}
                Err(error) if error.may_pass() => {}
                Err(_) => return,
            }
            if self.after > known {
                backoff = BACKOFF_FIRST;
            }
            time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_LAST);
        }
    }

    async fn once(&mut self) -> Result<Left, ClientError> {
        let path = format!("/workflows/{}/stream", self.workflow);
        let query = [("run_id", self.run.to_string())];
        let response = self.http.stream(&path, &query, &self.after.to_string()).await?;
        if response.status() == reqwest::StatusCode::NO_CONTENT {
            return Ok(Left::ForGood);
        }
        let mut messages = pin!(chunks(response).eventsource());
        while let Some(Ok(message)) = messages.next().await {
            match message.event.as_str() {
                "end" | "refused" => return Ok(Left::ForGood),
                "lagged" => return Ok(Left::ForNow),
                _ => {}
            }
            let document =
                serde_json::from_str(&message.data).map_err(|error| self.http.unexpected(error.to_string()))?;
            if message.event == OutputDelta::EVENT_TYPE {
                let (_, delta) =
                    OutputDelta::from_public(document).map_err(|error| self.http.unexpected(error.to_string()))?;
                // What a slow terminal has no room for is lost; what the step gives in the end has it all.
                let _ = self.told.try_send(Said::Output(delta.into()));
                continue;
            }
            let (run, event) = Event::from_public(document).map_err(|error| self.http.unexpected(error.to_string()))?;
            if run != self.run || event.seq <= self.after {
                continue;
            }
            self.after = event.seq;
            if self.told.send(Said::Event(event)).await.is_err() {
                return Ok(Left::ForGood);
            }
        }
        Ok(Left::ForNow)
    }
}

/// The bytes of a stream, as long as it shows that it lives.
fn chunks(response: Response) -> impl futures_util::Stream<Item = Result<Bytes, reqwest::Error>> {
    stream::unfold(response, |mut response| async move {
        let chunk = time::timeout(SILENCE_MAX, response.chunk()).await.ok()?;
        Some((chunk.transpose()?, response))
    })
}
