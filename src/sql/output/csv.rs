//! CSV as RFC 4180 defines it.

use rusqlite::types::ValueRef;

use super::values::write_plain;

pub(super) fn head(columns: &[String], out: &mut Vec<u8>) {
    for (index, column) in columns.iter().enumerate() {
        separate(index, out);
        text(column.as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n");
}

pub(super) fn row(values: &[ValueRef<'_>], out: &mut Vec<u8>) {
    for (index, value) in values.iter().enumerate() {
        separate(index, out);
        match value {
            ValueRef::Text(bytes) => text(bytes, out),
            value => write_plain(*value, out),
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn separate(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

/// Writes a text. An empty one has quotes, because NULL is empty.
fn text(bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() && !bytes.iter().any(|byte| b"\",\r\n".contains(byte)) {
        return out.extend_from_slice(bytes);
    }
    out.push(b'"');
    for byte in bytes {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}
