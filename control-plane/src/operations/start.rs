//! What a caller says about a start, and the start itself.
//!
//! Owns the reading of start parameters, whoever sends them, and how a workflow's defaults lie under them. What the graph
//! makes of them is the engine's.

use super::{OperationError, Project, RunSnapshot, drafts::RunSetup};
use crate::{access::field, app::App};
use agentruntime_engine::{
    node::{StartError, StartKey, StartRequest, Watcher},
    run::event::{StepInputs, step_inputs},
    store::StoreError,
};
use agentruntime_host_api::{Json, RunId, WorkflowId};
use futures_util::FutureExt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::sync::Arc;
use tracing::Instrument;

/// A `params` object with none of these is itself the input.
const TRIGGER_KEYS: [&str; 9] = [
    "trigger_payload",
    "trigger_steps",
    "excluded_step_ids",
    "use_run_setup_defaults",
    "version",
    "run_id",
    "external_user_id",
    "resume_from_run_id",
    "from_step_id",
];
/// The longest name that a caller gives its user: it is written on every row of a run, and searched.
const EXTERNAL_USER_CHARS_MAX: usize = 255;
/// So many slips of the fingers, and two names are probably one.
const MISSPELT_EDITS_MAX: usize = 2;
/// A parameter's name with fewer bytes is not looked for among an input's keys.
const MISSPELT_BYTES_MIN: usize = 12;
/// Keys of an input that are looked at: whoever misspells a parameter has few.
const KEYS_LOOKED_AT_MAX: usize = 64;
/// A longer key is no parameter's name.
const KEY_BYTES_LOOKED_AT_MAX: usize = 32;
/// Steps that one start may name: more than any graph has.
const NAMED_STEPS_MAX: usize = 10_000;

/// The parameters of a start.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StartParams {
    /// The input. It may be large, and is text until somebody looks into it.
    pub(crate) trigger_payload: Option<Json>,
    /// Per-step input, which also lets `no_auto_start` roots run.
    pub(crate) trigger_steps: Option<StepInputs>,
    /// Roots left out.
    pub(crate) excluded_step_ids: Option<Vec<String>>,
    /// Whether the workflow's `run_setup` lies under these.
    pub(crate) use_run_setup_defaults: bool,
    /// A version; the one in use where none is named.
    pub(crate) version: Option<u32>,
    /// An id chosen by the caller.
    pub(crate) run: Option<RunId>,
    /// The caller's own name for its user.
    pub(crate) external_user_id: Option<String>,
    /// A run whose completed results are taken over.
    pub(crate) resume_from: Option<RunId>,
    /// The first step that is not taken over.
    pub(crate) from_step: Option<String>,
}

impl StartParams {
    /// Reads `params`: an object, or nothing.
    pub(crate) fn read(params: Value) -> Result<Self, OperationError> {
        let mut params = match params {
            Value::Null => Map::new(),
            Value::Object(params) => params,
            _ => return Err(invalid("params", "it is an object: the input, or the parameters of the start")),
        };
        let is_key = |key: &String| TRIGGER_KEYS.contains(&key.as_str());
        let Some(known) = params.keys().find(|key| is_key(key)) else {
            return Ok(Self { trigger_payload: Some(Value::Object(params).into()), ..Self::default() });
        };
        if let Some(other) = params.keys().find(|key| !is_key(key)) {
            return Err(mixed(known, other));
        }
        let read = Self {
            trigger_payload: take::<Value>(&mut params, "trigger_payload")?.map(Json::from),
            trigger_steps: take::<Map<String, Value>>(&mut params, "trigger_steps")?.map(step_inputs),
            excluded_step_ids: take(&mut params, "excluded_step_ids")?,
            use_run_setup_defaults: take(&mut params, "use_run_setup_defaults")?.unwrap_or_default(),
            version: take(&mut params, "version")?,
            run: take(&mut params, "run_id")?,
            external_user_id: take(&mut params, "external_user_id")?,
            resume_from: take(&mut params, "resume_from_run_id")?,
            from_step: take(&mut params, "from_step_id")?,
        };
        read.check()?;
        Ok(read)
    }

