//! `trigger`: a run of a workflow that was published before.

use super::{
    Ending,
    arguments::TriggerArguments,
    context::{Context, Workshop},
    desk::Desk,
    failure::Refusal,
    follow::{self, Following},
    json_argument, screen, style,
};
use crate::{
    client::{Server, StartRun, Started},
    operations::{OperationError, Project, RunSource},
};
use agentruntime_engine::node::StartRequest;
use agentruntime_host_api::{Json, WorkflowId};
use serde_json::json;

pub(crate) async fn trigger(context: &Context, arguments: TriggerArguments) -> anyhow::Result<Ending> {
    let wait = arguments.wait;
    let start = StartRun {
        input: arguments.input.as_deref().map(|text| json_argument::read("the input", text)).transpose()?,
        trigger_steps: match &arguments.trigger_steps {
            Some(text) => Some(json_argument::read_object("--trigger-steps", text)?),
            None => None,
        },
        excluded_step_ids: arguments.exclude,
        version: arguments.version,
        idempotency_key: arguments.idempotency_key,
    };
    match context.desk().await? {
        Desk::Here(project) => here(context, project, &arguments.workflow, start, wait).await,
        Desk::Server(server) => at_server(context, server, &arguments.workflow, start, wait).await,
    }
}

/// A folder's runs go on only while a command works on it: there, a start is always followed.
async fn here(
    context: &Context,
    project: Project,
    workflow: &str,
    start: StartRun,
    wait: bool,
) -> anyhow::Result<Ending> {
    if start.idempotency_key.is_some() {
        let message = "only a server keeps idempotency keys; here, `agentruntime run --run-id UUID` starts a run once";
        return Err(Refusal::new("SERVER_ONLY", message).into());
    }
    let input = start.input.map_or_else(Json::empty_object, Json::from);
    let mut request = StartRequest::new(WorkflowId::new(workflow), input);
    request.trigger_steps = start.trigger_steps.unwrap_or_default();
    request.excluded_step_ids = start.excluded_step_ids;
    request.version = start.version;
    let node = context.node(&project, context.sandbox()?);
    let run = project.start(&node, request).await?;
    let workshop = Workshop { desk: Desk::Here(project), node: Some(node) };
    if wait || context.is_alone() {
        return follow::follow(context, workshop, Following::from(run, 0)).await;
    }
    let record = workshop.desk.run(run).await?;
    let started = Started {
        run_id: run,
        status: record.status,
        workflow_id: record.workflow.to_string(),
        version: record.version,
        started_at: record.started_at.to_string(),
    };
    tell(context, &started, false)?;
    workshop.close().await?;
    Ok(Ending::Done)
}

async fn at_server(
    context: &Context,
    server: Box<Server>,
    workflow: &str,
    start: StartRun,
    wait: bool,
) -> anyhow::Result<Ending> {
    let Some(found) = server.find_workflow(workflow).await? else {
        return Err(OperationError::UnknownWorkflow(workflow.to_owned()).into());
    };
    let (started, is_repeated) = server.start(&found.id, start).await?;
    if wait {
        let workshop = context.workshop(Desk::Server(server))?;
        return follow::follow(context, workshop, Following::from(started.run_id, 0)).await;
    }
    tell(context, &started, is_repeated)?;
    Ok(Ending::Done)
}

/// Tells of a run that goes on without this command.
fn tell(context: &Context, started: &Started, is_repeated: bool) -> anyhow::Result<()> {
    let run = started.run_id.to_string();
    if context.json {
        screen::json_line(&json!({
            "run_id": run,
            "status": started.status,
            "workflow_id": started.workflow_id,
            "version": started.version,
            "started_at": started.started_at,
            "is_repeated": is_repeated,
        }))?;
        return Ok(());
    }
    let how = if is_repeated { "was started before" } else { "started" };
    screen::print(&format!("run {run} {how}\n"))?;
    screen::show(&format!("{} {}\n", style::faint("follow it:"), context.command(&["logs", &run, "-f"])))?;
    Ok(())
}
