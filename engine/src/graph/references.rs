//! Which paths may stand where: what a template of a step can name, and what a script should.

use super::{input_schema::InputSchema, lua_reads::LuaReads};
use super::{
    issue::{Issue, IssueCode, Place, shown},
    model::{BodyStep, StepKind},
    nearest::nearest,
    parse::{Draft, Links, StepDraft},
    report::{Report, Role, ScriptFound, Site, TemplateFound, TemplateText},
    template::{Path, PathUse},
};
use std::{collections::HashMap, ops::ControlFlow, sync::Arc};

/// What a path can start with.
pub(crate) const ROOTS: [&str; 9] =
    ["input", "steps", "run", "connection", "item", "index", "foreach", "body", "while"];
/// What is known about a run.
const RUN_KEYS: [&str; 6] = ["run_id", "started_at", "trigger_type", "external_user_id", "user_id", "due_at"];
/// What is known about connections.
const CONNECTION_KEYS: [&str; 2] = ["connection_id", "by_instance"];

/// Checks every path of every template, and the steps that scripts read.
pub(crate) fn check(draft: &mut Draft) {
    let Some(links) = &draft.links else { return };
    let mut positions = HashMap::new();
    let mut in_lua: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, step) in draft.steps.iter().enumerate() {
        positions.entry(step.id.clone()).or_insert(index);
        in_lua.entry(step.id.replace('-', "_")).or_default().push(index);
    }
    let names = Names { steps: &draft.steps, links, positions, in_lua, input_schema: draft.input_schema.as_ref() };
    for found in &draft.templates {
        names.check_template(found, &mut draft.report);
    }
    for script in &draft.scripts {
        names.check_script(script, &mut draft.report);
    }
}

struct Names<'d> {
    steps: &'d [StepDraft],
    links: &'d Links,
    positions: HashMap<Arc<str>, usize>,
    /// Positions by the id with underscores for hyphens.
    in_lua: HashMap<String, Vec<usize>>,
    input_schema: Option<&'d InputSchema>,
}

impl Names<'_> {
    fn check_template(&self, found: &TemplateFound, report: &mut Report) {
        let visit = &mut |path: PathUse<'_>, at: &[_]| {
            if report.is_full() {
                return ControlFlow::Break(());
            }
            let place = || found.place.inside(at);
            match path.path.root() {
                "input" if report.is_full_of_warnings() => {}
                "input" => report.extend(self.check_input(&path, &place)),
                _ => report.extend(self.check_path(path.path, found, &place)),
            }
            ControlFlow::Continue(())
        };
        // Breaking off is no failure: there is no room for more.
        let _ = match &found.text {
            TemplateText::Value(template) => template.each_use(visit),
            TemplateText::Condition(condition) => condition.template().each_use(visit),
        };
    }

    fn check_path(&self, path: &Path, found: &TemplateFound, place: &dyn Fn() -> Place) -> Option<Issue> {
        let scope = Scope { names: self, site: &found.site, role: found.role };
        let wrong = match path.root() {
            "steps" => scope.step(path),
            "run" => field(path, &RUN_KEYS),
            "connection" => field(path, &CONNECTION_KEYS),
            "item" | "index" => scope.item(path),
            "foreach" => scope.item(path).or_else(|| field(path, &["item", "index"])),
            "body" => scope.body(path),
            "while" => scope.while_loop(path),
            _ => Some(unknown_root(path)),
        }?;
        Some(wrong.issue(found.role, &place()))
    }

    /// A closed schema says what there is; a payload can still hold more, so this only warns.
    fn check_input(&self, path: &PathUse<'_>, place: &dyn Fn() -> Place) -> Option<Issue> {
        let schema = self.input_schema.filter(|schema| schema.is_closed())?;
        let name = path.path.segment(1)?;
        if path.has_alternative || schema.properties().any(|property| property == name) {
            return None;
        }
        let message = format!("`{}`: `input_schema` declares no `{}`", shown(&path.path.to_string()), shown(name));
        let issue = place().warning(IssueCode::TemplateUnresolved, message);
        Some(match nearest(name, schema.properties()) {
            Some(meant) => issue.suggest(format!("did you mean `input.{meant}`?")),
            None => issue.suggest("declare it, or give a default as in `{{ input.name | \"\" }}`"),
        })
    }

    /// A script that reads a step which has not run finds nil; it may mean to, so this only warns.
    fn check_script(&self, script: &ScriptFound, report: &mut Report) {
        if report.is_full_of_warnings() {
            return;
        }
        let step = &self.steps[script.site.step];
        let reads = LuaReads::of(&script.source);
        for name in reads.named_steps().into_iter().flatten() {
            let positions = self.in_lua.get(&name.replace('-', "_")).map(Vec::as_slice).unwrap_or_default();
            if report.is_full_of_warnings() {
                return;
            }
            let is_known = |index: &usize| self.links.order.is_ancestor(*index, script.site.step) != Some(false);
            if positions.iter().any(is_known) {
                continue;
            }
            let message = format!("the script reads `steps.{}`, and it is nil here", shown(name));
            let issue = script.place.warning(IssueCode::LuaMissingDependency, message);
            report.push(match positions.first() {
                Some(index) => issue.suggest(self.advice(*index, step)),
                None => issue.suggest_nearest(name, self.steps.iter().map(|step| &*step.id)),
            });
        }
    }

    /// How a step gets to read another that it does not wait for.
    fn advice(&self, wanted: usize, step: &StepDraft) -> String {
        let (id, reader) = (&self.steps[wanted].id, self.positions.get(&step.id).copied());
        if reader.is_some_and(|reader| self.links.order.is_ancestor(reader, wanted) == Some(true)) {
            return format!("`{id}` runs after `{}`, so its result cannot be read here", step.id);
        }
        let ids = step.depends_on.iter().map(|(id, _)| id.as_str()).chain([&**id]);
        let list: Vec<String> = ids.map(|id| format!("\"{}\"", shown(id))).collect();
        format!("add `{id}` to the dependencies of `{}`: \"depends_on\": [{}]", step.id, list.join(", "))
    }
}

