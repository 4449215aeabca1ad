//! A provider as it is asked, wherever it is kept.

use super::{super::IntegrationError, vendor::Vendor};
use agentruntime_host_api::HostPattern;
use secrecy::SecretString;
use serde::Serialize;
use url::Url;
use utoipa::ToSchema;

/// The longest address of a provider, in bytes.
pub(crate) const BASE_URL_BYTES_MAX: usize = 500;

/// Whose a provider is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tier {
    /// The workspace's own.
    Tenant,
    /// The operator's, for all workspaces.
    Platform,
}

/// A provider and how to ask it.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Its id, where it is kept in a project.
    pub(crate) id: Option<String>,
    /// The `<provider>` of `direct.<vendor>.<model>`.
    pub(crate) name: String,
    /// How it is asked.
    pub(crate) vendor: Vendor,
    /// Where.
    pub(crate) base_url: Url,
    /// Its models, where somebody listed them.
    pub(crate) models: Vec<String>,
    /// Whose it is.
    pub(crate) tier: Tier,
    /// Whether it is asked at all.
    pub(crate) is_enabled: bool,
    /// Its key, if it has one.
    pub(super) key: Key,
}

/// The key of a provider.
#[derive(Clone, Debug)]
pub(super) enum Key {
    /// It wants none.
    None,
    /// As the database keeps it.
    Sealed(String),
    /// As it is.
    Open(SecretString),
}

impl Endpoint {
    /// How a step names a model of it.
    pub(crate) fn model_ref(&self, model: &str) -> String {
        format!("direct.{}.{model}", self.name)
    }

    /// The only place that its key goes to, and any request to it.
    pub(super) fn host(&self) -> Option<HostPattern> {
        HostPattern::of(&self.base_url)
    }
}

/// Reads where a provider is.
///
/// # Errors
/// It is no plain address by HTTP, or missing where the vendor has none.
pub(super) fn read_base_url(vendor: Vendor, given: Option<&str>) -> Result<Url, IntegrationError> {
    let invalid = |message: &str| IntegrationError::invalid("base_url", message);
    let Some(text) = given.or(vendor.base_url()) else {
        return Err(invalid("say where the server is, such as http://127.0.0.1:8080/v1"));
    };
    let url = Url::parse(text).ok().filter(|url| HostPattern::of(url).is_some() && text.len() <= BASE_URL_BYTES_MAX);
    let url = url.ok_or_else(|| invalid("write an address such as https://models.example.com/v1"))?;
    let is_plain =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if !is_plain {
        return Err(invalid("write it without user, password, query and fragment; the key is `api_key`"));
    }
    Ok(url)
}
