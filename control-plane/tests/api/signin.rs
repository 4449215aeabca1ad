//! Signing up, in and out, as a browser does.

use crate::{
    mails::{Browser, PASSWORD, mail, sign_up, signed_in, token},
    server::{Server, answer, on_both},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::process::Command;

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
        browser.post("/v1/auth/signup", json!({ "email": "Ada@Example.com" })).await.expect(202);
        browser.sign_in(ADA, PASSWORD).await.refused(401, "NOT_AUTHENTICATED");
        let token = token(&mail(&server.mails, ADA, "Confirm your address").await);
        let verify = |password: &str, name: &str| json!({ "token": token, "password": password, "display_name": name });
        for (password, name) in [("short", "Ada"), (ADA, "Ada"), (PASSWORD, "A\u{202e}da")] {
            browser.post("/v1/auth/verify", verify(password, name)).await.refused(422, "INVALID_FIELD");
        }
        browser.post("/v1/auth/verify", json!({ "token": token })).await.refused(422, "INVALID_BODY");
        browser.post("/v1/auth/verify", verify(PASSWORD, "Ada")).await.expect(200);
        browser.post("/v1/auth/verify", verify(PASSWORD, "Ada")).await.refused(422, "INVALID_FIELD");

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
        let ask = async |path: &str, mut body: Value, email: &str| {
            body["email"] = email.into();
            let answer = server.anybody().post(path, body).await;
            (answer.status, anonymous(answer.body))
        };
        let sign_in = json!({ "password": "wrong wrong wrong" });
        for (path, body) in
            [("/v1/auth/login", sign_in), ("/v1/auth/signup", json!({})), ("/v1/auth/password/forgot", json!({}))]
        {
            assert_eq!(ask(path, body.clone(), ADA).await, ask(path, body, "nobody@example.com").await, "{path}");
        }
        // The owner is told.
        mail(&server.mails, ADA, "You have an account already").await;
        // And nothing changed for the owner.
        Browser::new(&server).sign_in(ADA, PASSWORD).await.expect(200);
    })
    .await;
}

/// Whoever asks for an account with another's address has no say in what becomes of it.
#[tokio::test]
async fn nobody_chooses_a_password_for_another() {
    on_both(|server| async move {
        let eve_s = "a password that eve knows";
        // What a sign-up brings along beside the address is nothing to the account, whoever sent it.
        let by_eve = json!({ "email": ADA, "password": eve_s, "display_name": "Eve was here" });
        server.anybody().post("/v1/auth/signup", by_eve).await;
        sign_up(&server, ADA).await;
        let mut eve = Browser::new(&server);
        eve.sign_in(ADA, eve_s).await.refused(401, "NOT_AUTHENTICATED");
        let mut ada = Browser::new(&server);
        ada.sign_in(ADA, PASSWORD).await.expect(200);
        assert_eq!(ada.get("/v1/auth/me").await.expect(200)["user"]["display_name"], "ada");
    })
    .await;
}

#[tokio::test]
async fn addresses_are_plain() {
    let server = Server::start();
    let odd = ["\"a b\"@example.com", "ada@ex\u{430}mple.com", "a\u{7}@example.com", "ad\u{202e}a@example.com"];
    let long = format!("ada@{}.com", "a".repeat(64));
    for email in odd.into_iter().chain([long.as_str()]) {
        for path in ["/v1/auth/signup", "/v1/auth/password/forgot"] {
            server.anybody().post(path, json!({ "email": email })).await.refused(422, "INVALID_FIELD");
        }
        let body = json!({ "email": email, "password": PASSWORD });
        server.anybody().post("/v1/auth/login", body).await.refused(422, "INVALID_FIELD");
        let invite = server.admin().post("/v1/tenants/current/invites", json!({ "email": email })).await;
        invite.refused(422, "INVALID_FIELD");
    }
}

