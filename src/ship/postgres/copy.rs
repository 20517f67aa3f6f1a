//! The binary format of COPY, and its way to the server.

use std::pin::pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::SinkExt as _;

use super::connect::Session;
use super::error::Failure;
use super::jsonb;
use super::tables::Table;

/// Bytes are sent in pieces of this size.
const PIECE_BYTES: usize = 128 * 1024;
/// 2000-01-01 in microseconds since 1970: PostgreSQL's zero.
const ZERO_US: i64 = 946_684_800_000_000;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Rows in the binary format.
pub(super) struct CopyBuffer {
    bytes: BytesMut,
}

impl CopyBuffer {
    fn new() -> CopyBuffer {
        let mut bytes = BytesMut::with_capacity(PIECE_BYTES + 16 * 1024);
        bytes.put_slice(SIGNATURE);
        CopyBuffer { bytes }
    }

    /// Begins a row. The same number of fields must follow.
    pub(super) fn row(&mut self, fields: usize) {
        self.bytes.put_i16(fields as i16);
    }

    fn null(&mut self) {
        self.bytes.put_i32(-1);
    }

    /// A `text` or `character(n)`.
    pub(super) fn text(&mut self, text: &str) {
        self.raw(text.as_bytes());
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.bytes.put_i32(bytes.len() as i32);
        self.bytes.put_slice(bytes);
    }

    pub(super) fn int2(&mut self, number: i16) {
        self.bytes.put_i32(2);
        self.bytes.put_i16(number);
    }

    pub(super) fn int4(&mut self, number: i32) {
        self.bytes.put_i32(4);
        self.bytes.put_i32(number);
    }

    pub(super) fn int8(&mut self, number: i64) {
        self.bytes.put_i32(8);
        self.bytes.put_i64(number);
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.bytes.put_i32(1);
        self.bytes.put_u8(u8::from(value));
    }

    /// A `timestamptz`, from microseconds since 1970.
    pub(super) fn time(&mut self, us: i64) {
        self.int8(us.saturating_sub(ZERO_US));
    }

    /// Two fields: `jsonb`, and the `text` where `jsonb` cannot hold it or `is_raw`.
    pub(super) fn json(&mut self, json: &str, is_raw: bool) {
        if is_raw || !jsonb::holds(json) {
            self.null();
            self.text(json);
            return;
        }
        self.bytes.put_i32(json.len() as i32 + 1);
        self.bytes.put_u8(1);
        self.bytes.put_slice(json.as_bytes());
        self.null();
    }

    fn end(&mut self) {
        self.bytes.put_i16(-1);
    }
}

/// Sends rows to `target`, a table with the columns of `table`. Returns how many were stored.
pub(super) async fn copy<R>(
    session: &Session,
    table: &Table,
    target: &str,
    rows: impl IntoIterator<Item = R>,
    mut encode: impl FnMut(&mut CopyBuffer, R),
) -> Result<u64, Failure> {
    let sql = format!("COPY {target} ({}) FROM STDIN (FORMAT binary)", table.names());
    let statement = session.prepare(&sql).await?;
    let mut sink = pin!(session.client.copy_in::<_, Bytes>(&statement).await?);
    let mut buffer = CopyBuffer::new();
    for row in rows {
        encode(&mut buffer, row);
        if buffer.bytes.len() >= PIECE_BYTES {
            sink.send(buffer.bytes.split().freeze()).await?;
            buffer.bytes.reserve(PIECE_BYTES + 16 * 1024);
        }
    }
    buffer.end();
    sink.send(buffer.bytes.freeze()).await?;
    Ok(sink.finish().await?)
}