/// Why a path cannot stand where it does.
struct Wrong {
    code: IssueCode,
    message: String,
    suggestion: Option<String>,
}

impl Wrong {
    fn unresolved(path: &Path, why: impl std::fmt::Display) -> Self {
        Self {
            code: IssueCode::TemplateUnresolved,
            message: format!("`{}` does not resolve: {why}", shown(&path.to_string())),
            suggestion: None,
        }
    }

    fn suggest(self, suggestion: impl Into<String>) -> Self {
        Self { suggestion: Some(suggestion.into()), ..self }
    }

    fn suggest_nearest<'c>(self, word: &str, prefix: &str, names: impl IntoIterator<Item = &'c str>) -> Self {
        match nearest(word, names) {
            Some(name) => self.suggest(format!("did you mean `{prefix}{name}`?")),
            None => self,
        }
    }

    fn issue(self, role: Role, place: &Place) -> Issue {
        let code = match (self.code, role) {
            (IssueCode::TemplateUnresolved, Role::Items) => IssueCode::ForEachItemsUnresolved,
            (code, _) => code,
        };
        Issue { suggestion: self.suggestion, ..place.error(code, self.message) }
    }
}

/// What can be seen from one place.
struct Scope<'n> {
    names: &'n Names<'n>,
    site: &'n Site,
    role: Role,
}

