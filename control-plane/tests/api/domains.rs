//! Domains: proven by a record at a name server of the test's own.

use crate::{mails::signed_in, server::Server};
use hickory_resolver::proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::TXT},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    net::UdpSocket,
    sync::{Arc, Mutex},
};

/// A name server that knows TXT records, and answers until the test process ends.
struct NameServer {
    address: String,
    records: Arc<Mutex<HashMap<String, Vec<String>>>>,
}

impl NameServer {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let records = Arc::<Mutex<HashMap<String, Vec<String>>>>::default();
        let (address, known) = (socket.local_addr().unwrap().to_string(), records.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let reply = answer(&Message::from_vec(&buffer[..length]).unwrap(), &known.lock().unwrap());
                socket.send_to(&reply.to_vec().unwrap(), from).unwrap();
            }
        });
        Self { address, records }
    }

    fn publish(&self, name: &str, texts: &[&str]) {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        self.records.lock().unwrap().insert(format!("{name}."), texts);
    }
}

fn answer(request: &Message, known: &HashMap<String, Vec<String>>) -> Message {
    let query = request.queries[0].clone();
    let name: Name = query.name().clone();
    let mut reply = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
    reply.metadata.authoritative = true;
    match known.get(&name.to_string().to_lowercase()) {
        Some(texts) if query.query_type() == RecordType::TXT => {
            for text in texts {
                // A record's parts are at most 255 bytes, and are read as one.
                let (first, second) = text.split_at(text.len() / 2);
                let data = RData::TXT(TXT::new(vec![first.to_owned(), second.to_owned()]));
                reply.answers.push(Record::from_rdata(name.clone(), 60, data));
            }
        }
        _ => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    reply.queries.push(query);
    reply
}

#[tokio::test]
async fn a_domain_is_proven_by_its_record() {
    let names = NameServer::start();
    let server = Server::start_with(None, &["--name-server", &names.address]);
    let admin = server.admin();
    let claim =
        async || admin.post("/v1/tenants/current/domains", json!({ "domain": "Acme.Example" })).await.expect(201);
    let claimed = claim().await;
    assert_eq!((&claimed["domain"], &claimed["verified_at"]), (&json!("acme.example"), &Value::Null));
    assert_eq!(claimed["record_name"], "_agentruntime.acme.example");
    assert_eq!(claim().await, claimed);
    let verify = async || admin.post("/v1/tenants/current/domains/acme.example/verify", json!({})).await;
    verify().await.refused(409, "DOMAIN_NOT_PROVEN");
    names.publish("_agentruntime.acme.example", &["agentruntime-verification=another"]);
    verify().await.refused(409, "DOMAIN_NOT_PROVEN");
    let value = claimed["record_value"].as_str().unwrap();
    names.publish("_agentruntime.acme.example", &["something else", value]);
    let verified = verify().await.expect(200);
    assert!(verified["verified_at"].is_string(), "{verified}");
    assert_eq!(verify().await.expect(200)["verified_at"], verified["verified_at"]);
    let list = admin.get("/v1/tenants/current/domains").await.expect(200);
    assert_eq!(list["items"], json!([verified]));
    // The owner of the first start is nobody of that domain.
    let closed = json!({ "restrict_domains": true });
    admin.patch("/v1/tenants/current", closed).await.refused(409, "OWN_DOMAIN_MISSING");
    admin.delete("/v1/tenants/current/domains/acme.example").await.expect(204);
    admin.delete("/v1/tenants/current/domains/acme.example").await.refused(404, "NOT_FOUND");
    verify().await.refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_domain_is_one_workspaces_and_closes_it_to_others() {
    let names = NameServer::start();
    let server = Server::start_with(None, &["--name-server", &names.address]);
    let mut ada = signed_in(&server, "ada@acme.example").await;
    ada.post("/v1/tenants", json!({ "slug": "acme", "name": "Acme" })).await.expect(201);
    let session = ada.client.with("cookie", &ada.cookie_header()).with("x-csrf-token", &ada.csrf);
    let (acme, dev) = (session.with("x-tenant-id", "acme"), server.admin());
    let mut values = Vec::new();
    for claimant in [&acme, &dev] {
        let body = json!({ "domain": "acme.example" });
        let claimed = claimant.post("/v1/tenants/current/domains", body).await.expect(201);
        values.push(claimed["record_value"].as_str().unwrap().to_owned());
    }
    assert_ne!(values[0], values[1]);
    names.publish("_agentruntime.acme.example", &[&values[0], &values[1]]);
    let verify = "/v1/tenants/current/domains/acme.example/verify";
    acme.post(verify, json!({})).await.expect(200);
    dev.post(verify, json!({})).await.refused(409, "DOMAIN_TAKEN");
    let closed = acme.patch("/v1/tenants/current", json!({ "restrict_domains": true })).await.expect(200);
    assert_eq!(closed["restrict_domains"], true);
    let invite = async |email: &str| acme.post("/v1/tenants/current/invites", json!({ "email": email })).await;
    invite("eve@else.example").await.refused(409, "DOMAIN_NOT_ALLOWED");
    invite("bob@acme.example").await.expect(201);
    acme.delete("/v1/tenants/current/domains/acme.example").await.refused(409, "LAST_DOMAIN");
    // Once it is given up, it can be another's.
    acme.patch("/v1/tenants/current", json!({ "restrict_domains": false })).await.expect(200);
    acme.delete("/v1/tenants/current/domains/acme.example").await.expect(204);
    dev.post(verify, json!({})).await.expect(200);
}

#[tokio::test]
async fn a_name_server_that_does_not_answer_is_named() {
    // Bound, so that nobody else answers there, and never read.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = Server::start_with(None, &["--name-server", &silent.local_addr().unwrap().to_string()]);
    let admin = server.admin();
    admin.post("/v1/tenants/current/domains", json!({ "domain": "acme.example" })).await.expect(201);
    let refused = admin.post("/v1/tenants/current/domains/acme.example/verify", json!({})).await;
    let refused = refused.refused(503, "DEPENDENCY_UNAVAILABLE");
    assert!(refused["error"].as_str().unwrap().contains("DNS"), "{refused}");
}
