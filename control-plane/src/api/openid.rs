//! Signing in with an account elsewhere. The paths say `google`, which is the issuer unless the operator names another.

use super::{
    State, auth,
    cookies::{self, Purpose},
    extract::{Body, Query},
    problem::{Problem, ProblemBody},
};
use crate::access::{
    AccessError, SignedIn,
    caller::Origin,
    openid::{OpenId, Return},
    sessions,
};
use axum::{
    Extension, Json,
    extract::State as Given,
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, IntoResponse},
};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

const HOME: &str = "/";

/// The routes of signing in elsewhere.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(start_sign_in, start_link)).routes(routes!(finish))
}

/// Where a browser goes afterwards.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StartQuery {
    /// A path here; `/` where it is missing.
    #[param(example = "/runs", max_length = 1024)]
    return_to: Option<String>,
}

/// Where a browser goes afterwards.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StartLinkBody {
    /// A path here; `/` where it is missing.
    #[schema(example = "/settings", max_length = 1024)]
    return_to: Option<String>,
}

/// Where the browser goes next.
#[derive(Serialize, ToSchema)]
struct StartedLink {
    /// The issuer's page.
    authorization_url: String,
}

/// What an issuer sends a browser back with.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ReturnQuery {
    /// What the start gave the issuer.
    state: Option<String>,
    /// What the account is asked for with.
    code: Option<String>,
    /// Why there is no code.
    error: Option<String>,
    /// Who the issuer is (RFC 9207).
    iss: Option<String>,
}

fn configured(app: &State) -> Result<&OpenId, AccessError> {
    let missing = "signing in with an account elsewhere is not set up here; sign in with a password";
    app.openid.as_ref().ok_or(AccessError::NotConfigured(missing))
}

/// Begins to sign in elsewhere: sends the browser to the issuer.
#[utoipa::path(
    get,
    path = "/auth/oauth/google/start",
    operation_id = "start_openid_sign_in",
    tag = "auth",
    params(StartQuery),
    responses(
        (status = 303, headers(("Location" = String, description = "The issuer's page"))),
        (status = "default", body = ProblemBody)
    ),
    security(())
)]
async fn start_sign_in(
    Given(app): Given<State>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Query(query): Query<StartQuery>,
) -> Result<impl IntoResponse, Problem> {
    let return_to = query.return_to.as_deref().unwrap_or(HOME);
    let start = configured(&app)?.start(&auth::browser(&app, &headers, origin), return_to, None).await?;
    let cookie = cookies::set(Purpose::OpenId, &start.browser.token, &app.settings);
    let headers = [(header::SET_COOKIE, cookie)];
    Ok((StatusCode::SEE_OTHER, AppendHeaders(headers), [(header::LOCATION, start.url.to_string())]))
}

/// Begins to link an account elsewhere to the one that is signed in: tells where the browser goes.
#[utoipa::path(
    post,
    path = "/auth/oauth/google/start",
    operation_id = "start_openid_link",
    tag = "auth",
    request_body = StartLinkBody,
    responses((status = 200, body = StartedLink), (status = "default", body = ProblemBody)),
    security(("session" = []))
)]
async fn start_link(
    Given(app): Given<State>,
    who: SignedIn,
    headers: HeaderMap,
    Body(body, _): Body<StartLinkBody>,
) -> Result<impl IntoResponse, Problem> {
    sessions::of(&who.caller)?;
    let return_to = body.return_to.as_deref().unwrap_or(HOME);
    let browser = auth::browser(&app, &headers, who.caller.origin.clone());
    let start = configured(&app)?.start(&browser, return_to, Some(who.user())).await?;
    let cookie = cookies::set(Purpose::OpenId, &start.browser.token, &app.settings);
    let answer = StartedLink { authorization_url: start.url.to_string() };
    Ok((AppendHeaders([(header::SET_COOKIE, cookie)]), Json(answer)))
}

/// Finishes to sign in elsewhere: the issuer sends the browser here, and it goes on to where it wanted to return.
#[utoipa::path(
    get,
    path = "/auth/oauth/google/callback",
    operation_id = "finish_openid_sign_in",
    tag = "auth",
    params(ReturnQuery),
    responses(
        (status = 303, headers(("Location" = String, description = "Where the browser wanted to return"))),
        (status = "default", body = ProblemBody)
    ),
    security(())
)]
async fn finish(
    Given(app): Given<State>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Query(query): Query<ReturnQuery>,
) -> Result<impl IntoResponse, Problem> {
    let openid = configured(&app)?;
    let browser = auth::browser(&app, &headers, origin);
    let signed_in = match &browser.cookie {
        Some(cookie) => sessions::recognise(app.database(), cookie, browser.origin.clone()).await?,
        None => None,
    };
    let browser_cookie = cookies::read(&headers, Purpose::OpenId, &app.settings);
    let back = Return {
        state: query.state.unwrap_or_default(),
        outcome: query.code.ok_or_else(|| query.error.unwrap_or_default()),
        issuer: query.iss,
        browser_cookie: browser_cookie.map(|cookie| cookie.expose_secret().to_owned()),
        signed_in: signed_in.map(|caller| caller.user),
    };
    let finished = openid.finish(&browser, back).await?;
    let mut cookies = vec![(header::SET_COOKIE, cookies::remove(Purpose::OpenId, &app.settings))];
    if let Some(new) = &finished.session {
        cookies.push((header::SET_COOKIE, cookies::set(Purpose::Session, &new.cookie, &app.settings)));
    }
    Ok((StatusCode::SEE_OTHER, AppendHeaders(cookies), [(header::LOCATION, finished.return_to)]))
}
