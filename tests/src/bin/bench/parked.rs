//! `parked`: what runs that wait for a person cost.

use crate::{
    figure::{Figure, Scale},
    world::{self, World},
};
use anyhow::{Context, Result};
use serde_json::json;
use std::sync::Arc;

/// Starts runs until so many wait for a person, and looks at memory and disk.
pub(crate) fn parked(scale: Scale) -> Result<()> {
    let runs = scale.of(100_000, 1_000);
    let graph = json!({ "steps": [
        { "id": "ask", "type": "human_task", "task_type": "approval", "task_payload": { "question": "Shall we?" } },
    ]});
    world::runtime()?.block_on(async {
        let world = Arc::new(World::new().await?);
        let workflow = world.publish("parked", &graph).await?;
        // The first half fills the pools and the database's page cache, which have a fixed size; the second half shows what
        // waiting runs add.
        let half = runs / 2;
        park(&world, &workflow, half).await?;
        let (memory, disk) = (resident_bytes()?, world.disk_bytes().await?);
        park(&world, &workflow, half).await?;
        let memory = resident_bytes()?.saturating_sub(memory) as f64 / (half as f64 / 1_000.0);
        let disk = (world.disk_bytes().await? - disk) as f64 / half as f64;
        Figure::lower("parked", "memory per 1,000 waiting runs", memory / 1024.0, "KiB").aim(2.0).print();
        Figure::lower("parked", "disk per waiting run", disk / 1024.0, "KiB").aim(4.0).print();
        Ok(())
    })
}

async fn park(world: &Arc<World>, workflow: &agentruntime_host_api::WorkflowId, runs: usize) -> Result<()> {
    let starters: Vec<_> = (0..64)
        .map(|worker| {
            let (world, workflow) = (world.clone(), workflow.clone());
            tokio::spawn(async move {
                for _ in (worker..runs).step_by(64) {
                    world.start(&workflow).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for starter in starters {
        starter.await??;
    }
    while world.node.active_runs() > 0 {
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Memory of this process that is in RAM.
fn resident_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("the system does not tell")?;
    let kib: u64 = line.split_whitespace().nth(1).context("the system does not tell")?.parse()?;
    Ok(kib * 1024)
}
