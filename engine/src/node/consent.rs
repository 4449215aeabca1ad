//! Whether a request may go out now: what the broker says, the rules for a tool's arguments, and a person's word.
//!
//! Owns the way of a request from what it asks for to a permit. The broker says what was granted and on which terms; here rules
//! are checked, and what a person said is compared with what is asked for. Never asks anybody itself: it says what to ask.

use super::Compute;
use crate::{
    graph::{InputSchema, Issue},
    run::Approval,
};
use agentruntime_host_api::{
    ArgumentRule, Grants, HostRequest, Json, StepError, TenantId, ToolCall, ToolServer,
    broker::{self, Checked, Permit, Ruling, ToApprove},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// What becomes of a request.
pub(super) enum Consent {
    /// It may go out.
    Given(Permit),
    /// It may not.
    Refused(StepError),
    /// A person is to be asked first, and is shown this.
    Wanted(Json),
    /// A person is asked already.
    Awaited,
}

/// Who decides for the steps of one tenant.
pub(super) struct Consents<'c> {
    pub(super) compute: &'c Compute,
    pub(super) tenant: &'c TenantId,
    pub(super) grants: &'c Arc<Grants>,
}

impl Consents<'_> {
    /// What becomes of a request that was asked about, or was not.
    pub(super) async fn to(&self, request: &HostRequest, approval: Option<&Approval>) -> Consent {
        // The step may be begun anew many times before it is answered: nothing is decided again meanwhile.
        if approval.is_some_and(|approval| approval.decision.is_none()) {
            return Consent::Awaited;
        }
        let checked = match broker::rule(self.grants, request) {
            Ok(Ruling::Permitted(permit)) => Ok(Checked::Permitted(permit)),
            // Reading a schema takes its time, as checking by it does.
            Ok(Ruling::OnTerms(terms)) => self.compute.apart(self.tenant, move || terms.checked(wrong)).await,
            Err(denied) => Err(denied),
        };
        match checked {
            Ok(Checked::Permitted(permit)) => Consent::Given(permit),
            Ok(Checked::ToApprove(asked)) => decided(asked, approval),
            Err(denied) => Consent::Refused(denied),
        }
    }
}

/// What a person said, if they were asked. The question is that of this request alone: one that differs has another number, or
/// is none that was recorded.
fn decided(asked: ToApprove, approval: Option<&Approval>) -> Consent {
    let Some(approval) = approval else { return Consent::Wanted(question(asked.call())) };
    match &approval.decision {
        None => Consent::Awaited,
        Some(decision) if decision.approved => Consent::Given(asked.approved()),
        Some(decision) => {
            let answer = decision.result.to_value();
            let reason = answer["reason"].as_str().map(str::trim).filter(|reason| !reason.is_empty());
            Consent::Refused(asked.rejected(reason))
        }
    }
}

/// What a person is shown: the call as it would go out. The arguments are data, whoever wrote them.
fn question(call: &ToolCall) -> Json {
    let (key, server) = match &call.server {
        ToolServer::Instance(instance) => ("instance_id", instance),
        ToolServer::Url(url) => ("server_url", url),
    };
    let arguments = Value::Object(call.arguments.clone());
    let question = format!("May the tool `{}` of {} be called with these arguments?", call.tool, call.server);
    json!({ "question": question, "tool_name": call.tool, key: server, "arguments": arguments }).into()
}

/// What is wrong with the arguments of a call by a rule. A rule that cannot be read lets nothing pass.
fn wrong(rule: &ArgumentRule, call: &ToolCall) -> Option<String> {
    let told = |issues: Vec<Issue>| {
        let sentences: Vec<String> = issues.iter().map(ToString::to_string).collect();
        sentences.join("; ").replace("`input_schema`", "the rule")
    };
    match InputSchema::rule(&rule.schema()) {
        Err(issue) => Some(told(vec![issue])),
        Ok(schema) => Some(schema.check(&Value::Object(call.arguments.clone()))).filter(|it| !it.is_empty()).map(told),
    }
}
