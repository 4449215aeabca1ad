//! Two processes on one PostgreSQL database, as far as one sees of the other: each with its own store.

use agentruntime_engine::{
    graph::Graph,
    node::{Node, NodeConfig, StartRequest},
    run::{
        Signal,
        event::{EventKind, RunStatus},
    },
    store::{Location, Scope, Store, SystemClock},
};
use agentruntime_host_api::{Json, ProjectId, TenantId, WorkflowId};
use agentruntime_sandbox::{Sandbox, SandboxConfig};
use serde_json::json;
use std::{sync::Arc, time::Duration};

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_run_hears_what_another_process_tells_it_long_before_its_lease_is_renewed() {
    let Some(server) = agentruntime_tests::postgres::server() else { return };
    let location = Location::Postgres(server.database());
    let clock = Arc::new(SystemClock);
    let here = Store::open(&location, clock.clone()).await.unwrap();
    let elsewhere = Store::open(&location, clock.clone()).await.unwrap();
    let scope = Scope { tenant: TenantId::new("acme"), project: ProjectId::new("default") };

    let graph = Graph::parse(&json!({ "steps": [{
        "id": "busy", "type": "while", "while_mode": "until", "while_max_iterations": 10_000, "while_condition": false,
        "while_body_steps": [{ "id": "turn", "type": "lua_script", "script": "return { n = 1 }" }],
    }] }))
    .unwrap();
    let workflow = WorkflowId::new("busy");
    here.publish(&scope, &workflow, &graph.canonical, &graph.hash, None).await.unwrap();

    let config = NodeConfig { lease: Duration::from_secs(3_600), ..NodeConfig::default() };
    let sandbox = Sandbox::new(SandboxConfig { max_instances: 4, ..SandboxConfig::default() }).unwrap();
    let node = Node::start(config, here, Arc::new(sandbox), clock);
    let (run, mut watcher) =
        node.start_watched(&scope, StartRequest::new(workflow, Json::empty_object())).await.unwrap();
    elsewhere.signal(&scope, run, Signal::Pause).await.unwrap();
    while let Some(events) = watcher.next().await {
        for event in events.iter() {
            match &event.kind {
                EventKind::StateChanged { to: RunStatus::Paused, .. } => return,
                kind => assert!(!kind.ends_run(), "the run ended without having heard of the pause"),
            }
        }
    }
    panic!("the run can no longer be followed");
}
