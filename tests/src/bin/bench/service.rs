//! What the service costs on top of the engine: requests over HTTP on loopback, against the program as a process of its own.
//!
//! The client works on the same processors, so that rates are what both together reach; what the service itself used is told by
//! the operating system, as processor time.

use crate::{
    figure::{Figure, Scale, micros, millis, percentile},
    program::program,
    world::{self, World, add_one, chain},
};
use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{StreamExt, future::try_join_all};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use sha2::Sha256;
use std::{
    future::Future,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A running service with its first token.
pub(crate) struct Service {
    process: Child,
    url: String,
    token: String,
    client: Client,
    _folder: TempDir,
}

impl Service {
    fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// With more arguments than every service has.
    pub(crate) fn start_with(arguments: &[&str]) -> Result<Self> {
        // Whoever comes second finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir()?;
        let mut process = Command::new(program("agentruntime-control-plane", "agentruntime")?)
            .args(["dev", "--json", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path().join("data"))
            .args(arguments)
            .envs(UNLIMITED)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        let output = process.stdout.take().context("the program has an output")?;
        BufReader::new(output).read_line(&mut line)?;
        let greeting: Value = serde_json::from_str(&line)?;
        let text = |name: &str| greeting[name].as_str().map(str::to_owned).context("the greeting names it");
        let (url, token) = (text("url")?, text("token")?);
        Ok(Self { process, url, token, client: Client::builder().build()?, _folder: folder })
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.url)).bearer_auth(&self.token).json(body)
    }

    /// A published workflow.
    pub(crate) async fn publish(&self, graph: &Value) -> Result<String> {
        let workflow = sent(self.post("/v1/workflows", &json!({ "name": "bench", "graph": graph }))).await?;
        let id = workflow["id"].as_str().context("a workflow has an id")?.to_owned();
        sent(self.post(&format!("/v1/workflows/{id}/versions"), &json!({}))).await?;
        Ok(id)
    }

    /// Processor time used so far.
    fn processor(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).context("ticks");
        // User and system time, in hundredths of a second on Linux.
        Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
    }

    /// Memory that it holds, in MiB.
    pub(crate) fn resident(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What lifts the limits that protect a service from clients like this one.
const UNLIMITED: [(&str, &str); 1] = [("AGENTRUNTIME_REQUESTS_PER_MINUTE", "0")];

/// The answer of a request that has to succeed.
pub(crate) async fn sent(request: RequestBuilder) -> Result<Value> {
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    ensure!(status.is_success(), "{status}: {text}");
    Ok(serde_json::from_str(&text)?)
}

/// Calls `one` so many times, with so many under way, and gives how long each took and all together.
async fn many<F, Fut>(in_flight: usize, count: usize, one: F) -> Result<(Vec<Duration>, Duration)>
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<()>> + Send,
{
    let left = Arc::new(AtomicUsize::new(count));
    let begun = Instant::now();
    let workers = (0..in_flight).map(|_| {
        let (left, one) = (left.clone(), one.clone());
        tokio::spawn(async move {
            let mut samples = Vec::new();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let begun = Instant::now();
                one().await?;
                samples.push(begun.elapsed());
            }
            anyhow::Ok(samples)
        })
    });
    let mut samples = Vec::with_capacity(count);
    for worker in workers.collect::<Vec<_>>() {
        samples.extend(worker.await??);
    }
    Ok((samples, begun.elapsed()))
}

/// `api-start`: durable starts over HTTP, beside the same starts in this process.
pub(crate) fn start(scale: Scale) -> Result<()> {
    world::runtime()?.block_on(async {
        for in_flight in [16, 64] {
            let count = scale.of(10_000, 100);
            let engine = engine_starts(in_flight, count).await?;
            let service = Arc::new(Service::start()?);
            let path = format!("/v1/workflows/{}/command", service.publish(&chain(1, add_one)).await?);
            let one = {
                let service = service.clone();
                move || {
                    let body = json!({ "command": "start", "params": { "trigger_payload": {} } });
                    let request = service.post(&path, &body);
                    async move { sent(request).await.map(drop) }
                }
            };
            many(in_flight, in_flight * 4, one.clone()).await?;
            let (mut samples, elapsed) = many(in_flight, count, one).await?;
            let rate = count as f64 / elapsed.as_secs_f64();
            let label = format!("starts per second, {in_flight} connections");
            Figure::higher("api-start", &label, rate, "1/s").aim(engine / 1.3).baseline(engine).print();
            for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
                let label = format!("{name}, {in_flight} connections");
                Figure::lower("api-start", &label, millis(percentile(&mut samples, part)), "ms").print();
            }
        }
        Ok(())
    })
}

