//! Personal access tokens: made, recognised, listed, revoked.

use super::{
    AccessError, Caller, Credential, InProject, InTenant, May, PatId, TokenScopes, UserId,
    audit::{self, Entry},
    caller::{Bound, Origin},
    entry::Reach,
    field,
    permission::OwnTokens,
    projects,
    rows::{Ceiling, check_room},
    tenants,
    tenants::word,
    token::{self, NewToken, TokenHash},
};
use agentruntime_engine::database::{Database, Row, StoreError, Tx, Values, id, maybe_text, maybe_time, text, time};
use agentruntime_host_api::{ProjectId, TenantId, Timestamp};
use serde_json::json;

/// Token, owner and place in one question: it is asked with every request.
const RECOGNISE: &str = "SELECT p.pat_id, p.tenant_id, p.project_id, p.scopes, p.expires_at, \
    u.user_id, u.email, t.slug, m.role, j.slug, j.visibility, o.role, j.archived_at \
    FROM pats p JOIN users u ON u.user_id = p.user_id \
    JOIN memberships m ON m.tenant_id = p.tenant_id AND m.user_id = p.user_id \
    JOIN tenants t ON t.tenant_id = p.tenant_id \
    LEFT JOIN projects j ON j.project_id = p.project_id AND j.tenant_id = p.tenant_id \
    LEFT JOIN project_members o ON o.project_id = p.project_id AND o.user_id = p.user_id \
    WHERE p.token_hash = $1 AND p.revoked_at IS NULL AND u.disabled_at IS NULL AND m.deactivated_at IS NULL";

const INSERT: &str = "INSERT INTO pats \
    (pat_id, token_hash, tenant_id, user_id, project_id, name, hint, scopes, created_at, expires_at, made_by_pat) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

const LIST: &str = "SELECT pat_id, name, hint, scopes, project_id, created_at, expires_at, last_used_at, revoked_at \
    FROM pats WHERE tenant_id = $1 AND user_id = $2 AND pat_id > $3 AND ($4 IS NULL OR project_id = $4) \
    ORDER BY pat_id LIMIT $5";

const LIVE: &str = "SELECT COUNT(*) FROM pats WHERE tenant_id = $1 AND user_id = $2 AND revoked_at IS NULL \
    AND (expires_at IS NULL OR expires_at > $3)";

const END_OF_MAKER: &str = "SELECT expires_at FROM pats WHERE pat_id = $1 AND revoked_at IS NULL";

const IS_LIVE: &str =
    "SELECT 1 FROM pats WHERE pat_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)";

/// With every token that was made with it, and with those in turn: whoever got hold of a token may have made others to stay.
const REVOKE: &str = "WITH RECURSIVE made (member) AS (SELECT pat_id FROM pats WHERE pat_id = $1 AND tenant_id = $2 \
    AND user_id = $3 AND revoked_at IS NULL AND ($5 IS NULL OR project_id = $5) \
    UNION SELECT p.pat_id FROM made JOIN pats p ON p.made_by_pat = member) \
    UPDATE pats SET revoked_at = $4 WHERE revoked_at IS NULL AND pat_id IN (SELECT member FROM made) \
    RETURNING pat_id, name, made_by_pat";

const EXISTS: &str = "SELECT 1 FROM pats WHERE pat_id = $1 AND tenant_id = $2 AND user_id = $3 \
    AND ($4 IS NULL OR project_id = $4)";

const REVOKE_ALL: &str = "UPDATE pats SET revoked_at = $3 WHERE tenant_id = $1 AND user_id = $2 AND revoked_at IS NULL";

/// Valid tokens of one person in one workspace: enough for a machine each, few enough to know them all.
const LIVE_MAX: u32 = 50;

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
}

/// A token, as lists show it.
#[derive(Clone, Debug)]
pub(crate) struct Pat {
    /// Its id.
    pub(crate) id: PatId,
    /// For people.
    pub(crate) name: String,
    /// Its last characters.
    pub(crate) hint: String,
    /// What it may be used for.
    pub(crate) scopes: TokenScopes,
    /// The only project it may be used in.
    pub(crate) project: Option<ProjectId>,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it ends.
    pub(crate) expires_at: Option<Timestamp>,
    /// When it was used last.
    pub(crate) last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub(crate) revoked_at: Option<Timestamp>,
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
    let tenant = InTenant { tenant: TenantId::new(text(row, 1)?), slug: text(row, 7)?.to_owned(), role: word(row, 8)? };
    let project = bound(row, &tenant)?;
    let credential = Credential::Token { pat: id(row, 0)?, tenant, project, scopes: word(row, 3)? };
    let caller = Caller { user: id(row, 5)?, email: text(row, 6)?.to_owned(), credential, origin };
    Ok(Recognised { caller })
}

