//! Opening what a command needs, and no more: reading commands open the store, working ones the sandbox and a node.

use super::{
    Ending,
    arguments::{PlaceArguments, SupplyArguments, Typed},
    desk::Desk,
    failure::Refusal,
    json_argument,
    place::{Reach, Where},
    screen, style,
    workspace::Workspace,
};
use crate::{
    client::{Notice, Server},
    data,
    integrations::{Outside, Secrets, llm::Endpoint},
    operations::Project,
    settings::EgressSettings,
};
use agentruntime_engine::{
    node::{Ceilings, Node, NodeConfig},
    store::{Location, Store, SystemClock},
};
use agentruntime_host_api::{RunId, SecretRef};
use agentruntime_sandbox::{Sandbox, SandboxConfig, TenantBudget};
use anyhow::Context as _;
use ipnet::IpNet;
use secrecy::SecretString;
use serde_json::json;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// What all commands have in common.
pub(crate) struct Context {
    /// Whether output is JSON.
    pub(crate) json: bool,
    place: Where,
    workspace: Option<Workspace>,
    /// Whether the data was named on the command line, where it is mistyped now and then.
    is_data_typed: bool,
    supply: Supply,
}

/// Where runs go on while a command looks: with a node of this process, or at a server.
pub(crate) struct Workshop {
    /// What is worked on.
    pub(crate) desk: Desk,
    /// The node, where it is this process that works.
    pub(crate) node: Option<Node>,
}

/// What whoever runs a graph of their own gives its steps.
#[derive(Default)]
struct Supply {
    /// Secrets, by what keeps them at a server.
    secrets: BTreeMap<SecretRef, SecretString>,
    /// Providers of models.
    providers: Vec<Endpoint>,
    /// Networks that may be reached.
    allowed_networks: Vec<IpNet>,
    /// The flags that give it again, without what is secret.
    flags: Vec<String>,
}

impl Supply {
    fn read(given: &SupplyArguments) -> anyhow::Result<Self> {
        let SupplyArguments { secrets, providers, allow_network } = given;
        let mut flags = Vec::new();
        for (name, text) in [("--secrets", secrets), ("--providers", providers)] {
            if let Some(text) = text {
                let shown = if text.starts_with('@') { text.clone() } else { "…".to_owned() };
                flags.extend([name.to_owned(), shown]);
            }
        }
        flags.extend(allow_network.iter().flat_map(|network| ["--allow-network".to_owned(), network.to_string()]));
        Ok(Self {
            secrets: secrets.as_deref().map(json_argument::read_secrets).transpose()?.unwrap_or_default(),
            providers: providers.as_deref().map(json_argument::read_providers).transpose()?.unwrap_or_default(),
            allowed_networks: allow_network.clone(),
            flags,
        })
    }
}

impl Context {
    /// Says where the data lies; opens nothing.
    pub(crate) fn new(data: Option<String>, json: bool) -> anyhow::Result<Self> {
        let location = match &data {
            Some(text) => text.parse()?,
            None => data::default_location()?,
        };
        Ok(Self {
            json,
            place: Where::Here { location, flags: Vec::new() },
            workspace: None,
            is_data_typed: false,
            supply: Supply::default(),
        })
    }

    /// Says where a command works; opens nothing.
    pub(crate) fn choose(arguments: &PlaceArguments, typed: Typed, reach: Reach, json: bool) -> anyhow::Result<Self> {
        // Programs read one document from stderr, if any.
        let notice: Option<Notice> = if json { None } else { Some(Arc::new(screen::notice)) };
        let place = Where::choose(arguments, typed, reach, notice)?;
        // Those of the environment are for servers.
        let tenant = arguments.tenant.as_deref().filter(|_| typed.tenant);
        let project = arguments.project.as_deref().filter(|_| typed.project);
        let workspace = Workspace::named(tenant, project).filter(|_| matches!(place, Where::Here { .. }));
        if workspace.is_some() && reach == Reach::HereOnly {
            return Err(not_into_a_servers().into());
        }
        Ok(Self { json, place, workspace, is_data_typed: typed.data, supply: Supply::default() })
    }

