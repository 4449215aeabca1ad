//! The API as functions: what a person at a command line asks of a server.

use super::{
    ClientError, ServerWorkflow, Started,
    answers::{
        Decided, EventsPage, Page, ProjectItem, Published, RunItem, TaskItem, Validation, VersionAnswer, VersionItem,
    },
    feed::RunEvents,
    http::{Http, Place},
};
use crate::operations::{
    Answer, Command, Feed, OperationError,
    approvals::{ApprovalState, Verdict},
};
use agentruntime_engine::{
    graph::{Graph, Issue},
    run::event::Event,
    store::{LIST_MAX, Lineage, RunFilter, RunRecord, TaskRecord, VersionEntry},
};
use agentruntime_host_api::{ProjectId, RunId, WorkflowId};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use uuid::Uuid;

/// The largest page that the API gives.
const PAGE_MAX: u32 = 200;
/// So many workflows are read one by one, with their drafts; of more, all are listed.
const READ_ALONE_MAX: usize = 3;
/// How many runs of a workspace are looked at together for those of one project.
const OF_PROJECT_AMONG: usize = 50;
/// The largest page of events that the API gives.
const EVENTS_MAX: u32 = 1_000;
/// How long somebody who follows waits for a server that is gone: a restart, a new release.
const PATIENCE: Duration = Duration::from_secs(300);

/// How a server refuses a token that may do other things.
const SCOPE_MISSING: &str = "SCOPE_MISSING";

/// Whether a token may look at workflows and runs: one that starts runs need not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It may.
    Allowed,
    /// It may not.
    Denied,
}

/// A server, for one project of it.
#[derive(Clone)]
pub(crate) struct Server {
    http: Http,
    seen: Arc<Mutex<Seen>>,
}

/// What earlier answers told, and later requests need.
#[derive(Default)]
struct Seen {
    /// Which workflow a run belongs to: the API's paths begin there.
    workflows: HashMap<RunId, WorkflowId>,
    /// Where a list goes on after a run that was the last of a page.
    cursors: HashMap<RunId, String>,
    /// The id of the project that was named, once it was looked for.
    project: Option<Option<ProjectId>>,
}

/// What to decide about a version.
#[derive(Debug)]
pub(crate) struct Decide {
    /// Which.
    pub(crate) version: u32,
    /// Whether it may be used.
    pub(crate) verdict: Verdict,
    /// Why.
    pub(crate) comment: Option<String>,
}

/// What to start.
#[derive(Debug, Default)]
pub(crate) struct StartRun {
    /// The input.
    pub(crate) input: Option<Value>,
    /// Input for single steps.
    pub(crate) trigger_steps: Option<Map<String, Value>>,
    /// Steps left out.
    pub(crate) excluded_step_ids: Vec<String>,
    /// Another version than the newest.
    pub(crate) version: Option<u32>,
    /// A run whose completed results are taken over.
    pub(crate) resume_from: Option<RunId>,
    /// The first step that is not taken over.
    pub(crate) from_step: Option<String>,
    /// Under this name, the start happens once however often it is asked for.
    pub(crate) idempotency_key: Option<String>,
}

impl Server {
    /// The server at the end of a way.
    pub(crate) fn new(http: Http) -> Self {
        Self { http, seen: Arc::default() }
    }

    /// The same for somebody who follows a run there.
    pub(crate) fn patient(&self) -> Self {
        Self { http: self.http.patient(PATIENCE), seen: self.seen.clone() }
    }

    /// The same that tells nobody what it waits for.
    pub(crate) fn quiet(self) -> Self {
        Self { http: self.http.telling(None), seen: self.seen }
    }

    /// Its URL.
    pub(crate) fn address(&self) -> String {
        self.http.address.to_string()
    }

    /// The workspace and the project that are named to it.
    pub(crate) fn place(&self) -> &Place {
        &self.http.place
    }

