//! The first start of a developer's server: a workspace, a project, an owner, and a token to begin with.

use crate::{
    access::{
        AccessError, InProject, InTenant,
        entry::{Enter, NamedPlace},
        founding::{self, Founding, Named, PROJECT, all_powers, here},
        tokens,
    },
    app::App,
};
use agentruntime_engine::database::{Values, id};
use secrecy::SecretString;

const TENANT: &str = "dev";
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
pub(crate) const PLACE: (&str, &str) = (TENANT, PROJECT.slug);

/// Makes workspace, project, owner and token, unless there is a workspace already.
pub(crate) async fn first_start(app: &App) -> Result<Option<FirstStart>, AccessError> {
    let database = app.database();
    let any = database.rows("SELECT tenant_id FROM tenants LIMIT 1", Values::default()).await?;
    if !any.is_empty() {
        return Ok(None);
    }
    let at = database.time();
    let mut tx = database.begin().await?;
    let tenant = Named { slug: TENANT, name: "Development" };
    let wanted = Founding { email: EMAIL, display_name: "Owner", tenant, project: PROJECT };
    let made = founding::found(&mut tx, &wanted, at).await?;
    let bound = all_powers(Some(&made.project), "first start");
    let (_, new) = tokens::create(&mut tx, &made.owner, &made.tenant, &bound, at).await?;
    let whole = all_powers(None, "first start, whole workspace");
    let (_, admin) = tokens::create(&mut tx, &made.owner, &made.tenant, &whole, at).await?;
    tx.commit().await?;
    Ok(Some(FirstStart { token: new.token, admin_token: admin.token }))
}

/// Makes other tokens for the owner, as the first are not kept.
pub(crate) async fn new_token(app: &App) -> Result<FirstStart, AccessError> {
    let database = app.database();
    let mut values = Values::default();
    values.text(EMAIL);
    let rows = database.rows(OWNER, values).await?;
    let Some(row) = rows.first() else { return Err(NO_OWNER) };
    let caller = here(id(row, 0)?, EMAIL);
    let named = NamedPlace { tenant: Some(TENANT.into()), project: Some(PROJECT.slug.into()), ..NamedPlace::default() };
    let tenant = InTenant::find(database, &caller, &named).await?;
    let project = InProject::find(database, &caller, &named).await?;
    let mut tx = database.begin().await?;
    let (name, now) = ("dev --new-token", database.time());
    let (_, new) = tokens::create(&mut tx, &caller, &tenant, &all_powers(Some(&project), name), now).await?;
    let (_, admin) = tokens::create(&mut tx, &caller, &tenant, &all_powers(None, name), now).await?;
    tx.commit().await?;
    Ok(FirstStart { token: new.token, admin_token: admin.token })
}
