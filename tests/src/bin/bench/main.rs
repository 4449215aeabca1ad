//! The benchmarks: `bench NAME…` or `bench all`, `--quick` for a smoke run. Prints one JSON line per figure.
//!
//! Each aim stands beside what it is measured against in the same sitting, where there is such a thing: machines drift, ratios
//! hold.

mod egress;
mod figure;
mod lua;
mod outside;
mod parked;
mod program;
mod ready;
mod runs;
mod sandbox;
mod service;
mod world;

use anyhow::Result;
use clap::Parser;
use figure::Scale;

type Bench = fn(Scale) -> Result<()>;

const BENCHES: [(&str, Bench); 20] = [
    ("sandbox-start", sandbox::start),
    ("lua-cpu", lua::cpu),
    ("request-roundtrip", sandbox::roundtrip),
    ("request-egress", egress::request),
    ("seq10", runs::seq10),
    ("throughput", runs::throughput),
    ("fanout100", runs::fanout100),
    ("fib40", runs::fib40),
    ("fib33x10", runs::fib33x10),
    ("parked", parked::parked),
    ("ready", ready::ready),
    ("journal-size", runs::journal_size),
    ("serve-ready", service::ready),
    ("api-start", service::start),
    ("api-read", service::read),
    ("webhook", service::webhook),
    ("stream-fanout", service::stream_fanout),
    ("mcp-call", outside::tool),
    ("agent-loop", outside::agent),
    ("parked-llm", outside::parked),
];

/// Measures what a step, a run and a waiting run cost. Prints one JSON line per figure.
#[derive(clap::Parser)]
struct Arguments {
    /// What to measure, or `all`
    #[arg(required = true, value_parser = names())]
    names: Vec<String>,
    /// Do just enough to see that everything works
    #[arg(long)]
    quick: bool,
}

fn names() -> Vec<&'static str> {
    BENCHES.iter().map(|(name, _)| *name).chain(["all"]).collect()
}

fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .init();
    let Arguments { names, quick } = Arguments::parse();
    let scale = if quick { Scale::Quick } else { Scale::Full };
    for (name, bench) in BENCHES {
        if names.iter().any(|wanted| wanted == name || wanted == "all") {
            bench(scale)?;
        }
    }
    Ok(())
}
