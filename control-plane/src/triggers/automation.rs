//! The token that a subscription's deliveries carry, and in whose name its runs are started: a token of the caller's own,
//! which may start runs in that project.

use super::TriggerError;
use crate::access::{
    May, PatId, TokenScope, TokenScopes,
    permission::WriteTriggers,
    tenants::word,
    token::NewToken,
    tokens::{self, TokenSpec},
};
use agentruntime_engine::database::{Database, Tx, Values, maybe_text, maybe_time, text};
use agentruntime_host_api::Timestamp;
use secrecy::{ExposeSecret, SecretString};

const FIND: &str = "SELECT project_id, scopes, expires_at FROM pats \
    WHERE pat_id = $1 AND tenant_id = $2 AND user_id = $3 AND revoked_at IS NULL";

/// Not while another subscription has it.
const REVOKE: &str = "UPDATE pats SET revoked_at = $3 WHERE pat_id = $1 AND tenant_id = $2 AND revoked_at IS NULL \
    AND NOT EXISTS (SELECT 1 FROM webhook_subscriptions w WHERE w.tenant_id = $2 AND w.pat_id = $1) RETURNING name";

/// Which token a subscription is to have.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// By its id.
    pub(crate) pat: Option<PatId>,
    /// By itself.
    pub(crate) bearer: Option<SecretString>,
}

const NOT_FOUND: &str = "you have no such token; GET /v1/pats lists yours, and without one a new one is made";

impl Wanted {
    /// The token that is named, if one is. It has to be the caller's own, alive, and one that may start runs here.
    pub(super) async fn named(
        &self,
        database: &Database,
        may: &May<WriteTriggers>,
    ) -> Result<Option<PatId>, TriggerError> {
        let by_bearer = match &self.bearer {
            Some(bearer) => Some(by_bearer(database, may, bearer).await?),
            None => None,
        };
        let Some(pat) = self.pat.or(by_bearer) else { return Ok(None) };
        if by_bearer.is_some_and(|other| other != pat) {
            return Err(TriggerError::invalid("automation_bearer", "it is another token than `automation_pat_id`"));
        }
        check(database, may, pat).await?;
        Ok(Some(pat))
    }
}

async fn by_bearer(
    database: &Database,
    may: &May<WriteTriggers>,
    bearer: &SecretString,
) -> Result<PatId, TriggerError> {
    let recognised = tokens::recognise(database, bearer.expose_secret(), may.caller.origin.clone()).await?;
    let caller = recognised.map(|recognised| recognised.caller);
    // Whose it is otherwise is not told.
    let own = caller.filter(|caller| caller.user == may.caller.user).and_then(|caller| caller.credential.pat());
    own.ok_or_else(|| TriggerError::invalid("automation_bearer", NOT_FOUND))
}

async fn check(database: &Database, may: &May<WriteTriggers>, pat: PatId) -> Result<(), TriggerError> {
    let refused = |message: &str| TriggerError::invalid("automation_pat_id", message);
    let mut values = Values::default();
    values.id(pat).text(may.place.tenant.tenant.as_str()).id(may.caller.user);
    let rows = database.rows(FIND, values).await?;
    let row = rows.first().ok_or_else(|| refused(NOT_FOUND))?;
    if maybe_time(row, 2)?.is_some_and(|end| end <= database.time()) {
        return Err(refused("this token has expired"));
    }
    match maybe_text(row, 0)? {
        Some(project) if project != may.place.project.as_str() => {
            return Err(refused("this token is bound to another project"));
        }
        // Nothing that reaches further than the caller is the caller's to hand on.
        None if may.caller.credential.project().is_some() => {
            return Err(refused("this token reaches all projects, and yours only one: name one that is bound to it"));
        }
        Some(_) | None => {}
    }
    match word::<TokenScopes>(row, 1)?.allow(TokenScope::WorkflowRun) {
        true => Ok(()),
        false => Err(refused("this token lacks the scope `workflow:run`")),
    }
}

/// Makes a token for a subscription: one that starts runs in its project and does nothing else, for as long as the token
/// that asks for it.
pub(super) async fn create(
    tx: &mut Tx<'_>,
    may: &May<WriteTriggers>,
    subscription: &str,
    now: Timestamp,
) -> Result<(PatId, NewToken), TriggerError> {
    let spec = TokenSpec {
        name: format!("webhook {subscription}").chars().take(NAME_CHARS_MAX).collect(),
        project: Some(may.place.project.clone()),
        scopes: TokenScopes::new([TokenScope::WorkflowRun]),
        expires_at: tokens::end_of(tx, &may.caller).await?,
    };
    Ok(tokens::create(tx, &may.caller, &may.place.tenant, &spec, now).await?)
}

/// Revokes a token that was made for a subscription which is gone.
pub(super) async fn revoke(
    tx: &mut Tx<'_>,
    may: &May<WriteTriggers>,
    pat: PatId,
    now: Timestamp,
) -> Result<(), TriggerError> {
    let tenant = &may.place.tenant.tenant;
    let mut values = Values::default();
    values.id(pat).text(tenant.as_str()).number(now.as_micros());
    if let Some(row) = tx.row(REVOKE, values).await? {
        let details = serde_json::json!({ "name": text(&row, 0)? });
        may.record(tx, "pat.revoke", pat, details, now).await?;
    }
    Ok(())
}

/// What the name of a token may have.
const NAME_CHARS_MAX: usize = 100;
