//! All codes of refusals, with their statuses and what they mean: for the description, for the page, for the documents.
//!
//! A code that is not here is no refusal: in a build with assertions, making one panics, so that no test passes over it.

use axum::http::StatusCode;
use serde_json::{Value, json};

/// A code.
pub(super) struct Code {
    name: &'static str,
    /// The statuses that it comes with: one, but for a few.
    statuses: &'static [u16],
    /// What it means, and what to do.
    meaning: &'static str,
}

const fn code(name: &'static str, statuses: &'static [u16], meaning: &'static str) -> Code {
    Code { name, statuses, meaning }
}

/// All of them, by status.
const CODES: &[Code] = &[
    code("INVALID_CURSOR", &[400], "`cursor` is not one that a page gave; begin without it"),
    code("INVALID_EVENT_ID", &[400], "`Last-Event-ID` is not one that a stream gave"),
    code("INVALID_IDEMPOTENCY_KEY", &[400], "the key is empty, too long, or not plain ASCII"),
    code(
        "INVALID_QUERY",
        &[400],
        "a parameter of the query is not known, or does not hold what it should; the sentence names it",
    ),
    code("INVALID_RUN_ID", &[400], "the text is too short to name a run"),
    code("MALFORMED_BODY", &[400], "the body broke off before its end"),
    code("MALFORMED_JSON", &[400], "the body is not JSON; `details` has line and column"),
    code(
        "PLACE_MISSING",
        &[400],
        "the request does not say which workspace or project is meant: send `X-Tenant-Id`, `X-Project-Id`",
    ),
    code("RUN_AMBIGUOUS", &[400], "several runs have this part of an id"),
    code("TASK_AMBIGUOUS", &[400], "the run asks several questions there; `details.pending` has them"),
    code("NOT_AUTHENTICATED", &[401], "there is no valid credential, or a delivery does not prove where it comes from"),
    code(
        "CROSS_SITE",
        &[403],
        "a session's cookie came without what proves that a page of ours asks: send `X-CSRF-Token`",
    ),
    code("FORBIDDEN", &[403], "you may do this in general, but not to this one, or not with this token"),
    code("ROLE_TOO_LOW", &[403], "`details` has the role that is needed and the one that you have"),
    code("SCOPE_MISSING", &[403], "the token lacks the scope in `details`"),
    code("SESSION_NEEDED", &[403], "only somebody who is signed in can do this, no token"),
    code("WRONG_ORIGIN", &[403], "a page of another origin asks"),
    code("MODEL_NOT_AVAILABLE", &[404], "no provider that is in use here is asked for this model"),
    code("NOT_CONFIGURED", &[404], "the operator has not set this up"),
    code("NOT_FOUND", &[404], "there is no such thing, or you may not see it"),
    code("PLACE_NOT_FOUND", &[404], "there is no such workspace or project, or you may not see it"),
    code("ROUTE_NOT_FOUND", &[404], "no route has this path"),
    code("RUN_NOT_FOUND", &[404], "the workflow has no such run"),
    code("TASK_NOT_FOUND", &[404], "the run asks no such question; `details.pending` has those that it asks"),
    code("VERSION_NOT_FOUND", &[404], "the workflow has no such version"),
    code("WORKFLOW_NOT_FOUND", &[404], "the project has no such workflow"),
    code("METHOD_NOT_ALLOWED", &[405], "the path does not take this method"),
    code("BODY_TOO_SLOW", &[408], "the body came too slowly; send it again, at once"),
    code("ACCOUNT_EXISTS", &[409], "there is an account with this address: sign in to it first, then link the other"),
    code("ALREADY_CLOSED", &[409], "it was answered, or is over"),
    code("ALREADY_EXISTS", &[409], "there is one with this id already"),
    code("ALREADY_MEMBER", &[409], "they are a member already"),
    code("CHANGED_MEANWHILE", &[409], "somebody else changed it at the same time; read it and try again"),
    code("CONNECTION_NAME_TAKEN", &[409], "the project has a connection of this name"),
    code("DOMAIN_NOT_ALLOWED", &[409], "the workspace admits addresses of its verified domains alone"),
    code("DOMAIN_NOT_PROVEN", &[409], "the DNS record is not there, or not yet"),
    code("DOMAIN_TAKEN", &[409], "another workspace has proved this domain"),
    code("EMAIL_TAKEN", &[409], "there is an account with this address"),
    code("IDEMPOTENCY_KEY_REUSED", &[409], "the key was used for another body; send another key"),
    code("IDENTITY_TAKEN", &[409], "this account elsewhere is linked to another one here"),
    code("LAST_DOMAIN", &[409], "the workspace is restricted to its domains, and this is the last"),
    code("LAST_OWNER", &[409], "the last active owner of a workspace stays one"),
    code(
        "MCP_AUTHORIZATION_REQUIRED",
        &[409],
        "the access of the connection to the MCP server is over, or does not reach far enough; authorize it again",
    ),
    code(
        "MCP_INSTANCE_AMBIGUOUS",
        &[409],
        "the project has several instances of the server at this address; say which by `instance_id`",
    ),
    code("MCP_INSTANCE_NAME_TAKEN", &[409], "the project has an instance of an MCP server of this name"),
    code("MCP_NOT_DISCOVERED", &[409], "the MCP server was not asked for its tools yet; discover them first"),
    code("MCP_PROFILE_NAME_TAKEN", &[409], "the instance has a config profile of this name"),
    code("MCP_SERVER_EXISTS", &[409], "the project has an MCP server of this name, or at this address"),
    code("MCP_SERVER_IN_USE", &[409], "instances are of this MCP server; delete them first"),
    code("NO_VERIFIED_DOMAIN", &[409], "the workspace has no verified domain to restrict itself to"),
    code("OWN_DOMAIN_MISSING", &[409], "your own address is in none of the workspace's verified domains"),
    code("PROVIDER_NAME_TAKEN", &[409], "the project has a provider of this name"),
    code("RUN_EXISTS", &[409], "there is a run with the `run_id` that was chosen"),
    code("SLUG_TAKEN", &[409], "the slug is somebody's already"),
    code("TASK_CLOSED", &[409], "the question was answered before, or is not asked any more"),
    code("TOO_MANY_CONNECTIONS", &[409], "the project has as many connections as it can"),
    code("TOO_MANY_DOMAINS", &[409], "the workspace has as many domains as it can"),
    code("TOO_MANY_INVITES", &[409], "the workspace has as many open invitations as it can"),
    code("TOO_MANY_MCP_INSTANCES", &[409], "the project has as many instances of MCP servers as it can"),
    code("TOO_MANY_MCP_PROFILES", &[409], "the instance has as many config profiles as it can"),
    code("TOO_MANY_MCP_SERVERS", &[409], "the project has as many MCP servers as it can"),
    code("TOO_MANY_MCP_VERSIONS", &[409], "the MCP server has as many versions as it can"),
    code(
        "TOO_MANY_PROJECTS",
        &[409, 422],
        "the workspace has as many projects as it can (409), or a list would go over too many (422)",
    ),
    code("TOO_MANY_PROVIDERS", &[409], "the project has as many providers of models as it can"),
    code("TOO_MANY_SCHEDULES", &[409], "the workflow has as many schedules as it can"),
    code("TOO_MANY_TENANTS", &[409], "you own as many workspaces as you can"),
    code("TOO_MANY_TOKENS", &[409], "you have as many valid tokens in the workspace as you can; revoke one"),
    code("TOO_MANY_VAULT_PATHS", &[409], "the workspace's vault has as many paths as it can"),
    code("TOO_MANY_WEBHOOKS", &[409], "the project has as many webhooks as it can"),
    code("TOO_MANY_WORKFLOWS", &[409], "the project has as many workflows as it can"),
    code("VERSION_DECIDED", &[409], "the version is approved or rejected already"),
    code(
        "VERSION_NOT_APPROVED",
        &[409],
        "the version asks for more than the one in use, and no admin of the project has approved it; use one that is approved",
    ),
    code("WORKFLOW_ARCHIVED", &[409], "the workflow is archived: it is read, and not changed or started"),
    code("WORKFLOW_NOT_PUBLISHED", &[409], "the workflow has no version yet"),
    code(
        "WRONG_STATUS",
        &[409],
        "the command does not fit where the run stands; the sentence says where, and what does fit if anything",
    ),
    code("WORKFLOW_CHANGED", &[412], "the draft is not the one that `If-Match` names; read it again"),
    code("BODY_TOO_LARGE", &[413], "the body is larger than this server takes"),
    code(
        "CEILING_REACHED",
        &[413, 429],
        "the input is too large (413), or the workspace has as many unfinished runs or stored bytes as it may (429)",
    ),
    code("NOT_JSON", &[415], "the body is not said to be JSON: send `Content-Type: application/json`"),
    code(
        "INVALID_BODY",
        &[422],
        "a key of the body is missing, not known, or of another type; `details.field` names it",
    ),
    code("INVALID_FIELD", &[422], "a field does not hold what it should; `details` has `field` and `reason`"),
    code("CHECK_TOO_LONG", &[422], "the scripts of the graph take too long to check together; check fewer at once"),
    code("INVALID_GRAPH", &[422], "the graph has errors; `issues` names each with its place"),
    code("INVALID_INPUT", &[422], "the input does not fit the workflow's `input_schema`; `issues` names each place"),
    code("INVALID_PARAMS", &[422], "a parameter of a command does not hold what it should; `details.field` names it"),
    code(
        "MCP_SERVER_FAILED",
        &[422],
        "the MCP server cannot be asked, or did not answer as it should; the sentence says what it did",
    ),
    code("OTHER_WORKFLOW", &[422], "the run to resume from is of another workflow"),
    code("UNKNOWN_STEP", &[422], "the start names a step that the graph does not have"),
    code("RATE_LIMITED", &[429], "too many requests; `Retry-After` says when the next is taken"),
    code("TOO_MANY_ATTEMPTS", &[429], "too many attempts to sign in, sign up or invite; `Retry-After`"),
    code(
        "TOO_MANY_BODIES",
        &[429, 503],
        "bodies of the workspace's requests, and answers with data of its runs, that are under way (429), or those of all \
         (503), have as much room as they may; `Retry-After`",
    ),
    code("TOO_MANY_CHECKS", &[429], "the workspace has as many graphs checked as it can at once; `Retry-After`"),
    code(
        "TOO_MANY_INQUIRIES",
        &[429],
        "as many requests that ask servers elsewhere (authorizing, discovering, validating, testing, the catalog of models) \
         are under way as may, of the workspace or of all; `Retry-After`",
    ),
    code("TOO_MANY_STREAMS", &[429], "the workspace follows as many streams as it can"),
    code("INTERNAL", &[500], "something failed inside; the log has it under the `request_id`"),
    code(
        "DEPENDENCY_UNAVAILABLE",
        &[503],
        "the database, or what else the sentence names, does not answer; `Retry-After`",
    ),
    code(
        "STARTED_UNSEEN",
        &[503],
        "the run in `details` was started, but cannot be read now; ask for it, do not start it again",
    ),
    code("MASTER_KEY_MISSING", &[503], "the operator has given no key under which secrets are kept"),
    code("NOT_READY", &[503], "`/readyz`: the service does not take requests now"),
];

