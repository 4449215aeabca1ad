//! Providers that come from a file: the operator's for all workspaces, or those of `agentruntime run`.

use super::{
    endpoint::{Endpoint, Key, Tier, read_base_url},
    providers::{check_models, check_name},
    vendor::Vendor,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// What `platform_providers_file` and `--providers` hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    name: Option<String>,
    vendor: Vendor,
    base_url: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    api_key: Option<SecretString>,
    #[serde(default)]
    models: Vec<String>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

/// Reads a list of providers.
///
/// # Errors
/// A sentence that says what is wrong, and nothing of a key.
pub(crate) fn read(text: &SecretString, tier: Tier) -> Result<Vec<Endpoint>, String> {
    let form = "a list such as [{\"vendor\": \"openai\", \"api_key\": \"…\"}], in JSON";
    let given: Vec<Given> = serde_json::from_str(text.expose_secret())
        .map_err(|error| format!("does not hold {form}: {}", told(&error)))?;
    let endpoints: Vec<Endpoint> = given.into_iter().map(|given| endpoint(given, tier)).collect::<Result<_, _>>()?;
    let twice =
        endpoints.iter().enumerate().find(|(at, it)| endpoints[..*at].iter().any(|other| other.name == it.name));
    match twice {
        Some((_, twice)) => Err(format!("names `{}` twice; give one of them another `name`", twice.name)),
        None => Ok(endpoints),
    }
}

/// What is wrong with the form. A value could be a key, so that only names are repeated.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match ["unknown field", "unknown variant", "missing field"].iter().any(|beginning| text.starts_with(beginning)) {
        true => text,
        false => format!("it cannot be read at line {}, column {}", error.line(), error.column()),
    }
}

fn endpoint(given: Given, tier: Tier) -> Result<Endpoint, String> {
    let Given { name, vendor, base_url, api_key, models } = given;
    let name = name.unwrap_or_else(|| vendor.word().to_owned());
    let wrong = |error: &dyn std::fmt::Display| format!("cannot have the provider `{name}`: {error}");
    check_name(&name).map_err(|error| wrong(&error))?;
    let base_url = read_base_url(vendor, base_url.as_deref()).map_err(|error| wrong(&error))?;
    check_models(&models).map_err(|error| wrong(&error))?;
    let key = api_key.map_or(Key::None, Key::Open);
    Ok(Endpoint { id: None, name, vendor, base_url, models, tier, is_enabled: true, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_without_the_key() {
        let refused = |text: &str| read(&text.into(), Tier::Platform).unwrap_err();
        assert!(refused("{}").contains("a list such as"));
        assert!(refused("[{\"vendor\": \"openai\", \"api_key\": \"sk-secret\", \"x\": 1}]").contains("line 1"));
        assert!(refused("[{\"vendor\": \"openai\", \"url\": \"x\"}]").contains("`url`, expected"));
        for wrong in [
            "[{\"vendor\": \"openai\", \"api_key\": \"sk-secret\", \"x\": 1}]",
            "[\"sk-secret\"]",
            "{\"sk-secret\": 1}",
        ] {
            assert!(!refused(wrong).contains("sk-secret"), "{wrong}");
        }
        assert!(refused("[{\"vendor\": \"openai_compatible\"}]").contains("base_url"));
        assert!(refused("[{\"vendor\": \"openai\", \"models\": [\"a b\"]}]").contains("a model's name"));
        assert!(refused("[{\"vendor\": \"google\"}, {\"vendor\": \"google\"}]").contains("`google` twice"));
        let fine = read(&"[{\"vendor\": \"openai\"}, {\"vendor\": \"openai\", \"name\": \"b\"}]".into(), Tier::Tenant);
        assert_eq!(fine.unwrap().len(), 2);
    }
}
