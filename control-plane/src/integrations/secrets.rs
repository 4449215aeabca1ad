//! Finding and opening the secrets that a step uses. They live as long as the request that they are for.

use super::{connections, vault_entries};
use crate::vault::{DataKeyError, SealError, Sealer, data_keys};
use agentruntime_egress::Secret;
use agentruntime_engine::{
    database::{Database, StoreError},
    store::Scope,
};
use agentruntime_host_api::{Caller, ErrorCode, SecretRef, StepError, broker::Permit};
use secrecy::SecretString;
use std::{collections::BTreeMap, sync::Arc};

/// Where a step's secrets and instances are.
pub(super) fn scope(caller: &Caller) -> Scope {
    Scope { tenant: caller.tenant.clone(), project: caller.project.clone() }
}

/// Opens the secrets of a place, by the names that a step gives them.
pub(super) async fn open(
    database: &Database,
    master: &Arc<Sealer>,
    scope: &Scope,
    wanted: &BTreeMap<String, SecretRef>,
) -> Result<BTreeMap<String, Secret>, StepError> {
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let sealer = data_keys::opener(database, master, &scope.tenant).await.map_err(|error| match error {
        DataKeyError::Seal(error) => unreadable(&error),
        DataKeyError::Store(error) => unavailable(&error),
    })?;
    let mut opened = BTreeMap::new();
    for (name, kept) in wanted {
        opened.insert(name.clone(), open_one(database, &sealer, scope, kept).await?);
    }
    Ok(opened)
}

/// The secrets that were given for this process.
pub(super) fn given(
    given: &BTreeMap<SecretRef, SecretString>,
    permit: &Permit,
) -> Result<BTreeMap<String, Secret>, StepError> {
    let find = |(name, wanted): (&String, &SecretRef)| {
        let value = given.get(wanted).cloned().ok_or_else(|| {
            missing(format!("`{wanted}` was not given; run again with --secrets '{{ \"{wanted}\": \"…\" }}', or @FILE"))
        })?;
        Ok((name.clone(), Secret { value, hosts: permit.hosts().to_vec() }))
    };
    permit.secrets().iter().map(find).collect()
}

async fn open_one(database: &Database, sealer: &Sealer, scope: &Scope, kept: &SecretRef) -> Result<Secret, StepError> {
    match kept {
        SecretRef::Connection { connection, key } => {
            let found = connections::named(database, scope, connection).await.map_err(|error| unavailable(&error))?;
            let found = found.ok_or_else(|| missing(format!("this project has no connection `{connection}`")))?;
            let value = found.open(sealer, key).ok_or_else(|| {
                let keys: Vec<&str> = found.credential_keys().map(String::as_str).collect();
                missing(format!("the connection `{connection}` has no credential `{key}`; it has {}", keys.join(", ")))
            })?;
            Ok(Secret { value: value.map_err(|error| unreadable(&error))?, hosts: found.allowed_hosts })
        }
        SecretRef::Vault(path) => {
            let found = vault_entries::newest(database, &scope.tenant, path).await;
            let found = found.map_err(|error| unavailable(&error))?;
            let found = found.ok_or_else(|| missing(format!("this workspace's vault has no `{path}`")))?;
            let value = found.open(sealer, &scope.tenant).map_err(|error| unreadable(&error))?;
            Ok(Secret { value, hosts: found.allowed_hosts })
        }
    }
}

fn missing(message: String) -> StepError {
    StepError::new(ErrorCode::InvalidInput, message)
}

/// What went wrong with keys is the operator's to know.
pub(super) fn unreadable(error: &SealError) -> StepError {
    tracing::error!(%error, "a secret cannot be opened");
    let message =
        "a secret that the step uses cannot be opened on this node; enter it anew, or ask whoever operates it";
    StepError::new(ErrorCode::DependencyUnavailable, message)
}

/// A database that does not answer.
pub(super) fn unavailable(error: &StoreError) -> StepError {
    if !error.is_outage() {
        tracing::error!(%error, "what a step uses cannot be read");
    }
    StepError::new(ErrorCode::DependencyUnavailable, "the database did not give what the step uses")
}
