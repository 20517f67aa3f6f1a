//! Failures: how the writer handles each failure, how long it waits, and what it reports. Each outage is logged once
//! when it begins and once when it is over.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use super::Writer;
use crate::base::clock;
use crate::journal::JournalError;
use crate::shard::{ShardError, ShardFolder, ShardState, ShardStatus};

/// The pauses while another program holds a lock, from the shortest to the longest.
const BUSY_PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
/// The pauses after a connection or a journal failed, from the shortest to the longest.
const FAILED_PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// The pause while the disk is full. It does not grow, because one small success does not prove that there is space.
const FULL_PAUSE: Duration = Duration::from_millis(200);

/// Why a turn failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("{}{}", .0, reaction(.0))]
    Shard(#[from] ShardError),
    #[error("{0}")]
    Journal(#[from] JournalError),
    #[error("the database is quarantined")]
    Quarantined,
    #[error("the writer panicked ({0}); the server reopens the database")]
    Panicked(String),
}

/// Returns what the writer does about an error, as the end of its text.
fn reaction(error: &ShardError) -> &'static str {
    match error {
        ShardError::Busy => "; the batch is retried",
        ShardError::Full => "; the batch is retried and the journal keeps it",
        ShardError::Corrupt(_) | ShardError::Foreign(_) | ShardError::TooNew { .. } => {
            "; the journal keeps new records"
        }
        ShardError::Missing => "; the server copies it back from the open connection",
        ShardError::Replaced => "; the server opens the new one",
        ShardError::Truncated { .. } => "; the journal keeps its records",
        ShardError::Other(_) => "; the server closes and reopens the database",
    }
}

/// The current outage and the state of its handling.
#[derive(Debug)]
pub(super) struct FailureState {
    status: Arc<ShardStatus>,
    current: Option<(&'static str, u64)>,
    pause: Duration,
    /// Corruption errors since the last commit. The first may come from a damaged WAL, which reopening drops.
    corrupt: u32,
    quarantine: Option<Fingerprint>,
}

/// The file metadata that shows whether a file was replaced or repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint(Option<(u64, u64, u64, i64, i64)>);

impl Fingerprint {
    fn of(folder: &ShardFolder) -> Fingerprint {
        let found = std::fs::metadata(folder.database()).ok();
        Fingerprint(found.map(|file| (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec())))
    }
}

impl FailureState {
    pub(super) fn new(status: Arc<ShardStatus>) -> FailureState {
        FailureState { status, current: None, pause: Duration::ZERO, corrupt: 0, quarantine: None }
    }

    /// Checks that the file may be opened: it must not be the file that was quarantined.
    pub(super) fn check_quarantine(&mut self, folder: &ShardFolder) -> Result<(), WriteError> {
        if self.quarantine.is_some_and(|known| known == Fingerprint::of(folder)) {
            return Err(WriteError::Quarantined);
        }
        if self.quarantine.take().is_some() {
            tracing::warn!(
                shard = self.status.shard.0,
                "the quarantined database has changed: the server \
                                                         tries it again"
            );
        }
        Ok(())
    }

    /// Notes that a batch was committed.
    pub(super) fn applied(&mut self) {
        self.corrupt = 0;
    }

    /// Notes that a turn succeeded, and so ends the outage.
    pub(super) fn over(&mut self, pending: u64) {
        self.pause = Duration::ZERO;
        if let Some((what, since_us)) = self.current.take() {
            let lasted_ms = (clock::monotonic_us() - since_us) / 1_000;
            self.status.end_outage();
            tracing::warn!(
                shard = self.status.shard.0,
                what,
                lasted_ms,
                pending,
                "outage over: the database is writable again"
            );
        }
    }

    fn begin(&mut self, what: &'static str, error: &WriteError, pending: u64) {
        match &mut self.current {
            Some((current, _)) if *current == what => return,
            Some((current, _)) => *current = what,
            None => self.current = Some((what, clock::monotonic_us())),
        }
        self.status.begin_outage(what, error.to_string());
        tracing::error!(shard = self.status.shard.0, what, pending, %error, "the database cannot be written");
    }