    /// The same, with what is given to the steps of this machine's own runs.
    pub(crate) fn with(self, given: &SupplyArguments) -> anyhow::Result<Self> {
        let supply = Supply::read(given)?;
        let is_here = matches!(self.place, Where::Here { .. }) && self.workspace.is_none();
        match supply.flags.first() {
            Some(flag) if !is_here => {
                let message = format!(
                    "{flag} is for runs of this machine's own data; at a server, steps have what the project's connections and \
                     providers and the operator's settings give"
                );
                Err(Refusal::new("USAGE", message).into())
            }
            _ => Ok(Self { supply, ..self }),
        }
    }

    /// Opens what the command works on. A folder that was typed has to be one of data; `run` and `publish`, which make one, open
    /// the store.
    pub(crate) async fn desk(&self) -> anyhow::Result<Desk> {
        match &self.place {
            Where::Here { location, .. } => {
                if self.is_data_typed {
                    check_is_data(location)?;
                }
                Ok(Desk::Here(self.project().await?))
            }
            Where::Server { server, .. } => Ok(Desk::Server(server.clone())),
        }
    }

    /// Opens the store of this machine.
    pub(crate) async fn project(&self) -> anyhow::Result<Project> {
        let Where::Here { location, .. } = &self.place else { anyhow::bail!("this data lies at a server") };
        self.workspace().enter(Store::open(location, Arc::new(SystemClock)).await?).await
    }

    /// The workspace of this machine's data that is looked into.
    pub(crate) fn workspace(&self) -> Workspace {
        self.workspace.clone().unwrap_or_else(Workspace::local)
    }

    /// Refuses to publish and start past a server, which keeps drafts, permissions and the audit log besides.
    pub(crate) fn check_is_not_a_servers(&self) -> Result<(), Refusal> {
        if self.workspace.is_some() { Err(not_into_a_servers()) } else { Ok(()) }
    }

    /// The server, where the command works at one.
    pub(crate) fn server(&self) -> Option<&Server> {
        match &self.place {
            Where::Here { .. } => None,
            Where::Server { server, .. } => Some(server),
        }
    }

