//! The figures of the code: circles of files, places of a feature, long functions, long files, lines by folder; and
//! the rules on the first and the fourth.
//!
//! `cargo test --test house -- --nocapture figures` prints them.

use std::collections::{BTreeMap, BTreeSet};

use super::imports::Crate;
use super::tokens::{functions, tokens, without_tests};
use super::{files, read, root};

/// A circle of files that import one another may have so many.
const CIRCLE_FILES_MAX: usize = 5;

/// A file may have so many lines, its tests included.
const FILE_LINES_MAX: usize = 700;

/// Larger circles there still are: the folder most of their files lie in, and how many files they have. An entry only
/// ever shrinks, and goes when its circle does.
const CIRCLES: &[(&str, usize)] = &[];

/// Longer files there still are, with their lines. An entry only ever shrinks, and goes when its file is short enough.
const LONG_FILES: &[(&str, usize)] = &[];

/// The features, and the words by which files and folders are named after them.
const FEATURES: &[(&str, &[&str])] = &[
    ("stock", &["stock"]),
    ("prices", &["price", "prices"]),
    ("orders", &["order", "orders"]),
    ("sales", &["sale", "sales"]),
    ("exports", &["export", "exports"]),
    ("uploads", &["upload", "uploads"]),
    ("products", &["product", "products"]),
    ("people", &["people", "person", "customer", "customers"]),
    ("events", &["event", "events"]),
    ("clicks", &["click", "clicks"]),
];

fn the_crate() -> Crate {
    let src = root().join("src");
    Crate::read(&src, &files(&src, "rs"))
}

/// The folder below `src/` that a file lies in; files of the root lie in none.
fn top_folder(file: &str) -> &str {
    file.split_once('/').map_or(".", |(folder, _)| folder)
}

/// Files of which each imports the next and the last the first, largest circle first: strongly connected components.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<&str>> {
    let reached = |from: &str| -> BTreeSet<&str> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(file) = open.pop() {
            for next in imports.get(file).into_iter().flatten() {
                if seen.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let all: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|file| (file.as_str(), reached(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, reach) in all.iter().filter(|(file, reach)| reach.contains(*file)) {
        circles
            .insert(reach.iter().copied().filter(|other| all[other].contains(file)).collect::<BTreeSet<_>>());
    }
    let mut circles: Vec<_> = circles.into_iter().collect();
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    circles
}

/// How many files of a circle lie in each folder, most first.
fn by_folder<'c>(circle: &BTreeSet<&'c str>) -> Vec<(&'c str, usize)> {
    let mut count = BTreeMap::new();
    for file in circle {
        *count.entry(top_folder(file)).or_insert(0) += 1;
    }
    let mut count: Vec<_> = count.into_iter().collect();
    count.sort_by_key(|(folder, files)| (std::cmp::Reverse(*files), *folder));
    count
}

/// The folders in which a feature has a file or a folder of its own.
fn places<'f>(files: &[&'f str], words: &[&str]) -> BTreeSet<&'f str> {
    let mut places = BTreeSet::new();
    for file in files {
        let mut start = 0;
        for part in file.split('/') {
            if part.trim_end_matches(".rs").split('_').any(|word| words.contains(&word)) {
                places.insert(if start == 0 { "." } else { &file[..start - 1] });
                break;
            }
            start += part.len() + 1;
        }
    }
    places
}

/// What must change in a list of what is still too large, held against what there is: grown, new, smaller, gone.
fn differences(listed: &[(&str, usize)], found: &[(&str, usize)]) -> Vec<String> {
    let sizes = |list: &[(&str, usize)], name: &str| {
        let mut sizes: Vec<_> = list.iter().filter(|(of, _)| *of == name).map(|(_, size)| *size).collect();
        sizes.sort_unstable_by_key(|size| std::cmp::Reverse(*size));
        sizes
    };
    let names: BTreeSet<_> = listed.iter().chain(found).map(|(name, _)| *name).collect();
    let mut wrong = Vec::new();
    for name in names {
        let (listed, found) = (sizes(listed, name), sizes(found, name));
        for index in 0..listed.len().max(found.len()) {
            match (listed.get(index), found.get(index)) {
                (Some(listed), Some(found)) if found > listed => {
                    wrong.push(format!("{name}: grown from {listed} to {found}"));
                }
                (Some(listed), Some(found)) if found < listed => {
                    wrong.push(format!("{name}: shrink the list from {listed} to {found}"));
                }
                (Some(listed), None) => wrong.push(format!("{name}: shrink the list, {listed} is gone")),
                (None, Some(found)) => wrong.push(format!("{name}: {found} is too large")),
                _ => {}
            }
        }
    }
    wrong
}

fn lines_of_files() -> Vec<(String, usize)> {
    let src = root().join("src");
    let count = |path: &std::path::PathBuf| {
        let inside = path.strip_prefix(&src).expect("it is below src").display().to_string();
        (inside, read(path).lines().count())
    };
    files(&src, "rs").iter().map(count).collect()
}

