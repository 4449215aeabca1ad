//! The terms on which a step may call a tool: the rule for its arguments, and whether a person is asked.
//!
//! Owns what can be told about them before anything runs. A rule is an author's program that runs in the host, and is bounded as
//! the `input_schema` is.

use super::{Sink, fields::Fields};
use crate::graph::{
    InputSchema,
    issue::{IssueCode, Place},
};
use agentruntime_host_api::{ToolGrant, ToolServer};
use serde_json::Value;

/// Reports what is wrong with the terms of one entry.
pub(super) fn check(entry: &mut Fields<'_, '_>) {
    entry.flag("requires_approval");
    if entry.object("arguments").is_none() {
        return;
    }
    let Some(schema) = entry.get("arguments") else { return };
    let place = entry.place.key("arguments");
    if holds_a_template(schema) {
        let issue = place.error(
            IssueCode::ArgumentRuleInvalid,
            "a rule for arguments holds no `{{ … }}`: it is part of what is granted",
        );
        return entry.sink.report.push(issue.suggest("write the values themselves"));
    }
    if let Err(mut issue) = InputSchema::rule_at(schema, &place) {
        issue.code = IssueCode::ArgumentRuleInvalid;
        issue.message = issue.message.replace("`input_schema`", "`arguments`");
        entry.sink.report.push(issue);
    }
}

/// Reports terms that come to nothing, since another entry lets the same tool be called without them.
pub(super) fn check_together(entries: &[(Place, ToolGrant)], sink: &mut Sink) {
    for (at, (place, grant)) in entries.iter().enumerate() {
        if grant.terms.is_empty() {
            continue;
        }
        let server = spelled(&grant.server);
        let lax = || entries.iter().enumerate().filter(|(other, (_, grant))| *other != at && grant.terms.is_empty());
        let idle = grant.tools.iter().find_map(|tool| {
            let (_, (other, _)) = lax().find(|(_, (_, other))| other.covers(&server, tool))?;
            Some((tool, other))
        });
        if let Some((tool, other)) = idle {
            let message = format!(
                "the terms for `{}` come to nothing: `{}` lets it be called without any",
                crate::graph::issue::shown(tool),
                other.path
            );
            let issue = place.error(IssueCode::StepConfigConflict, message);
            sink.report.push(issue.suggest("take the tool out of the other entry"));
        }
    }
}

/// A server in the spelling that calls have.
fn spelled(server: &ToolServer) -> ToolServer {
    match server {
        ToolServer::Url(url) => ToolServer::at(url).unwrap_or_else(|_| server.clone()),
        ToolServer::Instance(_) => server.clone(),
    }
}

fn holds_a_template(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("{{"),
        Value::Array(items) => items.iter().any(holds_a_template),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains("{{") || holds_a_template(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
