//! A process to be killed: goes on with the runs of a data folder, starts those that are missing, and tells each event as
//! soon as it is durable. It ends by itself when all runs have.
//!
//! `crashee DATA CACHE FIRST LAST`: the runs have the numbers FIRST to LAST.

use agentruntime_engine::{
    graph::Graph,
    node::{Node, NodeConfig, StartError, StartRequest},
    store::{Location, Scope, Store, StoreError, SystemClock},
};
use agentruntime_host_api::{ProjectId, RunId, TenantId, WorkflowId};
use agentruntime_sandbox::{Sandbox, SandboxConfig};
use anyhow::Context;
use serde_json::{Value, json};
use std::{env, io::Write, path::PathBuf, sync::Arc};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [data, cache, first, last] = &arguments[..] else { anyhow::bail!("usage: crashee DATA CACHE FIRST LAST") };
    let (first, last): (u64, u64) = (first.parse()?, last.parse()?);
    let clock = Arc::new(SystemClock);
    let store = Store::open(&Location::Sqlite(data.into()), clock.clone()).await?;
    let sandbox =
        SandboxConfig { cache_dir: Some(PathBuf::from(cache)), max_instances: 16, ..SandboxConfig::default() };
    let guest = Arc::new(Sandbox::new(sandbox)?);
    let node = Node::start(NodeConfig::default(), store, guest, clock);
    let scope = Scope { tenant: TenantId::new("t"), project: ProjectId::new("p") };
    publish(&node, &scope, "child", child()).await?;
    let workflow = publish(&node, &scope, "everything", everything()).await?;
    let runs = (first..=last).map(|number| follow(&node, &scope, &workflow, number));
    for ended in futures_util::future::join_all(runs).await {
        ended?;
    }
    Ok(())
}

async fn publish(node: &Node, scope: &Scope, name: &str, document: Value) -> anyhow::Result<WorkflowId> {
    let graph = Graph::parse(&document).map_err(|issues| anyhow::anyhow!("{issues:?}"))?;
    let workflow = WorkflowId::new(name);
    node.store().publish(scope, &workflow, &graph.canonical, &graph.hash, None).await?;
    Ok(workflow)
}

/// Starts a run unless it is there, and tells its events until it has ended.
async fn follow(node: &Node, scope: &Scope, workflow: &WorkflowId, number: u64) -> anyhow::Result<()> {
    let run: RunId = format!("00000000-0000-4000-8000-{number:012x}").parse()?;
    let mut watcher = node.watch(run);
    let request = StartRequest { run: Some(run), ..StartRequest::new(workflow.clone(), json!({ "n": 5 }).into()) };
    match node.start_run(scope, request).await {
        Ok(_) | Err(StartError::Store(StoreError::AlreadyExists)) => {}
        Err(error) => return Err(error.into()),
    }
    while !node.store().run(scope, run).await?.status.is_final() {
        let events = watcher.next().await.context("the node let the run go")?;
        let mut out = std::io::stdout().lock();
        for event in events.iter() {
            writeln!(out, "{run} {}", serde_json::to_string(event)?)?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Loops, retries, a timer and a child, all of which end in the same sum every time.
fn everything() -> Value {
    let retry = json!({ "max_attempts": 3, "initial_s": 0.01, "max_s": 0.02 });
    json!({ "steps": [
        { "id": "seed", "type": "lua_script", "script": "local list = {} for i = 1, 6 do list[i] = i * input.n end return { list = list }" },
        { "id": "flaky", "type": "lua_script", "depends_on": ["seed"], "script": "error('always')",
          "retry": retry, "on_error": { "result": { "n": 1 } } },
        { "id": "each", "type": "for_each", "depends_on": ["seed"], "for_each_items": "{{ steps.seed.result.list }}",
          "for_each_max_parallel": 3, "for_each_body_steps": [
            { "id": "square", "type": "lua_script", "script": "return { n = item * item }" },
            { "id": "bad", "type": "lua_script", "script": "error('sometimes ' .. index)", "retry": { "max_attempts": 2, "initial_s": 0.005 },
              "on_error": { "result": { "n": 2 } } },
            { "id": "both", "type": "lua_script", "script": "return { n = body.square.n + body.bad.n }" } ] },
        { "id": "loop", "type": "while", "depends_on": ["seed"], "while_mode": "until", "while_max_iterations": 9,
          "while_condition": "{{ body.add.done }}", "while_body_steps": [
            { "id": "add", "type": "lua_script", "script":
              "local before = loop.prev.add and loop.prev.add.n or 0 return { n = before + loop.iteration, done = loop.iteration >= 5 }" } ] },
        { "id": "nap", "type": "sleep", "depends_on": ["loop"], "duration_s": 0.03 },
        { "id": "call", "type": "workflow_call", "depends_on": ["nap"], "workflow_id": "child", "version": 1,
          "input": { "n": "{{ steps.loop.result.last.add.n }}" } },
        { "id": "sum", "type": "lua_script", "depends_on": ["flaky", "each", "nap", "call"], "terminal": true, "script":
          "local n = steps.flaky.result.n + steps.call.result.half.n for _, entry in ipairs(steps.each.result.results) do n = n + entry.result.n end return { n = n }" },
    ] })
}

fn child() -> Value {
    json!({ "steps": [
        { "id": "double", "type": "lua_script", "script": "return { n = input.n * 2 }" },
        { "id": "wait", "type": "sleep", "depends_on": ["double"], "duration_s": 0.01 },
        { "id": "half", "type": "lua_script", "depends_on": ["wait", "double"], "script": "return { n = steps.double.result.n - 7 }" },
    ] })
}
