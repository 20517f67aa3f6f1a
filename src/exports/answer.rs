//! The responses of the export endpoints: JSON, file ranges, and refusals.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use serde_json::{Value, json};

use super::body::ExportFault;
use super::export_location as location;
use super::record::{Export, ExportState, Progress};
use super::store::ExportError;
use crate::api::Problem;
use crate::api::error::{Asker, EventRefused, Refuse, problem};
use crate::api::etag::{Comparison, header_lists};
use crate::api::problem::ErrorItem;
use crate::api::reads::json as document;
use crate::api::write::{self, WriteRefused};
use crate::base::durable::is_full;
use crate::config::AckLevel;
use crate::http::Answer;
use crate::query::QueryError;
use crate::tenants::Denied;

/// The last byte position of a range whose end is not known yet: the largest integer that every client parses (RFC
/// 8673 §2.2).
const VERY_LARGE: u64 = (1 << 53) - 1;

/// Why an export is not created, returned or downloaded.
#[derive(Debug, thiserror::Error)]
pub enum ExportRefused {
    #[error("the body cannot be read")]
    Body(EventRefused),
    #[error("the export request is invalid")]
    Invalid(Vec<ExportFault>),
    #[error("this tenant has no export with this id")]
    NotFound,
    #[error("the export expired and its file was deleted")]
    Gone,
    #[error("the file contained a person who was erased and was deleted; create a new export")]
    Erased,
    #[error("the export failed: {0}")]
    Failed(String),
    #[error("the file does not match If-Match")]
    Changed,
    #[error("the file has {size} bytes, and the range begins after them")]
    Range { size: u64 },
    #[error("the data disk has less than disk_reserve free")]
    DiskLow,
    #[error(transparent)]
    Store(#[from] ExportError),
    #[error(transparent)]
    Ingest(#[from] WriteRefused),
}

impl From<EventRefused> for ExportRefused {
    fn from(refused: EventRefused) -> ExportRefused {
        ExportRefused::Body(refused)
    }
}

impl From<QueryError> for ExportRefused {
    fn from(error: QueryError) -> ExportRefused {
        ExportRefused::Ingest(WriteRefused::Query(error))
    }
}

impl From<Denied> for ExportRefused {
    fn from(denied: Denied) -> ExportRefused {
        ExportRefused::Ingest(WriteRefused::Denied(denied))
    }
}

impl From<std::io::Error> for ExportRefused {
    fn from(error: std::io::Error) -> ExportRefused {
        ExportRefused::Store(error.into())
    }
}

impl Refuse for ExportRefused {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        refused(self, asker)
    }
}

/// Returns the 201 response to a creation. The export is new, or was created before under the same idempotency key.
#[must_use]
pub(super) fn created(export: &Export, is_replay: bool, level: AckLevel) -> Answer {
    let answer = document(201, &export.to_json()).with("Location", location(export));
    let answer = answer.with("Firehose-Ack", level.word());
    if is_replay { answer.with("Idempotent-Replayed", "true") } else { answer }
}

/// Returns the response with an export's state and progress.
#[must_use]
pub(super) fn status(export: &Export) -> Answer {
    document(200, &export.to_json())
}

/// Returns the response with the tenant's exports, newest first.
#[must_use]
pub(super) fn list(exports: &[Arc<Export>]) -> Answer {
    let told: Vec<Value> = exports.iter().rev().map(|export| export.to_json()).collect();
    document(200, &json!({ "exports": told }))
}

#[must_use]
pub(super) fn removed(level: AckLevel) -> Answer {
    Answer::new(204, "", &b""[..]).with("Firehose-Ack", level.word())
}

/// The bytes of a file to send, and the response head.
#[derive(Clone, Debug)]
pub(super) struct Download {
    pub answer: Answer,
    /// The offset of the first byte, and the offset after the last byte. If the second offset is `None`, the response
    /// follows the file to its end, wherever that will be.
    pub part: Option<(u64, Option<u64>)>,
    /// The number of bytes to send, or `None` if it depends on where the file ends.
    pub length: Option<u64>,
}

/// Returns the response to a request for the file.
///
/// # Errors
/// Returns an error if the export failed, expired or was erased, if `If-Match` names another file, or if the file
/// does not have the requested bytes.
pub(super) fn download(
    export: &Export,
    progress: &Progress,
    headers: &HeaderMap,
    is_head: bool,
) -> Result<Download, ExportRefused> {
    match progress.state {
        ExportState::Failed => {
            return Err(ExportRefused::Failed(progress.error.clone().unwrap_or_default()));
        }
        ExportState::Expired => return Err(ExportRefused::Gone),
        ExportState::Erased => return Err(ExportRefused::Erased),
        ExportState::Queued | ExportState::Running | ExportState::Done => {}
    }
    let (etag, size, is_open) = (export.etag(progress), progress.checkpoint.bytes, progress.state.is_open());
    let entity = |status| {
        let answer = Answer::new(status, export.spec.content_type(), &b""[..])
            .with("Accept-Ranges", "bytes")
            .with("ETag", etag.clone())
            .with("Cache-Control", "private, no-cache")
            .with("Content-Disposition", format!("attachment; filename=\"{}\"", export.file_name()));
        match (is_open, digest_field(progress)) {
            (false, Some(digest)) => answer.with("Repr-Digest", digest),
            _ => answer,
        }
    };
    if headers.contains_key("if-match") && !header_lists(headers, "if-match", &etag, Comparison::Strong) {
        return Err(ExportRefused::Changed);
    }
    // No client has all of a growing file, so the client's version is out of date.
    if !is_open && header_lists(headers, "if-none-match", &etag, Comparison::Weak) {
        let answer = Answer { content_type: "", ..entity(304) };
        return Ok(Download { answer, part: None, length: None });
    }
    if is_head {
        let answer = entity(200);
        let answer = if is_open { answer } else { answer.with("Content-Length", size.to_string()) };
        return Ok(Download { answer, part: None, length: None });
    }
    match range(headers, &etag, size, is_open) {
        Wanted::Whole => {
            let until = (!is_open).then_some(size);
            Ok(Download { answer: entity(200), part: Some((0, until)), length: until })
        }
        Wanted::Part { first, last } => {
            let total = if is_open { "*".to_owned() } else { size.to_string() };
            let answer = entity(206).with("Content-Range", format!("bytes {first}-{last}/{total}"));
            let until = last + 1;
            Ok(Download { answer, part: Some((first, Some(until))), length: Some(until - first) })
        }
        Wanted::Rest { first, last } => {
            let answer = entity(206).with("Content-Range", format!("bytes {first}-{last}/*"));
            Ok(Download { answer, part: Some((first, Some(last + 1))), length: None })
        }
        Wanted::Nothing => Err(ExportRefused::Range { size }),
    }
}

/// Returns the value of the digest field (RFC 9530).
fn digest_field(progress: &Progress) -> Option<String> {
    let digits = progress.checkpoint.digest.as_bytes().as_chunks::<2>().0;
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.iter().map(byte).collect();
    Some(format!("sha-256=:{}:", STANDARD.encode(bytes?)))
}

/// What a `Range` header requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    /// The bytes from `first` to `last`, inclusive. All of them exist.
    Part {
        first: u64,
        last: u64,
    },
    /// The bytes from `first` to `last`, or to the end of the growing file if that comes first.
    Rest {
        first: u64,
        last: u64,
    },
    Nothing,
}

