//! Lua in the sandbox beside native Lua 5.4 in the same run.

use crate::{
    figure::{Figure, Scale, millis},
    program::program,
    sandbox::{finished, invocation},
    world,
};
use agentruntime_host_api::Guest;
use anyhow::{Context, Result};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

const WORK: [(&str, &str); 3] = [
    (
        "fib",
        "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
         return {value = fib(input.n)}",
    ),
    (
        "strings",
        "local parts = {}
         for i = 1, 4000 * input.n do
           local s = string.format('%d:%s', i, ('x'):rep(i % 17))
           parts[#parts + 1] = s:upper():gsub('X', 'y'):sub(1, 12)
         end
         return {value = #table.concat(parts, ',')}",
    ),
    (
        "tables",
        "local sum = 0
         for round = 1, input.n do
           local t = {}
           for i = 1, 4000 do t[i] = {key = (i * 7919) % 4001, tag = i} end
           table.sort(t, function(a, b) return a.key < b.key end)
           for i, entry in ipairs(t) do sum = sum + entry.tag * (i % 3) end
         end
         return {value = sum}",
    ),
];

/// `lua-cpu`: the sandbox's time in units of native Lua's.
pub(crate) fn cpu(scale: Scale) -> Result<()> {
    let runtime = world::runtime()?;
    let guest = world::sandbox()?;
    for (name, source) in WORK {
        let n = if name == "fib" { scale.of(30, 22) } else { scale.of(40, 2) };
        let mut native = Native::start(source, n)?;
        let call = invocation(source, &format!(r#"{{"n":{n}}}"#), Duration::from_secs(30))?;
        let mut pairs = Vec::new();
        for _ in 0..scale.of(9, 1) {
            let native_time = native.run()?;
            let begun = Instant::now();
            finished(runtime.block_on(guest.start(call.clone())))?;
            pairs.push((begun.elapsed().as_secs_f64() / native_time.as_secs_f64(), native_time));
        }
        pairs.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
        let (ratio, native_time) = pairs[pairs.len() / 2];
        Figure::lower("lua-cpu", name, ratio, "× native").aim(2.0).baseline(1.0).print();
        let label = format!("{name}, native");
        Figure::lower("lua-cpu", &label, millis(native_time), "ms").print();
    }
    Ok(())
}

/// The same script in native Lua, in a process beside this one.
struct Native {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Native {
    fn start(source: &str, n: usize) -> Result<Self> {
        let mut child = Command::new(program("agentruntime-native-lua", "native-lua")?)
            .args([&n.to_string(), source])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let questions = child.stdin.take().context("the program reads")?;
        let answers = BufReader::new(child.stdout.take().context("the program writes")?);
        Ok(Self { child, questions, answers })
    }

    /// Runs the script once, and says how long it took.
    fn run(&mut self) -> Result<Duration> {
        writeln!(self.questions)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(Duration::from_micros(answer.trim().parse().context("native Lua failed")?))
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // It ends by itself when nobody asks any more; a program that does not is not waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
