//! A PostgreSQL server of the tests' own.
//!
//! Started once per test process from the server binaries of this machine, in a temporary folder, reachable by a Unix
//! socket in it and nothing else. It ends with the process, however that ends: its keeper, a shell, waits for the end of
//! its standard input. A test that stops and starts a server has one of its own, which listens on a port of the loopback
//! interface besides, as servers elsewhere do. Without server binaries there is no server, and a test that wants one says so and passes.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Makes a cluster, starts its server, says where, does what it is told, and ends both when the standard input does.
const KEEPER: &str = r#"
set -e
bin=$1
address=$2
port=$3
dir=$(mktemp -d)
halt() { "$bin/pg_ctl" stop -D "$dir/data" -m immediate -s >/dev/null 2>&1; }
each() { main=$(head -n 1 "$dir/data/postmaster.pid"); kill "-$1" "$main" $(ps -o pid= --ppid "$main"); }
launch() {
    "$bin/pg_ctl" start -w -s -D "$dir/data" -l "$dir/log" \
        -o "-c listen_addresses=$address -c port=$port -c unix_socket_directories=$dir -c fsync=off -c max_connections=400" \
        </dev/null >/dev/null 2>&1 || { cat "$dir/log" >&2; exit 1; }
}
end() { each CONT 2>/dev/null || true; halt || true; rm -rf "$dir"; }
trap end EXIT
"$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
launch
echo "$dir"
while read -r command; do
    case $command in
        stop) halt ;;
        start) launch ;;
        freeze) each STOP ;;
        thaw) each CONT ;;
    esac
    echo done
done
"#;

/// Where a server listens that only a socket leads to.
const NOWHERE: (&str, u16) = ("", 5432);

/// A running server.
pub struct Server {
    binaries: PathBuf,
    socket_folder: String,
    databases: AtomicU32,
    /// Does what it is told; its standard input is open as long as this process lives.
    keeper: Mutex<Keeper>,
}

struct Keeper {
    process: Child,
    answers: BufReader<ChildStdout>,
}

/// A server that a test has for itself, to stop and start it.
pub struct OwnServer {
    server: Server,
    port: u16,
}

/// A server of a test's own; none where the machine has no server binaries.
#[expect(clippy::print_stderr, reason = "a skipped test says so where tests print")]
pub fn own_server() -> Option<OwnServer> {
    let Some(binaries) = binaries() else {
        eprintln!("skipped: no PostgreSQL server binaries (initdb, pg_ctl) were found");
        return None;
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let port = free.local_addr().expect("it has an address").port();
    drop(free);
    Some(OwnServer { server: Server::start(&binaries, ("127.0.0.1", port)), port })
}

impl OwnServer {
    /// The URL of a new and empty database, over TCP.
    pub fn database(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}", self.port, self.server.create(self.port))
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it at once, as a power cut does.
    pub fn stop(&self) {
        self.server.tell("stop");
    }

    /// Starts it again, where it was.
    pub fn start(&self) {
        self.server.tell("start");
    }

    /// Lets it stand still: it accepts connections, and answers nothing.
    pub fn freeze(&self) {
        self.server.tell("freeze");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.server.tell("thaw");
    }

    /// Carries out a statement.
    pub fn execute(&self, sql: &str) {
        let mut command = Command::new(self.server.binaries.join("psql"));
        command.args([
            "-h",
            &self.server.socket_folder,
            "-p",
            &self.port.to_string(),
            "-U",
            "postgres",
            "-q",
            "-o",
            "/dev/null",
            "-c",
            sql,
        ]);
        assert!(command.status().is_ok_and(|status| status.success()), "cannot carry out {sql}");
    }
}

/// The server of this process; none where the machine has no server binaries.
#[expect(clippy::print_stderr, reason = "a skipped test says so where tests print")]
pub fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| binaries().map(|binaries| Server::start(&binaries, NOWHERE)));
    if server.is_none() {
        eprintln!("skipped: no PostgreSQL server binaries (initdb, pg_ctl) were found");
    }
    server.as_ref()
}

impl Server {
    /// The URL of a new and empty database.
    pub fn database(&self) -> String {
        let name = self.create(NOWHERE.1);
        format!("postgres://postgres@{}/{name}", self.socket_folder.replace('/', "%2F"))
    }

    /// The URL of a new database that is restored from a dump of another one, which may be in use.
    pub fn restored(&self, url: &str) -> String {
        let copy = self.database();
        let mut dump = Command::new(self.binaries.join("pg_dump"));
        let mut dump = dump.arg(url).stdout(Stdio::piped()).spawn().expect("pg_dump starts");
        let mut restore = Command::new(self.binaries.join("psql"));
        restore.args(["-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-d", &copy]);
        let restored = restore.stdin(dump.stdout.take().expect("its output is piped")).status();
        assert!(dump.wait().is_ok_and(|status| status.success()), "pg_dump failed");
        assert!(restored.is_ok_and(|status| status.success()), "the dump cannot be restored");
        copy
    }

    /// Makes a database and gives its name.
    fn create(&self, port: u16) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(self.binaries.join("createdb"));
        let created =
            command.args(["-h", &self.socket_folder, "-p", &port.to_string(), "-U", "postgres", &name]).status();
        assert!(created.is_ok_and(|status| status.success()), "cannot create database {name}");
        name
    }

    /// Gives the keeper a command, and waits until it is carried out.
    fn tell(&self, command: &str) {
        let mut keeper = self.keeper.lock().expect("no test that told it something panicked meanwhile");
        let input = keeper.process.stdin.as_mut().expect("its input is piped");
        writeln!(input, "{command}").expect("the keeper reads");
        let mut answer = String::new();
        keeper.answers.read_line(&mut answer).expect("the keeper answers");
        assert_eq!(answer, "done\n", "the keeper did not carry out {command}");
    }

    fn start(binaries: &Path, (address, port): (&str, u16)) -> Self {
        let mut command = unprivileged_shell();
        command.args(["-c", KEEPER, "keeper"]).arg(binaries).args([address, &port.to_string()]).current_dir("/");
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell starts");
        let mut answers = BufReader::new(process.stdout.take().expect("its output is piped"));
        let mut socket_folder = String::new();
        answers.read_line(&mut socket_folder).expect("the keeper says where its server is");
        assert!(!socket_folder.is_empty(), "PostgreSQL does not start; the reason is above");
        Self {
            binaries: binaries.to_owned(),
            socket_folder: socket_folder.trim().to_owned(),
            databases: AtomicU32::new(0),
            keeper: Mutex::new(Keeper { process, answers }),
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
