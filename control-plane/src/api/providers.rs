//! Providers of language models: their keys are written and never read back.

use super::{
    State,
    extract::{Body, Path, Query},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
    secret_body::SecretText,
};
use crate::{
    access::{
        May,
        permission::{ReadConnections, WriteConnections},
    },
    integrations::{
        ProviderId,
        llm::{Vendor, providers},
    },
};
use axum::{Json, extract::State as Given, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of providers.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(change, delete))
}

/// A provider of language models. Its key is in no answer.
#[derive(Serialize, ToSchema)]
struct Provider {
    /// Its id.
    id: Uuid,
    /// The middle of `direct.<provider>.<model>`.
    #[schema(example = "openai")]
    name: String,
    /// How it is asked.
    vendor: Vendor,
    /// Where it is asked.
    #[schema(example = "https://api.openai.com/v1")]
    base_url: String,
    /// Whether it has a key.
    has_key: bool,
    /// Its models, where somebody listed them.
    models: Vec<String>,
    /// Whether it is asked at all.
    is_enabled: bool,
    /// Who made it.
    created_by: Uuid,
    /// When.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was changed last.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// What a new provider is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewProvider {
    /// The middle of `direct.<provider>.<model>`, 1 to 64 lower-case letters, digits, `_` and `-`, and no other provider of the
    /// project has it; the vendor's word where it is missing.
    #[schema(min_length = 1, max_length = 64, example = "openai")]
    name: Option<String>,
    /// How it is asked.
    vendor: Vendor,
    /// Where it is asked; the vendor's own place where it is missing. Its key is sent there and nowhere else.
    #[schema(max_length = 500, example = "https://models.example.com/v1")]
    base_url: Option<String>,
    /// Its key; servers of one's own may want none.
    #[schema(value_type = Option<String>)]
    api_key: Option<SecretText>,
    /// Names of models, so that they are found without the provider's name, and listed without asking it; 200 at most.
    #[serde(default)]
    #[schema(max_items = 200)]
    models: Vec<String>,
    /// Whether it is asked at all.
    #[serde(default = "yes")]
    #[schema(default = true)]
    is_enabled: bool,
}

fn yes() -> bool {
    true
}

/// What is to be different; what is missing stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProviderChange {
    /// The name.
    #[schema(min_length = 1, max_length = 64)]
    name: Option<String>,
    /// Where it is asked; another place wants its `api_key` along with it.
    #[schema(max_length = 500)]
    base_url: Option<String>,
    /// Its key.
    #[schema(value_type = Option<String>)]
    api_key: Option<SecretText>,
    /// Names of models, in place of the ones before.
    #[schema(max_items = 200)]
    models: Option<Vec<String>>,
    /// Whether it is asked at all.
    is_enabled: Option<bool>,
}

/// Lists the providers of the project, in the order in which they were made.
#[utoipa::path(
    get,
    path = "/providers",
    operation_id = "list_providers",
    tag = "integrations",
    params(PageQuery),
    responses((status = 200, body = Page<Provider>), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list(
    may: May<ReadConnections>,
    Given(app): Given<State>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<Provider>>, Problem> {
    let (limit, after) = (page.limit()?, page.after()?);
    let found = providers::list(app.database(), &may, after, limit + 1).await?;
    let place = |it: &providers::Provider| (it.created_at.as_micros(), it.id.as_uuid());
    Ok(Json(Page::of(found, limit, place, shown)))
}

/// Makes a provider: a key with which workflows of the project ask models, and which nobody reads.
#[utoipa::path(
    post,
    path = "/providers",
    operation_id = "create_provider",
    tag = "integrations",
    request_body = NewProvider,
    responses((status = 201, body = Provider), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn create(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Body(new, _): Body<NewProvider>,
) -> Result<(StatusCode, Json<Provider>), Problem> {
    let NewProvider { name, vendor, base_url, api_key, models, is_enabled } = new;
    let api_key = api_key.map(|key| key.0);
    let new = providers::NewProvider { name, vendor, base_url, api_key, models, is_enabled };
    Ok((StatusCode::CREATED, Json(shown(providers::create(&app, &may, new).await?))))
}

/// Changes a provider. Steps use what is new from then on, those of runs under way too.
#[utoipa::path(
    patch,
    path = "/providers/{id}",
    operation_id = "update_provider",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The provider")),
    request_body = ProviderChange,
    responses((status = 200, body = Provider), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn change(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    Body(change, _): Body<ProviderChange>,
) -> Result<Json<Provider>, Problem> {
    let ProviderChange { name, base_url, api_key, models, is_enabled } = change;
    let change = providers::Change { name, base_url, api_key: api_key.map(|key| key.0), models, is_enabled };
    Ok(Json(shown(providers::change(&app, &may, ProviderId::from(id), change).await?)))
}

/// Deletes a provider. Steps that use it fail from then on.
#[utoipa::path(
    delete,
    path = "/providers/{id}",
    operation_id = "delete_provider",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The provider")),
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn delete(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    providers::delete(&app, &may, ProviderId::from(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(it: providers::Provider) -> Provider {
    Provider {
        id: it.id.as_uuid(),
        has_key: it.has_key(),
        name: it.name,
        vendor: it.vendor,
        base_url: it.base_url.into(),
        models: it.models,
        is_enabled: it.is_enabled,
        created_by: it.created_by.as_uuid(),
        created_at: it.created_at.to_string(),
        updated_at: it.updated_at.to_string(),
    }
}
