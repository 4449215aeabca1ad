//! How steps hang together: unique ids, dependencies that lead somewhere, no circles.

use super::{InnerId, Links, StepDraft, step::cycle};
use crate::graph::{
    issue::{Issue, IssueCode, Place, shown},
    order::Order,
    report::Report,
};
use std::{collections::HashMap, sync::Arc};

/// Checks ids and dependencies of all steps and puts the steps in order.
pub(super) fn link(steps: &[StepDraft], inner_ids: &[InnerId], report: &mut Report) -> Links {
    let ids = Ids { steps, inner: inner_ids, positions: positions(steps, report) };
    ids.check_inner(report);
    let depends_on: Vec<Vec<usize>> = steps.iter().map(|step| ids.dependencies(step, report)).collect();
    let order = Order::of(&depends_on);
    for circle in &order.circles {
        let ids: Vec<&str> = circle.iter().map(|index| &*steps[*index].id).collect();
        report.push(cycle(&steps[circle[0]].place, &ids));
    }
    for (index, step) in steps.iter().enumerate() {
        ids.check_allowlist(index, &order, report);
        if step.no_auto_start && !depends_on[index].is_empty() {
            let message = "`no_auto_start` has no effect on a step that depends on others";
            report.push(step.place.key("no_auto_start").warning(IssueCode::StepConfigIgnored, message));
        }
    }
    Links { depends_on, order }
}

fn positions(steps: &[StepDraft], report: &mut Report) -> HashMap<Arc<str>, usize> {
    let mut positions: HashMap<Arc<str>, usize> = HashMap::new();
    let mut in_lua: HashMap<String, usize> = HashMap::new();
    for (index, step) in steps.iter().enumerate().filter(|(_, step)| !step.id.is_empty()) {
        let place = step.place.key("id");
        if let Some(first) = positions.get(&step.id) {
            let message = format!("the step at {} has the id `{}` already", steps[*first].place.path, shown(&step.id));
            report.push(place.error(IssueCode::DuplicateStepId, message));
            continue;
        }
        positions.insert(step.id.clone(), index);
        if let Some(first) = in_lua.insert(step.id.replace('-', "_"), index) {
            let message =
                format!("in Lua, `{}` and `{}` are the same once hyphens are underscores", step.id, steps[first].id);
            report.push(place.warning(IssueCode::LuaStepIdAmbiguous, message).suggest("read them as `steps[\"…\"]`"));
        }
    }
    positions
}

/// Every id and what it stands for.
struct Ids<'d> {
    steps: &'d [StepDraft],
    inner: &'d [InnerId],
    positions: HashMap<Arc<str>, usize>,
}

impl Ids<'_> {
    /// Inner ids are unique in their body, which is checked there, and equal no top-level id.
    fn check_inner(&self, report: &mut Report) {
        for inner in self.inner.iter().filter(|inner| self.positions.contains_key(&inner.id)) {
            let message = format!("`{}` is the id of a top-level step, too", shown(&inner.id));
            let issue = inner.place.key("id").error(IssueCode::DuplicateStepId, message);
            report.push(issue.suggest("give the inner step another id"));
        }
    }

    fn dependencies(&self, step: &StepDraft, report: &mut Report) -> Vec<usize> {
        let mut found = Vec::new();
        for (id, place) in &step.depends_on {
            match self.positions.get(id.as_str()) {
                Some(dependency) if found.contains(dependency) => {
                    let message = format!("`{}` stands here twice", shown(id));
                    report.push(place.warning(IssueCode::DependencyDuplicate, message));
                }
                Some(dependency) => found.push(*dependency),
                None if report.is_full() => break,
                None => report.push(self.missing(id, place)),
            }
        }
        found
    }

    fn check_allowlist(&self, index: usize, order: &Order, report: &mut Report) {
        for (id, place) in self.steps[index].input_allowlist.iter().flatten() {
            match self.positions.get(id.as_str()) {
                None if report.is_full() => return,
                None => report.push(self.missing(id, place)),
                Some(named) if order.is_ancestor(*named, index) == Some(false) => {
                    let message = format!("`{id}` does not come before this step, so it could not be read anyway");
                    report.push(place.warning(IssueCode::StepConfigIgnored, message));
                }
                Some(_) => {}
            }
        }
    }

    fn missing(&self, id: &str, place: &Place) -> Issue {
        let issue = place.error(IssueCode::DependencyMissing, format!("there is no step `{}`", shown(id)));
        match self.inner.iter().find(|inner| &*inner.id == id).and_then(|inner| self.steps.get(inner.step)) {
            Some(owner) => issue.suggest(format!("`{id}` is inside the body of `{0}`; name `{0}` instead", owner.id)),
            None => issue.suggest_nearest(id, self.steps.iter().map(|step| &*step.id)),
        }
    }
}