#[tokio::test]
async fn a_new_password_ends_all_sessions() {
    on_both(|server| async move {
        let mut browser = signed_in(&server, ADA).await;
        let mut other = Browser::new(&server);
        other.sign_in(ADA, PASSWORD).await.expect(200);
        browser.post("/v1/auth/password/forgot", json!({ "email": ADA })).await.expect(202);
        let token = token(&mail(&server.mails, ADA, "Set a new password").await);
        let reset = |password: &str| json!({ "token": token, "password": password });
        browser.post("/v1/auth/password/reset", reset("short")).await.refused(422, "INVALID_FIELD");
        browser.post("/v1/auth/password/reset", reset("another long one")).await.expect(204);
        browser.post("/v1/auth/password/reset", reset("yet another one")).await.refused(422, "INVALID_FIELD");
        // The one that it was set in as well as the others.
        browser.get("/v1/auth/me").await.refused(401, "NOT_AUTHENTICATED");
        other.get("/v1/auth/me").await.refused(401, "NOT_AUTHENTICATED");
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
async fn a_session_ends_by_itself() {
    // A minute before the end, and a minute after it.
    let moves = [
        ("UPDATE sessions SET last_seen_at = last_seen_at - 43140000000 WHERE session_id = $1", true),
        ("UPDATE sessions SET last_seen_at = last_seen_at - 43260000000 WHERE session_id = $1", false),
        ("UPDATE sessions SET expires_at = expires_at - 2591940000000 WHERE session_id = $1", true),
        ("UPDATE sessions SET expires_at = expires_at - 2592060000000 WHERE session_id = $1", false),
    ];
    on_both(|server| async move {
        sign_up(&server, ADA).await;
        for (statement, is_in) in moves {
            let mut browser = Browser::new(&server);
            let begun = browser.sign_in(ADA, PASSWORD).await.expect(200);
            server.change(statement, begun["session_id"].as_str().unwrap()).await;
            let answer = browser.get("/v1/auth/me").await;
            match is_in {
                true => drop(answer.expect(200)),
                false => drop(answer.refused(401, "NOT_AUTHENTICATED")),
            }
        }
    })
    .await;
}

/// Sign-ins that come at once take what a few at a time need, and no more is kept of it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn many_sign_ins_leave_little_memory_behind() {
    const MIB: u64 = 1024 * 1024;
    let server = Server::start();
    let sign_in = async |number: usize| {
        let body = json!({ "email": format!("{number}@example.com"), "password": "wrong wrong wrong" });
        server.anybody().post("/v1/auth/login", body).await.refused(401, "NOT_AUTHENTICATED")
    };
    sign_in(0).await;
    let before = server.resident_bytes();
    // As many as one address may try at once.
    futures_util::future::join_all((1..50).map(sign_in)).await;
    let more = server.resident_bytes().saturating_sub(before);
    assert!(more < 4 * 19 * MIB + 40 * MIB, "{} MiB more", more / MIB);
}

/// What a mail says is to be typed is typed, out of the file as it lies there.
#[tokio::test]
async fn the_commands_in_mails_work_as_printed() {
    if Command::new("curl").arg("--version").output().is_err() {
        return;
    }
    let server = Server::start();
    let folder = server.folder.path();
    let commands = |mail: &str| -> Vec<String> {
        let lines = mail.lines().skip_while(|line| !line.starts_with("  curl")).collect::<Vec<_>>().join("\n");
        lines.split("  curl ").skip(1).map(|rest| format!("curl {}", rest.split("\n\n").next().unwrap())).collect()
    };
    let types = |command: &str| -> Value {
        let output = Command::new("sh").args(["-c", &format!("{command} -sS")]).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    };
    let invite = json!({ "email": "o'hara@example.com" });
    server.admin().post("/v1/tenants/current/invites", invite).await.expect(201);
    let invitation = mail(&server.mails, "o'hara@example.com", "Invitation to dev").await;
    let [sign_up, sign_in, accept] = commands(&invitation).try_into().unwrap();
    types(&sign_up);
    let [verify] =
        commands(&mail(&server.mails, "o'hara@example.com", "Confirm your address").await).try_into().unwrap();
    assert_eq!(types(&verify.replace("NEW-PASSWORD", PASSWORD))["email"], "o'hara@example.com");
    let begun = types(&sign_in.replace("PASSWORD", PASSWORD));
    let joined = types(&accept.replace("CSRF-TOKEN", begun["csrf_token"].as_str().unwrap()));
    assert_eq!((&joined["slug"], &joined["role"]), (&json!("dev"), &json!("member")));
    // Somebody else asks for an account with that address; the answer goes to its owner.
    types(&sign_up);
    let known = mail(&server.mails, "o'hara@example.com", "You have an account already").await;
    let [sign_in, forgot] = commands(&known).try_into().unwrap();
    assert!(types(&sign_in.replace("PASSWORD", PASSWORD))["csrf_token"].is_string());
    types(&forgot);
    let [reset] = commands(&mail(&server.mails, "o'hara@example.com", "Set a new password").await).try_into().unwrap();
    types(&reset.replace("NEW-PASSWORD", "another long one"));
    Browser::new(&server).sign_in("o'hara@example.com", "another long one").await.expect(200);
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
    for email in ["ada", "a\r\nb@example.com"] {
        sign_up(json!({ "email": email })).await.refused(422, "INVALID_FIELD");
    }
    sign_up(json!({})).await.refused(422, "INVALID_BODY");
    let verify = json!({ "token": "x", "password": { "secret-of-ada": 1 } });
    let wrong = server.anybody().post("/v1/auth/verify", verify).await.refused(422, "INVALID_BODY");
    assert!(!wrong.to_string().contains("secret-of-ada"), "{wrong}");
    let form = server.anybody().with("content-type", "application/x-www-form-urlencoded");
    let form = form.request(Method::POST, "/v1/auth/login").body(format!("email={ADA}&password={PASSWORD}"));
    answer(form).await.refused(415, "NOT_JSON");
}
