//! Inbound webhooks: subscriptions, and the ingress to which deliveries are sent.

use super::{
    State,
    authenticate::{self, Incoming},
    extract::{Body, Path, Query, RawBody, object},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
    telling::Verdict,
};
use crate::{
    access::{
        May, PatId,
        permission::{ReadWorkflows, WriteTriggers},
        token::NewToken,
    },
    operations::OperationError,
    triggers::{
        SubscriptionId, TriggerError, Wanted,
        ingress::{self, Delivery, Received},
        subscriptions::{self, Change, GRACE_DEFAULT, NewSubscription, Replay, Shown},
    },
};
use agentruntime_host_api::{self as host, WorkflowId};
use axum::{Json, extract::State as Given, http::StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of inbound webhooks.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, change, delete, deliver))
        .routes(routes!(rotate))
}

/// A subscription of an inbound webhook.
#[derive(Serialize, ToSchema)]
struct Subscription {
    /// Its id.
    id: Uuid,
    /// The workflow that deliveries start.
    workflow_id: String,
    /// For people.
    name: String,
    /// The token that deliveries carry as `Authorization: Bearer`, and in whose owner's name runs are started.
    automation_pat_id: Uuid,
    /// Start parameters of each run: `trigger_payload`, over which the body is laid, `trigger_steps`, `excluded_step_ids`.
    #[schema(value_type = Object)]
    extras: host::Json,
    /// What becomes of a delivery without a signed time that has the body of an earlier one: `digest` answers with the
    /// earlier run for five minutes, whatever its key; `none` starts a run of its own, unless its key is known.
    replay: Replay,
    /// Whether deliveries need a signed time.
    require_timestamp: bool,
    /// Whether it takes deliveries.
    is_enabled: bool,
    /// Until when the secret before the last rotation is accepted.
    #[schema(format = DateTime)]
    previous_secret_valid_until: Option<String>,
    /// Where deliveries are sent, without the host.
    ingress_path: String,
    /// Where deliveries are sent.
    ingress_url: String,
    /// Who made it.
    created_by: Uuid,
    /// When.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was changed last.
    #[schema(format = DateTime)]
    updated_at: String,
    /// The token by which it was made or changed last; null for a session. When that is revoked or expires, deliveries are
    /// refused.
    by_pat_id: Option<Uuid>,
}

/// What a new subscription is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewWebhook {
    /// The workflow that deliveries start.
    workflow_id: String,
    /// For people; 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// One of your tokens that has the scope `workflow:run` and reaches this project. Without one, a token is made that
    /// starts runs in this project and does nothing else, for as long as the token of this request; the answer shows it once.
    automation_pat_id: Option<Uuid>,
    /// The same token by itself instead of by its id.
    #[serde(default, deserialize_with = "secret")]
    #[schema(value_type = Option<String>, format = Password)]
    automation_bearer: Option<SecretString>,
    /// Start parameters of each run: `trigger_payload`, over which the body is laid, `trigger_steps`, `excluded_step_ids`.
    #[serde(default, deserialize_with = "object")]
    #[schema(value_type = Option<Object>)]
    extras: Option<host::Json>,
    /// `digest` if it is missing.
    replay: Option<Replay>,
    /// Whether deliveries need a signed time; `false` if it is missing.
    require_timestamp: Option<bool>,
    /// `true` if it is missing.
    is_enabled: Option<bool>,
}

/// What is to be different; what is missing stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WebhookChange {
    /// For people; 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Another of your tokens.
    automation_pat_id: Option<Uuid>,
    /// Start parameters of each run, in place of the ones before.
    #[serde(default, deserialize_with = "object")]
    #[schema(value_type = Option<Object>)]
    extras: Option<host::Json>,
    /// What becomes of repeated bodies.
    replay: Option<Replay>,
    /// Whether deliveries need a signed time.
    require_timestamp: Option<bool>,
    /// Whether it takes deliveries.
    is_enabled: Option<bool>,
}

