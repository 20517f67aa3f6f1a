//! One export: its record in `state.json`, its JSON for clients, and the state that its job and its downloads share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use arc_swap::{ArcSwap, ArcSwapOption};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::body::{ExportRows, ExportSpec};
use crate::base::clock;
use crate::base::ids::{is_random_hex, random_hex};

/// An export's id: 128 random bits in hexadecimal, which cannot be guessed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExportId(String);

impl ExportId {
    /// Creates a random id.
    ///
    /// # Errors
    /// Returns an error if the system provides no random bytes.
    pub fn random() -> Result<ExportId, getrandom::Error> {
        random_hex().map(ExportId)
    }

    /// Parses an id. Returns `None` for any other string, because the id becomes a folder name.
    #[must_use]
    pub fn parse(text: &str) -> Option<ExportId> {
        is_random_hex(text).then(|| ExportId(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportState {
    /// The export waits for other exports.
    Queued,
    Running,
    Done,
    Failed,
    /// The file expired. Only the record is left.
    Expired,
    /// The file contained an erased person and was deleted.
    Erased,
}

impl ExportState {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ExportState::Queued => "queued",
            ExportState::Running => "running",
            ExportState::Done => "done",
            ExportState::Failed => "failed",
            ExportState::Expired => "expired",
            ExportState::Erased => "erased",
        }
    }

    /// Returns `true` if the file may still grow.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, ExportState::Queued | ExportState::Running)
    }
}

/// A position in the file. The bytes before it no longer change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The number of chosen orders in the file.
    pub orders: u64,
    pub rows: u64,
    /// The number of bytes in the file.
    pub bytes: u64,
    /// The SHA-256 of those bytes, in hexadecimal.
    pub digest: String,
    /// The number of bytes in the side file that is required to finish the file (Parquet's row groups).
    pub beside: u64,
    /// The SHA-256 of the side file's bytes, in hexadecimal.
    pub beside_digest: String,
    /// The number of bytes in the marks, which contain the ends of the file's blocks. It is 0 if an older version
    /// started the file.
    #[serde(default)]
    pub marks: u64,
    /// The SHA-256 of the marks' bytes, in hexadecimal.
    #[serde(default)]
    pub marks_digest: String,
}

/// The changing part of an export. Each update replaces it as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub state: ExportState,
    /// Incremented when bytes that a client may already have must be written again. The file is then a different one.
    pub generation: u32,
    /// The number of chosen orders in each shard, without the spliced ones. `None` until all are chosen.
    pub chosen: Option<Vec<u64>>,
    /// The number of orders that the file contained right after the last splice. They come first in the selection,
    /// and the marks contain their shards.
    #[serde(default)]
    pub spliced: u64,
    /// Set while orders wait for a pseudonym. They are read only once they have it.
    #[serde(default)]
    pub awaits_pseudonym: bool,
    pub checkpoint: Checkpoint,
    pub finished_us: Option<i64>,
    pub expires_us: Option<i64>,
    pub error: Option<String>,
}

impl Progress {
    /// Returns the progress of a new export.
    #[must_use]
    pub fn begin() -> Progress {
        Progress {
            state: ExportState::Queued,
            generation: 0,
            chosen: None,
            spliced: 0,
            awaits_pseudonym: false,
            checkpoint: Checkpoint::default(),
            finished_us: None,
            expires_us: None,
            error: None,
        }
    }

    /// Returns the total number of chosen orders.
    #[must_use]
    pub fn orders(&self) -> Option<u64> {
        self.chosen.as_ref().map(|counts| self.spliced + counts.iter().sum::<u64>())
    }
}

/// The digest of a file's first bytes. This process has already written or verified these bytes, so it does not read
/// them again.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) generation: u32,
    pub(super) bytes: u64,
    pub(super) digest: Sha256,
}

