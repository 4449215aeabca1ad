//! Who is in a workspace, and as what. A workspace always has an owner who can enter it; nobody raises anybody above
//! themselves; who leaves loses their tokens at once. All changes of one workspace take turns.

use super::{
    AccessError, InTenant, May, TenantRole, UserId, domains, invites,
    permission::ManageTenant,
    tenants::{self, word},
    tokens,
};
use agentruntime_engine::database::{Database, Row, Tx, Values, id, maybe_time, number, text, time};
use agentruntime_host_api::{TenantId, Timestamp};
use serde_json::json;

const INSERT: &str = "INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (tenant_id, user_id) DO NOTHING RETURNING user_id";

const LIST: &str = "SELECT m.user_id, u.email, u.display_name, m.role, m.created_at, m.deactivated_at \
    FROM memberships m JOIN users u ON u.user_id = m.user_id \
    WHERE m.tenant_id = $1 AND m.user_id > $2 ORDER BY m.user_id LIMIT $3";

const READ: &str = "SELECT m.user_id, u.email, u.display_name, m.role, m.created_at, m.deactivated_at \
    FROM memberships m JOIN users u ON u.user_id = m.user_id WHERE m.tenant_id = $1 AND m.user_id = $2";

const UPDATE: &str = "UPDATE memberships SET role = $3, deactivated_at = $4 WHERE tenant_id = $1 AND user_id = $2";

const DELETE: &str = "DELETE FROM memberships WHERE tenant_id = $1 AND user_id = $2";

const DELETE_IN_PROJECTS: &str = "DELETE FROM project_members WHERE tenant_id = $1 AND user_id = $2";

const ACTIVE_OWNERS: &str = "SELECT COUNT(*) FROM memberships m JOIN users u ON u.user_id = m.user_id \
    WHERE m.tenant_id = $1 AND m.role = 'owner' AND m.deactivated_at IS NULL AND u.disabled_at IS NULL";

/// Somebody in a workspace.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Who.
    pub(crate) user: UserId,
    /// Their address.
    pub(crate) email: String,
    /// Their name.
    pub(crate) display_name: String,
    /// As what.
    pub(crate) role: TenantRole,
    /// Since when.
    pub(crate) created_at: Timestamp,
    /// Since when they cannot enter.
    pub(crate) deactivated_at: Option<Timestamp>,
}

/// What is to become of a member. What is missing stays.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MemberChange {
    /// Another role.
    pub(crate) role: Option<TenantRole>,
    /// Whether they may enter.
    pub(crate) active: Option<bool>,
}

/// Makes a user a member. One who is a member already stays what they are.
pub(crate) async fn add(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    user: UserId,
    role: TenantRole,
    now: i64,
) -> Result<bool, AccessError> {
    let mut values = Values::default();
    values.text(tenant.as_str()).id(user).text(role.as_str()).number(now);
    Ok(tx.row(INSERT, values).await?.is_some())
}

/// The members of a workspace, after one of them.
pub(crate) async fn list(
    database: &Database,
    may: &May<ManageTenant>,
    after: &str,
    limit: u32,
) -> Result<Vec<Member>, AccessError> {
    let mut values = Values::default();
    values.text(may.place.tenant.as_str()).text(after).number(limit);
    database.rows(LIST, values).await?.iter().map(member).collect()
}

/// Changes a member's role, and whether they may enter.
pub(crate) async fn change(
    database: &Database,
    may: &May<ManageTenant>,
    user: UserId,
    change: MemberChange,
) -> Result<Member, AccessError> {
    let (tenant, now) = (&may.place.tenant, database.time());
    let mut tx = database.begin().await?;
    let actor = take_turn(&mut tx, may).await?;
    let before = find(&mut tx, tenant, user).await?;
    let mut after = Member { role: change.role.unwrap_or(before.role), ..before.clone() };
    after.deactivated_at = match change.active {
        Some(true) => None,
        Some(false) => Some(before.deactivated_at.unwrap_or(now)),
        None => before.deactivated_at,
    };
    check_reach(actor, before.role, after.role)?;
    if before.deactivated_at.is_some() && after.deactivated_at.is_none() {
        domains::check_may_join(&mut tx, tenant, &before.email).await?;
    }
    let mut values = Values::default();
    values.text(tenant.as_str()).id(user).text(after.role.as_str());
    values.maybe_number(after.deactivated_at.map(Timestamp::as_micros));
    tx.rows(UPDATE, values).await?;
    check_owner_left(&mut tx, tenant, &before).await?;
    if after.role < before.role || after.deactivated_at.is_some() {
        invites::revoke_by(&mut tx, tenant, user, now).await?;
    }
    if after.deactivated_at.is_some() {
        tokens::revoke_all(&mut tx, tenant, user, now).await?;
    }
    let details = json!({ "role": change.role, "active": change.active });
    may.record(&mut tx, "member.update", user, details, now).await?;
    tx.commit().await?;
    Ok(after)
}

