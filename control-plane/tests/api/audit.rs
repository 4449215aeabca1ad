//! The log of who did what.

use crate::server::on_both;
use serde_json::json;

#[tokio::test]
async fn what_was_done_is_told_with_who_and_where() {
    on_both(|server| async move {
        let admin = server.admin();
        let made = admin.post("/v1/pats", json!({ "name": "ci", "scopes": ["workflow:read"] })).await;
        let request = made.headers["x-request-id"].to_str().unwrap().to_owned();
        let id = made.expect(201)["pat"]["id"].clone();
        let log = admin.get("/v1/audit?action=pat.create&limit=1").await.expect(200);
        let line = &log["items"][0];
        assert_eq!((&line["target"], &line["request_id"]), (&id, &json!(request)));
        assert_eq!((&line["address"], &line["details"]["name"]), (&json!("127.0.0.1"), &json!("ci")));
        assert!(line["user_id"].is_string() && line["pat_id"].is_string(), "{line}");
        let user = line["user_id"].as_str().unwrap();
        let of = async |query: &str| {
            let log = admin.get(&format!("/v1/audit?{query}")).await.expect(200);
            log["items"].as_array().unwrap().len()
        };
        // The workspace, the project, two tokens of the first start, and this one.
        assert_eq!(of("").await, 5);
        assert_eq!(of(&format!("user={user}")).await, 5);
        assert_eq!(of("user=00000000-0000-7000-8000-000000000000").await, 0);
        assert_eq!(of("to=2001-01-01T00:00:00Z").await, 0);
        assert_eq!(of("from=2001-01-01T00:00:00Z&action=tenant.create").await, 1);
        admin.get("/v1/audit?from=yesterday").await.refused(422, "INVALID_FIELD");
        server.owner().get("/v1/audit").await.refused(403, "FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn pages_of_the_log_follow_each_other_and_its_chain_holds() {
    on_both(|server| async move {
        let admin = server.admin();
        let mut seen = Vec::new();
        let mut path = "/v1/audit?limit=3".to_owned();
        loop {
            let page = admin.get(&path).await.expect(200);
            seen.extend(page["items"].as_array().unwrap().iter().map(|line| line["seq"].as_u64().unwrap()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            path = format!("/v1/audit?limit=3&cursor={next}");
        }
        assert_eq!(seen, [4, 3, 2, 1]);
        let found = admin.get("/v1/audit/integrity").await.expect(200);
        assert_eq!((&found["intact"], &found["complete"], &found["head_seq"]), (&json!(true), &json!(true), &json!(4)));
        let found = admin.get("/v1/audit/integrity?after_seq=3").await.expect(200);
        assert_eq!((&found["intact"], &found["checked_through"]), (&json!(true), &json!(4)));
    })
    .await;
}
