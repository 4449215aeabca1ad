//! `dev`: the whole service for one developer, in one process.

use super::{Ending, arguments::DevArguments, context::Context, screen};
use crate::{
    app::App,
    server,
    settings::{BODY_BYTES_MAX, GOOGLE, MailSettings, OpenIdSettings, Settings},
};
use anyhow::Context as _;
use secrecy::ExposeSecret;
use serde_json::json;
use std::path::Path;

pub(crate) async fn dev(context: &Context, arguments: DevArguments) -> anyhow::Result<Ending> {
    let project = context.project().await?;
    let sandbox = context.sandbox()?;
    let node = context.node(&project, sandbox.clone());
    let listener = server::bind(arguments.listen).with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let listen = listener.local_addr()?;
    let mail = context.mail_folder();
    let settings = Settings {
        listen,
        public_url: format!("http://{listen}").parse().context("the address makes no URL")?,
        is_dev: true,
        trusted_proxies: Vec::new(),
        body_bytes_max: BODY_BYTES_MAX,
        cookie_domain: None,
        mail: smtp().unwrap_or_else(|| MailSettings::Folder(mail.clone())),
        openid: openid(),
    };
    let app = App::new(project.store, node, sandbox, settings).await?;
    let first = server::first_start(&app).await?;
    let json = context.json;
    let listening = move |address: std::net::SocketAddr| {
        let token = first.as_ref().map(|first| first.token.expose_secret().to_owned());
        let url = format!("http://{address}");
        // Where nobody reads it, the server serves all the same.
        let _ = screen::print(&greeting(json, &url, token.as_deref(), &mail));
    };
    server::serve(app, listener, listening).await?;
    Ok(Ending::Done)
}

/// Mails go to an SMTP server where the environment names one.
fn smtp() -> Option<MailSettings> {
    let url = std::env::var("AGENTRUNTIME_SMTP_URL").ok()?.into();
    let from = std::env::var("AGENTRUNTIME_MAIL_FROM").unwrap_or_else(|_| "agentruntime@localhost".into());
    Some(MailSettings::Smtp { url, from })
}

/// Signing in elsewhere is possible where the environment says how.
fn openid() -> Option<OpenIdSettings> {
    Some(OpenIdSettings {
        client_id: std::env::var("AGENTRUNTIME_OPENID_CLIENT_ID").ok()?,
        client_secret: std::env::var("AGENTRUNTIME_OPENID_CLIENT_SECRET").ok()?.into(),
        issuer: std::env::var("AGENTRUNTIME_OPENID_ISSUER").unwrap_or_else(|_| GOOGLE.into()),
    })
}

fn greeting(json: bool, url: &str, token: Option<&str>, mail: &Path) -> String {
    let (tenant, project) = server::PLACE;
    if json {
        return format!(
            "{}\n",
            json!({ "url": url, "token": token, "tenant": tenant, "project": project, "mail": mail })
        );
    }
    let mail = mail.display();
    match token {
        Some(token) => format!(
            "AgentRuntime listens on {url}\n\n  workspace  {tenant}\n  project    {project}\n  token      {token}\n  mails      {mail}\n\nThe token is shown this once. Try it:\n\n  curl -H 'Authorization: Bearer {token}' {url}/v1/workflows\n"
        ),
        None => format!("AgentRuntime listens on {url} (workspace {tenant}, project {project})\n"),
    }
}
