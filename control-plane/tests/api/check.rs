//! `serve --check` refuses what a start would refuse, and changes nothing.

use crate::server::{Program, Server, certificate};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};

const KEY: &str = "YW5vdGhlciBtYXN0ZXIga2V5IG9mIHRlc3RzLCAzMiE=";

/// What `serve --check` says: what it prints, or why it refuses.
fn check(home: &Path, data: &str, arguments: &[&str]) -> Result<String, Value> {
    let mut command = Program::command(home);
    command.args(["serve", "--check", "--json", "--listen", "127.0.0.1:0", "--data", data]).args(arguments);
    let output = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    match output.status.code() {
        Some(0) => Ok(stderr),
        _ => Err(serde_json::from_str(stderr.lines().last().unwrap()).unwrap_or_else(|_| panic!("{stderr}{stdout}"))),
    }
}

/// What lies in a folder, byte for byte, but for SQLite's index of its log: who reads leaves a mark in it.
fn bytes_in(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let entries = entries.filter(|path| !path.to_string_lossy().ends_with("-shm"));
    entries.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
}

#[test]
fn nothing_is_made_where_nothing_is_yet() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("deep/data");
    let notes = check(home.path(), data.to_str().unwrap(), &[]).unwrap();
    assert!(notes.contains("has no data yet"), "{notes}");
    assert!(fs::read_dir(home.path()).unwrap().next().is_none(), "something was made");
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = check(home.path(), file.join("data").to_str().unwrap(), &[]).unwrap_err();
    assert_eq!(refused["code"], "INVALID_SETTINGS", "{refused:#}");
}

#[cfg(unix)]
#[test]
fn a_key_that_the_start_would_refuse_is_refused_and_nothing_changes() {
    let mut server = Server::start();
    server.signal("TERM");
    server.ended();
    let data = Path::new(&server.data);
    let before = bytes_in(data);
    assert_eq!(check(server.folder.path(), &server.data, &[]), Ok(String::new()));
    let key = server.folder.path().join("other.key");
    fs::write(&key, KEY).unwrap();
    let refused = check(server.folder.path(), &server.data, &["--master-key-file", key.to_str().unwrap()]).unwrap_err();
    assert_eq!(refused["code"], "MASTER_KEY_REFUSED", "{refused:#}");
    assert!(bytes_in(data) == before, "something was changed");
}

#[test]
fn a_service_that_works_is_no_error() {
    let server = Server::start();
    let notes = check(server.folder.path(), &server.data, &["--metrics-listen", &server.address()]).unwrap();
    assert!(notes.contains("is in use"), "{notes}");
}

#[test]
fn a_database_server_is_asked_what_it_allows() {
    let Some(postgres) = agentruntime_tests::postgres::own_server() else { return };
    let home = tempfile::tempdir().unwrap();
    let database = postgres.database();
    assert!(check(home.path(), &database, &[]).unwrap().contains("up to date"));
    // Nothing was made by looking.
    assert!(check(home.path(), &database, &[]).unwrap().contains("up to date"));
    let missing = check(home.path(), &database.replace("test_0", "nowhere"), &[]).unwrap_err();
    assert_eq!(missing["code"], "STORE_UNAVAILABLE");
    assert!(missing["error"].as_str().unwrap().contains("database nowhere"), "{missing:#}");
    postgres.execute("ALTER DATABASE test_0 SET default_transaction_read_only = on");
    let refused = check(home.path(), &database, &[]).unwrap_err();
    assert!(refused["error"].as_str().unwrap().contains("read-only"), "{refused:#}");
    postgres.stop();
    let away = check(home.path(), &database, &[]).unwrap_err();
    assert!(away["error"].as_str().unwrap().contains("host 127.0.0.1"), "{away:#}");
}

#[test]
fn a_certificate_and_a_key_that_do_not_belong_together_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let Some((one, key)) = certificate(home.path(), "one") else { return };
    let Some((_, other)) = certificate(home.path(), "two") else { return };
    let data = home.path().join("data");
    let tls = |key: &str| {
        let arguments = ["--tls-certificate", &one, "--tls-key", key];
        check(home.path(), data.to_str().unwrap(), &arguments)
    };
    tls(&key).unwrap();
    assert_eq!(tls(&other).unwrap_err()["code"], "INVALID_SETTINGS");
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    // Of the networks that are for examples: nobody has it.
    let refused = check(home.path(), data.to_str().unwrap(), &["--metrics-listen", "192.0.2.1:9600"]).unwrap_err();
    assert_eq!(refused["code"], "CANNOT_LISTEN", "{refused:#}");
}
