//! Which data a command works on: this machine's, or a server's.
//!
//! What is typed counts before the environment, the environment before a login, a login before the platform's data folder.
//! Commands that work on this machine alone (`run`, `validate`) do not ask for a login.

use super::{
    arguments::{PlaceArguments, Typed},
    failure::Refusal,
};
use crate::{
    client::{Address, DEFAULT_PROFILE, Http, Notice, Place, Plaintext, Profile, Profiles, Server},
    data::{self, holds_password},
};
use agentruntime_engine::store::Location;
use secrecy::SecretString;

/// Where a command may work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Here, or at a server.
    Anywhere,
    /// Here: it needs the sandbox and the data of this process.
    HereOnly,
}

/// Where a command works, and what to type to work there again.
pub(crate) enum Where {
    /// On data that this process opens.
    Here {
        /// Where they lie.
        location: Location,
        /// What names them, where that is needed.
        flags: Vec<String>,
    },
    /// At a server.
    Server {
        /// The server.
        server: Box<Server>,
        /// What names it, where that is needed.
        flags: Vec<String>,
    },
}

impl Where {
    /// Reads the arguments, the environment and the logins. `notice` hears of what is known only later, such as a server
    /// that is waited for.
    pub(crate) fn choose(
        arguments: &PlaceArguments,
        typed: Typed,
        reach: Reach,
        notice: Option<Notice>,
    ) -> anyhow::Result<Self> {
        let at_server = typed.server || typed.profile;
        if at_server && typed.data {
            let message = "--data names this machine's data, --server and --profile a server: say one of them";
            return Err(Refusal::new("USAGE", message).into());
        }
        if reach == Reach::HereOnly {
            return match at_server {
                true => Err(here_only().into()),
                false => here(arguments, typed, wants_server(arguments)?),
            };
        }
        if typed.data {
            return here(arguments, typed, false);
        }
        if at_server {
            return at(arguments, typed, notice);
        }
        let named_server = arguments.server.is_some() || arguments.profile.is_some();
        match (named_server, arguments.data.is_some()) {
            (true, true) => {
                let message = "the environment names a server (AGENTRUNTIME_SERVER or AGENTRUNTIME_PROFILE) and a data \
                               folder (AGENTRUNTIME_DATA): say --server URL or --data DIR, or unset one of them";
                Err(Refusal::new("USAGE", message).into())
            }
            (false, true) => {
                tell_of_login(arguments, notice.as_ref());
                here(arguments, typed, false)
            }
            (true, false) => at(arguments, typed, notice),
            (false, false) if profiles()?.get(DEFAULT_PROFILE)?.is_some() => at(arguments, typed, notice),
            (false, false) => here(arguments, typed, false),
        }
    }
}

/// Says which of the two counts where a login is kept and the environment names this machine's data besides: either might have
/// been meant. A login that cannot be read is no reason not to work here.
fn tell_of_login(arguments: &PlaceArguments, notice: Option<&Notice>) {
    let login = profiles().and_then(|profiles| Ok(profiles.get(DEFAULT_PROFILE)?));
    let (Some(notice), Ok(Some(login)), Some(data)) = (notice, login, &arguments.data) else { return };
    let data = data.parse::<Location>().map_or_else(|_| "it".to_owned(), |location| location.to_string());
    let login = login.address;
    notice(&format!(
        "AGENTRUNTIME_DATA is set, so this works on the data in {data}, and not at {login}, where you are logged in: say \
         --server {login} for that, or unset AGENTRUNTIME_DATA"
    ));
}

/// The logins of this account.
pub(crate) fn profiles() -> anyhow::Result<Profiles> {
    Ok(Profiles::read(&data::config_folder()?)?)
}

/// The name of the profile that is meant.
pub(crate) fn profile_name(arguments: &PlaceArguments) -> &str {
    arguments.profile.as_deref().unwrap_or(DEFAULT_PROFILE)
}

/// Whether a token may travel unencrypted.
pub(crate) fn plaintext(arguments: &PlaceArguments) -> Plaintext {
    if arguments.insecure_http { Plaintext::Allowed } else { Plaintext::Loopback }
}

/// The token that the environment holds.
pub(crate) fn token_of_environment() -> Option<SecretString> {
    std::env::var("AGENTRUNTIME_TOKEN").ok().filter(|token| !token.is_empty()).map(SecretString::from)
}