    /// Returns the next pause. Pauses double each time, between the bounds.
    fn back_off(&mut self, (least, most): (Duration, Duration)) -> Duration {
        self.pause = (self.pause * 2).clamp(least, most);
        self.pause
    }
}

impl Writer {
    /// Handles a failure and returns how long to wait before the next turn. The current batches are kept unless the
    /// shard is reopened, which reads them again.
    pub(super) fn weather(&mut self, error: WriteError) -> Duration {
        let pending = self.lanes.pending();
        if !matches!(error, WriteError::Quarantined) {
            self.status.set_last_error(error.to_string());
        }
        match &error {
            WriteError::Quarantined => self.settings.quarantine_look,
            WriteError::Shard(ShardError::Busy) => {
                self.trouble.begin("locked", &error, pending);
                self.status.set_state(ShardState::Busy);
                self.trouble.back_off(BUSY_PAUSES)
            }
            WriteError::Shard(ShardError::Full) => {
                self.trouble.begin("disk full", &error, pending);
                self.status.set_state(ShardState::Full);
                self.make_room();
                FULL_PAUSE
            }
            WriteError::Shard(ShardError::Missing) => {
                self.trouble.begin("file removed", &error, pending);
                self.heal()
            }
            WriteError::Shard(ShardError::Replaced) => {
                self.trouble.begin("file replaced", &error, pending);
                self.status.set_state(ShardState::Reopening);
                if let Some(Err(error)) = self.take_shard().map(crate::shard::Shard::leave) {
                    tracing::error!(shard = self.id.0, %error, "the old file was not closed cleanly");
                }
                self.trouble.back_off(FAILED_PAUSES)
            }
            WriteError::Shard(ShardError::Corrupt(_)) => {
                self.trouble.corrupt += 1;
                if self.shard.is_some() && self.trouble.corrupt == 1 {
                    return self.reopen(&error, pending);
                }
                self.quarantine(&error, pending)
            }
            WriteError::Shard(
                ShardError::Foreign(_) | ShardError::TooNew { .. } | ShardError::Truncated { .. },
            )
            | WriteError::Journal(JournalError::Behind { .. }) => self.quarantine(&error, pending),
            WriteError::Shard(ShardError::Other(_)) | WriteError::Panicked(_) => self.reopen(&error, pending),
            WriteError::Journal(_) => {
                self.trouble.begin("journal not readable", &error, pending);
                self.status.set_state(ShardState::Reopening);
                self.trouble.back_off(FAILED_PAUSES)
            }
        }
    }

    /// Poisons the connection. The next turn reopens the shard and continues from its position.
    fn reopen(&mut self, error: &WriteError, pending: u64) -> Duration {
        self.trouble.begin("failed", error, pending);
        self.status.set_state(ShardState::Reopening);
        if let Some(shard) = self.take_shard() {
            shard.poison();
            self.status.reopened.add(1);
        }
        self.trouble.back_off(FAILED_PAUSES)
    }

    /// Stops writing to the database until its file changes. Meanwhile, the journal keeps new records.
    fn quarantine(&mut self, error: &WriteError, pending: u64) -> Duration {
        self.trouble.begin("quarantined", error, pending);
        if let Some(shard) = self.take_shard() {
            shard.poison();
        }
        self.trouble.quarantine = Some(Fingerprint::of(&self.folder));
        self.status.set_state(ShardState::Quarantined);
        self.settings.quarantine_look
    }

    /// Restores a removed file from the open connection, through which all of its content can still be read.
    fn heal(&mut self) -> Duration {
        self.status.set_state(ShardState::Reopening);
        if let Err(error) = self.lanes.make_folders() {
            tracing::error!(shard = self.id.0, %error, "the journal folders could not be recreated");
        }
        // The copier's next pass would copy to the file without a name.
        self.passes = None;
        match self.shard.as_mut().map(crate::shard::Shard::heal) {
            Some(Err(error)) => {
                // The rows exist only in this connection now. It stays open until they are copied.
                tracing::error!(shard = self.id.0, %error, "the removed database could not be copied back");
                self.status.set_last_error(error.to_string());
                self.trouble.back_off(FAILED_PAUSES)
            }
            Some(Ok(())) => {
                if let Some(shard) = self.take_shard() {
                    shard.poison();
                }
                self.status.reopened.add(1);
                tracing::warn!(shard = self.id.0, "the removed database was copied back");
                Duration::ZERO
            }
            None => self.trouble.back_off(FAILED_PAUSES),
        }
    }

    /// Frees space on a full disk: a checkpoint lets the journals delete segments and the WAL restart at its
    /// beginning.
    fn make_room(&mut self) {
        if self.shard.as_ref().is_some_and(|shard| shard.wal_bytes() > 0)
            && let Err(error) = self.checkpoint(crate::shard::CheckpointMode::Passive)
        {
            tracing::debug!(shard = self.id.0, %error, "no space could be freed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commands without a server, and queries, show the texts of the same errors.
    #[test]
    fn only_the_writer_says_what_the_server_does_about_an_error() {
        let why = || "x".to_owned();
        for error in [
            ShardError::Busy,
            ShardError::Full,
            ShardError::Corrupt(why()),
            ShardError::Foreign(why()),
            ShardError::TooNew { found: 2, known: 1 },
            ShardError::Missing,
            ShardError::Replaced,
            ShardError::Truncated { found: 1, expected: 2 },
            ShardError::Other(why()),
        ] {
            let cause = error.to_string();
            for word in ["server", "batch", "journal", "retried", "reopen", "failed"] {
                assert!(!cause.contains(word), "{cause}");
            }
            let told = WriteError::from(error).to_string();
            let reaction = told.strip_prefix(&cause).expect("the cause comes first");
            assert!(reaction.starts_with("; the "), "{told}");
        }
    }
}
