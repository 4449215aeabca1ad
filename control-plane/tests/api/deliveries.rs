//! Deliveries to inbound webhooks: which are taken, which are refused, and which are repetitions.

use crate::{
    hooks::{hmac, hook, input, now, send},
    server::{Client, Server, on_both},
};
use serde_json::{Value, json};
use std::collections::HashSet;

const NOBODYS: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

#[tokio::test]
async fn a_genuine_delivery_starts_a_run_with_its_body_over_the_extras() {
    on_both(|server| async move {
        let owner = server.owner();
        let hook = hook(&server, json!({ "extras": { "trigger_payload": { "a": 1, "b": { "c": 2 } } } })).await;
        let body = br#"{"b": {"d": 3}}"#;
        let first = hook.deliver(&hook.signed(body), body).await.expect(202);
        assert_eq!((&first["workflow_id"], &first["replayed"]), (&json!(hook.workflow), &json!(false)));
        assert_eq!(input(&owner, &first).await, json!({ "a": 1, "b": { "d": 3 } }));
        // Cookies, and headers that nobody signed, say nothing.
        let body = b"[1, 2]";
        let odd = hook.signed_at(now(), body).with("cookie", "session=x").with("x-tenant-id", "other");
        let second = hook.deliver(&odd, body).await.expect(202);
        assert_eq!(input(&owner, &second).await, json!([1, 2]));
        let third = hook.deliver(&hook.standard("msg_1", now(), b"{}"), b"{}").await.expect(202);
        let runs: HashSet<&str> = [&first, &second, &third].iter().map(|run| run["run_id"].as_str().unwrap()).collect();
        assert_eq!(runs.len(), 3);
        let path = format!("/v1/workflows/{}/runs/{}", hook.workflow, first["run_id"].as_str().unwrap());
        assert_eq!(owner.get(&path).await.expect(200)["trigger_type"], "webhook");
    })
    .await;
}

#[tokio::test]
async fn a_delivery_may_hold_any_character() {
    on_both(|server| async move {
        let hook = hook(&server, json!({})).await;
        let body = br#"{"text":"a\u0000b","\u0000":"\ufffd"}"#;
        let made = hook.deliver(&hook.signed(body), body).await.expect(202);
        let read = input(&server.owner(), &made).await;
        assert_eq!(read, json!({ "text": "a\0b", "\0": "\u{fffd}" }));
    })
    .await;
}

#[tokio::test]
async fn whatever_is_not_genuine_is_refused_alike_and_starts_nothing() {
    on_both(|server| async move {
        let owner = server.owner();
        let (hook, other) = (hook(&server, json!({})).await, hook(&server, json!({ "is_enabled": false })).await);
        let strict = self::hook(&server, json!({ "require_timestamp": true })).await;
        let body = br#"{"order": 7}"#;
        let good = hook.signed(body);
        let by_owner = good.with("authorization", &format!("Bearer {}", server.token));
        let stale = now() - 310;
        let refusals = [
            send(&good, &format!("/v1/inbound-webhooks/{NOBODYS}"), body).await,
            send(&good, "/v1/inbound-webhooks/no-id", body).await,
            other.deliver(&other.signed(body), body).await,
            other.deliver(&good, body).await,
            // A right signature with no token, a wrong one, or another good one.
            hook.deliver(&good.with("authorization", "Basic x"), body).await,
            hook.deliver(&good.with("authorization", "Bearer pat_wrong"), body).await,
            hook.deliver(&by_owner, body).await,
            // A right token with no signature, or a wrong one.
            hook.deliver(&hook.sender, body).await,
            hook.deliver(&good, br#"{"order": 8}"#).await,
            hook.deliver(&strict.signed(body).with("authorization", "Bearer pat_x"), body).await,
            hook.deliver(&hook.signed_at(stale, body), body).await,
            hook.deliver(&hook.signed_at(now() + 310, body), body).await,
            hook.deliver(&hook.standard("m", stale, body), body).await,
            hook.deliver(&good.with("x-agentruntime-timestamp", &now().to_string()), body).await,
            strict.deliver(&strict.signed(body), body).await,
            strict.deliver(&strict.signed(body).with("webhook-timestamp", &now().to_string()), body).await,
            // What cannot be parsed is not even looked at.
            hook.deliver(&hook.sender, b"no json").await,
        ];
        let mut bodies = HashSet::new();
        for (number, refusal) in refusals.into_iter().enumerate() {
            assert_eq!(refusal.status.as_u16(), 401, "refusal {number}: {:#}", refusal.body);
            let mut body = refusal.refused(401, "NOT_AUTHENTICATED");
            body.as_object_mut().unwrap().remove("request_id");
            bodies.insert(body.to_string());
        }
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        for hook in [&hook, &other, &strict] {
            let runs = owner.get(&format!("/v1/workflows/{}/runs", hook.workflow)).await.expect(200);
            assert_eq!(runs["items"], json!([]));
        }
        hook.deliver(&hook.signed(b"no json"), b"no json").await.refused(400, "MALFORMED_JSON");
        strict.deliver(&strict.signed_at(now(), body), body).await.expect(202);
    })
    .await;
}

#[tokio::test]
async fn a_body_of_the_largest_size_is_taken_and_one_byte_more_is_not() {
    let server = Server::start();
    let hook = hook(&server, json!({})).await;
    let body = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2)).into_bytes();
    let too_large = body(1024 * 1024 + 1);
    hook.deliver(&hook.signed(&too_large), &too_large).await.refused(413, "BODY_TOO_LARGE");
    let largest = body(1024 * 1024);
    let taken = hook.deliver(&hook.signed(&largest), &largest).await;
    // Whether a run takes so large an input is its own matter; the delivery arrived.
    assert!([202, 422].contains(&taken.status.as_u16()), "{}", taken.status);
}

