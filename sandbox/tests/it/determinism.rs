//! The same step gives the same bytes and the same fuel, in any process.

use crate::harness::script;
use std::{env, process::Command};

/// As much as can differ: order of tables, addresses, random numbers, time, numbers as text, memory in use.
const SOURCE: &str = r#"
    local seen = {}
    for i = 1, 300 do seen['key' .. i] = i; seen[i * 1.5] = i; seen[{}] = i end
    local order = {}
    for k, v in pairs(seen) do order[#order + 1] = v end
    local function f() end
    return {
      order = table.concat(order, ','), text = tostring({}) .. tostring(f) .. tostring(coroutine.create(f)),
      random = {math.random(), math.random(1 << 40)}, time = os.time(), clock = os.clock(), memory = collectgarbage('count'),
      float = string.format('%.17g', 0.1 + 0.2), pow = 2.5 ^ 3.7, sin = math.sin(12345.678), log = math.log(3.3, 7),
      input = input, error = select(2, pcall(error, {})) == nil, format = string.format('%p', seen), date = os.date(),
    }"#;

fn once() -> String {
    let case =
        script(SOURCE).input(r#"{"b":[1,2.5,null],"a":{"z":{},"y":[]}}"#).limits(|limits| limits.fuel = Some(u64::MAX));
    let output = case.run().unwrap();
    format!("{:?} {}", output.fuel, output.json)
}

#[test]
fn the_same_step_gives_the_same_bytes_and_fuel_again() {
    let first = once();
    script("local t = {} for i = 1, 1e5 do t[i] = {i} end return {}").run().unwrap();
    assert_eq!(first, once());
}

#[test]
fn the_same_step_gives_the_same_bytes_and_fuel_in_another_process() {
    const MARK: &str = "the output is ";
    if env::var_os("DETERMINISM_CHILD").is_some() {
        println!("{MARK}{}", once());
        return;
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child.args([
        "--exact",
        "--nocapture",
        "determinism::the_same_step_gives_the_same_bytes_and_fuel_in_another_process",
    ]);
    let output = child.env("DETERMINISM_CHILD", "1").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let there = text.lines().find_map(|line| line.split_once(MARK)).map(|(_, rest)| rest);
    assert_eq!(there, Some(once().as_str()), "{text}");
}
