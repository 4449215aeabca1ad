//! Personal access tokens.

use crate::server::{Client, Server, on_both};
use serde_json::{Value, json};

/// Makes a token, and gives its id and who holds it.
async fn make(server: &Server, maker: &Client, body: Value) -> (String, Client) {
    let made = maker.post("/v1/pats", body).await.expect(201);
    (made["pat"]["id"].as_str().unwrap().to_owned(), server.holder(made["token"].as_str().unwrap()))
}

#[tokio::test]
async fn a_token_is_shown_once_and_works_until_it_is_revoked() {
    on_both(|server| async move {
        let admin = server.admin();
        let body = json!({ "name": " ci ", "scopes": ["workflow:read"], "project_id": "default" });
        let made = admin.post("/v1/pats", body).await.expect(201);
        let (pat, token) = (&made["pat"], made["token"].as_str().unwrap());
        assert_eq!((&pat["name"], &pat["scopes"]), (&json!("ci"), &json!(["workflow:read"])));
        assert!(token.ends_with(pat["hint"].as_str().unwrap()), "{pat}");
        for unset in ["expires_at", "last_used_at", "revoked_at"] {
            assert_eq!(pat[unset], Value::Null, "{unset}");
        }
        let holder = server.holder(token);
        holder.get("/v1/workflows").await.expect(200);
        let path = format!("/v1/pats/{}", pat["id"].as_str().unwrap());
        admin.delete(&path).await.expect(204);
        holder.get("/v1/workflows").await.refused(401, "NOT_AUTHENTICATED");
        admin.delete(&path).await.expect(204);
        let list = admin.get("/v1/pats").await.expect(200);
        let listed = list["items"].as_array().unwrap().iter().find(|it| it["id"] == pat["id"]).unwrap();
        assert!(listed["revoked_at"].is_string() && listed["last_used_at"].is_string(), "{listed}");
        assert!(!list.to_string().contains(token));
    })
    .await;
}

#[tokio::test]
async fn a_token_makes_none_that_may_do_more() {
    on_both(|server| async move {
        let admin = server.admin();
        let end = "2999-01-01T00:00:00Z";
        let scopes = json!(["admin"]);
        let (_, short) = make(&server, &admin, json!({ "name": "short", "scopes": scopes, "expires_at": end })).await;
        let (_, bound) =
            make(&server, &admin, json!({ "name": "bound", "scopes": scopes, "project_id": "default" })).await;
        let (_, reader) = make(&server, &admin, json!({ "name": "reader", "scopes": ["workflow:read"] })).await;
        let same = json!({ "name": "x", "scopes": ["admin"], "expires_at": end });
        short.post("/v1/pats", same).await.expect(201);
        short.post("/v1/pats", json!({ "name": "x", "scopes": ["admin"] })).await.refused(403, "FORBIDDEN");
        let longer = json!({ "name": "x", "scopes": ["admin"], "expires_at": "2999-01-02T00:00:00Z" });
        short.post("/v1/pats", longer).await.refused(403, "FORBIDDEN");
        bound.post("/v1/pats", json!({ "name": "x", "scopes": ["admin"] })).await.refused(403, "FORBIDDEN");
        bound.get("/v1/tenants/current").await.refused(403, "FORBIDDEN");
        for listed in bound.get("/v1/pats").await.expect(200)["items"].as_array().unwrap() {
            assert!(listed["project_id"].is_string(), "{listed}");
        }
        let refused = reader.post("/v1/pats", json!({ "name": "x", "scopes": ["workflow:read"] })).await;
        assert_eq!(refused.refused(403, "SCOPE_MISSING")["details"]["scope"], "admin");
        reader.get("/v1/pats").await.refused(403, "SCOPE_MISSING");
    })
    .await;
}

