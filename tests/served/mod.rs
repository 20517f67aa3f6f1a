//! Shared parts of the tests of earlier folders: the packed folder, and a server on a copy of it.

mod answers;
mod make;
mod requests;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use serde_json::Value;

use crate::support::{Folder, Server, command, cpus};
use answers::Answers;

const FOLDERS: [&str; 2] = ["served-e3cb17d", "served-e36fdf2"];
/// 2100-01-01. The copy keeps what would have expired by now.
const FAR_US: i64 = 4_102_444_800_000_000;
const FLAGS: [&str; 12] = [
    "--shards",
    "2",
    "--order-partition-rows-max",
    "60",
    "--partition-rows-max",
    "50",
    "--page-size",
    "4KiB",
    "--export-expiry",
    "365d",
    "--upload-expiry",
    "365d",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Returns what was made in a folder: keys, which open only its copies, ids, and paths.
fn made(name: &str) -> Value {
    let text = fs::read(fixture(name).join("made.json")).expect("the fixture is there");
    serde_json::from_slice(&text).expect("JSON")
}

/// Returns an environment variable. `TEST_PROGRAM` is the program that makes and records a fixture. By default, the
/// tests use the one that was built with them.
fn given(name: &str) -> Option<String> {
    std::env::vars_os().find(|(known, _)| known == name)?.1.into_string().ok()
}

fn program() -> Command {
    let Some(path) = given("TEST_PROGRAM") else { return command() };
    let mut program = Command::new(path);
    program.current_dir(std::env::temp_dir()).env_clear();
    program
}

/// Starts a server on a folder with the given program.
#[track_caller]
fn serve(folder: &Folder) -> Server {
    let cpus = cpus(2);
    let flags = [&FLAGS[..], &["--cores", &cpus]].concat();
    let mut server = folder.spawn_as(program(), &folder.data(), &flags);
    server.wait_until_serving();
    server
}

/// Packs every file of a folder except the shared memory of a database, which SQLite makes again from the WAL.
fn pack(data: &Path, archive: &Path) -> io::Result<()> {
    let mut archive = zip::ZipWriter::new(File::create(archive)?);
    let mut open = vec![data.to_owned()];
    while let Some(path) = open.pop() {
        let name = path.strip_prefix(data).expect("it lies in the folder").display().to_string();
        let mode = fs::metadata(&path)?.permissions().mode();
        let options = zip::write::SimpleFileOptions::default().unix_permissions(mode);
        if path.is_dir() {
            let mut entries: Vec<_> = fs::read_dir(&path)?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<_, _>>()?;
            entries.sort();
            open.extend(entries);
            if !name.is_empty() {
                archive.add_directory(name, options)?;
            }
        } else if !name.ends_with("-shm") {
            archive.start_file(name, options)?;
            archive.write_all(&fs::read(&path)?)?;
        }
    }
    archive.finish()?;
    Ok(())
}

/// Returns a copy of a folder as it was left, except for the expiry dates.
fn unpacked(name: &str) -> Folder {
    let folder = Folder::new();
    let file = File::open(fixture(name).join("data.zip")).expect("the fixture is there");
    let mut archive = zip::ZipArchive::new(file).expect("an archive");
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).expect("an entry");
        let path = folder.data().join(&*entry.name().expect("a name"));
        let mode = fs::Permissions::from_mode(entry.unix_mode().expect("a mode"));
        if entry.is_dir() {
            fs::create_dir_all(&path).expect("a folder");
        } else {
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            io::copy(&mut entry, &mut File::create(&path).expect("a file")).expect("the file is unpacked");
        }
        fs::set_permissions(&path, mode).expect("its mode");
        if path.ends_with("state.json") || path.ends_with("info.json") {
            let text = fs::read_to_string(&path).expect("text");
            fs::write(&path, keep(&text)).expect("it is written");
        }
    }
    folder
}

fn has_cursor_key(name: &str) -> bool {
    let file = File::open(fixture(name).join("data.zip")).expect("the fixture is there");
    zip::ZipArchive::new(file).expect("an archive").index_for_name("cursors.key").is_some()
}

