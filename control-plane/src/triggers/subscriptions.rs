//! Subscriptions of inbound webhooks: made, listed, changed, rotated, deleted.

use super::{
    SubscriptionId, TriggerError,
    automation::{self, Wanted},
    params,
    secret::SigningSecret,
};
use crate::{
    access::{
        May, PatId, UserId, field,
        permission::WriteTriggers,
        role::{UnknownWord, words},
        rows::{self, Ceiling, check_room, key},
        tenants::word,
        token::NewToken,
    },
    app::App,
    vault::{Place, SealError, Sealer},
};
use agentruntime_engine::{
    database::{
        self, Database, Row, StoreError, Values, document, id, maybe_id, maybe_text, maybe_time, number, text, time,
    },
    store::Scope,
};
use agentruntime_host_api::{Json, ProjectId, TenantId, Timestamp, WorkflowId};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{fmt, str::FromStr, time::Duration};
use uuid::Uuid;

/// The longest name, in characters.
pub(crate) const NAME_CHARS_MAX: usize = 200;
/// Subscriptions of one project: more than people look after.
pub(crate) const SUBSCRIPTIONS_MAX: u32 = 1_000;
/// How long the secret before is accepted where the rotation does not say.
pub(crate) const GRACE_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// The longest grace: a secret that was replaced should end.
pub(crate) const GRACE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// What sealed secrets are bound to.
pub(super) const KIND: &str = "inbound-webhook";

/// The columns that [`subscription`] reads, in its order.
macro_rules! columns {
    () => {
        "subscription_id, tenant_id, project_id, workflow_id, name, pat_id, secret, previous_secret, \
         previous_valid_until, extras, replay, require_timestamp, is_enabled, created_by, created_at, updated_at, by_pat"
    };
}

const INSERT: &str = concat!(
    "INSERT INTO webhook_subscriptions (",
    columns!(),
    ", made_pat) VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, NULL, $8, $9, $10, $11, $12, $13, $13, $14, $15) RETURNING ",
    columns!()
);

const COUNT: &str = "SELECT COUNT(*) FROM webhook_subscriptions WHERE tenant_id = $1 AND project_id = $2";

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM webhook_subscriptions WHERE tenant_id = $1 AND project_id = $2 AND ($3 IS NULL OR workflow_id = $3) \
     AND (created_at, subscription_id) > ($4, $5) ORDER BY created_at, subscription_id LIMIT $6"
);

const SELECT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM webhook_subscriptions WHERE tenant_id = $1 AND project_id = $2 AND subscription_id = $3"
);

/// For a delivery, which knows nothing but the id, and has to prove the rest. What was made by a token starts nothing after
/// that token has ended.
const SELECT_ENABLED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM webhook_subscriptions WHERE subscription_id = $1 AND is_enabled = 1 AND (by_pat IS NULL OR EXISTS ( \
     SELECT 1 FROM pats p WHERE p.pat_id = by_pat AND p.revoked_at IS NULL AND (p.expires_at IS NULL OR p.expires_at > $2)))"
);

const UPDATE: &str = concat!(
    "UPDATE webhook_subscriptions SET name = COALESCE($4, name), pat_id = COALESCE($5, pat_id), \
     made_pat = CASE WHEN $5 IS NULL OR $5 = pat_id THEN made_pat ELSE 0 END, extras = COALESCE($6, extras), replay = COALESCE($7, replay), \
     require_timestamp = COALESCE($8, require_timestamp), is_enabled = COALESCE($9, is_enabled), updated_at = $10, by_pat = $11 \
     WHERE tenant_id = $1 AND project_id = $2 AND subscription_id = $3 RETURNING ",
    columns!()
);

const ROTATE: &str = concat!(
    "UPDATE webhook_subscriptions SET previous_secret = secret, previous_valid_until = $5, secret = $4, updated_at = $6 \
     WHERE tenant_id = $1 AND project_id = $2 AND subscription_id = $3 RETURNING ",
    columns!()
);

const DELETE: &str = "DELETE FROM webhook_subscriptions WHERE tenant_id = $1 AND project_id = $2 AND subscription_id = $3 \
    RETURNING pat_id, made_pat";

