//! How access is refused.

use super::{ProjectRole, TenantRole, TokenScope};
use agentruntime_engine::store::StoreError;

/// Why something was not done. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    /// Nobody proved who they are, or not any more. Never says which half of a credential was wrong.
    #[error("{0}")]
    NotAuthenticated(&'static str),
    /// The place does not exist, or the caller may not see it; which of the two is not told.
    #[error("there is no {0} that you could see; check X-Tenant-Id and X-Project-Id")]
    NoSuchPlace(&'static str),
    /// The request does not say which place is meant.
    #[error("say which {what} you mean: {how}")]
    PlaceMissing {
        /// Workspace or project.
        what: &'static str,
        /// How to say it.
        how: &'static str,
    },
    /// The token was not made for this.
    #[error("this token lacks the scope `{0}`; make one that has it, or sign in")]
    ScopeMissing(TokenScope),
    /// The role in the project is too low.
    #[error("this needs the role `{needed}` in the project; you are `{have}`")]
    ProjectRoleTooLow {
        /// What is needed.
        needed: ProjectRole,
        /// What the caller has.
        have: ProjectRole,
    },
    /// The role in the workspace is too low.
    #[error("this needs the role `{needed}` in the workspace; you are `{have}`")]
    TenantRoleTooLow {
        /// What is needed.
        needed: TenantRole,
        /// What the caller has.
        have: TenantRole,
    },
    /// Only a browser's session can do this, so that a stolen token cannot.
    #[error("this needs a signed-in session; a token cannot do it")]
    SessionNeeded,
    /// The caller may do this in general, but not to this one.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Something else is in the way.
    #[error("{message}")]
    Conflict {
        /// A stable name.
        code: &'static str,
        /// What to do.
        message: String,
    },
    /// A field does not hold what it should.
    #[error("`{field}`: {message}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What it should hold.
        message: String,
    },
    /// There is no such thing, or the caller may not see it.
    #[error("there is no {kind} `{id}`")]
    NotFound {
        /// What kind of thing.
        kind: &'static str,
        /// What was asked for.
        id: String,
    },
    /// A browser did this for another site than ours, or cannot show that it did not.
    #[error("{0}")]
    CrossSite(&'static str),
    /// The operator has not set this up.
    #[error("{0}")]
    NotConfigured(&'static str),
    /// Too often, or too much at once.
    #[error("{reason}; try again in {retry_after_s} s")]
    TooMany {
        /// Of what.
        reason: &'static str,
        /// When it is worth trying again.
        retry_after_s: u64,
    },
    /// Something outside does not answer.
    #[error("{what} does not answer: {reason}")]
    Unavailable {
        /// Which dependency.
        what: &'static str,
        /// What it said; goes to the log only.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
