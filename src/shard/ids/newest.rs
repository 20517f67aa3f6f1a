//! The newest ids: open addressing with linear probing, 12 bytes a slot, half of them free.

use super::Spread;

/// Row ids from `first_id` on, each with the tag of its hash. Inserts since the last [`Newest::settle`] can
/// be undone.
pub(super) struct Newest {
    first_id: i64,
    tags: Vec<u64>,
    /// Row id less the first, plus one; 0 is a free slot.
    rows: Vec<u32>,
    count: usize,
    /// Slots filled since the last commit, in order.
    staged: Vec<u32>,
}

const SLOTS_MIN: usize = 1 << 10;

impl Newest {
    pub(super) fn new(first_id: i64) -> Newest {
        Newest { first_id, tags: vec![0; SLOTS_MIN], rows: vec![0; SLOTS_MIN], count: 0, staged: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn first_id(&self) -> i64 {
        self.first_id
    }

    /// The row id of the next insert.
    pub(super) fn next_id(&self) -> i64 {
        self.first_id + self.count as i64
    }

    /// Where an empty table begins: rows in front of it may be gone.
    pub(super) fn begin_at(&mut self, row_id: i64) {
        if self.count == 0 {
            self.first_id = row_id;
        }
    }

    pub(super) fn insert(&mut self, hash: Spread) {
        if (self.count + 1) * 2 > self.rows.len() {
            self.grow();
        }
        let row = self.count as u32 + 1;
        let slot = self.place(hash.tag(), row);
        self.staged.push(slot as u32);
        self.count += 1;
    }

    fn place(&mut self, tag: u64, row: u32) -> usize {
        let mask = self.rows.len() - 1;
        let mut slot = tag as usize & mask;
        while self.rows[slot] != 0 {
            slot = (slot + 1) & mask;
        }
        (self.tags[slot], self.rows[slot]) = (tag, row);
        slot
    }

    /// Twice the slots. Every row is placed anew in its order, so that undoing stays last in, first out.
    #[cold]
    fn grow(&mut self) {
        let slots = self.rows.len() * 2;
        let tags = std::mem::replace(&mut self.tags, vec![0; slots]);
        let rows = std::mem::replace(&mut self.rows, vec![0; slots]);
        let mut by_row = vec![0_u64; self.count];
        for (tag, row) in tags.into_iter().zip(rows) {
            if row != 0 {
                by_row[row as usize - 1] = tag;
            }
        }
        let kept = self.count - self.staged.len();
        self.staged.clear();
        for (index, tag) in by_row.into_iter().enumerate() {
            let slot = self.place(tag, index as u32 + 1);
            if index >= kept {
                self.staged.push(slot as u32);
            }
        }
    }

    /// Row ids whose hash begins like this one.
    #[inline]
    pub(super) fn find(&self, hash: Spread) -> impl Iterator<Item = i64> + '_ {
        let (tag, mask) = (hash.tag(), self.rows.len() - 1);
        let mut slot = tag as usize & mask;
        std::iter::from_fn(move || {
            while self.rows[slot] != 0 {
                let found = (self.tags[slot] == tag).then(|| self.first_id + i64::from(self.rows[slot]) - 1);
                slot = (slot + 1) & mask;
                if found.is_some() {
                    return found;
                }
            }
            None
        })
    }

    /// What was inserted is committed.
    pub(super) fn settle(&mut self) {
        self.staged.clear();
    }

    /// Takes back what was inserted since: the last one first, so no probe sequence is broken.
    pub(super) fn undo(&mut self) {
        while let Some(slot) = self.staged.pop() {
            self.rows[slot as usize] = 0;
            self.count -= 1;
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.tags.capacity() * 8 + self.rows.capacity() * 4 + self.staged.capacity() * 4
    }
}
