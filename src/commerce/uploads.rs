//! Resumable uploads of orders: what is known of each, and its files, which survive the process.
//!
//! ```text
//! DATA/uploads/<id>/info.json   who, how long, how far: replaced as a whole, by a rename
//!                   body        the bytes as they came; goes when the upload has ended
//! ```
//! The order of writing is what makes a reported offset a promise: bytes to `body`, their rows committed, then
//! the checkpoint in `info.json`. What is behind the checkpoint is read from `body` again; rows that were stored
//! already are known by the id of their ingest and their line.
//!
//! In: bytes, a checkpoint. Out: an [`Upload`], its [`Body`]. Owns: `DATA/uploads`, the room uploads may take
//! together ([`room`]). Never: a look at what the bytes say; more than one writer an upload (the caller's affair).

mod body;
mod checksum;
mod copy;
mod record;
mod room;
mod store;

pub use body::Body;
pub use checksum::{Checksum, ChecksumError, DigestOf};
pub use copy::{CopiedUploads, copy_uploads};
pub use record::{Checkpoint, Damage, State, Upload, UploadId, Wish};
pub use store::{UploadError, UploadStore};
