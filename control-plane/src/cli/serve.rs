//! `serve` and `dev`: the service, for everybody or for one developer.

use super::{
    Ending,
    arguments::{DevArguments, ServeArguments},
    context::Context,
    failure::Refusal,
    screen,
};
use crate::{
    app::App,
    integrations::{Keys, Outside, Secrets},
    observe::{self, Telling},
    operations::Project,
    server::{self, CheckError, FirstStart, Listeners},
    settings::{Effective, Given, MailSettings, Mode, SettingFlags, Settings},
    vault::ExternalVault,
};
use agentruntime_engine::{
    node::{Ceilings, NodeConfig},
    store::StoreError,
};
use agentruntime_sandbox::TenantBudget;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::{path::Path, sync::Arc};

/// Serves, or says how it would.
pub(crate) async fn serve(data: Option<String>, json: bool, arguments: ServeArguments) -> anyhow::Result<Ending> {
    let ServeArguments { config, check, give_up_master_key, settings } = arguments;
    let read = read(data, &settings, config.as_deref(), Mode::Serve)?;
    if check {
        let context = Context::new(read.data, json)?;
        let location = context.location().expect("a service has its data here");
        let checked = server::check(&read.settings, location, give_up_master_key.as_deref()).await;
        for note in checked.map_err(refusal)? {
            screen::show(&format!("note: {note}\n"))?;
        }
        screen::print(&if json { object(&read.effective) } else { toml(&read.effective) })?;
        return Ok(Ending::Done);
    }
    let telling = observe::service(&read.settings.observe)?;
    let context = Context::new(read.data, json)?;
    let (app, listeners) = open(&context, read.settings, telling, give_up_master_key.as_deref()).await?;
    serve_to_the_end(app, listeners, server::Ending::listen()).await
}

/// Serves one developer.
pub(crate) async fn dev(data: Option<String>, json: bool, arguments: DevArguments) -> anyhow::Result<Ending> {
    let DevArguments { config, new_token, give_up_master_key, settings } = arguments;
    let mut read = read(data, &settings, config.as_deref(), Mode::Dev)?;
    let telling = observe::service(&read.settings.observe)?;
    let context = Context::new(read.data, json)?;
    if matches!(read.settings.mail, MailSettings::Off) {
        read.settings.mail = MailSettings::Folder(context.mail_folder());
    }
    let (app, listeners) = match open(&context, read.settings, telling, give_up_master_key.as_deref()).await {
        Err(error) if new_token => return Err(beside_a_service(&context, error).await),
        opened => opened?,
    };
    let tokens = match server::first_start(&app).await? {
        Some(first) => Some(first),
        None if new_token => Some(server::new_token(&app).await?),
        None => None,
    };
    // Who reads how the server is reached may tell it to end in the next moment.
    let ending = server::Ending::listen();
    greet(&context, &app, tokens.as_ref());
    serve_to_the_end(app, listeners, ending).await
}

async fn serve_to_the_end(app: Arc<App>, listeners: Listeners, ending: server::Ending) -> anyhow::Result<Ending> {
    let served = server::serve(app, listeners, ending).await;
    served.map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    Ok(Ending::Done)
}

/// Tokens are made when the service starts. Where it runs already, the port or the folder is taken, and neither says so.
async fn beside_a_service(context: &Context, error: anyhow::Error) -> anyhow::Error {
    let holder = match error.downcast_ref::<StoreError>() {
        Some(StoreError::InUse { holder, .. }) => Some(holder.clone()),
        Some(_) => None,
        // The port is taken, but by whom? By a service on this data, if somebody holds that.
        None => match context.project().await.map_err(|error| error.downcast::<StoreError>()) {
            Err(Ok(StoreError::InUse { holder, .. })) => Some(holder),
            _ => None,
        },
    };
    let Some(holder) = holder else { return error };
    let message = format!(
        "{holder} works on this data, and tokens are made when the service starts: stop it, then start `agentruntime dev \
         --new-token`. While it runs, a token that is not lost makes others: POST /v1/pats"
    );
    Refusal::new("DATA_IN_USE", message).into()
}

/// The settings, and where the data lies.
pub(super) struct Read {
    settings: Settings,
    pub(super) data: Option<String>,
    effective: Vec<Effective>,
}

/// Reads what was given, and refuses what is wrong with it.
pub(super) fn read(
    data: Option<String>,
    flags: &SettingFlags,
    file: Option<&Path>,
    mode: Mode,
) -> anyhow::Result<Read> {
    let mut given = Given::gather(flags, data, std::env::vars_os().filter_map(unicode), file);
    let data = Settings::read_data(&mut given);
    let settings = Settings::read(&mut given, mode);
    let effective = given.finish().map_err(|error| Refusal::new("INVALID_SETTINGS", error.to_string()))?;
    Ok(Read { settings, data, effective })
}

