//! What steps ask for: written down before it is done, done once, and handed back when a step is begun again.

use super::{Place, Scripted, doc};
use agentruntime_engine::{
    node::{Ceilings, NodeConfig, Told},
    run::event::EventKind,
    store::Scope,
};
use agentruntime_host_api::{
    Errand, Execution, Host, HostReply, HostRequest, Invocation, Outcome, StepOutput, TenantId,
};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

/// A program that asks for one page after the other, as far as it has got.
struct Asking {
    invocation: Invocation,
    replies: Vec<HostReply>,
    waiting: Arc<()>,
}

impl Execution for Asking {
    fn resume(self: Box<Self>, replies: Vec<HostReply>) -> BoxFuture<'static, Outcome> {
        let Self { invocation, replies: mut all, waiting } = *self;
        all.extend(replies);
        Box::pin(std::future::ready(ask(&invocation, all, waiting)))
    }
}

/// Goes on with what `ask 3` does, or `ask 3 at once`, or `ask 3 of a tool`, or both.
pub(super) fn ask(invocation: &Invocation, replies: Vec<HostReply>, waiting: Arc<()>) -> Outcome {
    let source = &invocation.program.source;
    let wanted: usize = source.trim_start_matches("ask ").split(' ').next().unwrap().parse().unwrap();
    if replies.len() == wanted {
        let told = |reply: HostReply| reply.map_or_else(|error| json!(error.code), |json| json.to_value());
        let got: Vec<Value> = replies.into_iter().map(told).collect();
        return Outcome::Done(StepOutput { json: doc(json!({ "got": got })), fuel: None, duration: Duration::ZERO });
    }
    let next = replies.len();
    let last = if source.contains("at once") { wanted } else { next + 1 };
    let request = |number: usize| {
        if source.contains("of a tool") {
            let arguments = json!({ "instance_id": "i", "tool": "t", "arguments": { "n": number } });
            return HostRequest { number: number as u32, capability: "mcp.call".into(), arguments: doc(arguments) };
        }
        let arguments = doc(json!({ "url": format!("https://a.example/{number}") }));
        HostRequest { number: number as u32, capability: "http.fetch".into(), arguments }
    };
    let execution = Box::new(Asking { invocation: invocation.clone(), replies, waiting });
    Outcome::Requests { requests: (next..last).map(request).collect(), execution }
}

/// An outside that notes what reaches it, together with what the journal said then, and answers as often as it is let.
#[derive(Debug)]
pub(super) struct Outside {
    place: agentruntime_engine::store::Store,
    /// How many requests it was handed.
    handed: AtomicUsize,
    seen: Mutex<Vec<(String, usize)>>,
    pub(super) gate: Semaphore,
}

impl Outside {
    pub(super) fn of(place: &Place) -> Arc<Self> {
        let (handed, seen, gate) = (AtomicUsize::new(0), Mutex::default(), Semaphore::new(0));
        Arc::new(Self { place: place.store.clone(), handed, seen, gate })
    }

    /// The keys with which requests came, in their order.
    pub(super) fn keys(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(key, _)| key.clone()).collect()
    }
}

impl Host for Outside {
    fn carry_out(&self, errand: Errand) -> BoxFuture<'_, HostReply> {
        self.handed.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let journal = self.place.journal(errand.caller.run).await.unwrap();
            let written = journal.iter().filter(|event| matches!(event.kind, EventKind::RequestMade { .. })).count();
            self.seen.lock().unwrap().push((errand.idempotency_key().to_string(), written));
            self.gate.acquire().await.unwrap().forget();
            Ok(doc(json!({ "page": errand.number })))
        })
    }
}

pub(super) fn config(outside: &Arc<Outside>) -> NodeConfig {
    NodeConfig { host: outside.clone(), ..NodeConfig::default() }
}

