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
    client::{ClientError, Server, StartRun, Started},
    operations::{OperationError, Project, RunSource},
};
use agentruntime_engine::{node::StartRequest, run::event::step_inputs};
use agentruntime_host_api::{Json, RunId, WorkflowId};
use serde_json::json;
use uuid::Uuid;

pub(crate) async fn trigger(context: &Context, arguments: TriggerArguments) -> anyhow::Result<Ending> {
    let wait = arguments.wait;
    let start = StartRun {
        input: arguments.start.input.as_deref().map(|text| json_argument::read("the input", text)).transpose()?,
        trigger_steps: match &arguments.start.trigger_steps {
            Some(text) => Some(json_argument::read_object("--trigger-steps", text)?),
            None => None,
        },
        excluded_step_ids: arguments.start.exclude,
        version: arguments.version,
        resume_from: None,
        from_step: arguments.start.from_step,
        idempotency_key: arguments.idempotency_key,
    };
    let desk = context.desk().await?;
    let resume_from = match &arguments.start.resume_from {
        Some(earlier) => Some(earlier_run(&desk, earlier).await?),
        None => None,
    };
    let start = StartRun { resume_from, ..start };
    match desk {
        Desk::Here(project) => here(context, project, &arguments.workflow, start, wait).await,
        Desk::Server(server) => at_server(context, server, &arguments.workflow, start, wait).await,
    }
}

/// The run that a person means. Its whole id need not be looked up, as not every token may look.
async fn earlier_run(desk: &Desk, text: &str) -> anyhow::Result<RunId> {
    match (desk, text.parse::<RunId>()) {
        (Desk::Server(_), Ok(run)) => Ok(run),
        _ => Ok(desk.find_run(text).await?.run),
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
    context.check_is_not_a_servers()?;
    if start.idempotency_key.is_some() {
        let message = "only a server keeps idempotency keys; here, `agentruntime run --run-id UUID` starts a run once";
        return Err(Refusal::new("SERVER_ONLY", message).into());
    }
    let mut request = StartRequest::new(WorkflowId::new(workflow), Json::empty_object());
    // Without an input, a run that takes results over takes the other's input over, too.
    request.input = match (start.input, start.resume_from) {
        (None, Some(_)) => None,
        (input, _) => Some(input.map_or_else(Json::empty_object, Json::from)),
    };
    request.resume_from = start.resume_from;
    request.from_step = start.from_step;
    request.trigger_steps = step_inputs(start.trigger_steps.unwrap_or_default());
    request.excluded_step_ids = start.excluded_step_ids;
    request.version = start.version;
    let node = context.node(&project, context.sandbox()?)?;
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
    let id = id(&server, workflow).await?;
    let started = server.start(&id, start).await;
    let (started, is_repeated) = started.map_err(|error| match error.is_refused_as("WORKFLOW_NOT_FOUND") {
        true => OperationError::UnknownWorkflow(workflow.to_owned()).into(),
        false => anyhow::Error::from(error),
    })?;
    if wait {
        let workshop = Workshop { desk: Desk::Server(server).patient(), node: None };
        let followed = follow::follow(context, workshop, Following::from(started.run_id, 0)).await;
        return followed.map_err(|error| unseen(error, &started));
    }
    tell(context, &started, is_repeated)?;
    Ok(Ending::Done)
}

/// The id of the workflow that a person means. One that is an id already is not looked up: who may start a run need not be
/// allowed to read.
async fn id(server: &Server, text: &str) -> anyhow::Result<String> {
    if let Ok(id) = text.parse::<Uuid>() {
        return Ok(id.to_string());
    }
    match server.find_workflow(text).await? {
        Some(workflow) => Ok(workflow.id),
        None => Err(OperationError::UnknownWorkflow(text.to_owned()).into()),
    }
}

/// A run that goes on, though this token may not follow it: starting it again would be a second run.
fn unseen(error: anyhow::Error, started: &Started) -> anyhow::Error {
    let may_not_read = error.downcast_ref::<ClientError>().is_some_and(|error| error.is_refused_as("SCOPE_MISSING"));
    if !may_not_read {
        return error;
    }
    let message = format!(
        "run {} was started and goes on, but this token may not read it (it lacks the scope `workflow:read`): leave --wait out, or \
         log in with a token that may",
        started.run_id
    );
    Refusal::new("SCOPE_MISSING", message).into()
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
