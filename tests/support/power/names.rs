//! The names on the disk, and the changes of names that may not have reached it yet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;

/// The number of a file or folder.
pub type Number = u64;
pub const ROOT: Number = 1;

/// The entries of a folder.
pub type Entries = BTreeMap<OsString, Number>;

/// When a name reaches the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// When its folder is synced, and never before. This is all that POSIX promises.
    Strict,
    /// As in ext4. Changes of names reach the disk in order, and a sync of a file carries all of them up to the
    /// file's own last one.
    Ext4,
}

/// One step of the journal of names. It reaches the disk as a whole.
#[derive(Clone, Debug)]
pub struct NameChange {
    pub sequence: u64,
    /// The folder, the name, and the number that it names afterwards.
    pub entries: Vec<(Number, OsString, Option<Number>)>,
}

impl NameChange {
    fn apply(&self, folders: &mut HashMap<Number, Entries>) {
        for (folder, name, number) in &self.entries {
            let entries = folders.entry(*folder).or_default();
            match number {
                Some(number) => entries.insert(name.clone(), *number),
                None => entries.remove(name),
            };
        }
    }

    fn folders(&self) -> impl Iterator<Item = Number> {
        self.entries.iter().map(|(folder, _, _)| *folder)
    }

    fn names(&self) -> impl Iterator<Item = (Number, &OsString)> {
        self.entries.iter().map(|(folder, name, _)| (*folder, name))
    }
}

/// The names on the disk, and the later changes in order.
#[derive(Clone, Debug, Default)]
pub struct Names {
    on_disk: HashMap<Number, Entries>,
    pub pending: Vec<NameChange>,
}

impl Names {
    /// Makes every change up to `sequence` durable.
    pub fn sync_up_to(&mut self, sequence: u64) {
        let kept = self.pending.partition_point(|change| change.sequence <= sequence);
        for change in self.pending.drain(..kept) {
            change.apply(&mut self.on_disk);
        }
    }

    /// Makes one folder's changes up to `sequence` durable. A rename between two folders is one step, so it includes
    /// earlier changes of its name in the other folder.
    pub fn sync_folder(&mut self, folder: Number, sequence: u64) {
        let mut names = HashSet::new();
        let mut synced = vec![false; self.pending.len()];
        for (change, synced) in self.pending.iter().zip(&mut synced).rev() {
            let is_in_it = change.folders().any(|changed| changed == folder);
            *synced =
                change.sequence <= sequence && (is_in_it || change.names().any(|name| names.contains(&name)));
            if *synced {
                names.extend(change.names());
            }
        }
        let mut synced = synced.into_iter();
        self.pending.retain(|change| {
            let is_synced = synced.next().unwrap_or_default();
            if is_synced {
                change.apply(&mut self.on_disk);
            }
            !is_synced
        });
    }

    /// Returns the names after the pending changes that `keep` accepts. A change that is not kept excludes later
    /// changes of the same folders, too, because a folder is on the disk as it was at one instant.
    pub fn after(&self, mut keep: impl FnMut(&NameChange) -> bool) -> HashMap<Number, Entries> {
        let (mut folders, mut stopped) = (self.on_disk.clone(), HashSet::new());
        for change in &self.pending {
            if !change.folders().any(|folder| stopped.contains(&folder)) && keep(change) {
                change.apply(&mut folders);
            } else {
                stopped.extend(change.folders());
            }
        }
        folders
    }

    /// Returns everything that is named on the disk, or may be named once a pending change reaches it.
    pub fn named(&self) -> impl Iterator<Item = Number> {
        let on_disk = self.on_disk.values().flat_map(|entries| entries.values().copied());
        let pending =
            self.pending.iter().flat_map(|change| change.entries.iter().filter_map(|entry| entry.2));
        on_disk.chain(pending)
    }
}
