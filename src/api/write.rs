//! Why a journaled write is refused: reasons common to orders and their status, uploads, prices, exports and
//! erasures.

use super::commerce::KEY_BYTES_MAX;
use crate::http::Refusal;
use crate::ingest::Pressure;
use crate::query::QueryError;
use crate::tenants::Denied;
use crate::unpack::UnpackError;

/// Why a write is refused.
#[derive(Debug, thiserror::Error)]
pub enum WriteRefused {
    #[error("the Idempotency-Key header is missing")]
    KeyMissing,
    #[error("an Idempotency-Key must have 1 to {KEY_BYTES_MAX} visible ASCII characters, quoted or unquoted")]
    KeyMalformed,
    #[error("this Idempotency-Key was used with other rows")]
    KeyReused,
    #[error("a request with this Idempotency-Key is still running")]
    Running,
    #[error("the content type is not supported for orders")]
    ContentType,
    #[error("the content coding is not supported for orders")]
    ContentCoding,
    #[error("the form cannot be parsed: {0}")]
    Multipart(String),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error("no row was stored: {0}")]
    NothingKnown(String),
    #[error("{0}")]
    Refusal(Refusal),
    #[error("the rows are in the journal, but their shard does not commit")]
    NotCommitted,
    #[error("the journal could not be synced to disk; the rows may or may not be stored")]
    Unsynced,
    #[error("the journal accepts no more records")]
    Pressure(Pressure),
    #[error("the core that stores these rows did not respond in time")]
    CoreBusy,
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("{}", .0.detail())]
    Denied(Denied),
    #[error("`ack` must be `os` or `disk`")]
    AckParameter,
}

impl From<Refusal> for WriteRefused {
    fn from(refusal: Refusal) -> WriteRefused {
        WriteRefused::Refusal(refusal)
    }
}
