//! Who is let in where: every route of the description, for everybody.
//!
//! The table in `routes` says what each route needs; what everybody then gets follows from the rules of access. To be let in
//! is to get any answer but 401, 403 and "no such place": what the operation itself says is not looked at here.

mod routes;
mod world;

use crate::server::{Answer, Client, Server, answer, on_both_with};
use reqwest::Method;
use routes::{Needs, ProjectRole, ROUTES, Route, TenantRole};
use serde_json::Value;
use std::collections::BTreeSet;
use world::{Objects, World};

/// The matrix asks more often than anybody may.
const UNLIMITED: [&str; 4] = [
    "--requests-per-minute=0",
    "--anonymous-requests-per-minute=0",
    "--failed-authentications-per-minute=0",
    "--egress-allowed-networks=127.0.0.0/8",
];

/// What somebody should get.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// Whatever the operation says.
    In,
    /// The same, where the route itself looks for a proof in the request.
    Open,
    /// This refusal.
    Refused(u16, &'static str),
}
use Expected::{In, Open, Refused};

const NOBODY: Expected = Refused(401, "NOT_AUTHENTICATED");
const NO_PLACE: Expected = Refused(404, "PLACE_NOT_FOUND");
const ROLE: Expected = Refused(403, "ROLE_TOO_LOW");
const SCOPE: Expected = Refused(403, "SCOPE_MISSING");

fn if_let_in(is_let_in: bool, refused: Expected) -> Expected {
    if is_let_in { In } else { refused }
}

#[tokio::test]
async fn every_route_is_in_the_table() {
    let server = Server::start();
    let document = server.anybody().get("/v1/openapi.json").await.expect(200);
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "delete", "patch", "head", "options"] {
            if item.get(method).is_some() {
                described.insert((method.to_uppercase(), path.strip_prefix("/v1").unwrap_or(path).to_owned()));
            }
        }
    }
    let known: BTreeSet<_> = ROUTES.iter().map(|it| (it.method.to_owned(), it.path.to_owned())).collect();
    assert_eq!(known.len(), ROUTES.len(), "a route stands in the table twice");
    let missing: Vec<_> = described.difference(&known).collect();
    assert!(missing.is_empty(), "say in `matrix/routes.rs` what these need: {missing:#?}");
    let gone: Vec<_> = known.difference(&described).collect();
    assert!(gone.is_empty(), "these are not routes any more: {gone:#?}");
}

#[tokio::test]
async fn everybody_is_let_in_where_they_may_and_nowhere_else() {
    on_both_with(&UNLIMITED, |server| async move {
        let world = World::build(server).await;
        let mut wrong = Vec::new();
        for route in ROUTES {
            check_route(&world, route, &mut wrong).await;
        }
        assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    })
    .await;
}

#[tokio::test]
async fn what_is_elsewhere_answers_as_if_it_did_not_exist() {
    on_both_with(&UNLIMITED, |server| async move {
        let world = World::build(server).await;
        let mut wrong = Vec::new();
        for route in ROUTES.iter().filter(|route| !kinds(route).is_empty()) {
            check_foreign(&world, route, &mut wrong).await;
        }
        assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    })
    .await;
}

/// Looks at one route as everybody.
async fn check_route(world: &World, route: &Route, wrong: &mut Vec<String>) {
    let (path, _) = path(route, |kind| match (route.needs, kind) {
        (Needs::ProjectInPath(..), "project") => world.closed.clone(),
        _ => unknown(kind),
    });
    for (who, client, expected) in expectations(world, route.needs) {
        let answer = send(&client, route, &path).await;
        if !is_as(&answer, expected) {
            let (method, status, code) = (route.method, answer.status, &answer.body["code"]);
            wrong.push(format!("{method} {path} as {who}: {status} {code}, not {expected:?}"));
        }
    }
}

fn is_as(answer: &Answer, expected: Expected) -> bool {
    let (status, code) = (answer.status.as_u16(), answer.body["code"].as_str().unwrap_or_default());
    match expected {
        In => status < 500 && !matches!(status, 401 | 403) && !matches!(code, "PLACE_NOT_FOUND" | "PLACE_MISSING"),
        Open => status < 500 && status != 403 && !matches!(code, "PLACE_NOT_FOUND" | "PLACE_MISSING"),
        Refused(wanted, name) => (status, code) == (wanted, name),
    }
}

