//! The log of who did what, from where: append only, each row's hash covering the row before, the head on the workspace's
//! row. Written in the transaction of what it tells, so that neither is there without the other.

use super::{
    AccessError, Caller, May, PatId, UserId,
    permission::{Permission, Place, ReadAudit},
    token::hex,
};
use agentruntime_engine::database::{Database, Row, StoreError, Tx, Values, maybe_text, number, text, time};
use agentruntime_host_api::{TenantId, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Raises the number, and thereby makes writers of one workspace's log take turns.
const NEXT: &str = "UPDATE tenants SET audit_seq = audit_seq + 1 WHERE tenant_id = $1 RETURNING audit_seq, audit_hash";

const SET_HEAD: &str = "UPDATE tenants SET audit_hash = $2 WHERE tenant_id = $1";

const INSERT: &str = "INSERT INTO audit_log \
    (tenant_id, seq, at, user_id, pat_id, address, request_id, action, target, details, hash) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// The newest first.
const LIST: &str = "SELECT seq, at, user_id, pat_id, address, request_id, action, target, details, hash FROM audit_log \
    WHERE tenant_id = $1 AND seq < $2 AND ($3 IS NULL OR action = $3) AND ($4 IS NULL OR user_id = $4) \
    AND ($5 IS NULL OR pat_id = $5) AND at >= $6 AND at < $7 ORDER BY seq DESC LIMIT $8";

/// In the order of the chain.
const FOLLOW: &str = "SELECT seq, at, user_id, pat_id, address, request_id, action, target, details, hash FROM audit_log \
    WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";

const HASH_AT: &str = "SELECT hash FROM audit_log WHERE tenant_id = $1 AND seq = $2";

const HEAD: &str = "SELECT audit_seq, audit_hash FROM tenants WHERE tenant_id = $1";

/// Rows that are held in memory at once while the chain is followed.
const FOLLOWED_AT_ONCE: u32 = 500;
/// Rows that one request follows: about a second's work.
const FOLLOWED_MAX: u64 = 50_000;

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

impl<P: Permission> May<P> {
    /// Writes one entry: the caller has done this, where they may.
    pub(crate) async fn record(
        &self,
        tx: &mut Tx<'_>,
        action: &'static str,
        target: impl ToString,
        details: Value,
        now: Timestamp,
    ) -> Result<(), AccessError> {
        let entry = Entry { action, target: target.to_string(), details };
        record(tx, self.place.tenant(), &self.caller, entry, now.as_micros()).await
    }
}

/// One line of the log.
#[derive(Debug)]
pub(crate) struct Line {
    /// Its number in the workspace's log, from 1.
    pub(crate) seq: u64,
    /// When.
    pub(crate) at: Timestamp,
    /// Who; nobody where the service acted by itself.
    pub(crate) user: Option<String>,
    /// With which token.
    pub(crate) pat: Option<String>,
    /// From where.
    pub(crate) address: Option<String>,
    /// In which request.
    pub(crate) request: Option<String>,
    /// What was done: a stable word.
    pub(crate) action: String,
    /// To what.
    pub(crate) target: String,
    /// What else matters: JSON, as it was written.
    pub(crate) details: String,
    /// SHA-256 over the hash before and this line.
    pub(crate) hash: String,
}

/// Which lines are wanted.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Those of one action.
    pub(crate) action: Option<String>,
    /// Those of one person.
    pub(crate) user: Option<UserId>,
    /// Those with one token.
    pub(crate) pat: Option<PatId>,
    /// Not before this.
    pub(crate) from: Option<Timestamp>,
    /// Before this.
    pub(crate) to: Option<Timestamp>,
    /// Those older than this number.
    pub(crate) before: Option<u64>,
}

/// What following the chain has shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Integrity {
    /// The last line that was looked at.
    pub(crate) checked_through: u64,
    /// The last line that the log should have, and its hash.
    pub(crate) head: (u64, String),
    /// The first line that is missing or not what it was.
    pub(crate) broken_at: Option<u64>,
}

