//! `show`: one run as a picture.

use super::{Ending, context::Context, desk::Desk, drawing, runs, screen};
use crate::operations::{
    RunSource, Timeline,
    timeline::{Standing, type_of},
};
use agentruntime_engine::store::RunRecord;
use serde_json::{Value, json};

pub(crate) async fn show(context: &Context, run: &str) -> anyhow::Result<Ending> {
    let desk = context.desk().await?;
    let record = desk.find_run(run).await?;
    let timeline = desk.timeline(&record).await?;
    let record = desk.run(record.run).await?;
    let text = if context.json {
        format!("{}\n", public(&desk, &record, &timeline).await?)
    } else {
        let tasks = desk.tasks_below(record.run).await?;
        let names = desk.names([&record.workflow]).await?;
        drawing::draw(context, &record, names.of(&record.workflow), &timeline, tasks)
    };
    desk.close().await;
    screen::print(&text)?;
    Ok(Ending::Done)
}

async fn public(desk: &Desk, record: &RunRecord, timeline: &Timeline) -> anyhow::Result<Value> {
    let state = &timeline.state;
    let mut public = runs::public(record);
    public["input"] = state.input.value().clone();
    public["outputs"] = state.end.as_ref().and_then(|end| end.as_ref().ok()).map_or(Value::Null, |it| it.to_value());
    public["steps"] =
        timeline.order().map(|(index, step)| step_public(timeline, index, &step.id, type_of(step))).collect();
    let tasks = desk.tasks_below(record.run).await?;
    public["tasks"] = tasks.iter().map(super::tasks::public).collect();
    Ok(public)
}

fn step_public(timeline: &Timeline, index: usize, id: &str, kind: &str) -> Value {
    let times = &timeline.times[index];
    let standing = timeline.standing(index);
    let mut public = json!({ "step_id": id, "type": kind, "state": word(standing) });
    if let Standing::Skipped(reason) = standing {
        public["reason"] = json!(reason);
    }
    if timeline.state.steps[index].attempt > 0 {
        public["attempt"] = timeline.state.steps[index].attempt.into();
    }
    if let Some(first) = times.spans.first() {
        public["started_at"] = first.from.to_string().into();
    }
    if let Some(to) = times.spans.last().and_then(|span| span.to) {
        public["finished_at"] = to.to_string().into();
    }
    if let Some(progress) = timeline.progress(index) {
        public["iterations"] = json!({ "done": progress.done, "total": progress.total, "failed": progress.failed });
    }
    if let Some(error) = timeline.error(index) {
        public["error"] = json!(error);
    }
    if let Some(result) = timeline.state.steps[index].result() {
        public["result"] = result.value().clone();
    }
    public
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Waiting => "waiting",
        Standing::Running => "running",
        Standing::Retrying(_) => "retrying",
        Standing::Asking => "waiting_for_person",
        Standing::Calling(_) => "waiting_for_child",
        Standing::Sleeping(_) => "sleeping",
        Standing::Completed => "completed",
        Standing::Rejected => "rejected",
        Standing::Skipped(_) => "skipped",
        Standing::Recovered => "recovered",
        Standing::Failed => "failed",
        Standing::Cancelled => "cancelled",
    }
}
