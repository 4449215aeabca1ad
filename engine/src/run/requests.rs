//! The requests of attempts under way, as the journal tells them.
//!
//! An attempt that is begun again, after a crash or because its sandbox was given up while it waited, asks for the same again
//! and is handed what was recorded. What has no reply is in doubt, and is carried out again under the same key.

use super::{
    body::Site,
    decide::{Machine, micros},
    event::{EventKind, StepPath},
    state::{Executing, RunState},
};
use agentruntime_host_api::{HostReply, HostRequest, RequestDigest};
use std::{collections::HashMap, time::Duration};

/// A request of an attempt under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// What it was.
    pub digest: RequestDigest,
    /// What came back, if it did.
    pub reply: Option<HostReply>,
}

/// The requests of all attempts under way, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Requests(HashMap<StepPath, Vec<Recorded>>);

impl Requests {
    pub(super) fn of(&self, path: &StepPath) -> &[Recorded] {
        self.0.get(path).map_or(&[], Vec::as_slice)
    }

    fn forget(&mut self, path: &StepPath) {
        self.0.remove(path);
    }

    /// # Errors
    /// It does not continue what is recorded.
    fn take(&mut self, kind: &EventKind) -> Result<(), String> {
        match kind {
            EventKind::RequestMade { path, request, .. } => {
                let recorded = self.0.entry(path.clone()).or_default();
                if request.number as usize != recorded.len() {
                    return Err(format!("request {} of {path} is not its next", request.number));
                }
                recorded.push(Recorded { digest: request.digest(), reply: None });
            }
            EventKind::RequestCompleted { path, number, reply, .. } => {
                let recorded = self.0.get_mut(path).and_then(|recorded| recorded.get_mut(*number as usize));
                match recorded {
                    Some(Recorded { reply: empty @ None, .. }) => *empty = Some(reply.clone()),
                    _ => return Err(format!("request {number} of {path} waits for no reply")),
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl RunState {
    /// What the attempt under way has asked for so far.
    pub fn recorded(&self, path: &StepPath) -> &[Recorded] {
        self.requests.of(path)
    }

    /// Takes in what an event says about requests. Whether it is about nothing else is the answer.
    ///
    /// # Errors
    /// No such attempt is under way, or it does not continue what is recorded.
    pub(super) fn apply_to_requests(&mut self, site: Site, kind: &EventKind) -> Result<bool, String> {
        match kind {
            EventKind::RequestMade { path, attempt, .. } | EventKind::RequestCompleted { path, attempt, .. } => {
                if self.attempt_under_way(site) != Some(*attempt) {
                    return Err(format!("attempt {attempt} of {path} is not under way"));
                }
                self.requests.take(kind)?;
                Ok(true)
            }
            EventKind::StepCompleted { path, .. }
            | EventKind::StepFailed { path, .. }
            | EventKind::StepRetrying { path, .. }
            | EventKind::StepCancelled { path, .. } => {
                self.requests.forget(path);
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Those of an attempt's requests that are new.
    pub(super) fn unrecorded(&self, executing: &Executing, requests: Vec<HostRequest>) -> Vec<HostRequest> {
        let mut next = self.recorded(&executing.path).len();
        let mut is_next = |request: &HostRequest| {
            let is_next = request.number as usize == next;
            next += usize::from(is_next);
            is_next
        };
        requests.into_iter().filter(|request| is_next(request)).collect()
    }
}

impl Machine<'_> {
    pub(super) fn requested(&mut self, executing: &Executing, requests: Vec<HostRequest>) {
        if self.under_way(executing).is_none() {
            return;
        }
        for request in self.state.unrecorded(executing, requests) {
            let (path, attempt) = (executing.path.clone(), executing.attempt);
            self.emit(EventKind::RequestMade { path, attempt, request });
        }
    }

    pub(super) fn replied(&mut self, executing: &Executing, number: u32, reply: HostReply, duration: Duration) {
        let recorded = self.state.recorded(&executing.path).get(number as usize);
        let waits = recorded.is_some_and(|recorded| recorded.reply.is_none());
        if self.under_way(executing).is_none() || !waits {
            return;
        }
        let (path, attempt, duration_us) = (executing.path.clone(), executing.attempt, micros(duration));
        self.emit(EventKind::RequestCompleted { path, attempt, number, reply, duration_us });
    }
}