/// Parses a single range (RFC 9110 §14.2). Multiple ranges, another unit, and an invalid range are ignored. So is a
/// range whose `If-Range` names another file.
///
/// In a growing file, a range that ends after the current last byte is sent as the file grows. The response ends
/// cleanly only at the end of the range or of the file, so clients need not check the length.
fn range(headers: &HeaderMap, etag: &str, size: u64, is_open: bool) -> Wanted {
    let mut ranges = headers.get_all("range").iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Wanted::Whole };
    if let Some(condition) = headers.get("if-range")
        && condition.as_bytes() != etag.as_bytes()
    {
        return Wanted::Whole;
    }
    let parsed = range.to_str().ok().and_then(|text| text.split_once('='));
    let set = parsed.filter(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes")).map(|(_, set)| set.trim());
    let Some((first, last)) = set.and_then(|set| set.split_once('-')) else { return Wanted::Whole };
    let digits = |text: &str| -> Option<Option<u64>> {
        match text {
            "" => Some(None),
            _ if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                // A number too large to parse counts as the largest one.
                Some(Some(text.parse().unwrap_or(u64::MAX)))
            }
            _ => None,
        }
    };
    let (Some(first), Some(last)) = (digits(first), digits(last)) else { return Wanted::Whole };
    match (first, last) {
        (None, None) => Wanted::Whole,
        // The last bytes of a growing file are not known yet.
        (None, Some(_)) if is_open => Wanted::Whole,
        (None, Some(0)) => Wanted::Nothing,
        (None, Some(_)) if size == 0 => Wanted::Nothing,
        (None, Some(count)) => Wanted::Part { first: size.saturating_sub(count), last: size - 1 },
        (Some(first), Some(last)) if first > last => Wanted::Whole,
        (Some(first), last) if is_open => match last {
            _ if first > size => Wanted::Nothing,
            Some(last) if last < size => Wanted::Part { first, last },
            last => Wanted::Rest { first, last: last.unwrap_or(VERY_LARGE).min(VERY_LARGE) },
        },
        (Some(first), _) if first >= size => Wanted::Nothing,
        (Some(first), last) => Wanted::Part { first, last: last.unwrap_or(u64::MAX).min(size - 1) },
    }
}