    /// Checks that the token is valid and opens the project. One that may not read is known to the server all the same.
    pub(crate) async fn check(&self) -> Result<Reading, ClientError> {
        match self.http.get("/workflows", &[("limit", "1".into())]).await {
            Ok(_) => Ok(Reading::Allowed),
            Err(error) if error.is_refused_as(SCOPE_MISSING) => Ok(Reading::Denied),
            Err(error) => Err(error),
        }
    }

    /// What the server says of whoever holds the token.
    pub(crate) async fn me(&self) -> Result<Value, ClientError> {
        self.http.get("/auth/me", &[]).await
    }

    /// The workflows of the project.
    pub(crate) async fn workflows(&self) -> Result<Vec<ServerWorkflow>, ClientError> {
        self.all("/workflows", &[]).await
    }

    /// The workflow that a person means: by its id, or its name where only one has it.
    pub(crate) async fn find_workflow(&self, text: &str) -> Result<Option<ServerWorkflow>, ClientError> {
        if let Ok(id) = text.parse::<Uuid>() {
            return match self.http.read::<ServerWorkflow>(&format!("/workflows/{id}"), &[]).await {
                Ok(workflow) => Ok(Some(workflow)),
                Err(ClientError::Refused(refused)) if refused.status == 404 => Ok(None),
                Err(error) => Err(error),
            };
        }
        let like: Vec<ServerWorkflow> = match self.all("/workflows", &[("q", text.to_owned())]).await {
            Err(error) if error.is_refused_as(SCOPE_MISSING) => {
                return Err(ClientError::NamesUnreadable { name: text.to_owned() });
            }
            listed => listed?,
        };
        let mut named: Vec<ServerWorkflow> = like.into_iter().filter(|workflow| workflow.name == text).collect();
        if named.len() > 1 {
            let ids = named.into_iter().map(|workflow| workflow.id).collect();
            return Err(ClientError::AmbiguousWorkflow { name: text.to_owned(), ids });
        }
        Ok(named.pop())
    }

    /// The names of workflows, archived ones too; those that are not found are left out.
    pub(crate) async fn names(
        &self,
        mut wanted: HashSet<WorkflowId>,
    ) -> Result<HashMap<WorkflowId, String>, ClientError> {
        let mut names = HashMap::new();
        if wanted.len() <= READ_ALONE_MAX {
            for id in wanted {
                names.extend(self.find_workflow(id.as_str()).await?.map(|workflow| (id, workflow.name)));
            }
            return Ok(names);
        }
        for archived in ["false", "true"] {
            if wanted.is_empty() {
                break;
            }
            let listed: Vec<ServerWorkflow> = self.all("/workflows", &[("archived", archived.to_owned())]).await?;
            let listed = listed.into_iter().map(|workflow| (WorkflowId::new(workflow.id), workflow.name));
            names.extend(listed.filter(|(id, _)| wanted.remove(id)));
        }
        Ok(names)
    }

    /// All versions of a workflow, the newest first, and whether each may be used.
    pub(crate) async fn versions(&self, workflow: &str) -> Result<Vec<(VersionEntry, ApprovalState)>, ClientError> {
        let items: Vec<VersionItem> = self.all(&format!("/workflows/{workflow}/versions"), &[]).await?;
        let versions: Result<Vec<_>, ClientError> = items.into_iter().map(|item| item.record(&self.http)).collect();
        let mut versions = versions?;
        versions.sort_by_key(|(version, _)| std::cmp::Reverse(version.version));
        Ok(versions)
    }

    /// A new workflow with a draft.
    pub(crate) async fn create_workflow(&self, name: &str, graph: &Value) -> Result<ServerWorkflow, ClientError> {
        let body = json!({ "name": name, "graph": graph });
        let reply = self.http.change(Method::POST, "/workflows", &body, &[]).await?;
        self.http.parsed(reply.body)
    }

    /// What a workflow's graph would be told if it were this one. The draft stays as it is.
    pub(crate) async fn validate(&self, workflow: &str, graph: &Value) -> Result<Vec<Issue>, ClientError> {
        let path = format!("/workflows/{workflow}/validate");
        let reply = self.http.change(Method::POST, &path, &json!({ "graph": graph }), &[]).await?;
        Ok(self.http.parsed::<Validation>(reply.body)?.issues)
    }

