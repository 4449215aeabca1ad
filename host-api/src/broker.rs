//! The broker: every request of a step passes here before anything acts on it.
//!
//! It denies what was not granted; the refusal names what was missing, and a script can catch it. A tool that was granted on
//! terms is called when these are kept: whoever can check rules and ask people says whether they are. It never acts itself,
//! and nothing acts without the [`Permit`] that only it gives.

use crate::{Act, ArgumentRule, ErrorCode, Grants, HostPattern, HostRequest, SecretRef, StepError, Terms, ToolCall};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

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

/// What becomes of a request that is covered by a step's grants.
#[derive(Clone, Debug, PartialEq)]
pub enum Ruling {
    /// It may be done.
    Permitted(Permit),
    /// It may be done on terms.
    OnTerms(OnTerms),
}

/// A call of a tool that was granted on terms.
#[derive(Clone, Debug, PartialEq)]
pub struct OnTerms {
    permit: Permit,
    call: ToolCall,
    /// The terms of each grant that covers it: it is enough to keep those of one.
    terms: Vec<Terms>,
}

/// What becomes of a call whose arguments were checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Checked {
    /// It may be done.
    Permitted(Permit),
    /// It may be done once a person has approved it.
    ToApprove(ToApprove),
}

/// A call of a tool that waits for a person's word.
#[derive(Clone, Debug, PartialEq)]
pub struct ToApprove {
    permit: Permit,
    call: ToolCall,
}

impl OnTerms {
    /// Decides with somebody who knows what is wrong with arguments by a rule, if anything is.
    ///
    /// # Errors
    /// `CAPABILITY_DENIED` with what is wrong, where the arguments satisfy no grant that covers the call.
    pub fn checked(self, wrong: impl Fn(&ArgumentRule, &ToolCall) -> Option<String>) -> Result<Checked, StepError> {
        let Self { permit, call, terms } = self;
        let (mut broken, mut may_ask) = (Vec::new(), false);
        for terms in &terms {
            match terms.rule.as_ref().and_then(|rule| wrong(rule, &call)) {
                Some(why) => broken.push(why),
                None if terms.requires_approval => may_ask = true,
                None => return Ok(Checked::Permitted(permit)),
            }
        }
        match may_ask {
            true => Ok(Checked::ToApprove(ToApprove { permit, call })),
            false => Err(against_the_rule(&call, &broken)),
        }
    }
}

impl ToApprove {
    /// What is asked about: the tool and exactly these arguments.
    pub fn call(&self) -> &ToolCall {
        &self.call
    }

    /// What a person's yes permits.
    pub fn approved(self) -> Permit {
        self.permit
    }

    /// What a person's no means, with the reason where they gave one.
    pub fn rejected(&self, reason: Option<&str>) -> StepError {
        let ToolCall { server, tool, .. } = &self.call;
        let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let message =
            format!("a person declined this call of the tool `{}` of {}{why}", shown(tool), shown_server(&self.call));
        StepError::new(ErrorCode::ApprovalRejected, message)
            .with_details(json!({ "tool": tool, "server": server.to_string(), "reason": reason }))
    }
}

/// Decides on a request.
///
/// # Errors
/// `CAPABILITY_DENIED` with the grant that is missing, or `INVALID_INPUT` where nobody can tell what is asked for.
pub fn rule(grants: &Grants, request: &HostRequest) -> Result<Ruling, StepError> {
    let permit = permit(grants, request)?;
    let Act::Call(call) = permit.act() else { return Ok(Ruling::Permitted(permit)) };
    let covering = grants.tools.iter().filter(|granted| granted.covers(&call.server, &call.tool));
    let terms: Vec<Terms> = covering.map(|granted| granted.terms.clone()).collect();
    if terms.iter().any(Terms::is_empty) {
        return Ok(Ruling::Permitted(permit));
    }
    let call = call.clone();
    Ok(Ruling::OnTerms(OnTerms { permit, call, terms }))
}

