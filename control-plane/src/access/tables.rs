//! The tables of the control plane, as they came to be.

use agentruntime_engine::database::{Migration, Migrations};

/// Every step, in order.
pub(crate) const MIGRATIONS: Migrations = Migrations {
    part: "control_plane",
    steps: &[
        Migration::common("0001_access", include_str!("../../migrations/0001_access.sql")),
        Migration {
            name: "0002_audit_append_only",
            sqlite: include_str!("../../migrations/0002_audit_append_only.sqlite.sql"),
            postgres: include_str!("../../migrations/0002_audit_append_only.postgres.sql"),
        },
        Migration::common("0003_workflows", include_str!("../../migrations/0003_workflows.sql")),
        Migration::common("0004_triggers", include_str!("../../migrations/0004_triggers.sql")),
        Migration::common("0005_master_key", include_str!("../../migrations/0005_master_key.sql")),
        Migration::common("0006_integrations", include_str!("../../migrations/0006_integrations.sql")),
        Migration::common("0007_mcp", include_str!("../../migrations/0007_mcp.sql")),
    ],
};