    /// The same of a graph of which there is no workflow. There still is none then.
    pub(crate) async fn validate_new(&self, graph: &Value) -> Result<Vec<Issue>, ClientError> {
        let reply = self.http.change(Method::POST, "/workflows/validate", &json!({ "graph": graph }), &[]).await?;
        Ok(self.http.parsed::<Validation>(reply.body)?.issues)
    }

    /// Another draft of a workflow, if its draft is still the one that was read.
    pub(crate) async fn change_draft(&self, workflow: &ServerWorkflow, graph: &Value) -> Result<(), ClientError> {
        let path = format!("/workflows/{}", workflow.id);
        // A server that does not tell the revision does not compare it either.
        let is_told = workflow.revision > 0;
        let headers: Vec<_> = is_told.then(|| ("if-match", format!("\"{}\"", workflow.revision))).into_iter().collect();
        let changed = self.http.change(Method::PATCH, &path, &json!({ "graph": graph }), &headers).await;
        changed.map(drop).map_err(|error| match error.is_refused_as("WORKFLOW_CHANGED") {
            true => ClientError::DraftChanged { name: workflow.name.clone() },
            false => error,
        })
    }

    /// Publishes a workflow's draft. Whether that made a version is the second part of the answer.
    pub(crate) async fn publish(
        &self,
        workflow: &str,
        changelog: Option<&str>,
    ) -> Result<(Published, bool), ClientError> {
        let path = format!("/workflows/{workflow}/versions");
        let reply = self.http.change(Method::POST, &path, &json!({ "changelog": changelog }), &[]).await?;
        let is_new = reply.status == StatusCode::CREATED;
        Ok((self.http.parsed(reply.body)?, is_new))
    }

    /// Approves a version, or rejects it.
    pub(crate) async fn decide_version(&self, workflow: &str, decide: Decide) -> Result<Decided, ClientError> {
        let word = match decide.verdict {
            Verdict::Approve => "approve",
            Verdict::Reject => "reject",
        };
        let path = format!("/workflows/{workflow}/versions/{}/{word}", decide.version);
        let reply = self.http.change(Method::POST, &path, &json!({ "comment": decide.comment }), &[]).await?;
        self.http.parsed(reply.body)
    }

    /// Starts a run. Whether an earlier start with the same key did is the second part of the answer.
    pub(crate) async fn start(&self, workflow: &str, start: StartRun) -> Result<(Started, bool), ClientError> {
        let mut params = json!({});
        match (start.input, start.resume_from) {
            (Some(input), _) => params["trigger_payload"] = input,
            // Without an input, the run takes over that of the other.
            (None, Some(_)) => {}
            (None, None) => params["trigger_payload"] = json!({}),
        }
        if let Some(run) = start.resume_from {
            params["resume_from_run_id"] = json!(run);
        }
        if let Some(step) = start.from_step {
            params["from_step_id"] = step.into();
        }
        if let Some(steps) = start.trigger_steps {
            params["trigger_steps"] = Value::Object(steps);
        }
        if !start.excluded_step_ids.is_empty() {
            params["excluded_step_ids"] = json!(start.excluded_step_ids);
        }
        if let Some(version) = start.version {
            params["version"] = version.into();
        }
        let headers: Vec<_> = start.idempotency_key.map(|key| ("idempotency-key", key)).into_iter().collect();
        let body = json!({ "command": "start", "params": params });
        let path = format!("/workflows/{workflow}/command");
        let reply = self.http.change(Method::POST, &path, &body, &headers).await?;
        let is_repeated = reply.headers.get("idempotency-replayed").is_some_and(|value| value == "true");
        let started: Started = self.http.parsed(reply.body)?;
        self.learn(started.run_id, WorkflowId::new(started.workflow_id.clone()));
        Ok((started, is_repeated))
    }

