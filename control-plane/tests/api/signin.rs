//! Signing up, in and out, as a browser does.

use crate::{
    mails::{Browser, PASSWORD, mail, sign_up, signed_in, token},
    server::{Server, answer, on_both},
};
use reqwest::Method;
use serde_json::{Value, json};

const ADA: &str = "ada@example.com";

/// An answer without what differs between any two.
fn anonymous(mut body: Value) -> Value {
    if let Some(body) = body.as_object_mut() {
        body.remove("request_id");
    }
    body
}

#[tokio::test]
async fn somebody_signs_up_in_and_out() {
    on_both(|server| async move {
        let mut browser = Browser::new(&server);
        browser.get("/v1/auth/me").await.refused(401, "NOT_AUTHENTICATED");
        let body = json!({ "email": "Ada@Example.com", "password": PASSWORD, "display_name": "Ada" });
        browser.post("/v1/auth/signup", body).await.expect(202);
        browser.sign_in(ADA, PASSWORD).await.refused(401, "NOT_AUTHENTICATED");
        let token = token(&mail(&server.mails, ADA, "Confirm your address").await);
        browser.post("/v1/auth/verify", json!({ "token": token })).await.expect(200);
        browser.post("/v1/auth/verify", json!({ "token": token })).await.refused(422, "INVALID_FIELD");

        let begun = browser.sign_in("ADA@example.com", PASSWORD).await;
        let cookie = begun.headers["set-cookie"].to_str().unwrap().to_owned();
        assert!(cookie.contains("; HttpOnly; SameSite=Lax; Path=/"), "{cookie}");
        let begun = begun.expect(200);
        let me = browser.get("/v1/auth/me").await.expect(200);
        assert_eq!((&me["user"]["email"], &me["user"]["display_name"]), (&json!(ADA), &json!("Ada")));
        assert_eq!((&me["session_id"], &me["csrf_token"]), (&begun["session_id"], &begun["csrf_token"]));
        // An account is in no workspace yet.
        let elsewhere = browser.client.with("cookie", &browser.cookie_header()).with("x-tenant-id", "dev");
        elsewhere.with("x-project-id", "default").get("/v1/workflows").await.refused(404, "PLACE_NOT_FOUND");

        let old = browser.cookie_header();
        browser.post("/v1/auth/logout", json!({})).await.expect(204);
        assert!(browser.cookies.is_empty());
        server.anybody().with("cookie", &old).get("/v1/auth/me").await.refused(401, "NOT_AUTHENTICATED");
    })
    .await;
}

