//! Connections: named credentials of a project. What they hold is written and never read back.

pub(super) mod granted;
mod table;

use super::{
    ConnectionId, IntegrationError,
    fields::{check_count, check_value, name, word},
    hosts,
    oauth::{self, Grant, Status},
};
use crate::{
    access::{
        May, UserId,
        permission::{ReadConnections, WriteConnections},
        rows::{self, Ceiling, check_room, key},
    },
    app::App,
    vault::{Place, Sealer, data_keys},
};
use agentruntime_engine::{
    database::{Database, StoreError, Values, json},
    store::Scope,
};
use agentruntime_host_api::{HostPattern, Timestamp};
use futures_util::{StreamExt, stream};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use table::{CONNECTIONS_MAX, COUNT, DELETE, INSERT, LIST, NAMED, SELECT, UPDATE, connection};
use uuid::Uuid;

/// Hosts that a test of a connection asks at a time.
const HOSTS_AT_ONCE: usize = 8;

/// What sealed credentials are bound to.
const KIND: &str = "connection";

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its id.
    pub(crate) id: ConnectionId,
    /// Where it lies.
    pub(crate) scope: Scope,
    /// For people, and for workflows; one of a kind in its project.
    pub(crate) display_name: String,
    /// Who gave the credentials.
    pub(crate) provider: String,
    /// What they are for.
    pub(crate) service: String,
    /// Where they may be sent.
    pub(crate) allowed_hosts: Vec<HostPattern>,
    /// Who made it.
    pub(crate) created_by: UserId,
    /// When.
    pub(crate) created_at: Timestamp,
    /// When it was changed last.
    pub(crate) updated_at: Timestamp,
    /// The access that it holds, where it was authorized.
    pub(crate) grant: Option<Grant>,
    /// What is secret of that, sealed.
    pub(super) granted_sealed: Option<String>,
    /// Goes up with each new token.
    pub(super) granted_turn: u64,
    /// By their names, sealed.
    sealed: BTreeMap<String, String>,
}

/// What a new connection is to be.
pub(crate) struct NewConnection {
    /// For people, and for workflows.
    pub(crate) display_name: String,
    /// Who gave the credentials.
    pub(crate) provider: String,
    /// What they are for.
    pub(crate) service: String,
    /// By their names.
    pub(crate) credentials: BTreeMap<String, SecretString>,
    /// Where they may be sent; nothing: where the service is, if that is known.
    pub(crate) allowed_hosts: Option<Vec<String>>,
}

/// What is to be different; what is not said stays.
#[derive(Default)]
pub(crate) struct Change {
    /// The name.
    pub(crate) display_name: Option<String>,
    /// New values, by their names; those without one are taken away.
    pub(crate) credentials: BTreeMap<String, Option<SecretString>>,
    /// Where they may be sent.
    pub(crate) allowed_hosts: Option<Vec<String>>,
}

/// Makes a connection.
pub(crate) async fn create(
    app: &App,
    may: &May<WriteConnections>,
    new: NewConnection,
) -> Result<Connection, IntegrationError> {
    let (database, scope) = (app.database(), may.place.scope());
    let display_name = name("display_name", &new.display_name)?;
    word("provider", &new.provider)?;
    word("service", &new.service)?;
    if new.credentials.is_empty() {
        return Err(IntegrationError::invalid("credentials", "give at least one, such as `{ \"api_key\": \"…\" }`"));
    }
    let allowed = match &new.allowed_hosts {
        Some(given) => hosts::read(given)?,
        None => hosts::of_service(&new.service),
    };
    let (id, now) = (ConnectionId::new_v7(), database.time());
    let sealer = data_keys::sealer(database, &app.sealer, &scope.tenant).await?;
    let mut sealed = BTreeMap::new();
    for (key, value) in &new.credentials {
        sealed.insert(key.clone(), seal(&sealer, &scope, id, key, value)?);
    }
    check_count(&sealed)?;
    let mut tx = database.begin().await?;
    let details = json!({
        "display_name": display_name, "service": new.service, "credential_keys": sealed.keys().collect::<Vec<_>>(),
        "allowed_hosts": allowed,
    });
    may.record(&mut tx, "connection.create", id, details, now).await?;
    check_room(&mut tx, rows::of(&scope), ceiling()).await?;
    let mut values = Values::default();
    values.id(id).scope(&scope).text(&display_name).text(&new.provider).text(&new.service);
    values.text(json(&sealed)).text(json(&allowed)).id(may.caller.user).number(now.as_micros());
    values.maybe_text(None::<String>).maybe_text(None::<String>);
    let row = tx.row(INSERT, values).await?.ok_or_else(|| taken(&display_name))?;
    tx.commit().await?;
    Ok(connection(&row)?)
}

