//! Profiles of a server at work: each format, as a tool that knows the format reads it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::{Answer, Client, Folder, cpus, skip};

/// Reads a profile with pprof-format, <https://www.npmjs.com/package/pprof-format>, and prints it with names in place of
/// numbers.
const READER: &str = r#"
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { Profile } from "pprof-format";
const profile = Profile.decode(gunzipSync(readFileSync(process.argv[2])));
const text = (number) => profile.stringTable.strings[Number(number)];
const byId = (list) => new Map(list.map((one) => [Number(one.id), one]));
const [locations, functions, mappings] = [profile.location, profile.function, profile.mapping].map(byId);
const type = (one) => [text(one.type), text(one.unit)];
const frame = (id) => {
  const location = locations.get(Number(id));
  const [line] = location.line;
  const named = functions.get(Number(line.functionId));
  const mapping = mappings.get(Number(location.mappingId));
  return { name: text(named.name), file: text(named.filename), line: Number(line.line), program: text(mapping.filename) };
};
console.log(JSON.stringify({
  types: profile.sampleType.map(type),
  period: [...type(profile.periodType), Number(profile.period)],
  seconds: Number(profile.durationNanos) / 1e9,
  began: Number(profile.timeNanos) / 1e9,
  resolved: profile.mapping.every((one) => one.hasFunctions && one.hasFilenames && one.hasLineNumbers),
  empty: text(0),
  samples: profile.sample.map((sample) => ({
    values: sample.value.map(Number),
    labels: sample.label.map((label) => [text(label.key), text(label.str)]),
    frames: sample.locationId.map(frame),
  })),
}));
"#;

/// Returns a folder with the reader, or `None` if it cannot be installed.
fn reader() -> Option<PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-pprof");
    std::fs::create_dir_all(&home).expect("a folder");
    if !home.join("node_modules/pprof-format").exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&home);
        let installed = npm.arg("pprof-format@2").output();
        if !installed.as_ref().is_ok_and(|output| output.status.success()) {
            skip(&format!("{npm:?}: {installed:?}"));
            return None;
        }
    }
    std::fs::write(home.join("read.mjs"), READER).expect("the script is written");
    Some(home)
}

/// Takes a profile of a server that receives events for its whole time.
fn profile(http: SocketAddr, ops: SocketAddr, query: &str) -> Answer {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::connect(http).expect("it answers");
            for user in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                assert_eq!(client.post(user).expect("an answer").status, 202);
            }
        });
        let answer = Client::connect(ops).and_then(|mut ops| ops.get(&format!("/debug/flamegraph?{query}")));
        is_over.store(true, Ordering::Relaxed);
        answer.expect("an answer")
    })
}

#[test]
fn each_format_of_a_profile_is_what_its_tools_read() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--cores", &cpus(1), "--ops-listen", "127.0.0.1:0"]);
    let (http, ops) = (server.address, server.ops.expect("ops listens"));

    let folded = profile(http, ops, "seconds=1&hz=499&format=collapsed");
    assert_eq!(folded.status, 200, "{folded:?}");
    assert_eq!(folded.header("content-type"), Some("text/plain; charset=utf-8"));
    let text = String::from_utf8(folded.body.clone()).expect("UTF-8");
    let listener: Vec<&str> = text.lines().filter(|line| line.starts_with("listen-0;")).collect();
    assert!(!listener.is_empty(), "{text}");
    for line in &listener {
        let (stack, count) = line.rsplit_once(' ').expect("a count");
        assert!(count.parse::<u64>().is_ok_and(|count| count > 0), "{line}");
        let outermost = stack.split(';').nth(1).expect("a function");
        assert!(outermost.starts_with("firehose::"), "no start of a thread: {line}");
    }
    let is_loop = |line: &&&str| line.contains(";firehose::server::core_loop::");
    assert!(listener.iter().filter(is_loop).count() > 0, "{text}");

    let svg = profile(http, ops, "seconds=1&hz=499");
    assert_eq!(svg.header("content-type"), Some("image/svg+xml"));
    assert_eq!(svg.header("content-disposition"), Some("inline; filename=\"firehose.svg\""));
    let text = String::from_utf8(svg.body.clone()).expect("UTF-8");
    assert!(text.contains("<title>listen-0 (") && text.contains("the kernel"), "{text}");

    let file = profile(http, ops, "seconds=1&hz=499&format=pprof");
    assert_eq!(file.header("content-type"), Some("application/octet-stream"));
    assert_eq!(file.header("content-disposition"), Some("attachment; filename=\"firehose.pb.gz\""));
    let Some(home) = reader() else { return };
    let path = folder.data().join("firehose.pb.gz");
    std::fs::write(&path, &file.body).expect("the profile is written");
    let read = Command::new("node").arg(home.join("read.mjs")).arg(&path).output().expect("node runs");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    check(&serde_json::from_slice(&read.stdout).expect("JSON"));
}

fn check(profile: &Value) {
    assert_eq!(profile["types"], serde_json::json!([["samples", "count"], ["cpu", "nanoseconds"]]));
    let period_ns = 1_000_000_000 / 499;
    assert_eq!(profile["period"], serde_json::json!(["cpu", "nanoseconds", period_ns]));
    assert_eq!((&profile["seconds"], &profile["empty"]), (&1.into(), &"".into()));
    assert_eq!(profile["resolved"], true, "no reader looks for the program");
    let now = firehose::base::clock::unix_us() as f64 / 1e6;
    let began = profile["began"].as_f64().expect("a time");
    assert!((now - 600.0..now).contains(&began), "{began} is not shortly before {now}");
    let samples = profile["samples"].as_array().expect("samples");
    let mut of_listener = 0;
    for sample in samples {
        let values = sample["values"].as_array().expect("values");
        let count = values[0].as_u64().expect("a count");
        assert_eq!(values[1].as_u64(), Some(count * period_ns));
        assert_eq!(sample["labels"][0][0], "thread");
        let frames = sample["frames"].as_array().expect("frames");
        assert!(!frames.is_empty() && frames.iter().all(|frame| frame["name"] != ""), "{sample}");
        assert!(
            frames
                .iter()
                .all(|frame| frame["program"].as_str().is_some_and(|path| path.contains("firehose")))
        );
        if sample["labels"][0][1] == "listen-0" {
            // The innermost function is the first one, so what began the thread is the last one.
            let outermost = &frames[frames.len() - 1];
            let file = outermost["file"].as_str().expect("a file");
            assert!(
                file.ends_with("src/server/mod.rs") && outermost["line"].as_u64() > Some(0),
                "{outermost}"
            );
            of_listener += count;
        }
    }
    assert!(of_listener > 0, "{profile:#}");
}
