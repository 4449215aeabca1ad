//! Requests against servers that do what they like.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use agentruntime_egress::{
    Egress, EgressConfig, EgressError, LineLimits, Lookup, Reach, Reply, Secret, Send as Sending,
};
use agentruntime_host_api::{Act, Fetch, HostPattern, HostRequest};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::TryStreamExt;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const SECRET: &str = "sk-live-0123456789";

/// A server that answers each request, as it came, with the bytes that some function makes of it.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                tokio::spawn(serve(stream, answer.clone()));
            }
        });
        Self { port, connections }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn origin(&self) -> String {
        self.url("")
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<impl Fn(&str) -> Vec<u8>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
    let bytes = answer(&String::from_utf8_lossy(&request));
    // A client that has had enough closes.
    let _ = stream.write_all(&bytes).await;
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

fn redirect(status: u16, to: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into_bytes()
}

/// A name service that says what it is told, one answer after the other, and the last for ever; it notes what it is asked.
#[derive(Debug)]
struct Told {
    answers: Mutex<Vec<Vec<IpAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Told {
    fn of(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|it| it.parse().unwrap()).collect();
        Arc::new(Self { answers: Mutex::new(answers.iter().map(parse).collect()), asked: Mutex::default() })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Lookup for Told {
    fn lookup(&self, host: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        self.asked.lock().unwrap().push(host);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Box::pin(std::future::ready(Ok(answer)))
    }
}

fn egress(config: EgressConfig) -> Egress {
    // The first one wins, and all are the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Egress::new(config).unwrap()
}

/// One that reaches the servers of these tests.
fn local() -> Egress {
    egress(EgressConfig {
        reach: Reach { allowed: vec!["127.0.0.1/32".parse().unwrap()] },
        reply_bytes_max: 1_000,
        ..EgressConfig::default()
    })
}

fn fetch(arguments: Value) -> Fetch {
    let request = HostRequest { number: 0, capability: "http.fetch".into(), arguments: arguments.into() };
    match Act::read(&request).unwrap() {
        Act::Fetch(fetch) => fetch,
        other => unreachable!("{other:?}"),
    }
}

fn hosts(origins: &[String]) -> Vec<HostPattern> {
    origins.iter().map(|origin| origin.parse().unwrap()).collect()
}

async fn send(egress: &Egress, arguments: Value, granted: &[String]) -> Result<Reply, EgressError> {
    send_with(egress, arguments, granted, granted).await
}

/// Sends with a secret `key` that may go to some hosts.
async fn send_with(
    egress: &Egress,
    arguments: Value,
    granted: &[String],
    bound: &[String],
) -> Result<Reply, EgressError> {
    let secret = Secret { value: SecretString::from(SECRET), hosts: hosts(bound) };
    let secrets = BTreeMap::from([("key".to_owned(), secret)]);
    let (fetch, granted) = (fetch(arguments), hosts(granted));
    egress
        .send(Sending { fetch: &fetch, hosts: &granted, secrets: &secrets, idempotency_key: Some("run/step/0") })
        .await
}

fn with_key(url: String) -> Value {
    json!({ "url": url, "headers": { "authorization": { "$text": ["Bearer ", { "$secret": "key" }] } } })
}

#[tokio::test]
async fn a_secret_is_put_in_at_the_wire_and_taken_out_of_what_is_echoed() {
    let seen = Arc::new(Mutex::new(String::new()));
    let heard = seen.clone();
    let server = Server::start(move |request| {
        *heard.lock().unwrap() = request.to_owned();
        let body = format!("{request} {} {}", BASE64_STANDARD.encode(request), SECRET);
        format!("HTTP/1.1 200 OK\r\nx-echo: {SECRET}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    })
    .await;
    let reply = send(&local(), with_key(server.url("/x")), &[server.origin()]).await.unwrap();
    let request = seen.lock().unwrap().to_ascii_lowercase();
    assert!(request.starts_with("get /x http/1.1\r\n"), "{request}");
    for line in
        [&*format!("authorization: bearer {SECRET}"), "idempotency-key: run/step/0", "accept-encoding: identity"]
    {
        assert!(request.contains(line), "{line} in {request}");
    }
    let reply = reply.into_json();
    assert_eq!((&reply["status"], &reply["headers"]["x-echo"]), (&json!(200), &json!("[redacted]")));
    let body = reply["body"].as_str().unwrap();
    assert_eq!(body.matches("[redacted]").count(), 3, "{body}");
    assert!(!reply.to_string().contains(SECRET));
}

#[tokio::test]
async fn a_secret_that_a_server_makes_a_host_or_the_name_of_a_header_of_is_told_to_nobody() {
    let secret = "SK-live-0123456789";
    let server = Server::start(move |request| match request {
        request if request.contains("/away") => redirect(302, &format!("http://{secret}.example/")),
        request if request.contains("/inside") => redirect(302, &format!("http://{secret}.test.example/")),
        _ => format!("HTTP/1.1 200 OK\r\n{secret}: 1\r\ncontent-length: 0\r\n\r\n").into_bytes(),
    })
    .await;
    let lookup = Told::of(&[&["10.0.0.1"]]);
    let reach = Reach { allowed: vec!["127.0.0.1/32".parse().unwrap()] };
    let egress = egress(EgressConfig { lookup, reach, ..EgressConfig::default() });
    let granted = hosts(&[server.origin(), "http://*.test.example".into()]);
    let kept = Secret { value: SecretString::from(secret), hosts: granted.clone() };
    let secrets = BTreeMap::from([("key".to_owned(), kept)]);
    let ask = async |path: &str| {
        let fetch = fetch(with_key(server.url(path)));
        egress.send(Sending { fetch: &fetch, hosts: &granted, secrets: &secrets, idempotency_key: None }).await
    };
    // Both are read in lower case, whatever the server wrote.
    let away = ask("/away").await.unwrap_err();
    assert!(matches!(&away, EgressError::RedirectNotGranted { to, .. } if to == "[redacted].example"), "{away}");
    let inside = ask("/inside").await.unwrap_err().to_string();
    assert!(inside.contains("10.0.0.1") && !inside.contains("sk-live"), "{inside}");
    let reply = ask("/").await.unwrap();
    assert_eq!(reply.headers["[redacted]"], "1", "{reply:?}");
}

#[tokio::test]
async fn a_secret_goes_to_no_host_but_its_own() {
    let server = Server::start(|_| ok("")).await;
    let elsewhere = "https://api.example.com".to_owned();
    let error = send_with(&local(), with_key(server.url("/")), &[server.origin()], &[elsewhere]).await.unwrap_err();
    assert!(matches!(&error, EgressError::SecretNotForHost { name, .. } if name == "key"), "{error}");
    assert!(error.is_denial() && error.to_string().contains("allows api.example.com"), "{error}");
    let error = send_with(&local(), with_key(server.url("/")), &[server.origin()], &[]).await.unwrap_err();
    assert!(error.to_string().contains("allows no host"), "{error}");
    assert_eq!(server.connections.load(SeqCst), 0);
}

#[tokio::test]
async fn addresses_that_are_not_public_are_not_connected_to_however_they_are_spelled() {
    let server = Server::start(|_| ok("")).await;
    let egress = egress(EgressConfig::default());
    let port = server.port;
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"] {
        let origin = format!("http://{host}:{port}");
        let error = send(&egress, json!({ "url": origin }), std::slice::from_ref(&origin)).await.expect_err(host);
        assert!(matches!(error, EgressError::OutOfReach(_)) && error.is_denial(), "{host}: {error}");
    }
    for host in ["169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "100.100.100.200"] {
        let origin = format!("http://{host}");
        let error = send(&egress, json!({ "url": origin }), std::slice::from_ref(&origin)).await.expect_err(host);
        assert!(error.to_string().contains("egress_allowed_networks"), "{error}");
    }
    assert_eq!(server.connections.load(SeqCst), 0);
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_connected_to_and_one_that_changes_is_connected_to_where_it_was_checked() {
    let server = Server::start(|_| ok("here")).await;
    let origin = format!("http://rebind.test:{}", server.port);
    let granted = std::slice::from_ref(&origin);
    let told = Told::of(&[&["127.0.0.1", "169.254.169.254"]]);
    let inside = egress(EgressConfig { lookup: told.clone(), ..EgressConfig::default() });
    let error = send(&inside, json!({ "url": origin }), granted).await.unwrap_err();
    assert!(matches!(error, EgressError::OutOfReach(_)), "{error}");
    assert_eq!((server.connections.load(SeqCst), told.asked()), (0, vec!["rebind.test".to_owned()]));

    // The first answer is one that may be reached; a second question would be answered with another.
    let told = Told::of(&[&["127.0.0.1"], &["169.254.169.254"]]);
    let reach = Reach { allowed: vec!["127.0.0.1/32".parse().unwrap()] };
    let checked = egress(EgressConfig { lookup: told.clone(), reach, ..EgressConfig::default() });
    let reply = send(&checked, json!({ "url": origin }), granted).await.unwrap();
    assert_eq!((reply.body.as_slice(), told.asked().len()), (b"here".as_slice(), 1));
    let error = send(&checked, json!({ "url": origin }), granted).await.unwrap_err();
    assert!(matches!(error, EgressError::OutOfReach(_)), "asked anew for a new connection: {error}");
    // Of two addresses, the one that may be reached is taken.
    let told = Told::of(&[&["10.0.0.1", "127.0.0.1"]]);
    let reach = Reach { allowed: vec!["127.0.0.1/32".parse().unwrap()] };
    let mixed = egress(EgressConfig { lookup: told, reach, ..EgressConfig::default() });
    assert_eq!(send(&mixed, json!({ "url": origin }), granted).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_redirect_goes_where_the_request_itself_might_have_gone() {
    let target = Server::start(ok).await;
    let to = target.url("/there");
    let server = Server::start(move |request| {
        let status = request.split(['/', ' ']).nth(2).and_then(|it| it.parse().ok()).unwrap_or(302);
        redirect(status, &to)
    })
    .await;
    let both = [server.origin(), target.origin()];
    let post = |status: u16| {
        let mut arguments = with_key(server.url(&format!("/{status}")));
        arguments["method"] = json!("POST");
        arguments["json"] = json!({ "a": 1 });
        arguments["headers"]["x-own"] = json!("kept");
        arguments
    };
    for (status, line) in
        [(303, "GET /there"), (302, "GET /there"), (301, "GET /there"), (307, "POST /there"), (308, "POST /there")]
    {
        let reply = send(&local(), post(status), &both).await.unwrap();
        let request = String::from_utf8(reply.body).unwrap();
        assert!(request.starts_with(line), "{status}: {request}");
        assert!(request.contains("x-own: kept") && !request.contains("authorization"), "{status}: {request}");
        assert_eq!(request.contains("content-type"), line.starts_with("POST"), "{status}: {request}");
    }
    let error = send(&local(), post(302), &[server.origin()]).await.unwrap_err();
    assert!(matches!(error, EgressError::RedirectNotGranted { .. }), "{error}");
}

#[tokio::test]
async fn a_redirect_into_the_inside_or_without_end_leads_nowhere() {
    let server = Server::start(|request| match request {
        request if request.contains("/meta") => redirect(302, "http://169.254.169.254/latest/meta-data"),
        request if request.contains("/file") => redirect(302, "file:///etc/passwd"),
        _ => redirect(302, "/again"),
    })
    .await;
    let granted = [server.origin(), "http://169.254.169.254".into()];
    let error = send(&local(), json!({ "url": server.url("/meta") }), &granted).await.unwrap_err();
    assert!(matches!(error, EgressError::OutOfReach(_)), "{error}");
    let error = send(&local(), json!({ "url": server.url("/file") }), &granted).await.unwrap_err();
    assert!(matches!(error, EgressError::RedirectNotGranted { .. }), "{error}");
    let error = send(&local(), json!({ "url": server.url("/") }), &granted).await.unwrap_err();
    assert!(matches!(error, EgressError::TooManyRedirects(_)), "{error}");
}

#[tokio::test]
async fn replies_end_at_their_limits() {
    let server = Server::start(|request| {
        let body = |len: usize| ok(&"x".repeat(len));
        match request {
            request if request.contains("/fits") => body(1_000),
            request if request.contains("/more") => body(1_001),
            request if request.contains("/chunks") => {
                let mut endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
                endless.extend(
                    "400\r\n"
                        .bytes()
                        .chain(std::iter::repeat_n(b'x', 0x400))
                        .chain("\r\n".bytes())
                        .collect::<Vec<_>>()
                        .repeat(100),
                );
                endless
            }
            request if request.contains("/headers") => {
                format!("HTTP/1.1 200 OK\r\nx-long: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(1_100)).into_bytes()
            }
            request if request.contains("/lies") => b"HTTP/1.1 200 OK\r\ncontent-length: 5000000000\r\n\r\nx".to_vec(),
            request if request.contains("/binary") => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\x00".to_vec(),
            _ => b"not HTTP at all\r\n\r\n".to_vec(),
        }
    })
    .await;
    let get = |path: &str| json!({ "url": server.url(path) });
    let (egress, granted) = (local(), [server.origin()]);
    assert_eq!(send(&egress, get("/fits"), &granted).await.unwrap().body.len(), 1_000);
    for path in ["/more", "/chunks", "/headers"] {
        let error = send(&egress, get(path), &granted).await.expect_err(path);
        assert!(matches!(error, EgressError::TooLarge { limit: 1_000, .. }), "{path}: {error}");
    }
    for path in ["/lies", "/nonsense"] {
        let error = send(&egress, get(path), &granted).await.expect_err(path);
        assert!(matches!(error, EgressError::Unreachable { .. }) && !error.is_denial(), "{path}: {error}");
    }
    let binary = send(&egress, get("/binary"), &granted).await.unwrap().into_json();
    assert_eq!(binary["body_base64"], "/wA=");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_waited_for_as_long_as_was_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let error =
        send(&local(), json!({ "url": origin, "timeout_s": 0.05 }), std::slice::from_ref(&origin)).await.unwrap_err();
    assert!(matches!(error, EgressError::TimedOut { seconds, .. } if seconds == 0.05), "{error}");
}

#[tokio::test]
async fn a_compressed_body_is_not_unpacked() {
    // What gzip makes of nothing but zeros could become a thousand times as large.
    let server = Server::start(|_| {
        let mut reply = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n".to_vec();
        reply.extend([0x1f, 0x8b, 0x08, 0x00]);
        reply
    })
    .await;
    let reply = send(&local(), json!({ "url": server.origin() }), &[server.origin()]).await.unwrap();
    assert_eq!(reply.body, [0x1f, 0x8b, 0x08, 0x00]);
}

/// What comes of a stream, read by lines.
async fn lines(body: Vec<u8>, limits: LineLimits) -> Result<Vec<String>, EgressError> {
    let server = Server::start(move |_| {
        [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n", &*body].concat()
    })
    .await;
    let secret = Secret { value: SecretString::from(SECRET), hosts: hosts(&[server.origin()]) };
    let (fetch, granted) = (fetch(json!({ "url": server.url("/") })), hosts(&[server.origin()]));
    let secrets = BTreeMap::from([("key".to_owned(), secret)]);
    let sending = Sending { fetch: &fetch, hosts: &granted, secrets: &secrets, idempotency_key: None };
    let opened = local().open(sending).await.unwrap();
    assert_eq!((opened.status, &*opened.headers["content-type"]), (200, "text/event-stream"));
    opened.lines(limits).map_ok(|line| String::from_utf8(line).unwrap()).try_collect().await
}

#[tokio::test]
async fn a_stream_is_read_by_lines_without_secrets() {
    let limits = LineLimits { line_bytes_max: 100_000, bytes_max: 1_000_000 };
    let escaped: String = SECRET.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let body = format!("data: a\r\ndata: {SECRET}\ndata: \"{escaped}\"\n\n{}\nlast", "x".repeat(90_000));
    let found = lines(body.into_bytes(), limits).await.unwrap();
    let long = format!("{}\n", "x".repeat(90_000));
    assert_eq!(found, ["data: a\r", "\n", "data: [redacted]\n", "data: \"[redacted]\"\n", "\n", &long, "last"]);
}

#[tokio::test]
async fn a_stream_is_not_read_beyond_its_limits() {
    let limits = LineLimits { line_bytes_max: 1_000, bytes_max: 100_000 };
    assert_eq!(lines(b"a\n".repeat(50_000), limits).await.unwrap().len(), 50_000);
    let error = lines(b"a\n".repeat(50_001), limits).await.unwrap_err();
    assert!(matches!(error, EgressError::TooLarge { limit: 100_000, .. }), "{error}");
    let line = |length: usize| [vec![b'a'; length - 1], b"\n".to_vec()].concat();
    assert_eq!(lines(line(1_000), limits).await.unwrap().len(), 1);
    for too_long in [line(1_001), vec![b'a'; 90_000]] {
        let error = lines(too_long, limits).await.unwrap_err();
        assert!(matches!(error, EgressError::TooLarge { limit: 1_000, .. }), "{error}");
    }
}
