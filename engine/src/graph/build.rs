//! From a draft without errors to a graph: ids become positions.

use super::{
    issue::Issue,
    model::{Graph, Step},
    parse::{Draft, Links, StepDraft},
};
use agentruntime_host_api::Json;
use std::{collections::HashSet, sync::Arc};

impl Draft {
    /// The graph, or every error that keeps it from being one.
    pub(crate) fn into_graph(self) -> Result<Graph, Vec<Issue>> {
        let (Some(links), Some((canonical, hash)), true) = (self.links, self.canonical, self.report.is_valid()) else {
            return Err(self.report.into_issues().into_iter().filter(Issue::is_error).collect());
        };
        let mut dependents = vec![Vec::new(); self.steps.len()];
        for (index, dependencies) in links.depends_on.iter().enumerate() {
            for dependency in dependencies {
                dependents[*dependency].push(index);
            }
        }
        let ids: Vec<_> = self.steps.iter().map(|step| step.id.clone()).collect();
        let mut steps = Vec::with_capacity(self.steps.len());
        for (index, (draft, dependents)) in self.steps.into_iter().zip(dependents).enumerate() {
            let readable = readable(index, &ids, &draft, &links);
            // A step without a kind is an error, and there are none.
            steps.extend(step(draft, links.depends_on[index].clone(), dependents, readable));
        }
        Ok(Graph {
            name: self.name,
            description: self.description,
            input_schema: self.input_schema,
            failure_policy: self.failure_policy,
            steps,
            topological_order: links.order.sorted,
            canonical: Json::parse(canonical).unwrap_or_else(|_| Json::null()),
            hash,
        })
    }
}

/// The ancestors whose results the step can read.
fn readable(index: usize, ids: &[Arc<str>], draft: &StepDraft, links: &Links) -> Vec<usize> {
    let allowed: Option<HashSet<&str>> =
        draft.input_allowlist.as_ref().map(|allowed| allowed.iter().map(|(id, _)| id.as_str()).collect());
    let is_allowed = |id: &str| allowed.as_ref().is_none_or(|allowed| allowed.contains(id));
    let is_ancestor = |other: &usize| links.order.is_ancestor(*other, index) == Some(true);
    (0..ids.len()).filter(|other| is_allowed(&ids[*other]) && is_ancestor(other)).collect()
}

fn step(draft: StepDraft, depends_on: Vec<usize>, dependents: Vec<usize>, readable: Vec<usize>) -> Option<Step> {
    Some(Step {
        id: draft.id,
        name: draft.name,
        depends_on,
        dependents,
        readable,
        enabled: draft.enabled,
        condition: draft.condition,
        skip_when: draft.skip_when,
        no_auto_start: draft.no_auto_start,
        terminal: draft.terminal,
        conduct: draft.conduct,
        kind: draft.kind?,
    })
}
