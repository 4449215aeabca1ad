//! Domains that a workspace has shown to be its own, by a DNS record; and the rule that only their addresses may join.

use super::{
    AccessError, May, field, members,
    permission::ManageTenant,
    rows::{Ceiling, check_room},
    token,
};
use agentruntime_engine::database::{Database, Row, StoreError, Tx, Values, maybe_time, number, text, time};
use agentruntime_host_api::{TenantId, Timestamp};
use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::rr::RData,
};
use serde_json::json;
use std::{net::SocketAddr, time::Duration};

const COUNT: &str = "SELECT COUNT(*) FROM domains WHERE tenant_id = $1";

const INSERT: &str = "INSERT INTO domains (tenant_id, domain, challenge, created_at) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (tenant_id, domain) DO NOTHING RETURNING domain";

const LIST: &str = "SELECT domain, challenge, created_at, verified_at FROM domains \
    WHERE tenant_id = $1 AND domain > $2 ORDER BY domain LIMIT $3";

const READ: &str =
    "SELECT domain, challenge, created_at, verified_at FROM domains WHERE tenant_id = $1 AND domain = $2";

const VERIFY: &str = "UPDATE domains SET verified_at = COALESCE(verified_at, $3) WHERE tenant_id = $1 AND domain = $2 \
    AND NOT EXISTS (SELECT 1 FROM domains o WHERE o.domain = $2 AND o.tenant_id <> $1 AND o.verified_at IS NOT NULL) \
    RETURNING domain, challenge, created_at, verified_at";

const DELETE: &str = "DELETE FROM domains WHERE tenant_id = $1 AND domain = $2 RETURNING domain";

/// Whether the workspace is closed to all but its domains, how many it has, and whether the address is in one.
const RESTRICTION: &str = "SELECT t.restrict_domains, \
    (SELECT COUNT(*) FROM domains d WHERE d.tenant_id = $1 AND d.verified_at IS NOT NULL), \
    (SELECT COUNT(*) FROM domains d WHERE d.tenant_id = $1 AND d.verified_at IS NOT NULL AND d.domain = $2) \
    FROM tenants t WHERE t.tenant_id = $1";

/// Domains of one workspace: an enterprise with all its brands has fewer.
const DOMAINS_MAX: u32 = 50;
/// The longest domain, in bytes: what is left of a DNS name's 253 with `_agentruntime.` before it.
const DOMAIN_BYTES_MAX: usize = 239;
/// Name servers that take longer than this are as good as none: a person waits.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
const LOOKUP_ATTEMPTS: usize = 2;

/// A domain, as a workspace claims it.
#[derive(Clone, Debug)]
pub(crate) struct Domain {
    /// Its name, in lower case.
    pub(crate) domain: String,
    /// What the TXT record has to hold.
    pub(crate) challenge: String,
    /// When it was claimed.
    pub(crate) created_at: Timestamp,
    /// When it was shown to be the workspace's.
    pub(crate) verified_at: Option<Timestamp>,
}

impl Domain {
    /// Where the TXT record has to be.
    pub(crate) fn record_name(&self) -> String {
        format!("_agentruntime.{}", self.domain)
    }
}

/// Claims a domain; claiming it again changes nothing.
pub(crate) async fn claim(database: &Database, may: &May<ManageTenant>, domain: &str) -> Result<Domain, AccessError> {
    let (tenant, domain, now) = (&may.place.tenant, plain(domain)?, database.time());
    let challenge = format!("agentruntime-verification={}", token::new_opaque().expose());
    let mut tx = database.begin().await?;
    members::take_turn(&mut tx, may).await?;
    let mut values = Values::default();
    values.text(tenant.as_str());
    let message = format!("a workspace has {DOMAINS_MAX} domains at most; remove one first");
    let ceiling = Ceiling { count: COUNT, max: DOMAINS_MAX, code: "TOO_MANY_DOMAINS", message };
    check_room(&mut tx, values, ceiling).await?;
    let mut values = Values::default();
    values.text(tenant.as_str()).text(&domain).text(challenge).number(now.as_micros());
    if tx.row(INSERT, values).await?.is_some() {
        may.record(&mut tx, "domain.claim", &domain, json!({}), now).await?;
    }
    let found = find(tx.row(READ, key(tenant, &domain)).await?.as_ref(), &domain)?;
    tx.commit().await?;
    Ok(found)
}

