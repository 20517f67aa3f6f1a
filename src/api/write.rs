//! Why a write that goes through the journal has no answer of its own: common to orders and their status, uploads,
//! prices, exports and erasures.

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
    #[error("an Idempotency-Key has 1 to {KEY_BYTES_MAX} visible ASCII characters, in quotes or not")]
    KeyMalformed,
    #[error("this Idempotency-Key was used for other rows")]
    KeyReused,
    #[error("a request with this Idempotency-Key is running")]
    Running,
    #[error("the content type is not one that orders come in")]
    ContentType,
    #[error("the content coding is not one that orders come in")]
    ContentCoding,
    #[error("the form cannot be read: {0}")]
    Multipart(String),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error("nothing of the body was stored: {0}")]
    NothingKnown(String),
    #[error("{0}")]
    Refusal(Refusal),
    #[error("rows are in the journal, but their shard does not commit")]
    NotCommitted,
    #[error("the journal could not be synced to disk; whether the rows will be stored is not certain")]
    Unsynced,
    #[error("the journal takes no more")]
    Pressure(Pressure),
    #[error("the core that keeps these rows does not answer in time")]
    CoreBusy,
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("{}", .0.detail())]
    Denied(Denied),
    #[error("`ack` may be `os` or `disk`")]
    AckParameter,
}

impl From<Refusal> for WriteRefused {
    fn from(refusal: Refusal) -> WriteRefused {
        WriteRefused::Refusal(refusal)
    }
}
