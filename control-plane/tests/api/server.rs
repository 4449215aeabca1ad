//! Starting the program's service, and speaking to it.

use agentruntime_tests::postgres;
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::Value;
use sqlx::{Connection, Row};
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// 32 bytes in base64: the key under which test services on a database server seal secrets.
const MASTER_KEY: &str = "dGhlIG1hc3RlciBrZXkgb2YgdGVzdHMsIDMyIGJ5dGU=";

/// A running service with its first workspace, project and token. Killed when dropped.
pub(crate) struct Server {
    process: Child,
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    /// The token of the first start, which may do everything in `dev`/`default`.
    pub(crate) token: String,
    /// The owner's other token, which is bound to no project.
    pub(crate) admin_token: String,
    /// The line that it printed.
    pub(crate) greeting: Value,
    /// The folder that everything of it lies in.
    pub(crate) folder: TempDir,
    /// Where its mails land.
    pub(crate) mails: PathBuf,
    /// What `--data` was.
    pub(crate) data: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The body as JSON; a string where it is something else.
    pub(crate) body: Value,
}

/// Somebody who speaks to the service.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    headers: Vec<(String, String)>,
}

/// Runs a test against a service on SQLite, and against one on PostgreSQL where the machine has it.
pub(crate) async fn on_both<F: Future<Output = ()>>(test: impl Fn(Server) -> F) {
    on_both_with(&[], test).await;
}

/// The same, with further arguments.
pub(crate) async fn on_both_with<F: Future<Output = ()>>(arguments: &[&str], test: impl Fn(Server) -> F) {
    test(Server::start_with(None, arguments)).await;
    if let Some(postgres) = postgres::server() {
        test(Server::start_with(Some(&postgres.database()), arguments)).await;
    }
}

/// The program, with nothing of this machine's user in reach.
pub(crate) struct Program;

impl Program {
    /// A command of the program.
    pub(crate) fn command(home: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentruntime"));
        command.env("HOME", home).env("AGENTRUNTIME_LOG", "warn").env_remove("AGENTRUNTIME_DATA");
        // One cache for all tests: the guest is compiled once.
        command.env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
        command
    }
}

impl Server {
    /// A service on SQLite.
    pub(crate) fn start() -> Self {
        Self::start_with(None, &[])
    }

    /// A service on SQLite that takes as many requests as come.
    pub(crate) fn unlimited() -> Self {
        Self::start_with(None, &["--requests-per-minute", "0", "--failed-authentications-per-minute", "0"])
    }

    /// A service on a database, with further arguments.
    pub(crate) fn start_with(database: Option<&str>, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = database.map_or_else(|| folder.path().join("data").to_str().unwrap().to_owned(), str::to_owned);
        Self::start_in(folder, data, arguments)
    }

    /// A service on a database server, which has no key to seal secrets with.
    pub(crate) fn start_without_key(database: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Self::command(&folder, database, &[]);
        command.env_remove("AGENTRUNTIME_MASTER_KEY");
        Self::launch(command, folder, database.to_owned())
    }

    /// A service whose log goes to a file.
    pub(crate) fn logging(log: &Path, arguments: &[&str]) -> Self {
        Self::logging_on(None, log, arguments)
    }

    /// The same on a database, or in another folder.
    pub(crate) fn logging_on(data: Option<&str>, log: &Path, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = data.map_or_else(|| folder.path().join("data").to_str().unwrap().to_owned(), str::to_owned);
        let mut command = Self::command(&folder, &data, arguments);
        command.stderr(std::fs::File::create(log).unwrap());
        Self::launch(command, folder, data)
    }

    fn start_in(folder: TempDir, data: String, arguments: &[&str]) -> Self {
        Self::launch(Self::command(&folder, &data, arguments), folder, data)
    }

    fn command(folder: &TempDir, data: &str, arguments: &[&str]) -> Command {
        let mut command = Program::command(folder.path());
        command.args(["dev", "--json", "--listen", "127.0.0.1:0", "--data", data]).args(arguments);
        // A data folder has a key of its own; a database has the one that is given.
        if data.starts_with("postgres:") {
            command.env("AGENTRUNTIME_MASTER_KEY", MASTER_KEY);
        }
        command
    }

