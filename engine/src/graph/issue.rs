//! What is wrong with a graph, where, and what to do about it.

use super::{
    json_path::JsonPath,
    template::{Key, TemplateSyntaxError},
};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, sync::Arc};

/// How much of an author's text is quoted in a message.
const SHOWN_CHARS_MAX: usize = 80;

/// Whether an issue keeps a graph from being published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The graph cannot be published or run.
    Error,
    /// The graph can be published; its author should look.
    Warning,
}

/// One thing to correct.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{json_path}: {message}")]
pub struct Issue {
    /// Whether it keeps the graph from being published.
    pub severity: Severity,
    /// What kind of issue it is.
    pub code: IssueCode,
    /// The step it is about, where it is about one; inside a body the inner step.
    pub step_id: Option<Arc<str>>,
    /// Where in the document, such as `$.steps[2].depends_on[0]`.
    pub json_path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead, where that can be told.
    pub suggestion: Option<String>,
    /// The top-level step that it is in or about.
    #[serde(skip)]
    pub(crate) top_step: Option<usize>,
}

/// One of the questions that a dry-run asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The document as a whole: its size, its depth, its steps.
    Graph,
    /// The form: which keys there are and what type their values have.
    GraphSchema,
    /// Ids and what depends on what.
    Dependencies,
    /// What each step's settings mean together.
    StepConfig,
    /// What the templates name.
    Templates,
    /// Whether the scripts compile.
    LuaSyntax,
    /// Whether each tool call says where its tool is.
    McpBindings,
    /// Whether the tools exist and take these arguments.
    McpResolve,
    /// What switched-off steps do to the rest.
    DisabledSteps,
    /// The schema of the start payload.
    InputSchema,
    /// Scripts on made-up results of other steps.
    LuaFixture,
}

impl Check {
    /// Every check, in the order in which they are reported.
    pub const ALL: [Self; 11] = [
        Self::Graph,
        Self::GraphSchema,
        Self::Dependencies,
        Self::StepConfig,
        Self::Templates,
        Self::LuaSyntax,
        Self::McpBindings,
        Self::McpResolve,
        Self::DisabledSteps,
        Self::InputSchema,
        Self::LuaFixture,
    ];
}

