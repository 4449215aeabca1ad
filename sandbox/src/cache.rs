//! Compiled code on disk.
//!
//! Owns the folder, the key and the form of its files. Compiled code is trusted as if it were part of this program, so a
//! file is mapped only if this installation wrote it: beside each lies its MAC (HMAC-SHA256) under a key that only this
//! user can read. A file that does not match is compiled and written again.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};
use wasmtime::{Engine, Module};

const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 32;

/// A folder of compiled code.
pub(crate) struct Cache {
    dir: PathBuf,
    key: [u8; KEY_BYTES],
}

impl Cache {
    /// Opens the folder, making it and its key where they are missing.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned(), key: key(&dir.join("key"))? })
    }

    /// The module from the folder, or compiled now.
    pub(crate) fn load(&self, engine: &Engine, name: &str, wasm: &[u8]) -> wasmtime::Result<Module> {
        let path = self.dir.join(format!("{name}.cwasm"));
        if let Some(module) = self.map(engine, &path) {
            return Ok(module);
        }
        let module = Module::new(engine, wasm)?;
        if let Err(error) = self.store(&path, &module.serialize()?) {
            tracing::warn!(%error, path = %path.display(), "compiled code cannot be kept; the next start compiles again");
        }
        Ok(module)
    }

    fn map(&self, engine: &Engine, path: &Path) -> Option<Module> {
        let mut file = File::open(path).ok()?;
        let mut code = Vec::new();
        file.read_to_end(&mut code).ok()?;
        let mac = fs::read(mac_path(path)).ok()?;
        if self.mac(&code).verify_slice(&mac).is_err() {
            tracing::warn!(path = %path.display(), "compiled code was changed by somebody else; it is compiled again");
            return None;
        }
        map_trusted(engine, file)
    }

    fn store(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        let mac: [u8; MAC_BYTES] = self.mac(code).finalize().into_bytes().into();
        write_whole(&mac_path(path), &mac)?;
        write_whole(path, code)
    }

    fn mac(&self, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a MAC takes a key of any length");
        mac.update(code);
        mac
    }
}

#[expect(unsafe_code, reason = "mapping compiled code trusts it; the caller compared its MAC")]
fn map_trusted(engine: &Engine, file: File) -> Option<Module> {
    // SAFETY: the file is what `Module::serialize` wrote here, by its MAC, and is replaced but never changed in place.
    unsafe { Module::deserialize_open_file(engine, file) }.ok()
}

fn mac_path(path: &Path) -> PathBuf {
    path.with_extension("mac")
}

fn key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    if let Some(key) = fs::read(path).ok().and_then(|bytes| bytes.try_into().ok()) {
        return Ok(key);
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    write_whole(path, &key)?;
    // Of two processes that began together the later key stays, and both have to use it.
    fs::read(path)?.try_into().map_err(|_| io::Error::other("the key of the code cache has a wrong length"))
}

/// Writes a file that is there as a whole or not at all, and that only this user can read.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unique = [0; 8];
    getrandom::fill(&mut unique).map_err(io::Error::other)?;
    let beside = path.with_extension(format!("{:016x}", u64::from_le_bytes(unique)));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&beside).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.and_then(|()| fs::rename(&beside, path)).inspect_err(|_| _ = fs::remove_file(&beside))
}
