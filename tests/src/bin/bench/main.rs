//! The benchmarks: `bench NAME…` or `bench all`, `--quick` for a smoke run. Prints one JSON line per figure.
//!
//! Each aim stands beside what it is measured against in the same sitting, where there is such a thing: machines drift, ratios
//! hold.

mod figure;
mod lua;
mod parked;
mod ready;
mod runs;
mod sandbox;
mod world;

use anyhow::{Result, bail};
use figure::Scale;

type Bench = fn(Scale) -> Result<()>;

const BENCHES: [(&str, Bench); 11] = [
    ("sandbox-start", sandbox::start),
    ("lua-cpu", lua::cpu),
    ("request-roundtrip", sandbox::roundtrip),
    ("seq10", runs::seq10),
    ("throughput", runs::throughput),
    ("fanout100", runs::fanout100),
    ("fib40", runs::fib40),
    ("fib33x10", runs::fib33x10),
    ("parked", parked::parked),
    ("ready", ready::ready),
    ("journal-size", runs::journal_size),
];

fn main() -> Result<()> {
    let (options, names): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let scale = match options.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Scale::Full,
        ["--quick"] => Scale::Quick,
        _ => bail!("the only option is --quick"),
    };
    if names.is_empty() {
        let known: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
        bail!("name benchmarks, or `all`: {}", known.join(" "));
    }
    for name in &names {
        let chosen: Vec<&(&str, Bench)> = BENCHES.iter().filter(|(known, _)| name == "all" || name == known).collect();
        if chosen.is_empty() {
            bail!("there is no benchmark `{name}`");
        }
        for (_, bench) in chosen {
            bench(scale)?;
        }
    }
    Ok(())
}
