//! Carries out what steps asked for and the broker let pass.

use super::{
    llm::Endpoint,
    mcp,
    schemas::Checks,
    secrets::{self, Keeper, Keys, SecretError},
};
use crate::settings::EgressSettings;
use agentruntime_egress::{Egress, EgressConfig, EgressError, Reach, Secret, Send, hmac_sha256};
use agentruntime_engine::{database::Database, node::Compute};
use agentruntime_host_api::{
    Act, Errand, ErrorCode, Fetch, Host, HostPattern, HostReply, Json, Method, RunId, SecretRef, Sign, StepError,
};
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long a host may take to answer a test.
const TEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests cannot be sent from here.
#[derive(Debug, thiserror::Error)]
#[error("requests of steps cannot be sent: {0}; check `egress_proxy` and the machine's certificates")]
pub(crate) struct OutsideError(String);

/// The outside, and the secrets that are used there.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    secrets: Secrets,
    providers: Arc<[Endpoint]>,
    egress: Egress,
    sessions: mcp::Sessions,
    compute: Arc<Compute>,
}

/// Where secrets are.
#[derive(Clone, Debug)]
pub(crate) enum Secrets {
    /// In a database, sealed.
    Kept {
        /// Which.
        database: Database,
        /// What opens them.
        keys: Keys,
    },
    /// Given for this process, by whoever runs a graph of their own. They go wherever that graph sends them.
    Given(BTreeMap<SecretRef, SecretString>),
}

impl Outside {
    /// The providers are those that come from a file, beside those of projects.
    ///
    /// # Errors
    /// The settings are wrong, or the machine lacks certificates.
    pub(crate) fn new(
        secrets: Secrets,
        providers: Vec<Endpoint>,
        settings: &EgressSettings,
    ) -> Result<Self, OutsideError> {
        let config = EgressConfig {
            reach: Reach { allowed: settings.allowed_networks.clone() },
            proxy: settings.proxy.clone(),
            ..EgressConfig::default()
        };
        let egress = Egress::new(config).map_err(|error| OutsideError(error.to_string()))?;
        Ok(Self {
            secrets,
            providers: providers.into(),
            egress,
            sessions: mcp::Sessions::default(),
            compute: Arc::default(),
        })
    }

    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Where it does what takes the processor for long; a node does the same there.
    pub(crate) fn compute(&self) -> &Arc<Compute> {
        &self.compute
    }

    pub(super) fn given_providers(&self) -> &[Endpoint] {
        &self.providers
    }

    /// Whether a host answers, to a request that says nothing.
    pub(super) async fn reaches(&self, host: &HostPattern) -> Result<(), EgressError> {
        let Some(url) = host.url() else { return Ok(()) };
        let (headers, timeout) = (BTreeMap::new(), Some(TEST_TIMEOUT));
        let fetch = Fetch { method: Method::Head, url, headers, body: None, timeout };
        let hosts = std::slice::from_ref(host);
        let send = Send { fetch: &fetch, hosts, secrets: &BTreeMap::new(), idempotency_key: None };
        match self.egress.send(send).await {
            // It answers, be it by leading elsewhere.
            Ok(_) | Err(EgressError::RedirectNotGranted { .. } | EgressError::TooManyRedirects(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The one way out.
    pub(super) fn egress(&self) -> &Egress {
        &self.egress
    }

    /// Sessions with servers of MCP.
    pub(super) fn sessions(&self) -> &mcp::Sessions {
        &self.sessions
    }

    /// Ends what is kept for steps: none is at work any more.
    pub(crate) async fn end(&self) {
        self.sessions.end().await;
    }

    fn ways(&self) -> mcp::Ways<'_> {
        mcp::Ways { kept: &self.secrets, egress: &self.egress, sessions: &self.sessions }
    }

    async fn fetch(&self, errand: &Errand, fetch: &Fetch) -> HostReply {
        let secrets = self.open(errand).await?;
        let key = errand.idempotency_key();
        let hosts = errand.permit.hosts();
        let send = Send { fetch, hosts, secrets: &secrets, idempotency_key: Some(key.as_str()) };
        let reply = self.egress.send(send).await.map_err(|error| refused(&error))?;
        Ok(reply.into_json().into())
    }

    async fn sign(&self, errand: &Errand, sign: &Sign) -> HostReply {
        let secrets = self.open(errand).await?;
        let name = &sign.secret.name;
        let secret = secrets
            .get(name)
            .ok_or_else(|| StepError::new(ErrorCode::InvalidInput, format!("there is no secret `{name}`")))?;
        self.check_signs(name, secret)?;
        Ok(Json::from(Value::from(hmac_sha256(&secret.value, sign.data.as_bytes()))))
    }

    /// What is sent to hosts does not sign: from a signature, whoever gets it could tell whether a guess of the secret is right,
    /// and the script decides who gets it. A secret that was given for this process is its user's own.
    fn check_signs(&self, name: &str, secret: &Secret) -> Result<(), StepError> {
        let is_kept = matches!(self.secrets, Secrets::Kept { .. });
        if !is_kept || secret.hosts.is_empty() {
            return Ok(());
        }
        let hosts: Vec<String> = secret.hosts.iter().map(ToString::to_string).collect();
        let message = format!(
            "the secret `{name}` may be sent to {}, so it does not sign; keep the key that `hmac` uses apart, with an empty \
             `allowed_hosts`",
            hosts.join(", ")
        );
        Err(StepError::new(ErrorCode::CapabilityDenied, message))
    }

    async fn open(&self, errand: &Errand) -> Result<BTreeMap<String, Secret>, SecretError> {
        let (caller, permit) = (&errand.caller, &errand.permit);
        match &self.secrets {
            Secrets::Kept { database, keys } => {
                let (database, keys, egress) = (database.clone(), keys.clone(), self.egress.clone());
                Keeper { database, keys, egress, scope: secrets::scope(caller) }.open(permit.secrets()).await
            }
            Secrets::Given(given) => secrets::given(given, permit),
        }
    }
}

impl Host for Outside {
    fn carry_out(&self, errand: Errand) -> BoxFuture<'_, HostReply> {
        Box::pin(async move {
            let checks = Checks::of(&self.compute, &errand.caller.tenant);
            match errand.permit.act() {
                Act::Fetch(fetch) => self.fetch(&errand, fetch).await,
                Act::Sign(sign) => self.sign(&errand, sign).await,
                Act::Resolve(model) => self.tell(&errand, model).await,
                Act::Ask(ask) => self.ask(&errand, ask).await,
                Act::Check(check) => checks.check(check).await,
                Act::Call(call) => mcp::call(self.ways(), checks, &errand, call).await,
                Act::Describe(call) => mcp::describe(self.ways(), &errand, call).await,
            }
        })
    }

    fn let_go(&self, run: RunId) {
        self.sessions.let_go(run);
    }
}

fn refused(error: &EgressError) -> StepError {
    let code = if error.is_denial() { ErrorCode::CapabilityDenied } else { ErrorCode::UpstreamError };
    StepError::new(code, error.to_string())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