#[test]
fn no_circle_of_more_than_five_files_but_those_listed() {
    let imports = the_crate().imports();
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 500, "the imports were not found");
    let circles = circles(&imports);
    let large = circles.iter().filter(|circle| circle.len() > CIRCLE_FILES_MAX);
    let found: Vec<_> = large.map(|circle| (by_folder(circle)[0].0, circle.len())).collect();
    let wrong = differences(CIRCLES, &found);
    assert!(wrong.is_empty(), "circles of files that import one another:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_of_more_than_seven_hundred_lines_but_those_listed() {
    let all = lines_of_files();
    let long = all.iter().filter(|(_, lines)| *lines > FILE_LINES_MAX);
    let found: Vec<_> = long.map(|(file, lines)| (file.as_str(), *lines)).collect();
    let wrong = differences(LONG_FILES, &found);
    assert!(wrong.is_empty(), "files of more than {FILE_LINES_MAX} lines:\n{}", wrong.join("\n"));
}

#[test]
fn figures() {
    let the_crate = the_crate();
    let imports = the_crate.imports();
    let circles = circles(&imports);
    let largest = circles.first().map_or(0, BTreeSet::len);
    let edges = imports.values().map(BTreeSet::len).sum::<usize>();
    println!("files: {}, imports between files: {edges}", imports.len());
    println!("largest circle: {largest} files");
    for circle in circles.iter().filter(|circle| circle.len() > CIRCLE_FILES_MAX) {
        let folders: Vec<_> =
            by_folder(circle).iter().map(|(folder, files)| format!("{folder} {files}")).collect();
        println!("  circle of {}: {}", circle.len(), folders.join(", "));
    }
    let names: Vec<_> = the_crate.files().collect();
    println!("places of a feature:");
    for (feature, words) in FEATURES {
        let places = places(&names, words);
        println!("  {feature}: {} ({})", places.len(), places.into_iter().collect::<Vec<_>>().join(", "));
    }
    let (mut lengths, mut by_folder) = (Vec::new(), BTreeMap::new());
    for file in &names {
        let text = read(&root().join("src").join(file));
        let all = tokens(&text);
        let (kept, _) = without_tests(&all);
        for function in functions(&kept) {
            lengths.push((function.lines, format!("{} in {file}:{}", function.name, function.line)));
        }
        // Comments and blank lines count; what only tests compile is at the end of a file, in the main.
        let is_test = |line: &str| line == "mod tests {";
        *by_folder.entry(top_folder(file)).or_insert(0) +=
            text.lines().take_while(|line| !is_test(line)).count();
    }
    lengths.sort_by(|one, other| other.cmp(one));
    println!("longest functions:");
    for (lines, function) in lengths.iter().take(5) {
        println!("  {lines} lines, {function}");
    }
    println!("files over {FILE_LINES_MAX} lines:");
    for (file, lines) in lines_of_files().iter().filter(|(_, lines)| *lines > FILE_LINES_MAX) {
        println!("  {file}: {lines}");
    }
    println!("lines by folder, without tests: {} in all", by_folder.values().sum::<usize>());
    for (folder, lines) in by_folder {
        println!("  {folder}: {lines}");
    }
}

#[test]
fn the_figures_are_counted_right() {
    let of = |edges: &[(&str, &str)]| {
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            imports.entry((*to).to_owned()).or_default();
            imports.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        imports
    };
    let imports = of(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("e", "d"), ("f", "a")]);
    assert_eq!(circles(&imports), [BTreeSet::from(["a", "b", "c"]), BTreeSet::from(["d", "e"])]);
    assert_eq!(by_folder(&BTreeSet::from(["lib.rs", "x/a.rs", "x/y/b.rs"])), [("x", 2), (".", 1)]);
    let files =
        ["api/stock.rs", "api/schema/stock.rs", "shard/stock/read.rs", "shard/stock/stock.rs", "stocks.rs"];
    assert_eq!(places(&files, &["stock"]), BTreeSet::from(["api", "api/schema", "shard"]));
    assert_eq!(places(&["event/mod.rs", "event/service_event.rs"], &["event"]), BTreeSet::from(["."]));
}

#[test]
fn a_list_of_what_is_too_large_can_only_shrink() {
    let listed = [("a", 9), ("a", 7), ("b", 6)];
    assert!(differences(&listed, &[("b", 6), ("a", 7), ("a", 9)]).is_empty());
    assert_eq!(differences(&listed, &[("a", 10), ("a", 7), ("b", 6)]), ["a: grown from 9 to 10"]);
    assert_eq!(
        differences(&listed, &[("a", 8), ("b", 6), ("c", 8)]),
        ["a: shrink the list from 9 to 8", "a: shrink the list, 7 is gone", "c: 8 is too large"]
    );
}
