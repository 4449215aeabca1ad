//! What is told about the service's work: the log, numbers, traces.
//!
//! Owns where they go and in which form. Never tells a secret: a test runs a session with everything switched on and
//! looks for each secret it used.
//!
//! | file | owns |
//! |---|---|
//! | `log` | which lines are written |
//! | `json` | lines as JSON |

mod json;
mod log;

use crate::settings::Observe;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

/// The log of a command: quiet unless asked for.
pub(crate) fn command() {
    tracing_subscriber::registry().with(log::of_command()).init();
}

/// Everything that is told about a service.
pub(crate) fn service(settings: &Observe) {
    tracing_subscriber::registry().with(log::of_service(settings)).init();
}
