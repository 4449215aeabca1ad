//! Deliveries: from a request that anybody can send to a run that somebody is answerable for.
//!
//! A delivery has to carry the subscription's token and a right signature over its raw body, before anything of that body is
//! parsed. Whatever of it is missing or wrong, and also where there is no such subscription, the refusal is the same.

use super::{
    SubscriptionId, TriggerError,
    params::StartParams,
    signature::{self, SKEW_MAX, Secrets, Signed},
    subscriptions::{self, Replay, Subscription},
};
use crate::{
    access::{
        AccessError, Caller, May,
        caller::Origin,
        entry::{self, NamedPlace, Reach},
        permission::RunWorkflows,
        token::hex,
        tokens,
    },
    app::App,
    operations::{OperationError, Project},
};
use agentruntime_engine::{
    node::{StartError, StartKey, StartRequest},
    run::event::RunStatus,
};
use agentruntime_host_api::{RunId, WorkflowId};
use axum::{body::Bytes, http::HeaderMap};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};

/// How long a name of the sender's is known.
pub(crate) const KEY_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long a body without a signed time is known.
pub(crate) const DIGEST_KEPT: Duration = Duration::from_secs(300);
/// How long a signed time is known: it may lie ahead by the skew, and is taken until it lies behind by the same.
const SIGNED_KEPT: Duration = Duration::from_secs(2 * SKEW_MAX.as_secs() + 1);
/// The longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 255;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const WEBHOOK_ID: &str = "webhook-id";

/// A request to the ingress.
pub(crate) struct Delivery<'r> {
    /// The subscription that it names, if it is the form of one.
    pub(crate) subscription: Option<SubscriptionId>,
    /// The token that it carries.
    pub(crate) bearer: Option<&'r str>,
    /// Its headers.
    pub(crate) headers: &'r HeaderMap,
    /// Its body as it came.
    pub(crate) body: &'r Bytes,
    /// Where it came from.
    pub(crate) origin: Origin,
}

/// What came of a delivery.
pub(crate) struct Received {
    /// The run.
    pub(crate) run: RunId,
    /// Where it stands.
    pub(crate) status: RunStatus,
    /// Its workflow.
    pub(crate) workflow: WorkflowId,
    /// Whether an earlier delivery started it.
    pub(crate) is_replayed: bool,
    /// In whose name.
    pub(crate) caller: Caller,
}

/// Takes a delivery: starts a run, or finds the one that the same delivery started before. Lets go of what the request holds
/// when that is done.
pub(crate) async fn deliver(
    app: &Arc<App>,
    delivery: Delivery<'_>,
    held: impl Send + 'static,
) -> Result<Received, TriggerError> {
    let (subscription, may, signed) = authenticate(app, &delivery).await?;
    if signed.ours.is_some() && signature::is_number(delivery.body) {
        return Err(TriggerError::BareNumber);
    }
    let keys = keys(&subscription, &delivery, &signed)?;
    let project = app.project(&may.place);
    let live = project.live_workflow(&subscription.workflow).await?;
    let mut request = start_request(app, &subscription, delivery.body.clone()).await?;
    request.version = live.published_version;
    request.keys = keys;
    request.user = Some(may.caller.user.to_string());
    request.pat = Some(subscription.pat.to_string());
    let (run, status, is_replayed) = match project.start_detached(app, request, held).await {
        Ok(started) => (started.snapshot.run, started.snapshot.status, false),
        Err(OperationError::Start(StartError::Repeated { run, same: true })) => {
            (run, status(&project, run).await.map_err(|error| error.of_started(run))?, true)
        }
        Err(OperationError::Start(StartError::Repeated { same: false, .. })) => return Err(TriggerError::KeyReused),
        Err(error) => return Err(error.into()),
    };
    Ok(Received { run, status, workflow: subscription.workflow, is_replayed, caller: may.caller })
}

/// What a genuine delivery starts: its body over what the subscription keeps.
async fn start_request(app: &App, subscription: &Subscription, body: Bytes) -> Result<StartRequest, TriggerError> {
    let (workflow, extras) = (subscription.workflow.clone(), subscription.extras.clone());
    let bytes = body.len() + extras.as_str().len();
    let read = move || {
        let params = StartParams::read("extras", &extras)?;
        let body: Value = serde_json::from_slice(&body).map_err(|error| TriggerError::NotJson(error.to_string()))?;
        Ok(params.with_body(body).request(workflow, "webhook"))
    };
    app.node.work_on_json(&subscription.scope.tenant, bytes, read).await
}

