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

/// Why `serve` refuses to start with what `serve --check` refuses, too.
#[track_caller]
fn refused(home: &Path, data: &str, arguments: &[&str]) -> Value {
    let told = |first: &[&str]| {
        let mut command = Program::command(home);
        command.arg("serve").args(first).args(["--json", "--listen", "127.0.0.1:0", "--data", data]).args(arguments);
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        serde_json::from_str::<Value>(stderr.lines().last().unwrap()).unwrap_or_else(|_| panic!("{stderr}"))
    };
    let (checked, started) = (told(&["--check"]), told(&[]));
    assert_eq!(checked, started);
    started
}

/// Checks that a refusal names a setting and a file or an address, and says what to do.
#[track_caller]
fn says(refused: &Value, code: &str, parts: &[&str]) {
    assert_eq!(refused["code"], code, "{refused:#}");
    let sentence = refused["error"].as_str().unwrap();
    for part in parts {
        assert!(sentence.contains(part), "{part} in {sentence}");
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
fn an_external_vault_is_asked_whether_it_knows_us() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let data = data.to_str().unwrap();
    let token = home.path().join("token");
    fs::write(&token, "a-token").unwrap();
    let file = format!("--vault-token-file={}", token.display());
    // Nobody listens there any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let notes = check(home.path(), data, &[&format!("--vault-address=http://{gone}"), &file]).unwrap();
    assert!(notes.contains("`vault_address`: the external vault does not answer"), "{notes}");
    for (arguments, part) in [
        (vec!["--vault-address=http://vault.internal:8200", &file], "begin with https://"),
        (vec!["--vault-address=https://vault.internal:8200"], "needs `vault_token_file`"),
        (vec![&file], "needs `vault_address`"),
        (vec!["--vault-address=https://vault.internal", &file, "--vault-prefix=../a"], "`vault_prefix`"),
    ] {
        says(&refused(home.path(), data, &arguments), "INVALID_SETTINGS", &[part]);
    }
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
    let Some((_, foreign)) = certificate(home.path(), "two") else { return };
    let data = home.path().join("data");
    let data = data.to_str().unwrap();
    let notes = |url: &str| {
        let arguments = ["--tls-certificate", &one, "--tls-key", &key, "--public-url", url];
        check(home.path(), data, &arguments).unwrap()
    };
    // It is for `localhost`, for two days.
    let (own, other) = (notes("https://localhost:8600"), notes("https://example.com"));
    assert!(own.contains("expires in ") && !own.contains("is not for"), "{own}");
    assert!(other.contains("is not for example.com"), "{other}");
    let apart = refused(home.path(), data, &["--tls-certificate", &one, "--tls-key", &foreign]);
    says(&apart, "INVALID_SETTINGS", &["`tls_key`", &foreign, "is not the key of the certificate in", &one]);
    let junk = home.path().join("junk");
    fs::write(&junk, "junk").unwrap();
    let junk = junk.to_str().unwrap();
    let no_chain = refused(home.path(), data, &["--tls-certificate", junk, "--tls-key", &key]);
    says(&no_chain, "INVALID_SETTINGS", &["`tls_certificate`", junk, "holds no certificate", "BEGIN CERTIFICATE"]);
    let no_key = refused(home.path(), data, &["--tls-certificate", &one, "--tls-key", junk]);
    says(&no_key, "INVALID_SETTINGS", &["`tls_key`", junk, "holds no private key", "BEGIN PRIVATE KEY"]);
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(junk, damaged).unwrap();
    let unread = refused(home.path(), data, &["--tls-certificate", junk, "--tls-key", &key]);
    says(&unread, "INVALID_SETTINGS", &["`tls_certificate`", junk, "cannot be read"]);
}

#[test]
fn a_folder_that_takes_no_archive_is_refused_before_there_is_anything_to_archive() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let (data, archive) = (home.path().join("data"), file.join("archive"));
    let arguments = ["--retention-days", "1", "--archive-dir", archive.to_str().unwrap()];
    let told = refused(home.path(), data.to_str().unwrap(), &arguments);
    says(&told, "INVALID_SETTINGS", &["`archive_dir`", file.to_str().unwrap(), "name another folder"]);
    assert!(!data.exists(), "the start went on");
}

#[test]
fn a_master_key_of_another_form_is_refused_with_its_file() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let (data, key) = (data.to_str().unwrap(), home.path().join("short.key"));
    let key = key.to_str().unwrap();
    fs::write(key, "c2hvcnQ=\n").unwrap();
    for setting in ["master_key_file", "previous_master_key_files"] {
        let told = refused(home.path(), data, &[&format!("--{}", setting.replace('_', "-")), key]);
        says(&told, "INVALID_SETTINGS", &[&format!("`{setting}`"), key, "holds 5 bytes instead of 32", "openssl rand"]);
        assert!(!told.to_string().contains("c2hvcnQ"), "{told:#}");
    }
    fs::write(key, "no base64!").unwrap();
    says(&refused(home.path(), data, &["--master-key-file", key]), "INVALID_SETTINGS", &[key, "is not base64"]);
}

#[cfg(unix)]
#[test]
fn the_name_of_a_refusal_is_told_to_people_too() {
    let mut server = Server::start();
    server.signal("TERM");
    server.ended();
    fs::write(Path::new(&server.data).join("master.key"), "c2hvcnQ=").unwrap();
    let mut command = Program::command(server.folder.path());
    let output = command.args(["serve", "--listen", "127.0.0.1:0", "--data", &server.data]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("[MASTER_KEY_REFUSED]") && told.contains("/data/master.key is no master key"), "{told}");
    assert!(told.contains("put the file back from its copy"), "{told}");
}

#[test]
fn a_port_for_the_metrics_that_is_taken_is_told_with_its_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = tempfile::tempdir().unwrap();
    let mut command = Program::command(home.path());
    command.args(["dev", "--json", "--listen", "127.0.0.1:0", "--metrics-listen", &address]);
    let output = command.output().unwrap();
    let told: Value = serde_json::from_slice(&output.stderr).unwrap();
    says(&told, "CANNOT_LISTEN", &["`metrics_listen`", &address, "--metrics-listen 127.0.0.1:PORT"]);
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    // Of the networks that are for examples: nobody has it.
    let told = refused(home.path(), data.to_str().unwrap(), &["--metrics-listen", "192.0.2.1:9600"]);
    says(&told, "CANNOT_LISTEN", &["`metrics_listen`", "192.0.2.1:9600", "an address of this machine"]);
}
