//! The state of one upload, as `info.json` stores it and as a client sees it.

use serde::{Deserialize, Serialize};

use crate::base::clock;
use crate::base::ids::{is_random_hex, random_hex};
use crate::orders::{IngestResponse, Summary};
use crate::unpack::{Resume, UnpackError};

/// 128 random bits in hexadecimal. Knowledge of the id is half of the permission to use it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UploadId(String);

impl UploadId {
    /// # Errors
    /// The system returns no random bytes.
    pub fn random() -> Result<UploadId, getrandom::Error> {
        random_hex().map(UploadId)
    }

    /// Returns `None` for anything else, because the id becomes the name of a folder.
    #[must_use]
    pub fn parse(text: &str) -> Option<UploadId> {
        is_random_hex(text).then(|| UploadId(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The parameters of a new upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUpload {
    /// In bytes. The maximum, if the length is deferred.
    pub length: u64,
    pub is_deferred: bool,
    /// As sent, to be returned.
    pub metadata: String,
    /// The idempotency key, if the client sent one.
    pub key: Option<String>,
}

/// One upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    pub id: UploadId,
    /// The tenant whose orders are accepted, and whose clients may see the upload; `None` for any tenant.
    pub tenant: Option<String>,
    pub key: Option<String>,
    /// In bytes, as declared. The maximum, while the length is deferred.
    pub length: u64,
    /// Set while a later piece is to declare the length.
    #[serde(default)]
    pub is_deferred: bool,
    pub metadata: String,
    pub created_us: i64,
    /// When the upload may be deleted, if nothing more happens to it.
    pub expires_us: i64,
    /// The number of times it was saved. Copies in memory elsewhere are of this version or of an earlier one.
    pub version: u64,
    /// The bytes of the body from this offset on wait for their checksum, and do not count without it.
    pub held_from: Option<u64>,
    pub state: State,
    pub checkpoint: Checkpoint,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Receiving,
    Finished,
    /// The body cannot be unpacked any further. Rows stored by then remain.
    Failed {
        damage: Damage,
        detail: String,
    },
    /// Only its name remains.
    Expired,
}

/// Why bytes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    TooLarge,
    Unsupported,
    Damaged,
    /// The bytes are readable, but no line is an order that is stored now or was stored before.
    NothingKnown,
}

impl From<&UnpackError> for Damage {
    fn from(error: &UnpackError) -> Damage {
        match error {
            _ if error.is_limit() => Damage::TooLarge,
            UnpackError::Unsupported { .. } => Damage::Unsupported,
            _ => Damage::Damaged,
        }
    }
}

/// A position in the body. Everything before it is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The number of bytes of the body that were passed to the unpacker.
    pub offset: u64,
    /// The number of lines that the summary covers.
    pub lines: u64,
    /// CRC-32C of the body up to `offset`; `None` if an earlier version wrote the checkpoint.
    #[serde(default)]
    pub sum: Option<u32>,
    /// Set if the body was synced up to `offset`, so that a client that requires the disk needs no further sync. Only
    /// `sum` proves that the bytes are the received ones: a sync that succeeds after a failed one proves nothing.
    #[serde(default)]
    pub is_synced: bool,
    /// Where plain lines can continue. Anything compressed is unpacked from its start.
    pub resume: Option<Resume>,
    /// The time spent on the upload.
    pub worked_us: u64,
    pub summary: Summary,
}

/// The state of an upload that a client sees.
#[derive(Serialize)]
struct UploadView<'u> {
    id: &'u str,
    /// The bytes whose rows are stored.
    offset: u64,
    /// `null` until it is declared.
    length: Option<u64>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'u str>,
    created_at: String,
    expires_at: String,
    /// The orders that are in the database, by this upload or another.
    rows_committed: u64,
    #[serde(flatten)]
    answer: IngestResponse<'u>,
}

impl Upload {
    /// Creates an upload that expires `expiry_us` from now.
    #[must_use]
    pub fn new(id: UploadId, tenant: Option<String>, wish: NewUpload, expiry_us: i64) -> Upload {
        let created_us = clock::unix_us();
        Upload {
            id,
            tenant,
            key: wish.key,
            length: wish.length,
            is_deferred: wish.is_deferred,
            metadata: wish.metadata,
            created_us,
            expires_us: created_us.saturating_add(expiry_us),
            version: 0,
            held_from: None,
            state: State::Receiving,
            checkpoint: Checkpoint::default(),
        }
    }

