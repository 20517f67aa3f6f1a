//! Habits of users of other shells: commands, files, and errors with their places.

use std::fs;

use super::piped;
use crate::support::{Folder, command};

fn folder() -> Folder {
    let folder = Folder::new();
    folder.serve(&["--shards", "2"]).stop();
    folder
}

/// Runs these commands, and returns the exit code, the output and the messages.
fn ran(folder: &Folder, commands: &[&str]) -> (Option<i32>, String, String) {
    let mut command = command();
    command.args(["sql", "--data"]).arg(folder.data());
    for text in commands {
        command.args(["-c", text]);
    }
    let output = command.output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn views_are_listed_by_name_and_by_pattern() {
    let folder = folder();
    let (code, shown, _) = ran(&folder, &[".tables"]);
    assert_eq!((code, shown.lines().count()), (Some(0), 12));
    let (code, shown, _) = ran(&folder, &[".tables ord%"]);
    assert_eq!((code, shown.as_str()), (Some(0), "orders\norder_items\n"));
    let (code, shown, _) = ran(&folder, &[".schema tenants"]);
    assert!(
        code == Some(0) && shown.contains("CREATE VIEW tenants (\n  tenant_id  -- text\n);\n"),
        "{shown}"
    );
    let (code, shown, _) = ran(&folder, &[".schema ORDER%;"]);
    assert!(code == Some(0) && shown.matches("CREATE VIEW").count() == 2, "{shown}");
    assert!(shown.contains("-- index: tenant_id, order_id\n"), "{shown}");
    for command in [".schema order", ".tables nothing"] {
        let (code, shown, said) = ran(&folder, &[command]);
        assert_eq!((code, shown.as_str()), (Some(1), ""), "{command}");
        assert!(
            said.starts_with("firehose: there is no view ") && said.contains(".tables lists them"),
            "{said}"
        );
    }
    let (code, shown, _) = ran(&folder, &["PRAGMA table_info(tenants)", "EXPLAIN SELECT * FROM tenants"]);
    assert!(
        code == Some(0)
            && shown.contains("tenant_id,TEXT")
            && shown.contains("OpenRead") | shown.contains("VOpen")
    );
}

#[test]
fn several_statements_and_commands_fit_in_one_argument() {
    let folder = folder();
    let (code, shown, _) = ran(
        &folder,
        &["SELECT 1 AS a; SELECT 2 AS b", ".headers off\nSELECT 3;\n.quit\nSELECT 4", "SELECT 5"],
    );
    assert_eq!((code, shown.as_str()), (Some(0), "a\r\n1\r\nb\r\n2\r\n3\r\n"));
    let (_, shown, _) = ran(&folder, &[".mode column\n.headers off\nSELECT 1 AS a;.mode json"]);
    assert_eq!(shown, "1\n(1 row)\n");
    let (_, shown, _) = ran(&folder, &[".format", ".mode ndjson", ".mode"]);
    assert_eq!(shown, "csv\nndjson\n");
    let (_, shown, _) = ran(&folder, &[".help"]);
    for command in [".tables", ".schema", ".mode", ".headers", ".timer", ".stats", ".read", ".quit"] {
        assert!(shown.contains(command), "{shown}");
    }
}

#[test]
fn an_error_names_its_line_and_ends_the_input() {
    let folder = folder();
    let (input, after) = ("-- a report\nSELECT 1 AS a;\n\nSELECT *\n  FROM nowhere;", "\nSELECT 2 AS b;\n");
    let output = piped(&folder.data(), &[], &format!("{input}{after}"));
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b"a\r\n1\r\n"[..]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.starts_with("firehose: no such table: nowhere (line "), "{said}");
    for (input, line) in [
        ("SELECT 1;\n\nINSERT INTO orders (id) VALUES (1);\n", "(line 3)"),
        ("SELECT 1;\n.tables\n.nothing\n", "(line 3)"),
        ("SELECT 1;\nSELECT 1,\n  nil;\n", "(line 3, column 3)"),
        ("SELECT 1;\nSELECT 'open\n", "(line 2"),
    ] {
        let output = piped(&folder.data(), &[], input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(line), "{input}: {said}");
    }
    let unfinished = piped(&folder.data(), &[], "SELECT 1 AS a;\nSELECT 2\n  AS b\n");
    assert_eq!(
        (unfinished.status.code(), unfinished.stdout.as_slice()),
        (Some(0), &b"a\r\n1\r\nb\r\n2\r\n"[..])
    );
}

#[test]
fn a_file_is_read_with_its_commands() {
    let folder = folder();
    let (report, outer) = (folder.beside("a report.sql"), folder.beside("outer.sql"));
    fs::write(&report, ".mode ndjson\nSELECT 1 AS a;\nSELECT 2\n AS b").expect("a file");
    fs::write(&outer, format!(".read '{}'\nSELECT 3 AS c;\nSELECT nil;\n", report.display()))
        .expect("a file");
    let (code, shown, _) = ran(&folder, &[&format!(".read {}", report.display())]);
    assert_eq!((code, shown.as_str()), (Some(0), "{\"a\":1}\n{\"b\":2}\n"));
    let (code, shown, said) = ran(&folder, &[&format!(".read {}", outer.display())]);
    assert_eq!((code, shown.as_str()), (Some(1), "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n"));
    assert!(said.contains("outer.sql: no such column: nil (line 3, column 8)"), "{said}");
    fs::write(&outer, format!(".read {}", outer.display())).expect("a file");
    let (code, _, said) = ran(&folder, &[&format!(".read {}", outer.display())]);
    assert!(code == Some(1) && said.contains("already read one another"), "{said}");
    let (code, _, said) = ran(&folder, &[".read nowhere.sql"]);
    assert!(code == Some(1) && said.contains("nowhere.sql: No such file"), "{said}");
}

#[test]
fn a_refusal_says_what_exists_instead() {
    let folder = folder();
    for (text, why) in [
        (".output x.csv", "redirect it to a file"),
        (".dump", "firehose backup"),
        (".import x.csv orders", "only reads"),
        (".open other", "--data"),
        (".mode html", "table, csv, json and ndjson"),
        (".timer", "on or off"),
        (".help me", "no argument"),
        (".read", "name of a file"),
        ("UPDATE orders SET total = 0", "firehose sql only reads"),
        ("DELETE FROM orders", "firehose sql only reads"),
    ] {
        let (code, _, said) = ran(&folder, &[text]);
        assert!(code == Some(1) && said.contains(why), "{text}: {said}");
    }
    let output = command().args(["sql", "-csv", "--data"]).arg(folder.data()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--format csv"));
}