/// What is covered, whatever the terms.
fn permit(grants: &Grants, request: &HostRequest) -> Result<Permit, StepError> {
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
        let names = grants
            .tools
            .iter()
            .flat_map(|grant| grant.tools.iter().map(move |tool| format!("tool `{tool}` of {}", grant.server)));
        let granted: Vec<String> = names.collect::<BTreeSet<_>>().into_iter().collect();
        return Err(denied(&format!("tool `{}` of {}", shown(&call.tool), shown_server(call)), &granted));
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

fn shown_server(call: &ToolCall) -> String {
    shown(&call.server.to_string())
}

fn against_the_rule(call: &ToolCall, broken: &[String]) -> StepError {
    let missing = format!("tool `{}` of {} with these arguments", shown(&call.tool), shown_server(call));
    let message = format!(
        "this workflow version was not granted the {missing}: they break the rule that it has for them ({}); a version with \
         another rule has to be published",
        broken.join(", or ")
    );
    StepError::new(ErrorCode::CapabilityDenied, message).with_details(json!({ "missing": missing, "broken": broken }))
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

    /// What becomes of a call of the tool `t`, where a rule is a number that `n` must not exceed.
    fn call(tools: Value, n: i64) -> Result<Checked, StepError> {
        let arguments = json!({ "instance_id": "i", "tool": "t", "arguments": { "n": n } });
        let request = HostRequest { number: 0, capability: "mcp.call".into(), arguments: arguments.into() };
        match rule(&serde_json::from_value(json!({ "tools": tools })).unwrap(), &request)? {
            Ruling::Permitted(permit) => Ok(Checked::Permitted(permit)),
            Ruling::OnTerms(terms) => terms.checked(|rule, call| {
                let max = rule.schema()["max"].as_i64().unwrap();
                (call.arguments["n"].as_i64().unwrap() > max).then(|| format!("more than {max}"))
            }),
        }
    }

    #[test]
    fn a_call_keeps_the_terms_of_one_grant_that_covers_it() {
        let free = |called: &Result<Checked, StepError>| matches!(called, Ok(Checked::Permitted(_)));
        let asks = |called: &Result<Checked, StepError>| matches!(called, Ok(Checked::ToApprove(_)));
        let entry = |more: Value| {
            let mut entry = json!({ "instance_id": "i", "tools": ["t"] });
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            entry
        };
        let (plain, five) = (entry(json!({})), entry(json!({ "arguments": { "max": 5 } })));
        let asked = entry(json!({ "requires_approval": true }));
        let nine = entry(json!({ "arguments": { "max": 9 }, "requires_approval": true }));
        assert!(free(&call(json!([plain]), 7)) && free(&call(json!([five, plain]), 7)));
        assert!(free(&call(json!([five]), 5)));
        assert!(asks(&call(json!([asked]), 7)) && asks(&call(json!([five, asked]), 7)));
        assert!(free(&call(json!([asked, five]), 5)), "what one grant lets pass, no other has to");
        assert!(asks(&call(json!([five, nine]), 9)));
        let error = call(json!([five, nine]), 10).unwrap_err();
        assert_eq!(error.code, ErrorCode::CapabilityDenied);
        let missing = "tool `t` of instance `i` with these arguments";
        let details = json!({ "missing": missing, "broken": ["more than 5", "more than 9"] });
        assert_eq!(error.details.unwrap(), details.into());
        let other = json!([{ "instance_id": "i", "tools": ["u"], "requires_approval": true }]);
        assert!(call(other, 1).unwrap_err().message.contains("granted tool `u` of instance `i`;"));
    }

    #[test]
    fn a_no_names_the_call_and_the_reason() {
        let asked = json!([{ "instance_id": "i", "tools": ["t"], "requires_approval": true }]);
        let Ok(Checked::ToApprove(asked)) = call(asked, 1) else { panic!("it is asked about") };
        assert_eq!(asked.call().arguments, json!({ "n": 1 }).as_object().unwrap().clone());
        let error = asked.rejected(Some("not today"));
        assert_eq!(
            error.to_string(),
            "APPROVAL_REJECTED: a person declined this call of the tool `t` of instance `i`: not today"
        );
        assert_eq!(asked.approved().act().capability(), "mcp.call");
    }

    #[test]
    fn what_a_tool_is_for_is_told_whatever_the_terms() {
        let grants = json!({ "tools": [{ "instance_id": "i", "tools": ["t"], "requires_approval": true }] });
        let arguments = json!({ "instance_id": "i", "tool": "t" });
        let request = HostRequest { number: 0, capability: "mcp.describe".into(), arguments: arguments.into() };
        let ruling = rule(&serde_json::from_value(grants).unwrap(), &request).unwrap();
        assert!(matches!(ruling, Ruling::Permitted(_)), "{ruling:?}");
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
