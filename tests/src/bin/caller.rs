//! A process to be killed while it waits for replies: goes on with the runs of a data folder, each of which sends requests one
//! after the other, starts the one that is missing, and ends by itself when that has.
//!
//! `caller DATA CACHE ORIGIN NUMBER`: requests go to ORIGIN, and the run has the NUMBER.

use agentruntime_egress::{Egress, EgressConfig, Reach, Send};
use agentruntime_engine::{
    graph::Graph,
    node::{Node, NodeConfig, StartError, StartRequest},
    store::{Location, Scope, Store, StoreError, SystemClock},
};
use agentruntime_host_api::{
    Act, Errand, ErrorCode, Host, HostReply, ProjectId, RunId, StepError, TenantId, WorkflowId,
};
use agentruntime_sandbox::{Sandbox, SandboxConfig};
use anyhow::Context;
use futures_util::future::BoxFuture;
use serde_json::json;
use std::{collections::BTreeMap, env, path::PathBuf, sync::Arc};

/// Lua that asks for page after page.
const SCRIPT: &str = "local pages = {} for n = 1, input.pages do pages[n] = http.fetch(input.origin .. '/' .. n).body end \
    return { pages = pages }";

/// Sends requests, and does nothing else.
#[derive(Debug)]
struct Outside(Egress);

impl Host for Outside {
    fn carry_out(&self, errand: Errand) -> BoxFuture<'_, HostReply> {
        Box::pin(async move {
            let Act::Fetch(fetch) = errand.permit.act() else {
                return Err(StepError::new(ErrorCode::DependencyUnavailable, "there are only requests here"));
            };
            let (key, secrets) = (errand.idempotency_key(), BTreeMap::new());
            let send =
                Send { fetch, hosts: errand.permit.hosts(), secrets: &secrets, idempotency_key: Some(key.as_str()) };
            let reply = self.0.send(send).await;
            reply
                .map(|reply| reply.into_json().into())
                .map_err(|error| StepError::new(ErrorCode::UpstreamError, error.to_string()))
        })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [data, cache, origin, number] = &arguments[..] else { anyhow::bail!("usage: caller DATA CACHE ORIGIN NUMBER") };
    // The first one wins, and there is only one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let clock = Arc::new(SystemClock);
    let store = Store::open(&Location::Sqlite(data.into()), clock.clone()).await?;
    let sandbox = SandboxConfig { cache_dir: Some(PathBuf::from(cache)), max_instances: 4, ..SandboxConfig::default() };
    let guest = Arc::new(Sandbox::new(sandbox)?);
    let reach = Reach { allowed: vec!["127.0.0.0/8".parse()?] };
    let host = Arc::new(Outside(Egress::new(EgressConfig { reach, ..EgressConfig::default() })?));
    let node = Node::start(NodeConfig { host, ..NodeConfig::default() }, store, guest, clock);
    let scope = Scope { tenant: TenantId::new("t"), project: ProjectId::new("p") };
    let graph = json!({ "steps": [
        { "id": "ask", "type": "lua_script", "script": SCRIPT, "timeout_s": 30, "capabilities": { "hosts": [origin] } },
    ] });
    let graph = Graph::parse(&graph).map_err(|issues| anyhow::anyhow!("{issues:?}"))?;
    let workflow = WorkflowId::new("ask");
    node.store().publish(&scope, &workflow, &graph.canonical, &graph.hash, None).await?;
    let run: RunId = format!("00000000-0000-4000-8000-{:012x}", number.parse::<u64>()?).parse()?;
    let mut watcher = node.watch(run);
    let input = json!({ "pages": 5, "origin": origin });
    let request = StartRequest { run: Some(run), ..StartRequest::new(workflow, input.into()) };
    match node.start_run(&scope, request).await {
        Ok(_) | Err(StartError::Store(StoreError::AlreadyExists)) => {}
        Err(error) => return Err(error.into()),
    }
    while !node.store().run(&scope, run).await?.status.is_final() {
        watcher.next().await.context("the node let the run go")?;
    }
    Ok(())
}
