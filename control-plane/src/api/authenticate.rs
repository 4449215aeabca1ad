//! From a request's credentials to a caller, and to what they may do: the extractors of [`May`] and [`SignedIn`].

use super::{
    State,
    bodies::Payer,
    cookies::{self, Purpose},
    problem::Problem,
    telling::{Trail, Verdict},
};
use crate::access::{
    AccessError, Caller, InSession, May, SignedIn,
    caller::Origin,
    entry::{self, Enter, NamedPlace},
    permission::{Permission, Place},
    sessions, tokens,
};
use agentruntime_host_api::TenantId;
use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{HeaderMap, header, request::Parts},
};

impl<P> FromRequestParts<State> for May<P>
where
    P: Permission,
    P::Place: Enter,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &State) -> Result<Self, Problem> {
        let caller = authenticate(parts, app).await?;
        let named = NamedPlace {
            tenant: plain(&parts.headers, "x-tenant-id"),
            project: plain(&parts.headers, "x-project-id"),
            ..NamedPlace::default()
        };
        let may: Self = entry::enter(app.database(), caller, &named).await?;
        about(parts, may.place.tenant());
        Ok(may)
    }
}

/// The request is about this workspace: the log tells it, and what the request holds counts for it.
pub(super) fn about(parts: &mut Parts, tenant: &TenantId) {
    if let Some(trail) = parts.extensions.get::<Trail>() {
        trail.place(tenant);
    }
    parts.extensions.insert(Payer::Workspace(tenant.clone()));
}

impl FromRequestParts<State> for SignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &State) -> Result<Self, Problem> {
        Ok(Self { caller: authenticate(parts, app).await? })
    }
}

impl FromRequestParts<State> for InSession {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &State) -> Result<Self, Problem> {
        Ok(Self::of(authenticate(parts, app).await?)?)
    }
}

impl OptionalFromRequestParts<State> for SignedIn {
    type Rejection = Problem;

    /// Nobody is nobody; somebody with a wrong credential is refused.
    async fn from_request_parts(parts: &mut Parts, app: &State) -> Result<Option<Self>, Problem> {
        let cookie = cookies::read(&parts.headers, Purpose::Session, &app.settings);
        match parts.headers.contains_key(header::AUTHORIZATION) || cookie.is_some() {
            true => <Self as FromRequestParts<State>>::from_request_parts(parts, app).await.map(Some),
            false => Ok(None),
        }
    }
}

/// Who asks; the log of requests and the limits learn of it, too.
pub(super) async fn authenticate(parts: &Parts, app: &State) -> Result<Caller, Problem> {
    let proven = prove(parts, app).await;
    if let Some(trail) = parts.extensions.get::<Trail>() {
        match &proven {
            Ok(caller) => trail.caller(caller),
            Err(AccessError::NotAuthenticated(_)) => trail.found(Verdict::Wrong),
            // A database that is away says nothing about the credential.
            Err(_) => {}
        }
    }
    Ok(proven?)
}

/// By a token, where there is one, else by a session.
async fn prove(parts: &Parts, app: &State) -> Result<Caller, AccessError> {
    let origin = origin(parts);
    let mut sent = parts.headers.get_all(header::AUTHORIZATION).iter();
    let Some(authorization) = sent.next() else {
        return in_session(parts, app, origin).await;
    };
    // Whoever looks on the way, such as a proxy, may have looked at another one than we do.
    if sent.next().is_some() {
        return Err(AccessError::NotAuthenticated("send one `Authorization` header, not several"));
    }
    let refused = AccessError::NotAuthenticated("this token is not valid here, or not any more");
    let Some(token) = authorization.to_str().ok().and_then(bearer) else {
        let hint = "the header is `Authorization: Bearer pat_…`: write `Bearer` and a space before the token";
        return Err(AccessError::NotAuthenticated(hint));
    };
    match tokens::recognise(app.database(), token, origin).await? {
        Some(recognised) => {
            if let Some(pat) = recognised.caller.credential.pat() {
                app.last_used.note(pat, app.clock().now());
            }
            Ok(recognised.caller)
        }
        None => Err(refused),
    }
}

/// Who asks with a session's cookie. A browser sends it along whoever makes it ask, so that a change has to prove that it
/// comes from a page of ours.
async fn in_session(parts: &Parts, app: &State, origin: Origin) -> Result<Caller, AccessError> {
    let Some(cookie) = cookies::read(&parts.headers, Purpose::Session, &app.settings) else {
        return Err(AccessError::NotAuthenticated("sign in, or send a token as `Authorization: Bearer pat_…`"));
    };
    let caller = match parts.extensions.get::<Unprompted>() {
        Some(Unprompted) => sessions::look_up(app.database(), &cookie, origin).await?,
        None => sessions::recognise(app.database(), &cookie, origin).await?,
    };
    let caller = caller.ok_or(AccessError::NotAuthenticated("this session is over; sign in again"))?;
    if !parts.method.is_safe() {
        cookies::check_csrf(&parts.headers, &cookie, &app.settings)?;
    }
    Ok(caller)
}

/// Marks a request that nobody made just now: we look whether its maker still may. It is no use of a session, which would
/// never be left alone otherwise.
#[derive(Clone, Copy)]
pub(super) struct Unprompted;

/// A request as it came in, for those who decide by themselves whom to believe. Cookies say nothing to them.
pub(super) struct Incoming {
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Where it came from.
    pub(super) origin: Origin,
    /// Where it is told who it was, and what was found about the credential.
    pub(super) trail: Trail,
}

impl FromRequestParts<State> for Incoming {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, Self::Rejection> {
        let trail = parts.extensions.get::<Trail>().cloned().unwrap_or_default();
        Ok(Self { headers: parts.headers.clone(), origin: origin(parts), trail })
    }
}

/// The token of a request.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok().and_then(bearer)
}

/// Where the request came from.
pub(super) fn origin(parts: &Parts) -> Origin {
    parts.extensions.get::<Origin>().cloned().expect("the outermost layer identifies every request")
}

/// The token after `Bearer`, which is written in any case.
pub(super) fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// A header's value, where it is plain text.
pub(super) fn plain(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