/// The content of `state.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportRecord {
    pub id: ExportId,
    /// The tenant. It is empty for an export of clicks, which belong to no tenant.
    pub tenant: String,
    pub key: Option<String>,
    pub spec: ExportSpec,
    pub created_us: i64,
    /// The highest row id in each shard when the export was created.
    pub pins: Vec<i64>,
    /// In each shard, the first row id of the oldest partition that had rows in the range when the export was created.
    /// An older version did not record it.
    #[serde(default)]
    pub floors: Vec<i64>,
    pub progress: Progress,
}

/// One export, shared by the job that writes it and the requests that read it.
#[derive(Debug)]
pub struct Export {
    pub id: ExportId,
    pub tenant: String,
    pub key: Option<String>,
    pub spec: ExportSpec,
    pub created_us: i64,
    pub pins: Vec<i64>,
    pub floors: Vec<i64>,
    pub(super) progress: ArcSwap<Progress>,
    pub(super) removed: AtomicBool,
    /// Set while a job is working on the export.
    pub(super) running: AtomicBool,
    /// The number of bytes charged for the export.
    pub(super) held: AtomicU64,
    pub(super) seen: ArcSwapOption<Seen>,
    /// The highest number of orders that the file contained before a splice in this process.
    pub(super) reached: AtomicU64,
}

impl Export {
    #[must_use]
    pub fn new(record: ExportRecord) -> Export {
        let ExportRecord { id, tenant, key, spec, created_us, pins, floors, progress } = record;
        Export {
            id,
            tenant,
            key,
            spec,
            created_us,
            pins,
            floors,
            progress: ArcSwap::from_pointee(progress),
            removed: AtomicBool::new(false),
            running: AtomicBool::new(false),
            held: AtomicU64::new(0),
            seen: ArcSwapOption::empty(),
            reached: AtomicU64::new(0),
        }
    }

    /// Returns the content of `state.json` with this progress.
    pub(super) fn record(&self, progress: Progress) -> ExportRecord {
        ExportRecord {
            id: self.id.clone(),
            tenant: self.tenant.clone(),
            key: self.key.clone(),
            spec: self.spec.clone(),
            created_us: self.created_us,
            pins: self.pins.clone(),
            floors: self.floors.clone(),
            progress,
        }
    }

    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.load_full()
    }

    /// Returns `true` if the export was deleted, even if it is still in use.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Records whether a job is working on the export. An erasure first holds the tenant's exports and then checks
    /// for a running job ([`super::ExportStore::is_at_rest`]). A job is first recorded here and then checks for a
    /// hold. At least one of the two therefore notices the other.
    pub fn set_running(&self, is_running: bool) {
        self.running.store(is_running, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Returns the strong validator for the file's bytes (RFC 9110 §8.8.3). It remains the same while the file grows,
    /// because sent bytes never change.
    #[must_use]
    pub fn etag(&self, progress: &Progress) -> String {
        format!("\"{}-{}\"", self.id.as_str(), progress.generation)
    }

    #[must_use]
    pub fn file_name(&self) -> String {
        let kind = match self.spec.rows {
            ExportRows::Items => "order-items",
            rows => rows.name(),
        };
        let at = clock::rfc3339(self.created_us).replace([':', '-'], "");
        let at = at.split('.').next().unwrap_or_default().trim_end_matches('Z');
        format!("{kind}-{at}Z-{}.{}", &self.id.as_str()[..8], self.spec.extension())
    }

    /// Returns the export as JSON for clients.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let progress = self.progress();
        let Progress { state, checkpoint, finished_us, expires_us, error, .. } = &*progress;
        let orders = progress.orders();
        let percent = match (state, orders) {
            (ExportState::Done | ExportState::Expired, _) => 100.0,
            (_, Some(orders)) if orders > 0 => {
                // Rounded down to a tenth; 100 is only reached at the end.
                ((checkpoint.orders as f64 / orders as f64 * 1_000.0).floor() / 10.0).min(99.9)
            }
            _ => 0.0,
        };
        let time = |us: &Option<i64>| us.map(clock::rfc3339);
        let path = location(self);
        serde_json::json!({
            "id": self.id.as_str(),
            "tenant_id": Some(&self.tenant).filter(|tenant| !tenant.is_empty()),
            "state": state.name(),
            "format": self.spec.format,
            "rows_are": self.spec.rows,
            "compression": self.spec.compression,
            "filters": self.spec.filters,
            "fields": self.spec.fields,
            "created_at": clock::rfc3339(self.created_us),
            "finished_at": time(finished_us),
            "expires_at": time(expires_us),
            "orders": orders.filter(|_| self.spec.rows.are_of_orders()),
            "selected": orders,
            "rows": checkpoint.rows,
            "bytes": checkpoint.bytes,
            "percent": percent,
            "digest": (*state == ExportState::Done).then(|| format!("sha-256:{}", checkpoint.digest)),
            "error": error,
            "url": path,
            "download_url": format!("{path}/download"),
        })
    }
}

