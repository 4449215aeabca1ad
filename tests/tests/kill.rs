//! A real process, killed with SIGKILL at random moments over and over: every run ends as if nothing had happened.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use agentruntime_engine::{
    graph::Graph,
    run::{
        RunState,
        event::{Event, EventKind, StepPath},
    },
    store::{Location, RunCursor, RunFilter, RunRecord, Scope, Store, SystemClock},
};
use agentruntime_host_api::{ProjectId, RunId, TenantId};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashSet},
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

/// How often a process is killed.
const KILLS: u32 = 200;
/// Runs that one process works on at the same time.
const RUNS_AT_ONCE: u64 = 4;
/// Events after which a process is killed at the latest.
const EVENTS_MAX: u64 = 60;
/// The squares of 5, 10 … 30 and 2 for each, 1, and twice the sum of 0 to 5 less 7.
const SUM: i64 = 25 * 91 + 6 * 2 + 1 + 2 * 15 - 7;

/// Events by run, as a process told them once they were durable.
type Told = BTreeMap<RunId, Vec<Event>>;

#[test]
fn runs_of_a_process_that_is_killed_again_and_again_end_as_if_nothing_had_happened() {
    let folder = tempfile::tempdir().unwrap();
    let (data, cache) = (folder.path().join("data"), folder.path().join("cache"));
    let mut told = Told::new();
    let mut random = Random(0x005e_ed0f_6b11);
    let (mut kills, mut first) = (0, 1);
    let wanted = if std::env::var_os("AGENTRUNTIME_TEST_LONG").is_some() { 5 * KILLS } else { KILLS };
    while kills < wanted {
        let process = spawn(&data, &cache, first);
        match live(process, Some(random.below(EVENTS_MAX)), &mut told) {
            Life::Killed => kills += 1,
            // All its runs have ended: the next ones are new.
            Life::Ended => first += RUNS_AT_ONCE,
        }
    }
    assert_eq!(live(spawn(&data, &cache, first), None, &mut told), Life::Ended);
    let runs = read(&data);
    let parents = runs.iter().filter(|(row, _)| row.parent.is_none()).count();
    assert_eq!(parents as u64, first + RUNS_AT_ONCE - 1, "every run that was started is there");
    assert_eq!(runs.len(), 2 * parents, "each has the one child that it called");
    for (row, journal) in &runs {
        check(row, journal, told.remove(&row.run).unwrap_or_default());
    }
    assert!(told.is_empty(), "runs that were told of and are gone: {:?}", told.keys());
}

/// How the life of a process ended.
#[derive(Debug, PartialEq)]
enum Life {
    Killed,
    Ended,
}

fn spawn(data: &Path, cache: &Path, first: u64) -> Child {
    let last = first + RUNS_AT_ONCE - 1;
    let mut command = Command::new(env!("CARGO_BIN_EXE_crashee"));
    command.arg(data).arg(cache).arg(first.to_string()).arg(last.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Listens to a process, and kills it after so many events: at once where there are none to wait for.
fn live(mut process: Child, events: Option<u64>, told: &mut Told) -> Life {
    let mut lines = BufReader::new(process.stdout.take().unwrap());
    let mut heard = 0;
    let mut line = String::new();
    while events.is_none_or(|events| heard < events) {
        line.clear();
        // A line without an end was cut off with its process.
        if lines.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
            assert!(process.wait().unwrap().success(), "the process failed by itself");
            return Life::Ended;
        }
        note(&line, told);
        heard += 1;
    }
    process.kill().unwrap();
    process.wait().unwrap();
    // What it told before it died was durable, too.
    for line in lines.split(b'\n').map_while(Result::ok) {
        if let Ok(line) = String::from_utf8(line) {
            note_if_whole(&line, told);
        }
    }
    Life::Killed
}

fn note(line: &str, told: &mut Told) {
    assert!(note_if_whole(line.trim_end(), told), "a line that tells an event: {line}");
}

fn note_if_whole(line: &str, told: &mut Told) -> bool {
    let Some((run, event)) = line.split_once(' ') else { return false };
    let (Ok(run), Ok(event)) = (run.parse(), serde_json::from_str(event)) else { return false };
    told.entry(run).or_default().push(event);
    true
}

/// All runs of a folder and their journals.
#[tokio::main]
async fn read(data: &Path) -> Vec<(RunRecord, Vec<Event>)> {
    let store = Store::open(&Location::Sqlite(data.into()), Arc::new(SystemClock)).await.unwrap();
    let scope = Scope { tenant: TenantId::new("t"), project: ProjectId::new("p") };
    let mut all = Vec::new();
    for row in rows(&store, &scope).await {
        let journal = store.journal(row.run).await.unwrap();
        let version = store.version(&scope, &row.workflow, Some(row.version)).await.unwrap();
        let graph = Arc::new(Graph::parse(&version.graph.to_value()).unwrap());
        let state = RunState::replayed(row.run, graph, &journal).unwrap();
        assert_eq!((state.status, state.seq), (row.status, row.last_seq), "the row says what the journal says");
        all.push((row, journal));
    }
    all
}

async fn rows(store: &Store, scope: &Scope) -> Vec<RunRecord> {
    let mut rows: Vec<RunRecord> = Vec::new();
    loop {
        let before = rows.last().map(RunCursor::from);
        let page = store.runs(scope, &RunFilter { before, ..RunFilter::default() }).await.unwrap();
        if page.is_empty() {
            return rows;
        }
        rows.extend(page);
    }
}

fn check(row: &RunRecord, journal: &[Event], told: Vec<Event>) {
    assert!(journal.iter().map(|event| event.seq).eq(1..=journal.len() as u64), "numbers without gaps");
    let mut completed: HashSet<&StepPath> = HashSet::new();
    for event in journal {
        if let EventKind::StepCompleted { path, .. } = &event.kind {
            assert!(completed.insert(path), "{path} of {} completes twice", row.run);
        }
    }
    for event in told {
        let place = event.seq as usize - 1;
        assert_eq!(journal.get(place), Some(&event), "what was told of {} is in its journal, in its place", row.run);
    }
    let Some(EventKind::RunCompleted { outputs }) = journal.last().map(|event| &event.kind) else {
        panic!("{} did not complete: {:?}", row.run, journal.last());
    };
    let wanted: Value = if row.parent.is_none() { json!({ "n": SUM }) } else { json!({ "half": { "n": 23 } }) };
    assert_eq!(outputs.to_value(), wanted, "the result of {}", row.run);
    let steps = if row.parent.is_none() { 6 + 6 * 2 + 6 } else { 3 };
    assert_eq!(completed.len(), steps, "the steps of {} that complete", row.run);
}

/// Numbers that are the same in every run of the test.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