#[tokio::test]
async fn what_a_token_made_is_revoked_with_it() {
    on_both(|server| async move {
        let admin = server.admin();
        let body = |name: &str| json!({ "name": name, "scopes": ["admin"] });
        let (first, leaked) = make(&server, &admin, body("leaked")).await;
        let (_, sibling) = make(&server, &admin, body("sibling")).await;
        let (second, child) = make(&server, &leaked, body("child")).await;
        let (third, grandchild) = make(&server, &child, body("grandchild")).await;
        let (_, cousin) = make(&server, &sibling, body("cousin")).await;
        admin.delete(&format!("/v1/pats/{first}")).await.expect(204);
        for ended in [leaked, child, grandchild] {
            ended.get("/v1/pats").await.refused(401, "NOT_AUTHENTICATED");
        }
        for other in [&admin, &sibling, &cousin] {
            other.get("/v1/pats").await.expect(200);
        }
        let log = admin.get("/v1/audit?action=pat.revoke").await.expect(200);
        let told = log["items"].as_array().unwrap();
        assert_eq!(told.len(), 3, "{log}");
        for (id, maker) in [(&second, &first), (&third, &second)] {
            let line = told.iter().find(|line| line["target"] == **id).unwrap();
            assert_eq!(line["details"]["made_by_pat_id"], **maker);
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_in_the_middle_ends_what_is_below_it_alone() {
    on_both(|server| async move {
        let admin = server.admin();
        let body = |name: &str| json!({ "name": name, "scopes": ["admin"] });
        let (_, first) = make(&server, &admin, body("first")).await;
        let (id, second) = make(&server, &first, body("second")).await;
        let (_, third) = make(&server, &second, body("third")).await;
        // A token may revoke itself, and takes with it what it made.
        second.delete(&format!("/v1/pats/{id}")).await.expect(204);
        third.get("/v1/pats").await.refused(401, "NOT_AUTHENTICATED");
        first.get("/v1/pats").await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn a_wrong_wish_for_a_token_is_refused() {
    let server = Server::start();
    let admin = server.admin();
    let refused = async |body: Value, status, code| admin.post("/v1/pats", body).await.refused(status, code);
    refused(json!({ "scopes": ["admin"] }), 422, "INVALID_BODY").await;
    refused(json!({ "name": "x", "scopes": ["fly"] }), 422, "INVALID_BODY").await;
    refused(json!({ "name": "x", "scopes": [] }), 422, "INVALID_FIELD").await;
    refused(json!({ "name": "x".repeat(101), "scopes": ["admin"] }), 422, "INVALID_FIELD").await;
    let past = json!({ "name": "x", "scopes": ["admin"], "expires_at": "2001-01-01T00:00:00Z" });
    refused(past, 422, "INVALID_FIELD").await;
    refused(json!({ "name": "x", "scopes": ["admin"], "project_id": "nowhere" }), 404, "NOT_FOUND").await;
    admin.delete("/v1/pats/nonsense").await.refused(404, "NOT_FOUND");
    admin.delete("/v1/pats/00000000-0000-7000-8000-000000000000").await.refused(404, "NOT_FOUND");
    // Two were made by the first start.
    for number in 2..50 {
        admin.post("/v1/pats", json!({ "name": number.to_string(), "scopes": ["admin"] })).await.expect(201);
    }
    refused(json!({ "name": "one more", "scopes": ["admin"] }), 409, "TOO_MANY_TOKENS").await;
}

#[tokio::test]
async fn when_a_token_was_used_outlasts_an_orderly_end() {
    let server = Server::start();
    let (id, holder) = make(&server, &server.admin(), json!({ "name": "x", "scopes": ["workflow:read"] })).await;
    holder.get("/v1/projects").await.expect(200);
    let server = server.end_in_order();
    let list = server.admin().get("/v1/pats").await.expect(200);
    let listed = list["items"].as_array().unwrap().iter().find(|it| it["id"] == *id).unwrap();
    assert!(listed["last_used_at"].is_string(), "{listed}");
}