#[tokio::test]
async fn a_stranger_does_not_learn_who_has_an_account() {
    on_both(|server| async move {
        sign_up(&server, ADA).await;
        let ask = async |path: &str, email: &str| {
            let body = json!({ "email": email, "password": "wrong wrong wrong" });
            let answer = server.anybody().post(path, body).await;
            (answer.status, anonymous(answer.body))
        };
        for path in ["/v1/auth/login", "/v1/auth/signup", "/v1/auth/password/forgot"] {
            assert_eq!(ask(path, ADA).await, ask(path, "nobody@example.com").await, "{path}");
        }
        // The owner is told.
        mail(&server.mails, ADA, "You have an account already").await;
        // And nothing changed for the owner.
        Browser::new(&server).sign_in(ADA, PASSWORD).await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn a_new_password_ends_all_sessions() {
    on_both(|server| async move {
        let mut browser = signed_in(&server, ADA).await;
        browser.post("/v1/auth/password/forgot", json!({ "email": ADA })).await.expect(202);
        let token = token(&mail(&server.mails, ADA, "Set a new password").await);
        let reset = |password: &str| json!({ "token": token, "password": password });
        browser.post("/v1/auth/password/reset", reset("short")).await.refused(422, "INVALID_FIELD");
        browser.post("/v1/auth/password/reset", reset("another long one")).await.expect(204);
        browser.post("/v1/auth/password/reset", reset("yet another one")).await.refused(422, "INVALID_FIELD");
        browser.get("/v1/auth/me").await.refused(401, "NOT_AUTHENTICATED");
        browser.sign_in(ADA, PASSWORD).await.refused(401, "NOT_AUTHENTICATED");
        browser.sign_in(ADA, "another long one").await.expect(200);
        mail(&server.mails, ADA, "Your password was changed").await;
    })
    .await;
}

#[tokio::test]
async fn sessions_are_listed_and_revoked() {
    on_both(|server| async move {
        let mut here = signed_in(&server, ADA).await;
        let mut there = Browser::new(&server);
        let other = there.sign_in(ADA, PASSWORD).await.expect(200)["session_id"].clone();
        let mut stranger = signed_in(&server, "eve@example.com").await;

        let list = here.get("/v1/auth/sessions").await.expect(200);
        let current: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| &item["is_current"]).collect();
        assert_eq!(current.len(), 2);
        assert_eq!(current.iter().filter(|is_current| **is_current == &json!(true)).count(), 1);

        let path = format!("/v1/auth/sessions/{}", other.as_str().unwrap());
        let theirs = stranger.send(Method::DELETE, &path, None).await.refused(404, "NOT_FOUND");
        here.send(Method::DELETE, &path, None).await.expect(204);
        there.get("/v1/auth/me").await.refused(401, "NOT_AUTHENTICATED");
        let gone = stranger.send(Method::DELETE, &path, None).await.refused(404, "NOT_FOUND");
        assert_eq!(anonymous(theirs), anonymous(gone));
        here.send(Method::DELETE, "/v1/auth/sessions/nonsense", None).await.refused(404, "NOT_FOUND");
        here.get("/v1/auth/me").await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn a_cookie_that_was_planted_never_becomes_a_session() {
    let server = Server::start();
    let mut victim = signed_in(&server, ADA).await;
    // Eve's own session, planted into the browser before its owner signs in.
    let eve = signed_in(&server, "eve@example.com").await;
    victim.cookies.clone_from(&eve.cookies);
    victim.sign_in(ADA, PASSWORD).await.expect(200);
    assert_ne!(victim.cookies, eve.cookies);
    server.anybody().with("cookie", &eve.cookie_header()).get("/v1/auth/me").await.refused(401, "NOT_AUTHENTICATED");
    assert_eq!(victim.get("/v1/auth/me").await.expect(200)["user"]["email"], ADA);
}

#[tokio::test]
async fn another_site_cannot_use_a_session() {
    let server = Server::start();
    let browser = signed_in(&server, ADA).await;
    let with_cookie = server.anybody().with("cookie", &browser.cookie_header());
    let out = async |client: &crate::server::Client| client.post("/v1/auth/logout", json!({})).await;
    out(&with_cookie).await.refused(403, "CROSS_SITE");
    out(&with_cookie.with("x-csrf-token", "wrong")).await.refused(403, "CROSS_SITE");
    let proven = with_cookie.with("x-csrf-token", &browser.csrf);
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        out(&proven.with(name, value)).await.refused(403, "CROSS_SITE");
        // Nor can it sign a browser in to an account of its own.
        let body = json!({ "email": ADA, "password": PASSWORD });
        server.anybody().with(name, value).post("/v1/auth/login", body).await.refused(403, "CROSS_SITE");
    }
    // Reading needs no proof: browsers do not let another site see the answer.
    with_cookie.get("/v1/auth/me").await.expect(200);
    out(&proven.with("origin", &server.url).with("sec-fetch-site", "same-origin")).await.expect(204);
}

#[tokio::test]
async fn a_session_enters_the_workspace_that_a_header_names() {
    on_both(|server| async move {
        let mut ada = signed_in(&server, ADA).await;
        ada.post("/v1/tenants", json!({ "slug": "acme", "name": "Acme" })).await.expect(201);
        let at = |browser: &Browser, tenant: &str| {
            let client = server.anybody().with("cookie", &browser.cookie_header());
            client.with("x-tenant-id", tenant)
        };
        assert_eq!(at(&ada, "acme").get("/v1/tenants/current").await.expect(200)["slug"], "acme");
        server
            .anybody()
            .with("cookie", &ada.cookie_header())
            .get("/v1/tenants/current")
            .await
            .refused(400, "PLACE_MISSING");
        // Somebody else's workspace is as if it were not there.
        let eve = signed_in(&server, "eve@example.com").await;
        let theirs = at(&eve, "acme").get("/v1/tenants/current").await.refused(404, "PLACE_NOT_FOUND");
        let none = at(&eve, "nowhere").get("/v1/tenants/current").await.refused(404, "PLACE_NOT_FOUND");
        assert_eq!(anonymous(theirs), anonymous(none));
    })
    .await;
}

#[tokio::test]
async fn a_token_beside_a_cookie_is_what_counts() {
    let server = Server::start();
    let browser = signed_in(&server, ADA).await;
    let both = server.owner().with("cookie", &browser.cookie_header());
    assert_eq!(both.get("/v1/auth/me").await.expect(200)["user"]["email"], "owner@localhost");
    let wrong = both.with("authorization", "Bearer pat_wrong");
    wrong.get("/v1/auth/me").await.refused(401, "NOT_AUTHENTICATED");
    // A token signs nobody out, and sees no sessions.
    server.owner().post("/v1/auth/logout", json!({})).await.refused(403, "SESSION_NEEDED");
    server.owner().get("/v1/auth/sessions").await.refused(403, "SESSION_NEEDED");
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let server = Server::start();
    let guess = async || {
        let body = json!({ "email": ADA, "password": "wrong wrong wrong" });
        server.anybody().post("/v1/auth/login", body).await
    };
    for _ in 0..10 {
        guess().await.refused(401, "NOT_AUTHENTICATED");
    }
    let answer = guess().await;
    let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=61).contains(&seconds), "{seconds}");
    answer.refused(429, "TOO_MANY_ATTEMPTS");
}

#[tokio::test]
async fn what_cannot_be_an_account_is_refused() {
    let server = Server::start();
    let sign_up = async |body: Value| server.anybody().post("/v1/auth/signup", body).await;
    for (email, password) in [("ada", PASSWORD), (ADA, "short"), (ADA, ADA), ("a\r\nb@example.com", PASSWORD)] {
        sign_up(json!({ "email": email, "password": password })).await.refused(422, "INVALID_FIELD");
    }
    sign_up(json!({ "email": ADA })).await.refused(422, "INVALID_BODY");
    let wrong = sign_up(json!({ "email": ADA, "password": { "secret-of-ada": 1 } })).await.refused(422, "INVALID_BODY");
    assert!(!wrong.to_string().contains("secret-of-ada"), "{wrong}");
    let form = server.anybody().with("content-type", "application/x-www-form-urlencoded");
    let form = form.request(Method::POST, "/v1/auth/login").body(format!("email={ADA}&password={PASSWORD}"));
    answer(form).await.refused(415, "NOT_JSON");
}