/// Starts per second without HTTP.
async fn engine_starts(in_flight: usize, count: usize) -> Result<f64> {
    let world = Arc::new(World::new().await?);
    let workflow = world.publish("bench", &chain(1, add_one)).await?;
    let one = move || {
        let (world, workflow) = (world.clone(), workflow.clone());
        async move { world.start(&workflow).await.map(drop) }
    };
    many(in_flight, in_flight * 4, one.clone()).await?;
    let (_, elapsed) = many(in_flight, count, one).await?;
    Ok(count as f64 / elapsed.as_secs_f64())
}

/// `api-read`: authenticated reads of one run's summary.
pub(crate) fn read(scale: Scale) -> Result<()> {
    world::runtime()?.block_on(async {
        let service = Arc::new(Service::start()?);
        let workflow = service.publish(&chain(1, add_one)).await?;
        let body = json!({ "command": "start", "params": {} });
        let run = sent(service.post(&format!("/v1/workflows/{workflow}/command?wait=30s"), &body)).await?;
        let run = run["run_id"].as_str().context("a run has an id")?;
        let path = format!("/v1/workflows/{workflow}/runs/{run}/summary");
        let one = {
            let service = service.clone();
            move || {
                let request = service.get(&path);
                async move { sent(request).await.map(drop) }
            }
        };
        many(16, 64, one.clone()).await?;
        let count = scale.of(20_000, 100);
        let used = service.processor()?;
        let (mut samples, elapsed) = many(16, count, one).await?;
        let used = service.processor()?.saturating_sub(used);
        let per_core = count as f64 / used.as_secs_f64().max(0.01);
        Figure::higher("api-read", "reads per second of the service's processor time", per_core, "1/s")
            .aim(2_000.0)
            .print();
        let rate = count as f64 / elapsed.as_secs_f64();
        Figure::higher("api-read", "reads per second, 16 connections", rate, "1/s").print();
        Figure::lower("api-read", "p50", micros(percentile(&mut samples, 0.5)), "µs").print();
        Figure::lower("api-read", "p99", micros(percentile(&mut samples, 0.99)), "µs").print();
        Ok(())
    })
}

/// `webhook`: signed deliveries, each of which starts a run.
pub(crate) fn webhook(scale: Scale) -> Result<()> {
    world::runtime()?.block_on(async {
        let service = Arc::new(Service::start()?);
        let workflow = service.publish(&chain(1, add_one)).await?;
        let spec = json!({ "workflow_id": workflow, "name": "bench", "automation_bearer": service.token });
        let made = sent(service.post("/v1/inbound-webhooks", &spec)).await?;
        let text = |name: &str| made[name].as_str().map(str::to_owned).context("a subscription names it");
        let (path, secret) = (text("ingress_path")?, text("signing_secret")?);
        let key = BASE64_STANDARD.decode(secret.trim_start_matches("whsec_"))?;
        let number = Arc::new(AtomicUsize::new(0));
        let one = {
            let service = service.clone();
            move || {
                let id = format!("msg_{}", number.fetch_add(1, Ordering::Relaxed));
                let request = delivery(&service, &path, &key, &id);
                async move { sent(request?).await.map(drop) }
            }
        };
        many(16, 64, one.clone()).await?;
        let count = scale.of(10_000, 100);
        let (mut samples, elapsed) = many(16, count, one).await?;
        let rate = count as f64 / elapsed.as_secs_f64();
        Figure::higher("webhook", "deliveries per second, 16 connections", rate, "1/s").print();
        Figure::lower("webhook", "p50", millis(percentile(&mut samples, 0.5)), "ms").print();
        Figure::lower("webhook", "p99", millis(percentile(&mut samples, 0.99)), "ms").print();
        Ok(())
    })
}

