//! Connections that hold an access: they come about by being authorized, and never by what somebody writes.

use super::{
    Connection, ceiling, named,
    table::{GRANT, INSERT, NAMED, connection},
    taken,
};
use crate::{
    access::{
        May,
        permission::WriteConnections,
        rows::{self, check_room, key},
    },
    app::App,
    integrations::{ConnectionId, IntegrationError, oauth::Grant},
    vault::SealError,
};
use agentruntime_engine::{
    database::{Database, StoreError, Values, json},
    store::Scope,
};
use serde_json::json;
use std::collections::BTreeMap;
use url::Url;

/// Who gave the credentials of such connections, and what they are for.
const PROVIDER: &str = "mcp";

/// Refuses a name that stands for something else than access to this server.
pub(in crate::integrations) async fn check_free(
    database: &Database,
    scope: &Scope,
    name: &str,
    server: &Url,
) -> Result<(), IntegrationError> {
    match named(database, scope, name).await? {
        Some(found) if !is_for(&found, server) => Err(taken(name)),
        Some(_) | None => Ok(()),
    }
}

/// Keeps an access as the connection of this name, a new one or the one that held access to the same server before.
pub(in crate::integrations) async fn keep(
    app: &App,
    may: &May<WriteConnections>,
    display_name: &str,
    grant: Grant,
    seal: impl FnOnce(ConnectionId) -> Result<String, SealError>,
) -> Result<Connection, IntegrationError> {
    let (database, scope) = (app.database(), may.place.scope());
    let now = database.time();
    let mut tx = database.begin().await?;
    let details = json!({ "display_name": display_name, "issuer": grant.issuer, "scopes": grant.scopes });
    // The entry first: it makes those who change things of one workspace take turns.
    may.record(&mut tx, "mcp_server.authorized", grant.server, details, now).await?;
    let mut values = rows::of(&scope);
    values.text(display_name);
    let before = tx.row(NAMED, values).await?.as_ref().map(connection).transpose()?;
    let hosts = json(&grant.hosts());
    let row = match before {
        Some(before) if is_for(&before, &grant.url) => {
            let mut values = key(&scope, before.id);
            values.text(json(&grant)).text(seal(before.id)?).text(hosts).number(now.as_micros());
            tx.row(GRANT, values).await?.ok_or(StoreError::NotFound)?
        }
        Some(_) => return Err(taken(display_name)),
        None => {
            check_room(&mut tx, rows::of(&scope), ceiling()).await?;
            let id = ConnectionId::new_v7();
            let mut values = Values::default();
            values.id(id).scope(&scope).text(display_name).text(PROVIDER).text(PROVIDER);
            values.text(json(&BTreeMap::<String, String>::new())).text(hosts).id(may.caller.user);
            values.number(now.as_micros()).text(json(&grant)).text(seal(id)?);
            tx.row(INSERT, values).await?.ok_or_else(|| taken(display_name))?
        }
    };
    tx.commit().await?;
    Ok(connection(&row)?)
}

fn is_for(found: &Connection, server: &Url) -> bool {
    found.grant.as_ref().is_some_and(|grant| grant.url == *server)
}
