//! Measures what a step costs: `cargo run --release -p agentruntime-sandbox --example probe [-- metered]`

use agentruntime_host_api::{
    Entropy, Guest, Invocation, Json, Language, Limits, Outcome, Program, Scope, TenantId, Timestamp,
};
use agentruntime_sandbox::{Sandbox, SandboxConfig};
use std::{
    env,
    error::Error,
    time::{Duration, Instant},
};

const ROUNDS: usize = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let fuel = env::args().any(|argument| argument == "metered").then_some(u64::MAX);
    let begun = Instant::now();
    let sandbox = Sandbox::new(SandboxConfig { cache_dir: Some(env::temp_dir().join("probe")), ..Default::default() })?;
    report("sandbox ready", begun.elapsed());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let trivial = invocation("return {x = input.a + 1}", fuel);
    let mut times = runtime.block_on(runtime.spawn(repeat(sandbox.clone(), trivial.clone(), ROUNDS)))?;
    times.sort_unstable();
    report("fresh instance and trivial step, p50", times[ROUNDS / 2]);
    report("fresh instance and trivial step, p99", times[ROUNDS * 99 / 100]);
    for threads in [2, 16] {
        let begun = Instant::now();
        let tasks: Vec<_> =
            (0..threads).map(|_| runtime.spawn(repeat(sandbox.clone(), trivial.clone(), ROUNDS / threads))).collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(runtime.block_on(task)?);
        }
        times.sort_unstable();
        let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
        report(&format!("{threads} at a time ({rate:.0} steps/s), p50"), times[times.len() / 2]);
    }
    for (name, source) in CPU {
        let step = invocation(source, fuel);
        let (mut inside, mut outside) = (Duration::MAX, Duration::MAX);
        // In turns, and the least of many: other work on the machine disturbs both alike.
        for _ in 0..15 {
            outside = outside.min(native(source));
            let times = runtime.block_on(runtime.spawn(repeat(sandbox.clone(), step.clone(), 1)))?;
            inside = times.into_iter().fold(inside, Duration::min);
        }
        let times = inside.as_secs_f64() / outside.as_secs_f64();
        report(&format!("{name}: {times:.2} times native, which takes"), outside);
    }
    Ok(())
}

const CPU: [(&str, &str); 4] = [
    ("fib(27)", "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end return {fib(27)}"),
    ("loop", "local x = 0 for i = 1, 1e7 do x = x + i % 7 end return {x}"),
    (
        "string",
        "local t = {} for i = 1, 100000 do t[#t + 1] = ('%d:%s'):format(i, tostring(i * 3)):upper() end
        local s = table.concat(t, ',') local n = 0 for w in s:gmatch('%d+') do n = n + #w end return {n}",
    ),
    (
        "table",
        "local t = {} for i = 1, 200000 do t[i] = {id = i, v = (i * 7919) % 1000} end
        table.sort(t, function(a, b) if a.v ~= b.v then return a.v < b.v end return a.id < b.id end)
        local sum = 0 for i, e in ipairs(t) do sum = sum + e.v * i end return {sum}",
    ),
];

async fn repeat(sandbox: Sandbox, invocation: Invocation, rounds: usize) -> Vec<Duration> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let invocation = invocation.clone();
        let begun = Instant::now();
        match sandbox.start(invocation).await {
            Outcome::Done(_) => times.push(begun.elapsed()),
            Outcome::Failed(error) => panic!("{error}"),
            Outcome::Requests { .. } => panic!("a measured step asks for nothing"),
        }
    }
    times
}

fn native(source: &str) -> Duration {
    let lua = mlua::Lua::new();
    let begun = Instant::now();
    lua.load(source).exec().expect("the scripts that are measured run");
    begun.elapsed()
}

fn invocation(source: &str, fuel: Option<u64>) -> Invocation {
    let input = Json::parse(r#"{"a":41}"#).expect("it is JSON");
    Invocation {
        tenant: TenantId::new("acme"),
        program: Program { language: Language::Lua, name: "probe".into(), source: source.into() },
        scope: Scope { globals: vec![("input", input)], steps: Vec::new() },
        started_at: Timestamp::from_micros(1_767_225_600_000_000),
        entropy: Entropy(7),
        limits: Limits { fuel, ..Limits::default() },
    }
}

#[expect(clippy::print_stdout, reason = "this is a command")]
fn report(what: &str, time: Duration) {
    println!("{what:60} {:10.1} µs", time.as_secs_f64() * 1e6);
}
