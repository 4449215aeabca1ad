//! Workspaces and projects, and who is in them.

use crate::server::{Server, on_both};
use serde_json::{Value, json};

#[tokio::test]
async fn a_workspace_is_seen_and_renamed() {
    on_both(|server| async move {
        let admin = server.admin();
        let tenants = server.owner().get("/v1/tenants").await.expect(200);
        assert_eq!((&tenants["items"][0]["slug"], &tenants["items"][0]["role"]), (&json!("dev"), &json!("owner")));
        assert_eq!(admin.get("/v1/tenants/current").await.expect(200)["name"], "Development");
        assert_eq!(admin.patch("/v1/tenants/current", json!({ "name": "Dev" })).await.expect(200)["name"], "Dev");
        assert_eq!(admin.get("/v1/tenants/current").await.expect(200)["name"], "Dev");
        admin.patch("/v1/tenants/current", json!({ "name": "" })).await.refused(422, "INVALID_FIELD");
        let closed = json!({ "restrict_domains": true });
        admin.patch("/v1/tenants/current", closed).await.refused(409, "NO_VERIFIED_DOMAIN");
        let new = json!({ "slug": "other", "name": "Other" });
        admin.post("/v1/tenants", new).await.refused(403, "SESSION_NEEDED");
    })
    .await;
}

#[tokio::test]
async fn a_project_is_made_changed_and_archived() {
    on_both(|server| async move {
        let admin = server.admin();
        let new = json!({ "slug": "secret", "name": "Secret", "visibility": "private", "unknown": 1 });
        let made = admin.post("/v1/projects", new.clone()).await.expect(201);
        assert_eq!((&made["visibility"], &made["role"]), (&json!("private"), &json!("project_admin")));
        admin.post("/v1/projects", new).await.refused(409, "SLUG_TAKEN");
        admin.post("/v1/projects", json!({ "slug": "A b", "name": "x" })).await.refused(422, "INVALID_FIELD");
        let path = format!("/v1/projects/{}", made["id"].as_str().unwrap());
        let changed = admin.patch(&path, json!({ "name": "Open", "visibility": "public" })).await.expect(200);
        assert_eq!((&changed["name"], &changed["visibility"]), (&json!("Open"), &json!("public")));
        let inside = admin.with("x-project-id", "secret");
        inside.get("/v1/workflows").await.expect(200);
        admin.patch(&path, json!({ "archived": true })).await.expect(200);
        inside.get("/v1/workflows").await.refused(404, "PLACE_NOT_FOUND");
        let slugs = async |path: &str| {
            let list = admin.get(path).await.expect(200);
            list["items"].as_array().unwrap().iter().map(|it| it["slug"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(slugs("/v1/projects").await, ["default"]);
        assert_eq!(slugs("/v1/projects?archived=true").await, ["default", "secret"]);
        assert_eq!(admin.patch(&path, json!({ "archived": false })).await.expect(200)["archived_at"], Value::Null);
        inside.get("/v1/workflows").await.expect(200);
        // A token for one project knows of no other.
        server.owner().patch(&path, json!({ "name": "x" })).await.refused(404, "PLACE_NOT_FOUND");
        admin.patch("/v1/projects/nonsense", json!({})).await.refused(404, "PLACE_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn the_last_owner_stays() {
    let server = Server::start();
    let admin = server.admin();
    let members = admin.get("/v1/tenants/current/members").await.expect(200);
    let path = format!("/v1/tenants/current/members/{}", members["items"][0]["user_id"].as_str().unwrap());
    admin.patch(&path, json!({ "role": "member" })).await.refused(409, "LAST_OWNER");
    admin.patch(&path, json!({ "active": false })).await.refused(409, "LAST_OWNER");
    admin.delete(&path).await.refused(409, "LAST_OWNER");
    admin.patch(&path, json!({ "active": true })).await.expect(200);
    admin.get("/v1/tenants/current").await.expect(200);
    let unknown = "/v1/tenants/current/members/00000000-0000-7000-8000-000000000000";
    admin.patch(unknown, json!({ "role": "member" })).await.refused(404, "NOT_FOUND");
}