fn here_only() -> Refusal {
    let message = "this command works on this machine, in its own sandbox; at a server, `agentruntime publish GRAPH` makes a \
                   version and `agentruntime trigger WORKFLOW --wait` runs it";
    Refusal::new("HERE_ONLY", message)
}

/// Whether a command without flags would work at a server, so that one on this data has to name it.
fn wants_server(arguments: &PlaceArguments) -> anyhow::Result<bool> {
    if arguments.server.is_some() || arguments.profile.is_some() {
        return Ok(true);
    }
    Ok(arguments.data.is_none() && profiles()?.get(DEFAULT_PROFILE)?.is_some())
}

fn here(arguments: &PlaceArguments, typed: Typed, has_to_be_named: bool) -> anyhow::Result<Where> {
    let location: Location = match &arguments.data {
        Some(text) => text.parse()?,
        None => data::default_location()?,
    };
    let shown = |text: &str| if holds_password(text) { location.to_string() } else { text.to_owned() };
    let name = match &arguments.data {
        Some(text) if typed.data || has_to_be_named => Some(shown(text)),
        None if has_to_be_named => Some(location.to_string()),
        _ => None,
    };
    let mut flags = name.map(|name| vec!["--data".to_owned(), name]).unwrap_or_default();
    for (typed, flag, value) in
        [(typed.tenant, "--tenant", &arguments.tenant), (typed.project, "--project", &arguments.project)]
    {
        if let (true, Some(value)) = (typed, value) {
            flags.extend([flag.to_owned(), value.clone()]);
        }
    }
    Ok(Where::Here { location, flags })
}

fn at(arguments: &PlaceArguments, typed: Typed, notice: Option<Notice>) -> anyhow::Result<Where> {
    let profiles = profiles()?;
    let given = arguments.server.as_deref().map(|url| Address::parse(url, plaintext(arguments))).transpose();
    let stored = match (&given, typed.server && !typed.profile) {
        // A profile's token is for the profile's server alone.
        (Ok(Some(address)), true) => profiles.at(address)?,
        _ => profiles.get(profile_name(arguments))?,
    };
    let address = match (given, &stored) {
        // A login allowed what this command did not repeat.
        (Err(_), Some(stored)) if stored.plaintext == Plaintext::Allowed => {
            Address::parse(arguments.server.as_deref().unwrap_or_default(), Plaintext::Allowed)?
        }
        (Err(error), _) => return Err(error.into()),
        (Ok(Some(address)), _) => address,
        (Ok(None), Some(stored)) => stored.address.clone(),
        (Ok(None), None) => return Err(not_logged_in(profile_name(arguments)).into()),
    };
    let stored = stored.filter(|stored| stored.address == address);
    let token = token_of_environment().or_else(|| stored.as_ref().map(|stored| stored.token.clone()));
    let Some(token) = token else {
        let message = format!(
            "there is no token for {address}: `agentruntime login {address}` keeps one, or AGENTRUNTIME_TOKEN gives it"
        );
        return Err(Refusal::new("NOT_LOGGED_IN", message).into());
    };
    let place = place(arguments, stored.as_ref());
    let mut flags = Vec::new();
    for (typed, flag, value) in [
        (typed.server, "--server", &arguments.server),
        (typed.profile, "--profile", &arguments.profile),
        (typed.tenant, "--tenant", &arguments.tenant),
        (typed.project, "--project", &arguments.project),
    ] {
        if let (true, Some(value)) = (typed, value) {
            flags.extend([flag.to_owned(), value.clone()]);
        }
    }
    let http = Http::new(address, &token, &place)?.telling(notice);
    Ok(Where::Server { server: Box::new(Server::new(http)), flags })
}

/// The workspace and the project: those that are named, else those of the login.
pub(crate) fn place(arguments: &PlaceArguments, stored: Option<&Profile>) -> Place {
    let of = |given: &Option<String>, pick: fn(&Place) -> &Option<String>| {
        given.clone().or_else(|| stored.and_then(|stored| pick(&stored.place).clone()))
    };
    Place {
        tenant: of(&arguments.tenant, |place| &place.tenant),
        project: of(&arguments.project, |place| &place.project),
    }
}

fn not_logged_in(profile: &str) -> Refusal {
    let message = match profile {
        DEFAULT_PROFILE => "nobody is logged in; `agentruntime login URL` does that".to_owned(),
        name => format!("there is no profile `{name}`; `agentruntime login URL --profile {name}` makes it"),
    };
    Refusal::new("NOT_LOGGED_IN", message)
}
