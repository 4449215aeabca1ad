//! The first start of a developer's server: a workspace, a project, an owner, and a token to begin with.

use crate::{
    access::{
        AccessError, Caller, Credential, InProject, InTenant, RequestId, SessionId, TokenScope, TokenScopes, UserId,
        Visibility,
        caller::Origin,
        entry::{Enter, NamedPlace},
        projects, tenants,
        tokens::{self, TokenSpec},
        users,
    },
    app::App,
};
use agentruntime_engine::database::{Values, id};
use secrecy::SecretString;
use std::net::{IpAddr, Ipv4Addr};

const TENANT: &str = "dev";
const PROJECT: &str = "default";
const EMAIL: &str = "owner@localhost";

const OWNER: &str = "SELECT user_id FROM users WHERE email = $1";
const NO_OWNER: AccessError = AccessError::NotAuthenticated(
    "this data was not begun by `agentruntime dev`, so that it has no owner to make a token for",
);

/// The tokens that the first start made, or a later one that was asked for others.
pub(crate) struct FirstStart {
    /// The token for the project, which is not kept.
    pub(crate) token: SecretString,
    /// The token for the whole workspace: members, projects, audit. It is not kept either.
    pub(crate) admin_token: SecretString,
}

/// The slugs of the developer's workspace and project.
pub(crate) const PLACE: (&str, &str) = (TENANT, PROJECT);

/// Makes workspace, project, owner and token, unless there is a workspace already.
pub(crate) async fn first_start(app: &App) -> Result<Option<FirstStart>, AccessError> {
    let database = app.database();
    let any = database.rows("SELECT tenant_id FROM tenants LIMIT 1", Values::default()).await?;
    if !any.is_empty() {
        return Ok(None);
    }
    let at = database.time();
    let now = at.as_micros();
    let mut tx = database.begin().await?;
    let user = users::create_verified(&mut tx, EMAIL, "Owner", now).await?;
    let caller = caller(user);
    let tenant = tenants::create(&mut tx, &caller, TENANT, "Development", now).await?;
    let project = projects::create(&mut tx, &caller, &tenant, PROJECT, "Default", Visibility::Public, now).await?;
    let (_, new) = tokens::create(&mut tx, &caller, &tenant, &spec(Some(project), "first start"), at).await?;
    let whole = spec(None, "first start, whole workspace");
    let (_, admin) = tokens::create(&mut tx, &caller, &tenant, &whole, at).await?;
    tx.commit().await?;
    Ok(Some(FirstStart { token: new.token, admin_token: admin.token }))
}

/// What the developer's tokens may do: everything, in the one project or in the whole workspace.
fn spec(project: Option<InProject>, name: &str) -> TokenSpec {
    let scopes = TokenScopes::new(TokenScope::ALL.iter().copied());
    TokenSpec { name: name.into(), project: project.map(|it| it.project), scopes, expires_at: None }
}

/// Makes other tokens for the owner, as the first are not kept.
pub(crate) async fn new_token(app: &App) -> Result<FirstStart, AccessError> {
    let database = app.database();
    let mut values = Values::default();
    values.text(EMAIL);
    let rows = database.rows(OWNER, values).await?;
    let Some(row) = rows.first() else { return Err(NO_OWNER) };
    let caller = caller(id(row, 0)?);
    let named = NamedPlace { tenant: Some(TENANT.into()), project: Some(PROJECT.into()), ..NamedPlace::default() };
    let tenant = InTenant::find(database, &caller, &named).await?;
    let project = InProject::find(database, &caller, &named).await?;
    let mut tx = database.begin().await?;
    let (name, now) = ("dev --new-token", database.time());
    let (_, new) = tokens::create(&mut tx, &caller, &tenant, &spec(Some(project), name), now).await?;
    let (_, admin) = tokens::create(&mut tx, &caller, &tenant, &spec(None, name), now).await?;
    tx.commit().await?;
    Ok(FirstStart { token: new.token, admin_token: admin.token })
}

fn caller(user: UserId) -> Caller {
    let origin = Origin { address: IpAddr::V4(Ipv4Addr::LOCALHOST), request: RequestId::new_v7() };
    Caller { user, email: EMAIL.into(), credential: Credential::Session(SessionId::new_v7()), origin }
}
