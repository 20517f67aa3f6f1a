//! The newest ids in memory: an open-addressing table from 64 bits of a hash to a row's offset.
//!
//! It uses linear probing at a load of at most one half, with 12 bytes per slot. The upper bits of the hash select
//! the slot. Therefore the table is almost sorted by hash, and growing it reads and writes memory in order.

/// The lower and upper half of a hash, and the offset.
pub(super) type Entry = [u32; 3];

const SLOTS_MIN: usize = 256;

#[inline]
pub(super) fn entry(hash: u64, offset: u32) -> Entry {
    [hash as u32, (hash >> 32) as u32, offset]
}

#[inline]
pub(super) fn hash_of(entry: &Entry) -> u64 {
    u64::from(entry[1]) << 32 | u64::from(entry[0])
}

/// The table of entries. A slot stores the offset plus one, so that a slot of zeros (as the allocator returns it) is
/// empty.
pub(super) struct Table {
    slots: Vec<Entry>,
    count: usize,
    shift: u32,
}

impl Table {
    pub(super) fn new() -> Table {
        Table::with_slots(SLOTS_MIN)
    }

    /// Creates a table. `slots` is a power of two, at least 2.
    fn with_slots(slots: usize) -> Table {
        Table { slots: vec![[0; 3]; slots], count: 0, shift: 64 - slots.trailing_zeros() }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(self.slots.as_slice())
    }

    /// Returns the offsets of every entry with this hash.
    #[inline]
    pub(super) fn find(&self, hash: u64) -> impl Iterator<Item = u32> {
        let mut at = self.home(hash);
        std::iter::from_fn(move || {
            // The loop ends, because at least half of the slots are empty.
            loop {
                let slot = &self.slots[at];
                if slot[2] == 0 {
                    return None;
                }
                at = self.after(at);
                if hash_of(slot) == hash {
                    return Some(slot[2] - 1);
                }
            }
        })
    }

    /// Reads the first slot of each hash into the CPU's cache, where it most likely is not yet. The reads do not
    /// depend on each other, so they run in parallel. This saves 70 ns per row.
    pub(super) fn touch(&self, hashes: impl Iterator<Item = u64>) {
        let read = |sum: u32, hash: u64| sum ^ self.slots[self.home(hash)][2];
        std::hint::black_box(hashes.fold(0, read));
    }

    #[inline]
    pub(super) fn insert(&mut self, hash: u64, offset: u32) {
        if (self.count + 1) * 2 > self.slots.len() {
            self.grow();
        }
        self.place(entry(hash, offset + 1));
    }

    #[inline]
    fn place(&mut self, slot: Entry) {
        let mut at = self.home(hash_of(&slot));
        while self.slots[at][2] != 0 {
            at = self.after(at);
        }
        self.slots[at] = slot;
        self.count += 1;
    }

    #[cold]
    fn grow(&mut self) {
        let smaller = std::mem::replace(self, Table::with_slots(self.slots.len() * 2));
        for slot in smaller.slots.into_iter().filter(|slot| slot[2] != 0) {
            self.place(slot);
        }
    }

    /// Removes one entry and closes the gap (Knuth, The Art of Computer Programming 3, 6.4, algorithm R), so that the
    /// remaining entries are found after any order of removals.
    pub(super) fn remove(&mut self, hash: u64, offset: u32) {
        let wanted = entry(hash, offset + 1);
        let mut hole = self.home(hash);
        while self.slots[hole] != wanted {
            if self.slots[hole][2] == 0 {
                return;
            }
            hole = self.after(hole);
        }
        let mask = self.slots.len() - 1;
        let mut next = self.after(hole);
        while self.slots[next][2] != 0 {
            let home = self.home(hash_of(&self.slots[next]));
            // The probe of this entry starts at the hole or before it.
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.slots[hole] = [0; 3];
        self.count -= 1;
    }

    /// Returns every entry, sorted by hash. Takes about 8 ns per entry: one pass in which each entry moves a few
    /// positions.
    pub(super) fn sorted(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(self.count);
        // Entries that wrapped around the end of the table are in its first cluster.
        let (mut wrapped, mut is_first_cluster) = (Vec::new(), true);
        for slot in &self.slots {
            if slot[2] == 0 {
                is_first_cluster = false;
                continue;
            }
            let is_wrapped = is_first_cluster && self.home(hash_of(slot)) * 2 >= self.slots.len();
            let list = if is_wrapped { &mut wrapped } else { &mut entries };
            list.push([slot[0], slot[1], slot[2] - 1]);
        }
        entries.append(&mut wrapped);
        for at in 1..entries.len() {
            let moving = entries[at];
            let mut to = at;
            while to > 0 && hash_of(&entries[to - 1]) > hash_of(&moving) {
                entries[to] = entries[to - 1];
                to -= 1;
            }
            entries[to] = moving;
        }
        entries
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        (hash >> self.shift) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_in_any_order_leaves_the_rest_to_be_found() {
        let mut table = Table::new();
        // The hashes are crowded at both ends of the table, so that probes meet and wrap around.
        let hash = |n: u32| match n % 3 {
            0 => u64::MAX - u64::from(n / 6),
            1 => u64::from(n / 9),
            _ => u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15),
        };
        for n in 0..3_000 {
            table.insert(hash(n), n);
        }
        let is_gone = |n: u32| n.wrapping_mul(2_654_435_761) >> 30 == 1;
        for n in (0..3_000).filter(|n| is_gone(*n)) {
            table.remove(hash(n), n);
            table.remove(hash(n), n);
        }
        for n in 0..3_000 {
            assert_eq!(table.find(hash(n)).any(|found| found == n), !is_gone(n), "{n}");
        }
        let sorted = table.sorted();
        assert_eq!(sorted.len(), table.count());
        assert_eq!(sorted.len(), (0..3_000).filter(|n| !is_gone(*n)).count());
        assert!(sorted.is_sorted_by_key(hash_of));
        assert!(sorted.iter().all(|entry| hash(entry[2]) == hash_of(entry)));
    }
}
