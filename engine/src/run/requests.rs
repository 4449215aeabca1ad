//! The requests of attempts under way, as the journal tells them.
//!
//! An attempt that is begun again, after a crash or because its sandbox was given up while it waited, asks for the same again
//! and is handed what was recorded. What has no reply is in doubt, and is carried out again under the same key.
//!
//! A request that a person must approve first is a question. While an attempt waits for nothing but answers, it is not under way
//! anywhere; the answer begins it again.

use super::{
    apply::approval_id,
    body::Site,
    decide::{Effect, Machine, micros},
    event::{EventKind, StepPath},
    start::Asked,
    state::{Executing, RunState},
};
use agentruntime_host_api::{HostReply, HostRequest, Json, RequestDigest, TaskId};
use std::{collections::HashMap, time::Duration};

/// The task type of the question whether a tool may be called.
pub const TOOL_APPROVAL: &str = "tool_approval";

/// A request of an attempt under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// What it was.
    pub digest: RequestDigest,
    /// What came back, if it did.
    pub reply: Option<HostReply>,
    /// The question whether it may go out, where a person is asked.
    pub approval: Option<Approval>,
}

/// The question whether a request may go out.
#[derive(Clone, Debug, PartialEq)]
pub struct Approval {
    /// The question.
    pub task: TaskId,
    /// What the person said, once they did.
    pub decision: Option<Decided>,
}

/// What a person said about a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// Yes or no.
    pub approved: bool,
    /// Fields of the answer: an object.
    pub result: Json,
}

/// A request about which a person is to be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Which of the attempt's requests.
    pub number: u32,
    /// What the person is shown.
    pub payload: Json,
}

impl Recorded {
    /// What was just asked for.
    pub fn new(digest: RequestDigest) -> Self {
        Self { digest, reply: None, approval: None }
    }

    /// The question that it waits for.
    fn open_question(&self) -> Option<TaskId> {
        let approval = self.approval.as_ref().filter(|approval| approval.decision.is_none() && self.reply.is_none())?;
        Some(approval.task)
    }
}

/// The requests of all attempts under way, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Requests(HashMap<StepPath, Vec<Recorded>>);

impl Requests {
    pub(super) fn of(&self, path: &StepPath) -> &[Recorded] {
        self.0.get(path).map_or(&[], Vec::as_slice)
    }

    fn open_questions(&self, path: &StepPath) -> Vec<TaskId> {
        self.of(path).iter().filter_map(Recorded::open_question).collect()
    }

    /// Whether an attempt waits for people and for nothing else.
    pub(super) fn wait_for_people(&self, path: &StepPath) -> bool {
        let mut unanswered = self.of(path).iter().filter(|recorded| recorded.reply.is_none()).peekable();
        unanswered.peek().is_some() && unanswered.all(|recorded| recorded.open_question().is_some())
    }

    /// The attempt that waits for the answer to a question.
    fn asking(&self, task: TaskId) -> Option<StepPath> {
        let asks = |recorded: &Recorded| recorded.open_question() == Some(task);
        self.0.iter().find(|(_, recorded)| recorded.iter().any(asks)).map(|(path, _)| path.clone())
    }

    /// Whether any attempt waits for a person.
    pub(super) fn ask(&self) -> bool {
        self.0.values().flatten().any(|recorded| recorded.open_question().is_some())
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
                recorded.push(Recorded::new(request.digest()));
            }
            EventKind::RequestCompleted { path, number, reply, .. } => {
                let recorded = self.0.get_mut(path).and_then(|recorded| recorded.get_mut(*number as usize));
                match recorded {
                    Some(Recorded { reply: empty @ None, .. }) => *empty = Some(reply.clone()),
                    _ => return Err(format!("request {number} of {path} waits for no reply")),
                }
            }
            EventKind::HumanTaskCreated { path, task, request: Some(number), .. } => {
                let recorded = self.0.get_mut(path).and_then(|recorded| recorded.get_mut(*number as usize));
                match recorded {
                    Some(Recorded { reply: None, approval: empty @ None, .. }) => {
                        *empty = Some(Approval { task: *task, decision: None });
                    }
                    _ => return Err(format!("request {number} of {path} asks nobody")),
                }
            }
            EventKind::HumanTaskCompleted { path, task, approved, result } => {
                let recorded = self.0.get_mut(path).into_iter().flatten();
                let asked = recorded.filter_map(|recorded| recorded.approval.as_mut());
                for approval in asked.filter(|approval| approval.task == *task) {
                    approval.decision = Some(Decided { approved: *approved, result: result.clone() });
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
            EventKind::HumanTaskCreated { path, request: Some(_), .. } => {
                if self.attempt_under_way(site).is_none() {
                    return Err(format!("no attempt of {path} is under way"));
                }
                self.requests.take(kind)?;
                Ok(true)
            }
            EventKind::HumanTaskCompleted { path, task, .. } if self.open_questions(path).contains(task) => {
                self.requests.take(kind)?;
                Ok(true)
            }
            kind => {
                if let (true, Some(path)) = (kind.ends_attempt(), kind.path()) {
                    self.requests.forget(path);
                }
                Ok(false)
            }
        }
    }

