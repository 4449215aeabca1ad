//! What whole runs cost, from their start to the durable end.

use crate::{
    figure::{Figure, Scale, millis, percentile},
    world::{self, World, add_one, chain},
};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// `seq10`: ten steps one after the other, beside one bare commit on the same disk.
pub(crate) fn seq10(scale: Scale) -> Result<()> {
    world::runtime()?.block_on(async {
        let world = World::new().await?;
        let workflow = world.publish("seq10", &chain(10, add_one)).await?;
        let mut samples = Vec::new();
        for at in 0..scale.of(2_000, 50) + 10 {
            let begun = Instant::now();
            let outputs = world.run(&workflow).await?;
            if at >= 10 {
                samples.push(begun.elapsed());
            }
            ensure!(outputs == json!({ "s9": { "n": 10 } }), "ten steps gave {outputs}");
        }
        let mut commits = bare_commits(&world, scale.of(2_000, 50)).await?;
        let commit = millis(percentile(&mut commits, 0.5));
        let p50 = millis(percentile(&mut samples, 0.5));
        Figure::lower("seq10", "p50", p50, "ms").aim(2.0 * commit + 2.0).baseline(commit).print();
        Figure::lower("seq10", "p99", millis(percentile(&mut samples, 0.99)), "ms").print();
        Figure::lower("seq10", "one bare SQLite commit, p50", commit, "ms").print();
        Ok(())
    })
}

/// One row a commit, as durable as the store's own, on the same disk.
async fn bare_commits(world: &World, count: usize) -> Result<Vec<Duration>> {
    let options = SqliteConnectOptions::new()
        .filename(world.folder.path().join("bare.sqlite"))
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
        .synchronous(sqlx::sqlite::SqliteSynchronous::Full);
    let mut connection = options.connect().await?;
    sqlx::query("CREATE TABLE bare (id INTEGER PRIMARY KEY, body TEXT)").execute(&mut connection).await?;
    let body = "x".repeat(1_000);
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        sqlx::query("INSERT INTO bare (body) VALUES ($1)").bind(&body).execute(&mut connection).await?;
        samples.push(begun.elapsed());
    }
    connection.close().await?;
    Ok(samples)
}

/// `throughput`: ten-step runs with so many in flight.
pub(crate) fn throughput(scale: Scale) -> Result<()> {
    for in_flight in [1, 16, 64] {
        let runs = scale.of(if in_flight == 1 { 1_000 } else { 10_000 }, 100);
        let elapsed = world::runtime()?.block_on(many(in_flight, runs))?;
        let per_second = runs as f64 / elapsed.as_secs_f64();
        let label = format!("steps per second, {in_flight} runs in flight");
        let figure = Figure::higher("throughput", &label, per_second * 10.0, "1/s");
        if in_flight == 64 {
            figure.aim(10_000.0).print()
        } else {
            figure.print()
        }
        let label = format!("runs per second, {in_flight} runs in flight");
        Figure::higher("throughput", &label, per_second, "1/s").print();
    }
    Ok(())
}

async fn many(in_flight: usize, runs: usize) -> Result<Duration> {
    let world = Arc::new(World::new().await?);
    let workflow = world.publish("seq10", &chain(10, add_one)).await?;
    world.run(&workflow).await?;
    let left = Arc::new(AtomicUsize::new(runs));
    let begun = Instant::now();
    let workers: Vec<_> = (0..in_flight)
        .map(|_| {
            let (world, workflow, left) = (world.clone(), workflow.clone(), left.clone());
            tokio::spawn(async move {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    world.run(&workflow).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for worker in workers {
        worker.await??;
    }
    Ok(begun.elapsed())
}

/// `fanout100`: a hundred parallel steps and a join.
pub(crate) fn fanout100(scale: Scale) -> Result<()> {
    let ids: Vec<String> = (0..100).map(|number| format!("p{number}")).collect();
    let mut steps: Vec<Value> =
        ids.iter().map(|id| json!({ "id": id, "type": "lua_script", "script": "return { n = 1 }" })).collect();
    let sum = "local sum = 0 for _, step in pairs(steps) do sum = sum + step.result.n end return { sum = sum }";
    steps.push(json!({ "id": "join", "type": "lua_script", "script": sum, "depends_on": ids }));
    latency("fanout100", &json!({ "steps": steps }), &json!({ "join": { "sum": 100 } }), scale.of(100, 3))
}

const FIB: &str = "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end";

fn fib_chain(length: usize, n: u32) -> Value {
    chain(length, |before| match before {
        Some(before) => format!("{FIB} return {{ v = fib({n}), before = steps.{before}.result.v }}"),
        None => format!("{FIB} return {{ v = fib({n}) }}"),
    })
}

/// `fib40`: forty sequential steps of fib(10).
pub(crate) fn fib40(scale: Scale) -> Result<()> {
    latency("fib40", &fib_chain(40, 10), &json!({ "s39": { "v": 55, "before": 55 } }), scale.of(200, 3))
}

/// `fib33x10`: ten sequential steps of fib(33).
pub(crate) fn fib33x10(scale: Scale) -> Result<()> {
    let (n, value) = if scale == Scale::Full { (33, 3_524_578) } else { (20, 6_765) };
    latency("fib33x10", &fib_chain(10, n), &json!({ "s9": { "v": value, "before": value } }), scale.of(5, 1))
}

fn latency(bench: &str, graph: &Value, expected: &Value, repetitions: usize) -> Result<()> {
    world::runtime()?.block_on(async {
        let world = World::new().await?;
        let workflow = world.publish(bench, graph).await?;
        world.run(&workflow).await?;
        let mut samples = Vec::with_capacity(repetitions);
        for _ in 0..repetitions {
            let begun = Instant::now();
            let outputs = world.run(&workflow).await?;
            samples.push(begun.elapsed());
            ensure!(outputs == *expected, "{bench} gave {outputs}");
        }
        Figure::lower(bench, "p50", millis(percentile(&mut samples, 0.5)), "ms").print();
        Figure::lower(bench, "p99", millis(percentile(&mut samples, 0.99)), "ms").print();
        Ok(())
    })
}

/// `journal-size`: what a ten-step run leaves on disk.
pub(crate) fn journal_size(scale: Scale) -> Result<()> {
    world::runtime()?.block_on(async {
        let world = World::new().await?;
        let workflow = world.publish("seq10", &chain(10, add_one)).await?;
        world.run(&workflow).await?;
        let before = world.disk_bytes().await?;
        let runs = scale.of(5_000, 200);
        for _ in 0..runs {
            world.run(&workflow).await?;
        }
        let each = (world.disk_bytes().await? - before) as f64 / runs as f64;
        Figure::lower("journal-size", "ten-step run", each, "bytes").print();
        Ok(())
    })
}
