//! Plain English: no text that people read contains a phrase that CONTRIBUTING.md lists.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use firehose::cli::Cli;
use serde_json::Value;

use crate::support::Folder;

/// A row of the table in CONTRIBUTING.md: phrases to avoid, and longer ones that may contain them.
struct Rule {
    avoid: Vec<String>,
    except: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads the table below the heading "English" whose first column is "not".
fn rules() -> Vec<Rule> {
    let text = read(&root().join("CONTRIBUTING.md"));
    let (_, english) = text.split_once("\n## English\n").expect("the section on English");
    let (_, rows) = english.split_once("\n| not | but | except |\n").expect("the table of words");
    let phrases = |cell: &str| -> Vec<String> {
        let phrases = cell.split(',').map(|phrase| phrase.trim().to_lowercase());
        phrases.filter(|phrase| !phrase.is_empty()).collect()
    };
    let rows = rows.lines().skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 3, "{row}");
        Rule { avoid: phrases(cells[0]), except: phrases(cells[2]) }
    })
    .collect()
}

/// Returns the positions at which a phrase occurs as whole words.
fn places(text: &str, phrase: &str) -> Vec<usize> {
    let is_word = |next: char| next.is_alphanumeric() || next == '_' || next == '\'';
    let found = text.match_indices(phrase).map(|(at, _)| at);
    let whole =
        found.filter(|at| !text[..*at].ends_with(is_word) && !text[at + phrase.len()..].starts_with(is_word));
    whole.collect()
}

/// Returns the phrases to avoid that a text contains. Text in backticks is code and is ignored.
fn phrases_in(text: &str, rules: &[Rule]) -> Vec<String> {
    let prose: String = text.split('`').step_by(2).collect::<Vec<_>>().join("`");
    let prose = prose.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let mut found = Vec::new();
    for rule in rules {
        let allowed = rule.except.iter().fold(prose.clone(), |text, phrase| text.replace(phrase, "-"));
        found.extend(rule.avoid.iter().filter(|phrase| !places(&allowed, phrase).is_empty()).cloned());
    }
    found
}

/// Collects the violations in the texts of one source.
#[derive(Default)]
struct Report {
    texts: usize,
    wrong: Vec<String>,
}

impl Report {
    fn check(&mut self, place: &str, text: &str, rules: &[Rule]) {
        self.texts += 1;
        for phrase in phrases_in(text, rules) {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            self.wrong.push(format!("{place}: \"{phrase}\" in: {text}"));
        }
    }

    #[track_caller]
    fn finish(self, texts_min: usize) {
        assert!(self.texts >= texts_min, "only {} texts were found", self.texts);
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
    }
}

/// Collects every string in a JSON document.
fn strings<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(members) => members.values().for_each(|member| strings(member, found)),
        _ => {}
    }
}

/// Returns the paragraphs of a page without its blocks of code.
fn paragraphs(page: &str) -> Vec<String> {
    let prose: String = page.split("```").step_by(2).collect::<Vec<_>>().join("\n\n");
    let lines = prose.lines().map(|line| if line.starts_with("    ") { "" } else { line });
    let prose = lines.collect::<Vec<_>>().join("\n").replace("\n|", "\n\n|");
    prose.split("\n\n").map(str::to_owned).collect()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns the string literals of a source file, each with the source before it. Comments, raw strings, characters and
/// lifetimes are skipped.
fn literals(source: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = source[at..].find(['/', '"', '\'', 'r']) {
        let start = at + offset;
        let rest = &source[start..];
        if rest.starts_with("//") {
            at = start + rest.find('\n').unwrap_or(rest.len());
        } else if let Some(hashes) = raw_string(&source[..start], rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = start + hashes + 2;
            at = source[body..].find(&end).map_or(source.len(), |length| body + length + end.len());
        } else if let Some(body) = rest.strip_prefix('"') {
            let mut escaped = false;
            let end = body.find(|next| {
                let is_end = next == '"' && !escaped;
                escaped = next == '\\' && !escaped;
                is_end
            });
            let end = end.expect("a literal has an end");
            found.push((&source[..start], unfolded(&body[..end])));
            at = start + end + 2;
        } else if let Some(body) = rest.strip_prefix('\'') {
            // The second quote of a character follows directly; a lifetime has none.
            let length = match body.strip_prefix('\\') {
                Some(escape) => escape.find('\'').filter(|end| *end > 0).map_or(3, |end| end + 2),
                None => body.chars().next().map_or(0, char::len_utf8),
            };
            let is_character = body.get(length..).is_some_and(|rest| rest.starts_with('\''));
            at = start + 1 + if is_character { length + 1 } else { 0 };
        } else {
            at = start + 1;
        }
    }
    found
}

/// Returns the number of `#` if a raw string begins here.
fn raw_string(before: &str, rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let is_own_word =
        !before.trim_end_matches(['b', 'c']).ends_with(|next: char| next.is_alphanumeric() || next == '_');
    (is_own_word && after[hashes..].starts_with('"')).then_some(hashes)
}

/// Returns a literal's text with its line continuations removed.
fn unfolded(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |text, line| text + line.trim_start()).replace("\\n", "\n").replace("\\\"", "\"")
}

