//! Accounts and sessions: signing up, in and out.

use super::{
    State,
    cookies::{self, Purpose},
    extract::{Body, Path, secret},
    page::Page,
    problem::{Problem, ProblemBody},
};
use crate::access::{
    AccessError, SessionId, SignedIn,
    accounts::Verification,
    caller::{Credential, Origin},
    sessions::{self, Browser, NewSession},
    users,
};
use axum::{
    Extension, Json,
    extract::State as Given,
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, IntoResponse},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of accounts and sessions.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(sign_up))
        .routes(routes!(verify))
        .routes(routes!(sign_in))
        .routes(routes!(sign_out))
        .routes(routes!(forgot_password))
        .routes(routes!(reset_password))
        .routes(routes!(get_me))
        .routes(routes!(list_sessions))
        .routes(routes!(revoke_session))
}

/// Somebody who wants an account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SignUpBody {
    /// The address, which gets a mail.
    #[schema(example = "ada@example.com", max_length = 254)]
    email: String,
}

/// What was asked for is under way, as far as there is an account to do it for.
#[derive(Serialize, ToSchema)]
struct MailUnderWay {
    /// What to do next.
    message: &'static str,
}

/// A token from a mail, and what the account is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct VerifyBody {
    /// The token.
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String)]
    token: SecretString,
    /// The password: 12 to 256 characters, and not the address.
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String, format = Password, min_length = 12, max_length = 256)]
    password: SecretString,
    /// What others see; the address before the `@` where it is missing.
    #[schema(max_length = 100)]
    display_name: Option<String>,
}

/// An address and a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SignInBody {
    /// The address.
    #[schema(example = "ada@example.com", max_length = 254)]
    email: String,
    /// The password.
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// An address.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ForgotPasswordBody {
    /// The address.
    #[schema(example = "ada@example.com", max_length = 254)]
    email: String,
}

/// A token from a mail, and a new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ResetPasswordBody {
    /// The token.
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String)]
    token: SecretString,
    /// The new password: 12 to 256 characters, and not the address.
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String, format = Password, min_length = 12, max_length = 256)]
    password: SecretString,
}

/// An account.
#[derive(Serialize, ToSchema)]
struct User {
    /// Its id.
    id: Uuid,
    /// Its address, in lower case.
    email: String,
    /// What others see.
    display_name: String,
    /// When it was made.
    created_at: String,
}

/// Who is signed in.
#[derive(Serialize, ToSchema)]
struct Me {
    /// The account.
    user: User,
    /// Whether the account has a password.
    has_password: bool,
    /// The issuers whose accounts may sign in to this one.
    linked_issuers: Vec<String>,
    /// The session; none for a token.
    session_id: Option<Uuid>,
    /// What a change that is asked for with the session's cookie sends as `X-CSRF-Token`; none for a token.
    csrf_token: Option<String>,
    /// Where the token may be used; none for a session.
    token: Option<TokenPlace>,
}

/// Where a token may be used.
#[derive(Serialize, ToSchema)]
struct TokenPlace {
    /// The slug of its workspace.
    tenant: String,
    /// The slug of the only project that it reaches; none where it reaches others, or where its owner may not enter it.
    project: Option<String>,
}

impl TokenPlace {
    fn of(credential: &Credential) -> Option<Self> {
        match credential {
            Credential::Session(_) => None,
            Credential::Token { tenant, project, .. } => {
                let entered = project.as_ref().and_then(|bound| bound.entered.as_ref());
                Some(Self { tenant: tenant.slug.clone(), project: entered.map(|project| project.slug.clone()) })
            }
        }
    }
}

/// A session that was begun. Its cookie is in the header `Set-Cookie`.
#[derive(Serialize, ToSchema)]
struct BegunSession {
    /// The session.
    session_id: Uuid,
    /// What a change that is asked for with the session's cookie sends as `X-CSRF-Token`.
    csrf_token: String,
}

