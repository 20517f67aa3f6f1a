//! Settings and folders that cannot be served end the start with 78 and a message that names the cause. The other
//! commands report what exists.

use std::fs;
use std::net::{SocketAddr, TcpListener};

use crate::support::datasets::generate;
use crate::support::{Folder, Report, command, wait_until};
use serde_json::Value;

/// Returns the message for people that a refused start writes to stderr.
#[track_caller]
fn refusal(folder: &Folder, flags: &[&str]) -> String {
    let ended = folder.refused(flags);
    assert_eq!(ended.code, Some(78), "{}", ended.log);
    let said: Vec<&str> = ended.log.lines().filter(|line| line.starts_with("firehose: ")).collect();
    assert!(!said.is_empty(), "{}", ended.log);
    said.join("\n")
}

#[track_caller]
fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} in {said}");
    }
}

#[test]
fn an_unknown_key_in_the_file_is_refused_by_name() {
    let folder = Folder::new();
    let file = folder.beside("firehose.toml");
    fs::write(&file, "batch_row_max = 5\npage_size = 5000\n").expect("the file is written");
    let said = refusal(&folder, &["--config", file.to_str().expect("a name")]);
    assert_says(&said, &["batch_row_max", "batch_rows_max", "page_size", "5000", "power of two"]);
    assert!(!folder.data().exists(), "nothing is made for a start that is refused");
    let missing = folder.beside("nowhere.toml");
    assert_says(&refusal(&folder, &["--config", missing.to_str().expect("a name")]), &["nowhere.toml"]);
    fs::write(&file, "batch_rows_max = \n").expect("the file is written");
    assert_says(&refusal(&folder, &["--config", file.to_str().expect("a name")]), &["is not valid TOML"]);
}

#[test]
fn an_unknown_or_bad_variable_is_refused_by_name() {
    let folder = Folder::new();
    let mut serve = command();
    serve.arg("serve").arg("--data").arg(folder.data()).args(["--listen", "127.0.0.1:0"]);
    serve.env("FIREHOSE_BATCH_ROW_MAX", "5").env("FIREHOSE_FLUSH_INTERVAL", "soon");
    let output = serve.output().expect("the program runs");
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_says(
        &said,
        &["FIREHOSE_BATCH_ROW_MAX", "FIREHOSE_BATCH_ROWS_MAX", "FIREHOSE_FLUSH_INTERVAL", "soon"],
    );
}

