//! Invitations to a workspace: a token by mail, good once, for a week, and for the invited address alone.

use super::{
    AccessError, InSession, InTenant, InviteId, May, TenantRole, UserId,
    audit::{self, Entry},
    domains, field, members,
    permission::ManageTenant,
    rows::{Ceiling, check_room},
    tenants::{self, word},
    token::{self, NewToken, TokenHash},
};
use agentruntime_engine::database::{Database, Row, Tx, Values, id, maybe_time, text, time};
use agentruntime_host_api::{TenantId, Timestamp};
use serde_json::json;
use std::time::Duration;

const INSERT: &str = "INSERT INTO invites \
    (invite_id, tenant_id, email, role, token_hash, invited_by, created_at, expires_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

const LIST: &str = "SELECT invite_id, email, role, invited_by, created_at, expires_at, accepted_at, revoked_at \
    FROM invites WHERE tenant_id = $1 AND invite_id > $2 ORDER BY invite_id LIMIT $3";

const PENDING: &str = "SELECT COUNT(*) FROM invites \
    WHERE tenant_id = $1 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $2";

const IS_MEMBER: &str = "SELECT 1 FROM memberships m JOIN users u ON u.user_id = m.user_id \
    WHERE m.tenant_id = $1 AND u.email = $2";

const REVOKE: &str = "UPDATE invites SET revoked_at = $3 WHERE tenant_id = $1 AND invite_id = $2 \
    AND accepted_at IS NULL AND revoked_at IS NULL RETURNING email";

const EXISTS: &str = "SELECT 1 FROM invites WHERE tenant_id = $1 AND invite_id = $2 AND accepted_at IS NULL";

const REVOKE_FOR: &str = "UPDATE invites SET revoked_at = $3 \
    WHERE tenant_id = $1 AND email = $2 AND accepted_at IS NULL AND revoked_at IS NULL";

const REVOKE_BY: &str = "UPDATE invites SET revoked_at = $3 \
    WHERE tenant_id = $1 AND invited_by = $2 AND accepted_at IS NULL AND revoked_at IS NULL";

/// Which workspace a token invites to, told only to who was invited.
const WHERE_TO: &str = "SELECT i.tenant_id, t.slug FROM invites i JOIN tenants t ON t.tenant_id = i.tenant_id \
    JOIN users u ON u.email = i.email WHERE i.token_hash = $1 AND u.user_id = $2 AND u.verified_at IS NOT NULL";

const ACCEPT: &str = "UPDATE invites SET accepted_at = $2 WHERE token_hash = $1 \
    AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $2 RETURNING invite_id, email, role";

/// How long an invitation is good.
pub(crate) const GOOD_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Invitations of one workspace that wait to be accepted, so that it cannot be used to send mail to the world.
const PENDING_MAX: u32 = 200;

/// An invitation.
#[derive(Clone, Debug)]
pub(crate) struct Invite {
    /// Its id.
    pub(crate) id: InviteId,
    /// Who is invited.
    pub(crate) email: String,
    /// As what.
    pub(crate) role: TenantRole,
    /// By whom.
    pub(crate) invited_by: UserId,
    /// When.
    pub(crate) created_at: Timestamp,
    /// Until when it is good.
    pub(crate) expires_at: Timestamp,
    /// When it was accepted.
    pub(crate) accepted_at: Option<Timestamp>,
    /// When it was taken back.
    pub(crate) revoked_at: Option<Timestamp>,
}

/// Invites an address. An earlier invitation of it ends. The token is for the mail and nothing else.
pub(crate) async fn invite(
    tx: &mut Tx<'_>,
    may: &May<ManageTenant>,
    email: &str,
    role: TenantRole,
    now: Timestamp,
) -> Result<(Invite, NewToken), AccessError> {
    let (tenant, email) = (&may.place.tenant, field::email(email)?);
    let actor = members::take_turn(tx, may).await?;
    members::check_reach(actor, TenantRole::Member, role)?;
    domains::check_may_join(tx, tenant, &email).await?;
    check_not_member(tx, tenant, &email).await?;
    let mut values = Values::default();
    values.text(tenant.as_str()).text(&email).number(now.as_micros());
    tx.rows(REVOKE_FOR, values).await?;
    check_pending(tx, tenant, now).await?;
    let (id, new, expires_at) = (InviteId::new_v7(), token::new_opaque(), now.plus(GOOD_FOR));
    let mut values = Values::default();
    values.id(id).text(tenant.as_str()).text(&email).text(role.as_str()).text(new.hash.as_str());
    values.id(may.caller.user).number(now.as_micros()).number(expires_at.as_micros());
    tx.rows(INSERT, values).await?;
    let details = json!({ "email": email, "role": role });
    may.record(tx, "invite.create", id, details, now).await?;
    let invited_by = may.caller.user;
    let (accepted_at, revoked_at) = (None, None);
    let invite = Invite { id, email, role, invited_by, created_at: now, expires_at, accepted_at, revoked_at };
    Ok((invite, new))
}

