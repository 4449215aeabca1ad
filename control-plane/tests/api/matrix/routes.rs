//! The table: every route of the API, and what it needs. A route that is not here fails the test.

/// What a caller needs to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: what it checks is in the request itself.
    Nothing,
    /// Any credential.
    Credential,
    /// Any session, or a token with this scope.
    CredentialWith(&'static str),
    /// A session; a token is refused.
    Session,
    /// A session, which is over afterwards.
    LastSession,
    /// A role in the workspace of `X-Tenant-Id`, and this scope for tokens.
    Tenant(TenantRole, &'static str),
    /// A role in the project of `X-Project-Id`, and these scopes for tokens, with a space between two.
    Project(ProjectRole, &'static str),
    /// The same in the project of the path.
    ProjectInPath(ProjectRole, &'static str),
}

/// Roles in a workspace, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TenantRole {
    Member,
    Admin,
    Owner,
}

/// Roles in a project, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ProjectRole {
    Viewer,
    Contributor,
    Admin,
}

/// A route, what it needs, and a body or a query that it takes: one that changes nothing where the ids are nobody's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) method: &'static str,
    /// Without `/v1`.
    pub(super) path: &'static str,
    pub(super) needs: Needs,
    /// A query begins with `?`.
    pub(super) body: &'static str,
}

const fn route(method: &'static str, path: &'static str, needs: Needs, body: &'static str) -> Route {
    Route { method, path, needs, body }
}

const READ: Needs = Needs::Project(ProjectRole::Viewer, "workflow:read");
const CHECK: Needs = Needs::Project(ProjectRole::Contributor, "workflow:read");
const WRITE: Needs = Needs::Project(ProjectRole::Contributor, "workflow:write");
const TRIGGER: Needs = Needs::Project(ProjectRole::Contributor, "workflow:write workflow:run");
const RUN: Needs = Needs::Project(ProjectRole::Contributor, "workflow:run");
/// Says what may be used: more than writing, and as much as changing the project.
const APPROVE: Needs = Needs::Project(ProjectRole::Admin, "admin");
const ENTER: Needs = Needs::Tenant(TenantRole::Member, "workflow:read");
const OWN_TOKENS: Needs = Needs::Tenant(TenantRole::Member, "admin");
const MANAGE: Needs = Needs::Tenant(TenantRole::Admin, "admin");
const MANAGE_PROJECT: Needs = Needs::ProjectInPath(ProjectRole::Admin, "admin");