/// The domains of a workspace, after one of them.
pub(crate) async fn list(
    database: &Database,
    may: &May<ManageTenant>,
    after: &str,
    limit: u32,
) -> Result<Vec<Domain>, AccessError> {
    let mut values = Values::default();
    values.text(may.place.tenant.as_str()).text(after).number(limit);
    database.rows(LIST, values).await?.iter().map(read).collect()
}

/// Looks whether the DNS record is there, and takes the domain for the workspace's own if so.
pub(crate) async fn verify(
    database: &Database,
    may: &May<ManageTenant>,
    domain: &str,
    name_server: Option<SocketAddr>,
) -> Result<Domain, AccessError> {
    let (tenant, now) = (&may.place.tenant, database.time());
    let claimed = find(database.rows(READ, key(tenant, domain)).await?.first(), domain)?;
    if !records(&claimed.record_name(), name_server).await?.contains(&claimed.challenge) {
        let (name, challenge) = (claimed.record_name(), &claimed.challenge);
        let message =
            format!("no TXT record at {name} holds {challenge}; DNS may take a while to show a new record, try again");
        return Err(AccessError::Conflict { code: "DOMAIN_NOT_PROVEN", message });
    }
    let mut tx = database.begin().await?;
    members::take_turn(&mut tx, may).await?;
    let mut values = key(tenant, domain);
    values.number(now.as_micros());
    let verified = match tx.row(VERIFY, values).await {
        Ok(Some(row)) => read(&row)?,
        // Somebody else was quicker, or it was removed meanwhile.
        Ok(None) => return Err(taken(domain)),
        Err(StoreError::Database(sqlx::Error::Database(error))) if error.is_unique_violation() => {
            return Err(taken(domain));
        }
        Err(error) => return Err(error.into()),
    };
    may.record(&mut tx, "domain.verify", domain, json!({}), now).await?;
    tx.commit().await?;
    Ok(verified)
}

/// Gives a domain up. The last one stays while only domains may join.
pub(crate) async fn remove(database: &Database, may: &May<ManageTenant>, domain: &str) -> Result<(), AccessError> {
    let tenant = &may.place.tenant;
    let mut tx = database.begin().await?;
    members::take_turn(&mut tx, may).await?;
    if tx.row(DELETE, key(tenant, domain)).await?.is_none() {
        return Err(not_found(domain));
    }
    let Restriction { is_on, domains, .. } = restriction(&mut tx, tenant, "").await?;
    if is_on && domains == 0 {
        let message = "only addresses of verified domains may join, and this is the last; turn restrict_domains off";
        return Err(AccessError::Conflict { code: "LAST_DOMAIN", message: message.to_owned() });
    }
    may.record(&mut tx, "domain.remove", domain, json!({}), database.time()).await?;
    Ok(tx.commit().await?)
}

/// Refuses an address that may not join the workspace.
pub(crate) async fn check_may_join(tx: &mut Tx<'_>, tenant: &TenantId, email: &str) -> Result<(), AccessError> {
    let Restriction { is_on, is_inside, .. } = restriction(tx, tenant, email).await?;
    if !is_on || is_inside {
        return Ok(());
    }
    let message = "only addresses of the workspace's verified domains may join it".to_owned();
    Err(AccessError::Conflict { code: "DOMAIN_NOT_ALLOWED", message })
}

/// Refuses to close the workspace to all but its domains where it has none, or where the caller would be outside.
pub(crate) async fn check_can_restrict(tx: &mut Tx<'_>, tenant: &TenantId, email: &str) -> Result<(), AccessError> {
    let Restriction { domains, is_inside, .. } = restriction(tx, tenant, email).await?;
    let refuse = |code, message: &str| Err(AccessError::Conflict { code, message: message.to_owned() });
    match (domains, is_inside) {
        (0, _) => refuse("NO_VERIFIED_DOMAIN", "verify a domain first: then its addresses can join"),
        (_, false) => refuse("OWN_DOMAIN_MISSING", "your own address is in none of the verified domains"),
        (_, true) => Ok(()),
    }
}

