//! What a step gives while a request of it is under way: told to those who follow its run, on this node, and kept nowhere.
//!
//! What came in the end is in the journal, so that nobody needs these pieces; whoever does not keep up loses some.

use super::watch::Watchers;
use crate::run::{Executing, NotAnEvent, event::StepPath};
use agentruntime_host_api::{Live, RunId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{fmt, sync::Arc};

/// A piece of what a model says to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputDelta {
    /// The step.
    pub path: StepPath,
    /// Its attempt.
    pub attempt: u32,
    /// Which of its requests is answered.
    pub number: u32,
    /// The how manieth piece it is; 0 begins the answer, anew where there were pieces before. One that is missing was lost.
    pub part: u32,
    /// The piece.
    pub text: String,
}

#[derive(Deserialize)]
struct Public {
    run_id: RunId,
    step_id: Arc<str>,
    attempt: u32,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    parent_step_id: Option<Arc<str>>,
    iteration: Option<u32>,
    number: u32,
    part: u32,
    text: String,
}

impl OutputDelta {
    /// The `event_type` of its public form.
    pub const EVENT_TYPE: &str = "step_output_delta";

    /// The form of the API: that of an event, without a number and a time, since it is in no journal.
    pub fn public(&self, run: RunId) -> Value {
        let mut data = json!({ "number": self.number, "part": self.part, "text": self.text });
        let step_id = match &self.path.body {
            None => &self.path.step,
            Some((iteration, inner)) => {
                data["parent_step_id"] = (&*self.path.step).into();
                data["iteration"] = (*iteration).into();
                inner
            }
        };
        json!({
            "event_type": Self::EVENT_TYPE, "run_id": run, "step_id": &**step_id, "attempt": self.attempt, "data": data,
        })
    }

    /// Reads [`OutputDelta::public`] back, and which run it belongs to.
    ///
    /// # Errors
    /// The document is none.
    pub fn from_public(document: Value) -> Result<(RunId, Self), NotAnEvent> {
        let Public { run_id, step_id, attempt, data } = serde_json::from_value(document)?;
        let path = match (data.parent_step_id, data.iteration) {
            (Some(parent), Some(iteration)) => StepPath::inner(&parent, iteration, &step_id),
            _ => StepPath::top(&step_id),
        };
        Ok((run_id, Self { path, attempt, number: data.number, part: data.part, text: data.text }))
    }
}

/// Tells what comes of one request.
pub(super) struct LiveOutput {
    watchers: Watchers,
    run: RunId,
    path: StepPath,
    attempt: u32,
    number: u32,
}

impl LiveOutput {
    pub(super) fn of(watchers: &Watchers, run: RunId, executing: &Executing, number: u32) -> Self {
        let Executing { path, attempt, .. } = executing;
        Self { watchers: watchers.clone(), run, path: path.clone(), attempt: *attempt, number }
    }
}

impl Live for LiveOutput {
    fn said(&self, part: u32, text: String) {
        let Self { path, attempt, number, .. } = self;
        let delta = || OutputDelta { path: path.clone(), attempt: *attempt, number: *number, part, text };
        self.watchers.publish_output(self.run, delta);
    }
}

impl fmt::Debug for LiveOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveOutput({}/{}/{})", self.run, self.path, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_back() {
        let run = RunId::new_v7();
        let (step, inner) = (Arc::from("each"), Arc::from("ask"));
        for path in [StepPath::top(&inner), StepPath::inner(&step, 3, &inner)] {
            let delta = OutputDelta { path, attempt: 2, number: 1, part: 0, text: "\u{e9}\n".into() };
            let public = delta.public(run);
            assert!(public.get("seq").is_none(), "it is no event of the journal: {public}");
            assert_eq!(OutputDelta::from_public(public).unwrap(), (run, delta));
        }
    }
}
