//! Workspaces and projects, and who is in them.

use crate::{
    mails::{Browser, mail, signed_in, token},
    server::{Server, on_both},
};
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
        let new = json!({ "slug": "secret", "name": "Secret", "visibility": "private" });
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
        // The path takes the slug as well.
        assert_eq!(admin.patch("/v1/projects/secret", json!({ "name": "Same" })).await.expect(200)["id"], made["id"]);
        admin.get("/v1/projects/secret/members").await.expect(200);
        // A token for one project knows of no other.
        server.owner().patch(&path, json!({ "name": "x" })).await.refused(404, "PLACE_NOT_FOUND");
        let refused = admin.patch("/v1/projects/nonsense", json!({})).await.refused(404, "PLACE_NOT_FOUND");
        assert!(refused["error"].as_str().unwrap().contains("check the path"), "{refused}");
    })
    .await;
}

#[tokio::test]
async fn the_last_owner_stays() {
    on_both(|server| async move {
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
    })
    .await;
}

/// Neither by a token nor by an own session does the last owner leave; the second last does.
#[tokio::test]
async fn an_owner_leaves_only_when_another_stays() {
    on_both(|server| async move {
        let (mut ada, mut bob) =
            (signed_in(&server, "ada@example.com").await, signed_in(&server, "bob@example.com").await);
        ada.post("/v1/tenants", json!({ "slug": "acme", "name": "Acme" })).await.expect(201);
        let at = |browser: &Browser| {
            let client = browser.client.with("cookie", &browser.cookie_header()).with("x-csrf-token", &browser.csrf);
            client.with("x-tenant-id", "acme")
        };
        let path = async |browser: &mut Browser| {
            let me = browser.get("/v1/auth/me").await.expect(200);
            format!("/v1/tenants/current/members/{}", me["user"]["id"].as_str().unwrap())
        };
        let (ada_s, bob_s) = (path(&mut ada).await, path(&mut bob).await);
        let invite = json!({ "email": "bob@example.com", "role": "owner" });
        at(&ada).post("/v1/tenants/current/invites", invite).await.expect(201);
        at(&ada).delete(&ada_s).await.refused(409, "LAST_OWNER");
        let token = token(&mail(&server.mails, "bob@example.com", "Invitation to acme").await);
        bob.post("/v1/invites/accept", json!({ "token": token })).await.expect(200);
        // An owner who may not enter is none.
        at(&ada).patch(&bob_s, json!({ "active": false })).await.expect(200);
        at(&ada).delete(&ada_s).await.refused(409, "LAST_OWNER");
        at(&ada).patch(&bob_s, json!({ "active": true })).await.expect(200);
        at(&ada).delete(&ada_s).await.expect(204);
        at(&ada).get("/v1/tenants/current").await.refused(404, "PLACE_NOT_FOUND");
        for change in [json!({ "role": "tenant_admin" }), json!({ "active": false })] {
            at(&bob).patch(&bob_s, change).await.refused(409, "LAST_OWNER");
        }
        at(&bob).delete(&bob_s).await.refused(409, "LAST_OWNER");
    })
    .await;
}

#[tokio::test]
async fn a_slug_is_no_word_of_the_api() {
    let server = Server::start();
    let mut ada = signed_in(&server, "ada@example.com").await;
    for slug in ["current", "members"] {
        let new = json!({ "slug": slug, "name": "x" });
        ada.post("/v1/tenants", new.clone()).await.refused(422, "INVALID_FIELD");
        server.admin().post("/v1/projects", new).await.refused(422, "INVALID_FIELD");
    }
    for name in ["a\u{202e}b", "a\u{7}b", "a\u{200b}b"] {
        ada.post("/v1/tenants", json!({ "slug": "acme", "name": name })).await.refused(422, "INVALID_FIELD");
    }
}

#[tokio::test]
async fn an_admin_does_not_write_to_the_world() {
    let server = Server::start();
    let invite = async |to: &str| server.admin().post("/v1/tenants/current/invites", json!({ "email": to })).await;
    for _ in 0..5 {
        invite("ada@example.com").await.expect(201);
    }
    // One address gets no more, however it is written.
    let refused = invite(" Ada@Example.COM").await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.refused(429, "TOO_MANY_ATTEMPTS");
    // The one that was refused counted, too: 24 are left.
    for number in 0..24 {
        invite(&format!("{number}@example.com")).await.expect(201);
    }
    invite("24@example.com").await.refused(429, "TOO_MANY_ATTEMPTS");
}
