//! Runs scripts for the other tests: one sandbox for all, as on a node.

use agentruntime_host_api::{
    Entropy, ErrorCode, Guest, HostReply, HostRequest, Invocation, Json, Language, Limits, Outcome, Program, Scope,
    StepError, StepOutput, TenantId, Timestamp,
};
use agentruntime_sandbox::{Sandbox, SandboxConfig};
use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use tokio::{runtime::Runtime, task::JoinHandle};

/// What a script is given, and what becomes of its requests.
pub(crate) struct Case {
    pub(crate) invocation: Invocation,
}

pub(crate) fn script(source: &str) -> Case {
    Case {
        invocation: Invocation {
            tenant: TenantId::new("acme"),
            program: Program { language: Language::Lua, name: "price".into(), source: source.into() },
            scope: Scope::default(),
            started_at: "2026-03-01T12:30:15.5Z".parse().unwrap(),
            entropy: Entropy(7),
            limits: Limits::default(),
        },
    }
}

impl Case {
    pub(crate) fn global(mut self, name: &'static str, json: &str) -> Self {
        self.invocation.scope.globals.push((name, Json::parse(json).unwrap()));
        self
    }

    pub(crate) fn input(self, json: &str) -> Self {
        self.global("input", json)
    }

    pub(crate) fn step(mut self, id: &str, entry: &str) -> Self {
        self.invocation.scope.steps.push((id.into(), Json::parse(entry).unwrap()));
        self
    }

    pub(crate) fn tenant(mut self, tenant: &str) -> Self {
        self.invocation.tenant = TenantId::new(tenant);
        self
    }

    pub(crate) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.invocation.limits);
        self
    }

    pub(crate) fn entropy(mut self, entropy: u64) -> Self {
        self.invocation.entropy = Entropy(entropy);
        self
    }

    pub(crate) fn started_at(mut self, at: Timestamp) -> Self {
        self.invocation.started_at = at;
        self
    }

    pub(crate) fn run(self) -> Result<StepOutput, StepError> {
        self.run_with(|request| panic!("no request was expected, but {request:?} came"))
    }

    /// Runs with a reply for each request.
    pub(crate) fn run_with(self, reply: impl FnMut(&HostRequest) -> HostReply) -> Result<StepOutput, StepError> {
        wait(self.drive(sandbox(), reply))
    }

    pub(crate) async fn drive(
        self,
        sandbox: &Sandbox,
        mut reply: impl FnMut(&HostRequest) -> HostReply,
    ) -> Result<StepOutput, StepError> {
        let mut outcome = sandbox.start(self.invocation).await;
        loop {
            match outcome {
                Outcome::Done(output) => return Ok(output),
                Outcome::Failed(error) => return Err(error),
                Outcome::Requests { requests, execution } => {
                    outcome = execution.resume(requests.iter().map(&mut reply).collect()).await;
                }
            }
        }
    }

    /// The output as text.
    #[track_caller]
    pub(crate) fn text(self) -> String {
        match self.run() {
            Ok(output) => output.json.as_str().to_owned(),
            Err(error) => panic!("{error} {:?}", error.details),
        }
    }

    /// The failure, which has to have this code.
    #[track_caller]
    pub(crate) fn fails(self, code: ErrorCode) -> StepError {
        match self.run() {
            Ok(output) => panic!("it returned {} where {code} was expected", output.json),
            Err(error) => {
                assert_eq!(error.code, code, "{error}");
                error
            }
        }
    }
}

/// A script and its output.
#[track_caller]
pub(crate) fn check(source: &str, output: &str) {
    assert_eq!(script(source).text(), output, "{source}");
}

pub(crate) fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| Sandbox::new(config()).unwrap())
}

pub(crate) fn config() -> SandboxConfig {
    SandboxConfig { cache_dir: Some(cache_dir()), ..SandboxConfig::default() }
}

fn cache_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("sandbox-cache")
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

/// Starts something beside the test.
pub(crate) fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    runtime().spawn(future)
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}
