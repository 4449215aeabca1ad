//! One session with a server: begun, used by the calls of one run, and ended. Calls that are under way at once share it; what
//! goes wrong with one of them is that one's.

use super::{
    MCP_TOOL_LIST_BYTES_MAX, MCP_TOOL_PAGES_MAX, MCP_TOOLS_FRESH, MCP_TOOLS_MAX,
    failure::Failure,
    tools::{Tool, ToolList},
    wire::Wire,
};
use rmcp::{
    ClientHandler, RoleClient,
    model::{
        CallToolRequest, CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ClientRequest,
        Implementation, JsonObject, ListToolsRequest, PaginatedRequestParams, ProtocolVersion, RequestId,
        RequestMetaObject, ServerResult,
    },
    service::{
        ClientInitializeError, ClientLifecycleMode, ClientServiceExt, NotificationContext, PeerRequestOptions,
        RunningService,
    },
    transport::{
        common::client_side_sse::FixedInterval,
        streamable_http_client::{StreamableHttpClientTransport, StreamableHttpClientTransportConfig},
    },
};
use serde_json::Value;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long taking leave may take. Nobody waits for it.
pub(super) const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a stream that broke off is asked for again.
const RESUMPTIONS_MAX: usize = 3;
/// Where a call says that it comes again, beside the header.
pub(super) const IDEMPOTENCY_META: &str = "agentruntime/idempotency_key";

/// A session.
pub(super) struct Session {
    service: RunningService<RoleClient, Listener>,
    wire: Wire,
    listed: Mutex<Option<Listed>>,
}

/// The tools that a server showed.
struct Listed {
    tools: Arc<ToolList>,
    at: Instant,
}

impl Listed {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < MCP_TOOLS_FRESH
    }
}

/// What ends the waiting of one call.
#[derive(Clone)]
pub(super) struct Bounds {
    stop: CancellationToken,
    limit: Duration,
    deadline: Instant,
}

/// Which handshake a server is known to want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    /// Nobody knows: it is asked in the newest way first.
    Unknown,
    /// `initialize`, as revisions before 2026-07-28 have it.
    Initialize,
}

impl Handshake {
    /// By the revision that the server spoke when it was asked last.
    pub(super) fn of(version: Option<&str>) -> Self {
        // Revisions are dates, which stand in the order of their texts.
        match version.is_some_and(|version| version < ProtocolVersion::NO_INITIALIZE.as_str()) {
            true => Self::Initialize,
            false => Self::Unknown,
        }
    }
}

/// What the library tells of what a server says unasked.
struct Listener {
    config: ClientConfig,
    /// Whether the tools changed since they were listed.
    changed: AtomicBool,
}

impl ClientHandler for Listener {
    fn get_info(&self) -> ClientConfig {
        self.config.clone()
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.store(true, SeqCst);
    }
}

impl Session {
    pub(super) async fn begin(wire: Wire, handshake: Handshake, bounds: &Bounds) -> Result<Self, Failure> {
        let begun = match handshake {
            Handshake::Initialize => greet(&wire, ClientLifecycleMode::Initialize, bounds).await?,
            Handshake::Unknown => {
                let newest_first = ClientLifecycleMode::Auto {
                    preferred_versions: vec![ProtocolVersion::LATEST],
                    legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
                };
                match greet(&wire, newest_first, bounds).await? {
                    // Servers answer with nothing what they do not know. That is how older ones say so, too.
                    Err(ClientInitializeError::ExpectedInitResult(_)) => {
                        greet(&wire, ClientLifecycleMode::Initialize, bounds).await?
                    }
                    begun => begun,
                }
            }
        };
        let service = begun.map_err(|error| wire.failure(None).unwrap_or(Failure::of_start(error)))?;
        wire.is_begun();
        Ok(Self { service, wire, listed: Mutex::default() })
    }

    /// The revision that both speak.
    pub(super) fn protocol_version(&self) -> Option<String> {
        self.service.peer_info().map(|info| info.protocol_version.as_str().to_owned())
    }

    /// What it goes over.
    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Whether it broke while nobody used it.
    pub(super) fn is_broken(&self) -> bool {
        self.service.is_closed() || self.service.is_transport_closed() || self.wire.failure(None).is_some()
    }

    /// The tools that the server shows: listed in this session, not long ago, and not changed since as far as it says.
    pub(super) async fn shown(&self, bounds: &Bounds) -> Result<Arc<ToolList>, Failure> {
        let mut listed = self.wait(bounds, None, async { Ok(self.listed.lock().await) }).await?;
        // What changes while they are listed is for the next.
        let changed = self.service.service().changed.swap(false, SeqCst);
        match &*listed {
            Some(known) if !changed && known.is_fresh(Instant::now()) => return Ok(known.tools.clone()),
            _ => *listed = None,
        }
        let at = Instant::now();
        let tools = Arc::new(self.tools(bounds).await?);
        *listed = Some(Listed { tools: tools.clone(), at });
        Ok(tools)
    }

