//! A real process, killed with SIGKILL between its requests and their replies over and over: what was answered is not asked
//! again, and what is in doubt is asked again under its key.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use agentruntime_engine::{
    run::event::EventKind,
    store::{Location, Store, SystemClock},
};
use agentruntime_host_api::RunId;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

/// How often a process is killed.
const KILLS: u32 = 100;
/// Pages that each run asks for.
const PAGES: u32 = 5;
/// Far longer than a process takes for anything here.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request that came, and the connection to answer it on.
struct Asked {
    key: String,
    page: u32,
    stream: TcpStream,
}

#[test]
fn a_process_that_is_killed_while_it_waits_repeats_what_is_in_doubt_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (data, cache) = (folder.path().join("data"), folder.path().join("cache"));
    let (origin, asked) = serve();
    let mut random = Random(0x5ca1_ab1e);
    let (mut kills, mut number) = (0, 1);
    // By key: how often it came, and what was answered last.
    let mut seen: BTreeMap<String, (u32, Option<String>)> = BTreeMap::new();
    let mut answers = 0;
    let mut runs = Vec::new();
    while kills < KILLS {
        let mut process = spawn(&data, &cache, &origin, number);
        match live(&mut process, &asked, &mut random, &mut seen, &mut answers) {
            Life::Killed => kills += 1,
            Life::Ended => {
                runs.push(number);
                number += 1;
            }
        }
    }
    assert!(runs.len() > 5, "enough runs come to their end in between: {}", runs.len());
    for (key, (times, answer)) in &seen {
        assert!(*times > 0 && (answer.is_some() || key.starts_with(&run_of(number).to_string())), "{key} was answered");
    }
    for number in runs {
        check(&data, number, &seen);
    }
}

#[derive(PartialEq)]
enum Life {
    Killed,
    Ended,
}

/// Answers what a process asks for, or kills it instead, or right after.
fn live(
    process: &mut Child,
    asked: &Receiver<Asked>,
    random: &mut Random,
    seen: &mut BTreeMap<String, (u32, Option<String>)>,
    answers: &mut u32,
) -> Life {
    let (mut waited, tick) = (Duration::ZERO, Duration::from_millis(5));
    loop {
        let Asked { key, page, stream } = match asked.recv_timeout(tick) {
            Ok(asked) => asked,
            Err(_) => {
                if let Some(status) = process.try_wait().unwrap() {
                    assert!(status.success(), "the process failed by itself");
                    return Life::Ended;
                }
                waited += tick;
                assert!(waited < PATIENCE, "a process that asks for nothing should end");
                continue;
            }
        };
        waited = Duration::ZERO;
        let run = key.split('/').next().unwrap();
        let later = format!("{run}/ask/{page}");
        assert!(
            !seen.contains_key(&later),
            "page {page} of {run} is asked for again, although the next one was before"
        );
        let entry = seen.entry(key).or_default();
        entry.0 += 1;
        let fate = random.below(3);
        if fate > 0 {
            *answers += 1;
            let answer = format!("page {page}, answer {answers}");
            reply(stream, &answer);
            entry.1 = Some(answer);
        }
        if fate < 2 {
            process.kill().unwrap();
            process.wait().unwrap();
            return Life::Killed;
        }
    }
}

fn spawn(data: &Path, cache: &Path, origin: &str, number: u64) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caller"));
    command.arg(data).arg(cache).arg(origin).arg(number.to_string()).stdin(Stdio::null());
    command.spawn().unwrap()
}

/// A server that hands each request over to whoever decides about it.
fn serve() -> (String, Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            thread::spawn(move || hear(stream.unwrap(), &sender));
        }
    });
    (origin, receiver)
}

fn hear(mut stream: TcpStream, sender: &Sender<Asked>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            // Killed before it had said all.
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
    let request = String::from_utf8(request).unwrap();
    let page = request.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
    let key = request.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap().to_owned();
    // The test may be over.
    let _ = sender.send(Asked { key, page, stream });
}

fn reply(mut stream: TcpStream, body: &str) {
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
}

/// The run ended with the answers that were given, in its journal each once.
#[tokio::main]
async fn check(data: &Path, number: u64, seen: &BTreeMap<String, (u32, Option<String>)>) {
    let store = Store::open(&Location::Sqlite(data.into()), Arc::new(SystemClock)).await.unwrap();
    let run = run_of(number);
    let journal = store.journal(run).await.unwrap();
    assert!(journal.iter().map(|event| event.seq).eq(1..=journal.len() as u64), "numbers without gaps");
    let count = |is_it: fn(&EventKind) -> bool| journal.iter().filter(|event| is_it(&event.kind)).count() as u32;
    assert_eq!(count(|kind| matches!(kind, EventKind::RequestMade { .. })), PAGES);
    assert_eq!(count(|kind| matches!(kind, EventKind::RequestCompleted { .. })), PAGES);
    let Some(EventKind::RunCompleted { outputs }) = journal.last().map(|event| &event.kind) else {
        panic!("{run} did not complete: {:?}", journal.last());
    };
    let answered = |page: u32| seen[&format!("{run}/ask/{}", page - 1)].1.clone().unwrap();
    let pages: Vec<Value> = (1..=PAGES).map(|page| json!(answered(page))).collect();
    assert_eq!(outputs.to_value(), json!({ "ask": { "pages": pages } }));
    store.close().await;
}

fn run_of(number: u64) -> RunId {
    format!("00000000-0000-4000-8000-{number:012x}").parse().unwrap()
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
