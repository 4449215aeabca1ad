//! What was found while a document is read.

use super::{
    condition::Condition,
    issue::{Issue, Place},
    limits::ISSUES_MAX,
    template::Template,
};
use std::sync::Arc;

/// Gathers issues. Beyond the limit they are counted and not kept, so that a hostile document costs no more than a bad one.
#[derive(Debug, Default)]
pub(crate) struct Report {
    errors: Vec<Issue>,
    warnings: Vec<Issue>,
}

impl Report {
    /// Keeps an issue, where there is room for it.
    pub(crate) fn push(&mut self, issue: Issue) {
        let list = if issue.is_error() { &mut self.errors } else { &mut self.warnings };
        if list.len() < ISSUES_MAX {
            list.push(issue);
        }
    }

    /// Whether further errors would be dropped: looking for more is idle.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() >= ISSUES_MAX
    }

    /// Whether further warnings would be dropped.
    pub(crate) fn is_full_of_warnings(&self) -> bool {
        self.warnings.len() >= ISSUES_MAX
    }

    /// Whether nothing keeps the graph from being published.
    pub(crate) fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    /// Errors first, each kind in the order found.
    pub(crate) fn into_issues(self) -> Vec<Issue> {
        self.errors.into_iter().chain(self.warnings).collect()
    }
}

impl Extend<Issue> for Report {
    fn extend<I: IntoIterator<Item = Issue>>(&mut self, issues: I) {
        issues.into_iter().for_each(|issue| self.push(issue));
    }
}

/// Where a template or script stands: a top-level step, or one of its body steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// The position of the top-level step among those read.
    pub(crate) step: usize,
    /// The id of the body step.
    pub(crate) inner: Option<Arc<str>>,
}

/// A template of a step, with all that is needed to check what it names.
#[derive(Debug)]
pub(crate) struct TemplateFound {
    pub(crate) site: Site,
    pub(crate) place: Place,
    pub(crate) role: Role,
    pub(crate) text: TemplateText,
}

/// The parsed form that the paths are taken from.
#[derive(Debug)]
pub(crate) enum TemplateText {
    Value(Template),
    Condition(Condition),
}

/// What a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A setting of the step.
    Setting,
    /// Whether the step runs.
    Condition,
    /// The list of a `for_each`.
    Items,
    /// Whether a `while` goes on: the body's outputs can be read.
    LoopTest,
}

/// A script of a step.
#[derive(Debug)]
pub(crate) struct ScriptFound {
    pub(crate) site: Site,
    pub(crate) place: Place,
    pub(crate) source: Arc<str>,
    /// Whether it decides on a `while` rather than make a result.
    pub(crate) is_loop_test: bool,
}