/// The project that a token is bound to. One that is not there any more cannot be entered.
fn bound(row: &Row, tenant: &InTenant) -> Result<Option<Bound>, AccessError> {
    let Some(project) = maybe_text(row, 2)?.map(ProjectId::new) else { return Ok(None) };
    let entered = match maybe_text(row, 9)? {
        Some(slug) => {
            let own = maybe_text(row, 11)?.map(|_| word(row, 11)).transpose()?;
            let role = projects::role_in(tenant.role, word(row, 10)?, own);
            role.map(|role| InProject { tenant: tenant.clone(), project: project.clone(), slug: slug.to_owned(), role })
        }
        None => None,
    };
    Ok(Some(Bound { project, entered, is_archived: maybe_time(row, 12)?.is_some() }))
}

/// The caller's tokens in the workspace, after one of them. A token for one project sees those for the same.
pub(crate) async fn list(
    database: &Database,
    may: &May<OwnTokens>,
    after: &str,
    limit: u32,
) -> Result<Vec<Pat>, AccessError> {
    let mut values = Values::default();
    values.text(may.place.tenant.as_str()).id(may.caller.user).text(after);
    values.maybe_text(may.caller.credential.project().map(ProjectId::as_str)).number(limit);
    database.rows(LIST, values).await?.iter().map(read).collect()
}

/// Makes a token for the caller. `project` is a project's slug or id.
pub(crate) async fn issue(
    database: &Database,
    may: &May<OwnTokens>,
    mut spec: TokenSpec,
) -> Result<(Pat, NewToken), AccessError> {
    let now = database.time();
    spec.name = field::name("name", &spec.name)?;
    if spec.scopes.iter().next().is_none() {
        return Err(AccessError::Invalid { field: "scopes", message: "name at least one scope".into() });
    }
    if spec.expires_at.is_some_and(|end| end <= now) {
        return Err(AccessError::Invalid { field: "expires_at", message: "this time is over".into() });
    }
    if let Some(name) = spec.project.take() {
        let found =
            projects::entered(database, may.caller.user, may.place.clone(), name.as_str(), Reach::InUse).await?;
        let missing = || AccessError::NotFound { kind: "project", id: name.to_string() };
        spec.project = Some(found.ok_or_else(missing)?.project);
    }
    let mut tx = database.begin().await?;
    tenants::lock(&mut tx, &may.place.tenant).await?;
    check_live(&mut tx, may, now).await?;
    let (id, new) = create(&mut tx, &may.caller, &may.place, &spec, now).await?;
    tx.commit().await?;
    let TokenSpec { name, project, scopes, expires_at } = spec;
    let hint = new.hint.clone();
    let pat =
        Pat { id, name, hint, scopes, project, created_at: now, expires_at, last_used_at: None, revoked_at: None };
    Ok((pat, new))
}

/// Makes a token for the caller in a workspace. A token cannot make one that may do more than itself, or for longer.
pub(crate) async fn create(
    tx: &mut Tx<'_>,
    caller: &Caller,
    tenant: &InTenant,
    spec: &TokenSpec,
    now: Timestamp,
) -> Result<(PatId, NewToken), AccessError> {
    check_not_wider(tx, caller, spec).await?;
    let (pat, new) = (PatId::new_v7(), token::new_pat());
    insert(tx, pat, &new.hash, caller, &tenant.tenant, spec, &new.hint, now).await?;
    let details = json!({ "name": spec.name, "scopes": spec.scopes.to_string(), "project_id": spec.project });
    let entry = Entry { action: "pat.create", target: pat.to_string(), details };
    audit::record(tx, &tenant.tenant, caller, entry, now.as_micros()).await?;
    Ok((pat, new))
}

/// Revokes one of the caller's tokens and all that were made with it: none is valid from the next request on. Revoking it
/// again changes nothing.
pub(crate) async fn revoke(database: &Database, may: &May<OwnTokens>, pat: PatId) -> Result<(), AccessError> {
    let (tenant, user, now) = (&may.place.tenant, may.caller.user, database.time());
    let bound = may.caller.credential.project().map(ProjectId::as_str);
    let mut tx = database.begin().await?;
    // Whoever makes a token holds the same lock: none that is being made with this one is overlooked.
    tenants::lock(&mut tx, tenant).await?;
    let mut values = Values::default();
    values.id(pat).text(tenant.as_str()).id(user).number(now.as_micros()).maybe_text(bound);
    let revoked = tx.rows(REVOKE, values).await?;
    for row in &revoked {
        let details = json!({ "name": text(row, 1)?, "made_by_pat_id": maybe_text(row, 2)? });
        may.record(&mut tx, "pat.revoke", text(row, 0)?, details, now).await?;
    }
    if !revoked.is_empty() {
        return Ok(tx.commit().await?);
    }
    let mut values = Values::default();
    values.id(pat).text(tenant.as_str()).id(user).maybe_text(bound);
    match tx.row(EXISTS, values).await? {
        Some(_) => Ok(()),
        None => Err(AccessError::NotFound { kind: "token", id: pat.to_string() }),
    }
}

