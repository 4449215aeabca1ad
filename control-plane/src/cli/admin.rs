//! `admin`: what an operator does to the data of a service itself, without asking the service.

use super::{
    Ending,
    arguments::CreateOwnerArguments,
    context::Context,
    failure::Refusal,
    json_argument,
    login::hidden_line,
    screen,
    serve::{self, Read},
    style,
};
use crate::{
    access::{
        AccessError,
        founding::{self, Founded, NewOwner},
        tables,
    },
    settings::{Mode, SettingFlags},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::io::{self, IsTerminal};

/// What the log of the workspace says the token was made by.
const TOKEN_NAME: &str = "admin create-owner";

/// Makes an account that needs no mail, and a workspace that it owns.
pub(crate) async fn create_owner(
    data: Option<String>,
    json: bool,
    arguments: CreateOwnerArguments,
) -> anyhow::Result<Ending> {
    let Read { data, .. } = serve::read(data, &SettingFlags::default(), arguments.config.as_deref(), Mode::Serve)?;
    let context = Context::new(data, json)?;
    let password = password(&arguments)?;
    let store = context.project().await?.store;
    store.database().migrate(&tables::MIGRATIONS).await?;
    let CreateOwnerArguments { email, workspace: slug, workspace_name: name, display_name, token, .. } = arguments;
    let new = NewOwner { email, password, display_name, slug, name };
    let made = founding::found_with_password(store.database(), new, token.then_some(TOKEN_NAME)).await;
    store.close().await;
    let (founded, token) = made.map_err(refusal)?;
    tell(&context, &founded, token.as_ref())?;
    Ok(Ending::Done)
}

fn tell(context: &Context, founded: &Founded, token: Option<&SecretString>) -> io::Result<()> {
    let (email, tenant, project) = (&founded.owner.email, &founded.tenant.slug, &founded.project.slug);
    let token = token.map(SecretString::expose_secret);
    if context.json {
        return screen::json_line(&json!({ "email": email, "tenant": tenant, "project": project, "token": token }));
    }
    let mut text = format!("{} owns the workspace {tenant}, with the project {project}\n", style::strong(email));
    if let Some(token) = token {
        text.push_str(&format!(
            "\n  token      {token}\n\nIt is for the whole workspace, and shown this once. Being for no single project, it wants one \
             named with\nwhatever concerns a project:\n\n  agentruntime login URL --tenant {tenant} --project {project}\n"
        ));
    }
    screen::print(&text)
}

/// The password: from stdin, else typed twice without being shown.
fn password(arguments: &CreateOwnerArguments) -> anyhow::Result<SecretString> {
    if arguments.password_stdin {
        let given = SecretString::from(json_argument::stdin("the password")?);
        return Ok(line(&given));
    }
    if !io::stdin().is_terminal() {
        let message = "stdin is no terminal to ask for the password: pipe it in with --password-stdin";
        return Err(Refusal::new("PASSWORD_MISSING", message).into());
    }
    let ask = |question: &str| -> anyhow::Result<SecretString> {
        screen::show(question)?;
        let typed = hidden_line();
        screen::show("\n")?;
        Ok(line(&typed?))
    };
    let (first, again) = (ask("Password: ")?, ask("Once more: ")?);
    match first.expose_secret() == again.expose_secret() {
        true => Ok(first),
        false => Err(Refusal::new("PASSWORD_MISSING", "the two are not the same; nothing was made").into()),
    }
}

/// What was typed, without the end of the line.
fn line(typed: &SecretString) -> SecretString {
    SecretString::from(typed.expose_secret().trim_end_matches(['\n', '\r']))
}

/// A refusal with the code that the API has for it.
fn refusal(error: AccessError) -> anyhow::Error {
    match error {
        AccessError::Conflict { code, message } => Refusal::new(code, message).into(),
        AccessError::Invalid { .. } => Refusal::new("INVALID_FIELD", error.to_string()).into(),
        AccessError::Store(error) => error.into(),
        error => error.into(),
    }
}
