//! Why a model gave no answer.

use agentruntime_egress::EgressError;
use serde_json::Value;

/// What went wrong with one request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// It did not come there, or nothing came back.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// An answer that came piece by piece ended before its end.
    #[error("its answer broke off")]
    BrokeOff,
    /// The vendor says in the middle of its answer that it failed: what it said.
    #[error("it failed in the middle of its answer")]
    Said(Value),
    /// What came is no stream of events as vendors send them.
    #[error("its answer is no stream of events in JSON; ask for it without `stream`")]
    Illegible,
    /// The answer is longer than what is recorded.
    #[error("its answer is longer than the {limit} bytes that it may have")]
    TooLong {
        /// The limit.
        limit: usize,
    },
}

impl Fault {
    /// Whether it is a matter of what is allowed.
    pub(super) fn is_denial(&self) -> bool {
        matches!(self, Self::Egress(error) if error.is_denial())
    }

    /// Whether it may go well the next time.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Egress(EgressError::Unreachable { .. }) | Self::BrokeOff)
    }
}
