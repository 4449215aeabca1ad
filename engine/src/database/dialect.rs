//! Where SQLite and PostgreSQL part: everything about the databases that is not the same text for both.
//!
//! The rest of the store is written once. It keeps to what both read alike: placeholders, BIGINT and TEXT, `ON CONFLICT`,
//! `RETURNING`, `UPDATE … FROM (VALUES …)` whose columns both call `column1`, `column2` …

use std::fmt::Write;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// How a transaction that writes begins. SQLite takes its one write lock at once: a transaction that read first could
    /// not wait for it. In PostgreSQL the store rests on updates that wait for a row and then see it as it became.
    pub(crate) fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }

    /// Whether transactions that write run beside each other, so that they can wait for each other's rows crosswise.
    pub(crate) fn locks_rows(self) -> bool {
        match self {
            Self::Sqlite => false,
            Self::Postgres => true,
        }
    }

    /// What a new connection is told first. SQLite: a commit is on the disk before it is acknowledged (`FULL`), and the
    /// log is folded into the file every 4,000 pages (16 MiB), rarely enough for bursts. PostgreSQL: the same promise,
    /// where the server's own setting gives it up; and to go by index always, as every statement here is meant to. A plan
    /// made while the tables are small would else read them whole, and be kept while they grow.
    pub(crate) fn setup(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; \
                 PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY; \
                 PRAGMA cache_size = -32768"
            }
            Self::Postgres => {
                "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; \
                 SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; \
                 SET plan_cache_mode = force_generic_plan"
            }
        }
    }

    /// The current time in SQL. PostgreSQL has it from its own clock unless it is told one; SQLite always is.
    pub(crate) fn now(self, placeholder: &str) -> String {
        match self {
            Self::Sqlite => placeholder.to_owned(),
            Self::Postgres => format!("agentruntime_now({placeholder})"),
        }
    }

    /// The placeholder of parameter `index`, from 1. In long lists SQLite gets bare ones: it finds a named one by walking
    /// through all names, which is quadratic.
    pub(crate) fn push_placeholder(self, sql: &mut String, index: usize) {
        match self {
            Self::Sqlite => sql.push('?'),
            // Writing to a string cannot fail.
            Self::Postgres => drop(write!(sql, "${index}")),
        }
    }

    /// Ends a `SELECT` that picks rows for an update: another node's picks are passed over instead of waited for.
    pub(crate) fn skip_locked(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// The oldest due runs of each tenant in `share`, at most `$4` each. The same question, asked as each planner answers
    /// it with one descent into the index per tenant.
    pub(crate) fn oldest_due_per_tenant(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "SELECT r.run_id, r.tenant_id, r.priority, r.wake_at, s.held FROM share s JOIN runs r ON r.run_id IN ( \
                 SELECT d.run_id FROM runs d WHERE d.tenant_id = s.tenant_id AND d.lease_owner IS NULL \
                 AND d.wake_at <= {now} ORDER BY d.wake_at LIMIT $4)"
            }
            Self::Postgres => {
                "SELECT r.run_id, s.tenant_id, r.priority, r.wake_at, s.held FROM share s CROSS JOIN LATERAL ( \
                 SELECT d.run_id, d.priority, d.wake_at FROM runs d WHERE d.tenant_id = s.tenant_id \
                 AND d.lease_owner IS NULL AND d.wake_at <= {now} ORDER BY d.wake_at LIMIT $4) r"
            }
        }
    }

    /// The members of a JSON object, tenants and numbers, as rows.
    pub(crate) fn rooms(self, placeholder: &str) -> String {
        match self {
            Self::Sqlite => format!("SELECT key AS tenant_id, value AS free FROM json_each({placeholder})"),
            Self::Postgres => format!(
                "SELECT key AS tenant_id, CAST(value AS BIGINT) AS free \
                 FROM json_each_text(CAST(CAST({placeholder} AS TEXT) AS JSON))"
            ),
        }
    }

    /// How many tables have the name `$1`: one or none.
    pub(crate) fn has_table(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = $1",
            Self::Postgres => "SELECT COUNT(*) FROM pg_catalog.pg_class WHERE oid = to_regclass(CAST($1 AS TEXT))",
        }
    }

    /// Keeps other nodes from migrating at the same time, until the transaction ends. SQLite's write lock does so anyhow.
    pub(crate) fn migration_lock(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            // Any number does, if nothing else in the database uses it.
            Self::Postgres => Some("SELECT pg_advisory_xact_lock(4920317754)"),
        }
    }
}