/// Returns a format string without the names of its arguments.
fn without_names(text: &str) -> String {
    let mut parts = text.split('{');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "{" + part.find('}').map_or(part, |end| &part[end..]))
}

/// Returns `true` for SQL: statements and their comments are formats on disk.
fn is_sql(text: &str) -> bool {
    const VERBS: [&str; 10] =
        ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "WITH", "PRAGMA", "BEGIN"];
    let first = text.split_whitespace().next().unwrap_or_default();
    VERBS.contains(&first) || text.starts_with('\n')
}

#[test]
fn what_the_server_serves_is_plain_english() {
    let (rules, folder) = (rules(), Folder::new());
    let server = folder.serve(&[]);
    let mut report = Report::default();
    let document = server.get("/openapi.json").json();
    let mut texts = Vec::new();
    strings(&document, &mut texts);
    texts.iter().for_each(|text| report.check("openapi.json", text, &rules));
    let list = String::from_utf8(server.get("/docs/problems/").body).expect("the list is UTF-8");
    let slugs = list.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let pages: Vec<&str> = slugs.filter(|slug| !slug.contains("://")).collect();
    assert!(pages.len() > 50, "{pages:?}");
    for page in pages {
        let path = if page.starts_with('/') { page.to_owned() } else { format!("/docs/problems/{page}") };
        let answer = server.get(&path);
        assert_eq!(answer.status, 200, "{path}");
        report.check(&path, &String::from_utf8(answer.body).expect("a page is UTF-8"), &rules);
    }
    let mut client = server.client();
    let dashboard = client.get_as("/", "text/html").expect("the server answers");
    report.check("/", &String::from_utf8(dashboard.body).expect("the page is UTF-8"), &rules);
    let metrics = String::from_utf8(server.get("/metrics").body).expect("the page is UTF-8");
    metrics
        .lines()
        .filter(|line| line.starts_with("# HELP"))
        .for_each(|line| report.check("/metrics", line, &rules));
    server.stop();
    report.finish(1_000);
}

#[test]
fn help_and_settings_are_plain_english() {
    fn walk(command: &mut clap::Command, report: &mut Report, rules: &[Rule]) {
        let name = command.get_name().to_owned();
        report.check(&format!("{name} --help"), &command.render_long_help().to_string(), rules);
        command.get_subcommands_mut().for_each(|command| walk(command, report, rules));
    }
    let (rules, mut report) = (rules(), Report::default());
    walk(&mut Cli::command(), &mut report, &rules);
    let settings = Folder::new().run(&["config"]);
    assert!(settings.status.success(), "{settings:?}");
    report.check("firehose config", &String::from_utf8_lossy(&settings.stdout), &rules);
    report.finish(20);
}

#[test]
fn the_documents_are_plain_english() {
    let (rules, mut report) = (rules(), Report::default());
    let mut pages: Vec<PathBuf> =
        ["README.md", "SECURITY.md", "CHANGELOG.md", "tuning.md", "bench/load/README.md"]
            .map(|name| root().join(name))
            .into();
    pages.extend(
        fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("an entry").path()),
    );
    for page in pages {
        paragraphs(&read(&page))
            .iter()
            .for_each(|text| report.check(&page.display().to_string(), text, &rules));
    }
    report.finish(300);
}

#[test]
fn the_messages_in_the_code_are_plain_english() {
    let (rules, mut report, mut files) = (rules(), Report::default(), Vec::new());
    rust_files(&root().join("src"), &mut files);
    for path in files {
        let name = path.strip_prefix(root()).expect("it is below the root").display().to_string();
        let source = read(&path);
        // Text that only a test reads is not a message.
        let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        if name.contains("/tests") || name.ends_with("measure.rs") {
            continue;
        }
        for (before, text) in literals(code) {
            let is_for_developers = ["expect(", "reason = ", "ignore = "]
                .iter()
                .any(|end| before.trim_end().ends_with(end.trim_end()));
            let text = without_names(&text);
            if text.contains(' ') && !is_sql(&text) && !is_for_developers {
                report.check(&format!("{name}:{}", before.lines().count()), &text, &rules);
            }
        }
    }
    report.finish(1_000);
}

#[test]
fn a_word_to_avoid_is_found_and_a_good_sentence_is_not() {
    let rules = rules();
    assert!(rules.len() > 20 && rules.iter().all(|rule| !rule.avoid.is_empty()));
    let found = |text: &str| phrases_in(text, &rules);
    assert_eq!(found("100 unless told."), ["told", "unless told"]);
    assert_eq!(found("price is no\n decimal like 19.99"), ["is no"]);
    assert_eq!(found("The second one STANDS."), ["stands"]);
    assert_eq!(
        found("There is no order; the key is no longer valid. Outstanding. `told` and `is no` are code."),
        [""; 0]
    );
    let source = "f(\"a \\\"b\\\" \\\n   c\", 'x', '\"', '\\'', b\"d e\"); // \"not this\"\nlet a: &'a str = r#\"nor \" this\"#; \"g h\"";
    let texts: Vec<String> = literals(source).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["a \"b\" c", "d e", "g h"]);
    assert_eq!(
        paragraphs("one\ntwo\n\n```sh\nthree\n```\n| a |\n| b |\n").join("/"),
        "one\ntwo///| a |/| b |"
    );
}
