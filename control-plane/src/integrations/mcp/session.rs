//! One conversation with a server: begun, used and ended for one purpose. Nothing of it is kept for the next, so that no
//! server can carry anything from one tenant, project or call into another.

use super::{
    MCP_TOOL_LIST_BYTES_MAX, MCP_TOOL_PAGES_MAX, MCP_TOOLS_MAX,
    failure::Failure,
    tools::{Tool, ToolList},
    wire::Wire,
};
use futures_util::future::BoxFuture;
use rmcp::{
    RoleClient,
    model::{
        CallToolRequest, CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ClientRequest,
        Implementation, JsonObject, PaginatedRequestParams, ProtocolVersion, RequestMetaObject, ServerResult,
    },
    service::{ClientInitializeError, ClientLifecycleMode, ClientServiceExt, PeerRequestOptions, RunningService},
    transport::{
        common::client_side_sse::FixedInterval,
        streamable_http_client::{StreamableHttpClientTransport, StreamableHttpClientTransportConfig},
    },
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long taking leave may take. Nobody waits for it.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a stream that broke off is asked for again.
const RESUMPTIONS_MAX: usize = 3;
/// Where a call says that it comes again, beside the header.
const IDEMPOTENCY_META: &str = "agentruntime/idempotency_key";

/// A conversation.
pub(super) struct Session {
    service: RunningService<RoleClient, ClientConfig>,
    bounds: Bounds,
}

/// What ends waiting.
#[derive(Clone)]
struct Bounds {
    wire: Wire,
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

/// Begins a conversation, has it used, and ends it. Dropping the future ends it as well: a call that is under way is
/// cancelled at the server.
pub(super) async fn converse<T: Send + 'static>(
    wire: Wire,
    handshake: Handshake,
    limit: Duration,
    work: impl for<'s> FnOnce(&'s Session) -> BoxFuture<'s, Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let stop = CancellationToken::new();
    let _given_up = stop.clone().drop_guard();
    let bounds = Bounds { wire, stop, limit, deadline: Instant::now() + limit };
    let (done, outcome) = oneshot::channel();
    tokio::spawn(async move {
        let scrubber = bounds.wire.scrubber();
        match Session::begin(bounds, handshake).await {
            Ok(session) => {
                let worked = work(&session).await;
                // Nobody may be there any more.
                let _ = done.send(worked.map_err(|failure| failure.cleaned(&scrubber)));
                session.end().await;
            }
            Err(failure) => {
                let _ = done.send(Err(failure.cleaned(&scrubber)));
            }
        }
    });
    outcome.await.unwrap_or(Err(Failure::Stopped))
}

impl Session {
    async fn begin(bounds: Bounds, handshake: Handshake) -> Result<Self, Failure> {
        let begun = match handshake {
            Handshake::Initialize => bounds.greet(ClientLifecycleMode::Initialize).await?,
            Handshake::Unknown => {
                let newest_first = ClientLifecycleMode::Auto {
                    preferred_versions: vec![ProtocolVersion::LATEST],
                    legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
                };
                match bounds.greet(newest_first).await? {
                    // Servers answer with nothing what they do not know. That is how older ones say so, too.
                    Err(ClientInitializeError::ExpectedInitResult(_)) => {
                        bounds.greet(ClientLifecycleMode::Initialize).await?
                    }
                    begun => begun,
                }
            }
        };
        Ok(Self { service: begun.map_err(|error| bounds.told(Failure::of_start(error)))?, bounds })
    }

    /// The revision that both speak.
    pub(super) fn protocol_version(&self) -> Option<String> {
        self.service.peer_info().map(|info| info.protocol_version.as_str().to_owned())
    }

    /// All tools that the server shows.
    pub(super) async fn tools(&self) -> Result<ToolList, Failure> {
        let (mut tools, mut bytes, mut cursor) = (Vec::new(), 0, None);
        for _ in 0..MCP_TOOL_PAGES_MAX {
            let params = cursor.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
            let asked = self.service.list_tools(params);
            let page = self.bounds.wait(async { asked.await.map_err(Failure::of_request) }).await?;
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
    pub(super) async fn call(&self, tool: &str, arguments: JsonObject, key: &str) -> Result<CallToolResult, Failure> {
        let mut meta = RequestMetaObject::default();
        meta.insert(IDEMPOTENCY_META.to_owned(), Value::from(key));
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let options = PeerRequestOptions::no_options().with_meta(meta);
        let sent = self.service.send_cancellable_request(request, options);
        let mut handle = self.bounds.wait(async { sent.await.map_err(Failure::of_request) }).await?;
        let reply = self.bounds.wait(async {
            let reply = (&mut handle.rx).await.map_err(|_| Failure::misfit("it ended the connection"))?;
            reply.map_err(Failure::of_request)
        });
        match reply.await {
            Ok(ServerResult::CallToolResult(result)) => Ok(result),
            Ok(ServerResult::InputRequiredResult(_)) => Err(Failure::misfit("it asks for input while it works")),
            Ok(ServerResult::CreateTaskResult(_)) => Err(Failure::misfit("it wants to be asked for the result later")),
            Ok(_) => Err(Failure::misfit("its reply is no result of a tool")),
            Err(failure) => {
                if !matches!(failure, Failure::Tool { .. }) {
                    // As well as it can: the server may be gone.
                    let _ = timeout(GOODBYE_TIMEOUT, handle.cancel(Some("nobody waits any more".into()))).await;
                }
                Err(failure)
            }
        }
    }

    async fn end(mut self) {
        // A server that does not let go is left.
        let _ = self.service.close_with_timeout(GOODBYE_TIMEOUT).await;
    }
}

impl Bounds {
    /// Greets the server in one way.
    async fn greet(
        &self,
        lifecycle: ClientLifecycleMode,
    ) -> Result<Result<RunningService<RoleClient, ClientConfig>, ClientInitializeError>, Failure> {
        let mut retries = FixedInterval::default();
        retries.max_times = Some(RESUMPTIONS_MAX);
        let mut config = StreamableHttpClientTransportConfig::with_uri(self.wire.url().as_str());
        config.retry_config = Arc::new(retries);
        let transport = StreamableHttpClientTransport::with_client(self.wire.clone(), config);
        let who = Implementation::new("agentruntime", env!("CARGO_PKG_VERSION"));
        let client = ClientConfig::new(ClientCapabilities::default(), who);
        let client = client.with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE);
        self.wait(async { Ok(client.serve_with_lifecycle(transport, lifecycle).await) }).await
    }

    /// Waits, but not for ever. What failed on the wire is told rather than what followed from it.
    async fn wait<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            done = work => done.map_err(|failure| self.told(failure)),
            failure = self.wire.failed() => Err(failure),
            () = self.stop.cancelled() => Err(Failure::Stopped),
            () = sleep_until(self.deadline) => Err(self.late()),
        }
    }

    fn told(&self, failure: Failure) -> Failure {
        self.wire.failure().unwrap_or(failure)
    }

    fn late(&self) -> Failure {
        let host = self.wire.url().host_str().unwrap_or("the MCP server");
        Failure::Upstream(format!("{host} did not answer within {} s", self.limit.as_secs_f64()))
    }
}
