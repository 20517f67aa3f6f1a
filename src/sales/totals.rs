//! Order totals of one group, and their ranks.

/// Pushes a value. The vector grows by a quarter instead of doubling. Returns the bytes by which it grew.
#[inline]
pub(super) fn push_tight<T>(values: &mut Vec<T>, value: T) -> usize {
    let before = values.capacity();
    if values.len() == before {
        values.reserve_exact(values.len() / 4 + 4);
    }
    values.push(value);
    (values.capacity() - before) * size_of::<T>()
}

/// Order totals, separated by size. Nearly all of them fit into 32 bits instead of 64.
#[derive(Debug, Default)]
pub(super) struct Totals {
    small: Vec<u32>,
    /// Totals that do not fit into 32 bits. No total is negative, so these are greater than all totals in `small`.
    large: Vec<i64>,
}

impl Totals {
    /// Returns the bytes by which the memory grew.
    #[inline]
    pub(super) fn push(&mut self, total: i64) -> usize {
        match u32::try_from(total) {
            Ok(total) => push_tight(&mut self.small, total),
            Err(_) => push_tight(&mut self.large, total),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.small.len() + self.large.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.small.capacity() * size_of::<u32>() + self.large.capacity() * size_of::<i64>()
    }

    /// Returns the smallest value that at least the fraction `q` of all values does not exceed. Returns 0 if there
    /// are no values.
    pub(super) fn nearest_rank(&mut self, q: f64) -> i64 {
        let rank = ((q * self.len() as f64).ceil() as usize).clamp(1, self.len().max(1)) - 1;
        if rank < self.small.len() {
            return i64::from(*self.small.select_nth_unstable(rank).1);
        }
        let rank = rank - self.small.len();
        if rank < self.large.len() { *self.large.select_nth_unstable(rank).1 } else { 0 }
    }

    /// Adds the totals of another list.
    pub(super) fn append(&mut self, other: &Totals) {
        self.small.extend_from_slice(&other.small);
        self.large.extend_from_slice(&other.large);
    }
}
