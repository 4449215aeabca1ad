//! Which models there are: those that somebody listed with a provider, else those that the provider itself lists.

use super::{
    endpoint::{Endpoint, Tier},
    providers::is_model,
    vendor::{KEY, Vendor, list_address},
};
use crate::{
    access::{May, permission::ReadConnections},
    app::App,
    integrations::IntegrationError,
};
use agentruntime_egress::{Egress, Secret, Send};
use agentruntime_host_api::{Fetch, HostPattern, Method};
use futures_util::{StreamExt, stream};
use secrecy::SecretString;
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, timeout_at};

/// How long all providers together may take to list their models.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Providers that are asked at once.
const AT_ONCE: usize = 8;
/// Models that are listed in all.
const MODELS_MAX: usize = 2_000;
/// The longest list of one provider: the names, and what vendors say of them.
const LIST_BYTES_MAX: usize = 1 << 20;

/// What is known about a provider's models.
#[derive(Debug)]
pub(crate) struct Listed {
    /// The provider.
    pub(crate) provider: String,
    /// How it is asked.
    pub(crate) vendor: Vendor,
    /// Whose it is.
    pub(crate) tier: Tier,
    /// The vendor's names of the models and ours, or why they are not known.
    pub(crate) models: Result<Vec<(String, String)>, String>,
}

/// The models of a project's providers and of the operator's. Those that have no list are asked, so that it counts as an inquiry.
pub(crate) async fn listed(app: &App, may: &May<ReadConnections>) -> Result<Vec<Listed>, IntegrationError> {
    let scope = may.place.scope();
    let _inquiry = app.inquiries.admit(&scope.tenant)?;
    Ok(app.outside.models(&scope).await?)
}

/// Asks all that have no list. The keys are opened already, or it is known why not.
pub(in crate::integrations) async fn list(
    egress: &Egress,
    endpoints: Vec<(Endpoint, Result<Option<SecretString>, String>)>,
) -> Vec<Listed> {
    let deadline = Instant::now() + TIMEOUT;
    let asked = endpoints.into_iter().map(|(endpoint, key)| async move {
        let names = match (endpoint.models.is_empty(), key) {
            (false, _) => Ok(endpoint.models.clone()),
            (true, Err(reason)) => Err(reason),
            (true, Ok(key)) => timeout_at(deadline, ask(egress, &endpoint, key)).await.unwrap_or_else(|_| Err(late())),
        };
        (endpoint, names)
    });
    let asked: Vec<_> = asked.collect();
    let mut asked = stream::iter(asked).buffered(AT_ONCE);
    let (mut listed, mut room) = (Vec::new(), MODELS_MAX);
    while let Some((endpoint, names)) = asked.next().await {
        let models = names.map(|names| {
            let models: Vec<_> = names.into_iter().take(room).map(|name| (endpoint.model_ref(&name), name)).collect();
            room -= models.len();
            models
        });
        listed.push(Listed { provider: endpoint.name, vendor: endpoint.vendor, tier: endpoint.tier, models });
    }
    listed
}

fn late() -> String {
    format!("it did not list its models in time: all together have {} s", TIMEOUT.as_secs())
}

/// OpenAI's and Anthropic's form, and Google's.
#[derive(Deserialize)]
struct List {
    #[serde(default)]
    data: Vec<Model>,
    #[serde(default)]
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(alias = "name")]
    id: String,
}

async fn ask(egress: &Egress, endpoint: &Endpoint, key: Option<SecretString>) -> Result<Vec<String>, String> {
    let hosts: Vec<HostPattern> = endpoint.host().into_iter().collect();
    let secrets: BTreeMap<String, Secret> =
        key.into_iter().map(|value| (KEY.to_owned(), Secret { value, hosts: hosts.clone() })).collect();
    let fetch = Fetch {
        method: Method::Get,
        url: list_address(&endpoint.base_url),
        headers: endpoint.vendor.headers(!secrets.is_empty()),
        body: None,
        timeout: Some(TIMEOUT),
    };
    let send = Send { fetch: &fetch, hosts: &hosts, secrets: &secrets, idempotency_key: None };
    let reply = egress.send(send).await.map_err(|error| error.to_string())?;
    if reply.body.len() > LIST_BYTES_MAX {
        return Err("its list is too long".to_owned());
    }
    if reply.status != 200 {
        return Err(format!("it answered {} when it was asked for its models", reply.status));
    }
    read(&reply.body).ok_or_else(|| "what it lists is no list of models".to_owned())
}

fn read(body: &[u8]) -> Option<Vec<String>> {
    let List { data, models } = serde_json::from_slice(body).ok()?;
    let names = data.into_iter().chain(models).take(MODELS_MAX);
    // Google writes `models/…` before each.
    let names = names.map(|model| model.id.strip_prefix("models/").map_or(model.id.clone(), str::to_owned));
    Some(names.filter(|name| is_model(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_all_vendors_are_read() {
        let openai = br#"{"object":"list","data":[{"id":"gpt-x","object":"model"}]}"#;
        let google = br#"{"models":[{"name":"models/gemini-x","displayName":"X"}]}"#;
        assert_eq!(read(openai).unwrap(), ["gpt-x"]);
        assert_eq!(read(google).unwrap(), ["gemini-x"]);
        let long = format!("{{\"data\":[{{\"id\":\"{}\"}},{{\"id\":\"a b\"}},{{\"id\":\"x\"}}]}}", "x".repeat(201));
        assert_eq!(read(long.as_bytes()).unwrap(), ["x"], "what is no name of a model is left out");
        assert!(read(b"\"nothing\"").is_none());
    }
}
