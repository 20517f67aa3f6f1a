//! Rules of the project that a compiler does not check: the direction of imports, who may read a clock or open a
//! database, and that everything the documents name exists.

#[path = "house/figures.rs"]
mod figures;
#[path = "house/imports.rs"]
mod imports;
#[path = "house/invariants.rs"]
mod invariants;
#[path = "house/tokens.rs"]
mod tokens;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use firehose::cli::Cli;
use firehose::config::SETTINGS;

/// Folders of `src/` from the bottom up: a folder imports only from lower ranks.
const RANKS: &[&[&str]] = &[
    &["base"],
    &["config", "event", "sketch", "unpack"],
    &["http", "cores", "journal", "shard"],
    &["tenants"],
    &["ingest", "query"],
    &["ops"],
    &["api"],
    &["lane"],
    &["clicks", "events", "orders", "prices", "sales", "stock", "uploads", "exports"],
    &["people", "products", "status"],
    &["families"],
    &["server", "gen_dataset", "ship", "sql"],
    &["cli"],
];

/// Folders that contain one feature each. A feature imports another only if [`SIDEWAYS`] lists the pair.
const FEATURES: &[&str] = &[
    "clicks", "events", "orders", "prices", "sales", "stock", "uploads", "exports", "people", "products",
    "status",
];

/// Folders that only one other folder imports.
const ONLY_FOR: &[(&str, &str)] = &[("gen_dataset", "cli"), ("sql", "cli")];

