//! What a dry-run is asked.

use crate::graph::issue::Check;
use agentruntime_host_api::{TenantId, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Which questions a dry-run asks, about which steps, and on which made-up values.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DryRunOptions {
    /// Only these checks; all where it is left out.
    pub checks: Option<Vec<Check>>,
    /// Not these checks.
    pub skip_checks: Vec<Check>,
    /// Only issues of these steps and of the graph as a whole.
    pub step_ids: Option<Vec<String>>,
    /// A start to check against.
    pub params: DryRunParams,
    /// Made-up results, by step id: scripts that read them are run, and templates are checked against them.
    pub mock_step_outputs: Map<String, Value>,
    /// Made-up global variables, by step id: the scripts of these steps are run.
    pub mock_lua_scopes: Map<String, Value>,
    /// On whose budget scripts run.
    #[serde(skip)]
    pub tenant: TenantId,
    /// What the clock of scripts says.
    #[serde(skip)]
    pub started_at: Timestamp,
}

/// A start to check against.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DryRunParams {
    /// What a run would be started with.
    pub trigger_payload: Option<Value>,
}

impl Default for DryRunOptions {
    fn default() -> Self {
        Self {
            checks: None,
            skip_checks: Vec::new(),
            step_ids: None,
            params: DryRunParams::default(),
            mock_step_outputs: Map::new(),
            mock_lua_scopes: Map::new(),
            tenant: TenantId::new("dry-run"),
            // Scripts are told the same time on every dry-run: the start of 2026.
            started_at: Timestamp::from_micros(1_767_225_600_000_000),
        }
    }
}

impl DryRunOptions {
    /// The checks that are asked for.
    pub(super) fn wanted(&self) -> Vec<Check> {
        let is_wanted = |check: &Check| {
            self.checks.as_ref().is_none_or(|checks| checks.contains(check)) && !self.skip_checks.contains(check)
        };
        Check::ALL.into_iter().filter(is_wanted).collect()
    }

    /// Whether there is anything to run scripts on.
    pub(super) fn has_fixtures(&self) -> bool {
        !self.mock_step_outputs.is_empty() || !self.mock_lua_scopes.is_empty()
    }
}