/// Connections of a project, in the order in which they were made.
pub(crate) async fn list(
    database: &Database,
    may: &May<ReadConnections>,
    after: Option<(i64, Uuid)>,
    limit: u32,
) -> Result<Vec<Connection>, IntegrationError> {
    let rows = database.rows(LIST, rows::page(rows::of(&may.place.scope()), after, limit)).await?;
    Ok(rows.iter().map(connection).collect::<Result<_, _>>()?)
}

/// One connection.
pub(crate) async fn get(
    database: &Database,
    may: &May<ReadConnections>,
    id: ConnectionId,
) -> Result<Connection, IntegrationError> {
    let rows = database.rows(SELECT, key(&may.place.scope(), id)).await?;
    Ok(connection(rows.first().ok_or_else(|| unknown(id))?)?)
}

/// The connection that a workflow names, by its id or its name.
pub(super) async fn named(database: &Database, scope: &Scope, name: &str) -> Result<Option<Connection>, StoreError> {
    database.rows(NAMED, key(scope, name)).await?.first().map(connection).transpose()
}

/// Changes a connection.
pub(crate) async fn change(
    app: &App,
    may: &May<WriteConnections>,
    id: ConnectionId,
    change: Change,
) -> Result<Connection, IntegrationError> {
    let (database, scope) = (app.database(), may.place.scope());
    let given_name = change.display_name.as_deref().map(|text| name("display_name", text)).transpose()?;
    let given_hosts = change.allowed_hosts.as_deref().map(hosts::read).transpose()?;
    let given = seal_given(app, &scope, id, &change.credentials).await?;
    let now = database.time();
    let mut tx = database.begin().await?;
    let details = json!({
        "display_name": given_name, "credential_keys": given.keys().collect::<Vec<_>>(),
        "allowed_hosts": given_hosts,
    });
    // The entry first: it makes those who change things of one workspace take turns.
    may.record(&mut tx, "connection.update", id, details, now).await?;
    let row = tx.row(SELECT, key(&scope, id)).await?.ok_or_else(|| unknown(id))?;
    let before = connection(&row)?;
    if before.grant.is_some() && (!change.credentials.is_empty() || given_hosts.is_some()) {
        let message = "this connection was authorized at its MCP server, whose token it holds for that server alone; authorize \
            it again, or make another connection for credentials of other kinds";
        return Err(IntegrationError::invalid("credentials", message));
    }
    let mut sealed = before.sealed;
    for (key, value) in given {
        match value {
            Some(value) => sealed.insert(key, value),
            None => sealed.remove(&key),
        };
    }
    if before.grant.is_none() {
        check_count(&sealed)?;
    }
    let display_name = given_name.unwrap_or(before.display_name);
    let allowed = given_hosts.unwrap_or_else(|| before.allowed_hosts.clone());
    // Whoever may change where credentials go may not thereby have one sent to a place that they never knew it for.
    if hosts::is_wider(&before.allowed_hosts, &allowed)
        && let Some(kept) = sealed.keys().find(|key| !change.credentials.contains_key(*key))
    {
        let message = format!(
            "that lets credentials go where they did not: give all of them again along with it; `{kept}` is missing. Taking \
             hosts away needs none"
        );
        return Err(IntegrationError::invalid("allowed_hosts", message));
    }
    let mut values = key(&scope, id);
    values.text(&display_name).text(json(&sealed)).text(json(&allowed)).number(now.as_micros());
    let row = tx.row(UPDATE, values).await?.ok_or_else(|| taken(&display_name))?;
    tx.commit().await?;
    Ok(connection(&row)?)
}

/// What was checked about a connection.
#[derive(Debug)]
pub(crate) struct Tested {
    /// A credential or a host.
    pub(crate) what: String,
    /// Why it did not pass.
    pub(crate) error: Option<String>,
}

