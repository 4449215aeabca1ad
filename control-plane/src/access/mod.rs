//! Who may do what: users, workspaces, projects, tokens, sessions, and the log of what was done.
//!
//! Owns every decision about access, and the tables behind it. Never knows HTTP: the API's extractors turn a request into
//! credentials, ask here who it is, and hold the answer as a [`May`], without which no operation can be
//! called. What a caller may not see answers as if it did not exist.
//!
//! | file | owns |
//! |---|---|
//! | `role` | roles in workspaces and projects, scopes of tokens |
//! | `token` | the form of tokens: random, checked before the database is asked, kept as hashes |
//! | `caller` | who asks, and by which credential |
//! | `permission` | what each operation needs, as types |
//! | `enterable` | which projects of a workspace somebody may enter |
//! | `entry` | from a caller and the named place to a permission, or the refusal |
//! | `audit` | the append-only log: written, read, checked |
//! | `founding` | the first owner, made on the data itself |
//! | `field` | the form of names, addresses and slugs |
//! | `last_used` | when tokens were used last, without a write for each request |
//! | `accounts` | signing up, signing in, forgotten passwords |
//! | `passwords`, `attempts` | hashing without drowning in it; how often somebody may try |
//! | `openid`, `openid_issuer`, `openid_attempts` | signing in with an account elsewhere |
//! | `tables` | the tables of the control plane |
//! | `rows` | what statements over many of them have in common |
//! | the rest | one aggregate each: its rows and what can be done with them |

pub(crate) mod accounts;
pub(crate) mod attempts;
pub(crate) mod audit;
pub(crate) mod caller;
pub(crate) mod domains;
pub(crate) mod enterable;
pub(crate) mod entry;
mod error;
pub(crate) mod field;
pub(crate) mod founding;
mod id;
pub(crate) mod invites;
pub(crate) mod last_used;
mod mail_tokens;
pub(crate) mod members;
pub(crate) mod openid;
mod openid_attempts;
mod openid_issuer;
mod passwords;
pub(crate) mod permission;
pub(crate) mod project_members;
pub(crate) mod projects;
pub(crate) mod role;
pub(crate) mod rows;
pub(crate) mod sessions;
pub(crate) mod tables;
pub(crate) mod tenants;
pub(crate) mod token;
pub(crate) mod tokens;
pub(crate) mod users;

pub(crate) use caller::{Caller, Credential};
pub(crate) use error::AccessError;
pub(crate) use id::*;
pub(crate) use permission::{InProject, InSession, InTenant, May, SignedIn};
pub(crate) use role::{ProjectRole, TenantRole, TokenScope, TokenScopes, Visibility};

#[cfg(test)]
mod tests;