/// A new subscription, and what is shown of it once.
#[derive(Serialize, ToSchema)]
struct NewWebhookAnswer {
    /// The subscription.
    subscription: Subscription,
    /// The secret by which deliveries are signed. With `webhook-signature` (Standard Webhooks) the key is what the base64
    /// after `whsec_` stands for; with `X-Agentruntime-Signature` it is this text as it is, prefix and all.
    #[schema(example = "whsec_c2VjcmV0IGJ5dGVzIHRoYXQgYXJlIHRoaXJ0eS10d28=")]
    signing_secret: String,
    /// Where deliveries are sent.
    ingress_url: String,
    /// Where deliveries are sent, without the host.
    ingress_path: String,
    /// The token that was made for it, where none was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    automation_bearer: Option<String>,
}

/// How a secret is to be replaced.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// How long the secret before is accepted too; a day if it is missing, 30 days at most.
    #[schema(minimum = 0, maximum = 2592000)]
    grace_seconds: Option<u32>,
}

/// A new secret.
#[derive(Serialize, ToSchema)]
struct RotationAnswer {
    /// The subscription.
    subscription: Subscription,
    /// The new secret, shown this once.
    signing_secret: String,
}

/// What came of a delivery.
#[derive(Serialize, ToSchema)]
struct DeliveryAnswer {
    /// The run.
    run_id: Uuid,
    /// Where it stands.
    #[schema(example = "running")]
    status: String,
    /// Its workflow.
    workflow_id: String,
    /// Whether an earlier delivery started it.
    replayed: bool,
}

/// Which subscriptions are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WebhookFilter {
    /// How many items at most: 1 to 200, 50 where it is missing.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only those of this workflow.
    workflow_id: Option<Uuid>,
}

/// Lists the inbound webhooks of the project, in the order in which they were made.
#[utoipa::path(
    get,
    path = "/inbound-webhooks",
    operation_id = "list_inbound_webhooks",
    tag = "triggers",
    params(WebhookFilter),
    responses((status = 200, body = Page<Subscription>), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Query(filter): Query<WebhookFilter>,
) -> Result<Json<Page<Subscription>>, Problem> {
    let page = PageQuery { limit: filter.limit, cursor: filter.cursor };
    let (limit, after) = (page.limit()?, page.after()?);
    let scope = app.project(&may.place).scope;
    let workflow = filter.workflow_id.map(|id| WorkflowId::new(id.to_string()));
    let found = subscriptions::list(app.database(), &scope, workflow.as_ref(), after, limit + 1).await?;
    let place = |it: &subscriptions::Subscription| (it.created_at.as_micros(), it.id.as_uuid());
    Ok(Json(Page::of(found, limit, place, |it| shown(&app, it))))
}

