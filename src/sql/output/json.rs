//! Rows as JSON objects, in an array or one per line.

use rusqlite::types::ValueRef;

use super::values::{write_hex, write_plain};
use crate::shard::read::write_string;

pub(in crate::sql) struct Objects {
    /// The names as JSON, each with the brace or comma before it and the colon after it.
    names: Vec<Vec<u8>>,
    is_array: bool,
    is_first: bool,
}

impl Objects {
    /// Begins the rows. A name that occurs again gets a number, because an object has each name once.
    pub(super) fn begin(columns: Vec<String>, is_array: bool, out: &mut Vec<u8>) -> Objects {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut used = foldhash::HashSet::default();
        for column in columns {
            let mut name = column.clone();
            let mut number = 0;
            while !used.insert(name.clone()) {
                number += 1;
                name = format!("{column}:{number}");
            }
            let mut text = vec![if names.is_empty() { b'{' } else { b',' }];
            write_string(&mut text, name.as_bytes());
            text.push(b':');
            names.push(text);
        }
        if is_array {
            out.push(b'[');
        }
        Objects { names, is_array, is_first: true }
    }

    pub(super) fn row(&mut self, values: &[ValueRef<'_>], out: &mut Vec<u8>) {
        if self.is_array && !self.is_first {
            out.extend_from_slice(b",\n");
        }
        self.is_first = false;
        for (name, value) in self.names.iter().zip(values) {
            out.extend_from_slice(name);
            write_value(*value, out);
        }
        out.push(b'}');
        if !self.is_array {
            out.push(b'\n');
        }
    }

    pub(super) fn end(&self, out: &mut Vec<u8>) {
        if self.is_array {
            out.extend_from_slice(b"]\n");
        }
    }
}

/// Writes a value. Integers have all their digits; a blob is a string of hexadecimal digits.
fn write_value(value: ValueRef<'_>, out: &mut Vec<u8>) {
    match value {
        ValueRef::Null => out.extend_from_slice(b"null"),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(_) => write_string(out, bytes),
            Err(_) => write_string(out, String::from_utf8_lossy(bytes).as_bytes()),
        },
        ValueRef::Blob(bytes) => {
            out.push(b'"');
            write_hex(bytes, out);
            out.push(b'"');
        }
        value => write_plain(value, out),
    }
}
