//! Who asks.

use super::{InProject, InTenant, PatId, RequestId, SessionId, TokenScopes, UserId};
use agentruntime_host_api::ProjectId;
use std::net::IpAddr;

/// Somebody who proved who they are, and the request they do it with.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Who.
    pub(crate) user: UserId,
    /// Their address, for people who read logs.
    pub(crate) email: String,
    /// How they proved it.
    pub(crate) credential: Credential,
    /// From where, and in which request.
    pub(crate) origin: Origin,
}

/// Where a request came from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The network address; behind trusted proxies, the client's.
    pub(crate) address: IpAddr,
    /// The request.
    pub(crate) request: RequestId,
}

/// A proof of identity.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    /// A browser's session.
    Session(SessionId),
    /// A personal access token, which narrows what its owner may.
    Token {
        /// Which.
        pat: PatId,
        /// The workspace it belongs to, as it was when the token was recognised: nobody asks for it again.
        tenant: InTenant,
        /// The only project it may be used in.
        project: Option<Bound>,
        /// What it may be used for.
        scopes: TokenScopes,
    },
}

/// The project that a token is bound to, as it was when the token was recognised.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    /// Which.
    pub(crate) project: ProjectId,
    /// What its owner is there, if they may enter it.
    pub(crate) entered: Option<InProject>,
    /// Whether it was taken out of use.
    pub(crate) is_archived: bool,
}

impl Credential {
    /// The token, where it is one.
    pub(crate) fn pat(&self) -> Option<PatId> {
        match self {
            Self::Token { pat, .. } => Some(*pat),
            Self::Session(_) => None,
        }
    }

    /// The only project that it reaches, where there is one.
    pub(crate) fn project(&self) -> Option<&ProjectId> {
        self.bound().map(|bound| &bound.project)
    }

    /// The same, with what the token's owner is there.
    pub(crate) fn bound(&self) -> Option<&Bound> {
        match self {
            Self::Token { project, .. } => project.as_ref(),
            Self::Session(_) => None,
        }
    }
}
