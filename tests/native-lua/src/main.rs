//! `native-lua N SOURCE`: for each line read, runs the source once in native Lua 5.4 with `input.n` set, and answers with
//! the microseconds that it took.
//!
//! A program of its own, since what native Lua needs would otherwise change how the sandbox beside it is built.

use anyhow::{Context, Result, anyhow};
use std::{io::BufRead, time::Instant};

#[expect(clippy::print_stdout, reason = "the answer is what the program is for")]
fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let n: i64 = words.next().context("usage: native-lua N SOURCE")?.parse()?;
    let source = words.next().context("usage: native-lua N SOURCE")?;
    let lua = mlua::Lua::new();
    let program = prepared(&lua, &source, n).map_err(|error| anyhow!("{error}"))?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let begun = Instant::now();
        program.call::<mlua::Table>(()).map_err(|error| anyhow!("{error}"))?;
        println!("{}", begun.elapsed().as_micros());
    }
    Ok(())
}

fn prepared(lua: &mlua::Lua, source: &str, n: i64) -> mlua::Result<mlua::Function> {
    lua.globals().set("input", lua.create_table_from([("n", n)])?)?;
    lua.load(source).into_function()
}
