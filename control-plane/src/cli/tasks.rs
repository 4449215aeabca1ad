//! `tasks` and `task complete`: what runs ask, and answering it.

use super::{
    Ending,
    arguments::{ApproveArguments, CompleteArguments},
    context::Context,
    desk::Desk,
    failure::Refusal,
    follow::{self, Following},
    json_argument, screen, style, workspace,
};
use crate::operations::{Answer, RunSource, Waiting, fits, named};
use agentruntime_engine::store::TaskRecord;
use serde_json::{Map, Value, json};
use std::io::{self, BufRead, IsTerminal};

/// A part of a task's id that is shorter says nothing.
const TASK_PART_CHARS_MIN: usize = 4;

/// What named a question on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NamedBy {
    /// Its own id: it is the one that was read.
    Itself,
    /// The run, perhaps with the step: what that asks by now may be another question than the one that was read.
    ItsRun,
}

/// Lists the questions that wait for an answer.
pub(crate) async fn tasks(context: &Context, run: Option<&str>) -> anyhow::Result<Ending> {
    let desk = context.desk().await?;
    let tasks = match run {
        Some(run) => desk.tasks_below(desk.find_run(run).await?.run).await?,
        None => desk.pending_tasks(None).await?,
    };
    if context.json {
        screen::json_line(&tasks.iter().map(public).collect())?;
    } else if tasks.is_empty() {
        screen::print(&workspace::nothing(context, &desk, "nothing waits for a person").await?)?;
    } else {
        screen::print(&follow::waiting_text(context, &Waiting { tasks, paused: Vec::new() }))?;
    }
    desk.close().await;
    Ok(Ending::Done)
}

/// Answers a question that a run asks at a step.
pub(crate) async fn complete(context: &Context, arguments: CompleteArguments) -> anyhow::Result<Ending> {
    let answer = answer(arguments.approve, arguments.result.as_deref())?;
    let desk = context.desk().await?;
    let asking = desk.find_run(&arguments.run).await?;
    let task = desk.find_task(asking.run, &arguments.step).await?;
    give(context, desk, &task, answer).await
}

/// Answers a question that is named by itself, or by the run that asks it.
pub(crate) async fn approve(context: &Context, arguments: ApproveArguments) -> anyhow::Result<Ending> {
    let answer = answer(!arguments.reject, arguments.result.as_deref())?;
    let desk = context.desk().await?;
    let (task, named_by) = match &arguments.step {
        Some(step) => (desk.find_task(desk.find_run(&arguments.subject).await?.run, step).await?, NamedBy::ItsRun),
        None => only_task(&desk, &arguments.subject).await?,
    };
    // Programs read the events, in which the question and its answer are.
    if named_by == NamedBy::ItsRun && !context.json {
        show_and_ask(&task, answer.approved)?;
    }
    give(context, desk, &task, answer).await
}

/// Shows the question that is answered, and lets whoever sits at a terminal say whether it is the one that they mean. A script
/// has said what it means; what it answered is on its screen.
fn show_and_ask(task: &TaskRecord, approved: bool) -> anyhow::Result<()> {
    screen::show(&follow::question(task))?;
    let word = if approved { "yes" } else { "no" };
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Ok(screen::show(&format!("  {} {word}\n", style::faint("answer:")))?);
    }
    screen::show(&format!("  answer {} to this? [y/N] ", style::strong(word)))?;
    if agrees(&mut io::stdin().lock())? {
        return Ok(());
    }
    let message = format!("nothing was answered; `agentruntime tasks {}` lists what the run asks", task.run);
    Err(Refusal::new("NOT_ANSWERED", message).into())
}

/// Whether the next line is a yes. No line is none.
fn agrees(typed: &mut impl BufRead) -> io::Result<bool> {
    let mut line = String::new();
    typed.read_line(&mut line)?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn answer(approved: bool, result: Option<&str>) -> anyhow::Result<Answer> {
    let fields = match result {
        Some(text) => json_argument::read_object("--result", text)?,
        None => Map::new(),
    };
    Ok(Answer::new(approved, fields)?)
}

/// The question with that id, or the only one of that run.
async fn only_task(desk: &Desk, subject: &str) -> anyhow::Result<(TaskRecord, NamedBy)> {
    let part = subject.to_ascii_lowercase();
    if part.len() >= TASK_PART_CHARS_MIN {
        let pending = desk.pending_tasks(None).await?;
        let named: Vec<TaskRecord> = pending.into_iter().filter(|task| fits(&task.task.to_string(), &part)).collect();
        if let Ok([task]) = <[TaskRecord; 1]>::try_from(named) {
            return Ok((task, NamedBy::Itself));
        }
    }
    let run = desk.find_run(subject).await?.run;
    let pending = desk.tasks_below(run).await?;
    match <[TaskRecord; 1]>::try_from(pending) {
        Ok([task]) => Ok((task, NamedBy::ItsRun)),
        Err(pending) if pending.is_empty() => {
            Err(Refusal::new("TASK_NOT_FOUND", format!("run {run} asks nothing")).into())
        }
        Err(pending) => {
            let asked: Vec<String> = pending.iter().map(named).collect();
            let message = format!("run {run} asks several questions: {}; name one after the run", asked.join(", "));
            Err(Refusal::new("TASK_AMBIGUOUS", message).into())
        }
    }
}

/// Answers a question and follows the run: the topmost, where the one that asked is a child.
async fn give(context: &Context, desk: Desk, task: &TaskRecord, answer: Answer) -> anyhow::Result<Ending> {
    // What is known of it before the answer: at a server, the run may be through before one could ask.
    let ancestors = desk.ancestors(task.run).await?;
    let is_child = !ancestors.is_empty();
    let top = desk.run(ancestors.last().copied().unwrap_or(task.run)).await?;
    desk.complete_task(task, answer).await?;
    // A child's answer need not change its parent at once.
    let following = Following { expects_change: !is_child, ..Following::from(top.run, top.last_seq) };
    let Some(workshop) = context.workshop(desk)? else { return context.tell_written_down(top.run) };
    follow::follow(context, workshop, following).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_one() {
        for (typed, agreed) in
            [("y\n", true), (" Yes \n", true), ("\n", false), ("", false), ("n\n", false), ("yesterday\n", false)]
        {
            assert_eq!(agrees(&mut typed.as_bytes()).unwrap(), agreed, "{typed:?}");
        }
    }
}