#[test]
fn a_bad_value_is_refused_by_name_and_with_what_is_allowed() {
    let folder = Folder::new();
    for (flags, words) in [
        (&["--ack", "memory"][..], &["--ack", "memory", "disk"][..]),
        (&["--shards", "257"], &["--shards", "257", "256"]),
        (&["--journal-high-water", "9GiB"], &["--journal-high-water", "journal_bytes_max"]),
        (&["--cores", "4095"], &["4095", "--cores"]),
        (&["--ops-listen", "0.0.0.0:0"], &["--ops-listen", "--insecure"]),
        (&["--drain-timeout", "-1s"], &["--drain-timeout"]),
    ] {
        // As `--flag=value`, so that a value may begin with a dash.
        let joined = format!("{}={}", flags[0], flags[1]);
        let mut serve = command();
        serve.arg("serve").arg("--data").arg(folder.data()).args(["--listen", "127.0.0.1:0", &joined]);
        let output = serve.output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{joined}: {said}");
        assert_says(&said, words);
    }
    let output = command().args(["serve", "--no-such-flag"]).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_port_in_use_is_said_with_its_address() {
    let folder = Folder::new();
    let taken = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for flag in ["--listen", "--ops-listen"] {
        let mut serve = command();
        serve.arg("serve").arg("--data").arg(folder.data()).args([flag, &address]);
        let other = if flag == "--listen" { "--ops-listen" } else { "--listen" };
        let output = serve.args([other, "127.0.0.1:0"]).output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{flag}: {said}");
        assert_says(&said, &["cannot listen on", &address]);
    }
    // The port of another server is in use, although its own sockets share it.
    let server = folder.serve(&[]);
    let mut second = command();
    second.arg("serve").arg("--data").arg(folder.beside("other"));
    second.args(["--ops-listen", "off", "--listen", &server.address.to_string()]);
    let output = second.output().expect("the program runs");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
}

#[test]
fn a_folder_in_use_names_its_holder_and_is_left_alone() {
    let (folder, mut all) = (Folder::new(), Report::default());
    let server = folder.serve(&["--shards", "1"]);
    let said = refusal(&folder, &["--shards", "1"]);
    let pid = format!("pid {}", server.pid());
    assert_says(
        &said,
        &["in use by another process of firehose", &pid, folder.data().to_str().expect("a name")],
    );
    all.post(&mut server.client());
    server.wait_until_stored();
    server.stop();
    all.check_all_accepted(&crate::support::stored(&folder.data()));
}

#[test]
fn a_foreign_a_newer_or_another_folder_is_refused() {
    let folder = Folder::new();
    fs::create_dir(folder.data()).expect("a folder");
    fs::write(folder.data().join("thesis.txt"), "mine").expect("a file");
    assert_says(&refusal(&folder, &[]), &["no manifest.json", "choose an empty folder"]);
    assert_eq!(fs::read_dir(folder.data()).expect("it is there").count(), 1);

    let manifest = folder.data().join("manifest.json");
    fs::write(&manifest, r#"{"format":99}"#).expect("a manifest");
    assert_says(&refusal(&folder, &[]), &["format 99", "newer"]);
    fs::write(&manifest, "{").expect("a manifest");
    assert_says(&refusal(&folder, &[]), &["manifest.json", "cannot be read"]);

    let folder = Folder::new();
    folder.serve(&["--shards", "2"]).stop();
    assert_says(&refusal(&folder, &["--shards", "3"]), &["2 shards", "ask for 3"]);
}

#[test]
fn config_prints_what_it_would_serve_with_and_reads_it_back() {
    let folder = Folder::new();
    let file = folder.beside("firehose.toml");
    fs::write(&file, "ack = \"disk\"\n").expect("the file is written");
    let show = |words: &[&str]| {
        let mut config = command();
        config.arg("config").args(words).env("FIREHOSE_BATCH_ROWS_MAX", "77");
        let output = config.output().expect("the program runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let shown = show(&["--config", file.to_str().expect("a name"), "--flush-interval", "7ms"]);
    assert_says(&shown, &["ack = \"disk\"", "batch_rows_max = 77", "flush_interval = \"7ms\""]);
    assert_says(&shown, &["--flush-interval", "FIREHOSE_BATCH_ROWS_MAX", "firehose.toml"]);
    let again = folder.beside("again.toml");
    fs::write(&again, &shown).expect("the file is written");
    let values = |text: &str| -> Vec<String> {
        let settings = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        settings.filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(values(&show(&["--config", again.to_str().expect("a name")])), values(&shown));
}

#[test]
fn shards_and_verify_tell_the_same_with_a_server_and_without() {
    let (folder, mut all) = (Folder::new(), Report::default());
    let (code, said) = {
        let output = folder.run(&["shards"]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(code, Some(1), "{said}");
    assert_says(&said, &["no server has used this folder yet"]);

    let check = |rows: u64| {
        let (code, shards) = folder.run_json(&["shards"]);
        assert_eq!(code, 0, "{shards}");
        let sum = |name: &str| -> u64 {
            let shards = shards.as_array().expect("a list");
            assert_eq!(shards.len(), 2);
            shards.iter().map(|shard| shard[name].as_u64().expect("a number")).sum()
        };
        assert_eq!((sum("rows"), sum("backlog_events"), sum("rejected")), (rows, 0, 0), "{shards}");
        assert!(sum("database_bytes") > 0 && sum("journal_bytes") > 0, "{shards}");
        for shard in shards.as_array().expect("a list") {
            for lane in shard["lanes"].as_array().expect("a list") {
                assert_eq!(lane["applied"], lane["appended"], "{shard}");
            }
        }
        let (code, verified) = folder.run_json(&["verify"]);
        assert_eq!(code, 0, "{verified}");
        let checked = verified.as_array().expect("a list");
        assert!(checked.iter().all(|one| one["ok"] == true && one["problems"] == Value::Array(vec![])));
        assert_eq!(checked.iter().filter_map(|one| one["rows"].as_u64()).sum::<u64>(), rows);
        assert_eq!(checked.iter().filter_map(|one| one["records"].as_u64()).sum::<u64>(), rows);
        let text = String::from_utf8(folder.run(&["shards"]).stdout).expect("text");
        assert_says(&text, &["shard-00/shard.db", "shard-01/shard.db", "applied"]);
    };
    let server = folder.serve(&["--shards", "2"]);
    let mut client = server.client();
    (0..30).for_each(|_| _ = all.post(&mut client));
    server.wait_until_stored();
    check(30);
    server.stop();
    check(30);
}

#[test]
fn shards_shows_the_rows_of_every_kind_and_the_other_records_of_the_log() {
    let folder = Folder::new();
    let loaded = generate(&format!("--preset tiny --load {}", folder.data().display()));
    assert!(loaded.status.success(), "{loaded:?}");
    let (code, shards) = folder.run_json(&["shards"]);
    assert_eq!(code, 0, "{shards}");
    let sum = |name: &str| -> u64 {
        let shards = shards.as_array().expect("a list");
        shards.iter().map(|shard| shard[name].as_u64().unwrap_or_else(|| panic!("{name} in {shard}"))).sum()
    };
    let counted = ["rows", "service_events", "orders", "prices", "stock_events", "other_records"].map(sum);
    assert_eq!(counted, [0, 0, 1_000, 1_000, 500, 1_500], "{shards}");
    let text = String::from_utf8(folder.run(&["shards"]).stdout).expect("text");
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().expect("a heading").split_whitespace().collect();
    assert_eq!(columns[..6], ["shard", "clicks", "events", "orders", "prices", "stock"]);
    let of_first: Vec<&str> = lines.next().expect("a shard").split_whitespace().collect();
    for (at, name) in [(3, "orders"), (4, "prices"), (5, "stock_events")] {
        assert_eq!(of_first[at], shards[0][name].to_string(), "{text}");
    }
    let server = folder.serve(&[]);
    // The writers open the shards while the server already answers.
    wait_until("a shard to be open", || server.logged_exactly("shard open").is_some());
    let kinds = server.logged_exactly("shard open").expect("the shard is opened")["kinds"].clone();
    let kinds = kinds.as_str().expect("a text").to_owned();
    let others = shards
        .as_array()
        .expect("a list")
        .iter()
        .map(|shard| format!("other records {}", shard["other_records"]));
    assert!(others.into_iter().any(|other| kinds.contains(&other)), "{kinds}: {shards}");
    server.stop();
}

#[test]
fn the_doctor_says_what_he_found() {
    let folder = Folder::new();
    let (code, said) = folder.run_json(&["doctor"]);
    let verdict = said["verdict"].as_str().expect("a verdict");
    assert_eq!(code, i32::from(verdict == "fail"), "{said}");
    let checks = said["checks"].as_array().expect("a list");
    for name in
        ["io_uring", "memlock", "open_files", "cpus", "reuse_port", "ports", "disk_space", "sync_latency"]
    {
        let found = checks.iter().find(|check| check["check"] == name);
        let found = found.unwrap_or_else(|| panic!("{name} in {said}"));
        assert!(["ok", "warn", "fail"].contains(&found["verdict"].as_str().expect("a verdict")), "{found}");
        assert_eq!(found["verdict"] == "ok", found["remedy"] == "", "{found}");
    }
    assert!(!folder.data().exists(), "a look leaves nothing behind");
    let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = held.local_addr().expect("it is bound").to_string();
    let mut doctor = command();
    doctor.args(["doctor", "--json", "--data"]).arg(folder.data());
    let output = doctor.env("FIREHOSE_LISTEN", &address).output().expect("it runs");
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let ports = said["checks"].as_array().expect("a list").iter().find(|check| check["check"] == "ports");
    assert_eq!((output.status.code(), &ports.expect("it is there")["verdict"]), (Some(1), &"fail".into()));
}
