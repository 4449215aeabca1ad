//! The providers of a project. Their keys are written and never read back.

use super::{
    super::{IntegrationError, ProviderId, fields::check_value},
    endpoint::{Endpoint, Key, Tier, read_base_url},
    vendor::Vendor,
};
use crate::{
    access::{
        AccessError, May, UserId,
        permission::{ReadConnections, WriteConnections},
        rows::{self, Ceiling, check_room, key},
    },
    app::App,
    vault::{Place, SealError, Sealer, data_keys},
};
use agentruntime_engine::{
    database::{Database, Row, StoreError, document, id, json, maybe_text, number, text, time},
    store::Scope,
};
use agentruntime_host_api::{TenantId, Timestamp};
use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

/// Providers of one project: far more than there are vendors.
pub(crate) const PROVIDERS_MAX: u32 = 100;
/// Models that are listed with a provider.
pub(crate) const MODELS_MAX: usize = 200;
/// The longest name of a model, in bytes.
pub(crate) const MODEL_BYTES_MAX: usize = 200;
/// The longest name of a provider, in characters: it is part of the name of a model.
pub(crate) const NAME_CHARS_MAX: usize = 64;

/// What sealed keys are bound to.
const KIND: &str = "provider";

/// The columns that [`provider`] reads, in its order.
macro_rules! columns {
    () => {
        "provider_id, name, vendor, base_url, api_key, models, is_enabled, created_by, created_at, \
         updated_at"
    };
}

const INSERT: &str = concat!(
    "INSERT INTO providers (tenant_id, project_id, ",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) \
     ON CONFLICT (tenant_id, project_id, name) DO NOTHING RETURNING ",
    columns!()
);

const COUNT: &str = "SELECT COUNT(*) FROM providers WHERE tenant_id = $1 AND project_id = $2";

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM providers WHERE tenant_id = $1 AND project_id = $2 AND (created_at, provider_id) > ($3, $4) \
     ORDER BY created_at, provider_id LIMIT $5"
);

const ALL: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM providers WHERE tenant_id = $1 AND project_id = $2 ORDER BY created_at, provider_id"
);

const SELECT: &str =
    concat!("SELECT ", columns!(), " FROM providers WHERE tenant_id = $1 AND project_id = $2 AND provider_id = $3");

const UPDATE: &str = concat!(
    "UPDATE providers SET name = $4, base_url = $5, api_key = $6, models = $7, is_enabled = $8, updated_at = $9 \
     WHERE tenant_id = $1 AND project_id = $2 AND provider_id = $3 AND NOT EXISTS (SELECT 1 FROM providers o \
     WHERE o.tenant_id = $1 AND o.project_id = $2 AND o.name = $4 AND o.provider_id <> $3) RETURNING ",
    columns!()
);

const DELETE: &str =
    "DELETE FROM providers WHERE tenant_id = $1 AND project_id = $2 AND provider_id = $3 RETURNING provider_id";

/// A provider of a project.
#[derive(Debug)]
pub(crate) struct Provider {
    /// Its id.
    pub(crate) id: ProviderId,
    /// The `<provider>` of `direct.<provider>.<model>`; one of a kind in its project.
    pub(crate) name: String,
    /// How it is asked.
    pub(crate) vendor: Vendor,
    /// Where.
    pub(crate) base_url: Url,
    /// Its models, where somebody listed them.
    pub(crate) models: Vec<String>,
    /// Whether it is asked at all.
    pub(crate) is_enabled: bool,
    /// Who made it.
    pub(crate) created_by: UserId,
    /// When.
    pub(crate) created_at: Timestamp,
    /// When it was changed last.
    pub(crate) updated_at: Timestamp,
    sealed: Option<String>,
}

/// What a new provider is to be.
pub(crate) struct NewProvider {
    /// Its name; the vendor's word where nothing is said.
    pub(crate) name: Option<String>,
    /// How it is asked.
    pub(crate) vendor: Vendor,
    /// Where; the vendor's own place where nothing is said.
    pub(crate) base_url: Option<String>,
    /// Its key.
    pub(crate) api_key: Option<SecretString>,
    /// Its models.
    pub(crate) models: Vec<String>,
    /// Whether it is asked at all.
    pub(crate) is_enabled: bool,
}

/// What is to be different; what is not said stays.
#[derive(Default)]
pub(crate) struct Change {
    /// The name.
    pub(crate) name: Option<String>,
    /// Where it is asked.
    pub(crate) base_url: Option<String>,
    /// Its key.
    pub(crate) api_key: Option<SecretString>,
    /// Its models.
    pub(crate) models: Option<Vec<String>>,
    /// Whether it is asked at all.
    pub(crate) is_enabled: Option<bool>,
}

