//! Tools of MCP servers: which servers a project knows, which of their tools are frozen, and calling one.
//!
//! Owns the registry (servers, versions of their tool lists, instances, config profiles) and the client. A server is not
//! trusted: what it sends is bounded, what it shows is compared to what was frozen, and what it answers is handed on as data.
//! Every byte to and from it goes through [`agentruntime_egress`]. Never decides what a step may call: that is the broker's.
//!
//! | file | owns |
//! |---|---|
//! | `servers` | servers, and what they showed when they were asked |
//! | `versions` | lists of tools that were frozen |
//! | `instances` | what workflows name, and their config profiles |
//! | `catalog` | all tools of a project |
//! | `target` | where a call goes: by instance or by address |
//! | `again` | asking once more with a token that was renewed |
//! | `fields` | which credentials a server wants, and in which headers |
//! | `tools` | a tool as it is shown, its hash, and what of it may be kept |
//! | `schemas` | checking arguments and results |
//! | `wire` | the client's HTTP, over the egress |
//! | `session` | one session with a server |
//! | `sessions` | the sessions of the process: begun, kept for the next call of their run, and ended |
//! | `shelf` | which sessions are kept, and which go first |
//! | `failure` | how a conversation fails |
//! | `call` | carrying out `mcp.call` and `mcp.describe` |

mod again;
mod call;
pub(crate) mod catalog;
mod failure;
pub(crate) mod fields;
pub(crate) mod instances;
mod schemas;
pub(crate) mod servers;
mod session;
mod sessions;
mod shelf;
mod target;
pub(crate) mod tools;
pub(crate) mod versions;
mod wire;

pub(super) use call::{Ways, call, describe};
pub(super) use failure::shortened;
pub(super) use sessions::Sessions;

use std::time::Duration;

/// The longest message of a server: it goes into the journal and into the sandbox.
pub(crate) const MCP_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Everything that a server may send for one request: a long call tells of its progress.
pub(crate) const MCP_STREAM_BYTES_MAX: usize = 4 << 20;
/// How many requests by HTTP one call may take: a server can ask back, and have its streams taken up, without end.
pub(crate) const MCP_REQUESTS_MAX: usize = 500;
/// How many tools a server may show.
pub(crate) const MCP_TOOLS_MAX: usize = 500;
/// How long the list of a server's tools may be as JSON: it is kept with each version.
pub(crate) const MCP_TOOL_LIST_BYTES_MAX: usize = 1 << 20;
/// How many pages a list of tools may have: an empty page costs a request like a full one.
pub(crate) const MCP_TOOL_PAGES_MAX: usize = 100;
/// The longest name of a tool, in bytes.
pub(crate) const MCP_TOOL_NAME_BYTES_MAX: usize = 128;
/// The longest description of a tool, in bytes: models read it.
pub(crate) const MCP_TOOL_DESCRIPTION_BYTES_MAX: usize = 16 << 10;
/// The longest schema of a tool, in bytes of JSON: every call is checked by it.
pub(crate) const MCP_TOOL_SCHEMA_BYTES_MAX: usize = 64 << 10;
/// How much of a server's own words an error repeats, in characters.
pub(crate) const MCP_SHOWN_CHARS_MAX: usize = 500;
/// How long a server may take to show its tools to whoever looks after it.
pub(crate) const MCP_DISCOVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Servers of one project: more than people look after.
pub(crate) const MCP_SERVERS_MAX: u32 = 100;
/// Frozen versions of one server: each holds all its tools.
pub(crate) const MCP_VERSIONS_MAX: u32 = 50;
/// Instances of one project: more than people look after.
pub(crate) const MCP_INSTANCES_MAX: u32 = 500;
/// Config profiles of one instance.
pub(crate) const MCP_PROFILES_MAX: u32 = 20;
/// Credentials that one server may want.
pub(crate) const MCP_CREDENTIAL_FIELDS_MAX: usize = 16;
/// For how long the tools that a session listed are taken for what the server shows, where it does not say that they changed.
/// Each comparison with what was frozen is as old as that at the most. Not all servers tell, and none has to; an agent calls a
/// few times in this while, and a change that goes unnoticed for longer would be one that people and models were not told of.
pub(crate) const MCP_TOOLS_FRESH: Duration = Duration::from_secs(10);
/// For how long a session is kept that nobody uses: an agent's model answers meanwhile.
pub(crate) const MCP_SESSION_IDLE: Duration = Duration::from_secs(30);
/// Sessions that a process keeps. Each is a task or two, a few kilobytes, and the tools that it listed.
pub(crate) const MCP_SESSIONS_MAX: usize = 1_000;
/// Sessions that a process keeps for one workspace: as many as can be used at once by default, in all but unusual hours.
pub(crate) const MCP_WORKSPACE_SESSIONS_MAX: usize = 200;
