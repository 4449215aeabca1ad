//! What one sandboxed execution costs.

use crate::{
    figure::{Figure, Scale, micros, percentile},
    world,
};
use agentruntime_host_api::{
    Entropy, Execution, Guest, HostReply, Invocation, Json, Language, Limits, Outcome, Program, Scope, TenantId,
    Timestamp,
};
use anyhow::{Result, bail};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A call of a script with an input.
pub(crate) fn invocation(source: &str, input: &str, wall: Duration) -> Result<Invocation> {
    Ok(Invocation {
        tenant: TenantId::new("bench"),
        program: Program { language: Language::Lua, name: "bench".into(), source: source.into() },
        scope: Scope { globals: vec![("input", Json::parse(input)?)], steps: Vec::new() },
        started_at: Timestamp::from_micros(1_767_225_600_000_000),
        entropy: Entropy(1),
        limits: Limits { time: wall, ..Limits::default() },
    })
}

/// `sandbox-start`: a fresh instance, the least of scripts, and its end.
pub(crate) fn start(scale: Scale) -> Result<()> {
    let call = invocation("return {x = input.a + 1}", r#"{"a":1}"#, Duration::from_secs(5))?;
    let guest = Arc::new(world::sandbox()?);
    let alone = world::runtime()?.block_on(timed(guest.clone(), call.clone(), scale.of(20_000, 500)))?;
    print("one at a time", alone, Some((60.0, 150.0)));

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(16).enable_all().build()?;
    let begun = Instant::now();
    let crowd = runtime.block_on(async {
        let each = scale.of(2_000, 50);
        let tasks: Vec<_> = (0..16).map(|_| tokio::spawn(timed(guest.clone(), call.clone(), each))).collect();
        let mut samples = Vec::new();
        for task in tasks {
            samples.extend(task.await??);
        }
        anyhow::Ok(samples)
    })?;
    let per_second = crowd.len() as f64 / begun.elapsed().as_secs_f64();
    print("16 threads", crowd, None);
    Figure::higher("sandbox-start", "16 threads, steps per second", per_second, "1/s").print();
    Ok(())
}

fn print(how: &str, mut samples: Vec<Duration>, aims: Option<(f64, f64)>) {
    for (part, name) in [(0.5, "p50"), (0.99, "p99")] {
        let value = micros(percentile(&mut samples, part));
        let name_of_figure = format!("{how}, {name}");
        let figure = Figure::lower("sandbox-start", &name_of_figure, value, "µs");
        match aims {
            Some((p50, p99)) => figure.aim(if name == "p50" { p50 } else { p99 }).print(),
            None => figure.print(),
        }
    }
}

async fn timed(guest: Arc<impl Guest>, call: Invocation, repetitions: usize) -> Result<Vec<Duration>> {
    for _ in 0..repetitions / 20 {
        finished(guest.start(call.clone()).await)?;
    }
    let mut samples = Vec::with_capacity(repetitions);
    for _ in 0..repetitions {
        let call = call.clone();
        let begun = Instant::now();
        let outcome = guest.start(call).await;
        samples.push(begun.elapsed());
        finished(outcome)?;
    }
    Ok(samples)
}

/// The output of a call that has to end well.
pub(crate) fn finished(outcome: Outcome) -> Result<Json> {
    match outcome {
        Outcome::Done(output) => Ok(output.json),
        Outcome::Failed(error) => bail!("the script failed: {error}"),
        Outcome::Requests { .. } => bail!("the script asks for something"),
    }
}

/// `request-roundtrip`: from a script to its host and back.
pub(crate) fn roundtrip(scale: Scale) -> Result<()> {
    let source = "for i = 1, 900 do host.call('bench.echo', {i = i}) end return {done = true}";
    let call = invocation(source, "{}", Duration::from_secs(20))?;
    let guest = world::sandbox()?;
    let mut samples = Vec::new();
    world::runtime()?.block_on(async {
        for _ in 0..scale.of(20, 1) {
            let mut outcome = guest.start(call.clone()).await;
            while let Outcome::Requests { requests, execution } = outcome {
                let replies: Vec<HostReply> = requests.into_iter().map(|request| Ok(request.arguments)).collect();
                let begun = Instant::now();
                outcome = Execution::resume(execution, replies).await;
                samples.push(begun.elapsed());
            }
            finished(outcome)?;
        }
        anyhow::Ok(())
    })?;
    for (part, name) in [(0.5, "p50"), (0.99, "p99")] {
        Figure::lower("request-roundtrip", name, micros(percentile(&mut samples, part)), "µs").print();
    }
    Ok(())
}
