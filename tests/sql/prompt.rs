//! The prompt, as a person at a terminal meets it: Python runs the program under a pseudo terminal.

use std::process::Command;

use crate::support::{Folder, command, skip};

/// Sends each text once the one before it has had its effect. Prints the exit code and what the terminal showed.
const PERSON: &str = r#"
import json, os, pty, select, sys
program, steps = sys.argv[3:], json.loads(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(TERM="xterm", XDG_STATE_HOME=sys.argv[2])
    os.execv(program[0], program)
shown, seen = b"", 0
for text, expected in steps:
    os.write(terminal, text.encode())
    for part in expected:
        while shown.find(part.encode(), seen) < 0:
            ready, _, _ = select.select([terminal], [], [], 60)
            try:
                more = os.read(terminal, 65536) if ready else b""
            except OSError:
                more = b""
            if not more:
                sys.exit("no %r after %r: %r" % (part, text, shown[seen:]))
            shown += more
        seen = shown.find(part.encode(), seen) + len(part)
try:
    while more := os.read(terminal, 65536):
        shown += more
except OSError:
    pass
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps([code, shown.decode(errors="replace")]))
"#;

/// Runs the prompt with texts that are sent and the parts of its output that follow each. Returns the exit code and the
/// output.
fn typed(folder: &Folder, steps: &[(&str, &[&str])]) -> Option<(i64, String)> {
    typed_by(PERSON, folder, steps)
}

fn typed_by(person: &str, folder: &Folder, steps: &[(&str, &[&str])]) -> Option<(i64, String)> {
    let steps = serde_json::to_string(steps).expect("JSON");
    let data = folder.data();
    let mut python = Command::new("python3");
    python.args(["-c", person, &steps]).arg(folder.beside("state")).arg(command().get_program());
    let output = match python.args(["sql", "--data"]).arg(data).output() {
        Ok(output) => output,
        Err(error) => {
            skip(&format!("no python3: {error}"));
            return None;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("an exit code and the output"))
}

#[test]
fn a_statement_continues_over_lines_and_a_paste_is_text() {
    let folder = Folder::new();
    folder.serve(&["--shards", "2"]).stop();
    let code = typed(
        &folder,
        &[
            ("", &["firehose> "]),
            ("SELECT 1 AS one,\r", &["   ...> "]),
            ("2 AS two;\r", &["one | two", "(1 row)", "firehose> "]),
            ("SELECT nil;\r", &["no such column: nil", "firehose> "]),
            // The tabs of a paste complete nothing, and its lines run as one.
            ("\x1b[200~SELECT\t'a\tb' AS\n\tthree, 4 AS four;\nSELECT 5 AS five;\x1b[201~", &["five;"]),
            ("\r", &["three", "four", "a\\tb", "five", "(1 row)", "firehose> "]),
            ("SELECT * FROM \t", &["service_events", "tenants"]),
            // The terminal may still have to be made raw when the sign is shown.
            ("\x03", &["\x1b[?2004l", "\x1b[?2004h", "firehose> ", "\x1b[10C"]),
            ("SELECT count(*) AS n FROM tena\t;\r", &["(1 row)", "firehose> "]),
            (".help\r", &[".tables", ".schema", ".stats", ".read", ".quit", "firehose> "]),
            ("SELECT 6\r", &["   ...> "]),
            ("\x03", &["firehose> "]),
            ("SELECT 7\r", &["   ...> "]),
            ("\x04", &["has no semicolon and was not run"]),
        ],
    );
    assert!(code.is_none_or(|(code, _)| code == 0));
    let code = typed(&folder, &[("", &["firehose> "]), ("exit\r", &[])]);
    assert!(code.is_none_or(|(code, _)| code == 0));
}

/// The terminal leaves the editor's mode after this: the statement runs.
const RUNS: &str = "\x1b[?2004l";
/// A query that only Ctrl-C ends.
const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n;";

#[test]
fn every_statement_that_is_typed_ahead_runs() {
    let folder = Folder::new();
    folder.serve(&["--shards", "2"]).stop();
    // Before the first sign, as from a program.
    let lines = "SELECT 11 AS a;\nSELECT 22 AS b;\nSELECT 33\n AS c;\nSELECT 44 AS d;\n";
    let results = ["11", "22", "33", "44"].map(|number| format!("{number}\r\n(1 row)"));
    let results = results.each_ref().map(String::as_str);
    let found = typed(&folder, &[(lines, &results), ("\x04", &[])]);
    assert!(found.is_none_or(|(code, _)| code == 0));
    // In one piece at the sign. The editor reads no more than 1,024 bytes at once.
    let many: String = (1_001..1_100).map(|number| format!("SELECT {number} AS n;\r")).collect();
    let results: Vec<String> = (1_001..1_100).map(|number| format!("{number}\r\n(1 row)")).collect();
    let results: Vec<&str> = results.iter().map(String::as_str).collect();
    let found = typed(&folder, &[("", &["firehose> "]), (&many, &results), (".quit\r", &[])]);
    assert!(found.is_none_or(|(code, _)| code == 0));
    // While a statement runs, which takes longer than what is typed. Ctrl-D ends the input behind it.
    let slow = ENDLESS.replace("FROM n)", "FROM n WHERE i < 1000000)");
    let steps: &[(&str, &[&str])] = &[
        ("", &["firehose> "]),
        (&format!("{slow}\r"), &[RUNS]),
        ("SELECT 22 AS b;\r", &["SELECT 22"]),
        ("SELECT 33\r", &[]),
        (" AS c;\r\x04", &["1000000\r\n(1 row)", "22\r\n(1 row)", "33\r\n(1 row)"]),
    ];
    let found = typed(&folder, steps);
    assert!(found.is_none_or(|(code, _)| code == 0));
}

#[test]
fn ctrl_c_ends_a_query_and_drops_what_is_typed_ahead() {
    let folder = Folder::new();
    folder.serve(&["--shards", "2"]).stop();
    let steps: &[(&str, &[&str])] = &[
        ("", &["firehose> "]),
        (&format!("{ENDLESS}\rSELECT 22 AS b;\r"), &[RUNS]),
        ("SELECT 33 AS c;\r", &["SELECT 33"]),
        ("\x03", &["interrupted", "firehose> "]),
        ("SELECT 44 AS d;\r", &["44\r\n(1 row)", "firehose> "]),
        (".quit\r", &[]),
    ];
    let Some((code, shown)) = typed(&folder, steps) else { return };
    assert_eq!(code, 0);
    assert!(!shown.contains("22\r\n(1 row)") && !shown.contains("33\r\n(1 row)"), "{shown}");
}

/// Editors that run programs call themselves a terminal without a cursor. There, the terminal edits lines.
#[test]
fn a_terminal_without_a_cursor_keeps_its_mode() {
    let folder = Folder::new();
    folder.serve(&["--shards", "2"]).stop();
    let plain = PERSON.replace("TERM=\"xterm\"", "TERM=\"dumb\"");
    let steps: &[(&str, &[&str])] =
        &[("SELECT 1X\x7f1 AS a;\nSELECT 22 AS b;\n", &["11\r\n(1 row)", "22\r\n(1 row)"]), ("\x04", &[])];
    let found = typed_by(&plain, &folder, steps);
    assert!(found.is_none_or(|(code, _)| code == 0));
}
