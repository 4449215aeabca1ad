//! The table of connections: its statements, and what a row says.

use super::Connection;
use agentruntime_engine::{
    database::{Row, StoreError, document, id, maybe_text, number, text, time},
    store::Scope,
};
use agentruntime_host_api::{ProjectId, TenantId};

/// Connections of one project: more than people look after.
pub(crate) const CONNECTIONS_MAX: u32 = 1_000;

/// The columns that [`connection`] reads, in its order.
macro_rules! columns {
    () => {
        "connection_id, tenant_id, project_id, display_name, provider, service, credentials, allowed_hosts, created_by, \
         created_at, updated_at, granted, granted_sealed, granted_turn"
    };
}

pub(super) const INSERT: &str = concat!(
    "INSERT INTO connections (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12, 0) ON CONFLICT (tenant_id, project_id, display_name) DO NOTHING RETURNING ",
    columns!()
);

pub(super) const COUNT: &str = "SELECT COUNT(*) FROM connections WHERE tenant_id = $1 AND project_id = $2";

pub(super) const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM connections WHERE tenant_id = $1 AND project_id = $2 AND (created_at, connection_id) > ($3, $4) \
     ORDER BY created_at, connection_id LIMIT $5"
);

pub(super) const SELECT: &str =
    concat!("SELECT ", columns!(), " FROM connections WHERE tenant_id = $1 AND project_id = $2 AND connection_id = $3");

/// An id is no name, since names that look like ids are refused.
pub(super) const NAMED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM connections WHERE tenant_id = $1 AND project_id = $2 AND (connection_id = $3 OR display_name = $3)"
);

pub(super) const UPDATE: &str = concat!(
    "UPDATE connections SET display_name = $4, credentials = $5, allowed_hosts = $6, updated_at = $7 \
     WHERE tenant_id = $1 AND project_id = $2 AND connection_id = $3 AND NOT EXISTS (SELECT 1 FROM connections o \
     WHERE o.tenant_id = $1 AND o.project_id = $2 AND o.display_name = $4 AND o.connection_id <> $3) RETURNING ",
    columns!()
);

/// Another access in place of the one before. Whoever renews that one just now writes nothing any more.
pub(super) const GRANT: &str = concat!(
    "UPDATE connections SET granted = $4, granted_sealed = $5, granted_turn = granted_turn + 1, renewing_until = NULL, \
     allowed_hosts = $6, updated_at = $7 WHERE tenant_id = $1 AND project_id = $2 AND connection_id = $3 RETURNING ",
    columns!()
);

pub(super) const DELETE: &str =
    "DELETE FROM connections WHERE tenant_id = $1 AND project_id = $2 AND connection_id = $3 RETURNING connection_id";

/// What a row says.
pub(super) fn connection(row: &Row) -> Result<Connection, StoreError> {
    Ok(Connection {
        id: id(row, 0)?,
        scope: Scope { tenant: TenantId::new(text(row, 1)?), project: ProjectId::new(text(row, 2)?) },
        display_name: text(row, 3)?.to_owned(),
        provider: text(row, 4)?.to_owned(),
        service: text(row, 5)?.to_owned(),
        sealed: document(text(row, 6)?)?,
        allowed_hosts: document(text(row, 7)?)?,
        created_by: id(row, 8)?,
        created_at: time(row, 9)?,
        updated_at: time(row, 10)?,
        grant: maybe_text(row, 11)?.map(document).transpose()?,
        granted_sealed: maybe_text(row, 12)?.map(str::to_owned),
        granted_turn: number(row, 13)?,
    })
}
