//! Takes the snapshot of the guest: runs its set-up once and writes a module that starts where the set-up ended.
//!
//! `cargo run --release -p agentruntime-sandbox --example snapshot-guest -- BUILT.wasm SNAPSHOT.wasm`

use futures_util::FutureExt;
use std::{env, error::Error, fs};
use wasmtime::{Caller, Engine, Instance, Linker, Module, Store, Val};
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType, Wizer};

/// WASI's answer that there is no such descriptor.
const BADF: i32 = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let [_, built, snapshot] = <[String; 3]>::try_from(env::args().collect::<Vec<_>>())
        .map_err(|_| "two files are wanted: the built guest, and where its snapshot goes")?;
    fs::write(snapshot, take(&fs::read(built)?)?)?;
    Ok(())
}

/// The set-up sees a clock that stands at 0, no environment and no files, so its result depends on nothing.
fn take(built: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let wizer = Wizer::new();
    let (context, instrumented) = wizer.instrument(built)?;
    let engine = Engine::default();
    let module = Module::new(&engine, &instrumented)?;
    let mut linker = Linker::new(&engine);
    linker.func_wrap("wasi_snapshot_preview1", "fd_prestat_get", |_: Caller<'_, ()>, _: i32, _: i32| BADF)?;
    let mut store = Store::new(&engine, ());
    linker.define_unknown_imports_as_default_values(&mut store, &module)?;
    let instance = linker.instantiate(&mut store, &module)?;
    instance.get_typed_func::<(), ()>(&mut store, wizer.get_init_func())?.call(&mut store, ())?;
    let mut finished = Finished { store, instance };
    Ok(wizer.snapshot(&context, &mut finished).now_or_never().ok_or("taking a snapshot waits for nothing")??)
}

/// The instance after its set-up.
struct Finished {
    store: Store<()>,
    instance: Instance,
}

impl InstanceState for Finished {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let global = self.instance.get_global(&mut self.store, name).expect("the instrumented module exports it");
        match global.get(&mut self.store) {
            Val::I32(value) => SnapshotVal::I32(value),
            Val::I64(value) => SnapshotVal::I64(value),
            Val::F32(value) => SnapshotVal::F32(value),
            Val::F64(value) => SnapshotVal::F64(value),
            other => panic!("a global of the guest is {other:?}, which has no place in a snapshot"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.instance.get_memory(&mut self.store, name).expect("the instrumented module exports it");
        contents(memory.data(&self.store));
    }
}