/// Returns the record of an export or an upload with an expiry date in the distant future.
fn keep(record: &str) -> String {
    let name = "\"expires_us\":";
    let Some((before, rest)) = record.split_once(name) else { return record.to_owned() };
    let end = rest.find([',', '}']).unwrap_or(rest.len());
    if &rest[..end] == "null" { record.to_owned() } else { format!("{before}{name}{FAR_US}{}", &rest[end..]) }
}

/// Extends the keys of ingests. They are valid for two days, which have passed.
fn keep_ingest_keys(folder: &Folder) {
    let kept: usize = (0..2)
        .map(|shard| {
            let connection = Connection::open(folder.database(shard)).expect("the shard opens");
            connection.execute("UPDATE ingest_key SET expires_us = ?1", [FAR_US]).expect("it has keys")
        })
        .sum();
    assert!(kept >= 3, "the folder has keys: {kept}");
}

/// Sends all requests to a copy of the folder, with the cursors of the known answers. Returns the answers.
fn asked(name: &str, known: Option<&Answers>) -> Answers {
    let made = made(name);
    let folder = unpacked(name);
    let server = serve(&folder);
    let mut answers = Answers::default();
    // Without the cursor key of its time, a folder's cursors are sealed with a new key.
    let known = known.filter(|_| has_cursor_key(name));
    let stored = wait_until_stored(&server);
    answers.note("stored", &format!("{stored}\n"));
    answers.ask_all(&server, &requests::reads(&made), known);
    answers.ask_all(&server, &requests::repeats(&made), known);
    answers.ask_all(&server, &requests::continued(&made), known);
    wait_until_stored(&server);
    server.stop();
    verify(&folder);

    // The keys of ingests, with the rows of the same ingest in another shard.
    let folder = unpacked(name);
    keep_ingest_keys(&folder);
    let server = serve(&folder);
    wait_until_stored(&server);
    answers.ask_all(&server, &requests::ingests(&made), known);
    server.stop();
    verify(&folder);
    answers
}

/// Waits until the journals are empty, and returns the number of rows in all databases.
fn wait_until_stored(server: &Server) -> Value {
    server.wait_until_stored()["database_events"].clone()
}

#[track_caller]
fn verify(folder: &Folder) {
    for flag in ["--aggregates", "--stock"] {
        let output = program().args(["verify", flag, "--data"]).arg(folder.data()).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
    }
}

fn assert_same(name: &str) {
    let recorded = Answers::read(&fixture(name).join("answers"));
    assert!(recorded.len() > 40, "{name} has answers");
    let differences = recorded.differences(&asked(name, Some(&recorded)));
    assert!(differences.is_empty(), "{name}:\n{}", differences.join("\n"));
}

#[test]
fn a_folder_made_at_e3cb17d_is_served_as_it_was() {
    assert_same(FOLDERS[0]);
}

#[test]
fn a_folder_made_at_e36fdf2_is_served_as_it_was() {
    assert_same(FOLDERS[1]);
}

#[test]
#[ignore = "makes a fixture"]
fn make() {
    make::make(&given("TEST_FOLDER").expect("TEST_FOLDER names the fixture"));
}

#[test]
#[ignore = "records the answers of a fixture"]
fn record() {
    let name = given("TEST_FOLDER").expect("TEST_FOLDER names the fixture");
    asked(&name, None).write(&fixture(&name).join("answers"));
}

#[test]
fn a_record_is_kept_from_expiring() {
    assert_eq!(keep("{\"expires_us\":12,\"b\":1}"), format!("{{\"expires_us\":{FAR_US},\"b\":1}}"));
    assert_eq!(keep("{\"expires_us\":12}"), format!("{{\"expires_us\":{FAR_US}}}"));
    assert_eq!(keep("{\"expires_us\":null}"), "{\"expires_us\":null}");
    assert_eq!(keep("{}"), "{}");
}
