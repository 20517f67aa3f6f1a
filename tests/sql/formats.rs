//! The formats, as other programs read them.

use std::fs;
use std::process::Command;

use super::{asked, piped};
use crate::support::{Folder, command, skip};
use serde_json::{Value, json};

/// Texts that a format must escape, as SQL.
const HOSTILE: &str = "SELECT 'a\"b' AS a, 'c,d' AS \"a\", char(10) || 'line' || char(13, 10) AS b, '' AS empty, NULL AS nil, \
    'NULL' AS word, 'ünï 😀' AS emoji, char(27) || '[31m' || char(0) || char(8238) AS control, x'00ff' AS bytes, \
    9223372036854775807 AS big, -9007199254740993 AS odd, 0.1 AS real, 1e300 * 1e10 AS inf, 2.0 AS two";

const PYTHON: &str = r#"
import csv, json, sys
sys.stdout.reconfigure(encoding="utf-8")
csv.field_size_limit(10**9)
if sys.argv[1] == "csv":
    print(json.dumps(list(csv.reader(open(sys.argv[2], encoding="utf-8", newline=""), strict=True))))
elif sys.argv[1] == "json":
    print(json.dumps(json.load(open(sys.argv[2], encoding="utf-8"))))
else:
    print(json.dumps([json.loads(line) for line in open(sys.argv[2], encoding="utf-8", newline="\n")]))
"#;

fn folder_of(shards: &str) -> Folder {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", shards]);
    server.stop();
    folder
}

/// Returns what Python reads from a result in a format.
fn read_by_python(folder: &Folder, format: &str, sql: &str) -> Option<Value> {
    let output = piped(&folder.data(), &["--format", format], sql);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = folder.beside(format);
    fs::write(&path, output.stdout).expect("a file");
    let read = match Command::new("python3").args(["-c", PYTHON, format]).arg(&path).output() {
        Ok(read) => read,
        Err(error) => {
            skip(&format!("no python3: {error}"));
            return None;
        }
    };
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    Some(serde_json::from_slice(&read.stdout).expect("JSON"))
}

#[test]
fn csv_and_json_are_what_python_expects() {
    let folder = folder_of("1");
    let control = "\u{1b}[31m\0\u{202e}";
    if let Some(read) = read_by_python(&folder, "csv", HOSTILE) {
        assert_eq!(
            read,
            json!([
                [
                    "a", "a", "b", "empty", "nil", "word", "emoji", "control", "bytes", "big", "odd", "real",
                    "inf", "two"
                ],
                [
                    "a\"b",
                    "c,d",
                    "\nline\r\n",
                    "",
                    "",
                    "NULL",
                    "ünï 😀",
                    control,
                    "x'00ff'",
                    "9223372036854775807",
                    "-9007199254740993",
                    "0.1",
                    "9e999",
                    "2.0"
                ],
            ])
        );
    }
    for format in ["json", "ndjson"] {
        let Some(read) = read_by_python(&folder, format, &HOSTILE.replace("1e300 * 1e10", "1.5")) else {
            continue;
        };
        assert_eq!(
            read,
            json!([{
                "a": "a\"b", "a:1": "c,d", "b": "\nline\r\n", "empty": "", "nil": null, "word": "NULL",
                "emoji": "ünï 😀", "control": control, "bytes": "00ff", "big": 9_223_372_036_854_775_807_i64,
                "odd": -9_007_199_254_740_993_i64, "real": 0.1, "inf": 1.5, "two": 2.0,
            }])
        );
        let none = "SELECT 1 AS one WHERE 0";
        assert_eq!(read_by_python(&folder, format, none), Some(json!([])));
    }
}

#[test]
fn a_long_value_is_whole_in_every_format() {
    let folder = folder_of("2");
    let sql = "SELECT printf('%.*c', 3000000, 'x') AS long, 1 AS one";
    let rows = asked(&folder.data(), &[sql.to_owned()]);
    assert_eq!(rows[0][0]["long"].as_str().map(str::len), Some(3_000_000));
    for format in ["table", "csv", "ndjson"] {
        let output = piped(&folder.data(), &["--format", format], sql);
        assert!(output.stdout.len() > 3_000_000, "{format}");
    }
    let output = piped(&folder.data(), &[], "SELECT zeroblob(100000000)");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("too big"));
}

#[test]
fn a_table_shows_null_and_obeys_no_control_character() {
    let folder = folder_of("1");
    let output = piped(&folder.data(), &["--format", "table"], &format!("{HOSTILE};SELECT 1 AS n WHERE 0"));
    let shown = String::from_utf8(output.stdout).expect("UTF-8");
    for part in [
        "a\"b | c,d | \\nline\\r\\n |       | NULL | 'NULL' | ünï 😀",
        "\\u{1b}[31m\\u{0}\\u{202e}",
        "x'00ff'",
        "n\n-\n(0 rows)\n",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // Rows after the first ones are written as they arrive, in the same columns.
    let many = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 2000) SELECT x, 'v' AS v FROM n";
    let shown = piped(&folder.data(), &["--format", "table"], many).stdout;
    let shown = String::from_utf8(shown).expect("UTF-8");
    assert_eq!(shown.lines().count(), 2_003);
    assert!(shown.ends_with("2000 | v\n(2000 rows)\n"), "{}", &shown[shown.len() - 100..]);
}

#[test]
fn commands_and_statements_are_read_from_standard_input() {
    let folder = folder_of("1");
    let input = ".tables\n.schema tenants\n.format ndjson\nSELECT 1 AS a\n, 2 AS b; SELECT ';' AS c;\n-- end\n.quit\nSELECT 3;";
    let output = piped(&folder.data(), &[], input);
    let shown = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(shown.starts_with("events\nclicks\nservice_events\norders\n"), "{shown}");
    assert!(shown.contains("CREATE VIEW tenants (\n  tenant_id  -- text\n);\n"), "{shown}");
    assert!(shown.ends_with("{\"a\":1,\"b\":2}\n{\"c\":\";\"}\n"), "{shown}");
    let output = command()
        .args(["sql", "-c", "SELECT 1 AS a", "-c", "SELECT 2 AS b;", "--data"])
        .arg(folder.data())
        .output();
    assert_eq!(output.expect("the program runs").stdout, b"a\r\n1\r\nb\r\n2\r\n");
    for (input, why) in [
        (".nothing", ".help"),
        (".format xml", "ndjson"),
        (".schema nothing", "no view"),
        ("SELECT $", "unrecognized"),
    ] {
        let output = piped(&folder.data(), &[], input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(why), "{input}: {said}");
    }
}
