//! Egress: the one way in which what tenants ask for leaves a node.
//!
//! Owns where requests may go (addresses, redirects), how long and how large they may be, where secrets are put in and that they
//! do not come back. Never decides what a step was granted: whoever calls has a [permit](agentruntime_host_api::broker::Permit).
//! Never reads what a reply says.
//!
//! | file | owns |
//! |---|---|
//! | `address` | which network addresses may be reached |
//! | `resolve` | names to addresses; what was checked is what is connected to |
//! | `send` | one request with its redirects and its time |
//! | `reply` | what comes back, and its size |
//! | `scrub` | taking secrets out of what comes back |
//! | `sign` | HMAC with a secret |

mod address;
mod reply;
mod resolve;
mod scrub;
mod send;
mod sign;

pub use address::{Reach, is_public};
pub use reply::{LineLimits, Opened, Reply};
pub use resolve::{Lookup, SystemLookup};
pub use scrub::{Pieces, REDACTED, SECRET_BYTES_MIN, Scrubber};
pub use send::{Egress, EgressConfig, EgressError, REDIRECTS_MAX, REPLY_BYTES_DEFAULT, Secret, Send, TIMEOUT_DEFAULT};
pub use sign::hmac_sha256;
