//! Steps that reach outside, and steps that are switched off.

use crate::graph::{
    issue::{IssueCode, Place},
    model::{AgentCall, Leaf, McpCall, StepKind},
    parse::Draft,
    references::body_of,
    report::{Report, Role, TemplateText},
    template::Key,
};

/// Warns about what can only be told when a run reaches outside.
pub(super) fn check(draft: &Draft, report: &mut Report) {
    for (position, step) in draft.steps.iter().enumerate().filter(|(_, step)| step.enabled) {
        let Some(kind) = &step.kind else { continue };
        if let StepKind::Leaf(leaf) = kind {
            check_leaf(leaf, &step.place, report);
        }
        for inner in body_of(kind).iter().filter(|inner| inner.enabled) {
            let place = draft.inner_place(position, &inner.id);
            check_leaf(&inner.leaf, &place, report);
        }
    }
    check_disabled(draft, report);
}

fn check_leaf(leaf: &Leaf, place: &Place, report: &mut Report) {
    match leaf {
        Leaf::Lua(_) | Leaf::Llm(_) | Leaf::Agent(AgentCall { agent_id: None, .. }) => {}
        Leaf::Mcp(call) => check_tool(call, place, report),
        Leaf::Agent(AgentCall { agent_id: Some(_), .. }) => {
            let message = "agents are not registered here: the step would fail with DEPENDENCY_UNAVAILABLE";
            let issue = place.key("agent_id").warning(IssueCode::StepTypeUnavailable, message);
            report.push(issue.suggest("write the agent as the step's `agent`"));
        }
    }
}

fn check_tool(call: &McpCall, place: &Place, report: &mut Report) {
    if call.instance_id.is_none() && call.server_url.is_some() {
        let message = "which instance of this server is meant is looked up when the step runs; where there is none, it is \
                       called without credentials";
        report.push(place.key("server_url").warning(IssueCode::McpInstanceUnresolved, message));
    }
    let message = format!(
        "the input schema of `{}` cannot be had here, so its arguments are not checked",
        super::super::issue::shown(&call.tool_name)
    );
    report.push(place.key("tool_name").warning(IssueCode::McpToolInputSchemaUnavailable, message));
    let mut deferred: Vec<Vec<Key>> = call.tool_args.uses().into_iter().map(|found| found.at).collect();
    deferred.dedup();
    for at in deferred {
        let message = "this argument is known only when the step runs, and is checked then";
        report.push(place.key("tool_args").inside(&at).warning(IssueCode::McpToolArgDeferred, message));
    }
}

/// A step that is switched off counts as completed with `{}`: what reads more of it fails.
fn check_disabled(draft: &Draft, report: &mut Report) {
    for found in draft.templates.iter().filter(|found| matches!(found.role, Role::Setting | Role::Items)) {
        let TemplateText::Value(template) = &found.text else { continue };
        for path in template.uses() {
            let reads_result =
                path.path.root() == "steps" && path.path.segment(2) == Some("result") && path.path.segments.len() > 3;
            let id = path.path.segment(1).unwrap_or_default();
            let is_disabled = draft.steps.iter().any(|step| &*step.id == id && !step.enabled);
            if reads_result && is_disabled && !path.has_alternative {
                let message = format!("`{id}` is switched off, so `{}` does not resolve", path.path);
                let issue = found.place.inside(&path.at).warning(IssueCode::DisabledStepRead, message);
                report.push(issue.suggest(format!("give a default, as in `{{{{ {} | null }}}}`", path.path)));
            }
        }
    }
}
