//! What people call workflows: in this machine's own workspace their ids are names, in a server's they are not.

use agentruntime_host_api::WorkflowId;
use std::collections::HashMap;

/// The names of some workflows.
#[derive(Default)]
pub(crate) struct Names(HashMap<WorkflowId, String>);

impl Names {
    /// The name of a workflow; its id where that is its name, or where no other is known.
    pub(crate) fn of<'n>(&'n self, workflow: &'n WorkflowId) -> &'n str {
        self.0.get(workflow).map_or_else(|| workflow.as_str(), String::as_str)
    }
}

impl From<HashMap<WorkflowId, String>> for Names {
    fn from(names: HashMap<WorkflowId, String>) -> Self {
        Self(names)
    }
}
