//! Reading a developer's mails, and getting an account through them.

use crate::server::{Answer, Client, Server, answer};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// A password that is good enough.
pub(crate) const PASSWORD: &str = "correct horse battery";
/// A mail is in the folder before this, or never.
const MAIL_MAX: Duration = Duration::from_secs(20);

/// Waits for the newest mail to an address with a subject.
pub(crate) async fn mail(folder: &Path, to: &str, subject: &str) -> String {
    let deadline = Instant::now() + MAIL_MAX;
    loop {
        let files = std::fs::read_dir(folder).into_iter().flatten().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "eml")).collect();
        files.sort();
        let mut texts = files.iter().rev().map(|path| std::fs::read_to_string(path).unwrap());
        let is_meant = |text: &String| {
            text.contains(&format!("To: {to}\r\n")) && text.contains(&format!("Subject: {subject}\r\n"))
        };
        if let Some(text) = texts.find(is_meant) {
            return text;
        }
        assert!(Instant::now() < deadline, "no mail to {to} about {subject}");
        tokio::task::yield_now().await;
    }
}

/// The token in a mail.
pub(crate) fn token(mail: &str) -> String {
    let token = mail.lines().find_map(|line| line.strip_prefix("  ")).unwrap();
    assert_eq!(token.len(), 43, "{mail}");
    token.to_owned()
}

/// A browser: keeps the cookies that it is given, and a page's token against cross-site requests.
pub(crate) struct Browser {
    pub(crate) client: Client,
    pub(crate) cookies: Vec<(String, String)>,
    pub(crate) csrf: String,
}

impl Browser {
    pub(crate) fn new(server: &Server) -> Self {
        Self { client: server.anybody(), cookies: Vec::new(), csrf: String::new() }
    }

    /// Sends a request as a page would.
    pub(crate) async fn send(&mut self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.client.request(method, path).header("x-csrf-token", &self.csrf);
        if !self.cookies.is_empty() {
            request = request.header("cookie", self.cookie_header());
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = answer(request).await;
        for line in answer.headers.get_all("set-cookie") {
            let pair = line.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        if let Some(csrf) = answer.body["csrf_token"].as_str() {
            self.csrf = csrf.to_owned();
        }
        answer
    }

    pub(crate) fn cookie_header(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn sign_in(&mut self, email: &str, password: &str) -> Answer {
        self.post("/v1/auth/login", json!({ "email": email, "password": password })).await
    }
}

/// Signs up and proves the address.
pub(crate) async fn sign_up(server: &Server, email: &str) {
    server.anybody().post("/v1/auth/signup", json!({ "email": email })).await.expect(202);
    let token = token(&mail(&server.mails, email, "Confirm your address").await);
    let body = json!({ "token": token, "password": PASSWORD });
    let user = server.anybody().post("/v1/auth/verify", body).await.expect(200);
    assert_eq!(user["email"], email);
}

/// A browser that is signed in to a new account.
pub(crate) async fn signed_in(server: &Server, email: &str) -> Browser {
    sign_up(server, email).await;
    let mut browser = Browser::new(server);
    browser.sign_in(email, PASSWORD).await.expect(200);
    browser
}