    /// Gives a command to a run.
    pub(crate) async fn command(&self, record: &RunRecord, command: Command) -> Result<(), ClientError> {
        let run = record.run;
        let (word, params) = match command {
            Command::Pause => ("pause", json!({ "run_id": run })),
            Command::Resume => ("resume", json!({ "run_id": run })),
            Command::Stop { graceful } => ("stop", json!({ "run_id": run, "graceful": graceful })),
            Command::Retry => ("retry", json!({ "run_id": run })),
        };
        let body = json!({ "command": word, "params": params });
        let path = format!("/workflows/{}/command", record.workflow);
        self.http.change(Method::POST, &path, &body, &[]).await.map(drop)
    }

    /// Answers a question.
    pub(crate) async fn complete_task(&self, task: &TaskRecord, answer: Answer) -> Result<(), ClientError> {
        let workflow = self.workflow_of(task.run).await?;
        let path = format!("/workflows/{workflow}/runs/{}/tasks/{}/complete", task.run, task.task);
        let body = json!({ "approved": answer.approved, "result": answer.result.to_value() });
        self.http.change(Method::POST, &path, &body, &[]).await.map(drop)
    }

    /// One run.
    pub(crate) async fn run(&self, run: RunId) -> Result<Option<RunRecord>, ClientError> {
        let Some(workflow) = self.seen().workflows.get(&run).cloned() else { return self.look_up(run).await };
        let item: RunItem = self.http.read(&format!("/workflows/{workflow}/runs/{run}/summary"), &[]).await?;
        item.record(&self.http).map(Some)
    }

    /// Runs, the newest first.
    pub(crate) async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, ClientError> {
        let path = match &filter.workflow {
            Some(workflow) => format!("/workflows/{workflow}/runs"),
            None => "/runs".to_owned(),
        };
        let limit = filter.limit.unwrap_or(LIST_MAX) as usize;
        let mut query = Vec::new();
        query.extend(filter.status.map(|status| ("status", status.to_string())));
        query.extend(filter.text.clone().map(|text| ("q", text)));
        if filter.lineage == Lineage::Parentless {
            query.push(("children", "false".into()));
        }
        // The list is the workspace's; here it is a project's, as everything else.
        let project = self.project().await?;
        let mut cursor = match filter.before {
            // Whoever asks for what comes after a run has its page from here.
            Some(before) => match self.seen().cursors.get(&before.run).cloned() {
                Some(cursor) => Some(cursor),
                None => return Ok(Vec::new()),
            },
            None => None,
        };
        let mut runs: Vec<RunRecord> = Vec::new();
        while runs.len() < limit {
            let mut query = query.clone();
            let wanted = limit - runs.len();
            let wanted = if project.is_some() { wanted.max(OF_PROJECT_AMONG) } else { wanted };
            query.push(("limit", PAGE_MAX.min(wanted as u32).to_string()));
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let page: Page<RunItem> = self.http.read(&path, &query).await?;
            for item in page.items {
                let record = item.record(&self.http)?;
                self.learn(record.run, record.workflow.clone());
                if project.as_ref().is_none_or(|project| record.scope.project == *project) {
                    runs.push(record);
                }
            }
            cursor = page.next_cursor;
            if let (Some(cursor), Some(last)) = (&cursor, runs.last()) {
                self.seen().cursors.insert(last.run, cursor.clone());
            }
            if cursor.is_none() {
                break;
            }
        }
        // Who goes on after the last one has to find its page again.
        runs.truncate(filter.limit.map_or(usize::MAX, |limit| limit as usize));
        Ok(runs)
    }

    /// The project that was named, by its id; nothing where the token alone says which it is.
    async fn project(&self) -> Result<Option<ProjectId>, ClientError> {
        let Some(name) = self.http.place.project.clone() else { return Ok(None) };
        if let Some(known) = self.seen().project.clone() {
            return Ok(known);
        }
        let project = match self.all::<ProjectItem>("/projects", &[]).await {
            Ok(projects) => projects.into_iter().find(|project| project.slug == name || project.id == name),
            // A token of one project need not see the others.
            Err(ClientError::Refused(_)) => None,
            Err(error) => return Err(error),
        };
        let project = project.map(|project| ProjectId::new(project.id));
        self.seen().project = Some(project.clone());
        Ok(project)
    }