/// Everybody, and what they should get.
fn expectations(world: &World, needs: Needs) -> Vec<(String, Client, Expected)> {
    let mut all: Vec<(String, Client, Expected)> = Vec::new();
    let mut say = |who: &str, client: &Client, expected| all.push((who.to_owned(), client.clone(), expected));
    for (who, client) in &world.nobodies {
        say(who, client, if needs == Needs::Nothing { Open } else { NOBODY });
    }
    match needs {
        Needs::Nothing | Needs::LastSession => {}
        Needs::Credential | Needs::CredentialWith(_) | Needs::Session => {
            let by_scope = |scope: &str| match needs {
                Needs::Session => Refused(403, "SESSION_NEEDED"),
                Needs::CredentialWith(needed) => if_let_in(suffices(scope, needed), SCOPE),
                _ => In,
            };
            say("the owner", world.owner(), In);
            say("somebody deactivated", &world.deactivated, In);
            say("somebody of another workspace", &world.others[0], In);
            world.tokens.iter().for_each(|(scope, client)| say(scope, client, by_scope(scope)));
        }
        Needs::Tenant(least, needed) => {
            in_place(world, needed, &mut say);
            for (role, client) in &world.in_tenant {
                say(&format!("{role:?}"), client, if_let_in(*role >= least, ROLE));
            }
            let expected = if_let_in(least == TenantRole::Member, ROLE);
            world.in_closed.iter().for_each(|(role, client)| say(&format!("project's {role:?}"), client, expected));
            say("the viewer's token", &world.viewers_token, expected);
            let bound = world.bound.with("x-project-id", "open");
            say("a token for a project", &bound, if_let_in(least == TenantRole::Member, Refused(403, "FORBIDDEN")));
        }
        Needs::Project(least, needed) | Needs::ProjectInPath(least, needed) => {
            in_place(world, needed, &mut say);
            for (role, client) in &world.in_tenant {
                say(&format!("{role:?}"), client, if_let_in(*role >= TenantRole::Admin, NO_PLACE));
            }
            for (role, client) in &world.in_closed {
                say(&format!("project's {role:?}"), client, if_let_in(*role >= least, ROLE));
            }
            say("the viewer's token", &world.viewers_token, if_let_in(ProjectRole::Viewer >= least, ROLE));
            say("a token for another project", &world.bound, NO_PLACE);
            if matches!(needs, Needs::Project(..)) {
                let member = world.in_tenant[0].1.with("x-project-id", "open");
                say("a member in a public project", &member, if_let_in(ProjectRole::Contributor >= least, ROLE));
                say("no such project", &world.owner().with("x-project-id", "nowhere"), NO_PLACE);
            }
        }
    }
    all
}

/// What is the same wherever a place is named.
fn in_place(world: &World, needed: &str, say: &mut impl FnMut(&str, &Client, Expected)) {
    say("somebody deactivated", &world.deactivated, NO_PLACE);
    say("the owner of another workspace", &world.others[0], NO_PLACE);
    say("a token of another workspace", &world.others[1], NO_PLACE);
    say("no such workspace", &world.owner().with("x-tenant-id", "nowhere"), NO_PLACE);
    for (scopes, client) in &world.tokens {
        say(scopes, client, if_let_in(suffices(scopes, needed), SCOPE));
    }
}

/// Whether a token with these scopes may do what needs those.
fn suffices(scopes: &str, needed: &str) -> bool {
    needed.split(' ').all(|needed| scopes.split(' ').any(|scope| scope == needed || scope == "admin"))
}