/// Characters that RFC 3986 (2.3) requires to be encoded.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Returns the path of an export.
#[must_use]
pub fn location(export: &Export) -> String {
    if export.tenant.is_empty() {
        return format!("/api/v1/reports/export/{}", export.id.as_str());
    }
    let tenant = utf8_percent_encode(&export.tenant, RESERVED);
    format!("/api/v1/tenants/{tenant}/reports/export/{}", export.id.as_str())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::members::Member;

    pub(in super::super) fn record(body: &str) -> ExportRecord {
        ExportRecord {
            id: ExportId::random().unwrap(),
            tenant: "a b/ö-1".to_owned(),
            key: None,
            spec: ExportSpec::read(Member::of(body.as_bytes()).unwrap(), ExportRows::OF_TENANT).unwrap(),
            created_us: 1_700_000_000_000_000,
            pins: vec![3, 4],
            floors: vec![1, 1],
            progress: Progress::begin(),
        }
    }

    #[test]
    fn it_tells_how_far_it_is_and_reads_back_the_same() {
        let record = record(r#"{"format":"csv","compression":"gzip"}"#);
        let written = serde_json::to_vec(&record).unwrap();
        assert_eq!(serde_json::from_slice::<ExportRecord>(&written).unwrap(), record);
        let export = Export::new(record.clone());
        assert_eq!(
            export.file_name(),
            format!("orders-20231114T221320Z-{}.csv.gz", &export.id.as_str()[..8])
        );
        assert_eq!(
            location(&export),
            format!("/api/v1/tenants/a%20b%2F%C3%B6-1/reports/export/{}", export.id.as_str())
        );
        let percent = |orders, chosen, state| {
            let checkpoint = Checkpoint { orders, ..Checkpoint::default() };
            let progress = Progress { state, chosen, checkpoint, ..Progress::begin() };
            export.progress.store(Arc::new(progress));
            export.to_json()["percent"].as_f64().unwrap()
        };
        assert_eq!(percent(0, None, ExportState::Running), 0.0);
        assert_eq!(percent(1, Some(vec![1, 2]), ExportState::Running), 33.3);
        assert_eq!(percent(3, Some(vec![1, 2]), ExportState::Running), 99.9);
        assert_eq!(percent(0, Some(vec![0]), ExportState::Running), 0.0);
        assert_eq!(percent(3, Some(vec![1, 2]), ExportState::Done), 100.0);
        assert_eq!(export.to_json()["tenant_id"], "a b/ö-1");
    }

    #[test]
    fn an_id_is_a_name_and_no_path() {
        let id = ExportId::random().unwrap();
        assert_eq!(ExportId::parse(id.as_str()), Some(id.clone()));
        for text in ["", "..", "../../../../../../../etc/passwd/", &id.as_str()[1..]] {
            assert_eq!(ExportId::parse(text), None, "{text}");
        }
    }
}