/// Returns the response to a failed request.
#[must_use]
fn refused(refused: &ExportRefused, asker: &Asker<'_>) -> Answer {
    let Asker { request_id, problems, .. } = *asker;
    let plain = |kind, detail: &str| problem(kind, detail, request_id, &[], &[], problems);
    let said = refused.to_string();
    match refused {
        ExportRefused::Body(refused) => refused.answer(asker),
        ExportRefused::Invalid(faults) => {
            let items: Vec<_> = faults
                .iter()
                .map(|fault| ErrorItem {
                    pointer: Some(fault.pointer),
                    code: fault.code,
                    detail: &fault.detail,
                    ..ErrorItem::default()
                })
                .collect();
            let detail = faults.first().map_or(said.as_str(), |fault| fault.detail.as_str());
            problem(Problem::InvalidExport, detail, request_id, &items, &[], problems)
        }
        ExportRefused::NotFound => plain(Problem::NoSuchExport, &said),
        ExportRefused::Gone | ExportRefused::Erased => plain(Problem::ExportGone, &said),
        ExportRefused::Failed(_) => plain(Problem::ExportFailed, &said),
        ExportRefused::Changed => plain(Problem::PreconditionFailed, &said),
        ExportRefused::Range { size } => {
            plain(Problem::RangeNotSatisfiable, &said).with("Content-Range", format!("bytes */{size}"))
        }
        ExportRefused::DiskLow | ExportRefused::Store(ExportError::NoRoom { .. } | ExportError::TooMany) => {
            plain(Problem::NoRoomForExport, &said)
        }
        ExportRefused::Store(ExportError::Io(error)) if is_full(error) => {
            plain(Problem::NoRoomForExport, "the disk is full")
        }
        // The system's error message is only for the log.
        ExportRefused::Store(_) => plain(Problem::Internal, "an export file cannot be used"),
        ExportRefused::Ingest(error) => {
            Answer { close: false, ..write::refused(error, request_id, problems) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_what_rfc_9110_says_it_is() {
        let part = |first, last| Wanted::Part { first, last };
        let rest = |first, last| Wanted::Rest { first, last };
        for (range, done, open) in [
            ("bytes=0-9", part(0, 9), part(0, 9)),
            ("Bytes = 0-9", part(0, 9), part(0, 9)),
            ("bytes=99-99", part(99, 99), part(99, 99)),
            ("bytes=0-", part(0, 99), rest(0, VERY_LARGE)),
            ("bytes=50-1000", part(50, 99), rest(50, 1000)),
            ("bytes=50-99999999999999999999999", part(50, 99), rest(50, VERY_LARGE)),
            ("bytes=-10", part(90, 99), Wanted::Whole),
            ("bytes=-1000", part(0, 99), Wanted::Whole),
            ("bytes=-0", Wanted::Nothing, Wanted::Whole),
            ("bytes=100-", Wanted::Nothing, rest(100, VERY_LARGE)),
            ("bytes=101-", Wanted::Nothing, Wanted::Nothing),
            ("bytes=9-0", Wanted::Whole, Wanted::Whole),
            ("bytes=0-1,5-6", Wanted::Whole, Wanted::Whole),
            ("bytes=a-b", Wanted::Whole, Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole, Wanted::Whole),
            ("bytes=-", Wanted::Whole, Wanted::Whole),
            ("items=0-9", Wanted::Whole, Wanted::Whole),
            ("bytes", Wanted::Whole, Wanted::Whole),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("range", range.parse().unwrap());
            assert_eq!(super::range(&headers, "\"x\"", 100, false), done, "{range}");
            assert_eq!(super::range(&headers, "\"x\"", 100, true), open, "{range}");
            headers.insert("if-range", "\"x\"".parse().unwrap());
            assert_eq!(super::range(&headers, "\"x\"", 100, false), done, "{range}");
            for other in ["\"y\"", "W/\"x\"", "Sat, 21 Nov 2026 10:00:00 GMT"] {
                headers.insert("if-range", other.parse().unwrap());
                assert_eq!(super::range(&headers, "\"x\"", 100, false), Wanted::Whole, "{range}");
            }
            headers.remove("if-range");
            headers.append("range", "bytes=0-9".parse().unwrap());
            assert_eq!(super::range(&headers, "\"x\"", 100, false), Wanted::Whole, "two of them");
        }
        let mut headers = HeaderMap::new();
        headers.insert("range", "bytes=0-".parse().unwrap());
        assert_eq!(super::range(&headers, "\"x\"", 0, false), Wanted::Nothing);
        assert_eq!(super::range(&headers, "\"x\"", 0, true), rest(0, VERY_LARGE));
    }
}