/// A delivery that proves everything it has to: which subscription, in whose name, and what was signed.
async fn authenticate(
    app: &App,
    delivery: &Delivery<'_>,
) -> Result<(Subscription, May<RunWorkflows>, Signed), TriggerError> {
    let (database, now) = (app.database(), app.database().time());
    let subscription = match delivery.subscription {
        Some(id) => subscriptions::enabled(database, id).await?,
        None => None,
    };
    let caller = match delivery.bearer {
        Some(token) => tokens::recognise(database, token, delivery.origin.clone()).await?.map(|found| found.caller),
        None => None,
    };
    let (current, previous) = match &subscription {
        Some(subscription) => subscription.secrets(&app.sealer, now)?,
        None => (subscriptions::nobodys_secret(), None),
    };
    let secrets = Secrets { current: &current, previous: previous.as_ref() };
    let signed = signature::verify(&secrets, delivery.headers, delivery.body, now);
    let Some(subscription) = subscription else { return Err(TriggerError::NotGenuine) };
    let proven = match (caller, signed) {
        (None, _) if delivery.bearer.is_none() => Err("it carries no token"),
        (None, _) => Err("its token is not valid"),
        (Some(caller), _) if caller.credential.pat() != Some(subscription.pat) => {
            Err("its token is not the one of the subscription")
        }
        (Some(_), Err(_)) => Err("its signature is missing or wrong, or its time is too far off"),
        (Some(_), Ok(signed)) if subscription.require_timestamp && !signed.is_timed() => Err("its time is not signed"),
        (Some(caller), Ok(signed)) => match enter(app, caller, &subscription).await? {
            Some(may) => Ok((may, signed)),
            None => Err("the owner of its token may not start runs there any more"),
        },
    };
    match proven {
        Ok((may, signed)) => Ok((subscription, may, signed)),
        Err(reason) => {
            // The sender is told nothing; whoever owns the subscription can be helped by whoever reads this.
            tracing::info!(subscription = %subscription.id, reason, "a delivery was refused");
            Err(TriggerError::NotGenuine)
        }
    }
}

/// The token's owner still has to be somebody who may start runs there.
async fn enter(
    app: &App,
    caller: Caller,
    subscription: &Subscription,
) -> Result<Option<May<RunWorkflows>>, TriggerError> {
    let named = NamedPlace {
        tenant: Some(subscription.scope.tenant.to_string()),
        project: Some(subscription.scope.project.to_string()),
        reach: Reach::InUse,
    };
    match entry::enter(app.database(), caller, &named).await {
        Ok(may) => Ok(Some(may)),
        Err(AccessError::Store(error)) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// What makes a delivery the same as another: the name that it has, and what was signed.
///
/// A name that nobody signed is the sender's word, and whoever sends a delivery again can change it. So it makes a delivery
/// a repeat, but what was signed does so beside it, under whatever name. Of two families of signatures each counts, because
/// either can be left out.
fn keys(subscription: &Subscription, delivery: &Delivery<'_>, signed: &Signed) -> Result<Vec<StartKey>, TriggerError> {
    let digest = hex(&Sha256::digest(delivery.body));
    let name = match &signed.id {
        Some(id) => Some(format!("id:{}", checked(id)?)),
        None => {
            let given = header(delivery.headers, IDEMPOTENCY_KEY)?.or(header(delivery.headers, WEBHOOK_ID)?);
            given.map(|given| checked(&given).map(|given| format!("key:{given}"))).transpose()?
        }
    };
    let content = signed.ours.as_ref().and_then(|ours| match (&ours.at, subscription.replay) {
        (Some(at), _) => Some((format!("at:{at}:{digest}"), SIGNED_KEPT)),
        (None, Replay::Digest) => Some((format!("body:{digest}"), DIGEST_KEPT)),
        (None, Replay::None) => None,
    });
    let key =
        |(name, keep)| StartKey { name: format!("webhook:{}:{name}", subscription.id), digest: digest.clone(), keep };
    Ok(name.map(|name| (name, KEY_KEPT)).into_iter().chain(content).map(key).collect())
}

fn checked(name: &str) -> Result<&str, TriggerError> {
    match name.is_empty() || name.len() > KEY_BYTES_MAX {
        true => Err(TriggerError::invalid(KEY_FIELD, format!("it has 1 to {KEY_BYTES_MAX} bytes"))),
        false => Ok(name),
    }
}

const KEY_FIELD: &str = "Idempotency-Key";

fn header(headers: &HeaderMap, name: &str) -> Result<Option<String>, TriggerError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| TriggerError::invalid(KEY_FIELD, "write it in ASCII"))?;
    Ok(Some(text.to_owned()))
}

/// Where an earlier delivery's run stands.
async fn status(project: &Project, run: RunId) -> Result<RunStatus, OperationError> {
    Ok(project.run(run).await?.status)
}
