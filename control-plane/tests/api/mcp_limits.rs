//! How many MCP servers, versions, instances and config profiles there may be.

use crate::{
    mcp_server::{McpServer, echo_tool, instance, register},
    server::Server,
};
use serde_json::json;

const ARGUMENTS: [&str; 2] = ["--requests-per-minute=0", "--egress-allowed-networks=127.0.0.0/8"];

#[tokio::test]
async fn a_project_has_so_many_servers_and_instances() {
    let (server, mcp) = (Server::start_with(None, &ARGUMENTS), McpServer::start().await);
    let owner = server.owner();
    let (server_path, instance_path) = instance(&owner, "first", &mcp.url()).await;
    for number in 1..100 {
        register(&owner, &format!("s{number}"), &format!("https://s{number}.example")).await;
    }
    let one_more = json!({ "name": "one more", "canonical_url": "https://one-more.example" });
    owner.post("/v1/mcp/servers", one_more).await.refused(409, "TOO_MANY_MCP_SERVERS");
    let id = server_path.rsplit('/').next().unwrap();
    let make = |name: String| owner.post("/v1/mcp/instances", json!({ "name": name, "server_id": id, "version": 1 }));
    for number in 1..500 {
        make(format!("i{number}")).await.expect(201);
    }
    make("one more".into()).await.refused(409, "TOO_MANY_MCP_INSTANCES");
    let profiles = format!("{instance_path}/config-profiles");
    for number in 0..20 {
        owner.post(&profiles, json!({ "name": format!("p{number}"), "bindings": {} })).await.expect(201);
    }
    let one_more = json!({ "name": "one more", "bindings": {} });
    owner.post(&profiles, one_more).await.refused(409, "TOO_MANY_MCP_PROFILES");
    // The tools of all of them are listed, in pages, each once.
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = owner.get(&format!("/v1/mcp/tools?limit=199{cursor}")).await.expect(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|it| it["instance_name"].to_string()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 500);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 500);
}

#[tokio::test]
async fn a_server_has_so_many_versions() {
    let (server, mcp) = (Server::start_with(None, &ARGUMENTS), McpServer::start().await);
    let owner = server.owner();
    let path = register(&owner, "changing", &mcp.url()).await;
    let freeze = async |number: u32| {
        let mut tool = echo_tool();
        tool["description"] = json!(format!("in its form {number}"));
        mcp.shows(json!([tool]));
        owner.post(&format!("{path}/discover"), json!({})).await.expect(200);
        owner.post(&format!("{path}/versions"), json!({})).await
    };
    for number in 1..=50 {
        assert_eq!(freeze(number).await.expect(201)["version"], number);
    }
    freeze(51).await.refused(409, "TOO_MANY_MCP_VERSIONS");
    assert_eq!(owner.get(&format!("{path}/versions")).await.expect(200)["items"].as_array().unwrap().len(), 50);
}