    /// The questions about requests that nobody has answered, each with the step that waits.
    pub fn questions(&self) -> Vec<(TaskId, StepPath)> {
        let of_attempt = |(path, recorded): (&StepPath, &Vec<Recorded>)| {
            let open = recorded.iter().filter_map(Recorded::open_question);
            open.map(|task| (task, path.clone())).collect::<Vec<_>>()
        };
        self.requests.0.iter().flat_map(of_attempt).collect()
    }

    /// The questions of an attempt that nobody has answered.
    pub(super) fn open_questions(&self, path: &StepPath) -> Vec<TaskId> {
        self.requests.open_questions(path)
    }

    /// Whether what is under way at a place waits for people and for nothing else: then it is under way on no node.
    pub fn waits_for_people(&self, path: &StepPath) -> bool {
        self.requests.wait_for_people(path)
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
    pub(super) fn requested(&mut self, executing: &Executing, requests: Vec<HostRequest>, questions: Vec<Question>) {
        if self.under_way(executing).is_none() {
            return;
        }
        for request in self.state.unrecorded(executing, requests) {
            let (path, attempt) = (executing.path.clone(), executing.attempt);
            self.emit(EventKind::RequestMade { path, attempt, request });
        }
        for question in questions {
            self.ask_first(executing, question);
        }
    }

    /// Asks a person before a request goes out, once.
    fn ask_first(&mut self, executing: &Executing, question: Question) {
        let Question { number, payload } = question;
        let recorded = self.state.recorded(&executing.path).get(number as usize);
        if recorded.is_none_or(|recorded| recorded.reply.is_some() || recorded.approval.is_some()) {
            return;
        }
        let task = approval_id(self.state.run, &executing.path, executing.attempt, number);
        let (path, task_type) = (executing.path.clone(), TOOL_APPROVAL.into());
        self.open_task(Asked { task, path, task_type, payload, due: None, request: Some(number) });
    }

    /// Takes in what a person said about a request, if one waits for it.
    pub(super) fn decided(&mut self, task: TaskId, approved: bool, result: Json) {
        let Some(path) = self.state.requests.asking(task) else { return };
        let waited = self.state.waits_for_people(&path);
        self.emit(EventKind::HumanTaskCompleted { path: path.clone(), task, approved, result });
        // One that has something under way besides goes on by itself, and comes back to this.
        let attempt = self.state.site(&path).and_then(|site| self.state.attempt_under_way(site));
        if let (true, Some(attempt)) = (waited, attempt) {
            self.effect(Effect::Execute(Executing { path, attempt }));
        }
    }

    pub(super) fn replied(&mut self, executing: &Executing, number: u32, reply: HostReply, duration: Duration) {
        let recorded = self.state.recorded(&executing.path).get(number as usize);
        // What a person has not approved has no reply.
        let waits = recorded.is_some_and(|recorded| recorded.reply.is_none() && recorded.open_question().is_none());
        if self.under_way(executing).is_none() || !waits {
            return;
        }
        let (path, attempt, duration_us) = (executing.path.clone(), executing.attempt, micros(duration));
        self.emit(EventKind::RequestCompleted { path, attempt, number, reply, duration_us });
    }
}