    /// Events of a run after a number.
    pub(crate) async fn events(&self, run: RunId, after: u64) -> Result<Vec<Event>, ClientError> {
        let workflow = self.workflow_of(run).await?;
        let query = [("after_seq", after.to_string()), ("limit", EVENTS_MAX.to_string())];
        let page: EventsPage = self.http.read(&format!("/workflows/{workflow}/runs/{run}/events"), &query).await?;
        let event = |document| Event::from_public(document).map(|(_, event)| event);
        let events: Result<Vec<Event>, _> = page.items.into_iter().map(event).collect();
        events.map_err(|error| self.http.unexpected(error.to_string()))
    }

    /// The graph that a run follows.
    pub(crate) async fn graph(&self, record: &RunRecord) -> Result<Arc<Graph>, ClientError> {
        let path = format!("/workflows/{}/versions/{}", record.workflow, record.version);
        let version: VersionAnswer = self.http.read(&path, &[]).await?;
        let graph = Graph::parse(&version.graph_snapshot).map_err(|issues| {
            let reason = issues.first().map(|issue| issue.message.clone()).unwrap_or_default();
            self.http
                .unexpected(format!("the graph of run {} is not one that this version knows: {reason}", record.run))
        })?;
        Ok(Arc::new(graph))
    }

    /// The questions that wait for an answer: those of one run, or all of the project.
    pub(crate) async fn pending_tasks(&self, run: Option<RunId>) -> Result<Vec<TaskRecord>, ClientError> {
        let path = match run {
            Some(run) => format!("/workflows/{}/runs/{run}/tasks/pending", self.workflow_of(run).await?),
            None => "/tasks/pending".to_owned(),
        };
        let items: Vec<TaskItem> = self.all(&path, &[]).await?;
        let mut tasks = Vec::with_capacity(items.len());
        for item in items {
            let (task, workflow) = item.record(&self.http)?;
            self.learn(task.run, workflow);
            tasks.push(task);
        }
        Ok(tasks)
    }

    /// The events of a run as they come, after a number.
    pub(crate) async fn feed(&self, run: RunId, after: u64) -> Result<Box<dyn Feed>, ClientError> {
        let workflow = self.workflow_of(run).await?;
        Ok(Box::new(RunEvents::after(self.http.clone(), workflow, run, after)))
    }

    async fn workflow_of(&self, run: RunId) -> Result<WorkflowId, ClientError> {
        if let Some(workflow) = self.seen().workflows.get(&run).cloned() {
            return Ok(workflow);
        }
        match self.look_up(run).await? {
            Some(record) => Ok(record.workflow),
            None => Err(self.http.unexpected(OperationError::UnknownRun(run.to_string()).to_string())),
        }
    }

    /// Finds a run of which nothing but its id is known.
    async fn look_up(&self, run: RunId) -> Result<Option<RunRecord>, ClientError> {
        let items: Vec<RunItem> = self.all("/runs", &[("q", run.to_string())]).await?;
        for item in items {
            let record = item.record(&self.http)?;
            self.learn(record.run, record.workflow.clone());
            if record.run == run {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// All pages of a list, up to what is sensible to hold.
    async fn all<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<Vec<T>, ClientError> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        while all.len() < LIST_MAX as usize {
            let mut query = query.to_vec();
            query.push(("limit", PAGE_MAX.to_string()));
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let page: Page<T> = self.http.read(path, &query).await?;
            all.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        Ok(all)
    }

    fn learn(&self, run: RunId, workflow: WorkflowId) {
        self.seen().workflows.insert(run, workflow);
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // What is in there is true whatever a holder of the lock died of.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