/// Takes somebody out of a workspace and all its projects.
pub(crate) async fn remove(database: &Database, may: &May<ManageTenant>, user: UserId) -> Result<(), AccessError> {
    let (tenant, now) = (&may.place.tenant, database.time());
    let mut tx = database.begin().await?;
    let actor = take_turn(&mut tx, may).await?;
    let before = find(&mut tx, tenant, user).await?;
    check_reach(actor, before.role, before.role)?;
    for statement in [DELETE, DELETE_IN_PROJECTS] {
        let mut values = Values::default();
        values.text(tenant.as_str()).id(user);
        tx.rows(statement, values).await?;
    }
    check_owner_left(&mut tx, tenant, &before).await?;
    invites::revoke_by(&mut tx, tenant, user, now).await?;
    tokens::revoke_all(&mut tx, tenant, user, now).await?;
    let details = json!({ "email": before.email, "role": before.role });
    may.record(&mut tx, "member.remove", user, details, now).await?;
    Ok(tx.commit().await?)
}

/// Waits until nobody else changes the workspace, and says what the caller is there *now*: since the request was let in,
/// they may have been demoted.
pub(crate) async fn take_turn(tx: &mut Tx<'_>, may: &May<ManageTenant>) -> Result<TenantRole, AccessError> {
    const NEEDED: TenantRole = TenantRole::Admin;
    let InTenant { tenant, .. } = &may.place;
    tenants::lock(tx, tenant).await?;
    match read(tx, tenant, may.caller.user).await? {
        Some(caller) if caller.deactivated_at.is_none() && caller.role >= NEEDED => Ok(caller.role),
        Some(caller) if caller.deactivated_at.is_none() => {
            Err(AccessError::TenantRoleTooLow { needed: NEEDED, have: caller.role })
        }
        Some(_) | None => Err(AccessError::NoSuchPlace("workspace")),
    }
}

/// The member, whether active or not.
pub(crate) async fn read(tx: &mut Tx<'_>, tenant: &TenantId, user: UserId) -> Result<Option<Member>, AccessError> {
    let mut values = Values::default();
    values.text(tenant.as_str()).id(user);
    tx.row(READ, values).await?.as_ref().map(member).transpose()
}

async fn find(tx: &mut Tx<'_>, tenant: &TenantId, user: UserId) -> Result<Member, AccessError> {
    let missing = || AccessError::NotFound { kind: "member", id: user.to_string() };
    read(tx, tenant, user).await?.ok_or_else(missing)
}

/// Refuses to touch those above the actor, and to raise anybody above them.
pub(crate) fn check_reach(actor: TenantRole, before: TenantRole, after: TenantRole) -> Result<(), AccessError> {
    if before > actor {
        return Err(AccessError::Forbidden("an admin cannot change an owner; ask one of the owners"));
    }
    if after > actor {
        return Err(AccessError::Forbidden("nobody can give a role above their own; ask one of the owners"));
    }
    Ok(())
}

/// Refuses a change after which nobody owns the workspace.
async fn check_owner_left(tx: &mut Tx<'_>, tenant: &TenantId, before: &Member) -> Result<(), AccessError> {
    if before.role < TenantRole::Owner || before.deactivated_at.is_some() {
        return Ok(());
    }
    let mut values = Values::default();
    values.text(tenant.as_str());
    let owners: i64 = tx.row(ACTIVE_OWNERS, values).await?.map_or(Ok(0), |row| number(&row, 0))?;
    if owners > 0 {
        return Ok(());
    }
    let message = "a workspace keeps at least one active owner; make somebody else an owner first".to_owned();
    Err(AccessError::Conflict { code: "LAST_OWNER", message })
}

fn member(row: &Row) -> Result<Member, AccessError> {
    Ok(Member {
        user: id(row, 0)?,
        email: text(row, 1)?.to_owned(),
        display_name: text(row, 2)?.to_owned(),
        role: word(row, 3)?,
        created_at: time(row, 4)?,
        deactivated_at: maybe_time(row, 5)?,
    })
}
