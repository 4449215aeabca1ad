//! The dry-run: everything that can be told of a graph without calling a tool or a model.
//!
//! Owns the answer's form and which checks it consists of. What keeps a graph from being read at all is found by the parser;
//! here follows what only warns, what needs a start payload, and what needs the sandbox.

mod connectors;
mod fixtures;
mod known_values;
mod options;
mod scripts;

use super::{
    issue::{Check, Issue},
    parse::{self, Draft},
    report::Report,
};
use agentruntime_host_api::Guest;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

pub use options::{DryRunOptions, DryRunParams};

/// What a dry-run answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DryRun {
    /// Whether the graph can be published: no issue is an error.
    pub valid: bool,
    /// Whether a run of it could be carried out here.
    pub readiness: Readiness,
    /// What was found, errors first.
    pub issues: Vec<Issue>,
    /// The questions that were asked.
    pub checks_performed: Vec<Check>,
    /// The steps in an order in which they could run, without those in or after a circle.
    pub topological_order: Vec<Arc<str>>,
    /// SHA-256 of the graph as it would be published, where it could be read.
    pub graph_hash: Option<String>,
}

/// Whether a run could be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Nothing stands in the way.
    Ready,
    /// An error does, or a step that this installation cannot carry out.
    Blocked,
}

/// Checks a document. Scripts are compiled, and run on made-up values where the options hold any, if there is a guest.
pub async fn validate(document: &Value, options: DryRunOptions, guest: Option<&dyn Guest>) -> DryRun {
    let mut draft = parse::read(document);
    let mut report = std::mem::take(&mut draft.report);
    connectors::check(&draft, &mut report);
    known_values::check(&draft, &options, &mut report);
    let mut performed = options.wanted();
    match guest {
        Some(guest) => scripts::check(&draft, &options, guest, &mut report).await,
        None => performed.retain(|check| !matches!(check, Check::LuaSyntax | Check::LuaFixture)),
    }
    if !options.has_fixtures() {
        performed.retain(|check| *check != Check::LuaFixture);
    }
    answer(&draft, report, &options, performed)
}

fn answer(draft: &Draft, report: Report, options: &DryRunOptions, checks_performed: Vec<Check>) -> DryRun {
    let is_wanted = |issue: &Issue| checks_performed.contains(&issue.code.check()) && is_about(issue, draft, options);
    let issues: Vec<Issue> = report.into_issues().into_iter().filter(is_wanted).collect();
    let valid = !issues.iter().any(Issue::is_error);
    let is_blocked = !valid || issues.iter().any(|issue| issue.code.blocks());
    let order = draft.links.iter().flat_map(|links| &links.order.sorted);
    DryRun {
        valid,
        readiness: if is_blocked { Readiness::Blocked } else { Readiness::Ready },
        issues,
        checks_performed,
        topological_order: order.map(|index| draft.steps[*index].id.clone()).collect(),
        graph_hash: draft.canonical.as_ref().map(|(_, hash)| hash.clone()),
    }
}

/// Whether an issue concerns the steps that were asked for. What concerns no step concerns all.
fn is_about(issue: &Issue, draft: &Draft, options: &DryRunOptions) -> bool {
    let (Some(ids), Some(position)) = (&options.step_ids, issue.top_step) else { return true };
    let top = draft.steps.iter().find(|step| step.place.top_step == Some(position)).map(|step| &*step.id);
    ids.iter().any(|id| Some(id.as_str()) == issue.step_id.as_deref() || Some(id.as_str()) == top)
}

#[cfg(test)]
mod tests;