words! {
    /// What becomes of a delivery without a signed time that has the body of an earlier one.
    Replay {
        /// It starts a run of its own.
        None = "none",
        /// Within five minutes, it answers with the first one's run.
        Digest = "digest",
    }
}

/// A subscription.
pub(crate) struct Subscription {
    /// Its id.
    pub(crate) id: SubscriptionId,
    /// Where it lies.
    pub(crate) scope: Scope,
    /// What it starts.
    pub(crate) workflow: WorkflowId,
    /// For people.
    pub(crate) name: String,
    /// The token that its deliveries carry.
    pub(crate) pat: PatId,
    /// What it starts runs with. It may be large, and is text until a delivery needs it.
    pub(crate) extras: Json,
    /// What becomes of repeated bodies.
    pub(crate) replay: Replay,
    /// Whether deliveries need a signed time.
    pub(crate) require_timestamp: bool,
    /// Whether it takes deliveries.
    pub(crate) is_enabled: bool,
    /// Who made it.
    pub(crate) created_by: UserId,
    /// When.
    pub(crate) created_at: Timestamp,
    /// When it was changed last.
    pub(crate) updated_at: Timestamp,
    /// The token by which it was made or changed last, without which it starts nothing; none for a session.
    pub(crate) by_pat: Option<PatId>,
    /// Until when the secret before is accepted.
    pub(crate) previous_valid_until: Option<Timestamp>,
    sealed: String,
    sealed_before: Option<String>,
}

/// What a new subscription is to be.
pub(crate) struct NewSubscription {
    /// What it starts.
    pub(crate) workflow: WorkflowId,
    /// For people.
    pub(crate) name: String,
    /// The token that its deliveries carry.
    pub(crate) automation: Wanted,
    /// What it starts runs with.
    pub(crate) extras: Json,
    /// What becomes of repeated bodies.
    pub(crate) replay: Replay,
    /// Whether deliveries need a signed time.
    pub(crate) require_timestamp: bool,
    /// Whether it takes deliveries.
    pub(crate) is_enabled: bool,
}

/// What is to be different; what is not said stays.
#[derive(Default)]
pub(crate) struct Change {
    /// The name.
    pub(crate) name: Option<String>,
    /// The token that its deliveries carry.
    pub(crate) pat: Option<PatId>,
    /// What it starts runs with.
    pub(crate) extras: Option<Json>,
    /// What becomes of repeated bodies.
    pub(crate) replay: Option<Replay>,
    /// Whether deliveries need a signed time.
    pub(crate) require_timestamp: Option<bool>,
    /// Whether it takes deliveries.
    pub(crate) is_enabled: Option<bool>,
}

/// A subscription and what is shown of it once.
pub(crate) struct Shown {
    /// The subscription.
    pub(crate) subscription: Subscription,
    /// Its new secret.
    pub(crate) secret: SigningSecret,
    /// The token that was made for it.
    pub(crate) token: Option<NewToken>,
}

/// Makes a subscription.
pub(crate) async fn create(app: &App, may: &May<WriteTriggers>, new: NewSubscription) -> Result<Shown, TriggerError> {
    let (database, scope) = (app.database(), may.place.scope());
    check_name(&new.name)?;
    let extras = params::checked("extras", new.extras, &app.node, &scope.tenant).await?;
    app.project(&may.place).workflow(&new.workflow).await?.not_archived()?;
    let named = new.automation.named(database, may).await?;
    let (id, secret, now) = (SubscriptionId::new_v7(), SigningSecret::random(), database.time());
    let sealed = seal(&app.sealer, &scope, id, &secret)?;
    let mut tx = database.begin().await?;
    let details = serde_json::json!({ "workflow_id": new.workflow, "name": new.name });
    may.record(&mut tx, "webhook.create", id, details, now).await?;
    check_room(&mut tx, rows::of(&scope), ceiling()).await?;
    let (pat, token) = match named {
        Some(pat) => (pat, None),
        None => automation::create(&mut tx, may, &new.name, now).await.map(|(pat, token)| (pat, Some(token)))?,
    };
    let mut values = Values::default();
    values.id(id).scope(&scope).text(new.workflow.as_str()).text(&new.name).id(pat).text(sealed);
    values.text(extras.as_str()).text(new.replay.as_str()).number(new.require_timestamp);
    values
        .number(new.is_enabled)
        .id(may.caller.user)
        .number(now.as_micros())
        .maybe_text(may.pat())
        .number(token.is_some());
    let row = tx.row(INSERT, values).await?.ok_or(StoreError::AlreadyExists)?;
    tx.commit().await?;
    Ok(Shown { subscription: subscription(&row)?, secret, token })
}

