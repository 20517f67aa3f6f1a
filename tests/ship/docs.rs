//! `docs/ship.md` and `docs/scale-out.md`: every block of shell and SQL runs as it is, in the order of the page.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fill::fill;
use crate::postgres::Postgres;
use crate::support::skip;
use crate::support::{Folder, Server};

/// A block of a page, and what it printed.
struct Ran {
    text: String,
    printed: String,
}

/// Returns the blocks of shell and SQL of a page, with their languages.
fn blocks(page: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = fs::read_to_string(path).expect("the page is there");
    let fences = text.split("```").skip(1).step_by(2).map(str::to_owned);
    let named = fences.filter_map(|fence| {
        let (language, body) = fence.split_once('\n')?;
        ["sh", "sql"].contains(&language).then(|| (language.to_owned(), body.to_owned()))
    });
    named.collect()
}

/// Runs a page in a folder. Every block must succeed.
#[track_caller]
fn run(page: &str, at: &Path, postgres: &Postgres, variables: &[(&str, String)]) -> Vec<Ran> {
    let program = Path::new(env!("CARGO_BIN_EXE_firehose")).parent().expect("a folder");
    let path =
        format!("{}:{}:/usr/local/bin:/usr/bin:/bin", program.display(), postgres.program_folder().display());
    let mut ran = Vec::new();
    for (language, text) in blocks(page) {
        let mut command = match language.as_str() {
            "sh" => {
                let mut command = Command::new("bash");
                let text = text.replace("127.0.0.1:5432", &format!("127.0.0.1:{}", postgres.port));
                command.args(["-euo", "pipefail", "-c", &text]);
                command
            }
            _ => {
                let mut command = Command::new(postgres.program_folder().join("psql"));
                command.args(["-XAt", "-v", "ON_ERROR_STOP=1", "-d", "shop", "-c", &text]);
                command
            }
        };
        command.current_dir(at).env_clear().env("PATH", &path).env("HOME", at);
        command.envs(postgres.variables()).envs(variables.iter().map(|(name, value)| (name, value)));
        let output = command.output().expect("it runs");
        let [printed, said] =
            [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert!(output.status.success(), "{page}:\n{text}\n{printed}{said}");
        ran.push(Ran { text, printed });
    }
    assert!(ran.len() >= 8, "{page} has {} blocks", ran.len());
    ran
}

/// Returns what the blocks that contain a text printed.
fn printed<'r>(ran: &'r [Ran], text: &str) -> &'r str {
    let found = ran.iter().find(|block| block.text.contains(text));
    found.map_or_else(|| panic!("no block contains {text}"), |block| block.printed.trim())
}

fn has_curl() -> bool {
    Command::new("curl").arg("--version").output().is_ok()
}

/// Starts a database that listens on a port.
fn database() -> Option<Postgres> {
    let mut postgres = Postgres::start()?;
    postgres.listen();
    Some(postgres)
}

/// Starts a server on the folder, which the page knows under this name.
fn served(folder: &Folder, at: &Path, name: &str, tenant: &str, first: u64) -> Server {
    symlink(folder.data(), at.join(name)).expect("a link");
    let server = folder.serve(&["--shards", "2", "--checkpoint-interval", "50ms"]);
    fill(&server, tenant, first, 40);
    server.wait_until_stored();
    server
}

#[test]
fn every_block_of_the_page_on_shipping_runs() {
    let Some(postgres) = database() else { return };
    let (folder, at) = (Folder::new(), tempfile::tempdir().expect("a folder"));
    let server = served(&folder, at.path(), "data", "acme", 1);
    let ran = run("ship.md", at.path(), &postgres, &[]);
    for text in ["fh.sales_by_day", "fh.order_status", "ship verify", "ship schema", "payload IS NULL"] {
        let ran = ran.iter().any(|block| block.text.contains(text));
        assert!(ran, "{text} is on the page");
    }
    for text in ["fh.sales_by_day", "payload->>'button'", "GROUP BY day ORDER BY day"] {
        assert_ne!(printed(&ran, text), "", "{text}");
    }
    assert!(printed(&ran, "payload IS NULL").ends_with("|40"), "{}", printed(&ran, "payload IS NULL"));
    let schema = fs::read_to_string(at.path().join("fh.sql")).expect("the printed schema");
    assert!(schema.contains("CREATE TABLE fh.orders"), "{schema}");
    server.stop();
}

#[test]
fn every_block_of_the_page_on_several_servers_runs_and_the_three_ways_agree() {
    if !has_curl() {
        return skip("there is no curl");
    }
    let Some(postgres) = database() else { return };
    let (folders, at) = ([Folder::new(), Folder::new()], tempfile::tempdir().expect("a folder"));
    let servers = [
        served(&folders[0], at.path(), "node-1", "acme", 1),
        served(&folders[1], at.path(), "node-2", "zeta", 1_001),
    ];
    postgres.ask("CREATE ROLE ship LOGIN");
    postgres.ask("CREATE DATABASE shop OWNER ship");
    let target = format!("ship_to = \"postgres://ship@127.0.0.1:{}/shop\"\n", postgres.port);
    fs::write(at.path().join("firehose.toml"), target).expect("a file");
    let first = Command::new(env!("CARGO_BIN_EXE_firehose"))
        .args(["ship", "--drain", "--data", "./node-1"])
        .current_dir(at.path())
        .output()
        .expect("it runs");
    assert!(first.status.success(), "{first:?}");
    let home = format!("http://{}", servers[0].address);
    let nodes = format!("{home} http://{}", servers[1].address);
    let ran = run("scale-out.md", at.path(), &postgres, &[("HOME_NODE", home), ("NODES", nodes)]);
    let endpoint: Value = serde_json::from_str(printed(&ran, "$HOME_NODE")).expect("JSON");
    let group = &endpoint["groups"][0];
    let target: Vec<&str> = printed(&ran, "fh.sales_by_day").split('|').collect();
    let shards: Value = serde_json::from_str(printed(&ran, "firehose sql")).expect("one day as JSON");
    let minor = group["revenue"].as_str().expect("an amount").replace('.', "");
    let minor = minor.trim_start_matches('0');
    let of = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let endpoint = [of(&group["key"]), of(&group["orders"]), minor.to_owned()];
    assert_eq!([target[0], target[2], target[3]], endpoint, "the database and the endpoint");
    assert_eq!([of(&shards["day"]), of(&shards["orders"]), of(&shards["revenue"])], endpoint, "the shards");
    assert_eq!(of(&shards["unique_customers"]), target[4]);
    let numbers = printed(&ran, "fh.node").lines().count();
    assert!(numbers >= 4, "two nodes and a heading: {numbers}");
    for server in servers {
        server.stop();
    }
}
