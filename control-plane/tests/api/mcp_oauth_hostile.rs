//! Servers of MCP and authorization servers that mean harm: nothing is kept of what they began, and nothing of ours is with them.

use crate::{
    connections::{LOOPBACK, text},
    mcp_oauth::{CODE, access_token, begin, metadata, protected, register, way_back},
    mcp_server::{Answer, Heard, McpServer, bytes, reply},
    server::{Client, Server},
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

const DESCRIPTION: &str = "/.well-known/oauth-authorization-server";
const RESOURCE: &str = "/.well-known/oauth-protected-resource/mcp";

/// What a beginning is refused with, at a server that answers in this way.
async fn refused(
    owner: &Client,
    name: &str,
    other: impl Fn(&Heard, &str) -> Option<Answer> + Send + Sync + 'static,
) -> String {
    let mcp = protected(|_| 3600, other).await;
    let path = register(owner, name, &mcp.url()).await;
    let wanted = json!({ "display_name": name });
    let problem = owner.post(&format!("{path}/authorize"), wanted).await.refused(422, "MCP_SERVER_FAILED");
    assert!(mcp.heard().iter().all(|heard| heard.path != "/token"));
    text(&problem["error"])
}

/// The description of the authorization server with one member changed; null takes it away.
fn with(member: &'static str, value: Value) -> impl Fn(&Heard, &str) -> Option<Answer> + Send + Sync {
    move |heard, origin| {
        let mut described = metadata(origin);
        match &value {
            Value::Null => described.as_object_mut().unwrap().remove(member).map_or((), drop),
            value => described[member] = value.clone(),
        }
        (heard.path == DESCRIPTION).then(|| reply(200, "", &described))
    }
}

/// What the end of an authorization is refused with, where the request for the token is answered in this way.
async fn refused_token(owner: &Client, name: &str, answer: impl Fn(&Heard) -> Answer + Send + Sync + 'static) -> Value {
    let mcp = protected(|_| 3600, move |heard, _| (heard.path == "/token").then(|| answer(heard))).await;
    let path = register(owner, name, &mcp.url()).await;
    let secret = "a-secret-of-the-client";
    let wanted =
        json!({ "display_name": name, "client_id": "a-client", "client_secret": secret, "issuer": mcp.origin });
    let begun = owner.post(&format!("{path}/authorize"), wanted).await.expect(200);
    let back = way_back(&begun);
    let problem = owner.get(&back).await.refused(422, "MCP_SERVER_FAILED");
    // The code is used up, whatever became of it.
    owner.get(&back).await.refused(422, "INVALID_FIELD");
    problem
}

async fn nothing_is_kept(owner: &Client) {
    assert_eq!(owner.get("/v1/connections").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_description_that_leads_astray_is_not_followed() {
    let server = Server::start_with(None, &LOOPBACK);
    let owner = server.owner();
    let elsewhere = McpServer::start().await;
    for (name, issuer) in [("cloud", "http://169.254.169.254/"), ("inside", "http://10.0.0.1/")] {
        let told = refused(&owner, name, move |heard, origin| {
            let body = json!({ "resource": format!("{origin}/mcp"), "authorization_servers": [issuer] });
            (heard.path == RESOURCE).then(|| reply(200, "", &body))
        });
        let told = told.await;
        assert!(told.contains("none published usable metadata"), "{told}");
    }
    let other = elsewhere.origin.clone();
    let told = refused(&owner, "issuer", with("issuer", json!(other))).await;
    assert!(told.contains("issuer mismatch"), "{told}");
    let told = refused(&owner, "no issuer", with("issuer", Value::Null)).await;
    assert!(told.contains("issuer"), "{told}");
    let other = elsewhere.url();
    let told = refused(&owner, "resource", move |heard, origin| {
        let body = json!({ "resource": other, "authorization_servers": [origin] });
        (heard.path == RESOURCE).then(|| reply(200, "", &body))
    });
    let told = told.await;
    assert!(told.contains("resource mismatch"), "{told}");
    let location = format!("location: {}\r\n", elsewhere.url());
    let told = refused(&owner, "redirect", move |heard, _| {
        (heard.path == RESOURCE).then(|| Answer::Bytes(bytes(302, &location, "")))
    });
    let told = told.await;
    assert!(told.contains("redirect"), "{told}");
    for (name, member, value) in [
        ("no PKCE", "code_challenge_methods_supported", Value::Null),
        ("plain PKCE", "code_challenge_methods_supported", json!(["plain"])),
        ("script", "authorization_endpoint", json!("javascript:alert(1)")),
        ("file", "token_endpoint", json!("file:///etc/passwd")),
        ("password", "token_endpoint", json!("https://a:b@example.com/token")),
        ("registration", "registration_endpoint", json!("http://169.254.169.254/register")),
        ("no registration", "registration_endpoint", Value::Null),
    ] {
        let told = refused(&owner, name, with(member, value)).await;
        let part = match name {
            "no PKCE" | "plain PKCE" => "PKCE",
            "registration" => "egress_allowed_networks",
            "no registration" => "/v1/mcp/oauth/callback",
            _ => "no address that begins with https://",
        };
        assert!(told.contains(part), "{name}: {told}");
    }
    let large = vec![b' '; 64 << 10];
    let told = refused(&owner, "large", move |heard, _| {
        let head = b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\n\r\n".to_vec();
        (heard.path == DESCRIPTION).then(|| Answer::Endless(head, large.clone()))
    });
    let told = told.await;
    assert!(told.contains("longer than the 262144 bytes"), "{told}");
    let told = refused(&owner, "many", |heard, origin| {
        let all: Vec<String> = (0..1_000).map(|number| format!("{origin}/{number}")).collect();
        let body = json!({ "resource": format!("{origin}/mcp"), "authorization_servers": all });
        (heard.path == RESOURCE).then(|| reply(200, "", &body)).or_else(|| {
            let is_description = heard.path.contains("well-known");
            is_description.then(|| Answer::Bytes(bytes(404, "", "")))
        })
    });
    let told = told.await;
    assert!(told.contains("more than 32 requests"), "{told}");
    let wide: Vec<String> = (0..65).map(|number| format!("scope-{number}")).collect();
    let told = refused(&owner, "wide", move |heard, origin| {
        let resource = format!("{origin}/mcp");
        let body = json!({ "resource": resource, "authorization_servers": [origin], "scopes_supported": wide });
        (heard.path == RESOURCE).then(|| reply(200, "", &body))
    });
    let told = told.await;
    assert!(told.contains("more than 64 scopes"), "{told}");
    let told = refused(&owner, "nobody", |heard, _| (heard.path != "/mcp").then(|| Answer::Bytes(bytes(404, "", ""))));
    let told = told.await;
    assert!(told.contains("names no authorization server"), "{told}");
    assert!(elsewhere.heard().is_empty());
    nothing_is_kept(&owner).await;
}

#[tokio::test]
async fn a_page_of_another_server_is_not_opened_for_a_server_that_does_not_say_who_it_is() {
    let server = Server::start_with(None, &LOOPBACK);
    let owner = server.owner();
    // The honest one sends its codes back without a word of who it is.
    let honest = McpServer::start().await;
    let described = |says: Value, page: String| {
        move |heard: &Heard, origin: &str| {
            let mut described = metadata(origin);
            described["authorization_endpoint"] = json!(page);
            described["authorization_response_iss_parameter_supported"] = says.clone();
            (heard.path == DESCRIPTION).then(|| reply(200, "", &described))
        }
    };
    let page = format!("{}/authorize", honest.origin);
    for (name, says) in [("silent", Value::Null), ("denies", json!(false)), ("odd", json!("true"))] {
        let told = refused(&owner, name, described(says, page.clone())).await;
        assert!(told.contains("at another origin"), "{name}: {told}");
    }
    // One that announces that it says so is held to that: what the honest one gives goes nowhere.
    let mcp = protected(|_| 3600, described(json!(true), page)).await;
    let path = register(&owner, "announces", &mcp.url()).await;
    let back = begin(&owner, &path, "announces").await;
    let (silent, _) = back.split_once("&iss=").unwrap();
    owner.get(silent).await.refused(422, "MCP_SERVER_FAILED");
    let back = begin(&owner, &path, "announces").await;
    assert!(back.ends_with(&honest.origin), "{back}");
    owner.get(&back).await.refused(422, "MCP_SERVER_FAILED");
    assert!(mcp.heard().iter().all(|heard| heard.path != "/token"));
    nothing_is_kept(&owner).await;
    // Tokens may come from elsewhere, as they do from providers that everybody knows.
    let silent = |heard: &Heard, origin: &str| {
        let mut described = metadata(origin);
        described["token_endpoint"] = json!("http://127.0.0.2:9/token");
        described["authorization_response_iss_parameter_supported"] = json!(false);
        (heard.path == DESCRIPTION).then(|| reply(200, "", &described))
    };
    let mcp = protected(|_| 3600, silent).await;
    begin(&owner, &register(&owner, "elsewhere", &mcp.url()).await, "elsewhere").await;
}

#[tokio::test]
async fn a_secret_goes_to_no_other_authorization_server_than_the_one_that_it_is_for() {
    let server = Server::start_with(None, &LOOPBACK);
    let owner = server.owner();
    // The server names one, and the next time another.
    let (first, second) = (protected(|_| 0, |_, _| None).await, protected(|_| 3600, |_, _| None).await);
    let named = Arc::new(Mutex::new(second.origin.clone()));
    let names = named.clone();
    let mcp = McpServer::twisted(move |heard| {
        let issuer = names.lock().unwrap().clone();
        let body =
            json!({ "resource": format!("http://{}/mcp", heard.headers["host"]), "authorization_servers": [issuer] });
        match heard.path.as_str() {
            "/mcp" => (!heard.headers.contains_key("authorization")).then(|| reply(401, "", &json!({}))),
            RESOURCE => Some(reply(200, "", &body)),
            _ => Some(Answer::Bytes(bytes(404, "", ""))),
        }
    })
    .await;
    let path = register(&owner, "crm", &mcp.url()).await;
    let secret = "a-secret-of-the-client";
    let wanted =
        json!({ "display_name": "crm", "client_id": "a-client", "client_secret": secret, "issuer": first.origin });
    let mut by_itself = wanted.clone();
    by_itself["grant_type"] = json!("client_credentials");
    for wanted in [&wanted, &by_itself] {
        let problem = owner.post(&format!("{path}/authorize"), wanted.clone()).await.refused(422, "MCP_SERVER_FAILED");
        let told = text(&problem["error"]);
        assert!(told.contains(&second.origin) && told.contains(&first.origin), "{told}");
    }
    nothing_is_kept(&owner).await;
    // What was begun goes on with whom it was begun, also when the server names another one by then, and so do renewals.
    named.lock().unwrap().clone_from(&first.origin);
    let begun = owner.post(&format!("{path}/authorize"), wanted).await.expect(200);
    assert_eq!(begun["issuer"], json!(first.origin));
    named.lock().unwrap().clone_from(&second.origin);
    owner.get(&way_back(&begun)).await.expect(200);
    let made = owner.get("/v1/connections").await.expect(200)["items"][0].clone();
    assert_eq!(made["authorization"]["issuer"], json!(first.origin));
    owner.post(&format!("{path}/discover"), json!({ "connection_id": made["id"] })).await.expect(200);
    let asked = |of: &McpServer| of.heard().iter().filter(|heard| heard.path == "/token").count();
    assert_eq!((asked(&first), asked(&second)), (2, 0));
    assert!(second.heard().iter().all(|heard| heard.method == "GET"), "it was asked who it is, and no more");
}

#[tokio::test]
async fn a_token_that_is_none_is_not_kept_and_what_was_sent_comes_back_to_nobody() {
    let server = Server::start_with(None, &LOOPBACK);
    let owner = server.owner();
    let elsewhere = McpServer::start().await;
    let problem = refused_token(&owner, "echo", |heard| {
        reply(
            400,
            "",
            &json!({ "error": "invalid_request", "error_description": format!("{} {:?}", heard.body, heard.headers) }),
        )
    });
    let problem = problem.await.to_string();
    for secret in [CODE, "a-secret-of-the-client"] {
        assert!(!problem.contains(secret), "{problem}");
    }
    assert!(problem.contains("invalid_request"), "{problem}");
    let head = |length: &str| format!("HTTP/1.1 200 X\r\ncontent-type: application/json\r\n{length}\r\n").into_bytes();
    for (name, length) in [("endless", ""), ("large", "content-length: 104857600\r\n")] {
        let answer = move |_: &Heard| Answer::Endless(head(length), vec![b' '; 64 << 10]);
        let problem = refused_token(&owner, name, answer).await;
        assert!(text(&problem["error"]).contains("longer than the 262144 bytes"), "{problem}");
    }
    for status in [302, 307] {
        let location = format!("location: {}/token\r\n", elsewhere.origin);
        let answer = move |_: &Heard| Answer::Bytes(bytes(status, &location, ""));
        let problem = refused_token(&owner, &format!("redirect {status}"), answer).await;
        assert!(text(&problem["error"]).contains("redirect"), "{problem}");
    }
    assert!(elsewhere.heard().is_empty());
    for (name, body, part) in [
        ("kind", json!({ "access_token": "a-token", "token_type": "mac" }), "another kind"),
        ("header", json!({ "access_token": "a\r\nhost: b", "token_type": "Bearer" }), "no text of a header"),
        ("empty", json!({ "access_token": "", "token_type": "Bearer" }), "empty"),
        ("long", json!({ "access_token": "x".repeat(16_385), "token_type": "Bearer" }), "too long"),
        ("none", json!({ "id_token": "a" }), "is no token"),
    ] {
        let problem = refused_token(&owner, name, move |_| reply(200, "", &body)).await;
        assert!(text(&problem["error"]).contains(part), "{problem}");
    }
    nothing_is_kept(&owner).await;
    // The address that a description names is reached as little as any other.
    let mcp = protected(|_| 3600, with("token_endpoint", json!("http://169.254.169.254/token"))).await;
    let back = begin(&owner, &register(&owner, "inside", &mcp.url()).await, "inside").await;
    let problem = owner.get(&back).await.refused(422, "MCP_SERVER_FAILED");
    assert!(text(&problem["error"]).contains("egress_allowed_networks"), "{problem}");
    nothing_is_kept(&owner).await;
}

#[tokio::test]
async fn a_browser_comes_back_once_in_time_and_from_where_it_was_sent() {
    let server = Server::start_with(None, &LOOPBACK);
    let owner = server.owner();
    let mcp = protected(|_| 3600, |_, _| None).await;
    let path = register(&owner, "crm", &mcp.url()).await;
    let asked = |mcp: &McpServer| mcp.heard().iter().filter(|heard| heard.path == "/token").count();
    // Another server's answer, or one that does not say whose it is where it should (mix-up).
    let back = begin(&owner, &path, "crm").await;
    let (whose, _) = back.split_once("&iss=").unwrap();
    owner.get(&format!("{whose}&iss=https://evil.example")).await.refused(422, "MCP_SERVER_FAILED");
    owner.get(&back).await.refused(422, "INVALID_FIELD");
    let back = begin(&owner, &path, "crm").await;
    let (whose, _) = back.split_once("&iss=").unwrap();
    owner.get(whose).await.refused(422, "MCP_SERVER_FAILED");
    // Refused there.
    let back = begin(&owner, &path, "crm").await.replace("code=", "error=access_denied&x=");
    let problem = owner.get(&back).await.refused(422, "MCP_SERVER_FAILED");
    assert!(text(&problem["error"]).contains("access_denied"), "{problem}");
    // Too late, and with a state that nobody gave.
    let back = begin(&owner, &path, "late").await;
    server.change("UPDATE mcp_authorizations SET expires_at = 0 WHERE display_name = $1", "late").await;
    owner.get(&back).await.refused(422, "INVALID_FIELD");
    owner.get("/v1/mcp/oauth/callback?state=guessed&code=x").await.refused(422, "INVALID_FIELD");
    owner.get("/v1/mcp/oauth/callback").await.refused(422, "INVALID_FIELD");
    let long = "x".repeat(4097);
    owner.get(&format!("/v1/mcp/oauth/callback?state=x&code={long}")).await.refused(422, "INVALID_FIELD");
    assert_eq!(asked(&mcp), 0);
    nothing_is_kept(&owner).await;
    // Nobody who is not signed in, and not with another token of somebody else: it stays for whoever began it.
    let back = begin(&owner, &path, "crm").await;
    server.anybody().get(&back).await.refused(401, "NOT_AUTHENTICATED");
    owner.get(&back).await.expect(200);
    owner.get(&back).await.refused(422, "INVALID_FIELD");
    assert_eq!(asked(&mcp), 1);
}

#[tokio::test]
async fn a_server_that_refuses_a_token_again_and_again_is_asked_twice() {
    let server = Server::start_with(None, &LOOPBACK);
    let owner = server.owner();
    let mcp = protected(
        |_| 3600,
        |heard, _| {
            let is_asked = heard.path == "/mcp" && heard.headers.contains_key("authorization");
            is_asked.then(|| {
                let said = format!("you sent {}", heard.headers["authorization"]);
                reply(401, "www-authenticate: Bearer error=\"invalid_token\"\r\n", &json!({ "error": said }))
            })
        },
    )
    .await;
    let path = register(&owner, "crm", &mcp.url()).await;
    let back = begin(&owner, &path, "crm").await;
    owner.get(&back).await.expect(200);
    let made = owner.get("/v1/connections").await.expect(200)["items"][0].clone();
    let body = json!({ "connection_id": made["id"] });
    let problem = owner.post(&format!("{path}/discover"), body).await.refused(409, "MCP_AUTHORIZATION_REQUIRED");
    assert!(!problem.to_string().contains("an-access-token"), "{problem}");
    let shown: Vec<String> =
        mcp.heard().iter().filter_map(|heard| heard.headers.get("authorization").cloned()).collect();
    assert_eq!(shown, [1, 2].map(|number| format!("Bearer {}", access_token(number))));
}
