//! What the host does for steps that ask models.

use super::{
    super::{
        Outside, Secrets,
        secrets::{self, SecretError},
    },
    ask::{Asking, ask},
    catalog::{self, Listed},
    endpoint::{Endpoint, Key},
    providers,
    resolve::{Resolved, resolve},
    vendor::Delivery,
};
use crate::vault::data_keys;
use agentruntime_engine::{database::StoreError, store::Scope};
use agentruntime_host_api::{Ask, Errand, ErrorCode, HostReply, ModelGrant, Operation, StepError};
use secrecy::SecretString;
use serde_json::json;

/// Why a model cannot be asked anywhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoProvider {
    /// No provider that is in use is asked for it.
    #[error("{0}")]
    Missing(String),
    /// The database did not say.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<NoProvider> for StepError {
    fn from(error: NoProvider) -> Self {
        match error {
            NoProvider::Missing(message) => Self::new(ErrorCode::InvalidInput, message),
            NoProvider::Store(error) => secrets::unavailable(&error),
        }
    }
}

impl Outside {
    /// Which provider a model is asked at.
    ///
    /// # Errors
    /// None is, or the database did not say.
    pub(crate) async fn resolve(&self, scope: &Scope, wanted: &ModelGrant) -> Result<Resolved, NoProvider> {
        resolve(self.endpoints(scope).await?, wanted).map_err(NoProvider::Missing)
    }

    /// What a step is told of that: no address and no key.
    pub(in crate::integrations) async fn tell(&self, errand: &Errand, wanted: &ModelGrant) -> HostReply {
        let Resolved { endpoint, model } = self.resolve(&secrets::scope(&errand.caller), wanted).await?;
        let operations: Vec<&str> = endpoint.vendor.operations().iter().map(|operation| word(*operation)).collect();
        Ok(json!({
            "provider": endpoint.name, "vendor": endpoint.vendor, "model": model, "tier": endpoint.tier,
            "operations": operations,
        })
        .into())
    }

    pub(in crate::integrations) async fn ask(&self, errand: &Errand, wanted: &Ask) -> HostReply {
        let scope = secrets::scope(&errand.caller);
        let Resolved { endpoint, model } = self.resolve(&scope, &wanted.model).await?;
        let key = self.key(&scope, &endpoint).await?;
        let (operation, body) = (wanted.operation, wanted.body.clone());
        let delivery = if wanted.stream { Delivery::Streamed } else { Delivery::Whole };
        let compute = self.compute();
        let asking = Asking { endpoint: &endpoint, model: &model, key, operation, body, delivery, compute, errand };
        Ok(ask(self.egress(), asking).await?.into())
    }

    /// The models of all providers that are in use. Those that list none are asked, with their keys.
    ///
    /// # Errors
    /// The database did not give the providers.
    pub(super) async fn models(&self, scope: &Scope) -> Result<Vec<Listed>, StoreError> {
        let mut endpoints = Vec::new();
        for endpoint in self.endpoints(scope).await?.into_iter().filter(|it| it.is_enabled) {
            let key = match endpoint.models.is_empty() {
                true => self.key(scope, &endpoint).await,
                false => Ok(None),
            };
            endpoints.push((endpoint, key.map_err(|error| StepError::from(error).message)));
        }
        Ok(catalog::list(self.egress(), endpoints).await)
    }

    /// The workspace's own first.
    async fn endpoints(&self, scope: &Scope) -> Result<Vec<Endpoint>, StoreError> {
        let mut all = match self.secrets() {
            Secrets::Kept { database, .. } => providers::all(database, scope).await?,
            Secrets::Given(_) => Vec::new(),
        };
        all.extend(self.given_providers().iter().cloned());
        Ok(all)
    }

    async fn key(&self, scope: &Scope, endpoint: &Endpoint) -> Result<Option<SecretString>, SecretError> {
        let sealed = match &endpoint.key {
            Key::None => return Ok(None),
            Key::Open(key) => return Ok(Some(key.clone())),
            Key::Sealed(sealed) => sealed,
        };
        let (Secrets::Kept { database, keys }, Some(id)) = (self.secrets(), &endpoint.id) else { return Ok(None) };
        let sealer = data_keys::opener(database, &keys.master, &scope.tenant).await?;
        Ok(Some(providers::open(&sealer, &scope.tenant, id, sealed)?))
    }
}

fn word(operation: Operation) -> &'static str {
    match operation {
        Operation::Chat => "chat",
        Operation::Responses => "responses",
        Operation::Messages => "messages",
        Operation::Generate => "generate",
    }
}
