//! Settings as an operator writes them, and how they are refused.

use super::*;
use keys::KEYS;
use std::{collections::BTreeSet, fs, path::Path};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/agentruntime.toml");

fn environment(variables: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let variables: Vec<_> = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    variables.into_iter()
}

/// What was given, by a file and the environment.
fn given(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Given {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agentruntime.toml");
    fs::write(&path, file).unwrap();
    let flags = SettingFlags(flags.iter().map(|(name, value)| (*name, vec![(*value).to_owned()])).collect());
    Given::gather(&flags, None, environment(variables), Some(&path))
}

fn errors(file: &str, variables: &[(&str, &str)]) -> String {
    let mut given = given(file, variables, &[]);
    Settings::read_data(&mut given);
    Settings::read(&mut given, Mode::Serve);
    let text = given.finish().unwrap_err().to_string();
    // The folder is another each time.
    let short = |line: &str| {
        line.rsplit_once("/agentruntime.toml").map_or(line, |(_, rest)| rest).trim_start_matches(',').trim().to_owned()
    };
    text.lines().skip(1).map(short).collect::<Vec<_>>().join("\n")
}

#[test]
fn flags_count_before_the_environment_and_that_before_the_file() {
    let file = "listen = \"127.0.0.1:1\"\nconnections_max = 1\ndrain_seconds = 1\n";
    let variables = [("AGENTRUNTIME_CONNECTIONS_MAX", "2"), ("AGENTRUNTIME_DRAIN_SECONDS", "2")];
    let mut given = given(file, &variables, &[("drain_seconds", "3")]);
    let settings = Settings::read(&mut given, Mode::Serve);
    assert_eq!(settings.listen.port(), 1);
    assert_eq!(settings.connections_max, 2);
    assert_eq!(settings.drain, Duration::from_secs(3));
    given.finish().unwrap();
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_place() {
    let file = "\nlistn = \"x\"\nlisten = \"nowhere\"\nrequests_per_minute = \"many\"\n[limits]\nx = 1\n";
    insta::assert_snapshot!(errors(file, &[("AGENTRUNTIME_DRAIN_SECOND", "1")]), @r"
    line 2: there is no setting `listn`; did you mean `listen`?
    line 5: there is no setting `limits`; `agentruntime serve --help` lists them
    AGENTRUNTIME_DRAIN_SECOND: there is no such setting; did you mean AGENTRUNTIME_DRAIN_SECONDS?
    line 3: `listen`: `nowhere` is not an address and a port, such as 0.0.0.0:8600
    line 4: `requests_per_minute`: `many` is not a number from 0 to 10000000
    ");
}

#[test]
fn a_secret_does_not_stand_in_the_file() {
    insta::assert_snapshot!(errors("data_url = \"postgres://me:secret@db/runs\"\n", &[]), @"line 1: `data_url` is a secret and does not stand here: put it into a file and name that as `data_url_file`, or into the environment as AGENTRUNTIME_DATA_URL");
    insta::assert_snapshot!(errors("data = \"postgres://me:secret@db/runs\"\n", &[]), @"line 1: `data`: holds a password; put it into a file of its own and name that as `data_url_file`");
}

#[test]
fn a_public_address_is_encrypted() {
    insta::assert_snapshot!(errors("public_url = \"http://agents.example.com\"\n", &[]), @"line 1: `public_url`: has to begin with https:// where others than this machine use the service: give `tls_certificate` and `tls_key`, or let a proxy encrypt, and say here how clients reach it");
    insta::assert_snapshot!(errors("public_url = \"https://agents.example.com/api\"\n", &[]), @"line 1: `public_url`: has to be scheme and host and nothing behind, such as https://agents.example.com");
}

#[test]
fn what_others_put_into_the_environment_is_left_alone() {
    let mut given = given("", &[("AGENTRUNTIME_SERVICE_HOST", "10.0.0.1"), ("AGENTRUNTIME_LISTEN", "")], &[]);
    Settings::read(&mut given, Mode::Serve);
    given.finish().unwrap();
}

#[test]
fn nothing_shown_holds_a_secret() {
    let mut given = given("", &[("AGENTRUNTIME_DATA", "postgres://me:hush@db/runs")], &[]);
    assert!(!format!("{given:?}").contains("hush"));
    assert_eq!(Settings::read_data(&mut given).as_deref(), Some("postgres://me:hush@db/runs"));
    Settings::read(&mut given, Mode::Serve);
    assert!(!format!("{:?}", given.finish().unwrap()).contains("hush"));
}

/// A commented-out setting is switched on; the two of a pair that exclude each other are tried apart.
#[test]
fn the_example_file_names_every_setting_and_is_valid() {
    let text = fs::read_to_string(Path::new(EXAMPLE)).unwrap();
    let name = |line: &str| line.trim_start_matches("# ").split_once(" = ").map(|(name, _)| name.to_owned());
    let is_setting = |line: &&str| name(line).is_some_and(|name| KEYS.iter().any(|key| key.written() == name));
    let named: BTreeSet<String> = text.lines().filter(is_setting).filter_map(name).collect();
    let known: BTreeSet<String> = KEYS.iter().map(|key| key.written().to_owned()).collect();
    assert_eq!(named, known, "docs/agentruntime.toml names another set of settings than the table");
    let all: Vec<&str> = text.lines().filter(is_setting).map(|line| line.trim_start_matches("# ")).collect();
    let (_, faults) = file::parse(&all.join("\n"));
    assert!(faults.is_empty(), "{:?}", faults.iter().map(|fault| &fault.message).collect::<Vec<_>>());
    let mut given = given(&text, &[], &[]);
    Settings::read_data(&mut given);
    Settings::read(&mut given, Mode::Serve);
    given.finish().unwrap();
}

#[test]
fn every_setting_of_the_table_is_read() {
    let mut given = given("", &[], &[]);
    Settings::read_data(&mut given);
    Settings::read(&mut given, Mode::Serve);
    let read = given.asked();
    for key in KEYS {
        assert!(read.contains(key.name), "nothing reads `{}`", key.name);
    }
}

#[test]
fn an_archive_is_of_use_only_where_something_is_removed() {
    insta::assert_snapshot!(errors("archive_dir = \"/nowhere/archive\"\n", &[]), @"line 1: `archive_dir`: needs `retention_days` beside it: without, runs are kept for ever");
    let file = "retention_days = 30\narchive_dir = \"/nowhere/archive\"\n";
    let mut given = given(file, &[], &[]);
    let settings = Settings::read(&mut given, Mode::Serve);
    let retention = settings.retention.unwrap();
    assert_eq!(retention.keep, Duration::from_secs(30 * 24 * 3600));
    given.finish().unwrap();
    let nothing = &mut self::given("", &[], &[]);
    assert!(Settings::read(nothing, Mode::Serve).retention.is_none(), "all is kept");
}

#[test]
fn there_is_room_for_one_body_at_least() {
    insta::assert_snapshot!(errors("workspace_bodies_bytes_max = 1_048_575\n", &[]), @"line 1: `workspace_bodies_bytes_max`: has to be `body_bytes_max` at least: one body has to fit");
    insta::assert_snapshot!(errors("bodies_bytes_max = 16_777_215\n", &[]), @"line 1: `bodies_bytes_max`: has to be `workspace_bodies_bytes_max` at least");
    let mut given = given("body_bytes_max = 67_108_864\n", &[], &[]);
    let room = Settings::read(&mut given, Mode::Serve).body_room;
    assert_eq!((room.all, room.each), (64 << 20, 64 << 20));
    given.finish().unwrap();
}