/// Makes a provider.
pub(crate) async fn create(
    app: &App,
    may: &May<WriteConnections>,
    new: NewProvider,
) -> Result<Provider, IntegrationError> {
    let (database, scope) = (app.database(), may.place.scope());
    let name = new.name.unwrap_or_else(|| new.vendor.word().to_owned());
    check_name(&name).map_err(|message| IntegrationError::invalid("name", message))?;
    check_models(&new.models).map_err(|message| IntegrationError::invalid("models", message))?;
    let base_url = read_base_url(new.vendor, new.base_url.as_deref())?;
    let (id, now) = (ProviderId::new_v7(), database.time());
    let sealed = seal(app, &scope, id, new.api_key.as_ref()).await?;
    let mut tx = database.begin().await?;
    let details = json!({ "name": name, "vendor": new.vendor, "base_url": base_url, "has_key": sealed.is_some() });
    may.record(&mut tx, "provider.create", id, details, now).await?;
    check_room(&mut tx, rows::of(&scope), ceiling()).await?;
    let mut values = key(&scope, id);
    values.text(&name).text(new.vendor.word()).text(base_url.as_str()).maybe_text(sealed);
    values.text(json(&new.models)).number(u8::from(new.is_enabled)).id(may.caller.user).number(now.as_micros());
    let row = tx.row(INSERT, values).await?.ok_or_else(|| taken(&name))?;
    tx.commit().await?;
    Ok(provider(&row)?)
}

/// Providers of a project, in the order in which they were made.
pub(crate) async fn list(
    database: &Database,
    may: &May<ReadConnections>,
    after: Option<(i64, Uuid)>,
    limit: u32,
) -> Result<Vec<Provider>, IntegrationError> {
    let rows = database.rows(LIST, rows::page(rows::of(&may.place.scope()), after, limit)).await?;
    Ok(rows.iter().map(provider).collect::<Result<_, _>>()?)
}

/// All of them, as they are asked.
pub(in crate::integrations) async fn all(database: &Database, scope: &Scope) -> Result<Vec<Endpoint>, StoreError> {
    database.rows(ALL, rows::of(scope)).await?.iter().map(|row| provider(row).map(Provider::endpoint)).collect()
}

/// Changes a provider. Steps use what is new from then on, those of runs under way too.
pub(crate) async fn change(
    app: &App,
    may: &May<WriteConnections>,
    id: ProviderId,
    change: Change,
) -> Result<Provider, IntegrationError> {
    let (database, scope) = (app.database(), may.place.scope());
    if let Some(name) = &change.name {
        check_name(name).map_err(|message| IntegrationError::invalid("name", message))?;
    }
    if let Some(models) = &change.models {
        check_models(models).map_err(|message| IntegrationError::invalid("models", message))?;
    }
    let sealed = seal(app, &scope, id, change.api_key.as_ref()).await?;
    let now = database.time();
    let mut tx = database.begin().await?;
    let details = json!({ "name": change.name, "base_url": change.base_url, "has_new_key": sealed.is_some(), "models": change.models,
        "is_enabled": change.is_enabled,
    });
    // The entry first: it makes those who change things of one workspace take turns.
    may.record(&mut tx, "provider.update", id, details, now).await?;
    let row = tx.row(SELECT, key(&scope, id)).await?.ok_or_else(|| unknown(id))?;
    let before = provider(&row)?;
    let base_url = match &change.base_url {
        Some(given) => read_base_url(before.vendor, Some(given))?,
        None => before.base_url.clone(),
    };
    // Whoever may change an address may not thereby have a key sent there that they never knew.
    if base_url != before.base_url && before.sealed.is_some() && sealed.is_none() {
        let message = "it is another place: give the `api_key` for it along with it";
        return Err(IntegrationError::invalid("base_url", message));
    }
    let name = change.name.unwrap_or(before.name);
    let models = change.models.unwrap_or(before.models);
    let is_enabled = change.is_enabled.unwrap_or(before.is_enabled);
    let mut values = key(&scope, id);
    values.text(&name).text(base_url.as_str()).maybe_text(sealed.or(before.sealed)).text(json(&models));
    values.number(u8::from(is_enabled)).number(now.as_micros());
    let row = tx.row(UPDATE, values).await?.ok_or_else(|| taken(&name))?;
    tx.commit().await?;
    Ok(provider(&row)?)
}

