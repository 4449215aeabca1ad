//! Which master key a database belongs to, and taking its secrets over to another one.
//!
//! The first key that seals for a database is noted in it, with something sealed that only this key opens. A process that has
//! another key learns so when it starts, and not when the first secret does not open. Never makes a key for a database whose
//! secrets need one that is missing.

use super::{
    MasterKeyError, Place, SealError, Sealer,
    master_key::{self, Found},
    seal::key_of,
};
use agentruntime_engine::{
    database::{Database, StoreError, Values, text},
    store::Location,
};
use agentruntime_host_api::TenantId;
use secrecy::SecretString;
use std::{collections::BTreeSet, path::PathBuf};

const NOTED: &str = "SELECT key_id, canary FROM master_key WHERE only_row = 1";
/// Gives the key that was noted, by whomever.
const NOTED_OR_NOTE: &str = "INSERT INTO master_key (only_row, key_id, canary, since) VALUES (1, $1, $2, $3) \
    ON CONFLICT (only_row) DO UPDATE SET since = master_key.since RETURNING key_id";
const NOTE: &str = "INSERT INTO master_key (only_row, key_id, canary, since) VALUES (1, $1, $2, $3) \
    ON CONFLICT (only_row) DO UPDATE SET key_id = excluded.key_id, canary = excluded.canary, since = excluded.since \
    WHERE master_key.key_id <> excluded.key_id RETURNING key_id";

/// What the canary is bound to.
const KIND: &str = "master-key";
/// What is sealed in it says nothing.
const CANARY: &str = "canary";

/// The keys that an operator gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GivenKeys<'a> {
    /// The one that seals; where none is given, a data folder has its own.
    pub(crate) current: Option<&'a SecretString>,
    /// Those that only open what was sealed before.
    pub(crate) previous: &'a [SecretString],
    /// A key that is lost: what is sealed under it is given up.
    pub(crate) given_up: Option<&'a str>,
}

/// A database's secrets cannot be opened with the keys that there are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    /// A key cannot be read, or not be made.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The data folder's own key is gone.
    #[error(
        "the master key file {path} is missing, and this data has secrets that are sealed under the key `{needed}`: put the \
         file back from its copy. Where there is none, they are lost: `agentruntime serve --give-up-master-key {needed}` goes \
         on with another key; each inbound webhook then needs a new signing secret, and credentials of connections, keys of \
         providers and the vault have to be entered anew",
        path = path.display()
    )]
    Lost {
        /// Where it should be.
        path: PathBuf,
        /// Which it was.
        needed: String,
    },
    /// None was given.
    #[error(
        "no master key is given, and this database has secrets that are sealed under the key `{needed}`: give it as `master_key_file`"
    )]
    Missing {
        /// Which is needed.
        needed: String,
    },
    /// Another was given.
    #[error(
        "the master key that is given is `{given}`, and this database has secrets that are sealed under the key `{needed}`: give \
         that one as `master_key_file`; or, to go over to `{given}`, as one of `previous_master_key_files`"
    )]
    Other {
        /// Which is there.
        given: String,
        /// Which is needed.
        needed: String,
    },
    /// Something cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keys that open all that a database has sealed; nothing was changed to learn it.
pub(crate) struct Keys {
    sealer: Sealer,
    /// Where a key of the data folder's own is to be made.
    unmade: Option<PathBuf>,
    /// Whether the database belongs to a key already, be it one that is given up.
    has_note: bool,
}

impl Keys {
    /// Finds the keys, and checks that they open what the database has. `in_use` are the keys under which something in it is
    /// sealed.
    pub(crate) async fn check(
        database: &Database,
        location: &Location,
        given: GivenKeys<'_>,
        in_use: BTreeSet<String>,
    ) -> Result<Self, VaultError> {
        let (own, unmade) = match master_key::find(location, given.current)? {
            Found::Key(key) => (Some(key), None),
            Found::Unmade(path) => (None, Some(path)),
            Found::None => (None, None),
        };
        let previous = given.previous.iter().map(master_key::given).collect::<Result<Vec<_>, _>>()?;
        let sealer = Sealer::of(own, previous);
        let row = database.rows(NOTED, Values::default()).await?.into_iter().next();
        let is_given_up = |id: &str| given.given_up == Some(id);
        let noted = row.as_ref().map(|row| text(row, 0)).transpose()?.filter(|id| !is_given_up(id)).map(str::to_owned);
        let needed = in_use.into_iter().filter(|id| !is_given_up(id)).chain(noted.clone());
        if let Some(needed) = needed.into_iter().find(|id| !sealer.opens(id)) {
            return Err(lacking(&sealer, unmade, needed));
        }
        if let (Some(row), Some(id)) = (&row, &noted)
            && sealer.open_sealed(place(&TenantId::new(""), id), text(row, 1)?).is_err()
        {
            // Two keys with one name: so rare that nobody has seen it.
            return Err(lacking(&sealer, unmade, id.clone()));
        }
        Ok(Self { sealer, unmade, has_note: row.is_some() })
    }

    /// What seals and opens, with a new key where a data folder has none yet. The first key of a database is noted in it; of
    /// processes that begin at once with different keys, one is told so.
    pub(crate) async fn open(self, database: &Database) -> Result<Sealer, VaultError> {
        let Self { mut sealer, unmade, has_note } = self;
        if let Some(path) = unmade {
            sealer.take(master_key::make(&path)?);
        }
        if let Some(own) = sealer.own_id().filter(|_| !has_note) {
            let rows = database.write(NOTED_OR_NOTE, note(&sealer, own, database)?).await?;
            let first = rows.first().map(|row| text(row, 0)).transpose()?;
            if let Some(first) = first.filter(|first| !sealer.opens(first)) {
                return Err(lacking(&sealer, None, first.to_owned()));
            }
        }
        Ok(sealer)
    }
}

/// The keys under which something is sealed, whose beginnings a statement gives.
pub(crate) async fn keys_in_use(database: &Database, sql: &'static str) -> Result<BTreeSet<String>, StoreError> {
    let rows = database.rows(sql, Values::default()).await?;
    let keys = rows.iter().map(|row| Ok(key_of(text(row, 0)?).map(str::to_owned)));
    keys.filter_map(Result::transpose).collect()
}

/// Notes that all of a database's secrets are sealed under the sealer's own key now.
pub(crate) async fn note_current(database: &Database, sealer: &Sealer) -> Result<(), VaultError> {
    if let Some(own) = sealer.own_id() {
        database.write(NOTE, note(sealer, own, database)?).await?;
    }
    Ok(())
}

fn note(sealer: &Sealer, own: &str, database: &Database) -> Result<Values, VaultError> {
    let canary = sealer.seal(place(&TenantId::new(""), own), &SecretString::from(CANARY))?;
    let mut values = Values::default();
    values.text(own).text(canary).number(database.time().as_micros());
    Ok(values)
}

fn place<'a>(nobody: &'a TenantId, id: &'a str) -> Place<'a> {
    Place { tenant: nobody, kind: KIND, id }
}

fn lacking(sealer: &Sealer, unmade: Option<PathBuf>, needed: String) -> VaultError {
    match (unmade, sealer.own_id()) {
        (Some(path), _) => VaultError::Lost { path, needed },
        (None, Some(given)) => VaultError::Other { given: given.to_owned(), needed },
        (None, None) => VaultError::Missing { needed },
    }
}