    fn check(&self) -> Result<(), OperationError> {
        if let Some(name) = &self.external_user_id {
            if name.chars().count() > EXTERNAL_USER_CHARS_MAX {
                let message = format!("it is longer than {EXTERNAL_USER_CHARS_MAX} characters");
                return Err(invalid("external_user_id", message));
            }
            field::check_visible(name).map_err(|message| invalid("external_user_id", message))?;
        }
        let excluded = self.excluded_step_ids.as_ref().map_or(0, Vec::len);
        if excluded.max(self.trigger_steps.as_ref().map_or(0, StepInputs::len)) > NAMED_STEPS_MAX {
            return Err(invalid("trigger_steps", format!("a start names at most {NAMED_STEPS_MAX} steps")));
        }
        // Written out by us: an object begins with its bracket.
        let not_object = |(step, inputs): (&String, &Json)| (!inputs.as_str().starts_with('{')).then(|| step.clone());
        match self.trigger_steps.iter().flatten().find_map(not_object) {
            Some(step) => Err(invalid("trigger_steps", format!("the inputs of the step `{step}` are no object"))),
            None => Ok(()),
        }
    }

    fn payload_bytes(&self) -> usize {
        self.trigger_payload.as_ref().map_or(0, |payload| payload.as_str().len())
    }

    /// The same with the workflow's defaults under them: what the start says wins, key by key.
    pub(crate) fn over(self, defaults: Self) -> Self {
        let both = |under: Option<Value>, over: Option<Value>, depth| match (under, over) {
            (Some(under), Some(over)) => Some(laid_over(under, over, depth)),
            (one, other) => other.or(one),
        };
        let payload = |under: Option<Json>, over: Option<Json>| match (under, over) {
            (Some(under), Some(over)) => Some(laid_over(under.to_value(), over.to_value(), 1).into()),
            (one, other) => other.or(one),
        };
        let object = |value| match value {
            Some(Value::Object(members)) => Some(members),
            _ => None,
        };
        Self {
            trigger_payload: payload(defaults.trigger_payload, self.trigger_payload),
            trigger_steps: object(both(defaults.trigger_steps.map(values), self.trigger_steps.map(values), 2))
                .map(step_inputs),
            excluded_step_ids: self.excluded_step_ids.or(defaults.excluded_step_ids),
            ..self
        }
    }

    /// What the engine is asked for. `trigger_type` says what starts the run.
    pub(crate) fn into_request(self, workflow: WorkflowId, trigger_type: &str) -> StartRequest {
        let mut request = StartRequest::new(workflow, Json::empty_object());
        // Without one, a run that takes results over takes the payload over, too.
        request.input = self.trigger_payload;
        request.version = self.version;
        request.run = self.run;
        request.trigger_steps = self.trigger_steps.unwrap_or_default();
        request.excluded_step_ids = self.excluded_step_ids.unwrap_or_default();
        request.trigger_type = trigger_type.to_owned();
        request.external_user_id = self.external_user_id;
        request.resume_from = self.resume_from;
        request.from_step = self.from_step;
        request
    }
}

fn values(given: StepInputs) -> Value {
    Value::Object(given.into_iter().map(|(step, inputs)| (step, inputs.to_value())).collect())
}

/// `over` with what only `under` has, down to a depth of objects in objects.
fn laid_over(under: Value, over: Value, depth: u32) -> Value {
    match (under, over) {
        (Value::Object(mut under), Value::Object(over)) if depth > 0 => {
            for (key, value) in over {
                let value = match under.remove(&key) {
                    Some(below) => laid_over(below, value, depth - 1),
                    None => value,
                };
                under.insert(key, value);
            }
            Value::Object(under)
        }
        (_, over) => over,
    }
}

fn take<T: DeserializeOwned>(params: &mut Map<String, Value>, key: &'static str) -> Result<Option<T>, OperationError> {
    match params.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            serde_json::from_value(value).map(Some).map_err(|_| invalid(key, format!("it should be {}", wanted(key))))
        }
    }
}

/// Says which key of an input was probably meant as a parameter of the start. Where none is a parameter, all of them are the
/// input, and an input may have any key: so it is said, and nothing is refused.
pub(crate) fn misspelt(params: &Value) -> Option<String> {
    let params = params.as_object()?;
    if params.keys().any(|key| TRIGGER_KEYS.contains(&key.as_str())) {
        return None;
    }
    let is_near = |key: &str, known: &str| strsim::damerau_levenshtein(key, known) <= MISSPELT_EDITS_MAX;
    let looked_at = params.keys().take(KEYS_LOOKED_AT_MAX).filter(|key| key.len() <= KEY_BYTES_LOOKED_AT_MAX);
    // Short names, such as `version`, have neighbours that are words of their own.
    let long = || TRIGGER_KEYS.iter().filter(|known| known.len() >= MISSPELT_BYTES_MIN);
    let (key, known) =
        looked_at.flat_map(|key| long().map(move |known| (key, known))).find(|(key, known)| is_near(key, known))?;
    Some(format!(
        "`{key}` was taken as part of the input, as no parameter of a start stands beside it; if `{known}` was meant, write that"
    ))
}

