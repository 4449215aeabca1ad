//! From a draft without errors to a graph: ids become positions.

use super::{
    issue::Issue,
    model::{Graph, Step},
    parse::{Draft, Links, StepDraft},
};
use agentruntime_host_api::Json;

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
            let readable =
                (0..ids.len()).filter(|other| is_readable(*other, index, &ids[*other], &draft, &links)).collect();
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

fn is_readable(other: usize, index: usize, id: &str, draft: &StepDraft, links: &Links) -> bool {
    let is_allowed =
        draft.input_allowlist.as_ref().is_none_or(|allowed| allowed.iter().any(|(allowed, _)| allowed == id));
    is_allowed && links.order.is_ancestor(other, index) == Some(true)
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