    /// Returns the idempotency key: the one that the client sent, or the id.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(self.id.as_str())
    }

    /// Returns `true` if the upload is complete with this many bytes.
    #[must_use]
    pub fn is_whole(&self, offset: u64) -> bool {
        !self.is_deferred && offset == self.length
    }

    /// Returns `true` if a client whose key belongs to this tenant (`None`: to all tenants) may see the upload.
    #[must_use]
    pub fn is_of(&self, tenant: Option<&str>) -> bool {
        tenant.is_none() || tenant == self.tenant.as_deref()
    }

    #[must_use]
    pub fn is_expired(&self, now_us: i64) -> bool {
        self.state == State::Expired || self.expires_us <= now_us
    }

    /// Returns the running or final summary: the fields of an ingest's response, and the progress.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        let Checkpoint { offset, worked_us, summary, .. } = &self.checkpoint;
        let (state, detail) = match &self.state {
            State::Receiving => ("receiving", None),
            State::Finished => ("finished", None),
            State::Failed { detail, .. } => ("failed", Some(detail.as_str())),
            State::Expired => ("expired", None),
        };
        let told = UploadView {
            id: self.id.as_str(),
            offset: *offset,
            length: (!self.is_deferred).then_some(self.length),
            state,
            detail,
            created_at: clock::rfc3339(self.created_us),
            expires_at: clock::rfc3339(self.expires_us),
            rows_committed: summary.inserted + summary.duplicate,
            answer: summary.answer(self.key(), *worked_us),
        };
        serde_json::to_vec(&told).unwrap_or_default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(in super::super) fn upload(length: u64) -> Upload {
        let wish = NewUpload { length, is_deferred: false, metadata: String::new(), key: None };
        Upload::new(UploadId::random().unwrap(), Some("t".to_owned()), wish, 1_000_000)
    }

    #[test]
    fn an_id_is_a_name_and_no_path() {
        let id = UploadId::random().unwrap();
        assert_eq!(UploadId::parse(id.as_str()), Some(id.clone()));
        assert_ne!(UploadId::random().unwrap(), id);
        let upper = id.as_str().to_ascii_uppercase().replace(|digit: char| digit.is_ascii_digit(), "A");
        for text in ["", "..", "../../../../../../../etc/passwd/", &id.as_str()[1..], upper.as_str()] {
            assert_eq!(UploadId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn it_tells_how_far_it_is_and_reads_back_the_same() {
        let mut upload = upload(100);
        upload.checkpoint.offset = 60;
        upload.checkpoint.summary.inserted = 5;
        upload.checkpoint.summary.duplicate = 2;
        upload.checkpoint.summary.failed = 1;
        upload.checkpoint.resume = Some(Resume { offset_bytes: 55, lines: 8 });
        upload.state = State::Failed { damage: Damage::Damaged, detail: "torn".to_owned() };
        let written = serde_json::to_vec(&upload).unwrap();
        assert_eq!(serde_json::from_slice::<Upload>(&written).unwrap(), upload);
        let told: Value = serde_json::from_slice(&upload.json()).unwrap();
        assert_eq!((&told["state"], &told["detail"]), (&json!("failed"), &json!("torn")));
        assert_eq!((&told["offset"], &told["length"]), (&json!(60), &json!(100)));
        assert_eq!((&told["rows_received"], &told["rows_committed"]), (&json!(8), &json!(7)));
        assert_eq!(told["idempotency_key"], json!(upload.id.as_str()));
    }

    #[test]
    fn it_is_its_tenants_and_theirs_who_have_all() {
        let mut upload = upload(1);
        assert!(upload.is_of(Some("t")) && upload.is_of(None) && !upload.is_of(Some("other")));
        upload.tenant = None;
        assert!(upload.is_of(None) && !upload.is_of(Some("t")));
        assert!(!upload.is_expired(upload.created_us) && upload.is_expired(upload.created_us + 1_000_000));
    }
}
