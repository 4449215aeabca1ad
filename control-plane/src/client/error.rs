//! Why a server could not be asked, or what it refused: sentences that say what to do.

use agentruntime_engine::graph::Issue;
use serde_json::Value;

/// What went wrong between this program and a server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The text is no URL of a server.
    #[error("`{url}` cannot be a server's URL: {why}")]
    InvalidUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The token would travel readably.
    #[error(
        "`{0}` is not encrypted, so that others could read the token on its way: use https://, or say --insecure-http \
         where the network is yours alone"
    )]
    Plaintext(String),
    /// Nobody answers there.
    #[error("cannot reach {server}: {reason}; is the URL right, and does the server run?")]
    Unreachable {
        /// Where.
        server: String,
        /// Why.
        reason: String,
    },
    /// Its certificate is not trusted here, or it does not speak TLS.
    #[error("no trusted connection to {server}: {reason}; {}", trust(reason))]
    Tls {
        /// Where.
        server: String,
        /// Why.
        reason: String,
    },
    /// It did not answer in time.
    #[error("{server} did not answer within {seconds} s; try again, or look at the server's log")]
    Silent {
        /// Where.
        server: String,
        /// How long was waited.
        seconds: u64,
    },
    /// It wants us to ask elsewhere. A token is for one server.
    #[error("{server} refers to {to}; the token is not sent there unasked: if that is right, log in to it")]
    Redirected {
        /// Where.
        server: String,
        /// To where.
        to: String,
    },
    /// The answer is not one of this API.
    #[error("{server} does not answer like an AgentRuntime server: {what}")]
    Unexpected {
        /// Where.
        server: String,
        /// What came.
        what: String,
    },
    /// The token is not valid there.
    #[error("{server} does not take this token: {error}; log in with another (`agentruntime login {server}`)")]
    NotAuthenticated {
        /// Where.
        server: String,
        /// What it says.
        error: String,
    },
    /// What it refused.
    #[error("{}", .0.sentence())]
    Refused(Box<Refused>),
    /// Several workflows have this name.
    #[error("`{name}` is the name of {} workflows: {}; name one by its id", ids.len(), ids.join(", "))]
    AmbiguousWorkflow {
        /// The name.
        name: String,
        /// Which.
        ids: Vec<String>,
    },
    /// Somebody else was at work on a draft.
    #[error(
        "the draft of `{name}` was changed by somebody else just now; nothing was published. Look at it there, then publish again to \
         replace it"
    )]
    DraftChanged {
        /// What people call the workflow.
        name: String,
    },
    /// The token may not look names up.
    #[error(
        "this token may not read workflows (it lacks the scope `workflow:read`), so that `{name}` cannot be looked up: name the \
         workflow by its id, or log in with a token that may read"
    )]
    NamesUnreadable {
        /// The name.
        name: String,
    },
    /// The file of logins cannot be read or written.
    #[error("the logins in `{path}` cannot be {done}: {reason}")]
    Profiles {
        /// The file.
        path: String,
        /// Read, or written.
        done: &'static str,
        /// Why.
        reason: String,
    },
}

/// What to do about a certificate that is not trusted, by what the library says is wrong with it.
fn trust(reason: &str) -> &'static str {
    let is = |word: &str| reason.contains(word);
    if is("CaUsedAsEndEntity") {
        "a certificate that issues others cannot be a server's: make the server's own without CA:TRUE (openssl: -addext \
         basicConstraints=critical,CA:FALSE)"
    } else if is("NotValidForName") {
        "it is the certificate of another name: use the name in it, or have one made for this name"
    } else if is("invalid peer certificate") && !is("Expired") && !is("NotValidYet") && !is("Revoked") {
        // An issuer that is not known here, or one that is known and has another key.
        "this machine does not know its issuer. Where it is self-signed, or of an issuer of your own, name the issuer's \
         certificate in PEM: SSL_CERT_FILE=issuer.pem before the command, or among those that this machine trusts"
    } else {
        "is its certificate valid, and its issuer known to this machine?"
    }
}

/// A refusal, as servers write it.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The status of the answer.
    pub(crate) status: u16,
    /// A stable name for programs.
    pub(crate) code: String,
    /// What to do.
    pub(crate) error: String,
    /// What a program may want to know besides.
    pub(crate) details: Option<Value>,
    /// What is wrong with a graph or an input.
    pub(crate) issues: Vec<Issue>,
    /// How long to wait, where it says so.
    pub(crate) retry_after_s: Option<u64>,
    /// What the server's log calls the request.
    pub(crate) request_id: Option<String>,
}

impl Refused {
    fn sentence(&self) -> String {
        let mut sentence = self.error.clone();
        if let Some(seconds) = self.retry_after_s {
            sentence.push_str(&format!("; try again in {seconds} s"));
        }
        if let (Some(request), 500..) = (&self.request_id, self.status) {
            sentence.push_str(&format!(" (request {request})"));
        }
        sentence
    }
}

impl ClientError {
    /// A stable name for programs: the server's own, where it gave one.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::InvalidUrl { .. } => "INVALID_URL",
            Self::Plaintext(_) => "PLAINTEXT_REFUSED",
            Self::Unreachable { .. } => "SERVER_UNREACHABLE",
            Self::Tls { .. } => "TLS_FAILED",
            Self::Silent { .. } => "SERVER_TIMEOUT",
            Self::Redirected { .. } => "SERVER_REDIRECTS",
            Self::Unexpected { .. } => "UNEXPECTED_ANSWER",
            Self::NotAuthenticated { .. } => "NOT_AUTHENTICATED",
            Self::Refused(refused) => &refused.code,
            Self::AmbiguousWorkflow { .. } => "WORKFLOW_AMBIGUOUS",
            Self::DraftChanged { .. } => "WORKFLOW_CHANGED",
            Self::NamesUnreadable { .. } => "SCOPE_MISSING",
            Self::Profiles { .. } => "PROFILES_UNUSABLE",
        }
    }

    /// Whether the server refused with this code.
    pub(crate) fn is_refused_as(&self, code: &str) -> bool {
        matches!(self, Self::Refused(refused) if refused.code == code)
    }

    /// Whether the same may go well a little later: nobody answered, or somebody said so.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } => true,
            Self::Refused(refused) => matches!(refused.status, 429 | 502 | 503 | 504),
            _ => false,
        }
    }
}
