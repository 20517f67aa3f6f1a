//! The place up to which the feed of changes is trimmed.

/// The progress of the deletion.
#[derive(Debug, Default)]
pub(super) struct Trim {
    /// The monotonic time of the next look.
    pub(super) look_at_us: u64,
    /// Every change up to here stays, or was deleted.
    pub(super) done: i64,
    /// Changes up to here are to be deleted. 0 between two looks.
    pub(super) upto: i64,
    /// The first change that stays because of its erasure.
    pub(super) held: Option<i64>,
}