/// Checks that the credentials of a connection can be opened, and that its hosts answer. Sends no credential.
pub(crate) async fn test(
    app: &App,
    may: &May<WriteConnections>,
    id: ConnectionId,
) -> Result<Vec<Tested>, IntegrationError> {
    let (database, scope) = (app.database(), may.place.scope());
    let rows = database.rows(SELECT, key(&scope, id)).await?;
    let found = connection(rows.first().ok_or_else(|| unknown(id))?)?;
    let _inquiry = app.inquiries.admit(&scope.tenant)?;
    let sealer = data_keys::opener(database, &app.sealer, &scope.tenant).await?;
    let mut tested = Vec::new();
    for key in found.credential_keys() {
        let is_open = found.open(&sealer, key).is_some_and(|value| value.is_ok());
        let is_over = found.grant.as_ref().is_some_and(|grant| grant.status == Status::AuthorizationRequired);
        let error = match (is_open, is_over) {
            (false, _) => Some("it cannot be opened any more; enter it anew".to_owned()),
            (true, true) => Some("its access is over; authorize it again".to_owned()),
            (true, false) => None,
        };
        tested.push(Tested { what: format!("credential {key}"), error });
    }
    let asked = found.allowed_hosts.into_iter().map(|host| async move {
        let error = app.outside.reaches(&host).await.err().map(|error| error.to_string());
        Tested { what: format!("host {host}"), error }
    });
    // All at once: one that does not answer keeps the others waiting for no longer than itself.
    tested.extend(stream::iter(asked).buffered(HOSTS_AT_ONCE).collect::<Vec<_>>().await);
    Ok(tested)
}

/// Deletes a connection. Steps that use it fail from then on.
pub(crate) async fn delete(app: &App, may: &May<WriteConnections>, id: ConnectionId) -> Result<(), IntegrationError> {
    let now = app.database().time();
    let mut tx = app.database().begin().await?;
    may.record(&mut tx, "connection.delete", id, Value::Null, now).await?;
    tx.row(DELETE, key(&may.place.scope(), id)).await?.ok_or_else(|| unknown(id))?;
    Ok(tx.commit().await?)
}

impl Connection {
    /// The names of its credentials.
    pub(crate) fn credential_keys(&self) -> Vec<&str> {
        let granted = self.grant.as_ref().map(|_| oauth::ACCESS_TOKEN);
        self.sealed.keys().map(String::as_str).chain(granted).collect()
    }

    /// The value of a credential, if it has one of that name.
    pub(super) fn open(&self, sealer: &Sealer, key: &str) -> Option<Result<SecretString, crate::vault::SealError>> {
        if let (oauth::ACCESS_TOKEN, Some(sealed)) = (key, &self.granted_sealed) {
            return Some(oauth::kept_token(sealer, &self.scope.tenant, self.id, sealed));
        }
        let place = format!("{}/{key}", self.id);
        let place = Place { tenant: &self.scope.tenant, kind: KIND, id: &place };
        self.sealed.get(key).map(|sealed| sealer.open_sealed(place, sealed))
    }
}

/// New values, sealed. A workspace gets its key only for a value: taking one away needs none.
async fn seal_given(
    app: &App,
    scope: &Scope,
    id: ConnectionId,
    given: &BTreeMap<String, Option<SecretString>>,
) -> Result<BTreeMap<String, Option<String>>, IntegrationError> {
    if given.values().all(Option::is_none) {
        return Ok(given.keys().map(|key| (key.clone(), None)).collect());
    }
    let sealer = data_keys::sealer(app.database(), &app.sealer, &scope.tenant).await?;
    let sealed = |(key, value): (&String, &Option<SecretString>)| {
        let value = value.as_ref().map(|value| seal(&sealer, scope, id, key, value)).transpose()?;
        Ok((key.clone(), value))
    };
    given.iter().map(sealed).collect()
}

fn seal(
    sealer: &Sealer,
    scope: &Scope,
    id: ConnectionId,
    key: &str,
    value: &SecretString,
) -> Result<String, IntegrationError> {
    word("credentials", key)?;
    check_value("credentials", value)?;
    let place = format!("{id}/{key}");
    Ok(sealer.seal(Place { tenant: &scope.tenant, kind: KIND, id: &place }, value)?)
}

pub(super) fn ceiling() -> Ceiling {
    let message = format!("a project has at most {CONNECTIONS_MAX} connections; delete one first");
    Ceiling { count: COUNT, max: CONNECTIONS_MAX, code: "TOO_MANY_CONNECTIONS", message }
}

pub(super) fn taken(name: &str) -> IntegrationError {
    let message = format!("this project has a connection `{name}` already; choose another name, or change that one");
    crate::access::AccessError::Conflict { code: "CONNECTION_NAME_TAKEN", message }.into()
}

fn unknown(id: ConnectionId) -> IntegrationError {
    crate::access::AccessError::NotFound { kind: "connection", id: id.to_string() }.into()
}
