//! `version approve` and `version reject`, and how a version that waits for it is told.

use super::{Ending, arguments::DecideArguments, context::Context, failure::Refusal, screen, style};
use crate::{
    client::Decide,
    operations::{
        OperationError,
        approvals::{ApprovalState, Verdict},
    },
};
use agentruntime_engine::graph::GrantRef;
use serde_json::json;

/// Approves a version that asks for more than the one in use, or rejects it.
pub(crate) async fn decide(context: &Context, verdict: Verdict, arguments: DecideArguments) -> anyhow::Result<Ending> {
    let Some(server) = context.server() else {
        let message =
            "only a server has versions that wait for an approval; here, each is used as soon as it is published";
        return Err(Refusal::new("SERVER_ONLY", message).into());
    };
    let Some(workflow) = server.find_workflow(&arguments.workflow).await? else {
        return Err(OperationError::UnknownWorkflow(arguments.workflow).into());
    };
    let decide = Decide { version: arguments.number, verdict, comment: arguments.comment };
    let decided = server.decide_version(&workflow.id, decide).await?;
    if context.json {
        screen::json_line(&json!({
            "workflow_id": workflow.id,
            "version": decided.version,
            "approval": decided.approval,
            "new_grants": decided.new_grants,
        }))?;
        return Ok(Ending::Done);
    }
    let what = format!("{} version {} {}", style::strong(&workflow.name), decided.version, decided.approval);
    screen::print(&format!("{what}\n{}", grants(&decided.new_grants)))?;
    Ok(Ending::Done)
}

/// What a version that was published waits for, and how it is let go on.
pub(super) fn waiting(context: &Context, workflow: &str, version: u32, new_grants: &[GrantRef]) -> String {
    let approve = context.command(&["version", "approve", workflow, &version.to_string()]);
    format!(
        "it is not started before an admin of the project approves what it newly asks for:\n{}{} {approve}\n",
        grants(new_grants),
        style::faint("approve it:")
    )
}

/// How a version stands, beside its number: nothing where it may be used.
pub(super) fn state(state: ApprovalState) -> String {
    let words = match state {
        ApprovalState::Approved => return String::new(),
        ApprovalState::Pending => "waits for an approval",
        ApprovalState::Rejected => "rejected",
    };
    format!("{}  ", style::attention(words))
}

fn grants(new_grants: &[GrantRef]) -> String {
    let place = |it: &GrantRef| match &it.parent {
        Some(parent) => format!("step {} of {parent}", it.id),
        None => format!("step {}", it.id),
    };
    new_grants.iter().map(|it| format!("  {}  {}\n", it.grant, style::faint(&place(it)))).collect()
}