fn steps(asks: impl std::fmt::Display) -> Value {
    json!([{ "id": "a", "script": format!("ask {asks}"), "capabilities": { "hosts": ["a.example"] } }])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_in_the_journal_before_anybody_outside_hears_of_it() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let outside = Outside::of(&place);
    outside.gate.add_permits(2);
    let node = place.node_with(&guest, config(&outside));
    let run = place.start(&node, &place.publish("ask", steps(2)).await).await;
    assert_eq!(place.end(run).await, Ok(json!({ "a": { "got": [{ "page": 0 }, { "page": 1 }] } })));
    let keys = vec![(format!("{run}/a/0"), 1), (format!("{run}/a/1"), 2)];
    assert_eq!(*outside.seen.lock().unwrap(), keys);
    let told = place.told(run).await;
    let wanted = "run started\nstarted a\na asks 0: http.fetch\na got 0: {\"page\":0}\na asks 1: http.fetch\n\
        a got 1: {\"page\":1}\ncompleted a: {\"got\":[{\"page\":0},{\"page\":1}]}\nrun completed: \
        {\"a\":{\"got\":[{\"page\":0},{\"page\":1}]}}";
    assert_eq!(told, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_begun_again_repeats_what_is_in_doubt_under_its_key_and_nothing_else() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let outside = Outside::of(&place);
    outside.gate.add_permits(1);
    let workflow = place.publish("ask", steps(2)).await;
    let node = place.node_with(&guest, config(&outside));
    let run = place.start(&node, &workflow).await;
    place.until(|| async { outside.keys().len() == 2 }).await;
    // Nothing says when its reply to the first is written; the second request comes after it.
    node.stop().await.unwrap();
    drop(node);
    let node = place.node_with(&guest, config(&outside));
    place.until(|| async { outside.keys().len() == 3 }).await;
    outside.gate.add_permits(1);
    assert_eq!(place.end(run).await, Ok(json!({ "a": { "got": [{ "page": 0 }, { "page": 1 }] } })));
    assert_eq!(outside.keys(), [format!("{run}/a/0"), format!("{run}/a/1"), format!("{run}/a/1")]);
    drop(node);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_not_granted_is_refused_and_recorded_and_nobody_outside_hears_of_it() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let outside = Outside::of(&place);
    let node = place.node_with(&guest, config(&outside));
    let run = place.start(&node, &place.publish("ask", json!([{ "id": "a", "script": "ask 1" }])).await).await;
    assert_eq!(place.end(run).await, Ok(json!({ "a": { "got": ["CAPABILITY_DENIED"] } })));
    assert!(place.told(run).await.contains("a asks 0: http.fetch\na got 0: CAPABILITY_DENIED"));
    assert!(outside.keys().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_waits_long_is_given_up_meanwhile_and_handed_its_replies_when_it_is_begun_again() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let outside = Outside::of(&place);
    let node = place.node_with(&guest, config(&outside));
    let run = place.start(&node, &place.publish("ask", steps(2)).await).await;
    for wanted in 1..=2 {
        place.until(|| async { outside.keys().len() == wanted }).await;
        place.until(|| async { guest.waiting() == 0 }).await;
        outside.gate.add_permits(1);
    }
    assert_eq!(place.end(run).await, Ok(json!({ "a": { "got": [{ "page": 0 }, { "page": 1 }] } })));
    assert_eq!(outside.keys().len(), 2, "what was asked for is not asked for again");
    assert_eq!(guest.begun("a"), 3, "at first, and after each wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_reply_is_the_steps_own_time() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let outside = Outside::of(&place);
    let node = place.node_with(&guest, config(&outside));
    let mut steps = steps(1);
    steps[0]["timeout_s"] = json!(0.2);
    let run = place.start(&node, &place.publish("ask", steps).await).await;
    let error = place.end(run).await.unwrap_err();
    assert_eq!(error.code.to_string(), "STEP_TIMEOUT");
    assert!(error.message.contains("0.2 s"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_requests_at_once_a_few_are_under_way() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let outside = Outside::of(&place);
    let node = place.node_with(&guest, config(&outside));
    let run = place.start(&node, &place.publish("ask", steps("80 at once")).await).await;
    // All that are handed over at once are, before the first of them does anything.
    place.until(|| async { outside.keys().len() == 32 }).await;
    assert_eq!(outside.handed.load(Ordering::SeqCst), 32);
    outside.gate.add_permits(80);
    let got: Vec<Value> = (0..80).map(|number| json!({ "page": number })).collect();
    assert_eq!(place.end(run).await, Ok(json!({ "a": { "got": got } })));
    assert_eq!(outside.keys().len(), 80);
}

/// A node on which a tenant has so many requests under way at once, and all have one more.
fn crowded(outside: &Arc<Outside>, requests_max: u32) -> NodeConfig {
    let ceilings = Ceilings { requests_max, ..Ceilings::default() };
    NodeConfig { requests_max: requests_max as usize + 1, ceilings, ..config(outside) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_requests_beyond_its_own_wait_and_keep_no_other_waiting() {
    let (mut place, guest) = (Place::new().await, Scripted::new());
    let outside = Outside::of(&place);
    let node = place.node_with(&guest, crowded(&outside, 2));
    let greedy = place.start(&node, &place.publish("greedy", steps("3 at once")).await).await;
    place.until(|| async { place.journal(greedy).await.len() == 5 && outside.keys().len() == 2 }).await;
    let elsewhere = Scope { tenant: TenantId::new("u"), ..place.scope.clone() };
    let first = std::mem::replace(&mut place.scope, elsewhere);
    let other = place.start(&node, &place.publish("other", steps(1)).await).await;
    place.until(|| async { outside.keys().len() == 3 }).await;
    assert_eq!(outside.keys()[2], format!("{other}/a/0"), "what was asked for later goes out before what waits");
    outside.gate.add_permits(4);
    assert_eq!(place.end(other).await, Ok(json!({ "a": { "got": [{ "page": 0 }] } })));
    place.scope = first;
    let got = json!([{ "page": 0 }, { "page": 1 }, { "page": 2 }]);
    assert_eq!(place.end(greedy).await, Ok(json!({ "a": { "got": got } })));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_turn_is_not_the_steps_own_time() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let outside = Outside::of(&place);
    let node = place.node_with(&guest, crowded(&outside, 1));
    let limited = |seconds: f64| {
        let mut steps = steps(1);
        steps[0]["timeout_s"] = json!(seconds);
        steps
    };
    let slow = place.start(&node, &place.publish("slow", limited(1.0)).await).await;
    place.until(|| async { outside.keys().len() == 1 }).await;
    let patient = place.start(&node, &place.publish("patient", limited(0.3)).await).await;
    place.until(|| async { place.told(patient).await.contains("asks 0") }).await;
    // That one's time is over long before it has its turn: when the first one's is.
    let error = place.end(slow).await.unwrap_err();
    assert_eq!(error.code.to_string(), "STEP_TIMEOUT");
    outside.gate.add_permits(1);
    assert_eq!(place.end(patient).await, Ok(json!({ "a": { "got": [{ "page": 0 }] } })));
    assert_eq!(outside.keys(), [format!("{slow}/a/0"), format!("{patient}/a/0")]);
}

/// An outside that says a thousand pieces before it answers.
#[derive(Debug)]
struct Talkative(Semaphore);

impl Host for Talkative {
    fn carry_out(&self, errand: Errand) -> BoxFuture<'_, HostReply> {
        Box::pin(async move {
            self.0.acquire().await.unwrap().forget();
            (0..1_000).for_each(|part| errand.live.said(part, format!("{part}.")));
            Ok(doc(json!({ "page": errand.number })))
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_behind_loses_what_is_said_and_no_event() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let host = Arc::new(Talkative(Semaphore::new(0)));
    let node = place.node_with(&guest, NodeConfig { host: host.clone(), ..NodeConfig::default() });
    let run = place.start(&node, &place.publish("ask", steps(2)).await).await;
    let (mut slow, mut events_only) = (node.watch(run), node.watch(run));
    host.0.add_permits(2);
    place.end(run).await.unwrap();
    let journal = place.journal(run).await;
    let (mut seqs, mut parts) = (Vec::new(), Vec::new());
    while seqs.last() != Some(&(journal.len() as u64)) {
        match slow.next_told().await.unwrap() {
            Told::Events(events) => seqs.extend(events.iter().map(|event| event.seq)),
            Told::Output(delta) => {
                assert_eq!(
                    (&*delta.path.to_string(), delta.attempt, delta.text.clone()),
                    ("a", 1, format!("{}.", delta.part))
                );
                parts.push((delta.number, delta.part));
            }
        }
    }
    let first = seqs[0];
    assert_eq!(seqs, (first..=journal.len() as u64).collect::<Vec<_>>(), "no event is lost");
    assert!(!parts.is_empty() && parts.len() <= 64, "{}", parts.len());
    assert!(parts.is_sorted() && parts[0] == (0, 0), "{parts:?}");
    let mut only = Vec::new();
    while only.last() != seqs.last() {
        only.extend(events_only.next().await.unwrap().iter().map(|event| event.seq));
    }
    assert_eq!(only, seqs);
}
