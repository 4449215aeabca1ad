//! Backups that are made while the service works, and a service that goes on from one.

use crate::{
    hooks::hook,
    server::{Server, answer},
    workflow::{Workflow, asking},
};
use agentruntime_tests::postgres;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, SqliteConnection};
use std::{fs, path::Path};

/// What a service has when it is backed up.
struct Before {
    workflow: String,
    run: String,
    task: String,
    events: Vec<Value>,
    hook: crate::hooks::Hook,
}

async fn prepare(server: &Server) -> Before {
    let workflow = Workflow::publish(server.owner(), asking()).await;
    let (run, task) = workflow.start_asking(json!({})).await;
    let events = workflow.events(&run).await;
    Before { workflow: workflow.id, run, task, events, hook: hook(server, json!({})).await }
}

/// The run that waited goes on where it was, and what was sealed opens.
async fn goes_on(server: &Server, before: Before) {
    let workflow = Workflow { client: server.owner(), id: before.workflow };
    assert_eq!(workflow.events(&before.run).await, before.events);
    let answered = json!({ "approved": true, "result": { "note": "restored" } });
    workflow.complete(&before.run, &before.task, answered).await.expect(200);
    workflow.reaches(&before.run, "completed").await;
    let signed = before.hook.signed(b"{}").elsewhere(&server.url);
    answer(signed.request(Method::POST, &before.hook.path).body("{}")).await.expect(202);
}

#[tokio::test]
async fn a_folder_that_was_copied_while_it_was_used_is_as_good() {
    let mut server = Server::start();
    let before = prepare(&server).await;
    let restored = tempfile::tempdir().unwrap();
    let (old, new) = (Path::new(&server.data).to_owned(), restored.path().join("data"));
    fs::create_dir(&new).unwrap();
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}/journal.db", old.display())).await.unwrap();
    let copy = format!("VACUUM INTO '{}'", new.join("journal.db").display());
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(copy))).await.unwrap();
    connection.close().await.unwrap();
    fs::copy(old.join("master.key"), new.join("master.key")).unwrap();
    // What happens after it is not in it.
    let late = Workflow { client: server.owner(), id: before.workflow.clone() };
    let after = late.start(json!({})).await;
    server.kill();
    let server = Server::on_the_data_of(&server, new.to_str().unwrap());
    let workflow = Workflow { client: server.owner(), id: before.workflow.clone() };
    workflow.get(&format!("/runs/{after}/summary")).await.refused(404, "RUN_NOT_FOUND");
    goes_on(&server, before).await;
}

#[tokio::test]
async fn a_dump_of_a_database_server_is_as_good() {
    let Some(postgres) = postgres::server() else { return };
    let mut server = Server::start_with(Some(&postgres.database()), &[]);
    let before = prepare(&server).await;
    let restored = postgres.restored(&server.data);
    server.kill();
    let server = Server::on_the_data_of(&server, &restored);
    goes_on(&server, before).await;
}
