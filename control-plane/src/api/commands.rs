//! Commands to a workflow and its runs: start, pause, resume, stop, retry.

use super::{
    State,
    bodies::Share,
    extract::{Body, Path, Query, member},
    problem::{Problem, ProblemBody},
};
use crate::{
    access::{
        Caller, InProject, May,
        audit::{self, Entry},
        permission::RunWorkflows,
    },
    app::App,
    operations::{Command, OperationError, Project, RunSnapshot, StartCall, StartParams, misspelt},
};
use agentruntime_engine::{
    graph::{canonical_text, sha256_hex},
    node::StartKey,
};
use agentruntime_host_api::{Json, RunId, StepError, WorkflowId};
use axum::{
    extract::State as Given,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The longest that an answer is waited for: proxies cut a silent connection soon after.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The longest key, as its draft standard has it.
const KEY_BYTES_MAX: usize = 255;
/// How long a repeated start is recognised.
const KEY_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The routes of commands.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(command))
}

/// What can be asked of a workflow and its runs.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum CommandName {
    /// Start a run.
    Start,
    /// Start nothing new in a run.
    Pause,
    /// Let a paused run go on.
    Resume,
    /// End a run.
    Stop,
    /// Try a failed run again from the failed step.
    Retry,
}

/// A command.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CommandBody {
    /// What to do.
    command: CommandName,
    /// For `start`, the input itself, or an object with some of these and nothing else: `trigger_payload` (the input),
    /// `trigger_steps` (inputs by step), `excluded_step_ids`, `use_run_setup_defaults`, `version`, `run_id`, `external_user_id`, `resume_from_run_id`,
    /// `from_step_id`. For the other commands `run_id`, and for `stop` also `graceful: true`
    /// (let what is under way finish), which can be written `mode: "graceful"`.
    #[serde(default = "Json::null")]
    #[schema(value_type = Object)]
    params: Json,
}

/// Whether the answer waits.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WaitQuery {
    /// Waits up to so long (`30s`, `500ms`, `1m`; at most `60s`) for the run to end, or to wait for a person, and answers with
    /// the run as it is then.
    #[param(example = "30s")]
    wait: Option<String>,
}

/// A run after a command.
#[derive(Serialize, ToSchema)]
struct CommandAnswer {
    /// The run.
    #[schema(value_type = Uuid)]
    run_id: RunId,
    /// Where it stands: `pending`, `running`, `paused`, `draining`, `completed`, `failed`, `stopped`.
    status: &'static str,
    /// Its workflow.
    workflow_id: String,
    /// The version that it follows.
    version: u32,
    /// When it was accepted.
    started_at: String,
    /// What it waits for: `human_task`, `timer`, `child`, `resume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    awaiting: Option<&'static str>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
    /// What it gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    outputs: Option<Json>,
    /// Why it failed or was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
    /// What was done, and was perhaps not meant: a key of the input that is nearly a parameter of the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Why a run or a step failed.
#[derive(Serialize, ToSchema)]
pub(super) struct Failure {
    /// A stable name for programs.
    code: String,
    /// What happened, where, and what to do.
    message: String,
    /// More for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    details: Option<Json>,
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        Self { code: error.code.to_string(), message: error.message, details: error.details }
    }
}

impl From<RunSnapshot> for CommandAnswer {
    fn from(run: RunSnapshot) -> Self {
        Self {
            run_id: run.run,
            status: run.status.as_str(),
            workflow_id: run.workflow.to_string(),
            version: run.version,
            started_at: run.started_at.to_string(),
            awaiting: run.awaiting.map(|awaiting| awaiting.as_str()),
            finished_at: run.finished_at.map(|at| at.to_string()),
            outputs: run.outputs,
            error: run.error.map(Failure::from),
            warnings: Vec::new(),
        }
    }
}

