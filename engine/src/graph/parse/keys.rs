//! Which keys a step can have: the one table that the parser and the published schema share.

/// A step type and the keys that only it has.
pub(crate) struct StepType {
    pub(crate) name: &'static str,
    pub(crate) keys: &'static [&'static str],
    pub(crate) required: &'static [&'static str],
    /// Whether a body may hold it.
    pub(crate) is_leaf: bool,
}

/// Keys of every step.
pub(crate) const COMMON_KEYS: &[&str] = &[
    "id",
    "type",
    "name",
    "depends_on",
    "enabled",
    "condition",
    "skip_when",
    "timeout_s",
    "retry_count",
    "retry",
    "on_error",
];

/// Keys of every top-level step.
pub(crate) const OUTER_KEYS: &[&str] = &["no_auto_start", "terminal", "input_allowlist"];

/// Keys of an inline agent.
pub(crate) const AGENT_KEYS: &[&str] = &[
    "name",
    "model",
    "model_ref",
    "system",
    "tools",
    "max_turns",
    "token_budget",
    "llm_params",
    "llm_credential_id",
    "llm_credential_scope",
];

/// Every step type.
pub(crate) const STEP_TYPES: [StepType; 9] = [
    StepType { name: "lua_script", keys: &["script", "capabilities"], required: &["script"], is_leaf: true },
    StepType {
        name: "mcp_call",
        keys: &["tool_name", "instance_id", "server_url", "tool_args"],
        required: &["tool_name"],
        is_leaf: true,
    },
    StepType {
        name: "llm_call",
        keys: &[
            "model",
            "model_ref",
            "prompt",
            "system",
            "llm_params",
            "llm_credential_id",
            "llm_credential_scope",
            "response_format",
        ],
        required: &["prompt"],
        is_leaf: true,
    },
    StepType { name: "agent_call", keys: &["agent_id", "agent", "prompt", "input"], required: &[], is_leaf: true },
    StepType {
        name: "human_task",
        keys: &["task_type", "task_payload", "on_reject"],
        required: &["task_type"],
        is_leaf: false,
    },
    StepType {
        name: "for_each",
        keys: &["for_each_items", "for_each_body_steps", "for_each_max_parallel", "for_each_error_policy"],
        required: &["for_each_items", "for_each_body_steps"],
        is_leaf: false,
    },
    StepType {
        name: "while",
        keys: &["while_mode", "while_max_iterations", "while_body_steps", "while_condition", "while_eval_script"],
        required: &["while_mode", "while_max_iterations", "while_body_steps"],
        is_leaf: false,
    },
    StepType {
        name: "workflow_call",
        keys: &["workflow_id", "version", "input"],
        required: &["workflow_id"],
        is_leaf: false,
    },
    StepType { name: "sleep", keys: &["duration_s", "until"], required: &[], is_leaf: false },
];

/// The type of that name.
pub(crate) fn step_type(name: &str) -> Option<&'static StepType> {
    STEP_TYPES.iter().find(|kind| kind.name == name)
}

/// The keys that steps can have, of whatever type: each once.
pub(crate) fn of_any_step() -> Vec<&'static str> {
    let shared = COMMON_KEYS.iter().chain(OUTER_KEYS);
    let mut keys: Vec<&str> = shared.chain(STEP_TYPES.iter().flat_map(|kind| kind.keys)).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The type that alone has that key.
pub(crate) fn owner_of(key: &str) -> Option<&'static StepType> {
    let mut owners = STEP_TYPES.iter().filter(|kind| kind.keys.contains(&key));
    owners.next().filter(|_| owners.next().is_none())
}
