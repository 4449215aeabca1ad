//! Two workspaces, everybody who is in them, and what they own.

use super::routes::{ProjectRole, TenantRole};
use crate::{
    mails::{self, Browser, PASSWORD, mail, signed_in},
    mcp_server::{self, McpServer},
    server::{Client, Server},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

/// All scopes of tokens.
pub(super) const SCOPES: [&str; 5] = ["workflow:read", "workflow:write", "workflow:run", "mcp:execute", "admin"];
/// Sessions that ended by themselves, and how they come to be so without waiting: by moving them into the past.
const SESSIONS_OVER: [(&str, &str); 2] = [
    (
        "a session that was left alone for 12 hours",
        "UPDATE sessions SET last_seen_at = last_seen_at - 43200000000 WHERE session_id = $1",
    ),
    (
        "a session that was begun 30 days ago",
        "UPDATE sessions SET created_at = created_at - 2592000000000, expires_at = expires_at - 2592000000000 \
            WHERE session_id = $1",
    ),
];
/// What has to come is here before this, or never.
const PATIENCE: Duration = Duration::from_secs(60);

/// The workspace `one` with a public project `open` and a private one `closed`, and the workspace `two` beside it.
/// Everybody names `one` and `closed`.
pub(super) struct World {
    /// Serves as long as this lives.
    _server: Server,
    /// The id of `closed`.
    pub(super) closed: String,
    /// Those in the workspace without a role of their own in `closed`.
    pub(super) in_tenant: Vec<(TenantRole, Client)>,
    /// Members of the workspace with a role in `closed`.
    pub(super) in_closed: Vec<(ProjectRole, Client)>,
    /// Tokens of the owner, with one scope each, and one with the two that what starts runs needs.
    pub(super) tokens: BTreeMap<&'static str, Client>,
    /// A token of the owner with all scopes, for `open` only.
    pub(super) bound: Client,
    /// A token of the viewer in `closed` with all scopes.
    pub(super) viewers_token: Client,
    /// Whose credential is none: with a word for each.
    pub(super) nobodies: Vec<(&'static str, Client)>,
    /// Somebody who was deactivated, in a session.
    pub(super) deactivated: Client,
    /// The owner of `two`, in a session and with a token.
    pub(super) others: [Client; 2],
    /// What is in `closed`.
    pub(super) own: Objects,
    /// What is in `open`.
    pub(super) elsewhere: Objects,
    /// What is in `two`.
    pub(super) foreign: Objects,
}

/// Ids of things in one place, by their kind.
pub(super) struct Objects(pub(super) HashMap<&'static str, String>);

impl World {
    pub(super) async fn build(server: Server) -> Self {
        let mut ada = signed_in(&server, "ada@one.example").await;
        ada.post("/v1/tenants", json!({ "slug": "one", "name": "One" })).await.expect(201);
        let owner = in_one(&ada);
        let closed = project(&owner, "closed", "private").await;
        project(&owner, "open", "public").await;
        let admin = join(&server, &owner, "admin", "tenant_admin").await.0;
        let member = join(&server, &owner, "member", "member").await.0;
        let mut in_closed = Vec::new();
        for (role, word) in [
            (ProjectRole::Viewer, "project_viewer"),
            (ProjectRole::Contributor, "project_contributor"),
            (ProjectRole::Admin, "project_admin"),
        ] {
            let (client, user) = join(&server, &owner, word, "member").await;
            let path = format!("/v1/projects/{closed}/members/{user}");
            owner.put(&path, json!({ "role": word })).await.expect(200);
            in_closed.push((role, client));
        }
        let (deactivated, dead_token) = deactivated(&server, &owner).await;
        let mut tokens = BTreeMap::new();
        for scope in SCOPES {
            tokens.insert(scope, token(&server, &owner, json!([scope]), Value::Null).await);
        }
        let both = token(&server, &owner, json!(["workflow:write", "workflow:run"]), Value::Null).await;
        tokens.insert("workflow:write workflow:run", both);
        let bound = token(&server, &owner, json!(SCOPES), json!("open")).await;
        let viewers_token = token(&server, &in_closed[0].1, json!(SCOPES), Value::Null).await;
        let mut nobodies = nobodies(&server, &owner).await;
        nobodies.push(("a token of somebody deactivated", dead_token));
        let (other, foreign) = two(&server).await;
        let other_token = token(&server, &other.with("x-tenant-id", "two"), json!(SCOPES), Value::Null).await;
        Self {
            closed,
            own: Objects::make(&owner).await,
            elsewhere: Objects::make(&owner.with("x-project-id", "open")).await,
            foreign,
            in_tenant: vec![(TenantRole::Member, member), (TenantRole::Admin, admin), (TenantRole::Owner, owner)],
            in_closed,
            tokens,
            bound,
            viewers_token,
            nobodies,
            deactivated,
            others: [other, other_token],
            _server: server,
        }
    }

    /// The owner, in a session.
    pub(super) fn owner(&self) -> &Client {
        &self.in_tenant[2].1
    }
}

/// Somebody's session, naming `one` and `closed`.
fn in_one(browser: &Browser) -> Client {
    let client = browser.client.with("cookie", &browser.cookie_header()).with("x-csrf-token", &browser.csrf);
    client.with("x-tenant-id", "one").with("x-project-id", "closed")
}

async fn project(owner: &Client, slug: &str, visibility: &str) -> String {
    let body = json!({ "slug": slug, "name": slug, "visibility": visibility });
    text(&owner.post("/v1/projects", body).await.expect(201)["id"])
}

/// Invites somebody to `one`, who signs up and accepts: their session, and who they are.
async fn join(server: &Server, owner: &Client, name: &str, role: &str) -> (Client, String) {
    let email = format!("{name}@one.example");
    owner.post("/v1/tenants/current/invites", json!({ "email": email, "role": role })).await.expect(201);
    let invitation = mail(&server.mails, &email, "Invitation to one").await;
    let token = mails::token(&invitation);
    let mut browser = signed_in(server, &email).await;
    let joined = browser.post("/v1/invites/accept", json!({ "token": token })).await.expect(200);
    assert_eq!((&joined["slug"], &joined["role"]), (&json!("one"), &json!(role)));
    let me = browser.get("/v1/auth/me").await.expect(200);
    (in_one(&browser), text(&me["user"]["id"]))
}

async fn token(server: &Server, whose: &Client, scopes: Value, project: Value) -> Client {
    let body = json!({ "name": "matrix", "scopes": scopes, "project_id": project });
    let made = whose.post("/v1/pats", body).await.expect(201);
    let holder = server.holder(made["token"].as_str().unwrap());
    holder.with("x-tenant-id", "one").with("x-project-id", "closed")
}

async fn deactivated(server: &Server, owner: &Client) -> (Client, Client) {
    let (session, user) = join(server, owner, "gone", "tenant_admin").await;
    let token = token(server, &session, json!(SCOPES), Value::Null).await;
    let path = format!("/v1/tenants/current/members/{user}");
    session.get("/v1/tenants/current").await.expect(200);
    token.get("/v1/tenants/current").await.expect(200);
    owner.patch(&path, json!({ "active": false })).await.expect(200);
    (session, token)
}

async fn nobodies(server: &Server, owner: &Client) -> Vec<(&'static str, Client)> {
    let named = |client: Client| client.with("x-tenant-id", "one").with("x-project-id", "closed");
    let made = owner.post("/v1/pats", json!({ "name": "revoked", "scopes": SCOPES })).await.expect(201);
    let revoked = named(server.holder(made["token"].as_str().unwrap()));
    revoked.get("/v1/projects").await.expect(200);
    owner.delete(&format!("/v1/pats/{}", made["pat"]["id"].as_str().unwrap())).await.expect(204);
    let mut ended = Browser::new(server);
    ended.sign_in("ada@one.example", PASSWORD).await.expect(200);
    let session = in_one(&ended);
    session.get("/v1/projects").await.expect(200);
    ended.post("/v1/auth/logout", json!({})).await.expect(204);
    let mut over = Vec::new();
    for (who, statement) in SESSIONS_OVER {
        let mut browser = Browser::new(server);
        let begun = browser.sign_in("ada@one.example", PASSWORD).await.expect(200);
        in_one(&browser).get("/v1/projects").await.expect(200);
        server.change(statement, begun["session_id"].as_str().unwrap()).await;
        over.push((who, in_one(&browser)));
    }
    let nobodies = vec![
        ("nobody", named(server.anybody())),
        ("a made-up token", named(server.holder("pat_0000000000000000000000000000000000000000000000000"))),
        ("another scheme", named(server.anybody().with("authorization", "Basic YTpi"))),
        ("a revoked token", revoked),
        ("a session that was ended", session),
    ];
    nobodies.into_iter().chain(over).collect()
}

/// The workspace `two`: its owner, who names `one` as everybody does, and what is in it.
async fn two(server: &Server) -> (Client, Objects) {
    let mut bob = signed_in(server, "bob@two.example").await;
    bob.post("/v1/tenants", json!({ "slug": "two", "name": "Two" })).await.expect(201);
    let other = in_one(&bob);
    let at_home = other.with("x-tenant-id", "two").with("x-project-id", "main");
    project(&at_home, "main", "public").await;
    (other, Objects::make(&at_home).await)
}

impl Objects {
    /// One of each kind, in the place that the client names.
    async fn make(client: &Client) -> Self {
        let mut ids = HashMap::new();
        let me = client.get("/v1/auth/me").await.expect(200);
        ids.insert("user", text(&me["user"]["id"]));
        ids.insert("session", text(&me["session_id"]));
        let projects = client.get("/v1/projects").await.expect(200);
        ids.insert("project", text(&projects["items"][0]["id"]));
        let made = client.post("/v1/pats", json!({ "name": "x", "scopes": ["workflow:read"] })).await.expect(201);
        ids.insert("pat", text(&made["pat"]["id"]));
        let body = json!({ "email": "somebody@else.example" });
        ids.insert("invite", text(&client.post("/v1/tenants/current/invites", body).await.expect(201)["id"]));
        let made =
            client.post("/v1/tenants/current/domains", json!({ "domain": format!("{}.example", ids["pat"]) })).await;
        ids.insert("domain", text(&made.expect(201)["domain"]));
        let graph =
            json!({ "name": "asking", "steps": [{ "id": "ask", "type": "human_task", "task_type": "approval" }] });
        let made = client.post("/v1/workflows", json!({ "name": ids["pat"], "graph": graph })).await.expect(201);
        let workflow = text(&made["id"]);
        client.post(&format!("/v1/workflows/{workflow}/versions"), json!({})).await.expect(201);
        let command = format!("/v1/workflows/{workflow}/command");
        let begun = client.post(&command, json!({ "command": "start", "params": {} })).await;
        assert!(begun.status.is_success(), "{begun:?}");
        let run = text(&begun.body["run_id"]);
        ids.insert("task", task(client, &workflow, &run).await);
        ids.insert("run", run);
        let body = json!({ "cron": "0 0 1 1 *" });
        let made = client.post(&format!("/v1/workflows/{workflow}/triggers"), body).await.expect(201);
        ids.insert("trigger", text(&made["id"]));
        let made =
            client.post("/v1/inbound-webhooks", json!({ "workflow_id": workflow, "name": "x" })).await.expect(201);
        ids.insert("webhook", text(&made["subscription"]["id"]));
        ids.insert("workflow", workflow);
        let body = json!({
            "display_name": format!("of {}", ids["pat"]), "provider": "x", "service": "x", "credentials": { "key": "a secret of this place" },
        });
        ids.insert("connection", text(&client.post("/v1/connections", body).await.expect(201)["id"]));
        let body = json!({ "vendor": "openai", "api_key": "a secret of this place", "models": ["x"] });
        ids.insert("provider", text(&client.post("/v1/providers", body).await.expect(201)["id"]));
        mcp(client, &mut ids).await;
        let path = format!("of/{}", ids["pat"]);
        client.put(&format!("/v1/vault/{path}"), json!({ "value": "a secret of this place" })).await.expect(200);
        ids.insert("vault path", path);
        Self(ids)
    }
}

/// A server of MCP, an instance of it and a config profile of that.
async fn mcp(client: &Client, ids: &mut HashMap<&'static str, String>) {
    let mcp = McpServer::start().await;
    let (server, path) = mcp_server::instance(client, &format!("of {}", ids["pat"]), &mcp.url()).await;
    let body = json!({ "name": format!("of {}", ids["pat"]), "bindings": {} });
    let profile = client.post(&format!("{path}/config-profiles"), body).await.expect(201);
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    ids.insert("MCP server", last(&server));
    ids.insert("MCP instance", last(&path));
    ids.insert("config profile", text(&profile["name"]));
}

/// Waits for the question of a run.
async fn task(client: &Client, workflow: &str, run: &str) -> String {
    let path = format!("/v1/workflows/{workflow}/runs/{run}/tasks/pending");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pending = client.get(&path).await.expect(200);
        if let Some(task) = pending["items"].as_array().and_then(|items| items.first()) {
            return text(&task["task_id"]);
        }
        assert!(Instant::now() < deadline, "the run asks nothing");
        tokio::task::yield_now().await;
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}