struct Restriction {
    is_on: bool,
    domains: i64,
    is_inside: bool,
}

async fn restriction(tx: &mut Tx<'_>, tenant: &TenantId, email: &str) -> Result<Restriction, AccessError> {
    let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain).to_lowercase();
    let row = tx.row(RESTRICTION, key(tenant, &domain)).await?.ok_or(StoreError::NotFound)?;
    let is_on = number::<i64>(&row, 0)? != 0;
    Ok(Restriction { is_on, domains: number(&row, 1)?, is_inside: number::<i64>(&row, 2)? > 0 })
}

/// The texts of all TXT records at a name. A fresh resolver each time: who has just set a record asks again, and must not
/// be told what was there before.
async fn records(name: &str, name_server: Option<SocketAddr>) -> Result<Vec<String>, AccessError> {
    let unavailable =
        |error: hickory_resolver::net::NetError| AccessError::Unavailable { what: "DNS", reason: error.to_string() };
    let mut builder = match name_server {
        Some(address) => TokioResolver::builder_with_config(only(address), TokioRuntimeProvider::default()),
        None => TokioResolver::builder_tokio().map_err(unavailable)?,
    };
    let options = builder.options_mut();
    options.timeout = LOOKUP_TIMEOUT;
    options.attempts = LOOKUP_ATTEMPTS;
    let resolver = builder.build().map_err(unavailable)?;
    // With the dot it is the whole name: nothing of this machine's search list is put behind it.
    match resolver.txt_lookup(format!("{name}.")).await {
        Ok(found) => Ok(found.answers().iter().filter_map(|record| txt(&record.data)).collect()),
        Err(error) if error.is_no_records_found() || error.is_nx_domain() => Ok(Vec::new()),
        Err(error) => Err(unavailable(error)),
    }
}

fn txt(data: &RData) -> Option<String> {
    match data {
        // A long text comes in parts.
        RData::TXT(txt) => String::from_utf8(txt.txt_data.concat()).ok(),
        _ => None,
    }
}

fn only(address: SocketAddr) -> ResolverConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    ResolverConfig::from_name_servers(vec![server])
}

/// A domain as it is kept: lower case, in the form that DNS knows, and one that can hold addresses.
fn plain(domain: &str) -> Result<String, AccessError> {
    let invalid = || AccessError::Invalid { field: "domain", message: "write a domain such as example.com".into() };
    let Ok(url::Host::Domain(domain)) = url::Host::parse(domain.trim()) else { return Err(invalid()) };
    let is_fine = domain.len() <= DOMAIN_BYTES_MAX && domain.contains('.') && domain.split('.').all(field::is_label);
    is_fine.then_some(domain).ok_or_else(invalid)
}

fn key(tenant: &TenantId, domain: &str) -> Values {
    let mut values = Values::default();
    values.text(tenant.as_str()).text(domain);
    values
}

fn find(row: Option<&Row>, domain: &str) -> Result<Domain, AccessError> {
    row.map_or_else(|| Err(not_found(domain)), read)
}

fn not_found(domain: &str) -> AccessError {
    AccessError::NotFound { kind: "domain", id: domain.to_owned() }
}

fn taken(domain: &str) -> AccessError {
    let message = format!("`{domain}` belongs to another workspace; it has to give it up first");
    AccessError::Conflict { code: "DOMAIN_TAKEN", message }
}

fn read(row: &Row) -> Result<Domain, AccessError> {
    Ok(Domain {
        domain: text(row, 0)?.to_owned(),
        challenge: text(row, 1)?.to_owned(),
        created_at: time(row, 2)?,
        verified_at: maybe_time(row, 3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_kept_in_one_form() {
        assert_eq!(plain(" Example.COM ").unwrap(), "example.com");
        assert_eq!(plain("bücher.example").unwrap(), "xn--bcher-kva.example");
        for wrong in ["", "localhost", "127.0.0.1", "[::1]", "a..b", "-a.b", "a_b.c", "a b.c", "example.com."] {
            assert!(plain(wrong).is_err(), "{wrong}");
        }
    }
}
