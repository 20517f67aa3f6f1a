//! Cursors: the position of a query, which the client holds but cannot read.
//!
//! URL-safe base64 of: version (1 byte), nonce (24), then, encrypted and authenticated with XChaCha20-Poly1305 (RFC
//! 8439 with the longer nonce of draft-irtf-cfrg-xchacha-03, which allows any number of random nonces): fingerprint
//! of the filter (8), total (8), the last row's shard (2), time (8), user (8), row id (8), length and bytes of its
//! event id (1 + n), number of shards (2), the highest row id of each (8). Integers are little-endian. The row ids
//! count the rows of all tenants, so no client may read them. A cursor is valid for its filter and its folder, as
//! long as the folder exists. Rows that are deleted in the meantime are missing from the result. Sealing or opening a
//! cursor takes about 2 us.

use std::hash::Hasher as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use siphasher::sip::SipHasher24;

use super::filter::Filter;
use super::{ParameterError, QueryError};
use crate::base::ids::ShardId;
use crate::shard::read::Position;

const VERSION: u8 = 2;
const NONCE_BYTES: usize = 24;

/// Seals and opens the cursors of one data folder.
#[derive(Clone, Copy)]
pub struct CursorKey {
    secret: [u8; 32],
    fingerprint: [u8; 16],
}

impl std::fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CursorKey")
    }
}

/// The position of a query: the row after which it continues, and the pins that limit its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub total: u64,
    pub shard: ShardId,
    pub position: Position,
    pub pins: Vec<i64>,
}

