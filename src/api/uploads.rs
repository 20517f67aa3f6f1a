//! tus 1.0.0: what the headers of a resumable upload ask for, and what is answered.
//!
//! <https://tus.io/protocols/resumable-upload>, with the extensions of [`EXTENSIONS`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;

use super::Problem;
use super::commerce::{IngestRefused, ingest_key, ingest_refused};
use super::error::problem;
use crate::base::clock;
use crate::base::counters::Cell;
use crate::commerce::{Checksum, ChecksumError, Damage, State, Upload, UploadError, Wish};
use crate::config::Config;
use crate::http::Answer;
use crate::tenants::Denied;

/// The version of the protocol that is spoken, the only one there is.
pub const VERSION: &str = "1.0.0";
pub const EXTENSIONS: &str = "creation,creation-with-upload,expiration,termination,checksum";
/// Where uploads are created; below it they are.
const PATH: &str = "/api/v1/ingest/orders/uploads";
/// The media type of a piece.
const PIECE: &str = "application/offset+octet-stream";
/// The metadata that may name the idempotency key, for clients that send no headers of their own.
const KEY_METADATA: &str = "idempotency_key";

/// Why an upload is not created, continued or told of.
#[derive(Debug, thiserror::Error)]
pub enum UploadRefused {
    #[error("the Tus-Resumable header must be {VERSION}")]
    Version,
    #[error("{0}")]
    Header(&'static str),
    #[error(transparent)]
    Checksum(#[from] ChecksumError),
    #[error("an upload may have {bytes_max} bytes")]
    TooLong { bytes_max: u64 },
    #[error("a piece of an upload has the content type {PIECE}")]
    ContentType,
    #[error("there is no upload with this id")]
    NotFound,
    #[error("the upload was not continued in time and is gone")]
    Gone,
    #[error("the upload has {offset} bytes, and Upload-Offset is another")]
    Offset { offset: u64 },
    #[error("there are more bytes than the upload was to have")]
    Beyond,
    #[error("another request works on this upload")]
    Locked,
    #[error("the bytes do not have the checksum they were sent with; none of them was taken")]
    Mismatch,
    #[error("the upload cannot be read any further: {detail}")]
    Failed { damage: Damage, detail: String },
    #[error("less than disk_reserve is free on the data disk")]
    DiskLow,
    #[error(transparent)]
    Store(UploadError),
    #[error("what worked on the upload ended without an answer")]
    Lost,
    #[error(transparent)]
    Ingest(IngestRefused),
}

impl From<UploadError> for UploadRefused {
    fn from(error: UploadError) -> UploadRefused {
        UploadRefused::Store(error)
    }
}

impl From<std::io::Error> for UploadRefused {
    fn from(error: std::io::Error) -> UploadRefused {
        UploadRefused::Store(error.into())
    }
}

impl From<IngestRefused> for UploadRefused {
    fn from(error: IngestRefused) -> UploadRefused {
        UploadRefused::Ingest(error)
    }
}

impl From<Denied> for UploadRefused {
    fn from(denied: Denied) -> UploadRefused {
        UploadRefused::Ingest(IngestRefused::Denied(denied))
    }
}

/// The largest upload: its rows may not unfold to more than an ingest may either.
#[must_use]
pub fn length_max(config: &Config) -> u64 {
    config.uploads_bytes_max.min(config.ingest_bytes_max)
}

/// One header's text; several are as bad as none that can be read.
fn text<'h>(
    headers: &'h HeaderMap,
    name: &str,
    wrong: &'static str,
) -> Result<Option<&'h str>, UploadRefused> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(|value| value.to_str()), values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(text)), None) => Ok(Some(text.trim())),
        _ => Err(UploadRefused::Header(wrong)),
    }
}

fn number(headers: &HeaderMap, name: &str, wrong: &'static str) -> Result<Option<u64>, UploadRefused> {
    let Some(text) = text(headers, name, wrong)? else { return Ok(None) };
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten().map(Some).ok_or(UploadRefused::Header(wrong))
}

/// That the client speaks this version of tus. Asked of everything but OPTIONS and GET, which tus does not know.
pub fn version(headers: &HeaderMap) -> Result<(), UploadRefused> {
    let mut versions = headers.get_all("tus-resumable").iter();
    match (versions.next().map(|version| version.as_bytes()), versions.next()) {
        (Some(version), None) if version == VERSION.as_bytes() => Ok(()),
        _ => Err(UploadRefused::Version),
    }
}