/// Declares the codes with the check that each belongs to.
macro_rules! issue_codes {
    ($($(#[$doc:meta])* $code:ident: $check:ident,)*) => {
        /// The stable kind of an issue.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum IssueCode {
            $($(#[$doc])* $code,)*
        }

        impl IssueCode {
            /// Every code, for documentation and tests.
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// The check that finds it.
            pub fn check(self) -> Check {
                match self {
                    $(Self::$code => Check::$check,)*
                }
            }
        }
    };
}

issue_codes! {
    /// The document is larger, deeper or has more steps than it may.
    GraphTooLarge: Graph,
    /// There are no steps.
    GraphWithoutSteps: Graph,
    /// A value has the wrong type, or a required one is missing.
    GraphSchemaValidation: GraphSchema,
    /// A key that means nothing there.
    UnknownKey: GraphSchema,
    /// A step type that does not exist.
    UnknownStepType: GraphSchema,
    /// A value outside what is allowed.
    ValueOutOfRange: GraphSchema,
    /// An id is not a simple identifier.
    StepIdInvalid: Dependencies,
    /// Two steps have one id.
    DuplicateStepId: Dependencies,
    /// Steps wait for each other in a circle.
    DependencyCycle: Dependencies,
    /// A step waits for one that is not there.
    DependencyMissing: Dependencies,
    /// A step names a dependency twice.
    DependencyDuplicate: Dependencies,
    /// Settings that contradict each other.
    StepConfigConflict: StepConfig,
    /// A setting that has no effect where it stands.
    StepConfigIgnored: StepConfig,
    /// A rule for the arguments of a tool is no schema, or one that is not used here.
    ArgumentRuleInvalid: StepConfig,
    /// A step inside a body that cannot be there.
    BodyStepInvalid: StepConfig,
    /// This installation cannot carry out the step yet.
    StepTypeUnavailable: StepConfig,
    /// A called workflow has no published version.
    ChildUnpublished: StepConfig,
    /// A script that is too long.
    ScriptTooLarge: StepConfig,
    /// A condition that names no value.
    ConditionInvalid: Templates,
    /// A string that cannot be read as a template.
    TemplateSyntax: Templates,
    /// A template names what does not exist there.
    TemplateUnresolved: Templates,
    /// A template reads a step that the step does not wait for.
    TemplateMissingDependency: Templates,
    /// A template reads a step that `input_allowlist` leaves out.
    TemplateNotAllowed: Templates,
    /// A template of `for_each_items` names what does not exist.
    ForEachItemsUnresolved: Templates,
    /// `for_each_items` can never be a list.
    ForEachItemsInvalid: Templates,
    /// A script reads a step that its step does not wait for.
    LuaMissingDependency: Dependencies,
    /// Two ids are the same once hyphens are underscores.
    LuaStepIdAmbiguous: Dependencies,
    /// A script does not compile.
    LuaSyntaxError: LuaSyntax,
    /// A tool call says neither `instance_id` nor `server_url`.
    McpBindingMissing: McpBindings,
    /// The server of a tool call has no instance yet.
    McpInstanceUnresolved: McpBindings,
    /// The tool's own schema cannot be had, so its arguments are not checked.
    McpToolInputSchemaUnavailable: McpResolve,
    /// An argument is known only when the step runs.
    McpToolArgDeferred: McpResolve,
    /// The arguments do not fit the tool.
    McpToolArgsInvalid: McpResolve,
    /// A step reads the result of one that is switched off.
    DisabledStepRead: DisabledSteps,
    /// `input_schema` is not a schema.
    InputSchemaInvalid: InputSchema,
    /// A start payload does not fit `input_schema`.
    InputInvalid: InputSchema,
    /// A script returned something else than a table.
    LuaFixtureReturnType: LuaFixture,
    /// A script failed.
    LuaFixtureRuntime: LuaFixture,
}

impl IssueCode {
    /// Whether a run cannot be carried out here although the graph is valid.
    pub(crate) fn blocks(self) -> bool {
        self == Self::StepTypeUnavailable
    }
}

impl fmt::Display for IssueCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Where something stands: the path, and the step that the path leads through.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) path: JsonPath,
    pub(crate) step_id: Option<Arc<str>>,
    pub(crate) top_step: Option<usize>,
}

impl Place {
    /// The whole document.
    pub(crate) fn root() -> Self {
        Self { path: JsonPath::root(), step_id: None, top_step: None }
    }

    /// The member of that name.
    pub(crate) fn key(&self, name: &str) -> Self {
        Self { path: self.path.key(name), ..self.clone() }
    }

    /// The element at that position.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self { path: self.path.index(index), ..self.clone() }
    }

    /// A part of the value here.
    pub(crate) fn inside(&self, at: &[Key]) -> Self {
        Self { path: self.path.join(at), ..self.clone() }
    }

    /// An issue here.
    pub(crate) fn issue(&self, severity: Severity, code: IssueCode, message: impl Into<String>) -> Issue {
        Issue {
            severity,
            code,
            step_id: self.step_id.clone(),
            json_path: self.path.to_string(),
            message: message.into(),
            suggestion: None,
            top_step: self.top_step,
        }
    }

    /// Something that keeps the graph from being published.
    pub(crate) fn error(&self, code: IssueCode, message: impl Into<String>) -> Issue {
        self.issue(Severity::Error, code, message)
    }

    /// Something that the author should look at.
    pub(crate) fn warning(&self, code: IssueCode, message: impl Into<String>) -> Issue {
        self.issue(Severity::Warning, code, message)
    }

    /// A string here, or in a part of the value here, that is no template.
    pub(crate) fn syntax_error(&self, code: IssueCode, error: TemplateSyntaxError) -> Issue {
        Issue { suggestion: error.suggestion, ..self.inside(&error.at).error(code, error.message) }
    }
}

impl Issue {
    /// The same with what to write instead.
    pub(crate) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// The same with the name that was probably meant, where there is one.
    pub(crate) fn suggest_nearest<'c>(self, word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Self {
        match super::nearest::nearest(word, candidates) {
            Some(nearest) => self.suggest(format!("did you mean `{nearest}`?")),
            None => self,
        }
    }

    /// Whether it keeps the graph from being published.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// A text as it is quoted in a message: an author's text can be as long as the document.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}