/// A session of a browser.
#[derive(Serialize, ToSchema)]
struct Session {
    /// Its id.
    id: Uuid,
    /// Whether it is the one that asks.
    is_current: bool,
    /// When it was begun.
    created_at: String,
    /// When it was used last, to the minute.
    last_seen_at: String,
    /// When it ends, however often it is used.
    expires_at: String,
    /// From which address it was begun.
    address: String,
    /// What the browser calls itself.
    user_agent: String,
}

impl From<users::User> for User {
    fn from(user: users::User) -> Self {
        let users::User { user, email, display_name, created_at, .. } = user;
        Self { id: user.as_uuid(), email, display_name, created_at: created_at.to_string() }
    }
}

/// Asks for an account: a mail goes to the address. The answer is the same if there is an account already. The password is
/// chosen with the token from that mail, so that nobody chooses it for another.
#[utoipa::path(
    post,
    path = "/auth/signup",
    operation_id = "sign_up",
    tag = "auth",
    request_body = SignUpBody,
    responses((status = 202, body = MailUnderWay), (status = "default", body = ProblemBody)),
    security(())
)]
async fn sign_up(
    Given(app): Given<State>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Body(body, _): Body<SignUpBody>,
) -> Result<(StatusCode, Json<MailUnderWay>), Problem> {
    cookies::check_site(&headers, &app.settings)?;
    app.accounts.sign_up(&origin, &body.email).await?;
    let message = "look for a mail: the account is made with the token in it and a password of your choice";
    Ok((StatusCode::ACCEPTED, Json(MailUnderWay { message })))
}

/// Makes the account that was asked for, with the token from the mail and the password that it is to have.
#[utoipa::path(
    post,
    path = "/auth/verify",
    operation_id = "verify_address",
    tag = "auth",
    request_body = VerifyBody,
    responses((status = 200, body = User), (status = "default", body = ProblemBody)),
    security(())
)]
async fn verify(
    Given(app): Given<State>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Body(body, _): Body<VerifyBody>,
) -> Result<Json<User>, Problem> {
    cookies::check_site(&headers, &app.settings)?;
    let VerifyBody { token, password, display_name } = body;
    let user = app.accounts.verify(&origin, Verification { token, password, display_name }).await?;
    Ok(Json(user.into()))
}

/// Signs in: begins a session, whose cookie the answer sets.
#[utoipa::path(
    post,
    path = "/auth/login",
    operation_id = "sign_in",
    tag = "auth",
    request_body = SignInBody,
    responses(
        (status = 200, body = BegunSession, headers(("Set-Cookie" = String, description = "The session's cookie"))),
        (status = "default", body = ProblemBody)
    ),
    security(())
)]
async fn sign_in(
    Given(app): Given<State>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Body(body, _): Body<SignInBody>,
) -> Result<impl IntoResponse, Problem> {
    cookies::check_site(&headers, &app.settings)?;
    let new = app.accounts.sign_in(&browser(&app, &headers, origin), &body.email, body.password).await?;
    let cookie = cookies::set(Purpose::Session, &new.cookie, &app.settings);
    Ok((AppendHeaders([(header::SET_COOKIE, cookie)]), Json(begun(&new))))
}

/// Signs out: ends the session that asks.
#[utoipa::path(
    post,
    path = "/auth/logout",
    operation_id = "sign_out",
    tag = "auth",
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(("session" = []))
)]
async fn sign_out(Given(app): Given<State>, who: SignedIn) -> Result<impl IntoResponse, Problem> {
    sessions::revoke(app.database(), who.user(), sessions::of(&who.caller)?).await?;
    let cookie = cookies::remove(Purpose::Session, &app.settings);
    Ok((StatusCode::NO_CONTENT, AppendHeaders([(header::SET_COOKIE, cookie)])))
}

/// Asks for a mail with which a new password is set. The answer is the same if there is no account.
#[utoipa::path(
    post,
    path = "/auth/password/forgot",
    operation_id = "forgot_password",
    tag = "auth",
    request_body = ForgotPasswordBody,
    responses((status = 202, body = MailUnderWay), (status = "default", body = ProblemBody)),
    security(())
)]
async fn forgot_password(
    Given(app): Given<State>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Body(body, _): Body<ForgotPasswordBody>,
) -> Result<(StatusCode, Json<MailUnderWay>), Problem> {
    cookies::check_site(&headers, &app.settings)?;
    app.accounts.forgot(&origin, &body.email).await?;
    let message = "if there is an account, look for a mail: a new password is set with the token in it";
    Ok((StatusCode::ACCEPTED, Json(MailUnderWay { message })))
}