/// What a POST wants created.
pub fn wish(headers: &HeaderMap, length_max: u64) -> Result<Wish, UploadRefused> {
    const LENGTH: &str = "Upload-Length must be the number of bytes of the upload";
    const METADATA: &str =
        "Upload-Metadata is pairs of a key and a base64 value, with commas between them, no key twice";
    if headers.contains_key("upload-defer-length") {
        return Err(UploadRefused::Header("the length of an upload must be told when it is created"));
    }
    if headers.contains_key("upload-concat") {
        return Err(UploadRefused::Header("uploads are not put together from others"));
    }
    let length = number(headers, "upload-length", LENGTH)?.ok_or(UploadRefused::Header(LENGTH))?;
    if length > length_max {
        return Err(UploadRefused::TooLong { bytes_max: length_max });
    }
    let metadata = text(headers, "upload-metadata", METADATA)?.unwrap_or_default();
    let named = metadata_key(metadata).ok_or(UploadRefused::Header(METADATA))?;
    let key = match headers.contains_key("idempotency-key") {
        true => Some(ingest_key(headers)?),
        false => named.map(|key| as_key(&key)).transpose()?,
    };
    Ok(Wish { length, metadata: metadata.to_owned(), key })
}

/// By the same rules as the header.
fn as_key(key: &[u8]) -> Result<String, UploadRefused> {
    let mut headers = HeaderMap::new();
    let value = hyper::header::HeaderValue::from_bytes(key);
    headers.insert("idempotency-key", value.map_err(|_| IngestRefused::KeyMalformed)?);
    Ok(ingest_key(&headers)?)
}

/// Checks `key base64,key base64,key` and finds the idempotency key in it. `None`: it is no metadata.
fn metadata_key(metadata: &str) -> Option<Option<Vec<u8>>> {
    let (mut seen, mut found) = (Vec::new(), None);
    if metadata.is_empty() {
        return Some(None);
    }
    for pair in metadata.split(',') {
        let (key, value) = pair.trim().split_once(' ').unwrap_or((pair.trim(), ""));
        let value = STANDARD.decode(value.trim()).ok()?;
        if key.is_empty() || seen.contains(&key) {
            return None;
        }
        seen.push(key);
        if key == KEY_METADATA {
            found = Some(value);
        }
    }
    Some(found)
}

/// Where a PATCH says it goes on.
pub fn offset(headers: &HeaderMap) -> Result<u64, UploadRefused> {
    const OFFSET: &str = "Upload-Offset must be the number of bytes the upload has";
    number(headers, "upload-offset", OFFSET)?.ok_or(UploadRefused::Header(OFFSET))
}

/// That a body is a piece of an upload.
pub fn is_piece(headers: &HeaderMap) -> Result<(), UploadRefused> {
    let content_type = headers.get("content-type").and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(PIECE).then_some(()).ok_or(UploadRefused::ContentType)
}

/// What a piece is to add up to, where that is told.
pub fn checksum(headers: &HeaderMap) -> Result<Option<Checksum>, UploadRefused> {
    const CHECKSUM: &str = "Upload-Checksum must be given once";
    let text = text(headers, "upload-checksum", CHECKSUM)?;
    Ok(text.map(Checksum::parse).transpose()?)
}

fn tus(answer: Answer) -> Answer {
    answer.with("Tus-Resumable", VERSION)
}

/// With how far the upload is, and until when it may be continued.
fn progress(answer: Answer, upload: &Upload, offset: u64) -> Answer {
    let answer = tus(answer).with("Upload-Offset", offset.to_string());
    match upload.state {
        State::Receiving => {
            let date = clock::http_date(upload.expires_us);
            answer.with("Upload-Expires", String::from_utf8_lossy(&date).into_owned())
        }
        _ => answer,
    }
}

/// The path of an upload.
#[must_use]
pub fn location(upload: &Upload) -> String {
    format!("{PATH}/{}", upload.id.as_str())
}

/// 201, with where the upload is.
#[must_use]
pub fn created(upload: &Upload, offset: u64) -> Answer {
    progress(Answer::new(201, "", &b""[..]), upload, offset).with("Location", location(upload))
}