/// Variables that are not text are nobody's settings.
fn unicode((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

/// Takes the port first, so that a second server on it does nothing to the data of the first; then opens the rest.
async fn open(
    context: &Context,
    mut settings: Settings,
    telling: Telling,
    given_up: Option<&str>,
) -> anyhow::Result<(Arc<App>, Listeners)> {
    let location = context.location().expect("a service has its data here");
    server::check_files(&settings, location).await.map_err(refusal)?;
    let metrics = settings.observe.metrics_listen.map(|address| server::listen("metrics_listen", address));
    let api = server::listen("listen", settings.listen).map_err(refusal)?;
    let listeners = Listeners { api, metrics: metrics.transpose().map_err(refusal)? };
    settings.listens_on(listeners.api.local_addr()?);
    let project = Project::local(server::open_store(location).await?);
    // Before anything works on a run, or takes a delivery that it could not check.
    let sealer = server::open_keys(project.store.database(), location, &settings, given_up).await;
    let sealer = sealer.map_err(|error| Refusal::new("MASTER_KEY_REFUSED", error.to_string()))?;
    let budget = TenantBudget::default();
    let computing = settings.workspace_processors_max.unwrap_or(budget.computing);
    let sandbox = context.sandbox_for(TenantBudget { computing, ..budget })?;
    let ceilings = Ceilings {
        requests_max: settings.request_room.each,
        unfinished_runs_max: settings.workspace_unfinished_runs_max,
        stored_bytes_max: settings.workspace_stored_bytes_max.unwrap_or(u64::MAX),
        ..Ceilings::default()
    };
    let (active_runs_max, requests_max) = (settings.active_runs_max, settings.request_room.all);
    let external = settings.external_vault.clone().map(ExternalVault::new).transpose();
    let external = external.map_err(|error| Refusal::new("INVALID_SETTINGS", error.to_string()))?;
    if let Some(sentence) = server::external_vault(&settings).await.map_err(refusal)? {
        tracing::warn!("{sentence}");
    }
    let keys = Keys { master: Arc::new(sealer), external };
    let outside = Outside::new(
        Secrets::Kept { database: project.store.database().clone(), keys: keys.clone() },
        settings.platform_providers.clone(),
        &settings.egress,
    );
    let outside = Arc::new(outside.map_err(|error| Refusal::new("EGRESS_UNAVAILABLE", error.to_string()))?);
    let (host, traces) = (outside.clone(), telling.of_runs());
    let compute = outside.compute().clone();
    let config = NodeConfig { active_runs_max, requests_max, ceilings, host, compute, traces, ..NodeConfig::default() };
    let node = context.serving_node(&project, sandbox.clone(), config);
    let app = App::new(project.store, node, sandbox, keys, outside, settings, telling).await?;
    Ok((app, listeners))
}

fn refusal(error: CheckError) -> anyhow::Error {
    Refusal::new(error.code(), error.to_string()).into()
}

/// Says how the server is reached. Its port is taken, so what is sent now is answered in a moment.
fn greet(context: &Context, app: &App, tokens: Option<&FirstStart>) {
    let url = app.settings.public_url.as_str().trim_end_matches('/');
    let token = tokens.map(|tokens| tokens.token.expose_secret());
    let admin = tokens.map(|tokens| tokens.admin_token.expose_secret());
    let (tenant, project) = server::PLACE;
    let mail = match &app.settings.mail {
        MailSettings::Folder(folder) => folder.display().to_string(),
        MailSettings::Smtp { .. } | MailSettings::Off => "sent by SMTP".to_owned(),
    };
    let text = match (context.json, token.zip(admin)) {
        (true, _) => {
            let text = json!({
                "url": url, "token": token, "admin_token": admin, "tenant": tenant, "project": project, "mail": mail,
            });
            format!("{text}\n")
        }
        (false, Some((token, admin))) => format!(
            "AgentRuntime listens on {url}\n\n  workspace    {tenant}\n  project      {project}\n  token        {token}\n  admin token  {admin}\n  mails        {mail}\n\n\
             The tokens are shown this once: the first is for the project, the other for the whole workspace. Try it:\n\n  curl -H 'Authorization: Bearer {token}' {url}/v1/workflows\n\n\
             What can be asked: {url}/v1/docs\n"
        ),
        (false, None) => format!(
            "AgentRuntime listens on {url} (workspace {tenant}, project {project})\n\
             Where the tokens are lost, `agentruntime dev --new-token` makes others.\n"
        ),
    };
    // Where nobody reads it, the server serves all the same.
    let _ = screen::print(&text);
}

fn toml(effective: &[Effective]) -> String {
    let line = |it: &Effective| {
        let value = it.value.as_deref().unwrap_or("\"(secret)\"");
        format!("{} = {value}  # {}\n", it.name, it.source)
    };
    effective.iter().map(line).collect()
}

fn object(effective: &[Effective]) -> String {
    let value = |it: &Effective| json!({ "value": it.value, "source": it.source.to_string() });
    let object: serde_json::Map<String, Value> = effective.iter().map(|it| (it.name.to_owned(), value(it))).collect();
    format!("{}\n", Value::Object(object))
}
