//! Days with sales, and windows of about as many sales each.

use super::figures::SalesQuery;
use crate::query::{QueryError, Readers};

/// Returns the number of sales of each UTC day.
pub(super) async fn days(
    readers: &Readers,
    query: &SalesQuery,
    (from_us, to_us): (i64, i64),
) -> Result<Vec<(i64, i64)>, QueryError> {
    let of = query.of.clone();
    let shares = readers
        .ask_all(Vec::new(), move |connection| {
            crate::orders::sales_days(connection, &of, (Some(from_us), Some(to_us)))
        })
        .await?;
    let mut days = std::collections::BTreeMap::new();
    for (start_us, orders) in shares.into_iter().flatten() {
        *days.entry(start_us).or_insert(0) += orders;
    }
    Ok(days.into_iter().collect())
}

/// Returns windows of about `sales_max` sales, based on the number of sales on each UTC day.
pub(super) fn windows((from_us, to_us): (i64, i64), days: &[(i64, i64)], sales_max: i64) -> Vec<(i64, i64)> {
    let mut windows = Vec::new();
    let (mut begin, mut sales) = (from_us, 0);
    for (start_us, orders) in days {
        if sales > 0 && sales + orders > sales_max && *start_us > begin && *start_us < to_us {
            windows.push((begin, *start_us));
            (begin, sales) = (*start_us, 0);
        }
        sales += orders;
    }
    windows.push((begin, to_us));
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::bucket_size::BucketSize;

    const WINDOW_SALES: i64 = 60_000;

    #[test]
    fn windows_cover_the_range_once() {
        const DAY_US: i64 = BucketSize::Day.us();
        let days: Vec<(i64, i64)> = (0..10).map(|day| (day * DAY_US, 25_000)).collect();
        let windows = windows((5, 10 * DAY_US - 7), &days, WINDOW_SALES);
        assert_eq!(windows.first().unwrap().0, 5);
        assert_eq!(windows.last().unwrap().1, 10 * DAY_US - 7);
        assert!(windows.windows(2).all(|pair| pair[0].1 == pair[1].0 && pair[0].0 < pair[0].1));
        assert_eq!(windows.len(), 5);
    }
}
