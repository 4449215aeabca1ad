//! A PostgreSQL server of the tests' own.
//!
//! Started once per test process from the server binaries of this machine, in a temporary folder, reachable by a Unix
//! socket in it and nothing else. It ends with the process, however that ends: its keeper, a shell, waits for the end of
//! its standard input. Without server binaries there is no server, and a test that wants one says so and passes.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Makes a cluster, starts its server, says where, and ends both when the standard input does.
const KEEPER: &str = r#"
set -e
bin=$1
dir=$(mktemp -d)
stop() { "$bin/pg_ctl" stop -D "$dir/data" -m immediate -s >/dev/null 2>&1 || true; rm -rf "$dir"; }
trap stop EXIT
"$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
"$bin/pg_ctl" start -w -s -D "$dir/data" -l "$dir/log" \
    -o "-c listen_addresses= -c unix_socket_directories=$dir -c fsync=off -c max_connections=400" </dev/null >/dev/null 2>&1 \
    || { cat "$dir/log" >&2; exit 1; }
echo "$dir"
cat >/dev/null
"#;

/// A running server.
pub struct Server {
    binaries: PathBuf,
    socket_folder: String,
    databases: AtomicU32,
    /// Keeps the keeper's standard input open as long as this process lives.
    _keeper: Child,
}

/// The server of this process; none where the machine has no server binaries.
#[expect(clippy::print_stderr, reason = "a skipped test says so where tests print")]
pub fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| binaries().map(|binaries| Server::start(&binaries)));
    if server.is_none() {
        eprintln!("skipped: no PostgreSQL server binaries (initdb, pg_ctl) were found");
    }
    server.as_ref()
}

impl Server {
    /// The URL of a new and empty database.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(self.binaries.join("createdb"));
        let created = command.args(["-h", &self.socket_folder, "-U", "postgres", &name]).status();
        assert!(created.is_ok_and(|status| status.success()), "cannot create database {name}");
        format!("postgres://postgres@{}/{name}", self.socket_folder.replace('/', "%2F"))
    }

    fn start(binaries: &Path) -> Self {
        let mut command = unprivileged_shell();
        command.args(["-c", KEEPER, "keeper"]).arg(binaries).current_dir("/");
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell starts");
        let output = keeper.stdout.take().expect("its output is piped");
        let mut socket_folder = String::new();
        BufReader::new(output).read_line(&mut socket_folder).expect("the keeper says where its server is");
        assert!(!socket_folder.is_empty(), "PostgreSQL does not start; the reason is above");
        Self {
            binaries: binaries.to_owned(),
            socket_folder: socket_folder.trim().to_owned(),
            databases: AtomicU32::new(0),
            _keeper: keeper,
        }
    }
}

/// PostgreSQL refuses to run as root.
fn unprivileged_shell() -> Command {
    if output_of("id", &["-u"]).as_deref() != Some("0") {
        return Command::new("sh");
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--reset-env", "sh"]);
    command
}

fn binaries() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = output_of("pg_config", &["--bindir"]).map(PathBuf::from).into_iter().collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<_> = versions.flatten().map(|version| version.path().join("bin")).collect();
        versions.sort();
        folders.extend(versions.into_iter().rev());
    }
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders.into_iter().find(|folder| ["initdb", "pg_ctl", "createdb"].iter().all(|name| folder.join(name).is_file()))
}

fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
