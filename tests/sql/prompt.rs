//! The prompt, as a person at a terminal meets it: Python runs the program under a pseudo terminal.

use std::process::Command;

use crate::support::{Folder, command, skip};

/// Sends each text once the one before it has had its effect, and prints what the terminal showed.
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
    while os.read(terminal, 65536):
        pass
except OSError:
    pass
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// Runs the prompt with texts that are sent and the parts of its output that follow each. Returns the exit code.
fn typed(folder: &Folder, steps: &[(&str, &[&str])]) -> Option<String> {
    let steps = serde_json::to_string(steps).expect("JSON");
    let data = folder.data();
    let mut person = Command::new("python3");
    person.args(["-c", PERSON, &steps]).arg(folder.beside("state")).arg(command().get_program());
    let output = match person.args(["sql", "--data"]).arg(data).output() {
        Ok(output) => output,
        Err(error) => {
            skip(&format!("no python3: {error}"));
            return None;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
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
    assert!(code.is_none_or(|code| code == "0"));
    let code = typed(&folder, &[("", &["firehose> "]), ("exit\r", &[])]);
    assert!(code.is_none_or(|code| code == "0"));
}