/// A delivery with the headers of Standard Webhooks.
fn delivery(service: &Service, path: &str, key: &[u8], id: &str) -> Result<RequestBuilder> {
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let body = json!({ "id": id }).to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(key)?;
    mac.update(format!("{id}.{at}.{body}").as_bytes());
    let signature = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
    let request = service.client.post(format!("{}{path}", service.url)).bearer_auth(&service.token);
    let request = request.header("webhook-id", id).header("webhook-timestamp", at.to_string());
    Ok(request.header("webhook-signature", signature).header("content-type", "application/json").body(body))
}

/// `stream-fanout`: many subscribers to one run, from its start to the moment when the last of them knows of its end.
pub(crate) fn stream_fanout(scale: Scale) -> Result<()> {
    world::runtime()?.block_on(async {
        let service = Service::start()?;
        let workflow = service.publish(&waiting()).await?;
        let body = json!({ "command": "start", "params": {} });
        let run = sent(service.post(&format!("/v1/workflows/{workflow}/command?wait=30s"), &body)).await?;
        let run = run["run_id"].as_str().context("a run has an id")?.to_owned();
        let subscribers = scale.of(1_000, 50);
        let path = format!("/v1/workflows/{workflow}/stream?run_id={run}");
        let open = (0..subscribers).map(|_| async {
            let request = service.get(&path).header("accept", "text/event-stream");
            let mut stream = request.send().await?.error_for_status()?.bytes_stream();
            let mut seen = String::new();
            // The events so far have arrived: from here on it waits for new ones.
            until(&mut stream, &mut seen, "human_task_created").await?;
            anyhow::Ok(stream)
        });
        let streams = try_join_all(open).await?;
        let tasks = sent(service.get(&format!("/v1/workflows/{workflow}/runs/{run}/tasks/pending"))).await?;
        let task = tasks["items"][0]["task_id"].as_str().context("the run asks")?.to_owned();
        let begun = Instant::now();
        let answer = format!("/v1/workflows/{workflow}/runs/{run}/tasks/{task}/complete");
        sent(service.post(&answer, &json!({ "approved": true }))).await?;
        try_join_all(
            streams
                .into_iter()
                .map(|mut stream| async move { until(&mut stream, &mut String::new(), "run_completed").await }),
        )
        .await?;
        let label = format!("answer of a task to the last of {subscribers} subscribers");
        Figure::lower("stream-fanout", &label, millis(begun.elapsed()), "ms").print();
        Ok(())
    })
}

/// Asks a person, then does twenty steps.
fn waiting() -> Value {
    let mut graph = chain(20, |_| "return { n = 1 }".into());
    if let Some(steps) = graph["steps"].as_array_mut() {
        steps[0]["depends_on"] = json!(["ask"]);
        steps.push(json!({ "id": "ask", "type": "human_task", "task_type": "approval" }));
    }
    graph
}

/// Reads on until the text comes by.
async fn until<S, B, E>(stream: &mut S, seen: &mut String, wanted: &str) -> Result<()>
where
    S: StreamExt<Item = Result<B, E>> + Unpin,
    B: AsRef<[u8]>,
    E: std::error::Error + Send + Sync + 'static,
{
    while !seen.contains(wanted) {
        let bytes = stream.next().await.context("the stream ended early")??;
        seen.push_str(&String::from_utf8_lossy(bytes.as_ref()));
    }
    Ok(())
}

/// `serve-ready`: process start to the first answer, and what an idle service holds.
pub(crate) fn ready(scale: Scale) -> Result<()> {
    world::runtime()?.block_on(async {
        let mut samples = Vec::new();
        let mut resident = 0.0;
        for at in 0..scale.of(20, 3) + 1 {
            let begun = Instant::now();
            let service = Service::start()?;
            sent(service.get("/v1/workflows")).await?;
            // The first start fills the cache.
            if at > 0 {
                samples.push(begun.elapsed());
            }
            resident = service.resident()?;
        }
        let p50 = millis(percentile(&mut samples, 0.5));
        Figure::lower("serve-ready", "process start to first answer on an empty folder, p50", p50, "ms")
            .aim(300.0)
            .print();
        Figure::lower("serve-ready", "memory of an idle service", resident, "MiB").aim(60.0).print();
        Ok(())
    })
}
