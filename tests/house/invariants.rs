//! Every invariant of the map has its id in the name of a test, in each file that its row names.

use std::path::{Path, PathBuf};

use super::tokens::{is_sequence, tokens};
use super::{files, read, root, spans};

/// Held by a measurement: no test asserts what a process asks of its kernel.
const MEASURED: [&str; 1] = ["S2"];

/// The rows of the map's table: an id, and the files that its last column names.
fn rows(map: &str) -> Vec<(&str, Vec<&str>)> {
    let mut rows = Vec::new();
    for line in map.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let columns: Vec<_> = line.trim_end_matches('|').split('|').map(str::trim).collect();
        let is_id = |text: &str| {
            text.len() == 2
                && text.starts_with(|first: char| first.is_ascii_uppercase())
                && text.ends_with(|last: char| last.is_ascii_digit())
        };
        if let [id, .., tests] = columns[..]
            && is_id(id)
        {
            let named = spans(tests).into_iter().map(|(_, span)| span).filter(|span| span.ends_with(".rs"));
            rows.push((id, named.collect()));
        }
    }
    rows
}

/// The names of a file's tests.
fn tests_of(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let mut names = Vec::new();
    for at in 0..tokens.len() {
        if is_sequence(&tokens[at..], &["#", "[", "test", "]"])
            && let Some(function) = tokens[at..].iter().position(|token| token.text == "fn")
            && let Some(name) = tokens.get(at + function + 1)
        {
            names.push(name.text.to_owned());
        }
    }
    names
}

/// A file and those of the modules it declares, which lie beside it or in its folder; `support` is everybody's.
fn with_modules(file: &Path) -> Vec<PathBuf> {
    let text = read(file);
    let tokens = tokens(&text);
    let folder = file.parent().expect("a folder");
    let mut all = vec![file.to_owned()];
    for at in 0..tokens.len().saturating_sub(2) {
        let name = tokens[at + 1].text;
        if tokens[at].text == "mod" && tokens[at + 2].text == ";" && name != "support" {
            for beside in [folder.to_owned(), file.with_extension("")] {
                all.extend(files(&beside.join(name), "rs"));
                all.extend(Some(beside.join(format!("{name}.rs"))).filter(|path| path.exists()));
            }
        }
    }
    all
}

#[test]
fn every_invariant_is_in_the_name_of_a_test_that_holds_it() {
    let map = read(&root().join("src/lib.rs"));
    let rows = rows(&map);
    assert!(rows.len() > 20, "the table was not found: {rows:?}");
    let mut missing = Vec::new();
    for (id, named) in rows {
        if named.is_empty() && !MEASURED.contains(&id) {
            missing.push(format!("{id} names no file of tests"));
        }
        let word = id.to_ascii_lowercase();
        for file in named {
            let names = with_modules(&root().join(file)).into_iter().flat_map(|path| tests_of(&read(&path)));
            if !names.into_iter().any(|name| name.split('_').any(|part| part == word)) {
                missing.push(format!("{file} has no test with {word} in its name"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn the_table_and_the_tests_are_read_as_they_are_written() {
    let map = "//! | id | promise | test |\n//! | --- | --- | --- |\n//! | W1 | it | stays | `tests/a.rs`, `src/b.rs`; by its type |\n\
               //! | S2 | none | `strace -c`, in `tuning.md` |\n//! | 5 | [`ops`] | log |\n";
    assert_eq!(rows(map), [("W1", vec!["tests/a.rs", "src/b.rs"]), ("S2", vec![])]);
    let text = "#[test]\nfn w1_it_holds() {}\nfn helper() {}\nproptest! { #[test]\n #[ignore]\n fn w2(x in 0..3) {} }";
    assert_eq!(tests_of(text), ["w1_it_holds", "w2"]);
}
