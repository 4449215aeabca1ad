//! The process that serves: settings, the end, health, encryption, the log.

use crate::{
    server::{Client, Program, Server, certificate},
    workflow::{Workflow, failing, greeting},
};
use reqwest::Method;
use serde_json::json;
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    process::Stdio,
};

#[tokio::test]
async fn health_says_what_works() {
    let server = Server::start();
    assert_eq!(server.anybody().get("/healthz").await.expect(200)["status"], "alive");
    let ready = server.anybody().get("/readyz").await.expect(200);
    assert_eq!(ready["checks"], json!({ "database": true, "storage": true, "node": true, "accepting": true }));
    server.anybody().post("/readyz", json!({})).await.refused(405, "METHOD_NOT_ALLOWED");
}

#[tokio::test]
async fn numbers_are_for_this_machine() {
    let server = Server::start();
    server.owner().get("/v1/workflows").await.expect(200);
    let numbers = server.anybody().get("/metrics").await.expect(200);
    let numbers = numbers.as_str().unwrap();
    let counted = r#"agentruntime_http_requests_total{method="GET",route="/v1/workflows",status="200"} 1"#;
    assert!(numbers.contains(counted), "{numbers}");
    assert!(numbers.contains("agentruntime_active_runs 0"), "{numbers}");
    // Whoever comes through a proxy is not on this machine, though the proxy may be; nor is a page whose name was rebound.
    for (name, value) in [("x-forwarded-for", "9.9.9.9"), ("host", "agents.example.com")] {
        server.anybody().with(name, value).get("/metrics").await.refused(404, "ROUTE_NOT_FOUND");
    }
}

/// A proxy on this machine may say nothing about whom it speaks for: a service for others does not guess.
#[tokio::test]
async fn a_service_for_others_tells_numbers_only_at_their_own_address() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (listen, metrics) = (free(), free());
    let mut command = Program::command(folder.path());
    command.args(["serve", "--listen", &listen, "--metrics-listen", &metrics, "--data", data.to_str().unwrap()]);
    let mut command_without = Program::command(folder.path());
    command_without.args(["serve", "--listen", &listen, "--data", data.to_str().unwrap()]);
    for (command, has_address) in [(&mut command, true), (&mut command_without, false)] {
        let mut service = command.spawn().unwrap();
        let here = Client::of(&format!("http://{listen}"));
        // It listens some time soon.
        while here.request(Method::GET, "/healthz").send().await.is_err() {}
        here.get("/metrics").await.refused(404, "ROUTE_NOT_FOUND");
        if has_address {
            here.elsewhere(&format!("http://{metrics}")).get("/metrics").await.expect(200);
        }
        service.kill().unwrap();
        service.wait().unwrap();
    }
}

#[tokio::test]
async fn numbers_can_have_an_address_of_their_own() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let server = Server::start_with(None, &["--metrics-listen", &address]);
    server.anybody().get("/metrics").await.refused(404, "ROUTE_NOT_FOUND");
    let alone = server.anybody().elsewhere(&format!("http://{address}"));
    assert!(alone.get("/metrics").await.expect(200).as_str().unwrap().contains("agentruntime_"));
    assert_eq!(alone.get("/v1/workflows").await.status, 404);
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_under_way_finishes_and_nothing_new_begins() {
    let mut server = Server::start();
    // Half of a request: its head is there, so that it is under way.
    let mut half = TcpStream::connect(server.address()).unwrap();
    let body = r#"{"name":"late","graph":{}}"#;
    let head = format!(
        "POST /v1/workflows HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        server.token,
        body.len()
    );
    std::io::Write::write_all(&mut half, head.as_bytes()).unwrap();
    // The server asks for the body as soon as the handler reads it.
    let mut asked = [0; 25];
    half.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    server.signal("TERM");
    // New connections are refused as soon as it heard.
    while TcpStream::connect(server.address()).is_ok() {
        std::thread::yield_now();
    }
    std::io::Write::write_all(&mut half, body.as_bytes()).unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(server.ended(), Some(0));
    let server = server.restart();
    let kept = server.owner().get("/v1/workflows").await.expect(200);
    assert_eq!(kept["items"][0]["name"], "late");
}

#[cfg(unix)]
#[tokio::test]
async fn a_second_word_ends_it_at_once() {
    let mut server = Server::start();
    let mut half = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "POST /v1/workflows HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\ncontent-length: 100\r\n\r\n",
        server.token
    );
    std::io::Write::write_all(&mut half, head.as_bytes()).unwrap();
    half.read_exact(&mut [0; 25]).unwrap();
    server.signal("TERM");
    while TcpStream::connect(server.address()).is_ok() {
        std::thread::yield_now();
    }
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
}

