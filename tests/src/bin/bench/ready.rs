//! `ready`: from the start of the program to the first run accepted, with a warm cache; and what an idle process takes.

use crate::{
    figure::{Figure, Scale, millis, percentile},
    program::program,
};
use anyhow::{Context, Result, ensure};
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Instant,
};

/// Starts the program again and again on one folder.
pub(crate) fn ready(scale: Scale) -> Result<()> {
    let program = program("agentruntime-control-plane", "agentruntime")?;
    let folder = tempfile::tempdir()?;
    let graph = folder.path().join("workflow.json");
    std::fs::write(&graph, r#"{"steps":[{"id":"a","type":"lua_script","script":"return {n = 1}"}]}"#)?;
    let mut samples = Vec::new();
    for at in 0..scale.of(20, 3) + 1 {
        let begun = Instant::now();
        let mut child = Command::new(&program)
            .args(["run", "--json", "--input", "{}", "--data"])
            .arg(folder.path().join("data"))
            .arg(&graph)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("the program has an output")?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let accepted = begun.elapsed();
        // It has somebody to talk to until it ends.
        std::io::copy(&mut output, &mut std::io::sink())?;
        ensure!(line.contains("run_started"), "the first line is not a start: {line}");
        ensure!(child.wait()?.success(), "the program failed");
        // The first start fills the cache.
        if at > 0 {
            samples.push(accepted);
        }
    }
    let p50 = millis(percentile(&mut samples, 0.5));
    Figure::lower("ready", "process start to first run accepted, p50", p50, "ms").aim(300.0).print();
    Ok(())
}