/// Imports between folders of one rank, each with its reason.
const SIDEWAYS: &[(&str, &str, &str)] = &[
    ("sales", "orders", "sums are of orders, and their transaction writes them"),
    ("uploads", "orders", "an upload is an ingest of orders that may pause"),
    ("exports", "orders", "an export is of orders"),
    ("exports", "events", "or of service events"),
    ("exports", "clicks", "or of clicks"),
    ("prices", "orders", "a price event may have an idempotency key, which ingests of orders keep"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every file below a folder that has this extension.
fn files(under: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![under.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|known| known == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the source without comments, which may mention anything.
fn code(path: &Path) -> String {
    read(path).lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// Returns the names that follow a prefix, including those in braces: `crate::api`, `crate::{api, base::ids}`.
fn names_after<'t>(text: &'t str, prefix: &str) -> Vec<&'t str> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        // Skips the end of a longer name.
        if text[..at].ends_with(|before: char| is_name(before) || before == ':' || before == '$') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => names.push(rest.split(|next| !is_name(next)).next().unwrap_or_default()),
            Some(group) => {
                let (mut depth, mut start) = (1, true);
                for (index, next) in group.char_indices() {
                    match next {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                    if depth == 1 && start && is_name(next) {
                        names.push(group[index..].split(|next| !is_name(next)).next().unwrap_or_default());
                    }
                    start = depth == 1 && (next == ',' || (start && next.is_whitespace()));
                }
            }
        }
    }
    names
}

fn rank(folder: &str) -> Option<usize> {
    RANKS.iter().position(|folders| folders.contains(&folder))
}

/// Returns the rule that an import violates, if any.
fn objection(from: &str, to: &str) -> Option<String> {
    let (Some(here), Some(there)) = (rank(from), rank(to)) else {
        return Some(format!("{from} or {to} has no rank: give it one in tests/house.rs"));
    };
    if let Some((_, only)) =
        ONLY_FOR.iter().find(|(folder, only)| *folder == to && ![to, *only].contains(&from))
    {
        return Some(format!("{from} imports {to}, which is for {only} alone"));
    }
    let is_listed = SIDEWAYS.iter().any(|(listed, other, _)| (*listed, *other) == (from, to));
    match from == to || there < here || (there == here && is_listed) {
        true => None,
        false => Some(format!("{from} (rank {here}) imports {to} (rank {there})")),
    }
}

#[test]
fn imports_only_go_down() {
    let src = root().join("src");
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for path in files(&src, "rs") {
        let inside = path.strip_prefix(&src).expect("it is below src");
        // lib.rs and main.rs rank above all folders and are not checked.
        let Some(folder) = inside.parent().and_then(|parent| parent.components().next()) else { continue };
        let folder = folder.as_os_str().to_str().expect("a plain name");
        // The other way to import: `super` up to the root.
        let depth = inside.components().count() - usize::from(inside.ends_with("mod.rs"));
        let imports_of = |text: &str| -> BTreeSet<String> {
            let up =
                names_after(text, &"super::".repeat(depth)).into_iter().filter(|name| rank(name).is_some());
            names_after(text, "crate::").into_iter().chain(up).map(str::to_owned).collect()
        };
        let text = code(&path);
        let shipped = imports_of(&without_test_code(inside, &text));
        let imports = imports_of(&text);
        for import in imports {
            seen.insert((folder.to_owned(), import.clone()));
            // A test of a lower folder needs records to store, so it may import features.
            let is_stored = FEATURES.contains(&import.as_str()) || import == "families";
            if is_stored && !shipped.contains(&import) {
                continue;
            }
            if let Some(objection) = objection(folder, &import) {
                wrong.push(format!("{}: {objection}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen.len() > 20, "the imports were not found: {seen:?}");
    for (from, to, reason) in SIDEWAYS {
        assert!(seen.contains(&((*from).to_owned(), (*to).to_owned())), "{from} → {to} is gone ({reason})");
    }
}

#[test]
fn the_import_rule_sees_every_way_of_writing_one() {
    let text = "use crate::api;\nuse crate::{base::{ids::X, limits}, cores::pin, \n    shard};\nlet x = crate::ops::y();\n$crate::no";
    assert_eq!(names_after(text, "crate::"), ["api", "base", "cores", "shard", "ops"]);
    assert_eq!(names_after("super::super::journal::x", "super::super::"), ["journal"]);
    assert_eq!(names_after("super::super::super::journal::x", "super::super::"), ["super"]);
    assert!(objection("base", "config").is_some() && objection("http", "shard").is_some());
    assert!(objection("server", "base").is_none() && objection("shard", "shard").is_none());
    assert!(objection("attic", "base").is_some());
    assert!(objection("server", "gen_dataset").is_some() && objection("cli", "gen_dataset").is_none());
    assert!(objection("stock", "orders").is_some() && objection("exports", "orders").is_none());
}

/// Returns the text of a file without its test code; empty for a file of tests.
fn without_test_code(inside: &Path, text: &str) -> String {
    let inside = inside.display().to_string();
    let is_test = inside.contains("/tests/") || inside.ends_with("tests.rs");
    if is_test {
        String::new()
    } else {
        text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
    }
}

/// Returns the source files that contain one of these words outside of tests.
fn users(words: &[&str]) -> Vec<String> {
    let src = root().join("src");
    let mut found = Vec::new();
    for path in files(&src, "rs") {
        let inside = path.strip_prefix(&src).expect("it is below src");
        let text = without_test_code(inside, &code(&path));
        if words.iter().any(|word| text.contains(word)) {
            found.push(inside.display().to_string());
        }
    }
    found
}

#[test]
fn only_the_clock_reads_the_clock() {
    assert_eq!(users(&["Instant::now", "SystemTime::now"]), ["base/clock.rs"]);
}

#[test]
fn w3_sqlite_is_opened_in_one_place() {
    assert_eq!(
        users(&["Connection::open", "sqlite3_open", "Connection::open_in_memory"]),
        ["shard/open.rs"],
        "W3 wants one place that knows how a shard is opened"
    );
}

#[test]
fn every_file_says_in_its_first_line_what_it_is() {
    let mut silent = Vec::new();
    for path in ["src", "tests"].iter().flat_map(|folder| files(&root().join(folder), "rs")) {
        let text = read(&path);
        if !text.trim().is_empty() && !text.starts_with("//! ") {
            silent.push(path);
        }
    }
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn every_file_of_tests_is_part_of_a_program() {
    let (all, manifest) = (read(&root().join("tests/all.rs")), read(&root().join("Cargo.toml")));
    let mut forgotten = Vec::new();
    for entry in fs::read_dir(root().join("tests")).expect("the tests are there") {
        let path = entry.expect("an entry").path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".rs")) else {
            continue;
        };
        let is_module = all.lines().any(|line| line == format!("mod {name};"));
        if !is_module && !manifest.contains(&format!("path = \"tests/{name}.rs\"")) {
            forgotten.push(path);
        }
    }
    assert!(forgotten.is_empty(), "name them in tests/all.rs: {forgotten:?}");
}

// ── what the documents name ─────────────────────────────────────────────────────────────────────────

/// Returns the documents, with the map of the source.
fn documents() -> Vec<(String, String)> {
    let mut found: Vec<_> = ["README.md", "tuning.md", "CONTRIBUTING.md"]
        .into_iter()
        .map(|name| (name.to_owned(), read(&root().join(name))))
        .collect();
    for path in files(&root().join("docs"), "md") {
        let name = path.strip_prefix(root()).expect("it is below the root").display().to_string();
        found.push((name, read(&path)));
    }
    // The map, as a document.
    let map = read(&root().join("src/lib.rs"));
    let lines = map.lines().map_while(|line| line.strip_prefix("//!"));
    found.push(("src/lib.rs".to_owned(), lines.map(|line| line.trim_start()).collect::<Vec<_>>().join("\n")));
    found
}

/// Returns the code in a document: the text between backticks, and the lines of fenced blocks, which have `true`.
fn spans(text: &str) -> Vec<(bool, &str)> {
    let (mut spans, mut fenced) = (Vec::new(), false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            spans.push((true, line));
        } else {
            spans.extend(line.split('`').skip(1).step_by(2).map(|span| (false, span)));
        }
    }
    spans
}

/// Returns the targets of links such as `](this)` in a document, without other sites and places within a page.
fn links(text: &str) -> Vec<&str> {
    let ends = text.match_indices("](").filter_map(|(at, _)| text[at + 2..].split([')', '#']).next());
    ends.filter(|target| !target.is_empty() && !target.contains("::") && !target.contains("://"))
        .filter(|target| !target.starts_with('/'))
        .collect()
}

/// Returns every `--flag` of every command, and every possible flag of the bench driver, whose flags are fields.
fn flags() -> BTreeSet<String> {
    fn collect(command: &clap::Command, flags: &mut BTreeSet<String>) {
        let longs = command.get_arguments().filter_map(clap::Arg::get_long);
        flags.extend(longs.map(|long| format!("--{long}")));
        command.get_subcommands().for_each(|command| collect(command, flags));
    }
    let mut flags = BTreeSet::from(["--help".to_owned(), "--version".to_owned()]);
    collect(&Cli::command(), &mut flags);
    for path in files(&root().join("bench/src"), "rs") {
        let text = read(&path);
        let fields = text.lines().filter_map(|line| line.split_once(": ")?.0.split_whitespace().last());
        let names = fields.filter(|name| name.chars().all(is_name));
        flags.extend(names.map(|name| format!("--{}", name.replace('_', "-"))));
        // A field may rename its flag: `#[arg(long = "serve")]`.
        let renamed = text.split("long = \"").skip(1).filter_map(|rest| rest.split('"').next());
        flags.extend(renamed.map(|name| format!("--{name}")));
    }
    flags
}

fn flags_in(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("--").filter_map(move |(at, _)| {
        let is_start = !text[..at].ends_with(|before: char| is_name(before) || before == '-');
        let end = text[at + 2..].find(|next: char| !next.is_ascii_lowercase() && next != '-');
        let flag = &text[at..end.map_or(text.len(), |end| at + 2 + end)];
        (is_start && flag.len() > 3 && !flag.ends_with('-') && !flag[2..].starts_with('-')).then_some(flag)
    })
}

/// Returns the part of a command line that this program reads.
fn ours(line: &str) -> &str {
    let starts =
        ["firehose serve", "firehose config", "firehose shards", "firehose verify", "firehose doctor"];
    let others = ["firehose drill", "release -- serve"];
    let start = starts.iter().chain(&others).filter_map(|start| line.find(start)).min();
    let line = start.map_or("", |start| &line[start..]);
    line.split(['|', '#', ';', '&']).next().unwrap_or_default().trim_start_matches("release -- ")
}

#[test]
fn every_path_a_document_names_exists() {
    let tops = ["src/", "tests/", "bench/", "flamegraphs/", "fuzz/", ".ci/", ".cargo/"];
    let mut missing = Vec::new();
    for (name, text) in documents() {
        let beside = root().join(&name).parent().expect("a folder").to_owned();
        for link in links(&text) {
            if !beside.join(link).exists() {
                missing.push(format!("{name}: {link}"));
            }
        }
        for (_, span) in spans(&text) {
            for word in span.split(|next: char| next.is_whitespace() || "\"'(),;:".contains(next)) {
                // Of `src/*/mod.rs` and `src/<folder>`, only the part before the placeholder is checked.
                let word = word.split(['*', '<', '{', '…']).next().unwrap_or_default();
                // The map's own paths begin below `src`.
                let of_map = name == "src/lib.rs" && word.contains('/') && word.ends_with(".rs");
                if of_map && !root().join(word).exists() && !root().join("src").join(word).exists() {
                    missing.push(format!("{name}: {word}"));
                }
                let is_path = tops.iter().any(|top| word.starts_with(top));
                if is_path && !root().join(word).exists() && !beside.join(word).exists() {
                    let stem = word.rsplit_once('/').map_or(word, |(folder, _)| folder);
                    if !span.contains(['*', '<', '{', '…']) || !root().join(stem).exists() {
                        missing.push(format!("{name}: {word}"));
                    }
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn every_flag_and_setting_a_document_names_exists() {
    let flags = flags();
    let mut unknown = Vec::new();
    for (name, text) in documents() {
        for (fenced, span) in spans(&text) {
            let line = if !fenced && span.starts_with("--") { span } else { ours(span) };
            unknown.extend(
                flags_in(line).filter(|flag| !flags.contains(*flag)).map(|flag| format!("{name}: {flag}")),
            );
        }
        for (at, _) in text.match_indices("FIREHOSE_") {
            let rest = &text[at + 9..];
            let end = rest.find(|next: char| !next.is_ascii_uppercase() && next != '_').unwrap_or(rest.len());
            let setting = rest[..end].to_ascii_lowercase();
            let is_known = SETTINGS.iter().any(|spec| spec.name == setting);
            // `FIREHOSE_*` and `FIREHOSE_NAME` mean all of them.
            if !is_known && !["", "name", "config"].contains(&setting.as_str()) {
                unknown.push(format!("{name}: FIREHOSE_{}", &rest[..end]));
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn the_document_rules_see_what_they_look_for() {
    let text = "See `src/base/` and [here](src/lib.rs#map), `--ack disk`.\n```sh\nfirehose serve --data x # --no\n```\n";
    assert_eq!(links(text), ["src/lib.rs"]);
    assert_eq!(
        spans(text),
        [(false, "src/base/"), (false, "--ack disk"), (true, "firehose serve --data x # --no")]
    );
    assert_eq!(ours("cargo run --release -- serve --data x | jq --raw"), "serve --data x ");
    assert_eq!(ours("curl --data x"), "");
    assert_eq!(flags_in("--data x --ack=disk -- a--b ---").collect::<Vec<_>>(), ["--data", "--ack"]);
    assert!(flags().contains("--journal-high-water") && flags().contains("--seconds"));
}
