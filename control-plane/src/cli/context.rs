//! Opening what a command needs, and no more: reading commands open the store, working ones the sandbox and a node.

use super::style;
use crate::{
    data::{self, holds_password},
    operations::Project,
    vault::{MasterKeyError, Sealer},
};
use agentruntime_engine::{
    node::{Node, NodeConfig},
    store::{Location, Store, SystemClock},
};
use agentruntime_sandbox::{Sandbox, SandboxConfig};
use anyhow::Context as _;
use secrecy::SecretString;
use std::{path::PathBuf, sync::Arc};

/// What all commands have in common.
pub(crate) struct Context {
    /// Whether output is JSON.
    pub(crate) json: bool,
    location: Location,
    /// How the data's place was written on the command line, if it was.
    flag: Option<String>,
}

/// A project with a node at work on it.
pub(crate) struct Workshop {
    /// The project.
    pub(crate) project: Project,
    /// The node.
    pub(crate) node: Node,
}

impl Context {
    /// Says where the data lies; opens nothing.
    pub(crate) fn new(data: Option<String>, json: bool) -> anyhow::Result<Self> {
        let from_environment = std::env::var("AGENTRUNTIME_DATA").ok();
        let location = match &data {
            Some(text) => text.parse()?,
            None => data::default_location()?,
        };
        let flag = data.filter(|text| Some(text) != from_environment.as_ref());
        let flag = flag.map(|text| if holds_password(&text) { location.to_string() } else { text });
        Ok(Self { json, location, flag })
    }

    /// Opens the store.
    pub(crate) async fn project(&self) -> anyhow::Result<Project> {
        Ok(Project::local(Store::open(&self.location, Arc::new(SystemClock)).await?))
    }

    /// Whether the store is this process's alone, so that nobody else moves its runs on.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.location, Location::Sqlite(_))
    }

    /// The sandbox, its compiled code mapped from the cache.
    pub(crate) fn sandbox(&self) -> anyhow::Result<Arc<Sandbox>> {
        let cache_dir = data::cache_folder(Some(&self.location));
        let config = SandboxConfig { cache_dir, ..SandboxConfig::default() };
        Ok(Arc::new(Sandbox::new(config).context("the sandbox cannot be set up")?))
    }

    /// Puts a node to work: it takes up every run that is due.
    pub(crate) fn node(&self, project: &Project, sandbox: Arc<Sandbox>) -> Node {
        Node::start(NodeConfig::default(), project.store.clone(), sandbox, Arc::new(SystemClock))
    }

    /// The node of a service.
    pub(crate) fn serving_node(&self, project: &Project, sandbox: Arc<Sandbox>, config: NodeConfig) -> Node {
        Node::start(config, project.store.clone(), sandbox, Arc::new(SystemClock))
    }

    /// A project with a node at work on it.
    pub(crate) fn workshop(&self, project: Project) -> anyhow::Result<Workshop> {
        let node = self.node(&project, self.sandbox()?);
        Ok(Workshop { project, node })
    }

    /// What seals stored secrets.
    pub(crate) fn sealer(&self, given: Option<&SecretString>) -> Result<Sealer, MasterKeyError> {
        Sealer::open(&self.location, given)
    }

    /// Where a developer's mails land: beside the data, or where there is no folder, in a temporary one.
    pub(crate) fn mail_folder(&self) -> PathBuf {
        match &self.location {
            Location::Sqlite(folder) => folder.join("mail"),
            Location::Postgres(_) => std::env::temp_dir().join(format!("agentruntime-mail-{}", uuid::Uuid::now_v7())),
        }
    }

    /// A command line of this program on the same data, to be copied.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        let mut line = String::from("agentruntime");
        for word in words {
            line.push(' ');
            line.push_str(&style::quoted(word));
        }
        if let Some(flag) = &self.flag {
            line.push_str(" --data ");
            line.push_str(&style::quoted(flag));
        }
        line
    }
}

impl Workshop {
    /// Stops the node where it is and closes the store. What was not finished goes on at the next start.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        let Self { project, node } = self;
        let stopped = node.stop().await;
        project.store.close().await;
        Ok(stopped?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_to_be_copied_names_the_data_but_no_password() {
        let command = |data: &str| Context::new(Some(data.into()), false).unwrap().command(&["resume", "last"]);
        assert_eq!(command("my data"), "agentruntime resume last --data 'my data'");
        assert_eq!(
            command("postgres://me@db/runs?host=/run/pg"),
            "agentruntime resume last --data 'postgres://me@db/runs?host=/run/pg'"
        );
        assert_eq!(command("postgres://me:secret@db/runs"), "agentruntime resume last --data postgres://db/runs");
        assert_eq!(command("postgres://db/runs?password=secret"), "agentruntime resume last --data postgres://db/runs");
    }
}
