//! Workspaces: made, seen, renamed. Who is in them is `members`.

use super::{
    AccessError, Caller, Credential, InSession, InTenant, May, SignedIn, TenantRole, TokenScope, UserId,
    audit::{self, Entry},
    domains, entry, field, members,
    permission::ManageTenant,
    rows::{Ceiling, check_room},
};
use agentruntime_engine::database::{Database, Row, StoreError, Tx, Values, number, text, time};
use agentruntime_host_api::{TenantId, Timestamp};
use serde_json::json;
use std::str::FromStr;
use uuid::Uuid;

const ENTERED: &str = "SELECT t.tenant_id, t.slug, m.role FROM tenants t \
    JOIN memberships m ON m.tenant_id = t.tenant_id \
    JOIN users u ON u.user_id = m.user_id \
    WHERE (t.tenant_id = $1 OR t.slug = $1) AND m.user_id = $2 AND m.deactivated_at IS NULL AND u.disabled_at IS NULL";

const INSERT: &str = "INSERT INTO tenants (tenant_id, slug, name, restrict_domains, created_at, audit_seq, audit_hash) \
    VALUES ($1, $2, $3, 0, $4, 0, '') ON CONFLICT (slug) DO NOTHING RETURNING tenant_id";

const LIST: &str = "SELECT t.tenant_id, t.slug, t.name, t.restrict_domains, t.created_at, m.role FROM memberships m \
    JOIN tenants t ON t.tenant_id = m.tenant_id \
    WHERE m.user_id = $1 AND m.deactivated_at IS NULL AND m.tenant_id > $2 AND ($3 IS NULL OR m.tenant_id = $3) \
    ORDER BY m.tenant_id LIMIT $4";

const READ: &str = "SELECT t.tenant_id, t.slug, t.name, t.restrict_domains, t.created_at, m.role FROM memberships m \
    JOIN tenants t ON t.tenant_id = m.tenant_id WHERE m.tenant_id = $1 AND m.user_id = $2";

const OWNED: &str = "SELECT COUNT(*) FROM memberships WHERE user_id = $1 AND role = 'owner'";

/// Changes nothing, and makes whoever else would change the workspace's members wait for the end of the transaction.
const LOCK: &str = "UPDATE tenants SET audit_seq = audit_seq WHERE tenant_id = $1 RETURNING tenant_id";

const UPDATE: &str = "UPDATE tenants SET name = COALESCE($2, name), restrict_domains = COALESCE($3, restrict_domains) \
    WHERE tenant_id = $1";

/// The workspaces that one person owns at most, so that nobody takes all good slugs.
const TENANTS_OWNED_MAX: u32 = 50;

/// A workspace, as one of its members sees it.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// Its id.
    pub(crate) id: TenantId,
    /// Its name in URLs and headers.
    pub(crate) slug: String,
    /// Its name for people.
    pub(crate) name: String,
    /// Whether only addresses of its verified domains may join.
    pub(crate) restrict_domains: bool,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// What the one who sees it is there.
    pub(crate) role: TenantRole,
}

/// What is to become of a workspace. What is missing stays.
#[derive(Debug, Default)]
pub(crate) struct TenantChange {
    /// Another name.
    pub(crate) name: Option<String>,
    /// Whether only addresses of its verified domains may join from now on.
    pub(crate) restrict_domains: Option<bool>,
}

/// The workspace by slug or id, if the user is an active member of it.
pub(crate) async fn entered(database: &Database, user: UserId, name: &str) -> Result<Option<InTenant>, AccessError> {
    let mut values = Values::default();
    values.text(name).id(user);
    let rows = database.rows(ENTERED, values).await?;
    rows.first().map(in_tenant).transpose()
}

/// The workspaces that the caller may enter, after one of them: a token only its own.
pub(crate) async fn list(
    database: &Database,
    who: &SignedIn,
    after: &str,
    limit: u32,
) -> Result<Vec<Tenant>, AccessError> {
    entry::check_scope(&who.caller.credential, TokenScope::WorkflowRead)?;
    let own = match &who.caller.credential {
        Credential::Token { tenant, .. } => Some(tenant.tenant.as_str()),
        Credential::Session(_) => None,
    };
    let mut values = Values::default();
    values.id(who.user()).text(after).maybe_text(own).number(limit);
    database.rows(LIST, values).await?.iter().map(tenant).collect()
}

/// The workspace that the caller is in.
pub(crate) async fn read(database: &Database, may: &May<ManageTenant>) -> Result<Tenant, AccessError> {
    let mut values = Values::default();
    values.text(may.place.tenant.as_str()).id(may.caller.user);
    tenant(&database.row(READ, values).await?)
}