/// Between the two lie microseconds, so that once says little.
#[cfg(unix)]
#[test]
fn whoever_has_read_how_the_server_is_reached_can_end_it_in_order() {
    let mut server = Server::start();
    for _ in 0..10 {
        server.signal("TERM");
        assert_eq!(server.ended(), Some(0));
        server = server.restart_with(&[]);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_load_balancer_is_given_notice_before_the_end() {
    let mut server = Server::start_with(None, &["--drain-notice-seconds", "3600"]);
    server.anybody().get("/readyz").await.expect(200);
    server.signal("TERM");
    while server.anybody().get("/readyz").await.status == 200 {}
    let told = server.anybody().get("/readyz").await.refused(503, "NOT_READY");
    assert_eq!(told["details"]["checks"]["accepting"], false);
    // Everything else is served as before, also by new connections.
    server.owner().get("/v1/workflows").await.expect(200);
    server.anybody().get("/healthz").await.expect(200);
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    let mut server = server.restart_with(&["--drain-notice-seconds", "1"]);
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn settings_are_checked_as_a_whole_and_shown_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agentruntime.toml");
    fs::write(&file, "listen = \"127.0.0.1:9000\"\nlog_format = \"json\"\n").unwrap();
    let check = |variables: &[(&str, &str)]| {
        let mut command = Program::command(folder.path());
        command.arg("serve").arg("--check").arg("--config").arg(&file).args(["--connections-max", "5"]);
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let output = check(&[("AGENTRUNTIME_SMTP_URL", "smtps://me:hush@mail"), ("AGENTRUNTIME_DRAIN_SECONDS", "7")]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(shown.contains("listen = \"127.0.0.1:9000\"") && shown.contains("agentruntime.toml, line 1"), "{shown}");
    assert!(shown.contains("connections_max = 5  # --connections-max"), "{shown}");
    assert!(shown.contains("drain_seconds = 7  # AGENTRUNTIME_DRAIN_SECONDS"), "{shown}");
    assert!(shown.contains("smtp_url = \"(secret)\"") && !shown.contains("hush"), "{shown}");
    let output = check(&[("AGENTRUNTIME_DRAIN_SECONDS", "soon"), ("AGENTRUNTIME_BODY_BYTES_MAX", "1")]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(told.contains("AGENTRUNTIME_DRAIN_SECONDS") && told.contains("AGENTRUNTIME_BODY_BYTES_MAX"), "{told}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_a_remedy() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Program::command(folder.path());
    let output = command.args(["dev", "--json", "--listen", &server.address()]).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(told["code"], "CANNOT_LISTEN");
    assert!(told["error"].as_str().unwrap().contains("--listen 127.0.0.1:0"));
}

#[tokio::test]
async fn a_lost_token_can_be_replaced() {
    let mut server = Server::start();
    server.kill();
    let first = server.token.clone();
    let server = server.restart_with(&["--new-token"]);
    let made = server.greeting["token"].as_str().unwrap();
    assert_ne!(made, first);
    server.owner().with("authorization", &format!("Bearer {made}")).get("/v1/workflows").await.expect(200);
    server.owner().get("/v1/workflows").await.expect(200);
}

#[test]
fn new_tokens_beside_a_running_service_are_refused_with_a_remedy() {
    let server = Server::start();
    for listen in [server.address(), "127.0.0.1:0".to_owned()] {
        let mut command = Program::command(server.folder.path());
        command.args(["dev", "--json", "--new-token", "--data", &server.data, "--listen", &listen]);
        let output = command.output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(told["code"], "DATA_IN_USE", "{told}");
        let sentence = told["error"].as_str().unwrap();
        assert!(sentence.starts_with(&format!("process {} works on this data", server.process_id())), "{sentence}");
        assert!(sentence.contains("POST /v1/pats"), "{sentence}");
    }
}

#[test]
fn the_greeting_names_both_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Program::command(folder.path());
    command.args(["dev", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path().join("data"));
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The last line comes when all is said.
    let lines: Vec<String> = lines.take_while(|line| !line.starts_with("What can be asked")).collect();
    let _ = process.kill();
    let _ = process.wait();
    for name in ["  token        pat_", "  admin token  pat_"] {
        assert_eq!(lines.iter().filter(|line| line.starts_with(name)).count(), 1, "{name} in {lines:#?}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn connections_are_encrypted_and_certificates_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let Some((crt, key)) = certificate(folder.path(), "one") else { return };
    let server = Server::start_with(None, &["--tls-certificate", &crt, "--tls-key", &key]);
    assert!(server.url.starts_with("https://"));
    let trusting = |path: &str| {
        let certificate = reqwest::Certificate::from_pem(&fs::read(path).unwrap()).unwrap();
        let builder = reqwest::Client::builder().tls_certs_only([certificate]).pool_max_idle_per_host(0);
        server.anybody().through(builder.build().unwrap())
    };
    let answer = trusting(&crt).get("/healthz").await;
    assert!(answer.headers["strict-transport-security"].to_str().unwrap().starts_with("max-age=63072000"));
    let (new_crt, new_key) = certificate(folder.path(), "two").unwrap();
    assert!(trusting(&new_crt).request(Method::GET, "/healthz").send().await.is_err());
    let old = trusting(&crt);
    fs::copy(&new_crt, &crt).unwrap();
    fs::copy(&new_key, &key).unwrap();
    server.signal("HUP");
    // It is read in the background: the old one stops being shown some time soon.
    while old.request(Method::GET, "/healthz").send().await.is_ok() {}
    trusting(&new_crt).get("/healthz").await.expect(200);
}

/// A run's end is one line, whatever came of it, and nothing of its payloads is in it.
#[cfg(unix)]
#[tokio::test]
async fn a_run_s_end_is_a_line_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut server = Server::logging(&log, &["--log", "info", "--log-format", "json"]);
    for graph in [greeting(), failing()] {
        let workflow = Workflow::publish(server.owner(), graph).await;
        workflow.command_and_wait("start", json!({ "name": "a-name-in-an-input" })).await.expect(200);
    }
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    let text = fs::read_to_string(&log).unwrap();
    assert!(!text.contains("a-name-in-an-input") && !text.contains("no luck"));
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ended: Vec<_> = lines.iter().filter(|line| line["message"] == "a run ended").collect();
    let told = |line: &serde_json::Value| [line["status"].clone(), line["error"].clone(), line["level"].clone()];
    assert_eq!(
        ended.iter().map(|line| told(line)).collect::<Vec<_>>(),
        [[json!("completed"), json!(null), json!("INFO")], [json!("failed"), json!("LUA_ERROR"), json!("INFO")]]
    );
    for line in ended {
        let is_named = ["run", "workflow", "tenant", "project"].iter().all(|name| line[name].is_string());
        assert!(is_named && line["seconds"].is_number(), "{line:#}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn what_a_killed_process_left_under_way_is_told_in_one_line() {
    let mut server = Server::start();
    let busy =
        json!({ "steps": [{ "id": "busy", "type": "lua_script", "timeout_s": 30, "script": "while true do end" }] });
    let workflow = Workflow::publish(server.owner(), busy).await;
    for _ in 0..3 {
        workflow.start(json!({})).await;
    }
    server.kill();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut server = server.restart_logging(&log, &["--log", "info"]);
    server.kill();
    let text = fs::read_to_string(&log).unwrap();
    let told: Vec<&str> = text.lines().filter(|line| line.contains("left under way")).collect();
    assert!(told.len() == 1 && told[0].contains("runs=3"), "{text}");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_with_what_makes_it_so() {
    let folder = tempfile::tempdir().unwrap();
    let Some((crt, key)) = certificate(folder.path(), "one") else { return };
    let server = Server::start_with(None, &["--tls-certificate", &crt, "--tls-key", &key]);
    let mut asks = Program::command(folder.path());
    asks.args(["workflows", "--json", "--server", &server.url]).env("AGENTRUNTIME_TOKEN", &server.token);
    // Whatever this machine trusts: here it is another certificate alone.
    let (other, _) = certificate(folder.path(), "two").unwrap();
    let output = asks.env("SSL_CERT_FILE", &other).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(told["code"], "TLS_FAILED");
    assert!(told["error"].as_str().unwrap().contains("SSL_CERT_FILE="), "{told:#}");
    // And that it does.
    let output = asks.env("SSL_CERT_FILE", &crt).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[]\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_log_says_which_workspace_is_at_a_limit_and_not_for_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let server = Server::logging(&log, &["--requests-per-minute", "5"]);
    let admin = server.admin().with("x-tenant-id", "dev");
    let tenant = admin.get("/v1/tenants/current").await.expect(200)["id"].as_str().unwrap().to_owned();
    let mut refused = 0;
    for _ in 0..50 {
        refused += usize::from(server.owner().get("/v1/workflows").await.status == 429);
    }
    assert!(refused > 40, "{refused}");
    let text = fs::read_to_string(&log).unwrap();
    let told: Vec<&str> = text.lines().filter(|line| line.contains("at a limit")).collect();
    assert_eq!(told.len(), 1, "{text}");
    for part in [&format!("tenant={tenant}"), "slug=dev", "RATE_LIMITED"] {
        assert!(told[0].contains(part), "{part} in {}", told[0]);
    }
}
