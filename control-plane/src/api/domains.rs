//! Domains of a workspace.

use super::{
    State,
    extract::{Body, Path, Query},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
};
use crate::access::{
    May,
    domains::{self, Domain},
    permission::ManageTenant,
};
use axum::{Json, extract::State as Given, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes of domains.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list, claim)).routes(routes!(verify)).routes(routes!(remove))
}

/// A domain that the workspace claims.
#[derive(Serialize, ToSchema)]
#[schema(as = Domain)]
struct DomainView {
    /// Its name, in lower case and as DNS knows it.
    domain: String,
    /// Where the TXT record has to be that proves it.
    #[schema(example = "_agentruntime.example.com")]
    record_name: String,
    /// What the TXT record has to hold.
    #[schema(example = "agentruntime-verification=…")]
    record_value: String,
    /// When it was claimed.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was proven to be the workspace's; null before.
    #[schema(format = DateTime)]
    verified_at: Option<String>,
}

/// A domain to claim.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewDomain {
    /// Its name.
    #[schema(example = "example.com", max_length = 239)]
    domain: String,
}

impl From<Domain> for DomainView {
    fn from(domain: Domain) -> Self {
        Self {
            record_name: domain.record_name(),
            domain: domain.domain,
            record_value: domain.challenge,
            created_at: domain.created_at.to_string(),
            verified_at: domain.verified_at.map(|at| at.to_string()),
        }
    }
}

/// Lists the domains of the workspace.
#[utoipa::path(
    get,
    path = "/tenants/current/domains",
    operation_id = "list_domains",
    tag = "workspaces",
    params(PageQuery),
    responses((status = 200, body = Page<DomainView>), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn list(
    may: May<ManageTenant>,
    Given(app): Given<State>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<DomainView>>, Problem> {
    let (after, limit) = (page.after::<String>()?.unwrap_or_default(), page.limit()?);
    let domains = domains::list(app.database(), &may, &after, limit + 1).await?;
    Ok(Json(Page::of(domains, limit, |domain| domain.domain.clone(), DomainView::from)))
}

/// Claims a domain, and says which DNS record proves it. Claiming it again gives the same.
#[utoipa::path(
    post,
    path = "/tenants/current/domains",
    operation_id = "claim_domain",
    tag = "workspaces",
    request_body = NewDomain,
    responses((status = 201, body = DomainView), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn claim(
    may: May<ManageTenant>,
    Given(app): Given<State>,
    Body(new, _): Body<NewDomain>,
) -> Result<(StatusCode, Json<DomainView>), Problem> {
    let domain = domains::claim(app.database(), &may, &new.domain).await?;
    Ok((StatusCode::CREATED, Json(domain.into())))
}

/// Looks for the DNS record, and takes the domain for the workspace's own if it is there.
#[utoipa::path(
    post,
    path = "/tenants/current/domains/{domain}/verify",
    operation_id = "verify_domain",
    tag = "workspaces",
    params(("domain" = String, Path, description = "The domain.")),
    responses((status = 200, body = DomainView), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn verify(
    may: May<ManageTenant>,
    Given(app): Given<State>,
    Path(domain): Path<String>,
) -> Result<Json<DomainView>, Problem> {
    Ok(Json(domains::verify(app.database(), &may, &domain, app.settings.name_server).await?.into()))
}

/// Gives a domain up.
#[utoipa::path(
    delete,
    path = "/tenants/current/domains/{domain}",
    operation_id = "remove_domain",
    tag = "workspaces",
    params(("domain" = String, Path, description = "The domain.")),
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn remove(
    may: May<ManageTenant>,
    Given(app): Given<State>,
    Path(domain): Path<String>,
) -> Result<StatusCode, Problem> {
    domains::remove(app.database(), &may, &domain).await?;
    Ok(StatusCode::NO_CONTENT)
}