    fn launch(mut command: Command, folder: TempDir, data: String) -> Self {
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let greeting: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| greeting[name].as_str().unwrap_or_default().to_owned();
        let (url, token, admin_token, mails) = (text("url"), text("token"), text("admin_token"), text("mail").into());
        Self { process, url, token, admin_token, greeting, mails, folder, data }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> String {
        self.url.split_once("://").unwrap().1.to_owned()
    }

    /// The id of its process.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Sends the process a signal.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// A service on a copy of another's data, with its tokens.
    pub(crate) fn on_the_data_of(other: &Self, data: &str) -> Self {
        let mut copy = Self::start_in(tempfile::tempdir().unwrap(), data.to_owned(), &[]);
        copy.token.clone_from(&other.token);
        copy.admin_token.clone_from(&other.admin_token);
        copy
    }

    /// What a start on this data is refused with; the service itself has ended. The key of tests is not given.
    pub(crate) fn refused_start(&self, arguments: &[&str]) -> Value {
        let mut command = Self::command(&self.folder, &self.data, arguments);
        let output = command.env_remove("AGENTRUNTIME_MASTER_KEY").stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8(output.stderr).unwrap();
        serde_json::from_str(told.lines().last().unwrap()).unwrap()
    }

    /// The same service on the same data, without the key of tests and with further arguments.
    pub(crate) fn restart_keyless_with(mut self, arguments: &[&str]) -> Self {
        self.kill();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        let mut command = Self::command(&folder, &self.data, arguments);
        command.env_remove("AGENTRUNTIME_MASTER_KEY");
        let mut next = Self::launch(command, folder, self.data.clone());
        next.token.clone_from(&self.token);
        next.admin_token.clone_from(&self.admin_token);
        next
    }

    /// Waits for the end of the process and gives its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.process.wait().unwrap().code()
    }

    /// The same with further arguments.
    pub(crate) fn restart_with(self, arguments: &[&str]) -> Self {
        self.restart_by(|folder, data| Self::command(folder, data, arguments))
    }

    /// The same, with a log that goes to a file.
    pub(crate) fn restart_logging(self, log: &Path, arguments: &[&str]) -> Self {
        self.restart_by(|folder, data| {
            let mut command = Self::command(folder, data, arguments);
            command.stderr(std::fs::File::create(log).unwrap());
            command
        })
    }

    fn restart_by(mut self, command: impl FnOnce(&TempDir, &str) -> Command) -> Self {
        self.kill();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        let command = command(&folder, &self.data);
        let mut next = Self::launch(command, folder, self.data.clone());
        next.token.clone_from(&self.token);
        next.admin_token.clone_from(&self.admin_token);
        next
    }

    /// Kills the process and starts another on the same data. Its tokens stay known here.
    pub(crate) fn restart(self) -> Self {
        self.restart_with(&[])
    }

    /// Tells the process to end, waits until it has, and starts another on the same data.
    pub(crate) fn end_in_order(mut self) -> Self {
        let told = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().unwrap();
        assert!(told.success() && self.process.wait().unwrap().success());
        self.restart()
    }

    /// Kills the process at once.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// The owner, by the token of the first start.
    pub(crate) fn owner(&self) -> Client {
        self.holder(&self.token)
    }

    /// The owner, by the token for the whole workspace.
    pub(crate) fn admin(&self) -> Client {
        self.holder(&self.admin_token)
    }

    /// Whoever holds a token.
    pub(crate) fn holder(&self, token: &str) -> Client {
        self.anybody().with("authorization", &format!("Bearer {token}"))
    }

    /// Somebody without a credential.
    pub(crate) fn anybody(&self) -> Client {
        Client::of(&self.url)
    }

