//! What of an upload was not read, by name: the first hundred, and how many there were.

/// Names that are kept.
pub const SKIPPED_MAX: usize = 100;

/// Files of archives that were passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// As they are shown: shortened, without control characters.
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
