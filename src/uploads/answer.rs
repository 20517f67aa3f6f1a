//! tus 1.0.0: the responses of a resumable upload.
//!
//! <https://tus.io/protocols/resumable-upload>, with the extensions in [`EXTENSIONS`].

use super::checksum::{Checksum, ChecksumError};
use super::record::{Damage, State, Upload};
use super::store::UploadError;
use crate::api::Problem;
use crate::api::error::{Asker, Refuse, problem};
use crate::api::write::{self, WriteRefused};
use crate::base::clock;
use crate::base::counters::Cell;
use crate::base::durable::is_full;
use crate::config::{AckLevel, Config};
use crate::http::Answer;
use crate::tenants::Denied;

/// The supported protocol version, the only one that exists.
pub(super) const VERSION: &str = "1.0.0";
pub(super) const EXTENSIONS: &str =
    "creation,creation-with-upload,creation-defer-length,expiration,termination,checksum";
/// The path at which uploads are created. Each upload's path is below it.
const PATH: &str = "/api/v1/ingest/orders/uploads";
/// The media type of a PATCH body.
pub(super) const PIECE: &str = "application/offset+octet-stream";

/// Why an upload is not created, continued or returned.
#[derive(Debug, thiserror::Error)]
pub enum UploadRefused {
    #[error("the Tus-Resumable header must be {VERSION}")]
    Version,
    #[error("{0}")]
    Header(&'static str),
    #[error(transparent)]
    Checksum(#[from] ChecksumError),
    #[error("an upload may have at most {bytes_max} bytes")]
    TooLong { bytes_max: u64 },
    #[error("the content type must be {PIECE}")]
    ContentType,
    #[error(
        "the bytes of an upload must be sent without a content coding; the file itself may be compressed"
    )]
    ContentCoding,
    #[error("there is no upload with this id")]
    NotFound,
    #[error("the upload expired and was deleted")]
    Gone,
    #[error("the upload has {offset} bytes, and Upload-Offset differs")]
    Offset { offset: u64 },
    #[error("the body exceeds the length of the upload")]
    Beyond,
    #[error("another request uses this upload")]
    Locked,
    #[error("the checksum does not match; all bytes of this request were discarded")]
    Mismatch,
    #[error("the upload failed: {detail}")]
    Failed { damage: Damage, detail: String },
    #[error("the data disk has less than disk_reserve free")]
    DiskLow,
    #[error(transparent)]
    Store(UploadError),
    #[error("the upload's task ended without a response")]
    Lost,
    #[error(transparent)]
    Ingest(WriteRefused),
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

impl From<WriteRefused> for UploadRefused {
    fn from(error: WriteRefused) -> UploadRefused {
        UploadRefused::Ingest(error)
    }
}

impl From<Denied> for UploadRefused {
    fn from(denied: Denied) -> UploadRefused {
        UploadRefused::Ingest(WriteRefused::Denied(denied))
    }
}

impl Refuse for UploadRefused {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        refused(self, asker.request_id, asker.problems)
    }
}

/// Returns the maximum length of an upload: the limit on an ingest or on all uploads, whichever is lower.
#[must_use]
pub(super) fn length_max(config: &Config) -> u64 {
    config.uploads_bytes_max.min(config.ingest_bytes_max)
}

fn tus(answer: Answer) -> Answer {
    answer.with("Tus-Resumable", VERSION)
}

/// Adds the upload's offset and expiry headers.
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

/// Returns the path of an upload.
#[must_use]
pub(super) fn location(upload: &Upload) -> String {
    format!("{PATH}/{}", upload.id.as_str())
}

/// Returns the 201 response with the upload's location.
#[must_use]
pub(super) fn created(upload: &Upload, offset: u64, level: AckLevel) -> Answer {
    let answer = progress(Answer::new(201, "", &b""[..]), upload, offset);
    answer.with("Location", location(upload)).with("Firehose-Ack", level.word())
}

/// Returns the 204 response to a PATCH.
#[must_use]
pub(super) fn taken(upload: &Upload, offset: u64, level: AckLevel) -> Answer {
    progress(Answer::new(204, "", &b""[..]), upload, offset).with("Firehose-Ack", level.word())
}

