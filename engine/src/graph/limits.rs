//! What a graph may not exceed. Everything that an author can make large has a limit here, with its reason.

use std::time::Duration;

/// The canonical document: it is parsed whenever a node takes up one of its runs.
pub const GRAPH_BYTES_MAX: usize = 2 << 20;
/// Nesting of the document: templates are filled in by recursion, and results add their own levels.
pub const GRAPH_DEPTH_MAX: usize = 64;
/// Top-level steps: a larger piece of work is several workflows.
pub const STEPS_MAX: usize = 1_000;
/// Steps of one body.
pub const BODY_STEPS_MAX: usize = 100;
/// Paths that the templates of one graph name in all.
pub const TEMPLATE_PATHS_MAX: usize = 10_000;
/// A step's id: it stands in paths, events and idempotency keys.
pub const ID_CHARS_MAX: usize = 128;
/// A script: more wants several steps.
pub const SCRIPT_BYTES_MAX: usize = 64 << 10;

/// The longest time a script can be given: longer work belongs to several steps, each of which can be repeated alone.
pub const LUA_TIMEOUT_S_MAX: u64 = 30;
/// The longest time a call of a tool, a model or an agent can be given.
pub const CALL_TIMEOUT_S_MAX: u64 = 86_400;
/// The longest time that a person, a child run or a composite can be given, and the longest sleep: a year.
pub const WAIT_S_MAX: u64 = 366 * 86_400;

/// `timeout_s` of a `lua_script` that gives none.
pub const LUA_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// `timeout_s` of an `mcp_call` that gives none.
pub const MCP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// `timeout_s` of an `llm_call` that gives none.
pub const LLM_TIMEOUT_DEFAULT: Duration = Duration::from_secs(180);
/// `timeout_s` of an `agent_call` that gives none.
pub const AGENT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);

/// Attempts in all: what fails this often needs a person.
pub const RETRY_ATTEMPTS_MAX: u64 = 100;
/// `retry.max_attempts` where it is not given.
pub const RETRY_ATTEMPTS_DEFAULT: u64 = 3;
/// The longest wait between two attempts.
pub const RETRY_WAIT_S_MAX: u64 = 86_400;
/// `retry.initial_s` where it is not given, and for `retry_count`.
pub const RETRY_INITIAL_DEFAULT: Duration = Duration::from_secs(1);
/// `retry.max_s` where it is not given, and for `retry_count`.
pub const RETRY_WAIT_DEFAULT: Duration = Duration::from_secs(60);
/// `retry.factor` where it is not given, and for `retry_count`.
pub const RETRY_FACTOR_DEFAULT: f64 = 2.0;
/// `retry.factor` at most: more is a wait of `max_s` from the second attempt on.
pub const RETRY_FACTOR_MAX: f64 = 100.0;

/// `for_each_max_parallel` at most.
pub const MAX_PARALLEL_MAX: u64 = 100;
/// `for_each_max_parallel` where it is not given.
pub const MAX_PARALLEL_DEFAULT: u64 = 10;
/// `while_max_iterations` at most: each iteration is events in the run's journal.
pub const ITERATIONS_MAX: u64 = 10_000;
/// `max_turns` of an inline agent at most.
pub const AGENT_TURNS_MAX: u64 = 1_000;
/// Tools of an `agent_call`: models choose badly among more.
pub const AGENT_TOOLS_MAX: usize = 128;
/// The largest `token_budget`.
pub const TOKEN_BUDGET_MAX: u64 = 1_000_000_000;

/// Issues that are told of one graph: more help nobody, and each costs.
pub const ISSUES_MAX: usize = 200;
