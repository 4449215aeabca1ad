//! Permissions at the project that the path names: `/projects/{id}`, archived or not.

use super::{State, authenticate, problem::Problem};
use crate::access::{
    AccessError, InProject, May, ProjectRole,
    entry::{self, NamedPlace, Reach},
    permission::Permission,
};
use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::{StatusCode, request::Parts},
};

/// A [`May`] at the project whose slug or id is `{id}` in the path.
pub(super) struct AtProject<P: Permission>(pub(super) May<P>);

impl<P> FromRequestParts<State> for AtProject<P>
where
    P: Permission<Place = InProject, Role = ProjectRole>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &State) -> Result<Self, Problem> {
        let caller = authenticate::authenticate(parts, app).await?;
        let path = RawPathParams::from_request_parts(parts, app).await.map_err(|error| Problem::internal(&error))?;
        let id = path.iter().find(|(name, _)| *name == "id").map(|(_, id)| id.to_owned()).unwrap_or_default();
        if id.contains('\0') {
            return Err(no_such_project());
        }
        let tenant = authenticate::plain(&parts.headers, "x-tenant-id");
        let named = NamedPlace { tenant, project: Some(id), reach: Reach::Archived };
        let may: May<P> = entry::enter(app.database(), caller, &named).await.map_err(|error| match error {
            AccessError::NoSuchPlace("project") => no_such_project(),
            other => other.into(),
        })?;
        authenticate::about(parts, &may.place.tenant.tenant);
        Ok(Self(may))
    }
}

/// The same as where a header names the project, for a request whose path does.
fn no_such_project() -> Problem {
    let error =
        "there is no such project that you could see; check the path, which takes its slug or id, and X-Tenant-Id";
    Problem::new(StatusCode::NOT_FOUND, "PLACE_NOT_FOUND", error)
}