/// Deletes a provider. Steps that use it fail from then on.
pub(crate) async fn delete(app: &App, may: &May<WriteConnections>, id: ProviderId) -> Result<(), IntegrationError> {
    let now = app.database().time();
    let mut tx = app.database().begin().await?;
    may.record(&mut tx, "provider.delete", id, Value::Null, now).await?;
    tx.row(DELETE, key(&may.place.scope(), id)).await?.ok_or_else(|| unknown(id))?;
    Ok(tx.commit().await?)
}

impl Provider {
    /// Whether it has a key.
    pub(crate) fn has_key(&self) -> bool {
        self.sealed.is_some()
    }

    fn endpoint(self) -> Endpoint {
        Endpoint {
            id: Some(self.id.to_string()),
            name: self.name,
            vendor: self.vendor,
            base_url: self.base_url,
            models: self.models,
            tier: Tier::Tenant,
            is_enabled: self.is_enabled,
            key: self.sealed.map_or(Key::None, Key::Sealed),
        }
    }
}

/// Opens the key of a provider that is kept in a workspace.
pub(super) fn open(sealer: &Sealer, tenant: &TenantId, id: &str, sealed: &str) -> Result<SecretString, SealError> {
    sealer.open_sealed(Place { tenant, kind: KIND, id }, sealed)
}

async fn seal(
    app: &App,
    scope: &Scope,
    id: ProviderId,
    value: Option<&SecretString>,
) -> Result<Option<String>, IntegrationError> {
    let Some(value) = value else { return Ok(None) };
    check_value("api_key", value)?;
    let sealer = data_keys::sealer(app.database(), &app.sealer, &scope.tenant).await?;
    let id = id.to_string();
    Ok(Some(sealer.seal(Place { tenant: &scope.tenant, kind: KIND, id: &id }, value)?))
}

/// Refuses what cannot stand between the dots of `direct.<provider>.<model>`.
pub(super) fn check_name(text: &str) -> Result<(), String> {
    let is_name = (1..=NAME_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'))
        && text.parse::<Uuid>().is_err();
    match is_name {
        true => Ok(()),
        false => {
            Err(format!("a name has 1 to {NAME_CHARS_MAX} lower-case letters, digits and _ - in ASCII, and is no id"))
        }
    }
}

/// Refuses a list of models that is too long, or has what can be the name of none.
pub(super) fn check_models(models: &[String]) -> Result<(), String> {
    if models.len() > MODELS_MAX {
        return Err(format!("{} models; at most {MODELS_MAX} are listed", models.len()));
    }
    match models.iter().all(|name| is_model(name)) {
        true => Ok(()),
        false => Err(format!("a model's name has 1 to {MODEL_BYTES_MAX} visible characters of ASCII")),
    }
}

/// Whether a text can be the name of a model.
pub(super) fn is_model(name: &str) -> bool {
    (1..=MODEL_BYTES_MAX).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic())
}

fn ceiling() -> Ceiling {
    let message = format!("a project has at most {PROVIDERS_MAX} providers; delete one first");
    Ceiling { count: COUNT, max: PROVIDERS_MAX, code: "TOO_MANY_PROVIDERS", message }
}

fn taken(name: &str) -> IntegrationError {
    let message = format!("this project has a provider `{name}` already; choose another name, or change that one");
    AccessError::Conflict { code: "PROVIDER_NAME_TAKEN", message }.into()
}

fn unknown(id: ProviderId) -> IntegrationError {
    AccessError::NotFound { kind: "provider", id: id.to_string() }.into()
}

fn provider(row: &Row) -> Result<Provider, StoreError> {
    let corrupt = |what: &str| StoreError::Corrupt(format!("a provider has {what}"));
    let vendor = serde_json::from_value(Value::from(text(row, 2)?)).map_err(|_| corrupt("no known vendor"))?;
    Ok(Provider {
        id: id(row, 0)?,
        name: text(row, 1)?.to_owned(),
        vendor,
        base_url: text(row, 3)?.parse().map_err(|_| corrupt("no address"))?,
        sealed: maybe_text(row, 4)?.map(str::to_owned),
        models: document(text(row, 5)?)?,
        is_enabled: number::<u8>(row, 6)? == 1,
        created_by: id(row, 7)?,
        created_at: time(row, 8)?,
        updated_at: time(row, 9)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_between_dots() {
        for fine in ["openai", "a", "local-2", "my_own", &"a".repeat(NAME_CHARS_MAX)] {
            assert!(check_name(fine).is_ok(), "{fine}");
        }
        for wrong in
            ["", "a.b", "Open", "ä", "a b", &"a".repeat(NAME_CHARS_MAX + 1), "a0000000-0000-4000-8000-000000000000"]
        {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }
}
