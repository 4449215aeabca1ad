//! A token that is fresh, renewed by one at a time, whichever node it works for.
//!
//! Who renews takes a lease of the row first. What it was given is written before anybody uses it, and only where nobody wrote
//! meanwhile: a server that gives a new token for each renewal takes the one before for stolen when it comes again. Where a node
//! is killed between the server's answer and the write, the answer is lost; the lease ends, and whoever comes next finds out
//! whether the server still takes the token that is kept.

use super::{
    RENEWAL_LEASE, RENEWED_BEFORE,
    grant::{Flow, Grant, Secrets, Status},
    http::OverEgress,
    tokens::{Counter, Given, NotGiven},
};
use crate::{
    access::rows::key,
    integrations::{
        ConnectionId,
        connections::{self, Connection},
        secrets::{Keeper, SecretError},
    },
    vault::Sealer,
};
use agentruntime_egress::Secret;
use agentruntime_engine::database::{StoreError, Values, json};
use agentruntime_host_api::{SecretRef, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// The credential of a connection that was authorized.
pub(crate) const ACCESS_TOKEN: &str = "access_token";
/// How often somebody who waits for another's renewal looks.
const LOOKED_EVERY: Duration = Duration::from_millis(100);

const LEASE: &str = "UPDATE connections SET renewing_until = $5 WHERE tenant_id = $1 AND project_id = $2 \
    AND connection_id = $3 AND granted_turn = $4 AND (renewing_until IS NULL OR renewing_until <= $6) \
    RETURNING connection_id";
const KEEP: &str = "UPDATE connections SET granted = $5, granted_sealed = $6, granted_turn = granted_turn + 1, \
    renewing_until = NULL WHERE tenant_id = $1 AND project_id = $2 AND connection_id = $3 AND granted_turn = $4 \
    RETURNING connection_id";
const RELEASE: &str = "UPDATE connections SET renewing_until = NULL WHERE tenant_id = $1 AND project_id = $2 \
    AND connection_id = $3 AND granted_turn = $4 AND renewing_until = $5 RETURNING connection_id";

/// An access as it was read.
struct Held {
    id: ConnectionId,
    name: String,
    turn: u64,
    grant: Grant,
    secrets: Secrets,
}

/// The token of a connection that was authorized, fresh. `used` is one that its server did not take.
pub(in crate::integrations) async fn fresh(
    keeper: &Keeper,
    sealer: &Arc<Sealer>,
    mut found: Connection,
    used: Option<&SecretString>,
) -> Result<Secret, SecretError> {
    let deadline = Instant::now() + RENEWAL_LEASE;
    loop {
        let held = Held::of(keeper, sealer, found)?;
        let (id, now) = (held.id, keeper.database.time());
        if held.grant.status == Status::AuthorizationRequired {
            return Err(held.over("its server did not renew it"));
        }
        if held.is_good(now, used) {
            return Ok(held.secret());
        }
        if used.is_some() && held.grant.client.flow == Flow::AuthorizationCode && held.secrets.refresh_token.is_none() {
            // One server's word is not enough to write that down: others may take it.
            return Err(held.over("its server does not take the token, and there is none that renews it"));
        }
        let until = now.plus(RENEWAL_LEASE);
        if held.lease(keeper, until, now).await? {
            let (keeper, sealer, is_refused) = (keeper.clone(), sealer.clone(), used.is_some());
            // Whoever waits may go away; what the server gives is kept all the same.
            let renewing = tokio::spawn(async move { held.renew(&keeper, &sealer, until, is_refused).await });
            let renewed = renewing.await.unwrap_or_else(|_| Err(SecretError::Token("it was given up".into())));
            if let Some(secret) = renewed? {
                return Ok(secret);
            }
        } else if Instant::now() >= deadline {
            let message = "the token is being renewed by another node, and that takes long; try again";
            return Err(SecretError::Token(message.into()));
        } else {
            sleep(LOOKED_EVERY).await;
        }
        let again = connections::named(&keeper.database, &keeper.scope, &id.to_string()).await?;
        found = again.ok_or_else(|| SecretError::Missing("the connection was deleted meanwhile".into()))?;
    }
}

/// Renews those tokens among the secrets that were sent to a server which did not take them; whether there is one.
pub(in crate::integrations) async fn renew(
    keeper: &Keeper,
    bindings: &BTreeMap<String, SecretRef>,
    sent: &BTreeMap<String, Secret>,
) -> Result<bool, SecretError> {
    let mut is_any = false;
    for (name, kept) in bindings {
        let SecretRef::Connection { connection, key } = kept else { continue };
        let (Some(sent), true) = (sent.get(name), key == ACCESS_TOKEN) else { continue };
        let found = connections::named(&keeper.database, &keeper.scope, connection).await?;
        if let Some(found) = found.filter(|it| it.grant.is_some()) {
            let sealer = keeper.sealer().await?;
            fresh(keeper, &sealer, found, Some(&sent.value)).await?;
            is_any = true;
        }
    }
    Ok(is_any)
}

/// When a token that ends then is renewed: a while before, but not all the time where it is short-lived.
pub(super) fn renewed_at(now: Timestamp, expires_at: Option<Timestamp>) -> Option<Timestamp> {
    let lasts = expires_at?.since(now);
    Some(now.plus(lasts.saturating_sub(RENEWED_BEFORE.min(lasts / 2))))
}

impl Held {
    fn of(keeper: &Keeper, sealer: &Sealer, found: Connection) -> Result<Self, SecretError> {
        let (id, turn) = (found.id, found.granted_turn);
        let (Some(grant), Some(sealed)) = (found.grant, found.granted_sealed) else {
            let message = format!("the connection `{}` was not authorized", found.display_name);
            return Err(SecretError::Missing(message));
        };
        let secrets = Secrets::open(sealer, &keeper.scope.tenant, id, &sealed)?;
        Ok(Self { id, name: found.display_name, turn, grant, secrets })
    }

    fn is_good(&self, now: Timestamp, used: Option<&SecretString>) -> bool {
        match used {
            Some(used) => used.expose_secret() != self.secrets.access_token.expose_secret(),
            None => self.grant.renewed_at.is_none_or(|at| now < at),
        }
    }

    fn secret(&self) -> Secret {
        Secret { value: self.secrets.access_token.clone(), hosts: self.grant.hosts() }
    }

    fn over(&self, why: &str) -> SecretError {
        let (name, server) = (&self.name, self.grant.server);
        SecretError::Unauthorized(format!(
            "the access of the connection `{name}` is over: {why}. Authorize it again: POST /v1/mcp/servers/{server}/authorize \
             with `{name}` as `display_name`"
        ))
    }

    fn values(&self, keeper: &Keeper) -> Values {
        let mut values = key(&keeper.scope, self.id);
        values.number(self.turn);
        values
    }

    /// Takes the renewal for oneself, unless another has it.
    async fn lease(&self, keeper: &Keeper, until: Timestamp, now: Timestamp) -> Result<bool, StoreError> {
        let mut values = self.values(keeper);
        values.number(until.as_micros()).number(now.as_micros());
        Ok(!keeper.database.write(LEASE, values).await?.is_empty())
    }

    /// Has the token renewed, and keeps what is given. None where somebody else wrote meanwhile.
    async fn renew(
        mut self,
        keeper: &Keeper,
        sealer: &Sealer,
        until: Timestamp,
        is_refused: bool,
    ) -> Result<Option<Secret>, SecretError> {
        let given = self.ask(keeper).await;
        let now = keeper.database.time();
        match given {
            Ok(given) => {
                self.secrets = given.secrets;
                self.grant.expires_at = given.expires_at;
                self.grant.renewed_at = renewed_at(now, given.expires_at);
                self.grant.scopes = given.scopes.unwrap_or(self.grant.scopes);
                Ok(self.keep(keeper, sealer).await?.then(|| self.secret()))
            }
            Err(NotGiven::Refused(why)) => {
                tracing::warn!(connection_id = %self.id, why, "the access of a connection is over");
                self.grant.status = Status::AuthorizationRequired;
                match self.keep(keeper, sealer).await? {
                    true => Err(self.over(&why)),
                    false => Ok(None),
                }
            }
            Err(NotGiven::Failed(why)) => {
                let mut values = self.values(keeper);
                values.number(until.as_micros());
                keeper.database.write(RELEASE, values).await?;
                match !is_refused && self.grant.expires_at.is_some_and(|at| now < at) {
                    // What is there lasts a little longer.
                    true => Ok(Some(self.secret())),
                    false => Err(SecretError::Token(format!("the token of `{}` was not renewed: {why}", self.name))),
                }
            }
        }
    }

    async fn ask(&self, keeper: &Keeper) -> Result<Given, NotGiven> {
        let counter = Counter {
            http: &OverEgress::new(&keeper.egress),
            client: &self.grant.client,
            client_secret: self.secrets.client_secret.as_ref(),
            database: &keeper.database,
        };
        match (self.grant.client.flow, &self.secrets.refresh_token) {
            (Flow::AuthorizationCode, Some(token)) => counter.for_refresh_token(token).await,
            (Flow::AuthorizationCode, None) => {
                Err(NotGiven::Refused("its server gave none that renews it, and takes it no more".into()))
            }
            (Flow::ClientCredentials, _) => counter.for_client(&self.grant.scopes).await,
        }
    }

    async fn keep(&self, keeper: &Keeper, sealer: &Sealer) -> Result<bool, SecretError> {
        let sealed = self.secrets.seal(sealer, &keeper.scope.tenant, self.id)?;
        let mut values = self.values(keeper);
        values.text(json(&self.grant)).text(sealed);
        Ok(!keeper.database.write(KEEP, values).await?.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_a_minute_before_its_end_or_at_half_of_its_life() {
        let now = Timestamp::from_micros(1_767_225_600_000_000);
        let after = |seconds: u64| now.plus(Duration::from_secs(seconds));
        for (lasts, at) in [(3600, 3540), (121, 61), (120, 60), (60, 30), (0, 0)] {
            assert_eq!(renewed_at(now, Some(after(lasts))), Some(after(at)), "{lasts}");
        }
        assert_eq!(renewed_at(now, None), None);
    }
}
