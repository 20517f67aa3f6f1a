//! The journal record format of an erasure. A record is masked with a key stream, so the person's data is not
//! readable in it. The secret of the key stream is stored next to the masked data, and both are overwritten together.

use serde::{Deserialize, Serialize};

use super::matcher::PersonMatcher;
use crate::base::kinds::{Kind, KindRow, Placement};
use crate::base::limits::RECORD_BYTES_MAX;
use crate::shard::ErasureMode;

/// The record kind of one step of a person's erasure, or of one entry in the lists of suppressed people and events.
pub const ERASURE: Kind = Kind::new(11);

/// The record kinds of this family.
pub(super) const KINDS: &[KindRow] = &[KindRow {
    kind: ERASURE,
    name: "erasure",
    placement: Placement::EveryShard,
    is_counted: false,
    rejection: "not an erasure",
}];

const SECRET_BYTES: usize = 32;

/// The person to erase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    Customer {
        tenant_id: String,
        customer_id: String,
        /// The token that replaces the customer if the orders are preserved, in this erasure or in an earlier one.
        token: String,
        names: Vec<String>,
        emails: Vec<String>,
    },
    /// A user in the collector's events, which belong to no tenant.
    User { user_id: i64 },
}

/// The number of files that the erasure removed outside the shards before this record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedOutside {
    pub uploads: u64,
    pub exports: u64,
}

impl RemovedOutside {
    /// Counts files of a place, by its name.
    pub(super) fn add(&mut self, place: &str, files: u64) {
        match place {
            "uploads" => self.uploads += files,
            "exports" => self.exports += files,
            _ => debug_assert!(false, "{place} has no count of files"),
        }
    }
}

/// A record of the kind [`ERASURE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErasureRecord {
    /// Suppresses the person's later data.
    Suppress { mode: ErasureMode, subject: Subject },
    /// Erases the stored data, step by step.
    Erase {
        /// 32 hexadecimal digits.
        id: String,
        began_us: i64,
        mode: ErasureMode,
        subject: Subject,
        /// Set if the person has more names and addresses than the subject contains.
        names_truncated: bool,
        removed: RemovedOutside,
        /// The request that erases this person together with others, if it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batch: Option<String>,
    },
    /// An entry of the list of suppressed people, which is being copied to another shard.
    Suppression { key: [u8; 16], mode: ErasureMode, token: String },
    /// An entry of the list of erased events, which is being copied to another shard.
    ErasedEvent { key: [u8; 16] },
}

impl Subject {
    /// Returns the matcher of a customer's rows and events. It matches nothing for a user of the collector.
    pub(super) fn matcher(&self, mode: ErasureMode) -> PersonMatcher {
        let Subject::Customer { customer_id, token, names, emails, .. } = self else {
            return PersonMatcher::default();
        };
        PersonMatcher::new(
            // An erasure also removes the token of an earlier pseudonymisation.
            [Some(customer_id.as_str()), (mode == ErasureMode::Erase).then_some(token.as_str())]
                .into_iter()
                .flatten(),
            emails.iter().map(String::as_str),
            names.iter().map(String::as_str),
        )
    }
}

impl ErasureRecord {
    /// Appends the record's payload to `out`. The bytes differ at every call.
    ///
    /// # Errors
    /// Returns an error if the system provides no random bytes, or if the payload is larger than a record may be.
    pub fn encode(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(std::io::Error::other)?;
        let mut plain = serde_json::to_vec(self).map_err(std::io::Error::other)?;
        if plain.len() + SECRET_BYTES > RECORD_BYTES_MAX {
            return Err(std::io::Error::other("the person has more names than fit in one record"));
        }
        mask(&secret, &mut plain);
        out.extend_from_slice(&secret);
        out.extend_from_slice(&plain);
        Ok(())
    }

    /// Decodes a record's payload. Returns `None` if the payload is not an erasure.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<ErasureRecord> {
        let (secret, masked) = payload.split_first_chunk::<SECRET_BYTES>()?;
        let mut plain = masked.to_vec();
        mask(secret, &mut plain);
        serde_json::from_slice(&plain).ok()
    }
}

/// Combines the bytes with the key stream by XOR. A second call restores them.
fn mask(secret: &[u8; SECRET_BYTES], bytes: &mut [u8]) {
    let mut stream = blake3::Hasher::new_keyed(secret).finalize_xof();
    let mut block = [0; 256];
    for chunk in bytes.chunks_mut(block.len()) {
        stream.fill(&mut block);
        chunk.iter_mut().zip(block).for_each(|(byte, key)| *byte ^= key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_as_written_and_shows_nobody() {
        let subject = Subject::Customer {
            tenant_id: "t".to_owned(),
            customer_id: "zaphod-77".to_owned(),
            token: "anon-1".to_owned(),
            names: vec!["Zaphod Beeblebrox".repeat(40)],
            emails: vec!["z@heart.gold".to_owned()],
        };
        let record = ErasureRecord::Erase {
            id: "0".repeat(32),
            began_us: 7,
            mode: ErasureMode::Pseudonymise,
            subject,
            names_truncated: true,
            removed: RemovedOutside { uploads: 1, exports: 2 },
            batch: Some("1".repeat(32)),
        };
        let (mut bytes, mut other) = (Vec::new(), Vec::new());
        record.encode(&mut bytes).unwrap();
        record.encode(&mut other).unwrap();
        assert_ne!(bytes, other);
        assert_eq!(ErasureRecord::decode(&bytes), Some(record));
        for word in ["zaphod", "Zaphod", "heart", "erase"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word.as_bytes()), "{word}");
        }
        assert!((0..bytes.len()).all(|cut| ErasureRecord::decode(&bytes[..cut]).is_none()));
    }

    /// A record of a version that erased one person at a time.
    #[test]
    fn a_record_without_a_batch_is_one_person() {
        let old = r#"{"erase":{"id":"0","began_us":7,"mode":"erase","subject":{"user":{"user_id":5}},"names_truncated":false,"removed":{"uploads":1,"exports":2}}}"#;
        let record = ErasureRecord::Erase {
            id: "0".to_owned(),
            began_us: 7,
            mode: ErasureMode::Erase,
            subject: Subject::User { user_id: 5 },
            names_truncated: false,
            removed: RemovedOutside { uploads: 1, exports: 2 },
            batch: None,
        };
        assert_eq!(serde_json::to_string(&record).unwrap(), old);
        let mut bytes = vec![7; SECRET_BYTES];
        bytes.extend_from_slice(old.as_bytes());
        mask(&[7; SECRET_BYTES], &mut bytes[SECRET_BYTES..]);
        assert_eq!(ErasureRecord::decode(&bytes), Some(record));
    }
}
