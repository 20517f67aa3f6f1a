//! Data folders of earlier versions are served as they were: every answer is the recorded one, what was done once is
//! known to be done, and nothing is found damaged.
//!
//! A fixture is the whole folder as an earlier program left it, killed, with records in its journals that no shard
//! holds yet. To add one, with that version's program and then with the one whose answers shall hold:
//!
//! ```sh
//! TEST_PROGRAM=/path/to/firehose TEST_FOLDER=served-<commit> cargo test --test all served::make -- --ignored
//! TEST_PROGRAM=/path/to/firehose TEST_FOLDER=served-<commit> cargo test --test all served::record -- --ignored
//! ```
//!
//! Answers of stock updates are recorded a minute after a folder is made, or they are those of the first request.
//! What expires by design is kept from it in the copy that is served: exports, uploads and the keys of ingests get a
//! far date. The first answers of stock updates (a minute) and price keys (two days) have expired: repeated updates are
//! duplicates, and price events are repeated by their ids.

#[path = "served/mod.rs"]
mod served;
