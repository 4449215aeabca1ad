//! From a caller and the place that a request names to a permission, or the refusal.
//!
//! In this order: who is it (401), does the place exist for them (404), does the credential reach that far and is the role
//! high enough (403). So nobody learns of a place by being refused in it.

use super::{
    AccessError, Caller, Credential, InProject, InTenant, May, ProjectRole, TenantRole, TokenScope,
    caller::Bound,
    permission::{Permission, Place},
    projects, tenants,
};
use agentruntime_engine::database::Database;

/// The place that a request names: what its headers say.
#[derive(Clone, Debug, Default)]
pub(crate) struct NamedPlace {
    /// `X-Tenant-Id`: the slug of a workspace, or its id.
    pub(crate) tenant: Option<String>,
    /// `X-Project-Id`: the slug of a project, or its id.
    pub(crate) project: Option<String>,
    /// Which projects are looked through.
    pub(crate) reach: Reach,
}

/// Which projects can be entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those that are in use.
    #[default]
    InUse,
    /// Archived ones too, to take them back into use.
    Archived,
}

const TENANT_MISSING: AccessError =
    AccessError::PlaceMissing { what: "workspace", how: "send X-Tenant-Id with its slug" };
const PROJECT_MISSING: AccessError = AccessError::PlaceMissing {
    what: "project",
    how: "send X-Project-Id with its slug or id, or use a token that is bound to one project",
};

/// A kind of place that can be entered.
pub(crate) trait Enter: Place {
    /// Finds the place, if the caller may see it.
    fn find(
        database: &Database,
        caller: &Caller,
        named: &NamedPlace,
    ) -> impl Future<Output = Result<Self, AccessError>> + Send;
    /// Refuses a role that is too low, or a credential that does not reach that far.
    fn check(&self, credential: &Credential, needed: Self::Role) -> Result<(), AccessError>;
}

/// Lets a caller do `P` at the place that the request names, or says why not.
pub(crate) async fn enter<P>(database: &Database, caller: Caller, named: &NamedPlace) -> Result<May<P>, AccessError>
where
    P: Permission,
    P::Place: Enter,
{
    let place = P::Place::find(database, &caller, named).await?;
    P::SCOPES.iter().try_for_each(|scope| check_scope(&caller.credential, *scope))?;
    place.check(&caller.credential, P::ROLE)?;
    Ok(May::new(caller, place))
}

/// Refuses a token that was not made for this.
pub(crate) fn check_scope(credential: &Credential, needed: TokenScope) -> Result<(), AccessError> {
    match credential {
        Credential::Token { scopes, .. } if !scopes.allow(needed) => Err(AccessError::ScopeMissing(needed)),
        Credential::Token { .. } | Credential::Session(_) => Ok(()),
    }
}

impl Enter for InTenant {
    async fn find(database: &Database, caller: &Caller, named: &NamedPlace) -> Result<Self, AccessError> {
        let found = match (&caller.credential, &named.tenant) {
            (Credential::Token { tenant, .. }, named) => {
                let is_meant = |name: &String| *name == tenant.slug || *name == tenant.tenant.as_str();
                named.as_ref().is_none_or(is_meant).then(|| tenant.clone())
            }
            (Credential::Session(_), Some(name)) => tenants::entered(database, caller.user, name).await?,
            (Credential::Session(_), None) => return Err(TENANT_MISSING),
        };
        found.ok_or(AccessError::NoSuchPlace("workspace"))
    }

    /// What needs more than membership is about the whole workspace, and out of reach of a token for one project.
    fn check(&self, credential: &Credential, needed: TenantRole) -> Result<(), AccessError> {
        if self.role < needed {
            return Err(AccessError::TenantRoleTooLow { needed, have: self.role });
        }
        match credential.project() {
            Some(_) if needed > TenantRole::Member => Err(AccessError::Forbidden(
                "this token is bound to one project; the workspace needs a token that is not, or a session",
            )),
            Some(_) | None => Ok(()),
        }
    }
}

impl Bound {
    /// The project, if the token's owner may enter it and the request means it.
    fn enter(&self, name: Option<&str>, reach: Reach) -> Option<InProject> {
        let is_meant =
            |found: &&InProject| name.is_none_or(|name| name == found.slug || name == found.project.as_str());
        let is_in_reach = reach == Reach::Archived || !self.is_archived;
        self.entered.as_ref().filter(is_meant).filter(|_| is_in_reach).cloned()
    }
}

impl Enter for InProject {
    async fn find(database: &Database, caller: &Caller, named: &NamedPlace) -> Result<Self, AccessError> {
        let tenant = InTenant::find(database, caller, named).await?;
        let found = match (caller.credential.bound(), &named.project) {
            (Some(bound), name) => bound.enter(name.as_deref(), named.reach),
            (None, Some(name)) => projects::entered(database, caller.user, tenant, name, named.reach).await?,
            (None, None) => return Err(PROJECT_MISSING),
        };
        found.ok_or(AccessError::NoSuchPlace("project"))
    }

    fn check(&self, _: &Credential, needed: ProjectRole) -> Result<(), AccessError> {
        match self.role >= needed {
            true => Ok(()),
            false => Err(AccessError::ProjectRoleTooLow { needed, have: self.role }),
        }
    }
}
