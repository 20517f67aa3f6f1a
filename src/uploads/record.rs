//! One upload's state, as stored in `info.json` and as returned to clients.

use serde::{Deserialize, Serialize};

use crate::base::clock;
use crate::base::ids::{is_random_hex, random_hex};
use crate::orders::{IngestResponse, Summary};
use crate::unpack::{Resume, UnpackError};

/// An upload's id: 128 random bits in hexadecimal. A client needs both the id and a permitted key to use the upload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UploadId(String);

impl UploadId {
    /// Creates a random id.
    ///
    /// # Errors
    /// Returns an error if the system provides no random bytes.
    pub fn random() -> Result<UploadId, getrandom::Error> {
        random_hex().map(UploadId)
    }

    /// Parses an id. Returns `None` for any other string, because the id becomes a folder name.
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
    /// The length in bytes. If the client declares the length later, this is the maximum.
    pub length: u64,
    pub is_deferred: bool,
    /// The metadata as sent, to be returned as is.
    pub metadata: String,
    /// The idempotency key, if the client sent one.
    pub key: Option<String>,
}

/// One upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    pub id: UploadId,
    /// The tenant whose orders are accepted, and whose clients may see the upload. `None` permits any tenant.
    pub tenant: Option<String>,
    pub key: Option<String>,
    /// The declared length in bytes. Until the client has declared it, this is the maximum.
    pub length: u64,
    /// `true` until a later piece declares the length.
    #[serde(default)]
    pub is_deferred: bool,
    pub metadata: String,
    pub created_us: i64,
    /// When the upload may be deleted, if there is no further progress.
    pub expires_us: i64,
    /// The number of times the upload was saved. A copy in another core's memory has this version or an earlier one.
    pub version: u64,
    /// The offset of the first byte in the body that waits for its checksum. Bytes from this offset on do not count
    /// until the checksum matches.
    pub held_from: Option<u64>,
    pub state: State,
    pub checkpoint: Checkpoint,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Receiving,
    Finished,
    /// The rest of the body cannot be unpacked. Rows stored before the failure remain.
    Failed {
        damage: Damage,
        detail: String,
    },
    /// The upload expired. Only its info remains.
    Expired,
}

/// Why an upload's bytes are refused.
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
    /// The number of body bytes that were passed to the unpacker.
    pub offset: u64,
    /// The number of lines that the summary covers.
    pub lines: u64,
    /// The CRC-32C of the body up to `offset`, or `None` if an earlier version wrote the checkpoint.
    #[serde(default)]
    pub sum: Option<u32>,
    /// Set if the body was synced up to `offset`, so that a request with `ack=disk` needs no further sync. Only `sum`
    /// proves that the bytes are the received ones: a sync that succeeds after a failed one proves nothing.
    #[serde(default)]
    pub is_synced: bool,
    /// Where unpacking of plain lines can continue. A compressed body is unpacked from its start.
    pub resume: Option<Resume>,
    /// The time spent on the upload.
    pub worked_us: u64,
    pub summary: Summary,
}

/// An upload's state as clients see it.
#[derive(Serialize)]
struct UploadView<'u> {
    id: &'u str,
    /// The number of bytes whose rows are stored.
    offset: u64,
    /// The declared length, or `null` until it is declared.
    length: Option<u64>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'u str>,
    created_at: String,
    expires_at: String,
    /// The number of the upload's orders that are in the database, whether or not this upload stored them.
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

    /// Returns the idempotency key: the one that the client sent, or the upload's id.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(self.id.as_str())
    }

    /// Returns `true` if the upload is complete with this many bytes.
    #[must_use]
    pub fn is_whole(&self, offset: u64) -> bool {
        !self.is_deferred && offset == self.length
    }

    /// Returns `true` if a client may see the upload. `tenant` is the tenant of the client's key, or `None` for a key
    /// of all tenants.
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
