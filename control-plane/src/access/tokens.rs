//! Personal access tokens: made, recognised, revoked.

use super::{
    AccessError, Caller, Credential, InTenant, PatId, TokenScopes, UserId,
    audit::{self, Entry},
    caller::Origin,
    tenants::word,
    token::{self, NewToken, TokenHash},
};
use agentruntime_engine::database::{Database, Row, Tx, Values, id, maybe_text, maybe_time, text};
use agentruntime_host_api::{ProjectId, TenantId, Timestamp};

const RECOGNISE: &str = "SELECT p.pat_id, p.tenant_id, p.project_id, p.scopes, p.expires_at, p.last_used_at, \
    u.user_id, u.email FROM pats p JOIN users u ON u.user_id = p.user_id \
    JOIN memberships m ON m.tenant_id = p.tenant_id AND m.user_id = p.user_id \
    WHERE p.token_hash = $1 AND p.revoked_at IS NULL AND u.disabled_at IS NULL AND m.deactivated_at IS NULL";

const INSERT: &str = "INSERT INTO pats \
    (pat_id, token_hash, tenant_id, user_id, project_id, name, hint, scopes, created_at, expires_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// What a new token is to be.
pub(crate) struct TokenSpec {
    /// For people.
    pub(crate) name: String,
    /// The only project it may be used in.
    pub(crate) project: Option<ProjectId>,
    /// What it may be used for.
    pub(crate) scopes: TokenScopes,
    /// When it ends.
    pub(crate) expires_at: Option<Timestamp>,
}

/// A token that was recognised.
pub(crate) struct Recognised {
    /// Who asks with it.
    pub(crate) caller: Caller,
    /// When it was used last, as far as that is written.
    pub(crate) last_used_at: Option<Timestamp>,
}

/// Whose token this is. One that is unknown, expired or revoked, or whose owner may not enter any more, is nobody's: the
/// answer does not tell which.
pub(crate) async fn recognise(
    database: &Database,
    token: &str,
    origin: Origin,
) -> Result<Option<Recognised>, AccessError> {
    let Some(hash) = token::parse_pat(token) else { return Ok(None) };
    let mut values = Values::default();
    values.text(hash.as_str());
    let rows = database.rows(RECOGNISE, values).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let is_over = maybe_time(row, 4)?.is_some_and(|end| end <= database.time());
    if is_over { Ok(None) } else { recognised(row, origin).map(Some) }
}

fn recognised(row: &Row, origin: Origin) -> Result<Recognised, AccessError> {
    let credential = Credential::Token {
        pat: id(row, 0)?,
        tenant: TenantId::new(text(row, 1)?),
        project: maybe_text(row, 2)?.map(ProjectId::new),
        scopes: word(row, 3)?,
    };
    let caller = Caller { user: id(row, 6)?, email: text(row, 7)?.to_owned(), credential, origin };
    Ok(Recognised { caller, last_used_at: maybe_time(row, 5)? })
}

/// Makes a token for the caller in a workspace. A token cannot make one that may do more than itself.
pub(crate) async fn create(
    tx: &mut Tx<'_>,
    caller: &Caller,
    tenant: &InTenant,
    spec: &TokenSpec,
    now: Timestamp,
) -> Result<(PatId, NewToken), AccessError> {
    if let Credential::Token { scopes, project, .. } = &caller.credential {
        let is_narrower = scopes.include(&spec.scopes) && (project.is_none() || *project == spec.project);
        if !is_narrower {
            return Err(AccessError::Forbidden("a token cannot make a token that may do more than itself"));
        }
    }
    let (pat, new) = (PatId::new_v7(), token::new_pat());
    insert(tx, pat, &new.hash, caller.user, &tenant.tenant, spec, &new.hint, now).await?;
    let details =
        serde_json::json!({ "name": spec.name, "scopes": spec.scopes.to_string(), "project_id": spec.project });
    let entry = Entry { action: "pat.create", target: pat.to_string(), details };
    audit::record(tx, &tenant.tenant, caller, entry, now.as_micros()).await?;
    Ok((pat, new))
}

#[expect(clippy::too_many_arguments, reason = "one for each column")]
async fn insert(
    tx: &mut Tx<'_>,
    pat: PatId,
    hash: &TokenHash,
    user: UserId,
    tenant: &TenantId,
    spec: &TokenSpec,
    hint: &str,
    now: Timestamp,
) -> Result<(), AccessError> {
    let mut values = Values::default();
    values.id(pat).text(hash.as_str()).text(tenant.as_str()).id(user);
    values.maybe_text(spec.project.as_ref().map(ProjectId::as_str)).text(&spec.name).text(hint);
    values.text(spec.scopes.to_string()).number(now.as_micros());
    values.maybe_number(spec.expires_at.map(|end| end.as_micros()));
    tx.rows(INSERT, values).await?;
    Ok(())
}
