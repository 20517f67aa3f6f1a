//! Resumable order uploads: each upload's state and its files, which survive the process.
//!
//! ```text
//! DATA/uploads/<id>/info.json   tenant, length, progress: replaced as a whole, by a rename
//!                   body        the bytes as received; deleted when the upload has ended
//! ```
//! The order of writes makes a reported offset a promise: first, the bytes go to `body`; next, their rows are
//! committed; last, the checkpoint in `info.json` advances. The bytes after the checkpoint are read from `body`
//! again. Rows that are already stored are recognised by their ingest's id and their line.
//!
//! In: requests of tus 1.0.0. Out: offsets, an [`Upload`], its [`Body`]. Owns: `DATA/uploads`, and the limit on the
//! space that all uploads occupy (`quota.rs`). Never: lets two requests write one upload.

mod answer;
mod asked;
mod body;
mod checksum;
mod copy;
pub mod endpoints;
pub mod openapi;
mod quota;
mod record;
pub mod shapes;
mod store;

pub use answer::{UploadRefused, options, refused};
pub use body::Body;
pub use checksum::{Checksum, ChecksumError, RunningDigest};
pub use copy::{CopiedUploads, copy_uploads};
pub use endpoints::{Uploads, claim, upload_store};
pub use record::{Checkpoint, Damage, NewUpload, State, Upload, UploadId};
pub use store::{UploadError, UploadStore};