/// Whether the code is here, with that status.
pub(super) fn is_known(name: &str, status: StatusCode) -> bool {
    CODES.iter().any(|code| code.name == name && code.statuses.contains(&status.as_u16()))
}

/// All of them, for the description.
pub(super) fn described() -> Value {
    CODES.iter().map(|it| json!({ "code": it.name, "statuses": it.statuses, "meaning": it.meaning })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    /// Words in the same form that are no codes of answers.
    const OTHERS: [&str; 15] = [
        "ACCESS_REFUSED",
        "CARGO_PKG_VERSION",
        "DELETE",
        "DNS",
        "GET",
        "HEAD",
        "OPTIONS",
        "OTHER",
        "PATCH",
        "POST",
        "PUT",
        "STOPPING",
        "STORE_CORRUPT",
        "UTC",
        "UUID",
    ];

    /// The texts in quotes that have the form of a code.
    fn quoted(source: &str, found: &mut BTreeSet<String>) {
        let is_code = |text: &&str| {
            text.len() > 2
                && text.starts_with(|c: char| c.is_ascii_uppercase())
                && text.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        };
        found.extend(source.split('"').filter(is_code).map(str::to_owned));
    }

    fn read(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                read(&path, found);
            } else if name.ends_with(".rs") && name != "codes.rs" {
                let source = fs::read_to_string(&path).unwrap();
                quoted(source.split("#[cfg(test)]").next().unwrap(), found);
            }
        }
    }

    #[test]
    fn every_code_in_the_sources_is_here_and_every_one_here_is_in_the_sources() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = BTreeSet::new();
        for room in ["access", "api", "integrations", "operations", "triggers"] {
            read(&sources.join(room), &mut found);
        }
        let found: BTreeSet<&str> = found.iter().map(String::as_str).filter(|it| !OTHERS.contains(it)).collect();
        let listed: BTreeSet<&str> = CODES.iter().map(|it| it.name).collect();
        assert_eq!(listed.len(), CODES.len(), "each once");
        assert_eq!(found.difference(&listed).collect::<Vec<_>>(), Vec::<&&str>::new(), "list these here");
        assert_eq!(listed.difference(&found).collect::<Vec<_>>(), Vec::<&&str>::new(), "these are not refused with");
    }

    #[test]
    fn they_stand_in_the_order_of_their_statuses() {
        assert!(CODES.is_sorted_by_key(|it| it.statuses[0]));
    }
}
