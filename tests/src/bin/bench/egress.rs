//! What it costs that a request goes by the broker and the egress, beside a bare client that asks the same server.

use crate::{
    figure::{Figure, Scale, micros, percentile},
    world,
};
use agentruntime_egress::{Egress, EgressConfig, Reach, Secret, Send};
use agentruntime_host_api::{Act, Grants, HostRequest, broker};
use anyhow::{Context, Result, bail};
use secrecy::SecretString;
use serde_json::json;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// `request-egress`: a request with a secret in a header and a reply of a kilobyte.
pub(crate) fn request(scale: Scale) -> Result<()> {
    // The first one wins, and there is only one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    world::runtime()?.block_on(async {
        let origin = serve().await?;
        let (mut bare, mut brokered) = (Vec::new(), Vec::new());
        let client = reqwest::Client::new();
        let reach = Reach { allowed: vec!["127.0.0.0/8".parse()?] };
        let egress = Egress::new(EgressConfig { reach, ..EgressConfig::default() })?;
        let grants: Grants = serde_json::from_value(json!({ "hosts": [origin], "secrets": { "key": "vault/key" } }))?;
        let secret = Secret { value: SecretString::from("sk-0123456789abcdef"), hosts: vec![origin.parse()?] };
        let secrets = BTreeMap::from([("key".to_owned(), secret)]);
        // In turns, so that what the machine does besides falls on both.
        for at in 0..scale.of(5_000, 100) {
            let begun = Instant::now();
            let reply = client.get(&origin).header("authorization", "Bearer sk-0123456789abcdef").send().await?;
            let length = reply.bytes().await?.len();
            bare.push(begun.elapsed());
            let arguments = json!({ "url": origin, "headers": { "authorization": { "$text": ["Bearer ", { "$secret": "key" }] } } });
            let request = HostRequest { number: at as u32, capability: "http.fetch".into(), arguments: arguments.into() };
            let begun = Instant::now();
            let broker::Ruling::Permitted(permit) = broker::rule(&grants, &request)? else { bail!("it is on no terms") };
            let Act::Fetch(fetch) = permit.act() else { bail!("it is a request") };
            let send = Send { fetch, hosts: permit.hosts(), secrets: &secrets, idempotency_key: Some("bench/ask/0") };
            let reply = agentruntime_host_api::Json::from(egress.send(send).await?.into_json());
            brokered.push(begun.elapsed());
            if reply.as_str().len() <= length {
                bail!("the reply is not whole");
            }
        }
        for (part, name) in [(0.5, "p50"), (0.99, "p99")] {
            let (alone, all) = (percentile(&mut bare, part), percentile(&mut brokered, part));
            Figure::lower("request-egress", &format!("bare client, {name}"), micros(alone), "µs").print();
            Figure::lower("request-egress", &format!("broker and egress, {name}"), micros(all), "µs").print();
            if name == "p50" {
                let more = all.saturating_sub(alone).max(Duration::ZERO);
                Figure::lower("request-egress", "more than the bare client, p50", micros(more), "µs").aim(150.0).print();
            }
        }
        Ok(())
    })
}

/// Answers each request of a connection with a kilobyte.
async fn serve() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr().context("it listens")?);
    let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n{}", "x".repeat(1024));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let reply = reply.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 8192];
                let mut filled = 0;
                while let Ok(read @ 1..) = stream.read(&mut buffer[filled..]).await {
                    filled += read;
                    if buffer[..filled].ends_with(b"\r\n\r\n") {
                        filled = 0;
                        if stream.write_all(reply.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    Ok(origin)
}
