//! What is secret stays out of the log, whatever is asked for and however much the log is to tell.

use crate::{
    hooks::{published, secrets_of_deliveries},
    mails::{Browser, PASSWORD, mail, signed_in, token},
    mcp_oauth::secrets_of_authorizing,
    openid::secrets_of_signing_in,
    real::{Real, issuers},
    server::Server,
};
use agentruntime_engine::{
    database::Values,
    store::{Store, SystemClock},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use url::form_urlencoded;

const ADA: &str = "ada@secrets.example";
/// What has to come is here before this, or never.
const PATIENCE: Duration = Duration::from_secs(60);
/// Everything is switched on.
pub(crate) const TELL_ALL: [&str; 5] =
    ["--log", "trace", "--log-format", "json", "--egress-allowed-networks=127.0.0.0/8"];

#[tokio::test]
async fn the_log_holds_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let issuers = issuers();
    let with_issuer = issuers.as_ref().map(|issuers| with_issuer(issuers, folder.path())).unwrap_or_default();
    let arguments: Vec<&str> = TELL_ALL.into_iter().chain(with_issuer.iter().map(String::as_str)).collect();
    let mut server = Server::logging(&first, &arguments);

    let mut secrets = vec![server.token.clone(), server.admin_token.clone()];
    secrets.extend(of_requests(&server).await);
    secrets.extend(of_an_account(&server).await);
    secrets.extend(of_an_invitation(&server).await);
    secrets.extend(secrets_of_deliveries(&server).await);
    if let Some(issuers) = &issuers {
        secrets.push(issuers.hello["client_secret"].as_str().unwrap().to_owned());
        secrets.extend(secrets_of_signing_in(&server).await);
    }
    secrets.extend(secrets_of_authorizing(&server).await);
    secrets.extend(schedule(&server).await);
    follow(&server).await;
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    come_due(&server.data).await;
    let mut server = server.restart_logging(&second, &TELL_ALL);
    let deadline = Instant::now() + PATIENCE;
    while server.owner().get("/v1/runs?trigger=schedule").await.expect(200)["items"] == json!([]) {
        assert!(Instant::now() < deadline, "what is due is started");
    }
    follow(&server).await;
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));

    for log in [&first, &second] {
        let text = fs::read_to_string(log).unwrap();
        for secret in &secrets {
            for written in spellings(secret) {
                assert!(!text.contains(&written), "the log holds `{secret}` as `{written}`");
            }
        }
        check_lines(&text);
    }
}

/// Each request is a line that names who it was, and by which token.
fn check_lines(text: &str) {
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let served = |route: &str, status: u16| {
        let is_it = |line: &&Value| {
            line["target"] == "agentruntime::request" && line["route"] == route && line["status"] == status
        };
        lines.iter().find(is_it)
    };
    let line = served("/v1/runs", 200).or(served("/v1/workflows", 200)).unwrap();
    assert_eq!(line["method"], "GET");
    for name in ["request_id", "user", "pat", "workspace", "address"] {
        assert!(line[name].is_string(), "{line}");
    }
    assert!(line["ms"].is_number());
    let followed = served("/v1/workflows/{workflow_id}/stream", 404).unwrap();
    assert!(followed["user"].is_string() && followed["pat"].is_string(), "{followed}");
    if let Some(delivery) = served("/v1/inbound-webhooks/{id}", 202) {
        assert!(delivery["user"].is_string() && delivery["pat"].is_string(), "{delivery}");
    }
    assert!(lines.iter().any(|line| line["message"] == "ended in order"));
}

/// A secret as it is, in lower case, in both alphabets of base64 wherever it lies in what was encoded, in hex and in a URL.
pub(crate) fn spellings(secret: &str) -> Vec<String> {
    let mut all = vec![secret.to_owned(), secret.to_ascii_lowercase()];
    all.push(form_urlencoded::byte_serialize(secret.as_bytes()).collect());
    all.push(secret.bytes().map(|byte| format!("{byte:02x}")).collect());
    for shift in 0..3_usize {
        let padded = [vec![0; shift], secret.as_bytes().to_vec()].concat();
        // The letters that hold bits of the secret alone.
        let own = (shift * 8).div_ceil(6)..padded.len() * 8 / 6;
        all.extend(
            [BASE64_STANDARD.encode(&padded), BASE64_URL_SAFE.encode(&padded)].map(|text| text[own.clone()].to_owned()),
        );
    }
    all
}

#[test]
fn a_secret_is_found_however_it_is_written() {
    let secret = "whsec_ab+/=?&";
    let found = |text: &str| spellings(secret).iter().any(|written| text.contains(written));
    for before in ["", "x", "xy", "user:"] {
        assert!(found(&BASE64_STANDARD.encode(format!("{before}{secret} and more"))), "{before}");
        assert!(found(&BASE64_URL_SAFE.encode(format!("{before}{secret}"))), "{before}");
    }
    assert!(found("https://x/?a=whsec_ab%2B%2F%3D%3F%26") && found(secret) && !found("whsec_ab"));
}

