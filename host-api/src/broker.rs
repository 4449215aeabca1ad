//! The broker: every request of a step passes here before anything acts on it.
//!
//! It denies what was not granted; the refusal names what was missing, and a script can catch it. It never acts itself, and
//! nothing acts without the [`Permit`] that only it gives.

use crate::{Act, ErrorCode, Grants, HostPattern, HostRequest, SecretRef, StepError};
use serde_json::json;
use std::collections::BTreeMap;

/// An act that is covered by a step's grants.
#[derive(Clone, Debug, PartialEq)]
pub struct Permit {
    act: Act,
    secrets: BTreeMap<String, SecretRef>,
    hosts: Vec<HostPattern>,
}

impl Permit {
    /// What may be done.
    pub fn act(&self) -> &Act {
        &self.act
    }

    /// Where requests may go, those of redirects too.
    pub fn hosts(&self) -> &[HostPattern] {
        &self.hosts
    }

    /// Where the secrets that it uses are kept, by the names in the act.
    pub fn secrets(&self) -> &BTreeMap<String, SecretRef> {
        &self.secrets
    }
}

/// Decides on a request.
///
/// # Errors
/// `CAPABILITY_DENIED` with the grant that is missing, or `INVALID_INPUT` where nobody can tell what is asked for.
pub fn permit(grants: &Grants, request: &HostRequest) -> Result<Permit, StepError> {
    let act = Act::read(request)?;
    if let Act::Fetch(fetch) = &act
        && !grants.hosts.iter().any(|host| host.covers(&fetch.url))
    {
        let origin = fetch.url.origin().ascii_serialization();
        let granted: Vec<String> = grants.hosts.iter().map(ToString::to_string).collect();
        return Err(denied(&format!("host {}", origin.trim_start_matches("https://")), &granted));
    }
    if let Some(model) = act.model()
        && !grants.models.iter().any(|granted| granted.covers(model))
    {
        let granted: Vec<String> = grants.models.iter().map(ToString::to_string).collect();
        return Err(denied(&shown(&model.to_string()), &granted));
    }
    if let Some(call) = act.tool()
        && !grants.tools.iter().any(|granted| granted.covers(&call.server, &call.tool))
    {
        let granted = Grants { tools: grants.tools.clone(), ..Grants::default() };
        let granted: Vec<String> = granted.listed().into_iter().collect();
        return Err(denied(&format!("tool `{}` of {}", shown(&call.tool), shown(&call.server.to_string())), &granted));
    }
    if matches!(act, Act::Check(_)) && !grants.checks {
        let message = "`schema.check` serves the engine's own programs, those of an `llm_call` among them: a script cannot ask \
            for it; give the step that calls the model a `response_format`, or check the value in the script";
        return Err(StepError::new(ErrorCode::CapabilityDenied, message));
    }
    let mut secrets = BTreeMap::new();
    for used in act.secrets() {
        match grants.secrets.get(&used.name) {
            Some(kept) => secrets.insert(used.name.clone(), kept.clone()),
            None => {
                let granted: Vec<String> = grants.secrets.keys().cloned().collect();
                return Err(denied(&format!("secret `{}`", shown(&used.name)), &granted));
            }
        };
    }
    Ok(Permit { act, secrets, hosts: grants.hosts.clone() })
}

fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

