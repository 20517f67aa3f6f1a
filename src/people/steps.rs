//! The names of the steps of an erasure that have a meaning of their own, as they are stored.

/// The first step of every erasure: it waits for the records that were in the journals when the erasure started.
pub(super) const WAITING: &str = "waiting";
/// The step that deletes a user's clicks.
pub(super) const CLICKS: &str = "clicks";
/// The last step whose work requires the person.
pub(super) const JOURNALS: &str = "journals";
/// The step in which an erasure waits for the sinks. At its end, the subject is deleted.
pub(super) const SHIPS: &str = "ships";
/// The first of the steps that overwrite unused bytes, together with the bytes of the subject if it is deleted.
pub(super) const PAGES: &str = "pages";
/// The last step.
pub(super) const WAL: &str = "wal";
/// The step of a finished erasure.
pub(super) const FINISHED: &str = "finished";

/// Returns `true` if a step does the same work for everyone at once, whatever request erases them.
pub(super) fn is_shared(step: &str) -> bool {
    [PAGES, WAL].contains(&step)
}
