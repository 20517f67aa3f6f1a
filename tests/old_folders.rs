//! Data folders of earlier versions are served unchanged: every response equals the recorded one, completed requests
//! are known to be complete, and nothing is reported as damaged. A response that is changed on purpose is changed in the
//! fixtures too.
//!
//! A fixture is the whole folder as an earlier program left it after a kill, with records in its journals that no
//! shard contains yet. To add one, run the first command with that version's program, and the second with the program
//! whose responses are to be recorded:
//!
//! ```sh
//! TEST_PROGRAM=/path/to/firehose TEST_FOLDER=served-<commit> cargo test --test all served::make -- --ignored
//! TEST_PROGRAM=/path/to/firehose TEST_FOLDER=served-<commit> cargo test --test all served::record -- --ignored
//! ```
//!
//! Record the responses of stock updates at least a minute after the folder was made. Earlier, they are those of the
//! first request. The copy that is served does not expire: exports, uploads and idempotency keys of ingests get a date
//! far in the future. The first responses of stock updates (one minute) and price keys (two days) have expired:
//! repeated updates are duplicates, and price events are repeated by their ids.

#[path = "served/mod.rs"]
mod served;