/// Starts a run of a workflow, or pauses, resumes, stops or retries one.
///
/// Every command answers 200 with the run. A started run is durable when the answer comes. With `wait`, the answer comes when
/// the run has ended, waits for a person, or the time is over.
#[utoipa::path(
    post,
    path = "/workflows/{workflow_id}/command",
    operation_id = "command_workflow",
    tag = "runs",
    params(
        ("workflow_id" = Uuid, Path, description = "The workflow"),
        WaitQuery,
        ("Idempotency-Key" = Option<String>, Header, max_length = 255, description = "Makes a repeated `start` answer with the \
            first run for 24 hours; the same key with another body is refused with 409. The other commands are the same when \
            repeated, and need none")
    ),
    request_body = CommandBody,
    responses(
        (status = 200, body = CommandAnswer, headers(
            ("Idempotency-Replayed" = bool, description = "`true` where the run was started by an earlier request with the same key")
        )), (status = "default", body = ProblemBody)
    ),
    security(("token" = ["workflow:run"]), ("session" = []))
)]
async fn command(
    may: May<RunWorkflows>,
    Given(app): Given<State>,
    Path(workflow): Path<Uuid>,
    Query(query): Query<WaitQuery>,
    headers: HeaderMap,
    Body(body, share): Body<CommandBody>,
) -> Result<Response, Problem> {
    let wait = query.wait.as_deref().map(duration).transpose()?;
    let call = Call { project: app.project(&may.place), app, workflow: WorkflowId::new(workflow.to_string()), wait };
    let key = idempotency_key(&headers)?;
    let run = match body.command {
        CommandName::Start => {
            let (answer, is_repeat) = call.start(&may.caller, body.params, key, share).await?;
            let replayed = is_repeat.then_some([(REPLAYED, HeaderValue::from_static("true"))]);
            return Ok((replayed, axum::Json(answer)).into_response());
        }
        CommandName::Pause => call.control(&may, run_in(&body.params)?, Command::Pause).await?,
        CommandName::Resume => call.control(&may, run_in(&body.params)?, Command::Resume).await?,
        CommandName::Retry => call.control(&may, run_in(&body.params)?, Command::Retry).await?,
        CommandName::Stop => {
            let StopParams { run_id, graceful, mode } = member("params", given(&body.params)?)?;
            let graceful = graceful || mode == StopMode::Graceful;
            call.control(&may, run_id, Command::Stop { graceful }).await?
        }
    };
    Ok(axum::Json(CommandAnswer::from(run)).into_response())
}

fn run_in(params: &Json) -> Result<RunId, Problem> {
    member("params", given(params)?).map(|ControlParams { run_id }| run_id)
}

/// Parameters that are there: without any, it is not known which run is meant.
fn given(params: &Json) -> Result<&Json, Problem> {
    if params.as_str() != "null" {
        return Ok(params);
    }
    let reason = "it is missing: say which run is meant, as `\"params\": { \"run_id\": \"…\" }` beside `command`";
    let details = json!({ "field": "params.run_id", "reason": reason });
    let error = format!("`params.run_id`: {reason}");
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_PARAMS", error).with_details(Some(details)))
}

/// What all commands of one request have in common.
struct Call {
    app: State,
    project: Project,
    workflow: WorkflowId,
    wait: Option<Duration>,
}

/// The parameters of `pause`, `resume` and `retry`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ControlParams {
    run_id: RunId,
}

/// The parameters of `stop`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StopParams {
    run_id: RunId,
    #[serde(default)]
    graceful: bool,
    #[serde(default)]
    mode: StopMode,
}

/// Another way to say `graceful`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StopMode {
    #[default]
    Immediate,
    Graceful,
}

impl Call {
    /// The run, and whether it is that of an earlier start under the same key.
    async fn start(
        &self,
        caller: &Caller,
        params: Json,
        key: Option<String>,
        share: Share,
    ) -> Result<(CommandAnswer, bool), Problem> {
        let name = key.map(|key| start_key_name(&key, caller, &self.workflow));
        let bytes = params.as_str().len();
        let read = move || {
            let params = params.to_value();
            let key = name.map(|name| start_key(name, &params));
            (misspelt(&params), StartParams::read(params).map(|params| (params, key)))
        };
        let (misspelt, read) = self.app.node.work_on_json(&self.project.scope.tenant, bytes, read).await;
        let started = match read {
            Ok((params, key)) => self.start_with(caller, params, key, share).await,
            Err(refused) => Err(refused.into()),
        };
        let (run, is_repeat) = started.map_err(|problem| problem.with_hint(misspelt.as_deref()))?;
        Ok((CommandAnswer { warnings: misspelt.into_iter().collect(), ..CommandAnswer::from(run) }, is_repeat))
    }