#[tokio::test]
async fn a_repeated_delivery_answers_with_the_first_run() {
    on_both(|server| async move {
        let hook = hook(&server, json!({})).await;
        let body = b"{\"n\": 1}";
        let run = |answer: Value| answer["run_id"].as_str().unwrap().to_owned();
        // The same body, unsigned time.
        let first = run(hook.deliver(&hook.signed(body), body).await.expect(202));
        let again = hook.deliver(&hook.signed(body), body).await.expect(200);
        assert_eq!((&again["run_id"], &again["replayed"]), (&json!(first), &json!(true)));
        // A key of the sender's, signed at one time and at another.
        let (key, at) = ("idempotency-key", now());
        let first = run(hook.deliver(&hook.signed_at(at, body).with(key, "k1"), body).await.expect(202));
        assert_eq!(run(hook.deliver(&hook.signed_at(at + 1, body).with(key, "k1"), body).await.expect(200)), first);
        assert_ne!(run(hook.deliver(&hook.signed_at(at + 1, body).with(key, "k2"), body).await.expect(202)), first);
        let other = b"{\"n\": 2}";
        let reused = hook.signed_at(at, other).with(key, "k1");
        hook.deliver(&reused, other).await.refused(409, "IDEMPOTENCY_KEY_REUSED");
        hook.deliver(&hook.signed(body).with(key, &"k".repeat(256)), body).await.refused(422, "INVALID_FIELD");
        // What was refused took nothing.
        hook.deliver(&hook.signed_at(at, other), other).await.expect(202);
        // A signed id, whatever time it is signed at and whatever stands beside it.
        let first = run(hook.deliver(&hook.standard("m1", now(), body), body).await.expect(202));
        let later = hook.standard("m1", now() + 1, body).with("idempotency-key", "k3");
        assert_eq!(run(hook.deliver(&later, body).await.expect(200)), first);
        hook.deliver(&hook.standard("m1", now(), other), other).await.refused(409, "IDEMPOTENCY_KEY_REUSED");
        // A signed time.
        let at = now() + 2;
        let first = run(hook.deliver(&hook.signed_at(at, body), body).await.expect(202));
        assert_eq!(run(hook.deliver(&hook.signed_at(at, body), body).await.expect(200)), first);
        assert_ne!(run(hook.deliver(&hook.signed_at(at + 1, body), body).await.expect(202)), first);
    })
    .await;
}

