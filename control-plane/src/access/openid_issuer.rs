//! Speaking to the issuer: what it says of itself, and what a code is worth.
//!
//! The issuer's token is checked here: signature, issuer, audience, times and nonce. Never knows accounts.

use super::AccessError;
use crate::settings::OpenIdSettings;
use agentruntime_engine::database::{Clock, SystemClock};
use agentruntime_host_api::Timestamp;
use openidconnect::{
    AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret, CsrfToken, EndpointMaybeSet, EndpointNotSet,
    EndpointSet, HttpRequest, HttpResponse, IssuerUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope,
    TokenResponse,
    core::{CoreAuthenticationFlow, CoreClient, CoreIdToken, CoreIdTokenClaims, CoreProviderMetadata},
};
use secrecy::{ExposeSecret, SecretString};
use std::{sync::Arc, time::Duration};
use tokio::sync::Mutex;
use url::Url;

/// An answer that takes longer does not come.
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// Descriptions, keys and tokens are some kilobytes; this much is held in memory.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// For how long the issuer's description and keys are believed. Keys that are not found are asked for sooner.
const METADATA_LASTS: Duration = Duration::from_secs(10 * 60);

const WHAT: &str = "the issuer of sign-ins";

type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// The issuer's settings are wrong.
#[derive(Debug, thiserror::Error)]
#[error("signing in elsewhere is set up wrongly: {0}")]
pub(crate) struct OpenIdSetupError(String);

/// The issuer.
pub(crate) struct Issuer {
    issuer: IssuerUrl,
    client_id: ClientId,
    client_secret: SecretString,
    redirect_url: RedirectUrl,
    http: reqwest::Client,
    known: Mutex<Option<(Timestamp, Arc<Client>)>>,
}

/// Who somebody is at the issuer.
pub(crate) struct Claims {
    pub(crate) subject: String,
    /// In the issuer's spelling, if it has verified it.
    pub(crate) email: Option<String>,
    pub(crate) name: Option<String>,
}

/// The secrets of one sign-in.
pub(crate) struct Secrets {
    pub(crate) nonce: String,
    pub(crate) pkce_verifier: String,
}

impl Issuer {
    pub(crate) fn new(settings: &OpenIdSettings, redirect_url: &Url) -> Result<Self, OpenIdSetupError> {
        let wrong = |error: &dyn std::fmt::Display| OpenIdSetupError(error.to_string());
        let issuer = IssuerUrl::new(settings.issuer.clone()).map_err(|error| wrong(&error))?;
        let is_here = |url: &Url| match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if issuer.url().scheme() != "https" && !is_here(issuer.url()) {
            return Err(OpenIdSetupError("the issuer's URL begins with https://".into()));
        }
        let http = reqwest::Client::builder().timeout(HTTP_TIMEOUT).redirect(reqwest::redirect::Policy::none());
        Ok(Self {
            issuer,
            client_id: ClientId::new(settings.client_id.clone()),
            client_secret: settings.client_secret.clone(),
            redirect_url: RedirectUrl::from_url(redirect_url.clone()),
            http: http.build().map_err(|error| wrong(&error))?,
            known: Mutex::new(None),
        })
    }

    /// Its name, as accounts there are kept under.
    pub(crate) fn name(&self) -> &str {
        &self.issuer
    }

    /// Where a browser goes to sign in.
    pub(crate) async fn sign_in_url(&self, state: String, secrets: &Secrets) -> Result<Url, AccessError> {
        let client = self.client(METADATA_LASTS).await?;
        let nonce = secrets.nonce.clone();
        let verifier = PkceCodeVerifier::new(secrets.pkce_verifier.clone());
        let (url, ..) = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(state),
                move || Nonce::new(nonce),
            )
            .add_scope(Scope::new("email".into()))
            .add_scope(Scope::new("profile".into()))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .url();
        Ok(url)
    }

    /// Who somebody is, for the code that they came back with.
    pub(crate) async fn claims(&self, code: String, secrets: Secrets) -> Result<Claims, AccessError> {
        let client = self.client(METADATA_LASTS).await?;
        let http = self.http();
        let request = client.exchange_code(AuthorizationCode::new(code)).map_err(|error| away(&error))?;
        let verifier = PkceCodeVerifier::new(secrets.pkce_verifier);
        let answer = request.set_pkce_verifier(verifier).request_async(&http).await;
        let answer = answer.map_err(|error| refused(&error))?;
        let token = answer.id_token().ok_or_else(|| not_believed("it gave no ID token"))?;
        let nonce = Nonce::new(secrets.nonce);
        match check(&client, token, &nonce) {
            // It may have changed its keys.
            Err(ClaimsVerificationError::SignatureVerification(_)) => {
                let client = self.client(Duration::ZERO).await?;
                check(&client, token, &nonce)
            }
            checked => checked,
        }
        .map_err(|error| refused(&error))
    }

    /// The issuer as it described itself, not longer ago than this.
    async fn client(&self, not_longer_ago: Duration) -> Result<Arc<Client>, AccessError> {
        let now = SystemClock.now();
        let mut known = self.known.lock().await;
        if let Some((at, client)) = known.as_ref()
            && now.since(*at) < not_longer_ago
        {
            return Ok(client.clone());
        }
        let http = self.http();
        let metadata = CoreProviderMetadata::discover_async(self.issuer.clone(), &http).await;
        let metadata = metadata.map_err(|error| away(&error))?;
        let secret = ClientSecret::new(self.client_secret.expose_secret().to_owned());
        let client = CoreClient::from_provider_metadata(metadata, self.client_id.clone(), Some(secret))
            .set_redirect_uri(self.redirect_url.clone());
        let client = Arc::new(client);
        *known = Some((now, client.clone()));
        Ok(client)
    }

    fn http(&self) -> impl Fn(HttpRequest) -> HttpAnswer + use<> {
        let client = self.http.clone();
        move |request| Box::pin(send(client.clone(), request))
    }
}

fn check(client: &Client, token: &CoreIdToken, nonce: &Nonce) -> Result<Claims, ClaimsVerificationError> {
    let claims: &CoreIdTokenClaims = token.claims(&client.id_token_verifier(), nonce)?;
    let is_verified = claims.email_verified() == Some(true);
    Ok(Claims {
        subject: claims.subject().to_string(),
        email: claims.email().filter(|_| is_verified).map(|email| email.to_string()),
        name: claims.name().and_then(|name| name.get(None)).map(|name| name.to_string()),
    })
}

fn away(cause: &dyn std::error::Error) -> AccessError {
    AccessError::Unavailable { what: WHAT, reason: chain(cause) }
}

fn refused(cause: &dyn std::error::Error) -> AccessError {
    not_believed(&chain(cause))
}

fn not_believed(cause: &str) -> AccessError {
    tracing::warn!(cause, "a sign-in elsewhere was not believed");
    AccessError::NotAuthenticated("the issuer's answer is not valid, or not any more; begin again")
}

/// An error with its causes, which say more than it does.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

type HttpAnswer = std::pin::Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send>>;

/// The issuer cannot be spoken to.
#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error("{0}")]
    Request(#[from] reqwest::Error),
    #[error("its answer is larger than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
}

async fn send(client: reqwest::Client, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let mut answer = client.execute(request.try_into()?).await?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(HttpError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = HttpResponse::new(body);
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}