    /// Changes rows behind the service's back, by a statement with one value.
    pub(crate) async fn change(&self, statement: &'static str, value: &str) {
        assert_eq!(self.change_all(statement, value).await, 1, "{statement}");
    }

    /// The same with any number of rows; how many.
    pub(crate) async fn change_all(&self, statement: &'static str, value: &str) -> u64 {
        let location = match self.data.starts_with("postgres:") {
            true => self.data.clone(),
            false => format!("sqlite:{}/journal.db", self.data),
        };
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&location).await.unwrap();
        let changed = sqlx::query(statement).bind(value).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        changed.rows_affected()
    }

    /// All that it leaves behind, by where it lies: its files, and the rows of a database server.
    pub(crate) async fn kept(&self) -> Vec<(String, Vec<u8>)> {
        let mut kept = Vec::new();
        files(self.folder.path(), &mut kept);
        if self.data.starts_with("postgres:") {
            rows(&self.data, &mut kept).await;
        }
        assert!(!kept.is_empty(), "a service keeps something");
        kept
    }

    /// The memory that the process holds, in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Client {
    /// Somebody without a credential, at a server.
    pub(crate) fn of(base: &str) -> Self {
        // Whoever comes second finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, base: base.to_owned(), headers: Vec::new() }
    }

    /// The same with a header more, or another value of it.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.retain(|(known, _)| known != name);
        other.also(name, value)
    }

    /// The same client with one more header, also where it has one of that name.
    pub(crate) fn also(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.push((name.to_owned(), value.to_owned()));
        other
    }

    /// The value of a header that it sends.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The same without a header.
    pub(crate) fn without(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.headers.retain(|(known, _)| known != name);
        other
    }

    /// The same at another address.
    pub(crate) fn elsewhere(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    /// The same by another HTTP client.
    pub(crate) fn through(&self, http: reqwest::Client) -> Self {
        Self { http, ..self.clone() }
    }

    /// Any request, to be completed.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
    }

    /// A request to another server.
    pub(crate) fn at(&self, method: Method, url: &str) -> reqwest::RequestBuilder {
        self.http.request(method, url)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        answer(self.request(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        answer(self.request(Method::PATCH, path).json(&body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        answer(self.request(Method::PUT, path).json(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path)).await
    }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, headers, body }
}

impl Answer {
    /// The body, if the status is that.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{:#}", self.body);
        self.body
    }

    /// Checks that it is a refusal with this status and code, in the form that every refusal has.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status.as_u16(), self.body["code"].as_str()), (status, Some(code)), "{:#}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.headers["x-request-id"].to_str().unwrap(), self.body["request_id"].as_str().unwrap());
        assert!(self.body["error"].as_str().is_some_and(|sentence| !sentence.is_empty()));
        self.body
    }
}

/// A certificate for `localhost`, made by openssl; none where the machine has no openssl.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) fn certificate(folder: &Path, name: &str) -> Option<(String, String)> {
    let place = |end: &str| folder.join(format!("{name}.{end}")).to_str().unwrap().to_owned();
    let (certificate, key) = (place("crt"), place("key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &key, "-out", &certificate])
        .output();
    match made {
        Ok(output) if output.status.success() => Some((certificate, key)),
        _ => {
            eprintln!("skipped: the program openssl is not here");
            None
        }
    }
}

fn files(folder: &Path, kept: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, kept),
            false => kept.push((path.display().to_string(), std::fs::read(&path).unwrap())),
        }
    }
}

async fn rows(database: &str, kept: &mut Vec<(String, Vec<u8>)>) {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(database).await.unwrap();
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'";
    for table in sqlx::query(tables).fetch_all(&mut connection).await.unwrap() {
        let table: String = table.get(0);
        let rows = sqlx::AssertSqlSafe(format!("SELECT row_text::text FROM \"{table}\" AS row_text"));
        for row in sqlx::query(rows).fetch_all(&mut connection).await.unwrap() {
            kept.push((format!("the table {table}"), row.get::<String, _>(0).into_bytes()));
        }
    }
    connection.close().await.unwrap();
}