/// What a parameter holds.
fn wanted(key: &str) -> &'static str {
    match key {
        "trigger_steps" => "an object: the inputs of steps, by their ids",
        "excluded_step_ids" => "a list of steps' ids",
        "use_run_setup_defaults" => "`true` or `false`",
        "version" => "a whole number, a version of the workflow",
        "run_id" | "resume_from_run_id" => "a UUID, such as 0198c5a0-0000-7000-8000-000000000000",
        _ => "a string",
    }
}

/// Half an input: the rest would be lost silently.
fn mixed(known: &str, other: &str) -> OperationError {
    let message = format!(
        "`{known}` is a parameter of the start, and `{other}` is none; where one of them is a parameter, the input goes under `trigger_payload`"
    );
    invalid("params", message)
}

fn invalid(field: &'static str, message: impl Into<String>) -> OperationError {
    OperationError::InvalidParams { field, message: message.into() }
}

/// A start as the product understands it.
#[derive(Clone, Debug)]
pub(crate) struct StartCall {
    /// What the caller says.
    pub(crate) params: StartParams,
    /// What starts it: `manual`, `webhook`, `schedule`.
    pub(crate) trigger_type: &'static str,
    /// Who starts it.
    pub(crate) user: Option<String>,
    /// The token with which they do.
    pub(crate) pat: Option<String>,
    /// What makes it happen once.
    pub(crate) key: Option<StartKey>,
}

/// A run that was started.
pub(crate) struct Started {
    /// The run as it was when its start was durable; of a repeat, as it is now.
    pub(crate) snapshot: RunSnapshot,
    /// Tells what happens to it next; nothing where it was started before.
    pub(crate) watcher: Option<Watcher>,
}

impl Project {
    /// Starts a run of a live workflow. The same start under the same key again is answered with the first run. What the
    /// request holds is let go when the start is done, also where nobody waits for it any more.
    pub(crate) async fn start_workflow(
        &self,
        app: &Arc<App>,
        workflow: &WorkflowId,
        call: StartCall,
        held: impl Send + 'static,
    ) -> Result<Started, OperationError> {
        let live = self.live_workflow(workflow).await?;
        let params = match call.params.use_run_setup_defaults {
            true => {
                let (params, defaults) = (call.params, StartParams::from(live.run_setup()?));
                let bytes = params.payload_bytes() + defaults.payload_bytes();
                app.node.work_on_json(&self.scope.tenant, bytes, move || params.over(defaults)).await
            }
            false => call.params,
        };
        let mut request = params.into_request(workflow.clone(), call.trigger_type);
        request.version = self.version_to_start(&live, request.version).await?;
        request.user = call.user;
        request.pat = call.pat;
        request.keys.extend(call.key);
        match self.start_detached(app, request, held).await {
            Err(OperationError::Start(StartError::Repeated { run, same: true })) => {
                let snapshot = async { self.snapshot(self.run(run).await?).await };
                let snapshot = snapshot.await.map_err(|error| error.of_started(run))?;
                Ok(Started { snapshot, watcher: None })
            }
            other => other,
        }
    }

    /// Starts a run in a task of its own: a caller that hangs up does not leave a start half done. Lets go of what the request
    /// holds when it is done.
    pub(crate) async fn start_detached(
        &self,
        app: &Arc<App>,
        request: StartRequest,
        held: impl Send + 'static,
    ) -> Result<Started, OperationError> {
        let (project, app) = (self.clone(), app.clone());
        let start = async move {
            let started = project.start_watched(&app, request).await;
            drop(held);
            started
        }
        .in_current_span();
        // It is never aborted, so that it can only have panicked; where, is in the log.
        tokio::spawn(start).await.unwrap_or_else(|_| Err(OperationError::Panicked))
    }

