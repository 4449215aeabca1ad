//! The step types that stand at the top only: `for_each`, `while`, `human_task`, `workflow_call`, `sleep`.

use super::{
    Sink,
    fields::{Fields, type_name},
    leaf::{ScriptUse, empty_object, object_or_template, script},
    step::body_steps,
};
use crate::graph::{
    issue::IssueCode,
    limits::{ID_CHARS_MAX, ITERATIONS_MAX, MAX_PARALLEL_DEFAULT, MAX_PARALLEL_MAX, WAIT_S_MAX},
    model::*,
    report::Role,
    template::Template,
};
use agentruntime_host_api::{Timestamp, WorkflowId};
use serde_json::Value;

/// The step of a type that is no leaf, or nothing where there is no such type.
pub(super) fn composite(kind: &str, fields: &mut Fields<'_, '_>) -> Option<StepKind> {
    Some(match kind {
        "for_each" => StepKind::ForEach(for_each(fields)),
        "while" => StepKind::While(while_loop(fields)),
        "human_task" => StepKind::HumanTask(human_task(fields)),
        "workflow_call" => StepKind::WorkflowCall(workflow_call(fields)),
        "sleep" => StepKind::Sleep(sleep(fields)),
        _ => return None,
    })
}

fn for_each(fields: &mut Fields<'_, '_>) -> ForEach {
    let items =
        fields.template_in_role("for_each_items", Role::Items).unwrap_or_else(|| Template::constant(Value::Null));
    if let Some(value) = fields.get("for_each_items").filter(|_| !may_be_list(&items)) {
        let found = if value.is_string() { "a text that is never a list" } else { type_name(value) };
        let issue = fields.place.key("for_each_items").error(
            IssueCode::ForEachItemsInvalid,
            format!("`for_each_items` is a list, or one template that resolves to a list; this is {found}"),
        );
        fields.sink.report.push(issue.suggest("write a single template such as `{{ steps.load.result.items }}`"));
    }
    let policies = [
        ("fail_fast", ForEachErrorPolicy::FailFast),
        ("continue_on_error", ForEachErrorPolicy::ContinueOnError),
        ("pause", ForEachErrorPolicy::Pause),
        ("human_review", ForEachErrorPolicy::HumanReview),
    ];
    let parallel = fields.whole("for_each_max_parallel", 1..=MAX_PARALLEL_MAX).unwrap_or(MAX_PARALLEL_DEFAULT);
    ForEach {
        items,
        body: body_steps(fields, "for_each_body_steps"),
        max_parallel: usize::try_from(parallel).unwrap_or(1),
        error_policy: fields.choice("for_each_error_policy", &policies).unwrap_or_default(),
    }
}

/// Whether a list, null or an empty object can come out: the last two are no items.
fn may_be_list(items: &Template) -> bool {
    let may_be = |value: &Value| match value {
        Value::Null | Value::Array(_) => true,
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    match (items.as_constant(), items.default_value()) {
        (Some(constant), _) => may_be(constant),
        (None, Some(default)) => may_be(default),
        (None, None) => items.is_list() || items.is_single_path(),
    }
}

fn while_loop(fields: &mut Fields<'_, '_>) -> While {
    let mode = fields.choice("while_mode", &[("until", WhileMode::Until), ("while", WhileMode::While)]);
    let iterations = fields.whole("while_max_iterations", 1..=ITERATIONS_MAX).unwrap_or(1);
    let condition = fields.condition("while_condition", Role::LoopTest);
    let test = if fields.has("while_eval_script") {
        if fields.has("while_condition") {
            let message = "`while_eval_script` decides, so `while_condition` is never asked";
            let issue = fields.place.key("while_condition").warning(IssueCode::StepConfigIgnored, message);
            fields.sink.report.push(issue);
        }
        WhileTest::Script(script(fields, "while_eval_script", ScriptUse::LoopTest))
    } else {
        if fields.get_raw("while_condition").is_none() {
            let issue = fields.place.error(IssueCode::GraphSchemaValidation, "nothing says when the loop ends");
            fields.sink.report.push(issue.suggest("give `while_condition` or `while_eval_script`"));
        }
        WhileTest::Condition(condition.unwrap_or_default())
    };
    While {
        mode: mode.unwrap_or(WhileMode::Until),
        max_iterations: u32::try_from(iterations).unwrap_or(1),
        body: body_steps(fields, "while_body_steps"),
        test,
    }
}

fn human_task(fields: &mut Fields<'_, '_>) -> HumanTask {
    HumanTask {
        task_type: fields.name("task_type").unwrap_or_default().into(),
        payload: fields.template("task_payload").unwrap_or_else(empty_object),
        continue_on_reject: fields.choice("on_reject", &[("stop", false), ("continue", true)]).unwrap_or(false),
    }
}

fn workflow_call(fields: &mut Fields<'_, '_>) -> WorkflowCall {
    let workflow = fields.name("workflow_id").unwrap_or_default();
    let is_fit = workflow.chars().count() <= ID_CHARS_MAX
        && workflow.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':'));
    if !is_fit {
        let message =
            format!("`workflow_id` is an id of at most {ID_CHARS_MAX} characters: letters, digits and _ - . / :");
        fields.error("workflow_id", IssueCode::ValueOutOfRange, message);
    }
    let input = fields.template("input").unwrap_or_else(empty_object);
    object_or_template(fields, "input", &input);
    WorkflowCall {
        workflow: WorkflowId::new(workflow),
        version: fields.whole("version", 1..=u64::from(u32::MAX)).and_then(|version| u32::try_from(version).ok()),
        input,
    }
}

fn sleep(fields: &mut Fields<'_, '_>) -> Sleep {
    match (fields.has("duration_s"), fields.has("until")) {
        (false, false) => fields.require("duration_s", "a `sleep` without `until`"),
        (true, true) => {
            fields.error(
                "until",
                IssueCode::StepConfigConflict,
                "`duration_s` and `until` both say how long; keep one",
            );
        }
        (true, false) | (false, true) => {}
    }
    let until = fields.template("until");
    check_until(fields);
    if fields.get("duration_s").is_some_and(|value| !value.is_string()) {
        fields.number("duration_s", 0.0..=WAIT_S_MAX as f64);
    }
    let duration = fields.template("duration_s");
    if duration.as_ref().is_some_and(|duration| duration.as_constant().is_some_and(Value::is_string)) {
        fields.error("duration_s", IssueCode::GraphSchemaValidation, "`duration_s` is a number or a template");
    }
    match (duration, until) {
        (Some(duration), _) => Sleep::Duration(duration),
        (None, Some(until)) => Sleep::Until(until),
        (None, None) => Sleep::Duration(Template::constant(0.into())),
    }
}

fn check_until(fields: &mut Fields<'_, '_>) {
    let Some(text) = fields.text("until") else { return };
    if !text.contains("{{")
        && let Err(error) = text.parse::<Timestamp>()
    {
        fields.error("until", IssueCode::ValueOutOfRange, format!("`until`: {error}"));
    }
}

impl Sink {
    /// Whether nothing more is worth looking for.
    pub(super) fn is_full(&self) -> bool {
        self.report.is_full()
    }
}