/// Returns the 200 response to a HEAD.
#[must_use]
pub(super) fn looked(upload: &Upload, offset: u64) -> Answer {
    let answer = progress(Answer::new(200, "", &b""[..]), upload, offset).with("Cache-Control", "no-store");
    let answer = match upload.is_deferred {
        true => answer.with("Upload-Defer-Length", "1"),
        false => answer.with("Upload-Length", upload.length.to_string()),
    };
    match upload.metadata.is_empty() {
        true => answer,
        false => answer.with("Upload-Metadata", upload.metadata.clone()),
    }
}

/// Returns the 200 response to a GET: the summary.
#[must_use]
pub(super) fn status(upload: &Upload) -> Answer {
    let answer = Answer::new(200, "application/json", upload.json());
    progress(answer, upload, upload.checkpoint.offset).with("Cache-Control", "no-store")
}

/// Returns the 204 response to a DELETE.
#[must_use]
pub(super) fn terminated(level: AckLevel) -> Answer {
    tus(Answer::new(204, "", &b""[..])).with("Firehose-Ack", level.word())
}

/// Adds the headers of an OPTIONS response.
#[must_use]
pub fn options(answer: Answer, config: &Config) -> Answer {
    tus(answer)
        .with("Tus-Version", VERSION)
        .with("Tus-Extension", EXTENSIONS)
        .with("Tus-Max-Size", length_max(config).to_string())
        .with("Tus-Checksum-Algorithm", Checksum::ALGORITHMS)
}

/// Returns the response to a failed request.
#[must_use]
pub fn refused(refused: &UploadRefused, request_id: &str, problems: &[Cell]) -> Answer {
    let kind = match refused {
        UploadRefused::Version => Problem::TusVersion,
        UploadRefused::Header(_) | UploadRefused::Checksum(_) => Problem::BadUploadHeader,
        UploadRefused::TooLong { .. } | UploadRefused::Beyond => Problem::PayloadTooLarge,
        UploadRefused::ContentType | UploadRefused::ContentCoding => Problem::UnsupportedMediaType,
        UploadRefused::NotFound => Problem::NoSuchUpload,
        UploadRefused::Gone => Problem::UploadGone,
        UploadRefused::Offset { .. } => Problem::WrongUploadOffset,
        UploadRefused::Locked => Problem::UploadLocked,
        UploadRefused::Mismatch => Problem::ChecksumMismatch,
        UploadRefused::Failed { damage: Damage::TooLarge, .. } => Problem::PayloadTooLarge,
        UploadRefused::Failed { damage: Damage::Unsupported, .. } => Problem::UnsupportedMediaType,
        UploadRefused::Failed { damage: Damage::Damaged, .. } => Problem::DamagedUpload,
        UploadRefused::Failed { damage: Damage::NothingKnown, .. } => Problem::NoOrders,
        UploadRefused::DiskLow => Problem::NoRoomForUpload,
        UploadRefused::Store(UploadError::NoRoom { .. } | UploadError::TooMany) => Problem::NoRoomForUpload,
        UploadRefused::Store(UploadError::Io(error)) if is_full(error) => Problem::NoRoomForUpload,
        UploadRefused::Store(_) | UploadRefused::Lost => Problem::Internal,
        UploadRefused::Ingest(error) => {
            return tus(Answer { close: false, ..write::refused(error, request_id, problems) });
        }
    };
    // The system's error message is only for the log.
    let detail = match refused {
        UploadRefused::Store(UploadError::Io(error)) if error.kind() == std::io::ErrorKind::QuotaExceeded => {
            "the running uploads leave no space for more bytes of this one; the bytes received so far \
             remain"
                .to_owned()
        }
        UploadRefused::Store(UploadError::Io(error)) if is_full(error) => "the disk is full".to_owned(),
        UploadRefused::Store(UploadError::Io(_)) => "an upload file cannot be used".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

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
            (WriteRefused::NotCommitted.into(), 503),
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