fn with_issuer(issuers: &Real, folder: &Path) -> Vec<String> {
    let secret = folder.join("client-secret");
    let text = |name: &str| issuers.hello[name].as_str().unwrap().to_owned();
    fs::write(&secret, text("client_secret")).unwrap();
    let secret = secret.to_str().unwrap().to_owned();
    [
        ("--openid-issuer", text("honest")),
        ("--openid-client-id", text("client_id")),
        ("--openid-client-secret-file", secret),
    ]
    .into_iter()
    .flat_map(|(name, value)| [name.to_owned(), value])
    .collect()
}

/// What callers send in headers, queries and bodies, and get.
async fn of_requests(server: &Server) -> Vec<String> {
    server.owner().get("/v1/workflows?q=asked-for-this").await.expect(200);
    server.anybody().with("cookie", "session=a-cookie-of-somebody").get("/v1/workflows").await;
    server.anybody().with("authorization", "Bearer pat_wrong-token").get("/v1/workflows").await;
    let verify = json!({ "token": "a-token-of-somebody", "password": "a-password-of-somebody" });
    server.anybody().post("/v1/auth/verify", verify).await;
    let pat = server.admin().post("/v1/pats", json!({ "name": "x", "scopes": ["workflow:read"] })).await.expect(201);
    let private = json!({ "name": "n", "graph": { "steps": [], "note": "a-private-note" } });
    server.owner().post("/v1/workflows", private).await;
    let mut sent = vec![pat["token"].as_str().unwrap().to_owned()];
    sent.extend(["asked-for-this", "a-cookie-of-somebody", "pat_wrong-token", "a-private-note"].map(str::to_owned));
    sent.extend(["a-token-of-somebody", "a-password-of-somebody"].map(str::to_owned));
    sent
}

/// Looks for the events of a run that is not there.
async fn follow(server: &Server) {
    let nobodys = "01890a5d-ac96-774b-bcce-b302099a8057";
    let path = format!("/v1/workflows/{nobodys}/stream?run_id={nobodys}");
    assert_eq!(server.owner().get(&path).await.status, 404);
}

/// Signing up and in, and a password that was forgotten.
async fn of_an_account(server: &Server) -> Vec<String> {
    let browser = signed_in(server, ADA).await;
    let mut secrets = vec![PASSWORD.to_owned(), browser.csrf.clone()];
    secrets.extend(browser.cookies.iter().map(|(_, value)| value.clone()));
    secrets.push(token(&mail(&server.mails, ADA, "Confirm your address").await));
    server.anybody().post("/v1/auth/password/forgot", json!({ "email": ADA })).await.expect(202);
    let reset = token(&mail(&server.mails, ADA, "Set a new password").await);
    let (wrong, new) = ("a-wrong-password", "another horse, another battery");
    server.anybody().post("/v1/auth/login", json!({ "email": ADA, "password": wrong })).await;
    let body = json!({ "token": reset, "password": new });
    assert!(server.anybody().post("/v1/auth/password/reset", body).await.status.is_success());
    let mut again = Browser::new(server);
    again.sign_in(ADA, new).await.expect(200);
    secrets.extend(again.cookies.iter().map(|(_, value)| value.clone()));
    secrets.extend([reset, wrong.to_owned(), new.to_owned()]);
    secrets
}

async fn of_an_invitation(server: &Server) -> Vec<String> {
    let invited = json!({ "email": "bob@secrets.example", "role": "member" });
    server.admin().post("/v1/tenants/current/invites", invited).await.expect(201);
    vec![token(&mail(&server.mails, "bob@secrets.example", "Invitation to dev").await)]
}

/// Makes a schedule with an input that is nobody else's concern.
async fn schedule(server: &Server) -> Vec<String> {
    let path = format!("/v1/workflows/{}/triggers", published(&server.owner()).await);
    let new = json!({ "cron": "* * * * *", "catch_up": true, "trigger_payload": { "note": "a-scheduled-secret" } });
    server.owner().post(&path, new).await.expect(201);
    vec!["a-scheduled-secret".to_owned()]
}

/// Moves the schedule's next time a minute back, so that it is over.
async fn come_due(data: &str) {
    let store = Store::open(&data.parse().unwrap(), Arc::new(SystemClock)).await.unwrap();
    let earlier = "UPDATE schedules SET next_due = next_due - 60000000";
    store.database().write(earlier, Values::default()).await.unwrap();
    store.close().await;
}
