//! Speaking to a server: this program's own API, over HTTP, with a token.
//!
//! Owns where a server is, what is sent there and how its answers are read back into the types that the command line shows.
//! Never follows a redirect, and never sends a token where somebody on the way could read it.
//!
//! | file | owns |
//! |---|---|
//! | `address` | a server's URL, and whether a token may travel there |
//! | `http` | one request and its answer; waiting and trying again |
//! | `error` | why a server could not be asked, or what it refused |
//! | `server` | the API as functions |
//! | `answers` | answers as records |
//! | `feed` | live events, over as many connections as it takes |
//! | `profiles` | servers that somebody is logged in to, in a file |

mod address;
mod answers;
mod error;
mod feed;
mod http;
mod profiles;
mod server;

pub(crate) use address::{Address, Plaintext};
pub(crate) use answers::{ServerWorkflow, Started};
pub(crate) use error::{ClientError, Refused};
pub(crate) use http::{Http, Notice, Place};
pub(crate) use profiles::{DEFAULT_PROFILE, Profile, Profiles};
pub(crate) use server::{Decide, Reading, Server, StartRun};