/// Revokes all tokens of somebody who may not enter the workspace any more.
pub(crate) async fn revoke_all(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    user: UserId,
    now: Timestamp,
) -> Result<(), AccessError> {
    let mut values = Values::default();
    values.text(tenant.as_str()).id(user).number(now.as_micros());
    tx.rows(REVOKE_ALL, values).await?;
    Ok(())
}

/// Whether a token was neither revoked nor has expired.
pub(crate) async fn is_live(database: &Database, pat: PatId) -> Result<bool, StoreError> {
    let mut values = Values::default();
    values.id(pat).number(database.time().as_micros());
    Ok(!database.rows(IS_LIVE, values).await?.is_empty())
}

/// When the caller's token ends; nothing for a session, or for a token without an end.
pub(crate) async fn end_of(tx: &mut Tx<'_>, caller: &Caller) -> Result<Option<Timestamp>, AccessError> {
    let Some(pat) = caller.credential.pat() else { return Ok(None) };
    let mut values = Values::default();
    values.id(pat);
    match tx.row(END_OF_MAKER, values).await? {
        Some(row) => Ok(maybe_time(&row, 0)?),
        None => Err(AccessError::NotAuthenticated("this token was revoked")),
    }
}

async fn check_not_wider(tx: &mut Tx<'_>, caller: &Caller, spec: &TokenSpec) -> Result<(), AccessError> {
    let Credential::Token { scopes, .. } = &caller.credential else { return Ok(()) };
    let ends_first = match (end_of(tx, caller).await?, spec.expires_at) {
        (Some(end), Some(asked)) => asked <= end,
        (Some(_), None) => false,
        (None, _) => true,
    };
    let bound = caller.credential.project();
    let is_narrower = scopes.include(&spec.scopes) && (bound.is_none() || bound == spec.project.as_ref());
    if is_narrower && ends_first {
        return Ok(());
    }
    Err(AccessError::Forbidden("a token cannot make a token that may do more than itself, elsewhere, or for longer"))
}

async fn check_live(tx: &mut Tx<'_>, may: &May<OwnTokens>, now: Timestamp) -> Result<(), AccessError> {
    let mut values = Values::default();
    values.text(may.place.tenant.as_str()).id(may.caller.user).number(now.as_micros());
    let message = format!("you have {LIVE_MAX} valid tokens in this workspace; revoke one that you do not need");
    check_room(tx, values, Ceiling { count: LIVE, max: LIVE_MAX, code: "TOO_MANY_TOKENS", message }).await
}

#[expect(clippy::too_many_arguments, reason = "one for each column")]
async fn insert(
    tx: &mut Tx<'_>,
    pat: PatId,
    hash: &TokenHash,
    caller: &Caller,
    tenant: &TenantId,
    spec: &TokenSpec,
    hint: &str,
    now: Timestamp,
) -> Result<(), AccessError> {
    let mut values = Values::default();
    values.id(pat).text(hash.as_str()).text(tenant.as_str()).id(caller.user);
    values.maybe_text(spec.project.as_ref().map(ProjectId::as_str)).text(&spec.name).text(hint);
    values.text(spec.scopes.to_string()).number(now.as_micros());
    values.maybe_number(spec.expires_at.map(|end| end.as_micros()));
    values.maybe_text(caller.credential.pat().map(|pat| pat.to_string()));
    tx.rows(INSERT, values).await?;
    Ok(())
}

fn read(row: &Row) -> Result<Pat, AccessError> {
    Ok(Pat {
        id: id(row, 0)?,
        name: text(row, 1)?.to_owned(),
        hint: text(row, 2)?.to_owned(),
        scopes: word(row, 3)?,
        project: maybe_text(row, 4)?.map(ProjectId::new),
        created_at: time(row, 5)?,
        expires_at: maybe_time(row, 6)?,
        last_used_at: maybe_time(row, 7)?,
        revoked_at: maybe_time(row, 8)?,
    })
}