    async fn start_with(
        &self,
        caller: &Caller,
        params: StartParams,
        key: Option<StartKey>,
        share: Share,
    ) -> Result<(RunSnapshot, bool), Problem> {
        let pat = caller.credential.pat().map(|pat| pat.to_string());
        let call = StartCall { params, trigger_type: "manual", user: Some(caller.user.to_string()), pat, key };
        let started = self.project.start_workflow(&self.app, &self.workflow, call, share).await?;
        let (run, is_repeat) = (started.snapshot.run, started.watcher.is_none());
        if self.wait.is_none() || started.snapshot.status.is_final() {
            return Ok((started.snapshot, is_repeat));
        }
        let (node, seen) = (&self.app.node, started.snapshot.clone());
        let waited = match started.watcher {
            Some(watcher) => self.waited(run, self.project.settled(node, watcher, started.snapshot)).await,
            None => self.waited(run, self.project.settled_after(node, run, 0)).await,
        };
        // The start was accepted: whoever waited has to learn which run it is, as it was seen last.
        let waited = waited.unwrap_or_else(|error| {
            tracing::error!(%run, %error, "a run was started, and what became of it cannot be read");
            seen
        });
        Ok((waited, is_repeat))
    }

    async fn control(&self, may: &May<RunWorkflows>, run: RunId, command: Command) -> Result<RunSnapshot, Problem> {
        let record = self.project.run_of(&self.workflow, run).await?;
        self.project.check_command(&record, command).await?;
        let is_graceful = matches!(command, Command::Stop { graceful: true });
        let details = json!({ "workflow_id": self.workflow, "graceful": is_graceful });
        let entry = Entry { action: action(command), target: record.run.to_string(), details };
        note(&self.app, &may.caller, &may.place, entry).await?;
        self.project.command_at(&self.app.node, &record, command).await?;
        match self.wait {
            None => Ok(self.project.run(record.run).await?.into()),
            Some(_) => {
                let settled = self.project.settled_after(&self.app.node, record.run, record.last_seq);
                Ok(self.waited(record.run, settled).await?)
            }
        }
    }

    /// What the run is in the end, or when the time is over.
    async fn waited(
        &self,
        run: RunId,
        settled: impl Future<Output = Result<RunSnapshot, OperationError>>,
    ) -> Result<RunSnapshot, OperationError> {
        let wait = self.wait.unwrap_or_default();
        let settled = time::timeout(wait, self.app.draining.run_until_cancelled(settled)).await;
        match settled {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) | Err(_) => self.project.snapshot(self.project.run(run).await?).await,
        }
    }
}

fn action(command: Command) -> &'static str {
    match command {
        Command::Pause => "run.pause",
        Command::Resume => "run.resume",
        Command::Stop { .. } => "run.stop",
        Command::Retry => "run.retry",
    }
}

/// Writes into the audit log what is asked of a run, before it is done: so nothing is done that no line tells. A start is not
/// written: the run itself names who started it, with which token, and a row here would cost each start a commit more.
pub(super) async fn note(app: &App, caller: &Caller, place: &InProject, entry: Entry) -> Result<(), Problem> {
    let now = app.database().time().as_micros();
    let mut tx = app.database().begin().await?;
    audit::record(&mut tx, &place.tenant.tenant, caller, entry, now).await?;
    tx.commit().await?;
    Ok(())
}

/// The header `Idempotency-Key`.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        let error = format!("`Idempotency-Key` is 1 to {KEY_BYTES_MAX} printable ASCII characters");
        Problem::new(StatusCode::BAD_REQUEST, "INVALID_IDEMPOTENCY_KEY", error)
    })
}

/// The key of one caller for one workflow: what others choose does not meet it.
fn start_key_name(key: &str, caller: &Caller, workflow: &WorkflowId) -> String {
    format!("{}:{workflow}:{key}", caller.user)
}

fn start_key(name: String, params: &Value) -> StartKey {
    StartKey { name, digest: sha256_hex(&canonical_text(params)), keep: KEY_KEPT }
}

/// `30s`, `500ms`, `1m`.
fn duration(text: &str) -> Result<Duration, Problem> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..digits].parse::<u64>().ok();
    let millis = match &text[digits..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        _ => None,
    };
    let duration = number.zip(millis).and_then(|(number, unit)| number.checked_mul(unit)).map(Duration::from_millis);
    duration.filter(|duration| *duration <= WAIT_MAX).ok_or_else(|| {
        Problem::query("wait", format!("it is a time such as `30s` or `500ms`, at most `{}s`", WAIT_MAX.as_secs()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_short_and_has_a_unit() {
        let read = |text| duration(text).ok();
        assert_eq!(read("30s"), Some(Duration::from_secs(30)));
        assert_eq!(read("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(read("1m"), Some(WAIT_MAX));
        for wrong in ["", "s", "30", "61s", "2m", "-1s", "1h", "18446744073709551615m", "1.5s"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
