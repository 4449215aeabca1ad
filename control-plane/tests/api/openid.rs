//! Signing in with an account elsewhere: with a real issuer's forms, and with an issuer that lies.

use crate::{
    mails::{Browser, PASSWORD, signed_in, token},
    real::{Real, issuers, smtp},
    server::{Client, Server, answer},
};
use reqwest::Method;
use serde_json::json;
use std::collections::HashMap;
use url::Url;

const ADA: &str = "ada@example.com";
const START: &str = "/v1/auth/oauth/google/start";

/// A service that takes sign-ins from one of the issuers.
fn server(issuers: &Real, which: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    let text = |name: &str| issuers.hello[name].as_str().unwrap();
    std::fs::write(&secret, text("client_secret")).unwrap();
    let arguments = ["--openid-issuer", text(which), "--openid-client-id", text("client_id")];
    let secret = ["--openid-client-secret-file", secret.to_str().unwrap()];
    // The file is read before the server says hello.
    Server::start_with(None, &[arguments.as_slice(), &secret].concat())
}

/// A browser at the issuer, which asks who one is and whether one wants this.
pub(crate) struct AtIssuer {
    client: Client,
    cookies: HashMap<String, String>,
}

impl AtIssuer {
    pub(crate) fn new(server: &Server) -> Self {
        Self { client: server.anybody(), cookies: HashMap::new() }
    }

    /// Fills the issuer's forms; gives the path and query of the way back.
    pub(crate) async fn sign_in(&mut self, url: &str, login: &str) -> String {
        let mut url: Url = url.parse().unwrap();
        for _ in 0..10 {
            if url.path().starts_with("/v1/") {
                return format!("{}?{}", url.path(), url.query().unwrap());
            }
            let (location, page) = self.send(Method::GET, &url, None).await;
            url = match location {
                Some(location) => location,
                None => {
                    let form = match page.contains("name=\"login\"") {
                        true => format!("prompt=login&login={}&password=any", login.replace('?', "%3F")),
                        false => "prompt=consent".to_owned(),
                    };
                    let (action, _) = page.split_once("action=\"").unwrap().1.split_once('"').unwrap();
                    let action = url.join(&action.replace("&amp;", "&")).unwrap();
                    self.send(Method::POST, &action, Some(form)).await.0.expect("the form leads on")
                }
            };
        }
        panic!("the issuer sends the browser around in circles: {url}");
    }

