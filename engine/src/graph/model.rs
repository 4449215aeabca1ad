//! A graph after parsing: typed, with references as indexes, and valid. Nothing here can fail.

use super::{condition::Condition, input_schema::InputSchema, lua_reads::LuaReads, template::Template};
use agentruntime_host_api::{ErrorCode, Grants, Json, WorkflowId};
use std::{sync::Arc, time::Duration};

/// A position in [`Graph::steps`].
pub type StepIndex = usize;

/// A valid workflow graph.
#[derive(Debug)]
pub struct Graph {
    /// The author's name for it.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// What a start payload must look like.
    pub input_schema: Option<InputSchema>,
    /// What a failed step does to the rest.
    pub failure_policy: FailurePolicy,
    /// The steps in the order written.
    pub steps: Vec<Step>,
    /// Every step once, after all that it depends on; among equals the order written.
    pub topological_order: Vec<StepIndex>,
    /// The document in canonical form: what is stored, and what the hash is taken of.
    pub canonical: Json,
    /// SHA-256 of the canonical document, in lower-case hex.
    pub hash: String,
}

/// What happens to parallel branches when a step fails for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The run fails at once; what is in flight is cancelled.
    #[default]
    FailFast,
    /// Branches that do not depend on the failed step finish first; then the run fails.
    Drain,
}

/// One top-level step.
#[derive(Debug)]
pub struct Step {
    /// What templates and events call it.
    pub id: Arc<str>,
    /// What people call it.
    pub name: Option<String>,
    /// What it waits for.
    pub depends_on: Vec<StepIndex>,
    /// What waits for it: the reverse of `depends_on`.
    pub dependents: Vec<StepIndex>,
    /// The ancestors whose results it may read: all of them, or those in its `input_allowlist`. In the order written.
    pub readable: Vec<StepIndex>,
    /// Whether it takes part at all.
    pub enabled: bool,
    /// Runs only where this is true.
    pub condition: Option<Condition>,
    /// Runs only where this is false.
    pub skip_when: Option<Condition>,
    /// A root that runs only where the start names it.
    pub no_auto_start: bool,
    /// Its result is the run's output.
    pub terminal: bool,
    /// Time, attempts and what happens after the last.
    pub conduct: Conduct,
    /// What it does.
    pub kind: StepKind,
}

/// How a step or body step copes with time and failure.
#[derive(Clone, Debug)]
pub struct Conduct {
    /// How long one attempt may take; the default of its type where the author gave none; none for composites and people.
    pub timeout: Option<Duration>,
    /// When it is tried again.
    pub retry: Retry,
    /// What dependents see after the last attempt failed.
    pub on_error: OnError,
}

/// When a failed attempt is followed by another.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Attempts in all: at least 1.
    pub max_attempts: u32,
    /// The longest wait before the second attempt.
    pub initial: Duration,
    /// What the wait grows by with each further attempt.
    pub factor: f64,
    /// What the wait never exceeds.
    pub max: Duration,
    /// Which failures are tried again; empty: all that can be.
    pub on: Vec<ErrorCode>,
}

/// What a step's final failure means.
#[derive(Clone, Debug, PartialEq)]
pub enum OnError {
    /// The run fails.
    Fail,
    /// Dependents go on with `{"error": …}`.
    Continue,
    /// Dependents go on with this result.
    Result(Json),
}

/// What a step does.
#[derive(Debug)]
pub enum StepKind {
    /// Any type that a body may hold, too.
    Leaf(Leaf),
    /// Runs a body for each item of a list.
    ForEach(ForEach),
    /// Runs a body until a condition says stop.
    While(While),
    /// Asks a person.
    HumanTask(HumanTask),
    /// Runs another workflow as a child.
    WorkflowCall(WorkflowCall),
    /// Waits.
    Sleep(Sleep),
}

/// A step that one sandboxed execution carries out.
#[derive(Debug)]
pub enum Leaf {
    /// Runs a script.
    Lua(LuaScript),
    /// Calls a tool of an MCP server.
    Mcp(McpCall),
    /// Asks a language model once.
    Llm(LlmCall),
    /// Lets a language model work with tools.
    Agent(AgentCall),
}

impl Leaf {
    /// What it may ask for.
    pub fn grants(&self) -> &Arc<Grants> {
        match self {
            Self::Lua(leaf) => &leaf.grants,
            Self::Mcp(leaf) => &leaf.grants,
            Self::Llm(leaf) => &leaf.grants,
            Self::Agent(leaf) => &leaf.grants,
        }
    }
}

