//! Everything that can be read of a service, and a search for secrets in it.

use crate::{
    connections::SECRET,
    secrets::spellings,
    server::{Client, Server},
    streaming::follow,
    workflow::Workflow,
};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Everything that somebody could read, with where it stood.
#[derive(Default)]
pub(crate) struct Seen(Vec<(String, String)>);

impl Seen {
    pub(crate) fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    pub(crate) async fn get(&mut self, client: &Client, path: &str) {
        let answer = client.get(path).await;
        self.add(path, format!("{:?}", answer.headers));
        self.add(path, answer.expect(200).to_string());
    }

    /// Runs a workflow and reads all that is told of it; its outputs, or what it failed with.
    pub(crate) async fn run(&mut self, name: &str, workflow: &Workflow, input: Value) -> Value {
        let run = workflow.start(input).await;
        let mut told = follow(workflow, &run).await;
        while let Some(sent) = told.next().await {
            self.add(format!("the stream of {name}"), sent.data);
        }
        let events = workflow.events(&run).await;
        self.add(format!("the events of {name}"), json!(events).to_string());
        for rest in ["", "/summary", "/context"] {
            self.get(&workflow.client, &workflow.run_path(&run, rest)).await;
        }
        events.last().unwrap()["data"].clone()
    }

    /// Where a secret is, and as what.
    fn places<'s>(&'s self, secret: &str) -> Vec<(&'s str, String)> {
        let written = spellings(secret);
        let found = |(place, text): &'s (String, String)| {
            let written = written.iter().find(|written| text.contains(*written))?;
            Some((place.as_str(), written.clone()))
        };
        self.0.iter().filter_map(found).collect()
    }
}

#[test]
fn what_was_seen_is_searched() {
    let mut seen = Seen::default();
    seen.add("there", format!("<{}>", spellings(SECRET)[3]));
    assert_eq!((seen.places(SECRET)[0].0, seen.places("another-secret").len()), ("there", 0));
}

/// What there is to read beside runs.
async fn browse(server: &Server, seen: &mut Seen) {
    for path in [
        "/v1/workflows",
        "/v1/runs",
        "/v1/connections",
        "/v1/providers",
        "/v1/llm/catalog",
        "/v1/mcp/servers",
        "/v1/mcp/instances",
        "/v1/mcp/tools",
        "/v1/tasks/pending",
    ] {
        seen.get(&server.owner(), path).await;
    }
    for path in ["/v1/vault", "/v1/audit?limit=100"] {
        seen.get(&server.admin(), path).await;
    }
    seen.get(&server.anybody(), "/metrics").await;
}

/// Ends the service and looks for the secrets in all that was seen and is left.
pub(crate) async fn search(mut server: Server, log: &Path, mut seen: Seen, secrets: &[String]) {
    browse(&server, &mut seen).await;
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    let before = seen.0.len();
    for (place, bytes) in server.kept().await {
        seen.add(place, String::from_utf8_lossy(&bytes));
    }
    let database = &seen.0[before..];
    assert!(database.iter().any(|(_, text)| text.contains("[redacted]")), "the journal is among what is searched");
    seen.add("the log", fs::read_to_string(log).unwrap());
    assert!(seen.0.last().unwrap().1.contains("agentruntime::request"), "the log tells something");
    for secret in secrets {
        let places = seen.places(secret);
        assert!(places.is_empty(), "`{secret}` is in {places:?}");
    }
}
