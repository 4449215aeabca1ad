//! Language models: which there are, and where one would be asked.

use super::{
    State,
    extract::Body,
    problem::{Problem, ProblemBody},
};
use crate::{
    access::{AccessError, May, permission::ReadConnections},
    integrations::llm::{
        NoProvider, Tier, Vendor,
        catalog::{self as models, Listed},
    },
};
use agentruntime_host_api::ModelGrant;
use axum::{Json, extract::State as Given, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes of models.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(catalog)).routes(routes!(resolve))
}

/// The models that workflows of the project can ask.
#[derive(Serialize, ToSchema)]
struct Catalog {
    /// The models, provider by provider.
    items: Vec<CatalogModel>,
    /// Providers that did not say which models they have.
    problems: Vec<CatalogProblem>,
}

/// A model.
#[derive(Serialize, ToSchema)]
struct CatalogModel {
    /// How a step names it.
    #[schema(example = "direct.openai.gpt-5")]
    model_ref: String,
    /// The vendor's own name of it.
    model: String,
    /// The provider's name.
    provider: String,
    /// How it is asked.
    vendor: Vendor,
    /// Whose the provider is.
    tier: Tier,
}

/// A provider whose models are not known.
#[derive(Serialize, ToSchema)]
struct CatalogProblem {
    /// Its name.
    provider: String,
    /// Why not.
    error: String,
}

/// A model as a step names it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ModelQuestion {
    /// `direct.<provider>.<model>`, or the vendor's own name of it. This or `model`.
    #[schema(example = "direct.openai.gpt-5")]
    model_ref: Option<String>,
    /// The same.
    model: Option<String>,
    /// The step's own provider, by id or name.
    llm_credential_id: Option<String>,
    /// `tenant` or `platform`.
    llm_credential_scope: Option<String>,
}

/// Where a model is asked.
#[derive(Serialize, ToSchema)]
struct ModelAnswer {
    /// How a step names it.
    model_ref: String,
    /// The vendor's own name of it.
    model: String,
    /// The provider's name.
    provider: String,
    /// Its id, where it is the project's own.
    provider_id: Option<String>,
    /// How it is asked.
    vendor: Vendor,
    /// Whose it is.
    tier: Tier,
}

/// Lists the models that workflows of the project can ask, 2,000 at most. Providers without a list of their own are asked for
/// one, so that this takes as long as they take, ten seconds at most.
#[utoipa::path(
    get,
    path = "/llm/catalog",
    operation_id = "list_models",
    tag = "integrations",
    responses((status = 200, body = Catalog), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn catalog(may: May<ReadConnections>, Given(app): Given<State>) -> Result<Json<Catalog>, Problem> {
    let listed = models::listed(&app, &may).await?;
    let mut catalog = Catalog { items: Vec::new(), problems: Vec::new() };
    for Listed { provider, vendor, tier, models } in listed {
        match models {
            Ok(models) => catalog.items.extend(models.into_iter().map(|(model_ref, model)| {
                let provider = provider.clone();
                CatalogModel { model_ref, model, provider, vendor, tier }
            })),
            Err(error) => catalog.problems.push(CatalogProblem { provider, error }),
        }
    }
    Ok(Json(catalog))
}

/// Says where a model would be asked: at the step's own provider, else the workspace's, else the operator's. Asks nobody.
#[utoipa::path(
    post,
    path = "/llm/resolve",
    operation_id = "resolve_model",
    tag = "integrations",
    request_body = ModelQuestion,
    responses((status = 200, body = ModelAnswer), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn resolve(
    may: May<ReadConnections>,
    Given(app): Given<State>,
    Body(question, _): Body<ModelQuestion>,
) -> Result<Json<ModelAnswer>, Problem> {
    let ModelQuestion { model_ref, model, llm_credential_id: credential, llm_credential_scope: scope } = question;
    let model = match (model_ref, model) {
        (Some(model), None) | (None, Some(model)) => model,
        _ => {
            let message = "name one model, by `model_ref` or `model`".to_owned();
            return Err(AccessError::Invalid { field: "model_ref", message }.into());
        }
    };
    let wanted = ModelGrant { model, credential, scope };
    let found = app.outside.resolve(&may.place.scope(), &wanted).await.map_err(|error| match error {
        NoProvider::Missing(message) => Problem::new(StatusCode::NOT_FOUND, "MODEL_NOT_AVAILABLE", message),
        NoProvider::Store(error) => error.into(),
    })?;
    Ok(Json(ModelAnswer {
        model_ref: found.endpoint.model_ref(&found.model),
        model: found.model,
        provider_id: found.endpoint.id,
        provider: found.endpoint.name,
        vendor: found.endpoint.vendor,
        tier: found.endpoint.tier,
    }))
}
