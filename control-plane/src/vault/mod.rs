//! Secrets that are needed again: how they are kept.
//!
//! Owns the master keys and the sealed form. Never knows what a secret is for: whoever keeps one says where it lies, and the
//! sealed form opens there and nowhere else.
//!
//! | file | owns |
//! |---|---|
//! | `master_key` | one key, in a file or given |
//! | `keys` | which key a database belongs to |
//! | `seal` | the sealed form |
//! | `data_keys` | keys of workspaces |
//! | `external` | secrets that a server elsewhere keeps |

pub(crate) mod data_keys;
mod external;
mod keys;
mod master_key;
mod seal;

pub(crate) use data_keys::DataKeyError;
pub(crate) use external::{ExternalError, ExternalSettings, ExternalVault, is_external, is_folder};
pub(crate) use keys::{GivenKeys, Keys, VaultError, keys_in_use, note_current};
pub(crate) use master_key::{MasterKeyError, check_form};
pub(crate) use seal::{BEGINNING_CHARS, Place, SealError, Sealer, beginning, key_of};