/// 204 to a PATCH.
#[must_use]
pub fn taken(upload: &Upload, offset: u64) -> Answer {
    progress(Answer::new(204, "", &b""[..]), upload, offset)
}

/// 200 to a HEAD.
#[must_use]
pub fn looked(upload: &Upload, offset: u64) -> Answer {
    let answer = progress(Answer::new(200, "", &b""[..]), upload, offset)
        .with("Upload-Length", upload.length.to_string())
        .with("Cache-Control", "no-store");
    match upload.metadata.is_empty() {
        true => answer,
        false => answer.with("Upload-Metadata", upload.metadata.clone()),
    }
}

/// 200 to a GET: the summary.
#[must_use]
pub fn told(upload: &Upload) -> Answer {
    let answer = Answer::new(200, "application/json", upload.json());
    progress(answer, upload, upload.checkpoint.offset).with("Cache-Control", "no-store")
}

/// 204 to a DELETE.
#[must_use]
pub fn terminated() -> Answer {
    tus(Answer::new(204, "", &b""[..]))
}

/// What OPTIONS tells beside the methods.
#[must_use]
pub fn options(answer: Answer, config: &Config) -> Answer {
    tus(answer)
        .with("Tus-Version", VERSION)
        .with("Tus-Extension", EXTENSIONS)
        .with("Tus-Max-Size", length_max(config).to_string())
        .with("Tus-Checksum-Algorithm", Checksum::ALGORITHMS)
}