fn denied(missing: &str, granted: &[String]) -> StepError {
    let has = match granted {
        [] => "it was granted none of this kind".to_owned(),
        some => format!("it was granted {}", some.join(", ")),
    };
    let message = format!(
        "this workflow version was not granted the {missing}: {has}; a step may ask for what its `capabilities` list, and a \
         version that lists more has to be published"
    );
    StepError::new(ErrorCode::CapabilityDenied, message).with_details(json!({ "missing": missing, "granted": granted }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn ask(grants: Value, capability: &str, arguments: Value) -> Result<Permit, StepError> {
        let request = HostRequest { number: 0, capability: capability.into(), arguments: arguments.into() };
        permit(&serde_json::from_value(grants).unwrap(), &request)
    }

    #[test]
    fn what_was_not_granted_is_denied_by_name() {
        let url = json!({ "url": "https://b.example:444/x" });
        let error = ask(json!({ "hosts": ["a.example"] }), "http.fetch", url.clone()).unwrap_err();
        assert_eq!(error.code, ErrorCode::CapabilityDenied);
        assert_eq!(error.details.unwrap(), json!({ "missing": "host b.example:444", "granted": ["a.example"] }).into());
        let error = ask(json!({}), "http.fetch", url).unwrap_err();
        assert!(error.message.contains("granted none"), "{error}");
        let hmac = json!({ "secret": { "$secret": "key" }, "data": "x" });
        let error = ask(json!({ "hosts": ["a.example"] }), "crypto.hmac", hmac).unwrap_err();
        assert!(error.message.contains("secret `key`"), "{error}");
    }

    #[test]
    fn a_model_may_be_asked_with_the_key_that_was_granted() {
        let ask_model = |grant: Value, model: Value| {
            ask(json!({ "models": [grant] }), "llm.request", json!({ "model": model, "operation": "chat", "body": {} }))
        };
        let plain = json!({ "model": "direct.openai.gpt-x" });
        assert!(ask_model(plain.clone(), plain.clone()).is_ok());
        assert!(ask_model(json!({ "model": "*" }), plain.clone()).is_ok());
        let other = json!({ "model": "direct.openai.gpt-y" });
        let error = ask_model(plain.clone(), other).unwrap_err();
        assert!(error.message.contains("model direct.openai.gpt-y"), "{error}");
        let keyed = json!({ "model": "direct.openai.gpt-x", "credential": "own" });
        assert!(ask_model(plain.clone(), keyed.clone()).is_err(), "another key is another grant");
        assert!(ask_model(keyed, plain.clone()).is_err());
        assert!(ask_model(json!({ "model": "*" }), json!({ "model": "m", "scope": "platform" })).is_err());
        assert!(ask(json!({}), "llm.resolve", plain).is_err());
    }

    #[test]
    fn values_are_checked_for_the_engines_own_programs_and_no_graph_can_say_so() {
        let arguments = json!({ "schema": {}, "value": 1 });
        let request = HostRequest { number: 0, capability: "schema.check".into(), arguments: arguments.into() };
        let error = permit(&Grants::default(), &request).unwrap_err();
        assert_eq!(error.code, ErrorCode::CapabilityDenied);
        assert!(permit(&Grants { checks: true, ..Grants::default() }, &request).is_ok());
        serde_json::from_value::<Grants>(json!({ "checks": true })).unwrap_err();
    }

    #[test]
    fn a_tool_is_called_where_it_was_granted_and_by_the_same_word() {
        let call = |grant: Value, server: Value| {
            let mut arguments = server;
            arguments["tool"] = json!("search");
            ask(json!({ "tools": [grant] }), "mcp.call", arguments)
        };
        let crm = json!({ "instance_id": "crm" });
        let url = json!({ "server_url": "https://a.example/mcp" });
        assert!(call(json!({ "instance_id": "crm", "tools": ["search"] }), crm.clone()).is_ok());
        assert!(call(json!({ "server_url": "https://A.example:443/mcp", "tools": ["search"] }), url.clone()).is_ok());
        // What is known only when the step runs was granted as any, and by the same word.
        assert!(call(json!({ "instance_id": "*", "tools": ["*"] }), crm.clone()).is_ok());
        assert!(call(json!({ "server_url": "*", "tools": ["search"] }), url.clone()).is_ok());
        assert!(call(json!({ "server_url": "*", "tools": ["*"] }), crm.clone()).is_err());
        for (grant, server) in [
            (json!({ "instance_id": "crm", "tools": ["delete"] }), &crm),
            (json!({ "instance_id": "erp", "tools": ["search"] }), &crm),
            (json!({ "server_url": "https://a.example/mcp", "tools": ["search"] }), &crm),
            (json!({ "server_url": "https://a.example/other", "tools": ["search"] }), &url),
            (json!({ "instance_id": "crm", "tools": ["search"] }), &url),
        ] {
            let error = call(grant, server.clone()).unwrap_err();
            assert_eq!(error.code, ErrorCode::CapabilityDenied);
            assert!(error.message.contains("the tool `search` of "), "{error}");
        }
    }

    #[test]
    fn a_permit_says_where_the_secrets_are_that_it_needs_and_no_others() {
        let grants = json!({ "hosts": ["a.example"], "secrets": { "key": "vault/a", "other": "vault/b" } });
        let arguments = json!({ "url": "https://a.example/", "headers": { "x": { "$secret": "key" } } });
        let permit = ask(grants, "http.fetch", arguments).unwrap();
        assert_eq!(permit.secrets(), &BTreeMap::from([("key".into(), SecretRef::Vault("a".into()))]));
    }
}