/// Sets a new password, with the token from the mail, and ends all sessions.
#[utoipa::path(
    post,
    path = "/auth/password/reset",
    operation_id = "reset_password",
    tag = "auth",
    request_body = ResetPasswordBody,
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(())
)]
async fn reset_password(
    Given(app): Given<State>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Body(body, _): Body<ResetPasswordBody>,
) -> Result<StatusCode, Problem> {
    cookies::check_site(&headers, &app.settings)?;
    app.accounts.reset(&origin, body.token.expose_secret(), body.password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tells who is signed in.
#[utoipa::path(
    get,
    path = "/auth/me",
    operation_id = "get_me",
    tag = "auth",
    responses((status = 200, body = Me), (status = "default", body = ProblemBody)),
    security(("token" = []), ("session" = []))
)]
async fn get_me(Given(app): Given<State>, who: SignedIn, headers: HeaderMap) -> Result<Json<Me>, Problem> {
    let user = users::by_id(app.database(), who.user()).await?;
    let user = user.ok_or(AccessError::NotAuthenticated("this account is not there any more"))?;
    let session = sessions::of(&who.caller).ok();
    let cookie = cookies::read(&headers, Purpose::Session, &app.settings).filter(|_| session.is_some());
    Ok(Json(Me {
        has_password: user.password_hash.is_some(),
        linked_issuers: users::issuers(app.database(), user.user).await?,
        session_id: session.map(|session| session.as_uuid()),
        csrf_token: cookie.as_ref().map(sessions::csrf_token),
        token: TokenPlace::of(&who.caller.credential),
        user: user.into(),
    }))
}

/// Lists the sessions of the account, the last used first: 50 at most, on one page.
#[utoipa::path(
    get,
    path = "/auth/sessions",
    operation_id = "list_sessions",
    tag = "auth",
    responses((status = 200, body = Page<Session>), (status = "default", body = ProblemBody)),
    security(("session" = []))
)]
async fn list_sessions(Given(app): Given<State>, who: SignedIn) -> Result<Json<Page<Session>>, Problem> {
    let current = sessions::of(&who.caller)?;
    let item = |session: sessions::Session| Session {
        id: session.session.as_uuid(),
        is_current: session.session == current,
        created_at: session.created_at.to_string(),
        last_seen_at: session.last_seen_at.to_string(),
        expires_at: session.expires_at.to_string(),
        address: session.address,
        user_agent: session.user_agent,
    };
    let items = sessions::list(app.database(), who.user()).await?.into_iter().map(item).collect();
    Ok(Json(Page { items, next_cursor: None }))
}

/// Ends a session of the account at once.
#[utoipa::path(
    delete,
    path = "/auth/sessions/{id}",
    operation_id = "revoke_session",
    tag = "auth",
    params(("id" = Uuid, Path, description = "The session")),
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(("session" = []))
)]
async fn revoke_session(Given(app): Given<State>, who: SignedIn, Path(id): Path<Uuid>) -> Result<StatusCode, Problem> {
    sessions::of(&who.caller)?;
    sessions::revoke(app.database(), who.user(), SessionId::from(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn begun(new: &NewSession) -> BegunSession {
    BegunSession { session_id: new.session.as_uuid(), csrf_token: sessions::csrf_token(&new.cookie) }
}

/// The browser that a request comes from.
pub(super) fn browser(app: &State, headers: &HeaderMap, origin: Origin) -> Browser {
    let user_agent = headers.get(header::USER_AGENT).and_then(|name| name.to_str().ok()).unwrap_or_default();
    let cookie = cookies::read(headers, Purpose::Session, &app.settings);
    Browser { user_agent: user_agent.to_owned(), cookie, origin }
}