impl CursorKey {
    /// Derives the key from the random secret of a data folder, which only its owner can read.
    #[must_use]
    pub fn new(secret: &[u8]) -> CursorKey {
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&blake3::derive_key("firehose 2026-11 filters", secret)[..16]);
        CursorKey { secret: blake3::derive_key("firehose 2026-11 cursors", secret), fingerprint }
    }

    /// Seals a cursor.
    ///
    /// # Errors
    /// Returns [`QueryError::Busy`] if the system has no random bytes. This is not known to happen on a running
    /// system.
    pub fn seal(&self, filter: &Filter, cursor: &Cursor) -> Result<String, QueryError> {
        let Position { timestamp_us, user_id, event_id, id } = &cursor.position;
        let mut bytes = self.fingerprint(filter).to_le_bytes().to_vec();
        bytes.extend_from_slice(&cursor.total.to_le_bytes());
        bytes.extend_from_slice(&cursor.shard.0.to_le_bytes());
        for number in [timestamp_us, user_id, id] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.push(event_id.len() as u8);
        bytes.extend_from_slice(event_id.as_bytes());
        bytes.extend_from_slice(&(cursor.pins.len() as u16).to_le_bytes());
        for pin in &cursor.pins {
            bytes.extend_from_slice(&pin.to_le_bytes());
        }
        Ok(URL_SAFE_NO_PAD.encode([vec![VERSION], self.encrypted(&[VERSION], &bytes)?].concat()))
    }

    /// Opens a cursor that was sealed with this key for this filter.
    pub fn open(&self, filter: &Filter, shards: usize, text: &str) -> Result<Cursor, ParameterError> {
        let wrong =
            |code, detail: &str| ParameterError { name: "cursor".into(), code, detail: detail.to_owned() };
        let invalid = || wrong("invalid_cursor", "invalid cursor; start again without one");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let (version, rest) = bytes.split_at_checked(1).ok_or_else(invalid)?;
        // The version is authenticated too, so a cursor of another version does not open.
        let opened = self.decrypted(version, rest).ok_or_else(invalid)?;
        let (fingerprint, cursor) = parse(&opened).filter(|_| version == [VERSION]).ok_or_else(invalid)?;
        if fingerprint != self.fingerprint(filter) {
            return Err(wrong(
                "cursor_mismatch",
                "the cursor belongs to a query with another filter or order",
            ));
        }
        if cursor.pins.len() != shards {
            return Err(wrong(
                "invalid_cursor",
                "the cursor was issued before the data was resharded; start again without one",
            ));
        }
        Ok(cursor)
    }

    /// Opens a request's cursor, if it has one.
    pub fn open_given(
        &self,
        filter: &Filter,
        shards: usize,
        text: Option<&str>,
    ) -> Result<Option<Cursor>, QueryError> {
        let opened = text.map(|text| self.open(filter, shards, text)).transpose();
        opened.map_err(|error| QueryError::Parameters(vec![error]))
    }

    /// Opens and parses a request's cursor that [`CursorKey::seal_bytes`] sealed, if the request has one.
    ///
    /// # Errors
    /// Returns [`QueryError::Parameters`] if the cursor is invalid or was sealed for another context.
    pub fn open_given_bytes<T>(
        &self,
        context: &[u8],
        text: Option<&str>,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, QueryError> {
        let Some(text) = text else { return Ok(None) };
        let opened = self.open_bytes(context, text).and_then(|bytes| parse(&bytes));
        let invalid = || {
            let detail = "invalid cursor, or a cursor of another query; start again without one".to_owned();
            QueryError::Parameters(vec![ParameterError {
                name: "cursor".into(),
                code: "invalid_cursor",
                detail,
            }])
        };
        opened.map(Some).ok_or_else(invalid)
    }

    /// Seals bytes of another kind for a client to hold. They are valid only for their context.
    ///
    /// # Errors
    /// Returns the same errors as [`CursorKey::seal`].
    pub fn seal_bytes(&self, context: &[u8], bytes: &[u8]) -> Result<String, QueryError> {
        Ok(URL_SAFE_NO_PAD.encode(self.encrypted(context, bytes)?))
    }

    /// Opens what [`CursorKey::seal_bytes`] sealed for this context. Returns `None` for any other string.
    pub fn open_bytes(&self, context: &[u8], text: &str) -> Option<Vec<u8>> {
        self.decrypted(context, &URL_SAFE_NO_PAD.decode(text).ok()?)
    }

    /// Returns a nonce and the bytes encrypted with it.
    fn encrypted(&self, context: &[u8], bytes: &[u8]) -> Result<Vec<u8>, QueryError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| QueryError::Busy)?;
        let payload = Payload { msg: bytes, aad: context };
        let sealed = self.cipher().encrypt(XNonce::from_slice(&nonce), payload);
        Ok([&nonce[..], &sealed.map_err(|_| QueryError::Busy)?].concat())
    }

    fn decrypted(&self, context: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
        self.cipher().decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: context }).ok()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.secret.into())
    }

    fn fingerprint(&self, filter: &Filter) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.fingerprint);
        let mut text = |text: Option<&str>| {
            hasher.write(text.unwrap_or("\0").as_bytes());
            hasher.write(&[0]);
        };
        filter.of.fingerprint(&mut text);
        for bound in [filter.from_us, filter.to_us] {
            hasher.write(&[u8::from(bound.is_some())]);
            hasher.write(&bound.unwrap_or(0).to_le_bytes());
        }
        hasher.write(&[u8::from(filter.descending)]);
        hasher.finish()
    }
}

fn parse(bytes: &[u8]) -> Option<(u64, Cursor)> {
    let (fingerprint, rest) = bytes.split_first_chunk()?;
    let (total, rest) = rest.split_first_chunk()?;
    let (shard, rest) = rest.split_first_chunk()?;
    let (timestamp_us, rest) = rest.split_first_chunk()?;
    let (user_id, rest) = rest.split_first_chunk()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first()?;
    let (event_id, rest) = rest.split_at_checked(usize::from(*length))?;
    let (count, rest) = rest.split_first_chunk()?;
    let (pins, odd) = rest.as_chunks::<8>();
    let is_sound = odd.is_empty() && pins.len() == usize::from(u16::from_le_bytes(*count));
    is_sound.then_some(())?;
    let position = Position {
        timestamp_us: i64::from_le_bytes(*timestamp_us),
        user_id: i64::from_le_bytes(*user_id),
        event_id: String::from_utf8(event_id.to_vec()).ok()?,
        id: i64::from_le_bytes(*id),
    };
    let cursor = Cursor {
        total: u64::from_le_bytes(*total),
        shard: ShardId(u16::from_le_bytes(*shard)),
        position,
        pins: pins.iter().map(|pin| i64::from_le_bytes(*pin)).collect(),
    };
    Some((u64::from_le_bytes(*fingerprint), cursor))
}