impl Scope<'_> {
    fn owner(&self) -> &StepDraft {
        &self.names.steps[self.site.step]
    }

    /// The body that can be seen: by its own steps, and by the test of a `while`.
    fn visible_body(&self) -> Option<&[BodyStep]> {
        let is_inside = self.site.inner.is_some() || self.role == Role::LoopTest;
        self.owner().kind.as_ref().filter(|_| is_inside).map(body_of)
    }

    fn is_in(&self, kind: &str) -> bool {
        self.owner().kind_name == Some(kind) && (self.site.inner.is_some() || self.role == Role::LoopTest)
    }

    fn step(&self, path: &Path) -> Option<Wrong> {
        let ids = || self.names.steps.iter().map(|step| &*step.id);
        let Some(id) = path.segment(1) else {
            return Some(Wrong::unresolved(path, "it names no step").suggest("write `steps.<id>.result`"));
        };
        if self.visible_body().is_some_and(|body| body.iter().any(|step| &*step.id == id)) {
            let rest: Vec<&str> = path.segments[2..].iter().map(|segment| &**segment).collect();
            let rest = rest.strip_prefix(&["result"]).unwrap_or(&rest);
            let named: Vec<&str> = ["body", id].into_iter().chain(rest.iter().copied()).collect();
            return Some(
                Wrong::unresolved(path, "a step of the same body is read by `body`")
                    .suggest(format!("write `{}`", shown(&named.join(".")))),
            );
        }
        let Some(position) = self.names.positions.get(id).copied() else {
            let wrong = Wrong::unresolved(path, format!("there is no step `{}`", shown(id)));
            return Some(wrong.suggest_nearest(id, "steps.", ids()));
        };
        if position == self.site.step {
            return self.own_step(path);
        }
        self.upstream(path, position).or_else(|| self.step_field(path, position))
    }

    /// The step itself: only the item of a `for_each` is there before its end.
    fn own_step(&self, path: &Path) -> Option<Wrong> {
        if self.is_in("for_each") && path.segment(2) == Some("item") {
            return None;
        }
        Some(Wrong::unresolved(path, "a step cannot read its own result"))
    }

    fn upstream(&self, path: &Path, position: usize) -> Option<Wrong> {
        let id = &self.names.steps[position].id;
        if self.names.links.order.is_ancestor(position, self.site.step) == Some(false) {
            return Some(Wrong {
                code: IssueCode::TemplateMissingDependency,
                message: format!("`{}` reads `{id}`, which this step does not wait for", shown(&path.to_string())),
                suggestion: Some(self.names.advice(position, self.owner())),
            });
        }
        let allowed = self.owner().input_allowlist.as_ref()?;
        if allowed.iter().any(|(allowed, _)| **allowed == **id) {
            return None;
        }
        Some(Wrong {
            code: IssueCode::TemplateNotAllowed,
            message: format!("`{}` reads `{id}`, which `input_allowlist` leaves out", shown(&path.to_string())),
            suggestion: Some(format!("add `{id}` to the `input_allowlist` of `{}`", self.owner().id)),
        })
    }

    fn step_field(&self, path: &Path, position: usize) -> Option<Wrong> {
        let id = &self.names.steps[position].id;
        match path.segment(2) {
            Some("result" | "input") => None,
            Some("item") if self.names.steps[position].kind_name == Some("for_each") => {
                Some(Wrong::unresolved(path, format!("an item of `{id}` is only there inside its body")))
            }
            Some(_) => {
                let rest: Vec<&str> = path.segments[2..].iter().map(|segment| &**segment).collect();
                let named = format!("steps.{id}.result.{}", rest.join("."));
                Some(
                    Wrong::unresolved(path, "a step has `result` and `input`")
                        .suggest(format!("write `{}`", shown(&named))),
                )
            }
            None => Some(
                Wrong::unresolved(path, "a step has `result` and `input`")
                    .suggest(format!("write `steps.{id}.result`")),
            ),
        }
    }

    fn item(&self, path: &Path) -> Option<Wrong> {
        if self.is_in("for_each") {
            return None;
        }
        Some(Wrong::unresolved(path, format!("`{}` is only there inside the body of a `for_each`", path.root())))
    }

    fn body(&self, path: &Path) -> Option<Wrong> {
        let Some(body) = self.visible_body() else {
            return Some(
                Wrong::unresolved(path, "`body` is only there inside a body").suggest("write `steps.<id>.result`"),
            );
        };
        let Some(id) = path.segment(1) else {
            return Some(Wrong::unresolved(path, "it names no step").suggest("write `body.<id>`"));
        };
        let Some(position) = body.iter().position(|step| &*step.id == id) else {
            // A body that could not be read is empty; what is wrong with it has been told.
            let wrong = Wrong::unresolved(path, format!("the body has no step `{}`", shown(id)));
            return (!body.is_empty()).then(|| wrong.suggest_nearest(id, "body.", body.iter().map(|step| &*step.id)));
        };
        let own = self.site.inner.as_ref().and_then(|inner| body.iter().position(|step| step.id == *inner));
        if own.is_none_or(|own| position < own) {
            return None;
        }
        Some(Wrong {
            code: IssueCode::TemplateMissingDependency,
            message: format!(
                "`{}` reads `{}`, which does not run before this step",
                shown(&path.to_string()),
                shown(id)
            ),
            suggestion: Some("change the order of the body, or its `depends_on`".into()),
        })
    }

    fn while_loop(&self, path: &Path) -> Option<Wrong> {
        if !self.is_in("while") {
            return Some(Wrong::unresolved(path, "`while` is only there inside a `while`"));
        }
        if path.segment(1) != Some("prev") {
            return field(path, &["iteration", "prev"]);
        }
        let body = self.visible_body().unwrap_or_default();
        let id = path.segment(2).unwrap_or_default();
        if body.is_empty() || body.iter().any(|step| &*step.id == id) {
            return None;
        }
        let wrong = Wrong::unresolved(path, format!("the body has no step `{}`", shown(id)));
        Some(wrong.suggest_nearest(id, "while.prev.", body.iter().map(|step| &*step.id)))
    }
}

/// The steps of a body; none where there is no body.
pub(crate) fn body_of(kind: &StepKind) -> &[BodyStep] {
    match kind {
        StepKind::ForEach(each) => &each.body,
        StepKind::While(each) => &each.body,
        StepKind::Leaf(_) | StepKind::HumanTask(_) | StepKind::WorkflowCall(_) | StepKind::Sleep(_) => &[],
    }
}

/// A root with a few known members, one of which must follow.
fn field(path: &Path, known: &[&str]) -> Option<Wrong> {
    let name = path.segment(1).unwrap_or_default();
    if known.contains(&name) {
        return None;
    }
    let root = path.root();
    let list: Vec<String> = known.iter().map(|name| format!("`{root}.{name}`")).collect();
    let wrong = Wrong::unresolved(path, format!("there is {}", list.join(", ")));
    Some(wrong.suggest_nearest(name, &format!("{root}."), known.iter().copied()))
}

fn unknown_root(path: &Path) -> Wrong {
    let wrong = Wrong::unresolved(path, format!("a path starts with {}", ROOTS.join(", ")));
    match path.root() {
        "loop" => wrong.suggest("in templates the loop is `while`: write `while.iteration` or `while.prev.<id>`"),
        root => wrong.suggest_nearest(root, "", ROOTS),
    }
}

#[cfg(test)]
mod tests;
