//! Running the shipper: signals, exit codes, secrets, its state, its metrics, and the end of a sink.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::equal::{assert_equal, count, wait_for_answer};
use crate::fill::fill;
use crate::postgres::Postgres;
use crate::shipper::{Shipper, drain, ship_command, ship_once, status};
use crate::support::skip;
use crate::support::{Client, Folder, command, wait_for, wait_until};

/// A target at which no one listens.
const NOWHERE: &str = "postgres://ship@127.0.0.1:1/shop?connect_timeout=1";

/// Returns a folder of a stopped server with rows of every kind.
fn filled() -> Folder {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    fill(&server, "acme", 1, 20);
    server.wait_until_stored();
    server.stop();
    folder
}

#[test]
fn sigterm_ends_it_also_while_the_target_hangs_or_is_away() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = filled();
    Shipper::start(&folder, &postgres, &[]).stop();
    let shipper = Shipper::start(&folder, &postgres, &[]);
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "20");
    postgres.signal("STOP");
    let server = folder.serve(&["--checkpoint-interval", "50ms"]);
    fill(&server, "acme", 101, 20);
    server.wait_until_stored();
    shipper.stop();
    // It hangs while it connects.
    let shipper = Shipper::start(&folder, &postgres, &[]);
    shipper.stop();
    postgres.signal("CONT");
    let away = Shipper::spawn(&folder, ship_command(&folder, NOWHERE, &["--name", "away"]));
    wait_until("it to say that the target is away", || away.log().contains("127.0.0.1"));
    away.stop();
    server.stop();
    drain(&folder, &postgres);
    assert_equal(&[&folder], &postgres);
}

#[test]
fn settings_that_cannot_be_used_end_with_78_and_wrong_words_with_2() {
    let folder = filled();
    let run = |words: &[&str]| {
        let output =
            command().arg("ship").args(words).arg("--data").arg(folder.data()).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for words in [
        &["--once"][..],
        &["--to", "mysql://db/shop"],
        &["--to", "postgres://db/shop?sslmode=require&user=ann&password=p@ss"],
        &["--to", NOWHERE, "--name", "../other"],
        &["--to", NOWHERE, "--password-file", "/nowhere/password"],
        &["--to", NOWHERE, "--rate-max", "fast"],
        &["--to", NOWHERE, "--metrics", "somewhere"],
    ] {
        let (code, said) = run(words);
        assert_eq!(code, Some(78), "{words:?}: {said}");
        assert!(!said.contains("p@ss"), "{said}");
    }
    assert_eq!(run(&["--no-such-flag"]).0, Some(2));
    assert_eq!(run(&["--to", NOWHERE, "--once", "--drain"]).0, Some(2));
    // A name that is registered for another target.
    let Some(postgres) = Postgres::start() else { return };
    ship_once(&folder, &postgres);
    let (code, said) = run(&["--to", NOWHERE, "--once"]);
    assert!(code == Some(78) && said.contains("ship remove postgres"), "{said}");
}

#[test]
fn a_password_is_in_no_argument_log_or_file() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = filled();
    let secret = "gr33n-m0nkeys";
    let file = folder.beside("password");
    fs::write(&file, format!("{secret}\n")).expect("a file");
    let path = file.to_str().expect("a path");
    let with_file = ship_command(&folder, &postgres.url(), &["--password-file", path]);
    let mut with_variable = ship_command(&folder, &postgres.url(), &[]);
    with_variable.env("PGPASSWORD", secret).env("FIREHOSE_LOG_LEVEL", "trace");
    for command in [with_file, with_variable] {
        let shipper = Shipper::spawn(&folder, command);
        wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "20");
        let words = fs::read(format!("/proc/{}/cmdline", shipper.pid())).expect("its arguments");
        assert!(!String::from_utf8_lossy(&words).contains(secret));
        let log = shipper.stop().log;
        assert!(!log.contains(secret), "{log}");
    }
    // A target that cannot be reached is named without it.
    let url = format!("postgres://ship:{secret}@127.0.0.1:1/shop");
    let away = Shipper::spawn(&folder, ship_command(&folder, &url, &["--name", "away"]));
    wait_until("it to say that the target is away", || away.log().contains("127.0.0.1"));
    let log = away.stop().log;
    assert!(!log.contains(secret), "{log}");
    let mut config = command();
    let config = config.args(["config", "--ship-to", &url]).output().expect("it runs");
    assert!(!String::from_utf8_lossy(&config.stdout).contains(secret), "{config:?}");
    let found = Command::new("grep").args(["-rl", secret]).arg(folder.data()).output().expect("grep runs");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

fn behind(status: &Value) -> u64 {
    let shards = status["shards"].as_array().expect("shards");
    let streams = shards.iter().flat_map(|shard| shard["streams"].as_array().expect("streams"));
    streams.map(|stream| stream["behind_rows"].as_u64().expect("a number")).sum()
}

