//! `dev`: the whole service for one developer, in one process.

use super::{Ending, arguments::DevArguments, context::Context, screen};
use crate::{
    app::App,
    server,
    settings::{BODY_BYTES_MAX, Settings},
};
use anyhow::Context as _;
use secrecy::ExposeSecret;
use serde_json::json;

pub(crate) async fn dev(context: &Context, arguments: DevArguments) -> anyhow::Result<Ending> {
    let project = context.project().await?;
    let sandbox = context.sandbox()?;
    let node = context.node(&project, sandbox.clone());
    let settings = Settings {
        listen: arguments.listen,
        public_url: format!("http://{}", arguments.listen).parse().context("the address makes no URL")?,
        is_dev: true,
        trusted_proxies: Vec::new(),
        body_bytes_max: BODY_BYTES_MAX,
    };
    let app = App::new(project.store, node, sandbox, settings).await?;
    let first = server::first_start(&app).await?;
    let json = context.json;
    let listening = move |address: std::net::SocketAddr| {
        let token = first.as_ref().map(|first| first.token.expose_secret().to_owned());
        let url = format!("http://{address}");
        // Where nobody reads it, the server serves all the same.
        let _ = screen::print(&greeting(json, &url, token.as_deref()));
    };
    server::serve(app, listening).await?;
    Ok(Ending::Done)
}

fn greeting(json: bool, url: &str, token: Option<&str>) -> String {
    let (tenant, project) = server::PLACE;
    if json {
        return format!("{}\n", json!({ "url": url, "token": token, "tenant": tenant, "project": project }));
    }
    match token {
        Some(token) => format!(
            "AgentRuntime listens on {url}\n\n  workspace  {tenant}\n  project    {project}\n  token      {token}\n\nThe token is shown this once. Try it:\n\n  curl -H 'Authorization: Bearer {token}' {url}/v1/workflows\n"
        ),
        None => format!("AgentRuntime listens on {url} (workspace {tenant}, project {project})\n"),
    }
}
