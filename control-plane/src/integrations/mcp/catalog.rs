//! All tools that a project's workflows can call, in short.

use super::{
    instances::{self, McpInstance},
    versions,
};
use crate::{
    access::{May, permission::ReadConnections},
    integrations::IntegrationError,
};
use agentruntime_engine::database::Database;
use std::collections::{HashMap, hash_map::Entry};
use uuid::Uuid;

/// A tool of an instance, without its schemas.
#[derive(Debug)]
pub(crate) struct Listed {
    /// The instance.
    pub(crate) instance: McpInstance,
    /// The tool's name.
    pub(crate) name: String,
    /// A name for people.
    pub(crate) title: Option<String>,
    /// What it does, in the server's words.
    pub(crate) description: Option<String>,
    /// SHA-256 over its canonical JSON.
    pub(crate) hash: String,
}

/// The place of a tool in the list: when its instance was made, the instance, the tool's name.
pub(crate) type Place = (i64, Uuid, String);

/// How many instances are looked up at a time: most have more tools than one.
const INSTANCES_AT_ONCE: u32 = 20;

/// Tools of all instances of a project, by the order in which these were made, and by name.
pub(crate) async fn tools(
    database: &Database,
    may: &May<ReadConnections>,
    after: Option<Place>,
    limit: u32,
) -> Result<Vec<Listed>, IntegrationError> {
    let (scope, limit) = (may.place.scope(), limit as usize);
    let mut listed = Vec::new();
    // Many instances are of the same version of a server, whose tools are read once.
    let mut lists = HashMap::new();
    // The instance itself comes again: there may be more of it. Just before it, nothing has its id.
    let mut place = after.as_ref().map(|(at, id, _)| (*at, Uuid::from_u128(id.as_u128().saturating_sub(1))));
    while listed.len() < limit {
        let found = instances::list(database, may, place, INSTANCES_AT_ONCE).await?;
        let Some(last) = found.last() else { break };
        place = Some((last.created_at.as_micros(), last.id.as_uuid()));
        for instance in found {
            let at = (instance.server, instance.version);
            if let Entry::Vacant(place) = lists.entry(at) {
                let Some(found) = versions::find(database, &scope, at.0, at.1).await? else { continue };
                place.insert(found.tools);
            }
            let Some(tools) = lists.get(&at) else { continue };
            let begun = after.as_ref().filter(|(_, id, _)| *id == instance.id.as_uuid()).map(|(_, _, name)| name);
            let tools = tools.tools().iter().filter(|tool| begun.is_none_or(|name| tool.name > *name));
            listed.extend(tools.take(limit - listed.len()).map(|tool| Listed {
                instance: instance.clone(),
                name: tool.name.clone(),
                title: tool.title.clone(),
                description: tool.description.clone(),
                hash: tool.hash(),
            }));
            if listed.len() >= limit {
                break;
            }
        }
    }
    Ok(listed)
}

impl Listed {
    /// Where it stands in the list.
    pub(crate) fn place(&self) -> Place {
        (self.instance.created_at.as_micros(), self.instance.id.as_uuid(), self.name.clone())
    }
}
