//! Cursors: where a query stands, sealed, in the client's hands.
//!
//! URL-safe base64 of: version (1 byte), fingerprint of the filter (8), total (8), the last row's shard (2),
//! time (8), user (8), row id (8), length and text of its event id (1 + n), number of shards (2), the highest
//! row id of each (8), and a seal over all of it: SipHash-2-4 of 128 bits, keyed with the data folder's id.
//! Integers are little-endian. A cursor is good for its filter and its folder, for as long as the folder is;
//! rows that are deleted meanwhile are simply not there any more.

use std::hash::Hasher as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128 as _, SipHasher24 as SipHasher128};

use super::ParameterError;
use crate::base::ids::ShardId;
use crate::shard::read::{Filter, Of, Position};

const VERSION: u8 = 1;
const SEAL_BYTES: usize = 16;

/// Seals and opens the cursors of one data folder.
#[derive(Clone, Copy, Debug)]
pub struct CursorKey([u8; 16]);

/// Where a query stands: behind a row, among rows up to the pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) total: u64,
    pub(super) shard: ShardId,
    pub(super) position: Position,
    pub(super) pins: Vec<i64>,
}

impl CursorKey {
    #[must_use]
    pub fn new(folder_id: &[u8; 16]) -> CursorKey {
        // Not the key the ids are hashed with.
        CursorKey(folder_id.map(|byte| byte ^ 0x5c))
    }

    pub(super) fn seal(&self, filter: &Filter, cursor: &Cursor) -> String {
        let Position { timestamp_us, user_id, event_id, id } = &cursor.position;
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.fingerprint(filter).to_le_bytes());
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
        bytes.extend_from_slice(&self.mac(&bytes));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The cursor, if it is one of ours and of this filter.
    pub(super) fn open(&self, filter: &Filter, shards: usize, text: &str) -> Result<Cursor, ParameterError> {
        let wrong = |code, detail: &str| ParameterError { name: "cursor", code, detail: detail.to_owned() };
        let invalid = || wrong("invalid_cursor", "this is no cursor of this server; begin without one");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let (bytes, seal) = bytes
            .len()
            .checked_sub(SEAL_BYTES)
            .and_then(|at| bytes.split_at_checked(at))
            .ok_or_else(invalid)?;
        // Not secret in itself, but compared without telling where it differs.
        if seal.iter().zip(self.mac(bytes)).fold(0, |sum, (a, b)| sum | (a ^ b)) != 0 {
            return Err(invalid());
        }
        let (fingerprint, cursor) = parse(bytes).ok_or_else(invalid)?;
        if fingerprint != self.fingerprint(filter) {
            return Err(wrong(
                "cursor_mismatch",
                "this cursor belongs to a query with another filter or order",
            ));
        }
        if cursor.pins.len() != shards {
            return Err(wrong(
                "invalid_cursor",
                "the data was distributed anew since; begin without a cursor",
            ));
        }
        Ok(cursor)
    }

    fn mac(&self, bytes: &[u8]) -> [u8; SEAL_BYTES] {
        let mut hasher = SipHasher128::new_with_key(&self.0);
        hasher.write(bytes);
        hasher.finish128().as_bytes()
    }

    fn fingerprint(&self, filter: &Filter) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        let mut text = |text: Option<&str>| {
            hasher.write(text.unwrap_or("\0").as_bytes());
            hasher.write(&[0]);
        };
        match &filter.of {
            Of::Events { tenant_id, source, event_type } => {
                for part in
                    [Some("events"), Some(tenant_id.as_str()), source.as_deref(), event_type.as_deref()]
                {
                    text(part);
                }
            }
            Of::Clicks { user_id } => {
                text(Some("clicks"));
                text(user_id.map(|id| id.to_string()).as_deref());
            }
            Of::Orders(of) => {
                text(Some("orders"));
                text(Some(&of.tenant_id));
                let lists = [&of.product_ids, &of.words];
                for list in lists {
                    text(Some(&list.len().to_string()));
                    list.iter().for_each(|entry| text(Some(entry)));
                }
                text(Some(&format!("{} {:?} {:?}", of.statuses, of.total_min, of.total_max)));
            }
        }
        for bound in [filter.from_us, filter.to_us] {
            hasher.write(&[u8::from(bound.is_some())]);
            hasher.write(&bound.unwrap_or(0).to_le_bytes());
        }
        hasher.write(&[u8::from(filter.descending)]);
        hasher.finish()
    }
}

fn parse(bytes: &[u8]) -> Option<(u64, Cursor)> {
    let (version, rest) = bytes.split_first()?;
    let (fingerprint, rest) = rest.split_first_chunk()?;
    let (total, rest) = rest.split_first_chunk()?;
    let (shard, rest) = rest.split_first_chunk()?;
    let (timestamp_us, rest) = rest.split_first_chunk()?;
    let (user_id, rest) = rest.split_first_chunk()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first()?;
    let (event_id, rest) = rest.split_at_checked(usize::from(*length))?;
    let (count, rest) = rest.split_first_chunk()?;
    let (pins, odd) = rest.as_chunks::<8>();
    let is_sound =
        *version == VERSION && odd.is_empty() && pins.len() == usize::from(u16::from_le_bytes(*count));
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