/// All routes.
pub(super) const ROUTES: &[Route] = &[
    route("POST", "/auth/signup", Needs::Nothing, "{}"),
    route("POST", "/auth/verify", Needs::Nothing, "{}"),
    route("POST", "/auth/login", Needs::Nothing, "{}"),
    route("POST", "/auth/password/forgot", Needs::Nothing, "{}"),
    route("POST", "/auth/password/reset", Needs::Nothing, "{}"),
    route("GET", "/auth/oauth/google/start", Needs::Nothing, ""),
    route("POST", "/auth/oauth/google/start", Needs::Nothing, "{}"),
    route("GET", "/auth/oauth/google/callback", Needs::Nothing, ""),
    route("POST", "/auth/logout", Needs::LastSession, "{}"),
    route("GET", "/auth/me", Needs::Credential, ""),
    route("GET", "/auth/sessions", Needs::Session, ""),
    route("DELETE", "/auth/sessions/{id}", Needs::Session, ""),
    route("GET", "/tenants", Needs::CredentialWith("workflow:read"), ""),
    route("POST", "/tenants", Needs::Session, "{}"),
    route("GET", "/tenants/current", MANAGE, ""),
    route("PATCH", "/tenants/current", MANAGE, "{}"),
    route("GET", "/tenants/current/members", MANAGE, ""),
    route("PATCH", "/tenants/current/members/{user}", MANAGE, r#"{"role":"member"}"#),
    route("DELETE", "/tenants/current/members/{user}", MANAGE, ""),
    route("GET", "/tenants/current/invites", MANAGE, ""),
    route("POST", "/tenants/current/invites", MANAGE, "{}"),
    route("DELETE", "/tenants/current/invites/{id}", MANAGE, ""),
    route("POST", "/invites/accept", Needs::Session, "{}"),
    route("GET", "/tenants/current/domains", MANAGE, ""),
    route("POST", "/tenants/current/domains", MANAGE, "{}"),
    route("POST", "/tenants/current/domains/{domain}/verify", MANAGE, ""),
    route("DELETE", "/tenants/current/domains/{domain}", MANAGE, ""),
    route("GET", "/projects", ENTER, ""),
    route("POST", "/projects", MANAGE, "{}"),
    route("PATCH", "/projects/{id}", MANAGE_PROJECT, "{}"),
    route("GET", "/projects/{id}/members", MANAGE_PROJECT, ""),
    route("PUT", "/projects/{id}/members/{user}", MANAGE_PROJECT, r#"{"role":"project_viewer"}"#),
    route("DELETE", "/projects/{id}/members/{user}", MANAGE_PROJECT, ""),
    route("GET", "/pats", OWN_TOKENS, ""),
    route("POST", "/pats", OWN_TOKENS, "{}"),
    route("DELETE", "/pats/{id}", OWN_TOKENS, ""),
    route("GET", "/audit", MANAGE, ""),
    route("GET", "/audit/integrity", MANAGE, ""),
    route("GET", "/workflows", READ, ""),
    route("POST", "/workflows", WRITE, "{}"),
    route("GET", "/workflows/schema", READ, ""),
    route("GET", "/workflows/{id}", READ, ""),
    route("PATCH", "/workflows/{id}", WRITE, r#"{"name":"x"}"#),
    route("DELETE", "/workflows/{id}", WRITE, ""),
    route("POST", "/workflows/validate", CHECK, "{}"),
    route("POST", "/workflows/{id}/validate", CHECK, "{}"),
    route("GET", "/workflows/{id}/versions", READ, ""),
    route("POST", "/workflows/{id}/versions", WRITE, "{}"),
    route("GET", "/workflows/{id}/versions/diff", READ, "?from=1&to=1"),
    route("GET", "/workflows/{id}/versions/{version}", READ, ""),
    route("POST", "/workflows/{id}/versions/{version}/approve", APPROVE, "{}"),
    route("POST", "/workflows/{id}/versions/{version}/reject", APPROVE, "{}"),
    route("POST", "/workflows/{workflow_id}/command", RUN, r#"{"command":"start"}"#),
    route("GET", "/workflows/{workflow_id}/runs", READ, ""),
    route("GET", "/workflows/{workflow_id}/runs/{run_id}", READ, ""),
    route("GET", "/workflows/{workflow_id}/runs/{run_id}/summary", READ, ""),
    route("GET", "/workflows/{workflow_id}/runs/{run_id}/events", READ, ""),
    route("GET", "/workflows/{workflow_id}/runs/{run_id}/context", READ, ""),
    route("GET", "/workflows/{workflow_id}/stream", READ, "?run_id={run_id}"),
    route("GET", "/runs", ENTER, ""),
    route("GET", "/tasks/pending", READ, ""),
    route("GET", "/workflows/{workflow_id}/runs/{run_id}/tasks/pending", READ, ""),
    route("POST", "/workflows/{workflow_id}/runs/{run_id}/tasks/{task_id}/complete", RUN, r#"{"approved":true}"#),
    route("GET", "/workflows/{id}/triggers", READ, ""),
    route("POST", "/workflows/{id}/triggers", TRIGGER, r#"{"cron":"* * * * *"}"#),
    route("GET", "/workflows/{id}/triggers/{trigger}", READ, ""),
    route("PATCH", "/workflows/{id}/triggers/{trigger}", TRIGGER, "{}"),
    route("DELETE", "/workflows/{id}/triggers/{trigger}", TRIGGER, ""),
    route("GET", "/inbound-webhooks", READ, ""),
    route("POST", "/inbound-webhooks", TRIGGER, "{}"),
    route("GET", "/inbound-webhooks/{id}", READ, ""),
    route("PATCH", "/inbound-webhooks/{id}", TRIGGER, "{}"),
    route("DELETE", "/inbound-webhooks/{id}", TRIGGER, ""),
    route("POST", "/inbound-webhooks/{id}/rotate-secret", TRIGGER, "{}"),
    route("POST", "/inbound-webhooks/{id}", Needs::Nothing, "{}"),
    route("GET", "/connections", CHECK, ""),
    route("POST", "/connections", WRITE, "{}"),
    route("GET", "/connections/{id}", CHECK, ""),
    route("PATCH", "/connections/{id}", WRITE, "{}"),
    route("DELETE", "/connections/{id}", WRITE, ""),
    route("POST", "/connections/{id}/test", WRITE, ""),
    route("GET", "/providers", CHECK, ""),
    route("POST", "/providers", WRITE, "{}"),
    route("PATCH", "/providers/{id}", WRITE, "{}"),
    route("DELETE", "/providers/{id}", WRITE, ""),
    route("GET", "/llm/catalog", CHECK, ""),
    route("POST", "/llm/resolve", CHECK, r#"{"model":"x"}"#),
    route("GET", "/mcp/servers", CHECK, ""),
    route("POST", "/mcp/servers", WRITE, "{}"),
    route("GET", "/mcp/servers/{id}", CHECK, ""),
    route("DELETE", "/mcp/servers/{id}", WRITE, ""),
    route("POST", "/mcp/servers/{id}/discover", WRITE, "{}"),
    route("POST", "/mcp/servers/{id}/authorize", WRITE, r#"{"display_name":"x"}"#),
    route("GET", "/mcp/oauth/client.json", Needs::Nothing, ""),
    route("GET", "/mcp/oauth/callback", Needs::Credential, "?state=x"),
    route("GET", "/mcp/servers/{id}/versions", CHECK, ""),
    route("POST", "/mcp/servers/{id}/versions", WRITE, "{}"),
    route("GET", "/mcp/servers/{id}/versions/{version}", CHECK, ""),
    route("POST", "/mcp/servers/{id}/validate", WRITE, r#"{"version":1}"#),
    route("GET", "/mcp/platform-catalog", CHECK, ""),
    route("GET", "/mcp/tools", CHECK, ""),
    route("GET", "/mcp/instances", CHECK, ""),
    route("POST", "/mcp/instances", WRITE, "{}"),
    route("POST", "/mcp/instances/resolve", CHECK, "{}"),
    route("GET", "/mcp/instances/{id}", CHECK, ""),
    route("PATCH", "/mcp/instances/{id}", WRITE, "{}"),
    route("DELETE", "/mcp/instances/{id}", WRITE, ""),
    route("GET", "/mcp/instances/{id}/config-profiles", CHECK, ""),
    route("POST", "/mcp/instances/{id}/config-profiles", WRITE, r#"{"name":"x","bindings":{}}"#),
    route("POST", "/mcp/instances/{id}/config-profiles/set-active", WRITE, r#"{"name":"nowhere"}"#),
    route("DELETE", "/mcp/instances/{id}/config-profiles/{profile}", WRITE, ""),
    route("GET", "/vault", MANAGE, ""),
    route("GET", "/vault/{path}", MANAGE, ""),
    route("PUT", "/vault/{path}", MANAGE, "{}"),
    route("DELETE", "/vault/{path}", MANAGE, ""),
];