    /// Whether the store is this process's alone, so that nobody else moves its runs on.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.place, Where::Here { location: Location::Sqlite(_), .. })
    }

    /// Where the data lies, where that is here.
    pub(crate) fn location(&self) -> Option<&Location> {
        match &self.place {
            Where::Here { location, .. } => Some(location),
            Where::Server { .. } => None,
        }
    }

    /// The sandbox, its compiled code mapped from the cache.
    pub(crate) fn sandbox(&self) -> anyhow::Result<Arc<Sandbox>> {
        self.sandbox_for(TenantBudget::default())
    }

    /// The same, with what each tenant may use of it.
    pub(crate) fn sandbox_for(&self, tenant: TenantBudget) -> anyhow::Result<Arc<Sandbox>> {
        let cache_dir = data::cache_folder(self.location());
        let config = SandboxConfig { cache_dir, tenant, ..SandboxConfig::default() };
        Ok(Arc::new(Sandbox::new(config).context("the sandbox cannot be set up")?))
    }

    /// Puts a node to work: it takes up every run of the project's tenant that is due. Scripts reach the public internet, and have
    /// what was given to them.
    pub(crate) fn node(&self, project: &Project, sandbox: Arc<Sandbox>) -> anyhow::Result<Node> {
        let Supply { secrets, providers, allowed_networks, .. } = &self.supply;
        let egress = EgressSettings { allowed_networks: allowed_networks.clone(), ..EgressSettings::default() };
        let host = Arc::new(Outside::new(Secrets::Given(secrets.clone()), providers.clone(), &egress)?);
        // In a folder in which a service has its data, too, its runs are left to it: they have its credentials and may go where
        // it lets them.
        let ceilings = Ceilings { active_runs_max: 0, ..Ceilings::default() };
        let compute = host.compute().clone();
        let config = NodeConfig { host, compute, ceilings, ..NodeConfig::default() };
        let node = Node::start(config, project.store.clone(), sandbox, Arc::new(SystemClock));
        node.set_ceilings(project.scope.tenant.clone(), Some(Ceilings::default()));
        Ok(node)
    }

    /// The node of a service.
    pub(crate) fn serving_node(&self, project: &Project, sandbox: Arc<Sandbox>, config: NodeConfig) -> Node {
        Node::start(config, project.store.clone(), sandbox, Arc::new(SystemClock))
    }

    /// Puts a node of this process to work on what lies here. At a server, nodes are at work already. Nothing where the runs are
    /// a service's that is not at work: they wait for it.
    pub(crate) fn workshop(&self, desk: Desk) -> anyhow::Result<Option<Workshop>> {
        let node = match &desk {
            Desk::Here(project) if project.is_of_a_service() => return Ok(None),
            Desk::Here(project) => Some(self.node(project, self.sandbox()?)?),
            Desk::Server(_) => None,
        };
        Ok(Some(Workshop { desk: desk.patient(), node }))
    }

    /// Says that what was asked for is written down, and who carries it out.
    pub(crate) fn tell_written_down(&self, run: RunId) -> anyhow::Result<Ending> {
        if self.json {
            screen::json_line(&json!({ "run_id": run, "written_down": true }))?;
            return Ok(Ending::Done);
        }
        screen::print(&format!(
            "written down for run {run}; the service whose data this is carries it out when it starts: it has the credentials and \
             the settings that the run needs\n"
        ))?;
        Ok(Ending::Done)
    }

    /// Where a developer's mails land: beside the data, or where there is no folder, in a temporary one.
    pub(crate) fn mail_folder(&self) -> PathBuf {
        match self.location() {
            Some(Location::Sqlite(folder)) => folder.join("mail"),
            Some(Location::Postgres(_)) | None => {
                std::env::temp_dir().join(format!("agentruntime-mail-{}", uuid::Uuid::now_v7()))
            }
        }
    }

    /// A command line of this program on the same data, or at the same server, to be copied.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        let mut line = String::from("agentruntime");
        for word in words {
            line.push(' ');
            line.push_str(&style::quoted(word));
        }
        let (Where::Here { flags, .. } | Where::Server { flags, .. }) = &self.place;
        for word in flags {
            line.push(' ');
            line.push_str(&style::quoted(word));
        }
        line
    }

    /// The same for a command that goes on with a run: it gives the run's steps what this one gave.
    pub(crate) fn command_on(&self, words: &[&str]) -> String {
        let given = self.supply.flags.iter().map(String::as_str);
        self.command(&words.iter().copied().chain(given).collect::<Vec<_>>())
    }
}

/// Refuses a folder without data for a command that only finds what is there: it was mistyped, and would be made.
fn check_is_data(location: &Location) -> Result<(), Refusal> {
    let Location::Sqlite(folder) = location else { return Ok(()) };
    if Store::is_in(folder) {
        return Ok(());
    }
    let message = format!(
        "there is no data in {}: check --data; `agentruntime run GRAPH` and `agentruntime publish GRAPH` begin a new folder",
        folder.display()
    );
    Err(Refusal::new("DATA_NOT_FOUND", message))
}

fn not_into_a_servers() -> Refusal {
    let message = "a server's workspace is looked into here, and its runs are controlled; what is published and started there goes by \
                   the server: say --server URL instead of --data";
    Refusal::new("USAGE", message)
}

impl Workshop {
    /// Stops the node where it is and closes the store. What was not finished goes on at the next start.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        let Self { desk, node } = self;
        let stopped = match node {
            Some(node) => node.stop().await,
            None => Ok(()),
        };
        desk.close().await;
        Ok(stopped?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_to_be_copied_names_the_data_but_no_password() {
        let command = |data: &str| {
            let place = PlaceArguments { data: Some(data.into()), ..PlaceArguments::default() };
            let typed = Typed { data: true, ..Typed::default() };
            Context::choose(&place, typed, Reach::Anywhere, false).unwrap().command(&["resume", "last"])
        };
        assert_eq!(command("my data"), "agentruntime resume last --data 'my data'");
        assert_eq!(
            command("postgres://me@db/runs?host=/run/pg"),
            "agentruntime resume last --data 'postgres://me@db/runs?host=/run/pg'"
        );
        assert_eq!(command("postgres://me:secret@db/runs"), "agentruntime resume last --data postgres://db/runs");
        assert_eq!(command("postgres://db/runs?password=secret"), "agentruntime resume last --data postgres://db/runs");
    }
}