    /// All tools that the server shows now.
    pub(super) async fn tools(&self, bounds: &Bounds) -> Result<ToolList, Failure> {
        let (mut tools, mut bytes, mut cursor) = (Vec::new(), 0, None);
        for _ in 0..MCP_TOOL_PAGES_MAX {
            let params = cursor.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
            let asked = ListToolsRequest { params, ..Default::default() };
            let request = ClientRequest::ListToolsRequest(asked);
            let page = match self.request(bounds, request, PeerRequestOptions::no_options()).await? {
                ServerResult::ListToolsResult(page) => page,
                _ => return Err(Failure::misfit("its reply is no list of tools")),
            };
            for shown in page.tools {
                let tool = Tool::read(&shown).map_err(Failure::misfit)?;
                bytes += tool.bytes();
                tools.push(tool);
            }
            if tools.len() > MCP_TOOLS_MAX || bytes > MCP_TOOL_LIST_BYTES_MAX {
                let what = format!(
                    "it shows more than {MCP_TOOLS_MAX} tools, or more than {MCP_TOOL_LIST_BYTES_MAX} bytes of them"
                );
                return Err(Failure::misfit(what));
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return ToolList::new(tools).map_err(Failure::misfit);
            }
        }
        Err(Failure::misfit(format!("its list of tools has more than {MCP_TOOL_PAGES_MAX} pages")))
    }

    /// Calls a tool. Where it is not waited for to the end, the server is told.
    pub(super) async fn call(
        &self,
        bounds: &Bounds,
        tool: &str,
        arguments: JsonObject,
        key: &str,
    ) -> Result<CallToolResult, Failure> {
        let mut meta = RequestMetaObject::default();
        meta.insert(IDEMPOTENCY_META.to_owned(), Value::from(key));
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        match self.request(bounds, request, PeerRequestOptions::no_options().with_meta(meta)).await? {
            ServerResult::CallToolResult(result) => Ok(result),
            ServerResult::InputRequiredResult(_) => Err(Failure::misfit("it asks for input while it works")),
            ServerResult::CreateTaskResult(_) => Err(Failure::misfit("it wants to be asked for the result later")),
            _ => Err(Failure::misfit("its reply is no result of a tool")),
        }
    }

    async fn request(
        &self,
        bounds: &Bounds,
        request: ClientRequest,
        options: PeerRequestOptions,
    ) -> Result<ServerResult, Failure> {
        let sent = self.service.send_cancellable_request(request, options);
        let mut handle = self.wait(bounds, None, async { sent.await.map_err(Failure::of_request) }).await?;
        let id = handle.id.clone();
        let reply = self.wait(bounds, Some(&id), async {
            let reply = (&mut handle.rx).await.map_err(|_| Failure::misfit("it ended the connection"))?;
            reply.map_err(Failure::of_request)
        });
        let reply = reply.await;
        self.wire.settled(&id);
        if let Err(failure) = &reply
            && !matches!(failure, Failure::Tool { .. } | Failure::Forgotten)
        {
            // As well as it can: the server may be gone.
            let _ = timeout(GOODBYE_TIMEOUT, handle.cancel(Some("nobody waits any more".into()))).await;
        }
        reply
    }

    /// Waits, but not for ever. What failed on the wire is told rather than what followed from it.
    async fn wait<T>(
        &self,
        bounds: &Bounds,
        request: Option<&RequestId>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        bounds.wait(&self.wire, request, work).await
    }

    /// Takes leave. A server that does not let go is left.
    pub(super) async fn end(mut self) {
        let _ = self.service.close_with_timeout(GOODBYE_TIMEOUT).await;
    }
}

/// Greets the server in one way.
async fn greet(
    wire: &Wire,
    lifecycle: ClientLifecycleMode,
    bounds: &Bounds,
) -> Result<Result<RunningService<RoleClient, Listener>, ClientInitializeError>, Failure> {
    let mut retries = FixedInterval::default();
    retries.max_times = Some(RESUMPTIONS_MAX);
    let mut config = StreamableHttpClientTransportConfig::with_uri(wire.url().as_str())
        // The tools of a new session are compared to what was frozen before anything is called in it.
        .reinit_on_expired_session(false)
        // How much may be under way at once is for the node to say, and what waits here would wait beside its time.
        .max_concurrent_requests(usize::MAX);
    config.retry_config = Arc::new(retries);
    let transport = StreamableHttpClientTransport::with_client(wire.clone(), config);
    let who = Implementation::new("agentruntime", env!("CARGO_PKG_VERSION"));
    let config = ClientConfig::new(ClientCapabilities::default(), who);
    let config = config.with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE);
    let client = Listener { config, changed: AtomicBool::default() };
    bounds.wait(wire, None, async { Ok(client.serve_with_lifecycle(transport, lifecycle).await) }).await
}

impl Bounds {
    /// So long, or until it is stopped.
    pub(super) fn new(limit: Duration, stop: CancellationToken) -> Self {
        Self { stop, limit, deadline: Instant::now() + limit }
    }

    pub(super) async fn wait<T>(
        &self,
        wire: &Wire,
        request: Option<&RequestId>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            done = work => done.map_err(|failure| wire.failure(request).unwrap_or(failure)),
            failure = wire.failed(request) => Err(failure),
            () = self.stop.cancelled() => Err(Failure::Stopped),
            () = sleep_until(self.deadline) => Err(self.late(wire)),
        }
    }

    fn late(&self, wire: &Wire) -> Failure {
        let host = wire.url().host_str().unwrap_or("the MCP server");
        Failure::Upstream(format!("{host} did not answer within {} s", self.limit.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_listed_is_taken_for_what_is_shown_for_a_while() {
        let listed = Listed { tools: Arc::default(), at: Instant::now() };
        assert!(listed.is_fresh(listed.at) && listed.is_fresh(listed.at + MCP_TOOLS_FRESH - Duration::from_millis(1)));
        assert!(!listed.is_fresh(listed.at + MCP_TOOLS_FRESH));
    }
}
