//! Secrets of workspaces' vaults that are kept elsewhere: in a server with the API of HashiCorp Vault, such as OpenBao, in its
//! engine KV of version 2. The database then has their paths, versions and hosts, and no value.
//!
//! Written here rather than taken from a library, since it is three requests, and what is known for them reads its address, its
//! token and whether certificates are checked from the environment, and keeps values where they are not erased.

use agentruntime_host_api::{SecretRef, TenantId};
use reqwest::{Method, RequestBuilder, StatusCode, redirect::Policy};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{path::PathBuf, time::Duration};
use url::Url;

/// How long the server may take: a step waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer, in bytes: a secret has a fraction of it.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// What stands in the database in the place of a sealed value, before the version there.
const KEPT: &str = "external:";

/// Where the secrets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExternalSettings {
    /// The server.
    pub(crate) address: Url,
    /// A file with the token by which it knows us. It is read for each request, since agents write a new one before the old
    /// one ends.
    pub(crate) token_file: PathBuf,
    /// Where the engine is mounted.
    pub(crate) mount: String,
    /// The folder in it that is ours.
    pub(crate) prefix: String,
}

/// The server.
#[derive(Clone, Debug)]
pub(crate) struct ExternalVault {
    settings: ExternalSettings,
    http: reqwest::Client,
}

/// Why it did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExternalError {
    /// A value lies there, and this process does not know where that is.
    #[error("the value is kept in an external vault, and none is set up: give `vault_address` and what belongs to it")]
    NotSetUp,
    /// It has no such value, or no more.
    #[error("the external vault does not have the value any more; write it anew")]
    Gone,
    /// The token cannot be read.
    #[error("the token of the external vault cannot be read from {path}: {source}", path = path.display())]
    Token {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It did not answer.
    #[error("the external vault does not answer: {0}")]
    Away(#[from] reqwest::Error),
    /// It refused.
    #[error(
        "the external vault refused with the status {status}{said}; check its token, `vault_mount` and `vault_prefix`"
    )]
    Refused {
        /// Its status.
        status: StatusCode,
        /// What it said.
        said: String,
    },
    /// Its answer is none.
    #[error("the external vault answered with what is no answer of its API")]
    Answer,
}

#[derive(Serialize)]
struct Given<'a> {
    data: Value<'a>,
}

#[derive(Serialize)]
struct Value<'a> {
    #[serde(serialize_with = "exposed")]
    value: &'a SecretString,
}

fn exposed<S: Serializer>(value: &&SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.expose_secret())
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Written {
    version: u64,
}

#[derive(Deserialize)]
struct Read {
    data: ReadValue,
}

#[derive(Deserialize)]
struct ReadValue {
    #[serde(deserialize_with = "hidden")]
    value: SecretString,
}

fn hidden<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

#[derive(Deserialize)]
struct Refused {
    errors: Vec<String>,
}

/// Whether a text is a folder in the engine: parts that lead nowhere else.
pub(crate) fn is_folder(path: &str) -> bool {
    path.parse::<SecretRef>().is_err() && format!("vault/{path}").parse::<SecretRef>().is_ok()
}

/// Whether what the database has is a place in the external vault.
pub(crate) fn is_external(kept: &str) -> bool {
    kept.starts_with(KEPT)
}

impl ExternalVault {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// The machine lacks certificates.
    pub(crate) fn new(settings: ExternalSettings) -> Result<Self, ExternalError> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build()?;
        Ok(Self { settings, http })
    }

    /// Writes a value; what the database keeps in its place.
    pub(crate) async fn put(
        &self,
        tenant: &TenantId,
        path: &str,
        value: &SecretString,
    ) -> Result<String, ExternalError> {
        let given = Given { data: Value { value } };
        let body = serde_json::to_vec(&given).map_err(|_| ExternalError::Answer)?;
        let request = self.request(Method::POST, "data", tenant, path)?.body(body);
        let answer: Answer<Written> = read(&send(request).await?)?;
        Ok(format!("{KEPT}{}", answer.data.version))
    }

    /// Reads the value in whose place something is kept.
    pub(crate) async fn get(&self, tenant: &TenantId, path: &str, kept: &str) -> Result<SecretString, ExternalError> {
        let version = kept.strip_prefix(KEPT).ok_or(ExternalError::Answer)?;
        let request = self.request(Method::GET, "data", tenant, path)?.query(&[("version", version)]);
        let answer: Answer<Read> = read(&send(request).await.map_err(gone)?)?;
        Ok(answer.data.data.value)
    }

    /// Deletes a path with all its versions, if it is there.
    pub(crate) async fn delete(&self, tenant: &TenantId, path: &str) -> Result<(), ExternalError> {
        match send(self.request(Method::DELETE, "metadata", tenant, path)?).await.map_err(gone) {
            Ok(_) | Err(ExternalError::Gone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether it answers, and knows the token.
    pub(crate) async fn check(&self) -> Result<(), ExternalError> {
        let url = self.url(&["v1", "auth", "token", "lookup-self"]);
        send(self.authorized(self.http.get(url))?).await.map(drop)
    }

    /// A path of a workspace lies in the workspace's own folder: ids and the parts of paths hold nothing that leads out of it.
    fn request(
        &self,
        method: Method,
        what: &str,
        tenant: &TenantId,
        path: &str,
    ) -> Result<RequestBuilder, ExternalError> {
        let Self { settings, http } = self;
        let ours = settings.prefix.split('/').chain([tenant.as_str()]).chain(path.split('/'));
        let parts: Vec<&str> = ["v1"].into_iter().chain(settings.mount.split('/')).chain([what]).chain(ours).collect();
        self.authorized(http.request(method, self.url(&parts)))
    }

    fn url(&self, parts: &[&str]) -> Url {
        let mut url = self.settings.address.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    fn authorized(&self, request: RequestBuilder) -> Result<RequestBuilder, ExternalError> {
        let path = &self.settings.token_file;
        let wrong = |source| ExternalError::Token { path: path.clone(), source };
        let token = Zeroizing::new(std::fs::read_to_string(path).map_err(wrong)?);
        let mut token = reqwest::header::HeaderValue::from_str(token.trim())
            .map_err(|_| wrong(std::io::Error::other("it holds no token")))?;
        token.set_sensitive(true);
        Ok(request.header("x-vault-token", token).header("x-vault-request", "true"))
    }
}

async fn send(request: RequestBuilder) -> Result<Zeroizing<Vec<u8>>, ExternalError> {
    let mut answer = request.send().await.map_err(reqwest::Error::without_url)?;
    let mut body = Zeroizing::new(Vec::with_capacity(ANSWER_BYTES_MAX));
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(ExternalError::Answer);
        }
        body.extend_from_slice(&chunk);
    }
    match answer.status() {
        status if status.is_success() => Ok(body),
        status => {
            let said = serde_json::from_slice(&body).map_or(String::new(), |refused: Refused| {
                let said: String = refused.errors.join("; ").chars().filter(|c| !c.is_control()).take(200).collect();
                format!(" ({said})")
            });
            Err(ExternalError::Refused { status, said })
        }
    }
}

/// Of a value that was written once, a refusal that there is none says that it is gone.
fn gone(error: ExternalError) -> ExternalError {
    match error {
        ExternalError::Refused { status: StatusCode::NOT_FOUND, .. } => ExternalError::Gone,
        error => error,
    }
}

fn read<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, ExternalError> {
    serde_json::from_slice(body).map_err(|_| ExternalError::Answer)
}
