//! Workspaces and who is in them.

use super::{
    AccessError, Caller, InTenant, TenantRole, UserId,
    audit::{self, Entry},
};
use agentruntime_engine::database::{Database, Row, StoreError, Tx, Values, text};
use agentruntime_host_api::TenantId;
use std::str::FromStr;
use uuid::Uuid;

const ENTERED: &str = "SELECT t.tenant_id, t.slug, m.role FROM tenants t \
    JOIN memberships m ON m.tenant_id = t.tenant_id \
    JOIN users u ON u.user_id = m.user_id \
    WHERE (t.tenant_id = $1 OR t.slug = $1) AND m.user_id = $2 AND m.deactivated_at IS NULL AND u.disabled_at IS NULL";

const INSERT: &str = "INSERT INTO tenants (tenant_id, slug, name, restrict_domains, created_at, audit_seq, audit_hash) \
    VALUES ($1, $2, $3, 0, $4, 0, '') ON CONFLICT (slug) DO NOTHING RETURNING tenant_id";

const INSERT_MEMBER: &str = "INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (tenant_id, user_id) DO NOTHING RETURNING user_id";

/// The longest slug, in characters.
const SLUG_CHARS_MAX: usize = 63;

/// The workspace by slug or id, if the user is an active member of it.
pub(crate) async fn entered(database: &Database, user: UserId, name: &str) -> Result<Option<InTenant>, AccessError> {
    let mut values = Values::default();
    values.text(name).id(user);
    let rows = database.rows(ENTERED, values).await?;
    rows.first().map(in_tenant).transpose()
}

/// Makes a workspace, with its maker as the owner.
pub(crate) async fn create(
    tx: &mut Tx<'_>,
    caller: &Caller,
    slug: &str,
    name: &str,
    now: i64,
) -> Result<InTenant, AccessError> {
    check_slug(slug)?;
    let tenant = TenantId::new(Uuid::now_v7().to_string());
    let mut values = Values::default();
    values.text(tenant.as_str()).text(slug).text(name).number(now);
    if tx.row(INSERT, values).await?.is_none() {
        let message = format!("a workspace `{slug}` exists already; choose another slug");
        return Err(AccessError::Conflict { code: "SLUG_TAKEN", message });
    }
    add_member(tx, &tenant, caller.user, TenantRole::Owner, now).await?;
    let entry =
        Entry { action: "tenant.create", target: tenant.to_string(), details: serde_json::json!({ "slug": slug }) };
    audit::record(tx, &tenant, caller, entry, now).await?;
    Ok(InTenant { tenant, slug: slug.to_owned(), role: TenantRole::Owner })
}

/// Makes a user a member. One who is a member already stays what they are.
pub(crate) async fn add_member(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    user: UserId,
    role: TenantRole,
    now: i64,
) -> Result<bool, AccessError> {
    let mut values = Values::default();
    values.text(tenant.as_str()).id(user).text(role.as_str()).number(now);
    Ok(tx.row(INSERT_MEMBER, values).await?.is_some())
}

/// Refuses what cannot be a slug: lower-case letters, digits and hyphens, beginning with a letter. So no slug looks like an
/// id, and every slug is a host name's part.
pub(crate) fn check_slug(slug: &str) -> Result<(), AccessError> {
    let is_fine = slug.len() <= SLUG_CHARS_MAX
        && slug.starts_with(|first: char| first.is_ascii_lowercase())
        && !slug.ends_with('-')
        && slug.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-')
        && Uuid::from_str(slug).is_err();
    if is_fine {
        return Ok(());
    }
    let message = format!(
        "write up to {SLUG_CHARS_MAX} lower-case letters, digits and hyphens, with a letter first and no hyphen last"
    );
    Err(AccessError::Invalid { field: "slug", message })
}

fn in_tenant(row: &Row) -> Result<InTenant, AccessError> {
    Ok(InTenant { tenant: TenantId::new(text(row, 0)?), slug: text(row, 1)?.to_owned(), role: word(row, 2)? })
}

/// Reads a column that holds one of our words.
pub(crate) fn word<W: FromStr>(row: &Row, index: usize) -> Result<W, StoreError>
where
    W::Err: std::fmt::Display,
{
    text(row, index)?.parse().map_err(|error: W::Err| StoreError::Corrupt(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_a_plain_name_and_no_id() {
        for fine in ["acme", "a", "acme-2", &"a".repeat(63)] {
            assert!(check_slug(fine).is_ok(), "{fine}");
        }
        for wrong in
            ["", "Acme", "2fast", "-a", "a-", "a b", "ä", &"a".repeat(64), "a0000000-0000-4000-8000-000000000000"]
        {
            assert!(check_slug(wrong).is_err(), "{wrong}");
        }
    }
}
