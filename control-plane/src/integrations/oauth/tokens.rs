//! Asking for tokens: for a code, for a token that renews, or by what the client itself may do.

use super::{
    SCOPES_MAX,
    grant::{Client, Secrets},
    http::{HttpFailure, OverEgress},
};
use crate::integrations::mcp::shortened;
use agentruntime_egress::Scrubber;
use agentruntime_engine::database::Database;
use agentruntime_host_api::Timestamp;
use oauth2::{
    AuthType, AuthorizationCode, ClientId, ClientSecret, EndpointNotSet, EndpointSet, PkceCodeVerifier, RedirectUrl,
    RefreshToken, RequestTokenError, Scope, TokenResponse, TokenUrl,
    basic::{BasicClient, BasicErrorResponse, BasicErrorResponseType, BasicTokenResponse, BasicTokenType},
};
use secrecy::{ExposeSecret, SecretString};

type Requests = BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;
type Answered = Result<BasicTokenResponse, RequestTokenError<HttpFailure, BasicErrorResponse>>;

/// Where tokens are asked for, and by whom.
pub(super) struct Counter<'c> {
    /// The way there.
    pub(super) http: &'c OverEgress,
    /// Who asks.
    pub(super) client: &'c Client,
    /// What proves it, if something does.
    pub(super) client_secret: Option<&'c SecretString>,
    /// What time it is, for when tokens end.
    pub(super) database: &'c Database,
}

/// A code that a browser came back with.
pub(super) struct Code {
    pub(super) code: SecretString,
    /// What proves that we began (PKCE).
    pub(super) verifier: SecretString,
    /// Where the browser came back.
    pub(super) redirect_url: RedirectUrl,
}

/// A token that was given.
pub(super) struct Given {
    pub(super) secrets: Secrets,
    pub(super) expires_at: Option<Timestamp>,
    /// What it is good for, if that was said.
    pub(super) scopes: Option<Vec<String>>,
}

/// Why none was given.
#[derive(Debug)]
pub(super) enum NotGiven {
    /// There will be none: somebody has to grant access again.
    Refused(String),
    /// Not now, or not so.
    Failed(String),
}

impl Counter<'_> {
    /// A token for a code.
    pub(super) async fn for_code(&self, code: Code) -> Result<Given, NotGiven> {
        let Code { code, verifier, redirect_url } = code;
        let requests = self.requests()?.set_redirect_uri(redirect_url);
        let request = requests
            .exchange_code(AuthorizationCode::new(code.expose_secret().to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.expose_secret().to_owned()))
            .add_extra_param("resource", &self.client.resource);
        let http = self.http.sender();
        let answer = request.request_async(&http).await;
        self.given(answer, None, &[&code, &verifier])
    }

    /// A token for the client itself.
    pub(super) async fn for_client(&self, scopes: &[String]) -> Result<Given, NotGiven> {
        let requests = self.requests()?;
        let request = requests
            .exchange_client_credentials()
            .add_scopes(scopes.iter().cloned().map(Scope::new))
            .add_extra_param("resource", &self.client.resource);
        let http = self.http.sender();
        let answer = request.request_async(&http).await;
        self.given(answer, None, &[])
    }

    /// A token for one that renews.
    pub(super) async fn for_refresh_token(&self, token: &SecretString) -> Result<Given, NotGiven> {
        let (requests, given) = (self.requests()?, RefreshToken::new(token.expose_secret().to_owned()));
        let request = requests.exchange_refresh_token(&given).add_extra_param("resource", &self.client.resource);
        let http = self.http.sender();
        let answer = request.request_async(&http).await;
        self.given(answer, Some(token), &[token])
    }

    fn requests(&self) -> Result<Requests, NotGiven> {
        let url = TokenUrl::new(self.client.token_endpoint.to_string());
        let url = url.map_err(|error| NotGiven::Failed(error.to_string()))?;
        let mut requests = BasicClient::new(ClientId::new(self.client.id.clone())).set_token_uri(url);
        if self.client.is_secret_in_body {
            requests = requests.set_auth_type(AuthType::RequestBody);
        }
        if let Some(secret) = self.client_secret {
            requests = requests.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()));
        }
        Ok(requests)
    }

    /// What was given. Where there is no new token that renews, the one before goes on.
    fn given(
        &self,
        answer: Answered,
        before: Option<&SecretString>,
        sent: &[&SecretString],
    ) -> Result<Given, NotGiven> {
        let answer = answer.map_err(|error| self.not_given(&error, sent))?;
        if *answer.token_type() != BasicTokenType::Bearer {
            return Err(NotGiven::Failed("the authorization server gave a token of another kind than `Bearer`".into()));
        }
        let refresh_token = answer.refresh_token().map(|token| SecretString::from(token.secret().as_str()));
        let secrets = Secrets {
            access_token: SecretString::from(answer.access_token().secret().as_str()),
            refresh_token: refresh_token.or_else(|| before.cloned()),
            client_secret: self.client_secret.cloned(),
        };
        secrets.check().map_err(|message| NotGiven::Failed(message.to_owned()))?;
        let expires_at = answer.expires_in().map(|lasts| self.database.time().plus(lasts));
        // What it says beyond that is for nobody to read.
        let scopes = answer.scopes().map(|scopes| scopes.iter().take(SCOPES_MAX).map(|it| shortened(it)).collect());
        Ok(Given { secrets, expires_at, scopes })
    }

    /// What a server says of a refusal can quote what it was sent.
    fn not_given(
        &self,
        error: &RequestTokenError<HttpFailure, BasicErrorResponse>,
        sent: &[&SecretString],
    ) -> NotGiven {
        let scrubber = Scrubber::of(sent.iter().copied().chain(self.client_secret));
        let told = match error {
            RequestTokenError::ServerResponse(said) => format!("the authorization server refuses: {said}"),
            RequestTokenError::Request(failure) => format!("the authorization server cannot be asked: {failure}"),
            // Its words are nowhere here: they can be anything.
            RequestTokenError::Parse(..) => "the authorization server's answer is no token".to_owned(),
            RequestTokenError::Other(_) => "the authorization server's answer is empty or no JSON".to_owned(),
        };
        let told = scrubber.clean(shortened(&scrubber.clean(told)));
        match error {
            RequestTokenError::ServerResponse(said) if is_final(said.error()) => NotGiven::Refused(told),
            _ => NotGiven::Failed(told),
        }
    }
}

/// Whether asking again with the same cannot help.
fn is_final(error: &BasicErrorResponseType) -> bool {
    use BasicErrorResponseType as E;
    matches!(error, E::InvalidGrant | E::InvalidClient | E::UnauthorizedClient | E::InvalidScope)
}

impl NotGiven {
    /// Why, as a sentence.
    pub(super) fn told(self) -> String {
        match self {
            Self::Refused(told) | Self::Failed(told) => told,
        }
    }
}