/// Makes a workspace for somebody who is signed in; a token belongs to one already.
pub(crate) async fn found(database: &Database, who: &InSession, slug: &str, name: &str) -> Result<Tenant, AccessError> {
    let (name, now) = (field::name("name", name)?, database.time());
    let mut tx = database.begin().await?;
    let mut values = Values::default();
    values.id(who.caller.user);
    let message = format!("you own {TENANTS_OWNED_MAX} workspaces, and nobody can own more");
    let ceiling = Ceiling { count: OWNED, max: TENANTS_OWNED_MAX, code: "TOO_MANY_TENANTS", message };
    check_room(&mut tx, values, ceiling).await?;
    let made = create(&mut tx, &who.caller, slug, &name, now.as_micros()).await?;
    tx.commit().await?;
    let InTenant { tenant: id, slug, role } = made;
    Ok(Tenant { id, slug, name, restrict_domains: false, created_at: now, role })
}

/// Makes a workspace, with its maker as the owner.
pub(crate) async fn create(
    tx: &mut Tx<'_>,
    caller: &Caller,
    slug: &str,
    name: &str,
    now: i64,
) -> Result<InTenant, AccessError> {
    field::check_slug(slug)?;
    let tenant = TenantId::new(Uuid::now_v7().to_string());
    let mut values = Values::default();
    values.text(tenant.as_str()).text(slug).text(name).number(now);
    if tx.row(INSERT, values).await?.is_none() {
        let message = format!("a workspace `{slug}` exists already; choose another slug");
        return Err(AccessError::Conflict { code: "SLUG_TAKEN", message });
    }
    members::add(tx, &tenant, caller.user, TenantRole::Owner, now).await?;
    let entry = Entry { action: "tenant.create", target: tenant.to_string(), details: json!({ "slug": slug }) };
    audit::record(tx, &tenant, caller, entry, now).await?;
    Ok(InTenant { tenant, slug: slug.to_owned(), role: TenantRole::Owner })
}

/// Changes a workspace. Who closes it to all but its domains must be inside one, so as not to be the first left outside.
pub(crate) async fn change(
    database: &Database,
    may: &May<ManageTenant>,
    change: TenantChange,
) -> Result<Tenant, AccessError> {
    let name = change.name.as_deref().map(|name| field::name("name", name)).transpose()?;
    let id = &may.place.tenant;
    let mut tx = database.begin().await?;
    members::take_turn(&mut tx, may).await?;
    if change.restrict_domains == Some(true) {
        domains::check_can_restrict(&mut tx, id, &may.caller.email).await?;
    }
    let mut values = Values::default();
    values.text(id.as_str()).maybe_text(name.as_deref()).maybe_number(change.restrict_domains.map(i64::from));
    tx.rows(UPDATE, values).await?;
    let details = json!({ "name": name, "restrict_domains": change.restrict_domains });
    may.record(&mut tx, "tenant.update", id, details, database.time()).await?;
    let mut values = Values::default();
    values.text(id.as_str()).id(may.caller.user);
    let changed = tenant(&tx.row(READ, values).await?.ok_or(StoreError::NotFound)?)?;
    tx.commit().await?;
    Ok(changed)
}

/// Makes everybody else who would change the workspace's members wait until the transaction ends.
pub(crate) async fn lock(tx: &mut Tx<'_>, tenant: &TenantId) -> Result<(), AccessError> {
    let mut values = Values::default();
    values.text(tenant.as_str());
    tx.row(LOCK, values).await?.ok_or(StoreError::NotFound)?;
    Ok(())
}

fn in_tenant(row: &Row) -> Result<InTenant, AccessError> {
    Ok(InTenant { tenant: TenantId::new(text(row, 0)?), slug: text(row, 1)?.to_owned(), role: word(row, 2)? })
}

fn tenant(row: &Row) -> Result<Tenant, AccessError> {
    Ok(Tenant {
        id: TenantId::new(text(row, 0)?),
        slug: text(row, 1)?.to_owned(),
        name: text(row, 2)?.to_owned(),
        restrict_domains: number::<i64>(row, 3)? != 0,
        created_at: time(row, 4)?,
        role: word(row, 5)?,
    })
}

/// Reads a column that holds one of our words.
pub(crate) fn word<W: FromStr>(row: &Row, index: usize) -> Result<W, StoreError>
where
    W::Err: std::fmt::Display,
{
    text(row, index)?.parse().map_err(|error: W::Err| StoreError::Corrupt(error.to_string()))
}