/// Subscriptions of a project, in the order in which they were made.
pub(crate) async fn list(
    database: &Database,
    scope: &Scope,
    workflow: Option<&WorkflowId>,
    after: Option<(i64, Uuid)>,
    limit: u32,
) -> Result<Vec<Subscription>, TriggerError> {
    let mut values = rows::of(scope);
    values.maybe_text(workflow.map(WorkflowId::as_str));
    let rows = database.rows(LIST, rows::page(values, after, limit)).await?;
    Ok(rows.iter().map(subscription).collect::<Result<_, _>>()?)
}

/// One subscription.
pub(crate) async fn get(database: &Database, scope: &Scope, id: SubscriptionId) -> Result<Subscription, TriggerError> {
    let rows = database.rows(SELECT, key(scope, id)).await?;
    Ok(subscription(rows.first().ok_or_else(|| unknown(id))?)?)
}

/// The subscription that a delivery names, if it takes any.
pub(super) async fn enabled(database: &Database, id: SubscriptionId) -> Result<Option<Subscription>, StoreError> {
    let mut values = Values::default();
    values.id(id).number(database.time().as_micros());
    database.rows(SELECT_ENABLED, values).await?.first().map(subscription).transpose()
}

/// Changes a subscription, which from then on lasts no longer than the token by which it was changed.
pub(crate) async fn change(
    app: &App,
    may: &May<WriteTriggers>,
    id: SubscriptionId,
    mut change: Change,
) -> Result<Subscription, TriggerError> {
    let (database, scope) = (app.database(), may.place.scope());
    change.name.as_deref().map_or(Ok(()), check_name)?;
    if let Some(extras) = change.extras.take() {
        change.extras = Some(params::checked("extras", extras, &app.node, &scope.tenant).await?);
    }
    let pat = Wanted { pat: change.pat, bearer: None }.named(database, may).await?;
    let now = database.time();
    let mut tx = database.begin().await?;
    may.record(&mut tx, "webhook.update", id, change.details(), now).await?;
    let mut values = key(&scope, id);
    values.maybe_text(change.name).maybe_text(pat.map(|pat| pat.to_string()));
    values.maybe_text(change.extras.as_ref().map(Json::as_str)).maybe_text(change.replay.map(Replay::as_str));
    values
        .maybe_number(change.require_timestamp)
        .maybe_number(change.is_enabled)
        .number(now.as_micros())
        .maybe_text(may.pat());
    let row = tx.row(UPDATE, values).await?.ok_or_else(|| unknown(id))?;
    tx.commit().await?;
    Ok(subscription(&row)?)
}

/// Gives a subscription a new secret; the one before is accepted for a while.
pub(crate) async fn rotate(
    app: &App,
    may: &May<WriteTriggers>,
    id: SubscriptionId,
    grace: Duration,
) -> Result<Shown, TriggerError> {
    if grace > GRACE_MAX {
        return Err(TriggerError::invalid("grace_seconds", format!("it is 0 to {}", GRACE_MAX.as_secs())));
    }
    let (database, scope) = (app.database(), may.place.scope());
    let (secret, now) = (SigningSecret::random(), database.time());
    let sealed = seal(&app.sealer, &scope, id, &secret)?;
    let mut tx = database.begin().await?;
    let details = serde_json::json!({ "grace_seconds": grace.as_secs() });
    may.record(&mut tx, "webhook.rotate", id, details, now).await?;
    let mut values = key(&scope, id);
    values.text(sealed).number(now.plus(grace).as_micros()).number(now.as_micros());
    let row = tx.row(ROTATE, values).await?.ok_or_else(|| unknown(id))?;
    tx.commit().await?;
    Ok(Shown { subscription: subscription(&row)?, secret, token: None })
}

