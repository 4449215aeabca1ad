//! What workflows reach outside: credentials and where they may go, and carrying out what steps were granted.
//!
//! Owns connections, the workspace's vault, providers of models, servers of MCP and the [host](agentruntime_host_api::Host) of the node. Secrets go in and are used;
//! nothing here gives one out. Never decides what a step may ask for: that is the broker's, from the version's grants.
//!
//! | file | owns |
//! |---|---|
//! | `connections` | named credentials of a project |
//! | `vault_entries` | named secrets of a workspace |
//! | `fields` | names, and how many values of what size |
//! | `hosts` | where credentials may be sent |
//! | `secrets` | finding and opening what a step uses |
//! | `inquiries` | how many requests that ask servers elsewhere are under way |
//! | `llm` | language models and their providers |
//! | `schemas` | checks by a JSON Schema |
//! | `oauth` | connections whose token is fetched and renewed |
//! | `mcp` | servers of MCP, their tools, and calling them |
//! | `outside` | carrying out what the broker let pass |

pub(crate) mod connections;
mod error;
mod fields;
mod hosts;
mod inquiries;
pub(crate) mod llm;
pub(crate) mod mcp;
pub(crate) mod oauth;
mod outside;
mod schemas;
mod secrets;
pub(crate) mod vault_entries;

pub(crate) use error::IntegrationError;
pub(crate) use inquiries::Inquiries;
pub(crate) use outside::{Outside, Secrets};
pub(crate) use secrets::Keys;

use agentruntime_host_api::uuid_id;

uuid_id! {
    /// A connection.
    ConnectionId
}

uuid_id! {
    /// A provider of language models.
    ProviderId
}

uuid_id! {
    /// A server of MCP.
    McpServerId
}

uuid_id! {
    /// An instance of a server of MCP.
    McpInstanceId
}