#[test]
fn status_shows_what_is_behind_with_and_without_the_target() {
    let Some(mut postgres) = Postgres::start() else { return };
    let folder = filled();
    let before = ship_command(&folder, &postgres.url(), &["status"]).output().expect("it runs");
    assert_eq!(before.status.code(), Some(1), "nothing is registered");
    ship_once(&folder, &postgres);
    let now = status(&folder, &postgres.url());
    assert_eq!((&now["reached"], behind(&now)), (&json!(true), 0), "{now}");
    assert_eq!(now["shards"].as_array().map(Vec::len), Some(2));
    let server = folder.serve(&[]);
    fill(&server, "acme", 101, 20);
    server.wait_until_stored();
    server.stop();
    postgres.kill();
    let now = status(&folder, &postgres.url());
    assert_eq!(now["reached"], json!(false), "{now}");
    assert!(behind(&now) >= 80, "clicks, events, orders and stock: {now}");
    let text = ship_command(&folder, &postgres.url(), &["status"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("sales_order") && text.contains("click"), "{text}");
    postgres.restart();
    drain(&folder, &postgres);
    assert_eq!(behind(&status(&folder, &postgres.url())), 0);
}

#[test]
fn metrics_count_what_is_shipped_and_what_is_behind() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = filled();
    let shipper = Shipper::start(&folder, &postgres, &["--metrics", "127.0.0.1:0"]);
    let address = wait_for("the address of the metrics", || {
        let log = shipper.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["message"] == "metrics")
            .find_map(|line| Some(line["address"].as_str()?.to_owned()))
    });
    let page = || {
        let mut client = Client::connect(address.parse().expect("an address")).expect("it listens");
        let answer = client.get("/metrics").expect("an answer");
        assert_eq!(answer.status, 200);
        String::from_utf8(answer.body).expect("UTF-8")
    };
    let sum = |page: &str, name: &str, stream: &str| -> f64 {
        let of = |line: &&str| line.starts_with(name) && line.contains(&format!("stream=\"{stream}\""));
        page.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    wait_until("the clicks to be counted", || sum(&page(), "firehose_ship_rows", "click") == 20.0);
    wait_until("nothing to be behind", || sum(&page(), "firehose_ship_behind_rows", "sales_order") == 0.0);
    assert!(page().contains("firehose_ship_connected{shard=\"0\"} 1"), "{}", page());
    shipper.stop();
}

#[test]
fn a_sink_that_is_removed_ends_its_shipper_and_a_new_one_ships_nothing_twice() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = filled();
    let shipper = Shipper::start(&folder, &postgres, &[]);
    wait_for_answer(&postgres, "SELECT count(*) FROM fh.clicks", "20");
    let unknown = folder.run(&["ship", "remove", "other"]);
    assert!(!unknown.status.success() && String::from_utf8_lossy(&unknown.stderr).contains("postgres"));
    assert!(folder.run(&["ship", "remove", "postgres"]).status.success());
    assert!(!folder.data().join("ship/postgres").exists());
    let server = folder.serve(&["--checkpoint-interval", "50ms"]);
    fill(&server, "acme", 101, 20);
    server.wait_until_stored();
    server.stop();
    let ended = shipper.wait();
    assert!(ended.code == Some(1) && ended.log.contains("removed"), "{ended:?}");
    drain(&folder, &postgres);
    assert_equal(&[&folder], &postgres);
}

#[test]
fn a_permission_that_is_missing_is_no_fault_of_the_rows() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = filled();
    postgres.ask("CREATE ROLE ship LOGIN");
    let url = postgres.url().replace("user=postgres", "user=ship");
    let output = ship_command(&folder, &url, &["--once"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("permission denied"), "{said}");
    postgres.ask("CREATE SCHEMA fh AUTHORIZATION ship");
    let output = ship_command(&folder, &url, &["--drain"]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_equal(&[&folder], &postgres);
    assert_eq!(count(&postgres, "rejected"), 0);
}

#[test]
fn the_printed_schema_is_the_one_that_is_created() {
    let (Some(made), Some(printed)) = (Postgres::start(), Postgres::start()) else { return };
    let folder = filled();
    ship_once(&folder, &made);
    let output = command().args(["ship", "schema"]).output().expect("it runs");
    assert!(output.status.success());
    printed.ask(&String::from_utf8_lossy(&output.stdout));
    let columns = "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns \
        WHERE table_schema = 'fh' AND table_name !~ '^clicks_[0-9]' ORDER BY 1, 2";
    assert_eq!(made.ask(columns), printed.ask(columns));
    let other =
        ship_command(&folder, &printed.url(), &["--once", "--name", "printed"]).output().expect("it runs");
    assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stderr));
    assert_eq!(count(&printed, "clicks"), 20);
}

#[test]
fn the_unit_file_is_valid() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/firehose-ship.service");
    let text = fs::read_to_string(&unit).expect("the unit");
    let folder = Folder::new();
    // The program need not be installed.
    let copy = folder.beside("firehose-ship.service");
    fs::write(&copy, text.replace("/usr/bin/firehose ship", "/bin/true ship")).expect("a copy");
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&copy).output() else {
        return skip("there is no systemd-analyze");
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("firehose-ship.service"), "{said}");
    // Its command line is one that the program accepts.
    let line =
        text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/firehose ")).expect("a command");
    let file = folder.beside("ship.toml");
    fs::write(&file, format!("ship_to = \"{NOWHERE}\"\n")).expect("a file");
    fs::write(folder.beside("password"), "secret\n").expect("a file");
    let data = folder.data();
    let line = line
        .replace("/etc/firehose/ship.toml", file.to_str().expect("a path"))
        .replace("/var/lib/firehose", data.to_str().expect("a path"))
        .replace("${CREDENTIALS_DIRECTORY}/password", folder.beside("password").to_str().expect("a path"));
    let output = command().args(line.split(' ')).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "only the folder is missing: {said}");
}