/// `lua_script`.
#[derive(Clone, Debug)]
pub struct LuaScript {
    /// The source text.
    pub source: Arc<str>,
    /// What of its surroundings the source can read.
    pub reads: LuaReads,
    /// What it may ask for: the step's `capabilities`.
    pub grants: Arc<Grants>,
}

/// `mcp_call`.
#[derive(Debug)]
pub struct McpCall {
    /// The tool's name on its server.
    pub tool_name: String,
    /// A registered instance.
    pub instance_id: Option<String>,
    /// Or the server's address.
    pub server_url: Option<String>,
    /// The arguments.
    pub tool_args: Template,
    /// All of that, as the program is given it.
    pub settings: Template,
    /// That tool.
    pub grants: Arc<Grants>,
}

/// `llm_call`.
#[derive(Debug)]
pub struct LlmCall {
    /// Everything that the step says, as the program is given it: `model`, `prompt`, `system`, `params`, `credential`, `scope`
    /// and `response_format`.
    pub settings: Template,
    /// That model, with that key.
    pub grants: Arc<Grants>,
}

/// `agent_call`.
#[derive(Debug)]
pub struct AgentCall {
    /// A registered agent's id, where it is no inline one.
    pub agent_id: Option<String>,
    /// Everything that the agent is and is told, as the program is given it: `model`, `system`, `tools`, `max_turns`,
    /// `token_budget`, `params`, `credential`, `scope` and `input`.
    pub settings: Template,
    /// Its model and its tools.
    pub grants: Arc<Grants>,
}

/// `for_each`.
#[derive(Debug)]
pub struct ForEach {
    /// What resolves to the list.
    pub items: Template,
    /// What runs for each item, in this order.
    pub body: Vec<BodyStep>,
    /// How many items are worked on at once: 1 to 100.
    pub max_parallel: usize,
    /// What a failed item does.
    pub error_policy: ForEachErrorPolicy,
}

/// What a failed item does to its `for_each`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForEachErrorPolicy {
    /// The step fails at once.
    #[default]
    FailFast,
    /// The others go on; the step completes with `partial_success`.
    ContinueOnError,
    /// The run pauses; resuming it tries the item again.
    Pause,
    /// A person decides: approve goes on without the item, reject fails the step.
    HumanReview,
}

/// `while`.
#[derive(Debug)]
pub struct While {
    /// Which answer ends the loop.
    pub mode: WhileMode,
    /// The most iterations: at least 1.
    pub max_iterations: u32,
    /// What runs in each iteration, in this order.
    pub body: Vec<BodyStep>,
    /// What is asked after each.
    pub test: WhileTest,
}

/// Which answer ends a `while`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhileMode {
    /// True ends it.
    Until,
    /// False ends it.
    While,
}

/// What a `while` asks after each iteration.
#[derive(Debug)]
pub enum WhileTest {
    /// A template.
    Condition(Condition),
    /// A script that returns `{ pass = bool }` or `{ result = bool }`.
    Script(LuaScript),
}

/// A step inside a composite.
#[derive(Debug)]
pub struct BodyStep {
    /// What templates and events call it.
    pub id: Arc<str>,
    /// What people call it.
    pub name: Option<String>,
    /// Whether it takes part at all.
    pub enabled: bool,
    /// Runs only where this is true.
    pub condition: Option<Condition>,
    /// Runs only where this is false.
    pub skip_when: Option<Condition>,
    /// Time, attempts and what happens after the last.
    pub conduct: Conduct,
    /// What it does.
    pub leaf: Leaf,
}

/// `human_task`.
#[derive(Debug)]
pub struct HumanTask {
    /// What kind of answer is wanted, such as `approval`.
    pub task_type: String,
    /// What the person is shown.
    pub payload: Template,
    /// Whether dependents go on after a rejection (`on_reject: "continue"`).
    pub continue_on_reject: bool,
}

/// `workflow_call`.
#[derive(Debug)]
pub struct WorkflowCall {
    /// Which workflow.
    pub workflow: WorkflowId,
    /// Which version: always set in a published graph.
    pub version: Option<u32>,
    /// The child's start payload.
    pub input: Template,
}

/// `sleep`.
#[derive(Debug)]
pub enum Sleep {
    /// A number of seconds.
    Duration(Template),
    /// A point in time.
    Until(Template),
}

impl Graph {
    /// The step of that id.
    pub fn step(&self, id: &str) -> Option<StepIndex> {
        self.steps.iter().position(|step| &*step.id == id)
    }
}