/// The answer to a request that came to nothing.
#[must_use]
pub fn refused(refused: &UploadRefused, request_id: &str, problems: &[Cell]) -> Answer {
    let kind = match refused {
        UploadRefused::Version => Problem::TusVersion,
        UploadRefused::Header(_) | UploadRefused::Checksum(_) => Problem::BadUploadHeader,
        UploadRefused::TooLong { .. } | UploadRefused::Beyond => Problem::PayloadTooLarge,
        UploadRefused::ContentType => Problem::UnsupportedMediaType,
        UploadRefused::NotFound => Problem::NoSuchUpload,
        UploadRefused::Gone => Problem::UploadGone,
        UploadRefused::Offset { .. } => Problem::WrongUploadOffset,
        UploadRefused::Locked => Problem::UploadLocked,
        UploadRefused::Mismatch => Problem::ChecksumMismatch,
        UploadRefused::Failed { damage: Damage::TooLarge, .. } => Problem::PayloadTooLarge,
        UploadRefused::Failed { damage: Damage::Unsupported, .. } => Problem::UnsupportedMediaType,
        UploadRefused::Failed { damage: Damage::Damaged, .. } => Problem::DamagedUpload,
        UploadRefused::DiskLow => Problem::NoRoomForUpload,
        UploadRefused::Store(UploadError::NoRoom { .. } | UploadError::TooMany) => Problem::NoRoomForUpload,
        UploadRefused::Store(UploadError::Io(error)) if is_full(error) => Problem::NoRoomForUpload,
        UploadRefused::Store(_) | UploadRefused::Lost => Problem::Internal,
        UploadRefused::Ingest(error) => {
            return tus(Answer { close: false, ..ingest_refused(error, None, request_id, problems) });
        }
    };
    // What the system says of its files is for the log.
    let detail = match refused {
        UploadRefused::Store(UploadError::Io(error)) if is_full(error) => "the disk is full".to_owned(),
        UploadRefused::Store(UploadError::Io(_)) => "a file of the upload cannot be used".to_owned(),
        _ => refused.to_string(),
    };
    let answer = tus(problem(kind, &detail, request_id, &[], &[], problems));
    match refused {
        UploadRefused::Version => answer.with("Tus-Version", VERSION),
        UploadRefused::Offset { offset } => answer.with("Upload-Offset", offset.to_string()),
        UploadRefused::Locked => answer.with("Retry-After", "1"),
        UploadRefused::ContentType => answer.with("Accept-Patch", PIECE),
        _ => answer,
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn wished(pairs: &[(&'static str, &str)]) -> Result<Wish, UploadRefused> {
        wish(&headers(pairs), 1_000)
    }

    #[test]
    fn a_wish_has_a_length_and_may_have_metadata_and_a_key() {
        let length = ("upload-length", "1000");
        let plain = wished(&[length]).unwrap();
        assert_eq!(plain, Wish { length: 1_000, metadata: String::new(), key: None });
        let metadata = "filename d29ybGQ=,is_confidential,idempotency_key YS0x";
        let named = wished(&[length, ("upload-metadata", metadata)]).unwrap();
        assert_eq!((named.metadata.as_str(), named.key.as_deref()), (metadata, Some("a-1")));
        let both = wished(&[length, ("upload-metadata", metadata), ("idempotency-key", "\"b\"")]).unwrap();
        assert_eq!(both.key.as_deref(), Some("b"));
    }

    #[test]
    fn a_wish_that_cannot_be_met_is_refused() {
        assert!(matches!(wished(&[("upload-length", "1001")]), Err(UploadRefused::TooLong { .. })));
        for length in ["", "-1", "+1", "1.0", "0x1", "99999999999999999999"] {
            let refused = wished(&[("upload-length", length)]);
            assert!(matches!(refused, Err(UploadRefused::Header(_))), "{length:?}");
        }
        let length = ("upload-length", "1");
        for more in [
            ("upload-length", "1"),
            ("upload-defer-length", "1"),
            ("upload-concat", "partial"),
            ("upload-metadata", "a YQ==,a YQ=="),
            ("upload-metadata", "a YQ==,,b"),
            ("upload-metadata", "a !"),
            ("upload-metadata", "a YQ== YQ=="),
        ] {
            assert!(matches!(wished(&[length, more]), Err(UploadRefused::Header(_))), "{more:?}");
        }
        // A key of 0x07, and an empty one.
        for more in [("upload-metadata", "idempotency_key Bw=="), ("upload-metadata", "idempotency_key")] {
            let refused = wished(&[length, more]);
            let is_it = matches!(refused, Err(UploadRefused::Ingest(IngestRefused::KeyMalformed)));
            assert!(is_it, "{more:?}");
        }
    }

    #[test]
    fn a_piece_says_what_it_is_and_where_it_goes() {
        assert_eq!(offset(&headers(&[("upload-offset", "70")])).unwrap(), 70);
        assert!(offset(&headers(&[])).is_err() && offset(&headers(&[("upload-offset", "x")])).is_err());
        assert!(is_piece(&headers(&[("content-type", "Application/Offset+octet-stream")])).is_ok());
        assert!(is_piece(&headers(&[])).is_err());
        assert!(is_piece(&headers(&[("content-type", "application/octet-stream")])).is_err());
        assert!(version(&headers(&[("tus-resumable", "1.0.0")])).is_ok());
        assert!(version(&headers(&[("tus-resumable", "0.2.2")])).is_err() && version(&headers(&[])).is_err());
        assert_eq!(checksum(&headers(&[])).unwrap(), None);
        assert!(checksum(&headers(&[("upload-checksum", "crc32 AAAA")])).is_err());
    }

    #[test]
    fn every_refusal_is_said_in_tus() {
        let io = |kind: std::io::ErrorKind| UploadRefused::from(std::io::Error::from(kind));
        for (reason, status) in [
            (UploadRefused::Version, 412),
            (UploadRefused::Header("x"), 400),
            (UploadRefused::Checksum(ChecksumError::Algorithm), 400),
            (UploadRefused::TooLong { bytes_max: 1 }, 413),
            (UploadRefused::ContentType, 415),
            (UploadRefused::NotFound, 404),
            (UploadRefused::Gone, 410),
            (UploadRefused::Offset { offset: 7 }, 409),
            (UploadRefused::Locked, 423),
            (UploadRefused::Mismatch, 460),
            (UploadRefused::Failed { damage: Damage::Damaged, detail: String::new() }, 400),
            (UploadError::TooMany.into(), 507),
            (io(std::io::ErrorKind::StorageFull), 507),
            (io(std::io::ErrorKind::PermissionDenied), 500),
            (IngestRefused::NotCommitted.into(), 503),
            (UploadRefused::Lost, 500),
        ] {
            let answer = refused(&reason, "r", &[]);
            let has = |name: &str| answer.headers.iter().any(|(known, _)| *known == name);
            assert_eq!(answer.status, status, "{reason:?}");
            assert!(has("Tus-Resumable") && !answer.close, "{reason:?}");
            assert_eq!(has("Upload-Offset"), status == 409);
            assert_eq!(has("Tus-Version"), status == 412);
        }
    }
}