/// Deletes a subscription, and the token that was made for it. Its runs stay.
pub(crate) async fn delete(app: &App, may: &May<WriteTriggers>, id: SubscriptionId) -> Result<(), TriggerError> {
    let now = app.database().time();
    let mut tx = app.database().begin().await?;
    may.record(&mut tx, "webhook.delete", id, Value::Null, now).await?;
    let row = tx.row(DELETE, key(&may.place.scope(), id)).await?.ok_or_else(|| unknown(id))?;
    if number::<u8>(&row, 1)? == 1 {
        automation::revoke(&mut tx, may, database::id(&row, 0)?, now).await?;
    }
    Ok(tx.commit().await?)
}

impl May<WriteTriggers> {
    /// The token by which they are changed, as it is stored.
    pub(super) fn pat(&self) -> Option<String> {
        self.caller.credential.pat().map(|pat| pat.to_string())
    }
}

impl Subscription {
    /// The current secret, and the one before if it is still accepted.
    pub(super) fn secrets(
        &self,
        sealer: &Sealer,
        now: Timestamp,
    ) -> Result<(SigningSecret, Option<SigningSecret>), SealError> {
        let id = self.id.to_string();
        let place = Place { tenant: &self.scope.tenant, kind: KIND, id: &id };
        let open = |sealed: &String| sealer.open_sealed(place, sealed).map(SigningSecret::of);
        let before = self.sealed_before.as_ref().filter(|_| self.previous_valid_until.is_some_and(|until| now < until));
        Ok((open(&self.sealed)?, before.map(open).transpose()?))
    }
}

impl Change {
    /// For the log: what was changed, and the switches' new states.
    fn details(&self) -> Value {
        serde_json::json!({
            "name": self.name,
            "automation_pat_id": self.pat,
            "extras": self.extras.as_ref().map(|_| "changed"),
            "replay": self.replay,
            "require_timestamp": self.require_timestamp,
            "is_enabled": self.is_enabled,
        })
    }
}

fn ceiling() -> Ceiling {
    let message = format!("a project has at most {SUBSCRIPTIONS_MAX} subscriptions; delete one first");
    Ceiling { count: COUNT, max: SUBSCRIPTIONS_MAX, code: "TOO_MANY_WEBHOOKS", message }
}

fn check_name(name: &str) -> Result<(), TriggerError> {
    field::check_name(name, NAME_CHARS_MAX).map_err(|message| TriggerError::invalid("name", message))
}

fn seal(sealer: &Sealer, scope: &Scope, id: SubscriptionId, secret: &SigningSecret) -> Result<String, SealError> {
    let id = id.to_string();
    sealer.seal(Place { tenant: &scope.tenant, kind: KIND, id: &id }, secret.text())
}

fn unknown(id: SubscriptionId) -> TriggerError {
    crate::access::AccessError::NotFound { kind: "inbound webhook", id: id.to_string() }.into()
}

fn subscription(row: &Row) -> Result<Subscription, StoreError> {
    Ok(Subscription {
        id: id(row, 0)?,
        scope: Scope { tenant: TenantId::new(text(row, 1)?), project: ProjectId::new(text(row, 2)?) },
        workflow: WorkflowId::new(text(row, 3)?),
        name: text(row, 4)?.to_owned(),
        pat: id(row, 5)?,
        sealed: text(row, 6)?.to_owned(),
        sealed_before: maybe_text(row, 7)?.map(str::to_owned),
        previous_valid_until: maybe_time(row, 8)?,
        extras: document(text(row, 9)?)?,
        replay: word(row, 10)?,
        require_timestamp: number::<u8>(row, 11)? == 1,
        is_enabled: number::<u8>(row, 12)? == 1,
        created_by: id(row, 13)?,
        created_at: time(row, 14)?,
        updated_at: time(row, 15)?,
        by_pat: maybe_id(row, 16)?,
    })
}

/// A secret for when there is no subscription: the work is the same.
pub(super) fn nobodys_secret() -> SigningSecret {
    SigningSecret::of(SecretString::from("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="))
}