impl Integrity {
    /// Whether everything up to the head was looked at.
    pub(crate) fn is_complete(&self) -> bool {
        self.broken_at.is_some() || self.checked_through == self.head.0
    }
}

/// Lines of the log, the newest first.
pub(crate) async fn list(
    database: &Database,
    may: &May<ReadAudit>,
    wanted: &Wanted,
    limit: u32,
) -> Result<Vec<Line>, AccessError> {
    let mut values = Values::default();
    values.text(may.place.tenant.as_str()).number(wanted.before.unwrap_or(u64::MAX));
    values.maybe_text(wanted.action.as_deref()).maybe_text(wanted.user.map(|user| user.to_string()));
    values.maybe_text(wanted.pat.map(|pat| pat.to_string()));
    values.number(wanted.from.map_or(i64::MIN, Timestamp::as_micros));
    values.number(wanted.to.map_or(i64::MAX, Timestamp::as_micros)).number(limit);
    database.rows(LIST, values).await?.iter().map(line).collect()
}

/// Follows the chain after a line, and says where it is broken first.
pub(crate) async fn check(database: &Database, may: &May<ReadAudit>, after: u64) -> Result<Integrity, AccessError> {
    check_chain(database, &may.place.tenant, after).await
}

async fn check_chain(database: &Database, tenant: &TenantId, after: u64) -> Result<Integrity, AccessError> {
    // The head first: lines that are written meanwhile come after it.
    let mut values = Values::default();
    values.text(tenant.as_str());
    let head = database.row(HEAD, values).await?;
    let head: (u64, String) = (number(&head, 0)?, text(&head, 1)?.to_owned());
    let mut values = Values::default();
    values.text(tenant.as_str()).number(after);
    let before = database.rows(HASH_AT, values).await?;
    let mut hash = before.first().map_or(Ok(""), |row| text(row, 0))?.to_owned();
    let (mut seq, last) = (after, head.0.min(after.saturating_add(FOLLOWED_MAX)));
    let broken = |seq: u64| Integrity { checked_through: seq, head: head.clone(), broken_at: Some(seq + 1) };
    while seq < last {
        let mut values = Values::default();
        values.text(tenant.as_str()).number(seq).number(FOLLOWED_AT_ONCE);
        let rows = database.rows(FOLLOW, values).await?;
        for row in &rows {
            let line = line(row)?;
            if line.seq != seq + 1 || chained(&hash, &line.chained(tenant)) != line.hash {
                return Ok(broken(seq));
            }
            (seq, hash) = (line.seq, line.hash);
            if seq == last {
                break;
            }
        }
        if rows.is_empty() {
            return Ok(broken(seq));
        }
    }
    if seq == head.0 && hash != head.1 {
        return Ok(broken(seq.saturating_sub(1)));
    }
    Ok(Integrity { checked_through: seq, head, broken_at: None })
}

impl Line {
    /// What its hash covers.
    fn chained(&self, tenant: &TenantId) -> Value {
        let Self { seq, at, user, pat, address, request, action, target, details, hash: _ } = self;
        json!([tenant, seq, at, user, pat, address, request, action, target, details])
    }
}

fn line(row: &Row) -> Result<Line, AccessError> {
    let maybe = |index| maybe_text(row, index).map(|text| text.map(str::to_owned));
    Ok(Line {
        seq: number(row, 0)?,
        at: time(row, 1)?,
        user: maybe(2)?,
        pat: maybe(3)?,
        address: maybe(4)?,
        request: maybe(5)?,
        action: text(row, 6)?.to_owned(),
        target: text(row, 7)?.to_owned(),
        details: text(row, 8)?.to_owned(),
        hash: text(row, 9)?.to_owned(),
    })
}

/// The hash of a row: SHA-256 over the hash before and the row as a JSON list.
fn chained(previous: &str, row: &Value) -> String {
    let mut hasher = Sha256::new();
    hasher.update(previous.as_bytes());
    hasher.update(b"\n");
    hasher.update(row.to_string().as_bytes());
    hex(&hasher.finalize())
}
