//! Servers that somebody is logged in to: a file that only its owner can read, as it holds tokens.

use super::{Address, ClientError, Place, Plaintext};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt, fs, io,
    io::Write,
    path::{Path, PathBuf},
};

/// The profile that is meant where none is named.
pub(crate) const DEFAULT_PROFILE: &str = "default";

const FILE: &str = "servers.json";

/// One login.
#[derive(Clone)]
pub(crate) struct Profile {
    /// Where.
    pub(crate) address: Address,
    /// The token.
    pub(crate) token: SecretString,
    /// Which project.
    pub(crate) place: Place,
    /// Whether the token may travel unencrypted.
    pub(crate) plaintext: Plaintext,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile").field("address", &self.address).field("place", &self.place).finish_non_exhaustive()
    }
}

/// The file of logins.
pub(crate) struct Profiles {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
}

/// A login as it is written.
#[derive(Serialize, Deserialize)]
struct Entry {
    url: String,
    token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    insecure_http: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[derive(Default, Serialize, Deserialize)]
struct Document {
    #[serde(default)]
    profiles: BTreeMap<String, Entry>,
}

impl Profiles {
    /// Reads the logins in a folder. Where there is no file, there are none.
    pub(crate) fn read(folder: &Path) -> Result<Self, ClientError> {
        let path = folder.join(FILE);
        let unread = |reason: String| ClientError::Profiles { path: path.display().to_string(), done: "read", reason };
        let document = match fs::read(&path) {
            // What does not parse is not repeated: it may be a token.
            Ok(bytes) => serde_json::from_slice::<Document>(&bytes).map_err(|error| {
                unread(format!("line {} is not as it was written; mend or delete the file", error.line()))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Document::default(),
            Err(error) => return Err(unread(error.to_string())),
        };
        Ok(Self { path, entries: document.profiles })
    }

    /// A login by its name.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Profile>, ClientError> {
        self.entries.get(name).map(Entry::profile).transpose()
    }

    /// The login at a server, whatever it is called.
    pub(crate) fn at(&self, address: &Address) -> Result<Option<Profile>, ClientError> {
        let address = address.to_string();
        self.entries.values().find(|entry| entry.url == address).map(Entry::profile).transpose()
    }

    /// Keeps a login under a name, instead of the one before.
    pub(crate) fn put(&mut self, name: &str, profile: &Profile) -> Result<(), ClientError> {
        let entry = Entry {
            url: profile.address.to_string(),
            token: profile.token.expose_secret().to_owned(),
            tenant: profile.place.tenant.clone(),
            project: profile.place.project.clone(),
            insecure_http: profile.plaintext == Plaintext::Allowed,
        };
        self.entries.insert(name.to_owned(), entry);
        self.write()
    }

    /// Forgets a login. Whether there was one is the answer.
    pub(crate) fn remove(&mut self, name: &str) -> Result<bool, ClientError> {
        let was_there = self.entries.remove(name).is_some();
        if was_there {
            self.write()?;
        }
        Ok(was_there)
    }

    /// Writes the file beside the old one, and then in its place: nobody reads half of it, and at no time others can.
    fn write(&self) -> Result<(), ClientError> {
        let unwritten = |error: io::Error| ClientError::Profiles {
            path: self.path.display().to_string(),
            done: "written",
            reason: error.to_string(),
        };
        let document = serde_json::json!({ "profiles": self.entries });
        let folder = self.path.parent().unwrap_or(Path::new("."));
        make_folder(folder).map_err(unwritten)?;
        let next = self.path.with_extension(format!("{}.tmp", std::process::id()));
        let written = write_private(&next, format!("{document:#}\n").as_bytes());
        written.and_then(|()| fs::rename(&next, &self.path)).map_err(|error| {
            // Without it, the error is the same.
            let _ = fs::remove_file(&next);
            unwritten(error)
        })
    }
}

impl Entry {
    fn profile(&self) -> Result<Profile, ClientError> {
        let plaintext = if self.insecure_http { Plaintext::Allowed } else { Plaintext::Loopback };
        Ok(Profile {
            address: Address::parse(&self.url, plaintext)?,
            token: self.token.clone().into(),
            place: Place { tenant: self.tenant.clone(), project: self.project.clone() },
            plaintext,
        })
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(url: &str) -> Profile {
        let place = Place { tenant: Some("acme".into()), project: None };
        let address = Address::parse(url, Plaintext::Loopback).unwrap();
        Profile { address, token: "pat_secret".to_owned().into(), place, plaintext: Plaintext::Loopback }
    }

    #[test]
    fn a_login_is_kept_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut profiles = Profiles::read(folder.path()).unwrap();
        profiles.put("default", &profile("https://one.example.com")).unwrap();
        profiles.put("two", &profile("https://two.example.com")).unwrap();
        let mut profiles = Profiles::read(folder.path()).unwrap();
        assert!(profiles.get("default").unwrap().is_some());
        let found = profiles.get("two").unwrap().unwrap();
        assert_eq!(
            (found.address.to_string().as_str(), found.token.expose_secret()),
            ("https://two.example.com", "pat_secret")
        );
        assert_eq!(found.place.tenant.as_deref(), Some("acme"));
        assert!(profiles.at(&found.address).unwrap().is_some());
        assert!(profiles.remove("two").unwrap() && !profiles.remove("two").unwrap());
        assert!(Profiles::read(folder.path()).unwrap().get("two").unwrap().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("agentruntime");
        Profiles::read(&inner).unwrap().put("default", &profile("https://one.example.com")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&inner.join(FILE))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1);
    }

    #[test]
    fn a_token_is_in_no_message() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "{\n\"profiles\": { \"default\": \"pat_secret\" } }").unwrap();
        let told = Profiles::read(folder.path()).err().unwrap().to_string();
        assert!(told.contains("line 2") && !told.contains("pat_secret"), "{told}");
        assert!(!format!("{:?}", profile("https://one.example.com")).contains("pat_secret"));
    }
}
