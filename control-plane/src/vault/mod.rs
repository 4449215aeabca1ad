//! Secrets that are needed again: how they are kept.
//!
//! Owns the master key and the sealed form. Never knows what a secret is for: whoever keeps one says where it lies, and the
//! sealed form opens there and nowhere else.

mod master_key;
mod seal;

pub(crate) use master_key::MasterKeyError;
pub(crate) use seal::{Place, SealError, Sealer};