/// Asks for what is elsewhere, and for what is nowhere: the answers are the same.
async fn check_foreign(world: &World, route: &Route, wrong: &mut Vec<String>) {
    let owner = world.owner();
    let is_in_project = matches!(route.needs, Needs::Project(..));
    let elsewhere = if is_in_project { Some(&world.elsewhere) } else { None };
    let kinds = kinds(route);
    for (where_, objects) in [("another workspace", Some(&world.foreign)), ("another project", elsewhere)] {
        let Some(objects) = objects else { continue };
        // All that the path names, and only the last of it, behind what is the caller's own.
        for own in 0..kinds.len() {
            let place = |objects: Option<&Objects>| {
                let mut index = 0;
                path(route, |kind| {
                    index += 1;
                    match (index <= own, objects) {
                        (true, _) if kind == "project" => world.closed.clone(),
                        (true, _) => known(&world.own, kind),
                        (false, Some(objects)) => known(objects, kind),
                        (false, None) => unknown(kind),
                    }
                })
            };
            let (there, nowhere) = (place(Some(objects)), place(None));
            let ((there, there_ids), (nowhere, nowhere_ids)) = (there, nowhere);
            let (found, missing) = (send(owner, route, &there).await, send(owner, route, &nowhere).await);
            let is_empty = missing.status == 200 && missing.body["items"] == Value::Array(Vec::new());
            let is_hidden = route.needs == Needs::Nothing || missing.status == 404 || is_empty;
            let (found, missing) = (shape(found, &there_ids), shape(missing, &nowhere_ids));
            if found != missing || !is_hidden {
                wrong.push(format!("{} {there} in {where_}:\n  {found}\n  {missing}", route.method));
            }
        }
    }
}

/// An answer without what differs between any two: the request's id, and the ids that it was asked for.
fn shape(answer: Answer, ids: &[String]) -> String {
    let mut body = answer.body;
    if let Some(body) = body.as_object_mut() {
        body.remove("request_id");
    }
    let mut text = format!("{} {body}", answer.status);
    for id in ids.iter().filter(|id| id.len() > 1) {
        text = text.replace(id, "ID");
    }
    text
}

async fn send(client: &Client, route: &Route, path: &str) -> Answer {
    let request = client.request(Method::from_bytes(route.method.as_bytes()).unwrap(), path);
    match route.body {
        body if is_query(body) => answer(request).await,
        body => answer(request.json(&serde_json::from_str::<Value>(body).unwrap())).await,
    }
}

/// The path and the query with something in each of their places, and what that is.
fn path(route: &Route, mut id: impl FnMut(&'static str) -> String) -> (String, Vec<String>) {
    let mut path = format!("/v1{}{}", route.path, if is_query(route.body) { route.body } else { "" });
    let mut ids = Vec::new();
    for name in names(route) {
        let id = id(kind(route.path, name));
        path = path.replacen(&format!("{{{name}}}"), &id, 1);
        ids.push(id);
    }
    (path, ids)
}

/// What path and query name that somebody owns.
fn kinds(route: &Route) -> Vec<&'static str> {
    // A path of the vault that is written need not be there before.
    let is_made = |kind: &str| route.method == "PUT" && kind == "vault path";
    names(route).map(|name| kind(route.path, name)).filter(|kind| *kind != "version" && !is_made(kind)).collect()
}

/// The places in path and query.
fn names(route: &Route) -> impl Iterator<Item = &'static str> {
    let query = if is_query(route.body) { route.body } else { "" };
    let parts = route.path.split('{').skip(1).chain(query.split('{').skip(1));
    parts.filter_map(|part| part.split_once('}')).map(|(name, _)| name)
}

fn is_query(body: &str) -> bool {
    body.is_empty() || body.starts_with('?')
}

/// What a place in a path stands for.
fn kind(path: &str, name: &str) -> &'static str {
    let root = path.split('/').nth(1).unwrap_or_default();
    match (root, name) {
        ("workflows", "id" | "workflow_id") => "workflow",
        ("workflows", "run_id") => "run",
        ("workflows", "task_id") => "task",
        ("workflows", "trigger") => "trigger",
        ("workflows", "version") => "version",
        ("inbound-webhooks", "id") => "webhook",
        ("connections", "id") => "connection",
        ("providers", "id") => "provider",
        ("mcp", "id") if path.starts_with("/mcp/servers") => "MCP server",
        ("mcp", "id") => "MCP instance",
        ("mcp", "version") => "version",
        ("mcp", "profile") => "config profile",
        ("vault", "path") => "vault path",
        ("pats", "id") => "pat",
        ("projects", "id") => "project",
        ("tenants", "id") => "invite",
        ("auth", "id") => "session",
        (_, "user") => "user",
        (_, "domain") => "domain",
        _ => panic!("say in `kind` what {{{name}}} in {path} stands for"),
    }
}

fn known(objects: &Objects, kind: &str) -> String {
    if kind == "version" { "1".to_owned() } else { objects.0[kind].clone() }
}

fn unknown(kind: &str) -> String {
    match kind {
        "version" => "1".to_owned(),
        "domain" => "nowhere.example".to_owned(),
        _ => "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
    }
}