/// The invitations of a workspace, after one of them.
pub(crate) async fn list(
    database: &Database,
    may: &May<ManageTenant>,
    after: &str,
    limit: u32,
) -> Result<Vec<Invite>, AccessError> {
    let mut values = Values::default();
    values.text(may.place.tenant.as_str()).text(after).number(limit);
    database.rows(LIST, values).await?.iter().map(read).collect()
}

/// Takes an invitation back.
pub(crate) async fn revoke(database: &Database, may: &May<ManageTenant>, id: InviteId) -> Result<(), AccessError> {
    let (tenant, now) = (&may.place.tenant, database.time());
    let mut tx = database.begin().await?;
    members::take_turn(&mut tx, may).await?;
    let mut values = Values::default();
    values.text(tenant.as_str()).id(id).number(now.as_micros());
    if let Some(row) = tx.row(REVOKE, values).await? {
        let details = json!({ "email": text(&row, 0)? });
        may.record(&mut tx, "invite.revoke", id, details, now).await?;
        return Ok(tx.commit().await?);
    }
    let mut values = Values::default();
    values.text(tenant.as_str()).id(id);
    match tx.row(EXISTS, values).await? {
        // It was taken back before.
        Some(_) => Ok(()),
        None => Err(AccessError::NotFound { kind: "open invitation", id: id.to_string() }),
    }
}

/// Makes the caller a member, if the token invites them. Whatever is wrong with it, the answer is the same.
pub(crate) async fn accept(database: &Database, who: &InSession, token: &str) -> Result<InTenant, AccessError> {
    let (hash, now) = (TokenHash::of(token), database.time());
    let mut tx = database.begin().await?;
    let mut values = Values::default();
    values.text(hash.as_str()).id(who.caller.user);
    let Some(place) = tx.row(WHERE_TO, values).await? else { return Err(not_for_you()) };
    let (tenant, slug) = (TenantId::new(text(&place, 0)?), text(&place, 1)?.to_owned());
    tenants::lock(&mut tx, &tenant).await?;
    let mut values = Values::default();
    values.text(hash.as_str()).number(now.as_micros());
    let Some(row) = tx.row(ACCEPT, values).await? else { return Err(not_for_you()) };
    let (invite, email, role): (InviteId, _, _) = (id(&row, 0)?, text(&row, 1)?, word(&row, 2)?);
    domains::check_may_join(&mut tx, &tenant, email).await?;
    if !members::add(&mut tx, &tenant, who.caller.user, role, now.as_micros()).await? {
        return Err(already_member());
    }
    let entry = Entry { action: "invite.accept", target: invite.to_string(), details: json!({ "role": role }) };
    audit::record(&mut tx, &tenant, &who.caller, entry, now.as_micros()).await?;
    tx.commit().await?;
    Ok(InTenant { tenant, slug, role })
}

/// Ends what somebody began who may not do so any more.
pub(crate) async fn revoke_by(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    user: UserId,
    now: Timestamp,
) -> Result<(), AccessError> {
    let mut values = Values::default();
    values.text(tenant.as_str()).id(user).number(now.as_micros());
    tx.rows(REVOKE_BY, values).await?;
    Ok(())
}

async fn check_not_member(tx: &mut Tx<'_>, tenant: &TenantId, email: &str) -> Result<(), AccessError> {
    let mut values = Values::default();
    values.text(tenant.as_str()).text(email);
    match tx.row(IS_MEMBER, values).await? {
        Some(_) => Err(already_member()),
        None => Ok(()),
    }
}

async fn check_pending(tx: &mut Tx<'_>, tenant: &TenantId, now: Timestamp) -> Result<(), AccessError> {
    let mut values = Values::default();
    values.text(tenant.as_str()).number(now.as_micros());
    let message = format!("{PENDING_MAX} invitations wait to be accepted; take some back first");
    check_room(tx, values, Ceiling { count: PENDING, max: PENDING_MAX, code: "TOO_MANY_INVITES", message }).await
}

fn already_member() -> AccessError {
    let message = "this address belongs to a member already; one who was deactivated is reactivated by an admin";
    AccessError::Conflict { code: "ALREADY_MEMBER", message: message.to_owned() }
}

fn not_for_you() -> AccessError {
    AccessError::NotFound { kind: "open invitation for your address with this", id: "token".into() }
}

fn read(row: &Row) -> Result<Invite, AccessError> {
    Ok(Invite {
        id: id(row, 0)?,
        email: text(row, 1)?.to_owned(),
        role: word(row, 2)?,
        invited_by: id(row, 3)?,
        created_at: time(row, 4)?,
        expires_at: time(row, 5)?,
        accepted_at: maybe_time(row, 6)?,
        revoked_at: maybe_time(row, 7)?,
    })
}
