//! Permissions at the project that the path names: `/projects/{id}`, archived or not.

use super::{State, authenticate, problem::Problem};
use crate::access::{
    AccessError, InProject, May, ProjectRole,
    entry::{self, NamedPlace, Reach},
    permission::Permission,
};
use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use std::str::FromStr;
use uuid::Uuid;

/// A [`May`] at the project whose id is `{id}` in the path.
pub(super) struct AtProject<P: Permission>(pub(super) May<P>);

impl<P> FromRequestParts<State> for AtProject<P>
where
    P: Permission<Place = InProject, Role = ProjectRole>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &State) -> Result<Self, Problem> {
        let caller = authenticate::authenticate(parts, app).await?;
        let path = RawPathParams::from_request_parts(parts, app).await.map_err(|error| Problem::internal(&error))?;
        let id = path.iter().find(|(name, _)| *name == "id").and_then(|(_, id)| Uuid::from_str(id).ok());
        let id = id.ok_or(AccessError::NoSuchPlace("project"))?;
        let named = NamedPlace {
            tenant: authenticate::plain(&parts.headers, "x-tenant-id"),
            project: Some(id.to_string()),
            reach: Reach::Archived,
        };
        Ok(Self(entry::enter(app.database(), caller, &named).await?))
    }
}
