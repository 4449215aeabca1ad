//! `tasks` and `task complete`: what runs ask, and answering it.

use super::{
    Ending,
    arguments::CompleteArguments,
    context::Context,
    follow::{self, Following},
    json_argument, screen,
};
use crate::operations::{Answer, Waiting};
use agentruntime_engine::store::TaskRecord;
use agentruntime_host_api::Json;
use serde_json::{Map, Value, json};

/// Lists the questions that wait for an answer.
pub(crate) async fn tasks(context: &Context, run: Option<&str>) -> anyhow::Result<Ending> {
    let project = context.project().await?;
    let tasks = match run {
        Some(run) => project.tasks_below(project.find_run(run).await?.run).await?,
        None => project.pending_tasks(None).await?,
    };
    if context.json {
        screen::json_line(&tasks.iter().map(public).collect())?;
    } else if tasks.is_empty() {
        screen::print("nothing waits for a person\n")?;
    } else {
        screen::print(&follow::waiting_text(context, &Waiting { tasks, paused: Vec::new() }))?;
    }
    project.store.close().await;
    Ok(Ending::Done)
}

/// Answers a question and follows the run: the topmost, where the one that asked is a child.
pub(crate) async fn complete(context: &Context, arguments: CompleteArguments) -> anyhow::Result<Ending> {
    let fields = match &arguments.result {
        Some(text) => json_argument::read_object("--result", text)?,
        None => Map::new(),
    };
    let answer = Answer { approved: arguments.approve, result: Json::from(Value::Object(fields)) };
    let project = context.project().await?;
    let asking = project.find_run(&arguments.run).await?;
    let task = project.find_task(asking.run, &arguments.step).await?;
    project.complete_task(&task, answer).await?;
    let ancestors = project.ancestors(task.run).await?;
    let is_child = !ancestors.is_empty();
    let top = project.run(ancestors.last().copied().unwrap_or(task.run)).await?;
    // A child's answer need not change its parent at once.
    let following = Following { expects_change: !is_child, ..Following::from(top.run, top.last_seq) };
    follow::follow(context, context.workshop(project)?, following).await
}

/// A question as programs read it.
pub(crate) fn public(task: &TaskRecord) -> Value {
    let mut public = json!({
        "task_id": task.task,
        "run_id": task.run,
        "step_id": task.step.to_string(),
        "task_type": task.task_type,
        "task_payload": task.payload.to_value(),
        "created_at": task.created_at.to_string(),
    });
    if let Some(due) = task.due {
        public["expires_at"] = due.to_string().into();
    }
    public
}
