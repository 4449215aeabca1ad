//! `login`, `logout` and `whoami`: tokens of servers, kept for later commands.

use super::{
    Ending,
    arguments::{LoginArguments, PlaceArguments},
    context::Context,
    failure::Refusal,
    json_argument,
    place::{self, place, profile_name, profiles},
    screen, style,
};
use crate::client::{Address, ClientError, DEFAULT_PROFILE, Http, Place, Profile, Reading, Server};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::io::{self, BufRead, IsTerminal};

/// A token that is longer was not made by a server.
const TOKEN_BYTES_MAX: usize = 4_096;

/// Asks for a token, checks it, and keeps it.
pub(crate) async fn login(arguments: &PlaceArguments, json: bool, login: LoginArguments) -> anyhow::Result<Ending> {
    let name = profile_name(arguments);
    let mut profiles = profiles()?;
    let before = profiles.get(name)?;
    let plaintext = place::plaintext(arguments);
    let address = match (login.url.as_deref().or(arguments.server.as_deref()), &before) {
        (Some(url), _) => Address::parse(url, plaintext)?,
        (None, Some(before)) => Address::parse(&before.address.to_string(), plaintext)?,
        (None, None) => {
            let message = "say where: `agentruntime login https://agents.example.com`";
            return Err(Refusal::new("USAGE", message).into());
        }
    };
    let token = token(&address, login.token_stdin)?;
    let before = before.filter(|before| before.address == address);
    let place = place(arguments, before.as_ref());
    let server = Server::new(Http::new(address.clone(), &token, &place)?);
    let reading = server.check().await?;
    let me = me(&server).await?;
    profiles.put(name, &Profile { address, token, place: place.clone(), plaintext })?;
    if json {
        screen::json_line(&public(name, &server, &place, &me))?;
        return Ok(Ending::Done);
    }
    let who = me["email"].as_str().or_else(|| me["user"]["email"].as_str());
    let who = who.map(|email| format!(" as {}", style::strong(email))).unwrap_or_default();
    screen::print(&format!("logged in to {}{who}\n", server.address()))?;
    let to = if name == DEFAULT_PROFILE { String::new() } else { format!(" --profile {}", style::quoted(name)) };
    let try_it = match reading {
        Reading::Allowed => "agentruntime workflows",
        // Nothing can be looked at with it.
        Reading::Denied => "agentruntime trigger WORKFLOW_ID",
    };
    screen::show(&format!("{} {try_it}{to}\n", style::faint("try it:")))?;
    Ok(Ending::Done)
}

/// Forgets a token. At the server it stays valid until it is revoked there.
pub(crate) fn logout(arguments: &PlaceArguments, json: bool) -> anyhow::Result<Ending> {
    let name = profile_name(arguments);
    let was_there = profiles()?.remove(name)?;
    if json {
        screen::json_line(&json!({ "profile": name, "was_logged_in": was_there }))?;
    } else if was_there {
        screen::print("logged out: the token is forgotten here; where others may have it, revoke it at the server\n")?;
    } else {
        screen::print("nobody was logged in\n")?;
    }
    Ok(Ending::Done)
}

/// Tells where commands work, and as whom.
pub(crate) async fn whoami(context: &Context) -> anyhow::Result<Ending> {
    let Some(server) = context.server() else {
        return Err(Refusal::new(
            "NOT_LOGGED_IN",
            "commands work on this machine's data; `agentruntime login URL` logs in",
        )
        .into());
    };
    let reading = server.check().await?;
    let me = me(server).await?;
    // What is named counts; else the token says which place is meant.
    let of_token = |what: &str| me["token"][what].as_str().map(str::to_owned);
    let Place { tenant, project } = server.place();
    let tenant = tenant.clone().or_else(|| of_token("tenant"));
    let project = project.clone().or_else(|| of_token("project"));
    if context.json {
        screen::json_line(&json!({ "server": server.address(), "tenant": tenant, "project": project, "me": me }))?;
        return Ok(Ending::Done);
    }
    let untold = || "that of the token".to_owned();
    let mut lines = vec![
        ("server", server.address()),
        ("workspace", tenant.unwrap_or_else(untold)),
        ("project", project.unwrap_or_else(untold)),
    ];
    lines.extend(who(&me).map(|who| ("account", who)));
    if reading == Reading::Denied {
        lines.push(("token", "starts runs, and may not read (it lacks the scope `workflow:read`)".to_owned()));
    }
    let line = |(name, what): (&str, String)| format!("{}{what}\n", style::faint(&format!("{name:<11}")));
    screen::print(&lines.into_iter().map(line).collect::<String>())?;
    Ok(Ending::Done)
}

/// The account, as people know it.
fn who(me: &Value) -> Option<String> {
    let user = me.get("user").unwrap_or(me);
    let email = style::strong(user["email"].as_str()?);
    Some(match user["display_name"].as_str().filter(|name| !name.is_empty()) {
        Some(name) => format!("{email} ({name})"),
        None => email,
    })
}

/// What the server says of whoever holds the token; nothing where it does not say it to tokens.
async fn me(server: &Server) -> Result<Value, ClientError> {
    match server.me().await {
        Ok(me) => Ok(me),
        Err(ClientError::Refused(refused)) if matches!(refused.status, 403 | 404) => Ok(Value::Null),
        Err(error) => Err(error),
    }
}

fn public(name: &str, server: &Server, place: &Place, me: &Value) -> Value {
    json!({
        "profile": name,
        "server": server.address(),
        "tenant": place.tenant,
        "project": place.project,
        "me": me,
    })
}

/// The token: from stdin, else typed without being shown.
fn token(address: &Address, from_stdin: bool) -> anyhow::Result<SecretString> {
    let token = if from_stdin {
        SecretString::from(json_argument::stdin("the token")?)
    } else if let Some(token) = place::token_of_environment() {
        token
    } else if io::stdin().is_terminal() {
        screen::show(&format!("Token for {address}: "))?;
        let typed = hidden_line();
        screen::show("\n")?;
        typed?
    } else {
        let message =
            "stdin is no terminal to ask for the token: pipe it in with --token-stdin, or set AGENTRUNTIME_TOKEN";
        return Err(Refusal::new("TOKEN_MISSING", message).into());
    };
    let trimmed = token.expose_secret().trim();
    if trimmed.is_empty() || trimmed.len() > TOKEN_BYTES_MAX || trimmed.contains(char::is_whitespace) {
        let message = "this is no token: one is a word that begins with pat_, as it was shown when it was made";
        return Err(Refusal::new("TOKEN_MISSING", message).into());
    }
    Ok(SecretString::from(trimmed))
}

/// A line of the terminal, not shown while it is typed.
#[cfg(unix)]
pub(super) fn hidden_line() -> anyhow::Result<SecretString> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = io::stdin();
    let shown = tcgetattr(&stdin)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Flush, &shown)?;
    read?;
    Ok(SecretString::from(line))
}

#[cfg(not(unix))]
pub(super) fn hidden_line() -> anyhow::Result<SecretString> {
    let message = "this terminal shows what is typed: pipe it in with --token-stdin or --password-stdin";
    Err(Refusal::new("TOKEN_MISSING", message).into())
}
