//! The first start of a developer's server: a workspace, a project, an owner, and a token to begin with.

use crate::{
    access::{
        AccessError, Caller, Credential, RequestId, SessionId, TokenScope, TokenScopes, Visibility, caller::Origin,
        projects, tenants, tokens, users,
    },
    app::App,
};
use agentruntime_engine::database::Values;
use secrecy::SecretString;
use std::net::{IpAddr, Ipv4Addr};

const TENANT: &str = "dev";
const PROJECT: &str = "default";
const EMAIL: &str = "owner@localhost";

/// What the first start made.
pub(crate) struct FirstStart {
    /// The token, which is not kept.
    pub(crate) token: SecretString,
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
    let origin = Origin { address: IpAddr::V4(Ipv4Addr::LOCALHOST), request: RequestId::new_v7() };
    let credential = Credential::Session(SessionId::new_v7());
    let caller = Caller { user, email: EMAIL.into(), credential, origin };
    let tenant = tenants::create(&mut tx, &caller, TENANT, "Development", now).await?;
    let project = projects::create(&mut tx, &caller, &tenant, PROJECT, "Default", Visibility::Public, now).await?;
    let spec = tokens::TokenSpec {
        name: "first start".into(),
        project: Some(project.project),
        scopes: TokenScopes::new(TokenScope::ALL.iter().copied()),
        expires_at: None,
    };
    let (_, new) = tokens::create(&mut tx, &caller, &tenant, &spec, at).await?;
    tx.commit().await?;
    Ok(Some(FirstStart { token: new.token }))
}
