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

/// Pushes several values as [`push_tight`] does.
#[inline]
pub(super) fn extend_tight<T>(values: &mut Vec<T>, more: impl ExactSizeIterator<Item = T>) -> usize {
    let before = values.capacity();
    if values.len() + more.len() > before {
        values.reserve_exact((values.len() / 4 + 4).max(more.len()));
    }
    values.extend(more);
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

    /// Returns an empty list with memory for a number of totals that fit into 32 bits.
    pub(super) fn with_capacity(capacity: usize) -> Totals {
        Totals { small: Vec::with_capacity(capacity), large: Vec::new() }
    }

    /// Pushes totals that fit into 32 bits. Returns the bytes by which the memory grew.
    #[inline]
    pub(super) fn extend_small(&mut self, totals: &[u32]) -> usize {
        extend_tight(&mut self.small, totals.iter().copied())
    }

    /// Returns the totals that fit into 32 bits.
    pub(super) fn small(&self) -> &[u32] {
        &self.small
    }

    /// Returns the other totals.
    pub(super) fn large(&self) -> &[i64] {
        &self.large
    }

    /// Returns totals that fit into 32 bits.
    pub(super) fn of_small(small: Vec<u32>) -> Totals {
        Totals { small, large: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.small.len() + self.large.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.small.capacity() * size_of::<u32>() + self.large.capacity() * size_of::<i64>()
    }

    /// Returns for each fraction, in ascending order, the smallest value that at least this fraction of all values does
    /// not exceed. Returns 0 if there are no values. Each rank is only sought above the one before.
    pub(super) fn nearest_ranks<const N: usize>(&mut self, fractions: [f64; N]) -> [i64; N] {
        let (count, of_small) = (self.len(), self.small.len());
        let (mut small, mut large) = (Above::new(&mut self.small), Above::new(&mut self.large));
        fractions.map(|fraction| {
            let rank = nearest_rank(fraction, count);
            match rank.checked_sub(of_small) {
                None => small.rank(rank).map(i64::from),
                Some(rank) => large.rank(rank),
            }
            .unwrap_or_default()
        })
    }
}

/// Returns the ranks of totals as [`Totals::nearest_ranks`] does, and leaves the totals in another order.
pub(super) fn nearest_of_small<const N: usize>(totals: &mut [u32], fractions: [f64; N]) -> [i64; N] {
    let count = totals.len();
    let mut above = Above::new(totals);
    fractions.map(|fraction| above.rank(nearest_rank(fraction, count)).map(i64::from).unwrap_or_default())
}

/// Returns the rank, from 0, of the smallest of `count` values that at least this fraction of them does not exceed.
pub(super) fn nearest_rank(fraction: f64, count: usize) -> usize {
    ((fraction * count as f64).ceil() as usize).clamp(1, count.max(1)) - 1
}

/// Values. Those before the place `from` are not greater than the value of the last rank.
pub(super) struct Above<'v, T> {
    values: &'v mut [T],
    from: usize,
}

impl<T: Copy + Ord> Above<'_, T> {
    pub(super) fn new(values: &mut [T]) -> Above<'_, T> {
        Above { values, from: 0 }
    }

    /// Returns the value of a rank, at least as high as the one before.
    pub(super) fn rank(&mut self, rank: usize) -> Option<T> {
        let rest = self.values.get_mut(self.from..)?;
        let place = rank.checked_sub(self.from).filter(|place| *place < rest.len())?;
        let value = *rest.select_nth_unstable(place).1;
        self.from = rank;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranks_are_those_of_the_sorted_values(
            values in prop::collection::vec(prop_oneof![0..9_i64, 0..i64::MAX, (1 << 32) - 2..(1 << 32) + 2_i64], 0..60),
        ) {
            let mut totals = Totals::default();
            let (pushed, extended) = values.split_at(values.len() / 2);
            pushed.iter().for_each(|value| _ = totals.push(*value));
            for values in extended.chunks(7) {
                match values.iter().map(|value| u32::try_from(*value)).collect::<Result<Vec<u32>, _>>() {
                    Ok(small) => _ = totals.extend_small(&small),
                    Err(_) => values.iter().for_each(|value| _ = totals.push(*value)),
                }
            }
            let fractions = [0.0, 0.5, 0.5, 0.95, 0.99, 1.0];
            let mut sorted = values;
            sorted.sort_unstable();
            let expected = fractions.map(|fraction: f64| {
                let rank = (fraction * sorted.len() as f64).ceil() as usize;
                sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
            });
            prop_assert_eq!(totals.nearest_ranks(fractions), expected);
        }
    }
}
