//! Which provider a model is asked at: the one that the step names, else the workspace's own, else the operator's.

use super::{
    endpoint::{Endpoint, Tier},
    vendor::Vendor,
};
use agentruntime_host_api::ModelGrant;

/// What begins the name of a model that says its provider.
const DIRECT: &str = "direct.";

/// Where a model is asked, and what it is called there.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The provider.
    pub(crate) endpoint: Endpoint,
    /// The vendor's own name of the model.
    pub(crate) model: String,
}

/// Chooses among the providers that are in use; those of the workspace come first.
///
/// # Errors
/// A sentence that says what is missing and how to get it.
pub(crate) fn resolve(endpoints: Vec<Endpoint>, wanted: &ModelGrant) -> Result<Resolved, String> {
    let tier = match wanted.scope.as_deref() {
        None => None,
        Some("tenant") => Some(Tier::Tenant),
        Some("platform") => Some(Tier::Platform),
        Some(other) => return Err(format!("`llm_credential_scope` is `tenant` or `platform`, not `{}`", shown(other))),
    };
    let in_tier = |it: &Endpoint| tier.is_none_or(|tier| it.tier == tier);
    let is_named = |it: &Endpoint| match &wanted.credential {
        None => true,
        Some(credential) => it.id.as_ref() == Some(credential) || it.name == *credential,
    };
    let (provider, model) = parts(&wanted.model);
    let (mut left, disabled): (Vec<Endpoint>, Vec<Endpoint>) =
        endpoints.into_iter().filter(|it| in_tier(it) && is_named(it)).partition(|it| it.is_enabled);
    let is_meant = |it: &&Endpoint| wanted.credential.is_some() || provider == Some(&*it.name);
    let disabled = disabled.iter().find(is_meant).map(|it| {
        let how = "PATCH /v1/providers/{id} with { \"is_enabled\": true } puts it in use again";
        format!("the provider `{}` is disabled; {how}", it.name)
    });
    if let (Some(credential), true) = (&wanted.credential, left.is_empty()) {
        return Err(disabled.unwrap_or_else(|| {
            format!(
                "there is no provider `{}` that is in use here; GET /v1/providers lists those of this project",
                shown(credential)
            )
        }));
    }
    let found = match provider {
        Some(name) => {
            left.iter().position(|it| it.name == name).or_else(|| left.iter().position(|it| it.vendor.word() == name))
        }
        None => by_model(&left, model, wanted.credential.is_some()),
    };
    match found {
        Some(at) => Ok(Resolved { endpoint: left.swap_remove(at), model: model.to_owned() }),
        None => Err(disabled.unwrap_or_else(|| missing(provider, model))),
    }
}

/// `direct.<provider>.<model>` as its parts; a name that says no provider is a model's alone.
fn parts(model: &str) -> (Option<&str>, &str) {
    let direct = model.strip_prefix(DIRECT).and_then(|rest| rest.split_once('.'));
    direct.map_or((None, model), |(provider, model)| (Some(provider), model))
}

fn by_model(left: &[Endpoint], model: &str, is_chosen: bool) -> Option<usize> {
    let listed = left.iter().position(|it| it.models.iter().any(|listed| listed == model));
    let of_vendor = || {
        let vendor = Vendor::of_model(model)?;
        left.iter().position(|it| it.vendor == vendor)
    };
    // Whoever is alone, or was named, is meant.
    let only = || (left.len() == 1 || is_chosen).then_some(0).filter(|_| !left.is_empty());
    listed.or_else(of_vendor).or_else(only)
}

fn missing(provider: Option<&str>, model: &str) -> String {
    let whose = match provider {
        Some(name) => format!("no provider `{}` is in use here", shown(name)),
        None => "no provider that is in use here has it".to_owned(),
    };
    format!(
        "the model `{}` cannot be asked: {whose}; make one with POST /v1/providers (`agentruntime run`: --providers), or name \
         one as direct.<provider>.<model>",
        shown(model)
    )
}

fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrations::llm::endpoint::Key;

    fn endpoint(name: &str, vendor: Vendor, tier: Tier, models: &[&str]) -> Endpoint {
        let (id, base_url) = (Some(format!("id-{name}")), "https://a.example/v1".parse().unwrap());
        let models = models.iter().map(|model| (*model).to_owned()).collect();
        Endpoint { id, name: name.into(), vendor, base_url, models, tier, is_enabled: true, key: Key::None }
    }

    fn all() -> Vec<Endpoint> {
        vec![
            endpoint("openai", Vendor::Openai, Tier::Tenant, &[]),
            endpoint("local", Vendor::OpenaiCompatible, Tier::Tenant, &["tiny"]),
            endpoint("openai", Vendor::Openai, Tier::Platform, &[]),
            endpoint("shared", Vendor::Anthropic, Tier::Platform, &[]),
        ]
    }

    #[test]
    fn a_provider_that_is_disabled_is_told_as_that() {
        let wanted = |model: &str, credential: Option<&str>| {
            let mut endpoints = all();
            endpoints.iter_mut().filter(|it| it.tier == Tier::Tenant).for_each(|it| it.is_enabled = false);
            let credential = credential.map(str::to_owned);
            let found = resolve(endpoints, &ModelGrant { model: model.into(), credential, scope: None });
            found.map(|it| format!("{:?}", it.endpoint.tier))
        };
        let error = wanted("direct.local.tiny", None).unwrap_err();
        assert!(error.contains("`local` is disabled") && error.contains("is_enabled"), "{error}");
        assert!(wanted("tiny", Some("id-local")).unwrap_err().contains("`local` is disabled"));
        assert!(wanted("direct.nowhere.tiny", None).unwrap_err().contains("`nowhere`"));
        assert_eq!(wanted("direct.openai.gpt-x", None).unwrap(), "Platform", "the operator's is another one");
    }

    fn told(model: &str, credential: Option<&str>, scope: Option<&str>) -> Result<String, String> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let wanted = ModelGrant { model: model.into(), credential: own(credential), scope: own(scope) };
        resolve(all(), &wanted).map(|it| format!("{} {:?} {}", it.endpoint.name, it.endpoint.tier, it.model))
    }

    #[test]
    fn the_workspace_comes_before_the_operator() {
        assert_eq!(told("direct.openai.gpt-x.1", None, None).unwrap(), "openai Tenant gpt-x.1");
        assert_eq!(told("direct.openai.gpt-x", None, Some("platform")).unwrap(), "openai Platform gpt-x");
        assert_eq!(told("direct.anthropic.claude-x", None, None).unwrap(), "shared Platform claude-x");
        assert_eq!(told("gpt-x", None, None).unwrap(), "openai Tenant gpt-x");
        assert_eq!(told("claude-x", None, None).unwrap(), "shared Platform claude-x");
    }

    #[test]
    fn a_model_that_is_listed_is_found_by_its_name_alone() {
        assert_eq!(told("tiny", None, None).unwrap(), "local Tenant tiny");
        assert!(told("unheard-of", None, None).unwrap_err().contains("POST /v1/providers"));
        assert!(told("direct.nowhere.tiny", None, None).unwrap_err().contains("`nowhere`"));
    }

    #[test]
    fn a_step_s_own_credential_decides() {
        assert_eq!(told("gpt-x", Some("local"), None).unwrap(), "local Tenant gpt-x");
        assert_eq!(told("tiny", Some("id-local"), None).unwrap(), "local Tenant tiny");
        assert!(told("tiny", Some("shared"), Some("tenant")).unwrap_err().contains("`shared`"));
        assert!(told("tiny", Some("other"), None).unwrap_err().contains("`other`"));
        assert!(told("tiny", None, Some("galaxy")).unwrap_err().contains("galaxy"));
    }
}
