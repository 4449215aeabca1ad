//! The log of who did what, from where: append only, each row's hash covering the row before, the head on the workspace's
//! row. Written in the transaction of what it tells, so that neither is there without the other.

use super::{AccessError, Caller, token::hex};
use agentruntime_engine::database::{StoreError, Tx, Values, number, text};
use agentruntime_host_api::TenantId;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Raises the number, and thereby makes writers of one workspace's log take turns.
const NEXT: &str = "UPDATE tenants SET audit_seq = audit_seq + 1 WHERE tenant_id = $1 RETURNING audit_seq, audit_hash";

const SET_HEAD: &str = "UPDATE tenants SET audit_hash = $2 WHERE tenant_id = $1";

const INSERT: &str = "INSERT INTO audit_log \
    (tenant_id, seq, at, user_id, pat_id, address, request_id, action, target, details, hash) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// What was done.
pub(crate) struct Entry {
    /// A stable word: `workflow.publish`.
    pub(crate) action: &'static str,
    /// To what: an id.
    pub(crate) target: String,
    /// What else matters; no secrets.
    pub(crate) details: Value,
}

/// Writes one entry.
pub(crate) async fn record(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    caller: &Caller,
    entry: Entry,
    now: i64,
) -> Result<(), AccessError> {
    let mut values = Values::default();
    values.text(tenant.as_str());
    let head = tx.row(NEXT, values).await?.ok_or(StoreError::NotFound)?;
    let (seq, previous): (u64, &str) = (number(&head, 0)?, text(&head, 1)?);
    let pat = caller.credential.pat().map(|pat| pat.to_string());
    let (address, request) = (caller.origin.address.to_string(), caller.origin.request.to_string());
    let details = entry.details.to_string();
    let row = json!([tenant, seq, now, caller.user, pat, address, request, entry.action, entry.target, details]);
    let hash = chained(previous, &row);
    let mut values = Values::default();
    values.text(tenant.as_str()).number(seq).number(now).id(caller.user).maybe_text(pat).text(address).text(request);
    values.text(entry.action).text(entry.target).text(details).text(&hash);
    tx.rows(INSERT, values).await?;
    let mut values = Values::default();
    values.text(tenant.as_str()).text(hash);
    tx.rows(SET_HEAD, values).await?;
    Ok(())
}

/// The hash of a row: SHA-256 over the hash before and the row as a JSON list.
fn chained(previous: &str, row: &Value) -> String {
    let mut hasher = Sha256::new();
    hasher.update(previous.as_bytes());
    hasher.update(b"\n");
    hasher.update(row.to_string().as_bytes());
    hex(&hasher.finalize())
}
