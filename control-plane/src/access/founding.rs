//! Founding without a mail: whoever works on the data itself makes an owner, with a workspace and a project in it.
//!
//! Nobody is asked for a proof: who can write to the data needs none.

use super::{
    AccessError, Caller, Credential, InProject, InTenant, RequestId, SessionId, TokenScope, TokenScopes, UserId,
    Visibility,
    caller::Origin,
    field, passwords, projects, tenants,
    tokens::{self, TokenSpec},
    users,
};
use agentruntime_engine::database::{Database, Tx};
use agentruntime_host_api::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use std::net::{IpAddr, Ipv4Addr};

/// What is to be made.
pub(crate) struct Founding<'a> {
    /// The owner's address, as it is kept.
    pub(crate) email: &'a str,
    /// What others see of the owner.
    pub(crate) display_name: &'a str,
    /// The workspace.
    pub(crate) tenant: Named<'a>,
    /// A project in it, public to the workspace.
    pub(crate) project: Named<'a>,
}

/// A name for machines and one for people.
pub(crate) struct Named<'a> {
    pub(crate) slug: &'a str,
    pub(crate) name: &'a str,
}

/// What was made.
pub(crate) struct Founded {
    /// The owner, as if signed in on this machine.
    pub(crate) owner: Caller,
    /// The workspace.
    pub(crate) tenant: InTenant,
    /// The project.
    pub(crate) project: InProject,
}

/// Makes an owner without a password, a workspace and a project.
pub(crate) async fn found(tx: &mut Tx<'_>, wanted: &Founding<'_>, now: Timestamp) -> Result<Founded, AccessError> {
    let (Named { slug, name }, at) = (&wanted.tenant, now.as_micros());
    let user = users::create_verified(tx, wanted.email, wanted.display_name, at).await?;
    let owner = here(user, wanted.email);
    let tenant = tenants::create(tx, &owner, slug, name, at).await?;
    let Named { slug, name } = &wanted.project;
    let project = projects::create(tx, &owner, &tenant, slug, name, Visibility::Public, at).await?;
    Ok(Founded { owner, tenant, project })
}

/// An owner to be made with a password.
pub(crate) struct NewOwner {
    pub(crate) email: String,
    pub(crate) password: SecretString,
    /// The part of the address before the `@` where there is none.
    pub(crate) display_name: Option<String>,
    /// The slug of the workspace.
    pub(crate) slug: String,
    /// Its name; the slug where there is none.
    pub(crate) name: Option<String>,
}

/// The project that a workspace begins with.
pub(crate) const PROJECT: Named<'static> = Named { slug: "default", name: "Default" };

/// Makes an owner who can sign in, and a token for the whole workspace where one is `wanted`: all of it, or nothing.
pub(crate) async fn found_with_password(
    database: &Database,
    new: NewOwner,
    token: Option<&'static str>,
) -> Result<(Founded, Option<SecretString>), AccessError> {
    let email = field::email(&new.email)?;
    let display_name = users::display_name(new.display_name.as_deref(), &email)?;
    let name = field::name("name", new.name.as_deref().unwrap_or(&new.slug))?;
    passwords::check(&new.password)?;
    passwords::check_is_not(&new.password.expose_secret().to_lowercase(), &email)?;
    let hash = passwords::Passwords::new().hash(new.password).await?;
    let tenant = Named { slug: &new.slug, name: &name };
    let wanted = Founding { email: &email, display_name: &display_name, tenant, project: PROJECT };
    let now = database.time();
    let mut tx = database.begin().await?;
    let founded = found(&mut tx, &wanted, now).await?;
    users::set_password(&mut tx, &email, &hash).await?;
    let token = match token {
        Some(name) => {
            let (_, new) =
                tokens::create(&mut tx, &founded.owner, &founded.tenant, &all_powers(None, name), now).await?;
            Some(new.token)
        }
        None => None,
    };
    tx.commit().await?;
    Ok((founded, token))
}

/// What an owner's token may do: everything, in the one project or in the whole workspace.
pub(crate) fn all_powers(project: Option<&InProject>, name: &str) -> TokenSpec {
    let scopes = TokenScopes::new(TokenScope::ALL.iter().copied());
    TokenSpec { name: name.into(), project: project.map(|it| it.project.clone()), scopes, expires_at: None }
}

/// Somebody who works on the data itself.
pub(crate) fn here(user: UserId, email: &str) -> Caller {
    let origin = Origin { address: IpAddr::V4(Ipv4Addr::LOCALHOST), request: RequestId::new_v7() };
    Caller { user, email: email.into(), credential: Credential::Session(SessionId::new_v7()), origin }
}
