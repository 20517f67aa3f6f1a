//! Sorts centroids: one pass into narrow buckets leaves little to sort.

use super::Centroid;
use super::key::key_of;

/// The number of buckets, for up to 1024 centroids and for more. Each bucket costs as much as a tenth of a centroid.
const BUCKETS_BITS: [u32; 2] = [10, 12];
/// The standard library sorts larger buckets. In smaller buckets, an insertion sort moves each centroid by fewer
/// positions than this.
const BUCKET_FEW: u32 = 24;
/// If there are fewer centroids than this, the standard library sorts them all.
const FEW: usize = 128;

/// Sorts by mean; equal means keep their order. All means are from `min` to `max`. Buckets are equal steps of
/// `key_of`, which is nearly the logarithm. Prices, durations and sizes therefore fill the buckets evenly, and an
/// outlier does not push all other values into one bucket. If values do concentrate in one bucket, the standard
/// library sorts them.
pub(super) fn sort(centroids: &mut [Centroid], min: f64, max: f64) {
    let by_mean = |one: &Centroid, other: &Centroid| one.mean.total_cmp(&other.mean);
    if centroids.len() < FEW {
        centroids.sort_by(by_mean);
        return;
    }
    let lowest = key_of(min);
    let range_bits = u64::BITS - (key_of(max) - lowest).leading_zeros();
    let buckets_bits = BUCKETS_BITS[usize::from(centroids.len() > 1 << BUCKETS_BITS[0])];
    let shift = range_bits.saturating_sub(buckets_bits);
    let bucket_of = |centroid: &Centroid| ((key_of(centroid.mean) - lowest) >> shift) as usize;
    // Each element is first a count, then the next position, and finally the end of a bucket.
    let mut all_places = [0_u32; 1 << BUCKETS_BITS[1]];
    let places = &mut all_places[..1 << buckets_bits];
    centroids.iter().for_each(|centroid| places[bucket_of(centroid)] += 1);
    let (mut sum, mut most) = (0, 0);
    for place in &mut *places {
        most = most.max(*place);
        sum += std::mem::replace(place, sum);
    }
    let unsorted = centroids.to_vec();
    for centroid in unsorted {
        let place = &mut places[bucket_of(&centroid)];
        centroids[*place as usize] = centroid;
        *place += 1;
    }
    if most > BUCKET_FEW {
        let mut from = 0;
        for end in places {
            if *end - from > BUCKET_FEW {
                centroids[from as usize..*end as usize].sort_by(by_mean);
            }
            from = *end;
        }
    }
    insertion_sort(centroids);
}

/// Sorts as [`sort`] does. The first `sorted` centroids are in order. If they are most of them, only the others are
/// sorted, and then merged with them.
pub(super) fn sort_from(centroids: &mut [Centroid], sorted: usize, min: f64, max: f64) {
    let (front, rest) = centroids.split_at_mut(sorted.min(centroids.len()));
    if front.len() < rest.len() {
        return sort(centroids, min, max);
    }
    sort(rest, min, max);
    let rest = rest.to_vec();
    // From the back. Of equal means, the one from the front comes first.
    let mut left = front.len();
    for (at, centroid) in rest.into_iter().enumerate().rev() {
        while left > 0 && centroids[left - 1].mean > centroid.mean {
            centroids[left + at] = centroids[left - 1];
            left -= 1;
        }
        centroids[left + at] = centroid;
    }
}

/// Sorts by insertion. Fast if nearly all centroids are in order.
#[inline]
fn insertion_sort(centroids: &mut [Centroid]) {
    for at in 1..centroids.len() {
        let centroid = centroids[at];
        let mut to = at;
        while to > 0 && centroids[to - 1].mean > centroid.mean {
            centroids[to] = centroids[to - 1];
            to -= 1;
        }
        centroids[to] = centroid;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_order_is_that_of_the_standard_library(
            means in proptest::collection::vec(prop_oneof![any::<f64>(), -5.0..5.0, (0..9_u8).prop_map(f64::from)], 1..1_500),
            sorted in 0..1_500_usize,
        ) {
            let means = means.into_iter().filter(|mean| mean.abs() < 1e307).map(|mean| mean + 0.0);
            let mut centroids: Vec<Centroid> =
                means.zip(1..).map(|(mean, weight)| Centroid { mean, weight }).collect();
            let mut expected = centroids.clone();
            let by_mean = |one: &Centroid, other: &Centroid| one.mean.total_cmp(&other.mean);
            let mut partly = centroids.clone();
            let sorted = sorted % (centroids.len() + 1);
            partly[..sorted].sort_by(by_mean);
            expected.sort_by(by_mean);
            if let (Some(first), Some(last)) = (expected.first(), expected.last()) {
                sort(&mut centroids, first.mean, last.mean);
                sort_from(&mut partly, sorted, first.mean, last.mean);
            }
            prop_assert_eq!(centroids, expected.clone());
            prop_assert_eq!(partly, expected);
        }
    }
}