    async fn send(&mut self, method: Method, url: &Url, form: Option<String>) -> (Option<Url>, String) {
        let mut request = self.client.at(method, url.as_str());
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        request = request.header("cookie", cookies.join("; "));
        if let Some(form) = form {
            request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        }
        let answer = answer(request).await;
        for line in answer.headers.get_all("set-cookie") {
            let (name, value) = line.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let location = answer.headers.get("location").map(|location| url.join(location.to_str().unwrap()).unwrap());
        (location, answer.body.as_str().unwrap_or_default().to_owned())
    }
}

/// Begins to sign in; gives the issuer's page.
async fn start(browser: &mut Browser, return_to: &str) -> String {
    let answer = browser.get(&format!("{START}?return_to={return_to}")).await;
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    answer.expect(303);
    location
}

/// Signs somebody in by the issuer; gives all of it that nobody else may see.
pub(crate) async fn secrets_of_signing_in(server: &Server) -> Vec<String> {
    let mut browser = Browser::new(server);
    let page: Url = start(&mut browser, "/").await.parse().unwrap();
    let mut secrets: Vec<String> = browser.cookies.iter().map(|(_, value)| value.clone()).collect();
    let back = AtIssuer::new(server).sign_in(page.as_str(), "1:ada@example.com").await;
    browser.get(&back).await.expect(303);
    let back: Url = format!("http://localhost{back}").parse().unwrap();
    let is_secret = |name: &str| matches!(name, "state" | "nonce" | "code");
    let pairs = page.query_pairs().chain(back.query_pairs());
    secrets.extend(pairs.filter(|(name, _)| is_secret(name)).map(|(_, value)| value.into_owned()));
    secrets.extend(browser.cookies.iter().map(|(_, value)| value.clone()));
    secrets
}

#[tokio::test]
async fn somebody_signs_in_with_an_account_elsewhere() {
    let Some(issuers) = issuers() else { return };
    let server = server(&issuers, "honest");
    let mut browser = Browser::new(&server);
    let page = start(&mut browser, "/runs").await;
    assert!(page.contains("code_challenge_method=S256") && page.contains("nonce="), "{page}");
    let back = AtIssuer::new(&server).sign_in(&page, "1:ada@example.com").await;

    // The way back is this browser's: another one cannot be signed in by it.
    Browser::new(&server).get(&back).await.refused(401, "NOT_AUTHENTICATED");
    let mut other = Browser::new(&server);
    start(&mut other, "/").await;
    other.get(&back).await.refused(401, "NOT_AUTHENTICATED");

    let finished = browser.get(&back).await;
    assert_eq!(finished.headers["location"], "/runs");
    finished.expect(303);
    let me = browser.get("/v1/auth/me").await.expect(200);
    assert_eq!((&me["user"]["email"], &me["user"]["display_name"]), (&json!(ADA), &json!("Name of 1")));
    assert_eq!((&me["has_password"], &me["linked_issuers"]), (&json!(false), &json!([issuers.hello["honest"]])));

    // Once.
    browser.get(&back).await.refused(401, "NOT_AUTHENTICATED");
    // The second time it is the same account.
    let mut again = Browser::new(&server);
    let page = start(&mut again, "/").await;
    let back = AtIssuer::new(&server).sign_in(&page, "1:ada@example.com").await;
    again.get(&back).await.expect(303);
    assert_eq!(again.get("/v1/auth/me").await.expect(200)["user"]["id"], me["user"]["id"]);
}

#[tokio::test]
async fn an_account_is_not_taken_over_by_its_address() {
    let Some(issuers) = issuers() else { return };
    let server = server(&issuers, "honest");
    let mut owner = signed_in(&server, ADA).await;
    let mut browser = Browser::new(&server);
    let page = start(&mut browser, "/").await;
    let back = AtIssuer::new(&server).sign_in(&page, "1:ada@example.com").await;
    browser.get(&back).await.refused(409, "ACCOUNT_EXISTS");

    // Its owner links it, from a page of ours only.
    let link = json!({ "return_to": "/settings" });
    let forged = server.anybody().with("cookie", &owner.cookie_header());
    forged.post(START, link.clone()).await.refused(403, "CROSS_SITE");
    let page = owner.post(START, link.clone()).await.expect(200)["authorization_url"].as_str().unwrap().to_owned();
    let back = AtIssuer::new(&server).sign_in(&page, "1:ada@example.com").await;
    let linked = owner.get(&back).await;
    assert_eq!(linked.headers["location"], "/settings");
    linked.expect(303);
    let page = start(&mut browser, "/").await;
    let back = AtIssuer::new(&server).sign_in(&page, "1:ada@example.com").await;
    browser.get(&back).await.expect(303);
    assert_eq!(browser.get("/v1/auth/me").await.expect(200)["user"]["email"], ADA);

    // What is linked to one account is not linked to another.
    let mut eve = signed_in(&server, "eve@example.com").await;
    let page = eve.post(START, link).await.expect(200)["authorization_url"].as_str().unwrap().to_owned();
    let back = AtIssuer::new(&server).sign_in(&page, "1:ada@example.com").await;
    eve.get(&back).await.refused(409, "IDENTITY_TAKEN");
}

#[tokio::test]
async fn an_address_that_the_issuer_has_not_verified_makes_no_account() {
    let Some(issuers) = issuers() else { return };
    let server = server(&issuers, "honest");
    let mut browser = Browser::new(&server);
    let page = start(&mut browser, "/").await;
    let back = AtIssuer::new(&server).sign_in(&page, "1:ada@example.com?").await;
    browser.get(&back).await.refused(403, "FORBIDDEN");
}

#[tokio::test]
async fn an_issuer_that_lies_is_not_believed() {
    let Some(issuers) = issuers() else { return };
    let server = server(&issuers, "lying");
    let mut browser = Browser::new(&server);
    for lie in ["issuer", "audience", "expired", "nonce", "signature", "unsigned", "missing"] {
        let back = way_back(&start(&mut browser, "/").await, lie);
        browser.get(&back).await.refused(401, "NOT_AUTHENTICATED");
    }
    // Another issuer's answer, sent on to us (RFC 9207).
    let back = way_back(&start(&mut browser, "/").await, "truth");
    browser.get(&format!("{back}&iss=https://accounts.example")).await.refused(401, "NOT_AUTHENTICATED");
    let page: Url = start(&mut browser, "/").await.parse().unwrap();
    let state = parameter(&page, "state");
    let denied = format!("/v1/auth/oauth/google/callback?state={state}&error=access_denied");
    browser.get(&denied).await.refused(401, "NOT_AUTHENTICATED");
    // The same without a lie.
    let back = way_back(&start(&mut browser, "/").await, "truth");
    browser.get(&back).await.expect(303);
    assert_eq!(browser.get("/v1/auth/me").await.expect(200)["user"]["email"], "mallory@example.com");
}

fn way_back(page: &str, lie: &str) -> String {
    let page: Url = page.parse().unwrap();
    let (state, nonce) = (parameter(&page, "state"), parameter(&page, "nonce"));
    format!("/v1/auth/oauth/google/callback?state={state}&code={lie}.{nonce}")
}

pub(crate) fn parameter(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(known, _)| known == name).unwrap().1.into_owned()
}

#[tokio::test]
async fn what_is_not_set_up_is_refused() {
    let server = Server::start();
    server.anybody().get(START).await.refused(404, "NOT_CONFIGURED");
    server.anybody().get("/v1/auth/oauth/google/callback?state=a&code=b").await.refused(404, "NOT_CONFIGURED");
}

#[tokio::test]
async fn an_issuer_that_is_away_is_named_and_no_way_leads_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let secret = secret.to_str().unwrap();
    let issuer = ["--openid-issuer", "http://127.0.0.1:1", "--openid-client-id", "x"];
    let server = Server::start_with(None, &[issuer.as_slice(), &["--openid-client-secret-file", secret]].concat());
    server.anybody().get(START).await.refused(503, "DEPENDENCY_UNAVAILABLE");
    server.anybody().get(&format!("{START}?return_to=//evil.example")).await.refused(422, "INVALID_FIELD");
}

#[tokio::test]
async fn mails_go_by_smtp_when_the_server_is_back() {
    // A port that is free now, so that nobody answers there at first.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("smtp");
    std::fs::write(&url, format!("smtp://127.0.0.1:{port}")).unwrap();
    let arguments = ["--smtp-url-file", url.to_str().unwrap(), "--mail-from", "Agents <agents@example.com>"];
    let server = Server::start_with(None, &arguments);
    server.anybody().post("/v1/auth/signup", json!({ "email": ADA })).await.expect(202);
    let Some(mut sink) = smtp(port) else { return };
    let arrived = sink.next();
    assert_eq!((&arrived["to"], &arrived["from"]), (&json!([ADA]), &json!("agents@example.com")));
    let token = token(arrived["text"].as_str().unwrap());
    server.anybody().post("/v1/auth/verify", json!({ "token": token, "password": PASSWORD })).await.expect(200);
}