    async fn start_watched(&self, app: &App, request: StartRequest) -> Result<Started, OperationError> {
        let (version, chosen, earlier) = (request.version, request.run, request.resume_from);
        let refused = |error| match (error, chosen, earlier) {
            (StartError::Store(StoreError::AlreadyExists), Some(run), _) => OperationError::RunExists(run),
            (StartError::Store(StoreError::NotFound), _, Some(run)) => OperationError::UnknownRun(run.to_string()),
            (StartError::Store(StoreError::NotFound), _, None) => invalid(
                "version",
                format!(
                    "the workflow has no version {}",
                    version.map_or_else(String::new, |version| version.to_string())
                ),
            ),
            (other, _, _) => other.into(),
        };
        let (run, mut watcher) = app.node.start_watched(&self.scope, request).await.map_err(refused)?;
        // What was committed with the start is told already; only a node that had no room told nothing.
        let told = watcher.next().now_or_never().flatten();
        let snapshot = match told.and_then(|events| RunSnapshot::begin(run, &events)) {
            Some(snapshot) => snapshot,
            None => self.run(run).await.map_err(|error| error.of_started(run))?.into(),
        };
        Ok(Started { snapshot, watcher: Some(watcher) })
    }
}

impl From<RunSetup> for StartParams {
    fn from(setup: RunSetup) -> Self {
        Self {
            trigger_payload: setup.trigger_payload,
            trigger_steps: setup.trigger_steps.map(step_inputs),
            excluded_step_ids: setup.excluded_step_ids,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_parameter_that_was_probably_meant_is_told_and_words_of_their_own_are_not() {
        let told = |params| misspelt(&params);
        for (key, meant) in [
            ("triger_payload", "`trigger_payload`"),
            ("trigger_paylod", "`trigger_payload`"),
            ("exluded_step_ids", "`excluded_step_ids`"),
            ("from_step_ids", "`from_step_id`"),
        ] {
            assert!(told(json!({ key: {} })).is_some_and(|sentence| sentence.contains(meant)), "{key}");
        }
        for key in ["versions", "run_ids", "payload", "name", "trigger_load"] {
            assert_eq!(told(json!({ key: {} })), None, "{key}");
        }
        // With a parameter beside it, it is refused anyway.
        assert_eq!(told(json!({ "triger_payload": {}, "version": 1 })), None);
        assert_eq!(told(json!(null)), None);
    }

    #[test]
    fn params_without_a_trigger_key_are_the_input() {
        let read = |params| StartParams::read(params).unwrap();
        assert_eq!(read(json!({ "name": "Ada" })).trigger_payload, Some(json!({ "name": "Ada" }).into()));
        assert_eq!(read(json!({})).trigger_payload, Some(Json::empty_object()));
        assert_eq!(read(Value::Null).trigger_payload, Some(Json::empty_object()));
        let with_key = read(json!({ "trigger_payload": { "name": "Ada", "version": 1 }, "version": 2 }));
        assert_eq!(
            (with_key.trigger_payload, with_key.version),
            (Some(json!({ "name": "Ada", "version": 1 }).into()), Some(2))
        );
    }

    #[test]
    fn parameters_mixed_with_an_input_are_refused_and_say_where_the_input_goes() {
        for params in [json!({ "name": "Ada", "version": 2 }), json!({ "trigger_payload": {}, "exclude_step_ids": [] })]
        {
            let refused = StartParams::read(params).unwrap_err().to_string();
            assert!(refused.contains("`trigger_payload`") && refused.starts_with("`params`"), "{refused}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let refused = |params, field| match StartParams::read(params) {
            Err(OperationError::InvalidParams { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{other:?}"),
        };
        refused(json!([1]), "params");
        refused(json!({ "version": "two" }), "version");
        refused(json!({ "run_id": "me" }), "run_id");
        refused(json!({ "trigger_steps": { "a": 1 } }), "trigger_steps");
        refused(json!({ "external_user_id": "x".repeat(256) }), "external_user_id");
        refused(json!({ "external_user_id": "ad\u{202e}nim" }), "external_user_id");
    }

    #[test]
    fn what_the_start_says_wins_over_the_defaults() {
        let read = |params| StartParams::read(params).unwrap();
        let defaults = read(json!({
            "trigger_payload": { "a": 1, "b": { "x": 1 } },
            "trigger_steps": { "one": { "n": 1, "m": 1 } },
            "excluded_step_ids": ["two"],
        }));
        let said = read(json!({
            "trigger_payload": { "b": { "y": 2 } },
            "trigger_steps": { "one": { "n": 2 }, "three": {} },
        }));
        let both = said.over(defaults);
        assert_eq!(both.trigger_payload, Some(json!({ "a": 1, "b": { "y": 2 } }).into()));
        let steps = json!({ "one": { "n": 2, "m": 1 }, "three": {} });
        assert_eq!(both.trigger_steps.map(values), Some(steps));
        assert_eq!(both.excluded_step_ids, Some(vec!["two".to_owned()]));
    }
}
