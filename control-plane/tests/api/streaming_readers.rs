//! Who hears what models say, and who does not: readers that come again, at another process, and programs.

use crate::{
    server::{Program, Server},
    stream::Events,
    streaming::{LOOPBACK, asking, finish, follow, given, next_delta, piece, provide, rest},
    vendors::{Vendor, paced},
    workflow::Workflow,
};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

#[tokio::test]
async fn a_reader_that_comes_again_goes_on_with_events_and_with_what_is_said_then() {
    let server = Server::start_with(None, &LOOPBACK);
    let (pace, said) = paced();
    let vendor = Vendor::start(vec![said]).await;
    let model = provide(&server.owner(), "openai_compatible", &vendor.origin).await;
    let workflow = asking(server.owner(), &model, json!({})).await;
    let run = workflow.start(json!({})).await;
    workflow.happens(&run, "request_made").await;
    pace.event(&piece("one"));
    let mut events = follow(&workflow, &run).await;
    let mut last = 0;
    loop {
        let sent = events.next().await.unwrap();
        match &sent.id {
            Some(id) => last = id.parse().unwrap(),
            // A piece says nothing about the place.
            None => break,
        }
        if last == workflow.events(&run).await.len() {
            pace.event(&piece("two"));
        }
    }
    let client = workflow.client.with("last-event-id", &last.to_string());
    let mut events = Events::follow(&client, &workflow.path(&format!("/stream?run_id={run}"))).await;
    pace.event(&piece("three"));
    let again = next_delta(&mut events).await;
    assert!(again["data"]["part"].as_u64() > Some(0), "{again}");
    finish(pace, &["four"]);
    let (_, told) = rest(&mut events).await;
    assert_eq!(told, workflow.events(&run).await[last..]);
    // Of what is over, only events are told.
    let mut events = follow(&workflow, &run).await;
    assert_eq!(rest(&mut events).await, (String::new(), workflow.events(&run).await));
}

#[tokio::test]
async fn a_reader_at_another_process_gets_the_events_alone() {
    let Some(postgres) = agentruntime_tests::postgres::server() else { return };
    let database = postgres.database();
    let (here, there) =
        (Server::start_with(Some(&database), &LOOPBACK), Server::start_with(Some(&database), &LOOPBACK));
    let (pace, said) = paced();
    let vendor = Vendor::start(vec![said]).await;
    let model = provide(&here.owner(), "openai_compatible", &vendor.origin).await;
    let workflow = asking(here.owner(), &model, json!({})).await;
    let run = workflow.start(json!({})).await;
    let elsewhere = Workflow { client: there.holder(&here.token), id: workflow.id.clone() };
    let (mut near, mut far) = (follow(&workflow, &run).await, follow(&elsewhere, &run).await);
    pace.event(&piece("Hello"));
    assert_eq!(next_delta(&mut near).await["data"]["text"], "Hello");
    finish(pace, &[]);
    assert_eq!(rest(&mut far).await, (String::new(), workflow.events(&run).await));
}

/// What a program prints of a run with these arguments, while a model speaks.
async fn printed(arguments: &[&str]) -> (String, Vec<Value>) {
    let server = Server::start_with(None, &LOOPBACK);
    let (pace, said) = paced();
    let vendor = Vendor::start(vec![said]).await;
    let model = provide(&server.owner(), "openai_compatible", &vendor.origin).await;
    let workflow = asking(server.owner(), &model, json!({})).await;
    let run = workflow.start(json!({})).await;
    let mut events = follow(&workflow, &run).await;
    let mut command = Program::command(server.folder.path());
    command.args(["logs", &run, "-f", "--server", &server.url]).args(arguments);
    let mut process = command.env("AGENTRUNTIME_TOKEN", &server.token).stdout(Stdio::piped()).spawn().unwrap();
    let (mut lines, mut text) = (BufReader::new(process.stdout.take().unwrap()), String::new());
    while text.matches("llm.request").count() == 0 {
        lines.read_line(&mut text).unwrap();
    }
    pace.event(&piece("Hello"));
    assert_eq!(next_delta(&mut events).await["data"]["text"], "Hello");
    finish(pace, &[" Ada"]);
    lines.lines().for_each(|line| text += &(line.unwrap() + "\n"));
    assert!(process.wait().unwrap().success());
    given(&workflow, &run, "ask").await;
    (text, workflow.events(&run).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_reads_what_is_printed_gets_events_and_nothing_between() {
    let (text, events) = printed(&["--json"]).await;
    let told: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told, events);
    let (text, events) = printed(&[]).await;
    assert_eq!(text.lines().count(), events.len(), "{text}");
}
