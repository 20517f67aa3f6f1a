//! The skipped files of an upload: their number, and the names of the first hundred.

/// Maximum number of names.
pub const SKIPPED_MAX: usize = 100;

/// Skipped files of archives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Names for display. They are shortened and have no control characters.
    pub names: Vec<Box<str>>,
    pub count: u64,
}

impl Skipped {
    pub(super) fn push(&mut self, name: &str) {
        self.count += 1;
        if self.names.len() < SKIPPED_MAX {
            self.names.push(name.into());
        }
    }

    pub(super) fn add(&mut self, other: &Skipped) {
        self.count += other.count;
        let room = SKIPPED_MAX - self.names.len();
        self.names.extend(other.names.iter().take(room).cloned());
    }
}
