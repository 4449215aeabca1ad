//! Finding and opening the secrets that a step uses. They live as long as the request that they are for.

use super::{IntegrationError, connections, oauth, vault_entries};
use crate::vault::{DataKeyError, ExternalError, ExternalVault, SealError, Sealer, data_keys};
use agentruntime_egress::{Egress, Secret};
use agentruntime_engine::{
    database::{Database, StoreError},
    store::Scope,
};
use agentruntime_host_api::{Caller, ErrorCode, SecretRef, StepError, broker::Permit};
use secrecy::SecretString;
use std::{collections::BTreeMap, sync::Arc};

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    /// There is none of this name.
    #[error("{0}")]
    Missing(String),
    /// It was granted, and is not any more.
    #[error("{0}")]
    Unauthorized(String),
    /// It is over, and there is no new one just now.
    #[error("{0}")]
    Token(String),
    /// It cannot be opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database did not give it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The external vault did not.
    #[error("`vault/{path}`: {error}")]
    External {
        /// Which secret of the vault.
        path: String,
        /// Why not.
        error: ExternalError,
    },
}

/// What opens secrets, wherever they are kept.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// Opens the keys of workspaces.
    pub(crate) master: Arc<Sealer>,
    /// Has the values of vaults, where the operator set that up.
    pub(crate) external: Option<ExternalVault>,
}

impl From<DataKeyError> for SecretError {
    fn from(error: DataKeyError) -> Self {
        match error {
            DataKeyError::Seal(error) => error.into(),
            DataKeyError::Store(error) => error.into(),
        }
    }
}

impl From<SecretError> for StepError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Missing(message) => Self::new(ErrorCode::InvalidInput, message),
            SecretError::Unauthorized(message) => Self::new(ErrorCode::McpAuthorizationRequired, message),
            SecretError::Token(message) => Self::new(ErrorCode::UpstreamError, message),
            SecretError::Store(error) => unavailable(&error),
            // What went wrong with keys is the operator's to know.
            SecretError::Seal(error) => {
                tracing::error!(%error, "a secret cannot be opened");
                let message = "a secret that the step uses cannot be opened on this node; enter it anew, or ask whoever \
                    operates it";
                Self::new(ErrorCode::DependencyUnavailable, message)
            }
            SecretError::External { path, error } => {
                tracing::error!(%error, path, "a secret cannot be read");
                let why = match error {
                    ExternalError::Gone => "does not have it any more; write it anew",
                    _ => "did not give it now; whoever operates this service finds why in its log",
                };
                let message = format!("the step uses `vault/{path}`, and the external vault {why}");
                Self::new(ErrorCode::DependencyUnavailable, message)
            }
        }
    }
}

impl SecretError {
    /// For somebody who asked for it through a field of a request.
    pub(super) fn of_field(self, field: &'static str) -> IntegrationError {
        match self {
            Self::Missing(message) => IntegrationError::invalid(field, message),
            Self::Unauthorized(message) => IntegrationError::McpAuthorization { message, scopes: Vec::new() },
            Self::Token(message) => IntegrationError::McpServer(message),
            Self::Seal(error) => error.into(),
            Self::Store(error) => error.into(),
            Self::External { error, .. } => error.into(),
        }
    }
}

/// Where a step's secrets and instances are.
pub(super) fn scope(caller: &Caller) -> Scope {
    Scope { tenant: caller.tenant.clone(), project: caller.project.clone() }
}

/// Where secrets of a place are kept, and the way to who renews them.
#[derive(Clone)]
pub(super) struct Keeper {
    /// Where they are, sealed.
    pub(super) database: Database,
    /// What opens them, wherever they are kept.
    pub(super) keys: Keys,
    /// The way out.
    pub(super) egress: Egress,
    /// Whose they are.
    pub(super) scope: Scope,
}

impl Keeper {
    /// Opens the secrets of the place, by the names that a step gives them.
    pub(super) async fn open(
        &self,
        wanted: &BTreeMap<String, SecretRef>,
    ) -> Result<BTreeMap<String, Secret>, SecretError> {
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let sealer = self.sealer().await?;
        let mut opened = BTreeMap::new();
        for (name, kept) in wanted {
            opened.insert(name.clone(), self.open_one(&sealer, kept).await?);
        }
        Ok(opened)
    }

    /// What opens all that the workspace keeps.
    pub(super) async fn sealer(&self) -> Result<Arc<Sealer>, SecretError> {
        Ok(Arc::new(data_keys::opener(&self.database, &self.keys.master, &self.scope.tenant).await?))
    }

    async fn open_one(&self, sealer: &Arc<Sealer>, kept: &SecretRef) -> Result<Secret, SecretError> {
        let Self { database, scope, .. } = self;
        match kept {
            SecretRef::Connection { connection, key } => {
                let missing = || SecretError::Missing(format!("this project has no connection `{connection}`"));
                let found = connections::named(database, scope, connection).await?.ok_or_else(missing)?;
                if found.grant.is_some() && key == oauth::ACCESS_TOKEN {
                    return oauth::fresh(self, sealer, found, None).await;
                }
                let value = found.open(sealer, key).ok_or_else(|| {
                    let keys = found.credential_keys().join(", ");
                    let message = format!("the connection `{connection}` has no credential `{key}`; it has {keys}");
                    SecretError::Missing(message)
                })??;
                Ok(Secret { value, hosts: found.allowed_hosts })
            }
            SecretRef::Vault(path) => {
                let missing = || SecretError::Missing(format!("this workspace's vault has no `{path}`"));
                let found = vault_entries::newest(database, &scope.tenant, path).await?.ok_or_else(missing)?;
                Ok(Secret {
                    value: found.open(sealer, self.keys.external.as_ref(), &scope.tenant).await?,
                    hosts: found.allowed_hosts,
                })
            }
        }
    }
}

/// The secrets that were given for this process.
pub(super) fn given(
    given: &BTreeMap<SecretRef, SecretString>,
    permit: &Permit,
) -> Result<BTreeMap<String, Secret>, SecretError> {
    let find = |(name, wanted): (&String, &SecretRef)| {
        let value = given.get(wanted).cloned().ok_or_else(|| {
            let message =
                format!("`{wanted}` was not given; run again with --secrets '{{ \"{wanted}\": \"…\" }}', or @FILE");
            SecretError::Missing(message)
        })?;
        Ok((name.clone(), Secret { value, hosts: permit.hosts().to_vec() }))
    };
    permit.secrets().iter().map(find).collect()
}

/// A database that does not answer.
pub(super) fn unavailable(error: &StoreError) -> StepError {
    if !error.is_outage() {
        tracing::error!(%error, "what a step uses cannot be read");
    }
    StepError::new(ErrorCode::DependencyUnavailable, "the database did not give what the step uses")
}
