//! Resumable uploads of orders: the state of each upload and its files, which survive the process.
//!
//! ```text
//! DATA/uploads/<id>/info.json   tenant, length, progress: replaced as a whole, by a rename
//!                   body        the bytes as received; deleted when the upload has ended
//! ```
//! The order of writes makes a reported offset a promise: first the bytes go to `body`, then their rows are
//! committed, then the checkpoint in `info.json` advances. The bytes after the checkpoint are read from `body` again.
//! Rows that are already stored are recognised by the id of their ingest and their line.
//!
//! In: bytes, a checkpoint. Out: an [`Upload`], its [`Body`]. Owns: `DATA/uploads`, and the space that uploads may
//! occupy together ([`room`]). Never: interprets the bytes. The caller ensures that each upload has a single writer.

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
