//! Values as text.

use std::io::Write as _;

use rusqlite::types::ValueRef;

/// Writes a number with a fraction, as short as it reads back. An infinite one is written as SQLite writes it in JSON.
pub(super) fn write_real(number: f64, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = match number.is_finite() {
        true => write!(out, "{number:?}"),
        false => out.write_all(if number < 0.0 { b"-9e999" } else { b"9e999" }),
    };
}

pub(super) fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

/// Writes a value other than NULL and text; a blob as `x'…'`.
pub(super) fn write_plain(value: ValueRef<'_>, out: &mut Vec<u8>) {
    match value {
        ValueRef::Null | ValueRef::Text(_) => {}
        ValueRef::Integer(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        ValueRef::Real(number) => write_real(number, out),
        ValueRef::Blob(bytes) => {
            out.extend_from_slice(b"x'");
            write_hex(bytes, out);
            out.push(b'\'');
        }
    }
}
