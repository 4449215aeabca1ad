//! The master key: 32 bytes, under which everything else is sealed.
//!
//! An operator gives it. Where the data lies in a folder, the key lies in it, made at the first start; a database
//! server has no such folder, and there is no key that would be safe to make up.

use agentruntime_engine::store::Location;
use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::{
    ExposeSecret, SecretBox, SecretString,
    zeroize::{Zeroize, Zeroizing},
};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// The length of the key.
pub(super) const KEY_BYTES: usize = 32;
/// More than the key and its line end take: whatever is longer is another file.
const FILE_BYTES_MAX: u64 = 256;
const FILE_NAME: &str = "master.key";
/// What an operator gave, in errors. Its form was checked with the settings, which say where it was given.
const GIVEN: &str = "the setting `master_key`, or one of `previous_master_key_files`,";
/// What a key looks like.
const FORM: &str = "a key is 32 bytes in base64, as `openssl rand -base64 32` writes them";
/// What to do where the key of a data folder is damaged.
const RESTORE: &str = "put the file back from its copy, as a new one opens nothing that is sealed";

/// The key itself.
pub(super) type Key = SecretBox<[u8; KEY_BYTES]>;

/// The master key cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MasterKeyError {
    /// The file cannot be read, or not be made.
    #[error("cannot use the master key file {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is something else.
    #[error("{place} is no master key: it {why}; {remedy}")]
    Form {
        /// Where it was.
        place: String,
        /// What it is instead.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// Where the key is.
pub(super) enum Found {
    /// Here it is.
    Key(Key),
    /// A data folder keeps its own, and has none yet; it lies there when it is made.
    Unmade(PathBuf),
    /// A database server has none of its own, and none was given.
    None,
}

/// The key that was given, else that of the data folder.
pub(super) fn find(location: &Location, current: Option<&SecretString>) -> Result<Found, MasterKeyError> {
    match (current, location) {
        (Some(text), _) => given(text).map(Found::Key),
        (None, Location::Sqlite(folder)) => {
            let path = folder.join(FILE_NAME);
            if path.exists() { read(&path).map(Found::Key) } else { Ok(Found::Unmade(path)) }
        }
        (None, Location::Postgres(_)) => Ok(Found::None),
    }
}

/// Says what is wrong with a key that an operator gives, without repeating it.
pub(crate) fn check_form(text: &SecretString) -> Result<(), String> {
    parse(text.expose_secret()).map(drop).map_err(|why| format!("is no master key: it {why}; {FORM}"))
}

/// A key as an operator gives it.
pub(super) fn given(text: &SecretString) -> Result<Key, MasterKeyError> {
    parse(text.expose_secret()).map_err(|why| MasterKeyError::Form { place: GIVEN.into(), why, remedy: FORM })
}

fn read(path: &Path) -> Result<Key, MasterKeyError> {
    let mut text = Zeroizing::new(String::new());
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|source| MasterKeyError::File { path: path.to_owned(), source })?;
    parse(&text).map_err(|why| MasterKeyError::Form { place: path.display().to_string(), why, remedy: RESTORE })
}

fn parse(text: &str) -> Result<Key, String> {
    let bytes = BASE64_STANDARD.decode(text.trim()).map(Zeroizing::new).map_err(|_| "is not base64".to_owned())?;
    let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map(boxed);
    key.map_err(|_| format!("holds {} bytes instead of {KEY_BYTES}", bytes.len()))
}

/// Makes a key and writes it, for its owner alone. It is complete before it has its name.
pub(super) fn make(path: &Path) -> Result<Key, MasterKeyError> {
    let failed = |source| MasterKeyError::File { path: path.to_owned(), source };
    let draft = path.with_extension(format!("key.{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let text = Zeroizing::new(BASE64_STANDARD.encode(random().expose_secret()) + "\n");
    let mut file = options.open(&draft).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&draft, path).map_err(failed)?;
    read(path)
}

/// A new key.
pub(super) fn random() -> Key {
    let mut bytes = [0; KEY_BYTES];
    // Without randomness there is no safe way on.
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    boxed(bytes)
}

fn boxed(mut bytes: [u8; KEY_BYTES]) -> Key {
    let key = SecretBox::init_with_mut(|place: &mut [u8; KEY_BYTES]| place.copy_from_slice(&bytes));
    bytes.zeroize();
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(found: Found) -> [u8; KEY_BYTES] {
        let Found::Key(key) = found else { panic!("there is no key") };
        *key.expose_secret()
    }

    #[test]
    fn a_data_folder_keeps_the_key_that_its_first_start_made() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().to_owned());
        let Found::Unmade(path) = find(&location, None).unwrap() else { panic!("it has a key") };
        assert!(!path.exists(), "looking for a key makes none");
        let first = *make(&path).unwrap().expose_secret();
        assert_eq!(bytes(find(&location, None).unwrap()), first);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(folder.path().join(FILE_NAME)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE_NAME]);
    }

    #[test]
    fn a_database_server_has_the_key_that_was_given_and_no_other() {
        let location = Location::Postgres("postgres://db/x".into());
        assert!(matches!(find(&location, None), Ok(Found::None)));
        let given = |text: &str| find(&location, Some(&SecretString::from(text)));
        assert_eq!(bytes(given(&BASE64_STANDARD.encode([7; KEY_BYTES])).unwrap()), [7; KEY_BYTES]);
        for wrong in ["", "short", &BASE64_STANDARD.encode([7; 31])] {
            assert!(matches!(given(wrong), Err(MasterKeyError::Form { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_damaged_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), "damaged").unwrap();
        let found = find(&Location::Sqlite(folder.path().to_owned()), None);
        assert!(matches!(found, Err(MasterKeyError::Form { .. })));
    }
}