/// Makes an inbound webhook: a place to which another system sends events, each of which starts a run.
#[utoipa::path(
    post,
    path = "/inbound-webhooks",
    operation_id = "create_inbound_webhook",
    tag = "triggers",
    request_body = NewWebhook,
    responses((status = 201, body = NewWebhookAnswer), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write", "workflow:run"]), ("session" = []))
)]
async fn create(
    may: May<WriteTriggers>,
    Given(app): Given<State>,
    Body(new, _): Body<NewWebhook>,
) -> Result<(StatusCode, Json<NewWebhookAnswer>), Problem> {
    let new = NewSubscription {
        workflow: workflow(&new.workflow_id)?,
        name: new.name,
        automation: Wanted { pat: new.automation_pat_id.map(PatId::from), bearer: new.automation_bearer },
        extras: new.extras.unwrap_or_else(host::Json::empty_object),
        replay: new.replay.unwrap_or(Replay::Digest),
        require_timestamp: new.require_timestamp.unwrap_or(false),
        is_enabled: new.is_enabled.unwrap_or(true),
    };
    let Shown { subscription, secret, token } = subscriptions::create(&app, &may, new).await?;
    let subscription = shown(&app, subscription);
    let answer = NewWebhookAnswer {
        signing_secret: secret.text().expose_secret().to_owned(),
        ingress_url: subscription.ingress_url.clone(),
        ingress_path: subscription.ingress_path.clone(),
        automation_bearer: token.as_ref().map(NewToken::expose).map(str::to_owned),
        subscription,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Shows an inbound webhook.
#[utoipa::path(
    get,
    path = "/inbound-webhooks/{id}",
    operation_id = "get_inbound_webhook",
    tag = "triggers",
    params(("id" = Uuid, Path, description = "The subscription")),
    responses((status = 200, body = Subscription), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn get(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
) -> Result<Json<Subscription>, Problem> {
    let scope = app.project(&may.place).scope;
    let found = subscriptions::get(app.database(), &scope, SubscriptionId::from(id)).await?;
    Ok(Json(shown(&app, found)))
}

/// Changes an inbound webhook.
#[utoipa::path(
    patch,
    path = "/inbound-webhooks/{id}",
    operation_id = "update_inbound_webhook",
    tag = "triggers",
    params(("id" = Uuid, Path, description = "The subscription")),
    request_body = WebhookChange,
    responses((status = 200, body = Subscription), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write", "workflow:run"]), ("session" = []))
)]
async fn change(
    may: May<WriteTriggers>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    Body(change, _): Body<WebhookChange>,
) -> Result<Json<Subscription>, Problem> {
    let change = Change {
        name: change.name,
        pat: change.automation_pat_id.map(PatId::from),
        extras: change.extras,
        replay: change.replay,
        require_timestamp: change.require_timestamp,
        is_enabled: change.is_enabled,
    };
    let changed = subscriptions::change(&app, &may, SubscriptionId::from(id), change).await?;
    Ok(Json(shown(&app, changed)))
}

/// Deletes an inbound webhook, and the token that was made for it unless another one has it. Its runs stay.
#[utoipa::path(
    delete,
    path = "/inbound-webhooks/{id}",
    operation_id = "delete_inbound_webhook",
    tag = "triggers",
    params(("id" = Uuid, Path, description = "The subscription")),
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write", "workflow:run"]), ("session" = []))
)]
async fn delete(
    may: May<WriteTriggers>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    subscriptions::delete(&app, &may, SubscriptionId::from(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives an inbound webhook a new signing secret. The one before is accepted too for a grace time.
#[utoipa::path(
    post,
    path = "/inbound-webhooks/{id}/rotate-secret",
    operation_id = "rotate_inbound_webhook_secret",
    tag = "triggers",
    params(("id" = Uuid, Path, description = "The subscription")),
    request_body = Option<Rotation>,
    responses((status = 200, body = RotationAnswer), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write", "workflow:run"]), ("session" = []))
)]
async fn rotate(
    may: May<WriteTriggers>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    rotation: Option<Body<Rotation>>,
) -> Result<Json<RotationAnswer>, Problem> {
    let asked = rotation.and_then(|Body(rotation, _)| rotation.grace_seconds);
    let grace = asked.map_or(GRACE_DEFAULT, |seconds| Duration::from_secs(seconds.into()));
    let Shown { subscription, secret, .. } = subscriptions::rotate(&app, &may, SubscriptionId::from(id), grace).await?;
    let signing_secret = secret.text().expose_secret().to_owned();
    Ok(Json(RotationAnswer { subscription: shown(&app, subscription), signing_secret }))
}

/// Takes a delivery and starts a run with its body as `trigger_payload`.
///
/// It carries the subscription's token as `Authorization: Bearer pat_…` and is signed over its raw body: either by
/// `X-Agentruntime-Signature: sha256=<hex HMAC-SHA256>` (over `{timestamp}.{body}` where `X-Agentruntime-Timestamp` is sent),
/// or by the headers of Standard Webhooks. A signed time is within five minutes of now. What is not authenticated is refused
/// alike, whatever the reason. A repeat under the same `Idempotency-Key` or `webhook-id` answers 200 with the first run for a
/// day, the same with another body 409. Whatever the key, and without one, the same signed time and body are one delivery;
/// without a signed time, the same body is for five minutes, unless the subscription says otherwise. So a key that is not
/// itself signed makes no new event of a captured one. Under `X-Agentruntime-Signature` the body is no bare number.
#[utoipa::path(
    post,
    path = "/inbound-webhooks/{id}",
    operation_id = "deliver_inbound_webhook",
    tag = "triggers",
    params(
        ("id" = String, Path, description = "The subscription"),
        ("X-Agentruntime-Signature" = Option<String>, Header, description = "`sha256=` and the HMAC in hex"),
        ("X-Agentruntime-Timestamp" = Option<String>, Header, description = "Unix time in seconds; part of what is signed"),
        ("webhook-id" = Option<String>, Header, description = "Standard Webhooks: names the delivery"),
        ("webhook-timestamp" = Option<String>, Header, description = "Standard Webhooks: Unix time in seconds"),
        ("webhook-signature" = Option<String>, Header, description = "Standard Webhooks: `v1,` and the HMAC in base64"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the delivery; up to 255 bytes"),
    ),
    request_body(content = Value, description = "Any JSON", content_type = "application/json"),
    responses(
        (status = 202, body = DeliveryAnswer, description = "A run was started"),
        (status = 200, body = DeliveryAnswer, description = "An earlier delivery started this run"),
        (status = "default", body = ProblemBody)
    ),
    security(("token" = ["workflow:run"]))
)]
async fn deliver(
    Given(app): Given<State>,
    Path(id): Path<String>,
    incoming: Incoming,
    RawBody(body, share): RawBody,
) -> Result<(StatusCode, Json<DeliveryAnswer>), Problem> {
    let delivery = Delivery {
        subscription: id.parse().ok(),
        bearer: authenticate::token(&incoming.headers),
        headers: &incoming.headers,
        body: &body,
        origin: incoming.origin,
    };
    let outcome = ingress::deliver(&app, delivery, share).await;
    match &outcome {
        Ok(received) => incoming.trail.caller(&received.caller),
        Err(TriggerError::NotGenuine) => incoming.trail.found(Verdict::Wrong),
        // Whatever else is in the way says nothing about the credential.
        Err(_) => {}
    }
    let Received { run, status, workflow, is_replayed, .. } = outcome?;
    let answer = DeliveryAnswer {
        run_id: run.as_uuid(),
        status: status.as_str().to_owned(),
        workflow_id: workflow.to_string(),
        replayed: is_replayed,
    };
    Ok((if is_replayed { StatusCode::OK } else { StatusCode::ACCEPTED }, Json(answer)))
}

/// What has not the form of an id cannot be there.
fn workflow(text: &str) -> Result<WorkflowId, OperationError> {
    match text.parse::<Uuid>() {
        Ok(id) => Ok(WorkflowId::new(id.to_string())),
        Err(_) => Err(OperationError::UnknownWorkflow(text.to_owned())),
    }
}

/// Reads a secret that may be missing.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

fn shown(app: &State, it: subscriptions::Subscription) -> Subscription {
    let ingress_path = format!("/v1/inbound-webhooks/{}", it.id);
    let base = app.settings.public_url.as_str().trim_end_matches('/');
    Subscription {
        ingress_url: format!("{base}{ingress_path}"),
        ingress_path,
        id: it.id.as_uuid(),
        workflow_id: it.workflow.to_string(),
        name: it.name,
        automation_pat_id: it.pat.as_uuid(),
        extras: it.extras,
        replay: it.replay,
        require_timestamp: it.require_timestamp,
        is_enabled: it.is_enabled,
        previous_secret_valid_until: it.previous_valid_until.map(|time| time.to_string()),
        created_by: it.created_by.as_uuid(),
        created_at: it.created_at.to_string(),
        updated_at: it.updated_at.to_string(),
        by_pat_id: it.by_pat.map(|pat| pat.as_uuid()),
    }
}
