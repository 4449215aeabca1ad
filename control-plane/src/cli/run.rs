//! `run`: publish the graph, start a run, follow it.

use super::{
    Ending,
    arguments::RunArguments,
    context::{Context, Workshop},
    desk::Desk,
    failure::Refusal,
    follow::{self, Following},
    graph_file::GraphFile,
    json_argument, screen, style,
};
use crate::operations::{Answer, RunSource};
use agentruntime_engine::{
    graph::{BodyStep, ForEachErrorPolicy, Graph, StepKind},
    node::StartRequest,
    run::event::step_inputs,
};
use agentruntime_host_api::{Json, RunId};
use std::collections::HashMap;

pub(crate) async fn run(context: &Context, arguments: RunArguments) -> anyhow::Result<Ending> {
    let file = GraphFile::read(&arguments.graph)?;
    let workflow = file.workflow_id(arguments.workflow_id.as_deref())?;
    let input = arguments.start.input.as_deref().map(|text| json_argument::read("the input", text)).transpose()?;
    let answers = arguments.answer.iter().map(|text| json_argument::read_answer(text));
    let answers = answers.collect::<Result<HashMap<String, Answer>, Refusal>>()?;
    let mut request =
        StartRequest { input: input.map(Json::from), ..StartRequest::new(workflow.clone(), Json::empty_object()) };
    if let Some(text) = &arguments.start.trigger_steps {
        request.trigger_steps = step_inputs(json_argument::read_object("--trigger-steps", text)?);
    }
    request.run = arguments.run_id.map(RunId::from);
    request.excluded_step_ids = arguments.start.exclude;
    request.from_step = arguments.start.from_step;

    let project = context.project().await?;
    if let Some(earlier) = &arguments.start.resume_from {
        request.resume_from = Some(project.find_run(earlier).await?.run);
    }
    let sandbox = context.sandbox()?;
    let published = project.publish(sandbox.clone(), &workflow, file.document, None).await?;
    check_answers(&published.graph, &answers)?;
    if !context.json {
        screen::show(&style::issues(&published.warnings))?;
    }
    request.version = Some(published.version.version);
    let node = context.node(&project, sandbox)?;
    let run = project.start(&node, request).await?;
    let following = Following { answers, ..Following::from(run, 0) };
    follow::follow(context, Workshop { desk: Desk::Here(project), node: Some(node) }, following).await
}

/// An answer for a step that never asks is a typo, which would show only when the run waits.
fn check_answers(graph: &Graph, answers: &HashMap<String, Answer>) -> Result<(), Refusal> {
    let in_body = |body: &[BodyStep]| body.iter().any(|step| step.leaf.grants().asks());
    let asks = |kind: &StepKind| match kind {
        StepKind::HumanTask(_) => true,
        StepKind::Leaf(leaf) => leaf.grants().asks(),
        StepKind::ForEach(spec) => spec.error_policy == ForEachErrorPolicy::HumanReview || in_body(&spec.body),
        StepKind::While(spec) => in_body(&spec.body),
        StepKind::WorkflowCall(_) | StepKind::Sleep(_) => false,
    };
    let asking: Vec<&str> = graph.steps.iter().filter(|step| asks(&step.kind)).map(|step| &*step.id).collect();
    // A loop asks about one item: `loop[3].inner`.
    let known = |answer: &String| asking.iter().any(|id| answer == id || answer.starts_with(&format!("{id}[")));
    match answers.keys().find(|answer| !known(answer)) {
        None => Ok(()),
        Some(unknown) if asking.is_empty() => {
            let message = format!("--answer {unknown}: no step of this workflow asks a person");
            Err(Refusal::new("UNKNOWN_STEP", message))
        }
        Some(unknown) => {
            let message = format!("--answer {unknown}: no such step asks a person; these do: {}", asking.join(", "));
            Err(Refusal::new("UNKNOWN_STEP", message))
        }
    }
}