#[tokio::test]
async fn what_nobody_signed_makes_no_new_event_of_a_captured_one() {
    on_both(|server| async move {
        let hook = hook(&server, json!({})).await;
        let run = |answer: Value| answer["run_id"].as_str().unwrap().to_owned();
        let (plain, timed, at) = (b"{\"n\": 1}", b"{\"n\": 2}", now());
        let captured: [(&[u8], Client); 3] = [
            (plain, hook.signed(plain).with("idempotency-key", "k1")),
            (timed, hook.signed_at(at, timed).with("webhook-id", "m1")),
            // Signed twice: by us without a time, and by Standard Webhooks.
            (
                b"{\"n\": 3}",
                hook.standard("m2", at, b"{\"n\": 3}")
                    .with("x-agentruntime-signature", &hmac(&hook.secret, b"{\"n\": 3}")),
            ),
        ];
        for (body, client) in captured {
            let first = run(hook.deliver(&client, body).await.expect(202));
            let stripped = client.without("webhook-signature").without("webhook-id").without("webhook-timestamp");
            for replay in [
                client.clone(),
                client.with("idempotency-key", "k2"),
                stripped.with("webhook-id", "m3"),
                stripped.without("idempotency-key"),
            ] {
                assert_eq!(run(hook.deliver(&replay, body).await.expect(200)), first);
            }
        }
        // The keys that the replays brought are nobody's.
        let other = b"{\"n\": 4}";
        hook.deliver(&hook.signed_at(at, other).with("idempotency-key", "k2"), other).await.expect(202);
    })
    .await;
}

#[tokio::test]
async fn one_captured_delivery_under_twenty_keys_at_once_starts_one_run() {
    on_both(|server| async move {
        let (hook, body) = (hook(&server, json!({})).await, b"{\"n\": 1}");
        let signed = hook.signed(body);
        let clients: Vec<Client> = (0..20).map(|key| signed.with("idempotency-key", &format!("k{key}"))).collect();
        let answers = futures_util::future::join_all(clients.iter().map(|client| hook.deliver(client, body))).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 202).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 19, "{statuses:?}");
        let runs: HashSet<String> = answers.iter().map(|answer| answer.body["run_id"].to_string()).collect();
        assert_eq!(runs.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_signed_time_and_body_are_not_taken_for_another_body() {
    on_both(|server| async move {
        let (hook, at) = (hook(&server, json!({})).await, now());
        // `{time}.5` is signed. Without its header, that is a number; and a number that was signed is time and body.
        let number = format!("{at}.5");
        let timed = hook.signed_at(at, b"5");
        hook.deliver(&timed.without("x-agentruntime-timestamp"), number.as_bytes()).await.refused(422, "INVALID_BODY");
        hook.deliver(&timed, b"5").await.refused(422, "INVALID_BODY");
        hook.deliver(&hook.signed(b" -1"), b" -1").await.refused(422, "INVALID_BODY");
        // Standard Webhooks parts what it signs, so that its numbers are numbers.
        hook.deliver(&hook.standard("m1", at, b"5"), b"5").await.expect(202);
    })
    .await;
}

#[tokio::test]
async fn without_replay_each_body_starts_a_run() {
    let server = Server::start();
    let hook = hook(&server, json!({ "replay": "none" })).await;
    let body = b"{}";
    let first = hook.deliver(&hook.signed(body), body).await.expect(202);
    let second = hook.deliver(&hook.signed(body), body).await.expect(202);
    assert_ne!(first["run_id"], second["run_id"]);
}

#[tokio::test]
async fn twenty_deliveries_of_one_event_at_once_start_one_run() {
    on_both(|server| async move {
        let (hook, body) = (hook(&server, json!({})).await, b"{\"n\": 1}");
        let client = hook.signed(body).with("idempotency-key", "once");
        let all = (0..20).map(|_| hook.deliver(&client, body));
        let answers = futures_util::future::join_all(all).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 202).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 19, "{statuses:?}");
        let runs: HashSet<String> = answers.iter().map(|answer| answer.body["run_id"].to_string()).collect();
        assert_eq!(runs.len(), 1);
        let listed = server.owner().get(&format!("/v1/workflows/{}/runs", hook.workflow)).await.expect(200);
        assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    })
    .await;
}
