//! Merges every shard's sums by group. The parts of a range that are not whole days are computed from single sales.

use std::collections::BTreeMap;

use super::super::product_sums::product_sums;
use super::super::read::{SaleParts, SalePartsCursor, SaleSplit, SalesSum, SumKey};
use super::super::spans::Spans;
use super::figures::{Figures, SalesGroup, SalesQuery, SalesResult};
use crate::base::money::Currency;
use crate::orders::{ORDERS, SumsBy};
use crate::query::{QueryError, Readers};
use crate::shard::read::pin;
use crate::sketch::{HyperLogLog, SketchError, TDigest};

/// What one shard contributes: its sums, and the single sales at the edges.
type Share = (Vec<(SumKey, SalesSum)>, Vec<SaleParts>);

pub(super) async fn by_sums(
    readers: &Readers,
    query: &SalesQuery,
    by: SumsBy,
    spans: Spans,
    range: (i64, i64),
) -> Result<SalesResult, QueryError> {
    let (inner, edges) = parts(by, range);
    let (of, asked_spans) = (query.of.clone(), spans.clone());
    let answers: Vec<(Share, u64)> = readers
        .ask_all(((Vec::new(), Vec::new()), 0), move |connection| {
            if by == SumsBy::Product {
                let (sums, rows) = product_sums(connection, &of, &asked_spans, range, inner)?;
                return Ok(((sums, Vec::new()), rows));
            }
            let sums = if inner.0 < inner.1 {
                crate::sales::read::sales_sums(connection, &of, by, &asked_spans, inner)?
            } else {
                Vec::new()
            };
            let mut singles = Vec::new();
            for edge in edges.into_iter().filter(|edge| edge.0 < edge.1) {
                let last = pin(connection, &ORDERS)?;
                // Groups by time have no edges. Sums by name have at most two edges, each shorter than a day.
                let (mut of_edge, mut reading) =
                    (SaleParts::default(), Some(SalePartsCursor::new(SaleSplit::Category, (0, 1))));
                while let Some(from) = reading {
                    let (step, next) = crate::sales::read::sale_parts(connection, &of, last, edge, from)?;
                    of_edge.append(step);
                    reading = next;
                }
                singles.push(of_edge);
            }
            Ok(((sums, singles), 0))
        })
        .await?;
    let (shares, rows): (Vec<Share>, Vec<u64>) = answers.into_iter().unzip();
    let (with_details, pieces_max) = (query.with_details, readers.cpu_count());
    let asked_spans = spans.clone();
    let gather = move || Gathered::of(shares, &asked_spans, with_details);
    let Gathered { groups, rows_scanned } = readers.compute(gather).await?;
    let pieces = divide(groups, pieces_max).into_iter().map(|groups| {
        let spans = spans.clone();
        move || merge(groups, &spans, with_details)
    });
    let merged: Result<Vec<_>, SketchError> =
        readers.compute_each(pieces.collect()).await?.into_iter().collect();
    let groups: Vec<SalesGroup> = merged.map_err(|_| DAMAGED)?.into_iter().flatten().collect();
    let estimated = with_details && !groups.is_empty();
    // Sums by product are not kept.
    let preaggregated = by != SumsBy::Product;
    let rows_scanned = if preaggregated { rows_scanned } else { rows.iter().sum() };
    Ok(SalesResult { groups, rows_scanned, preaggregated, estimated, ..SalesResult::default() })
}

const DAMAGED: QueryError = QueryError::TooLarge("a sales sketch is damaged; run verify --aggregates");

/// Divides a range into the part that consists of whole hours or days, and its edges.
pub(super) fn parts(by: SumsBy, (from_us, to_us): (i64, i64)) -> ((i64, i64), [(i64, i64); 2]) {
    let us = by.us();
    let inner = (from_us + (-from_us).rem_euclid(us), to_us - to_us.rem_euclid(us));
    // A range within one day contains no whole day.
    if inner.0 <= inner.1 {
        (inner, [(from_us, inner.0), (inner.1, to_us)])
    } else {
        ((from_us, from_us), [(from_us, to_us), (to_us, to_us)])
    }
}

type GroupKey = (u32, String, Currency);

/// One group's parts, from all shards.
#[derive(Default)]
struct Parts {
    /// Orders, units and revenue, added up.
    figures: Figures,
    /// In the order of the shards, because the value at a quantile depends on the order of the values.
    details: Vec<Detail>,
}

/// A part of a group's customers and order values.
enum Detail {
    /// Encoded sketches.
    Sum { customers: Vec<u8>, order_value: Vec<u8> },
    /// The customers' keys and totals of single sales.
    Sales(Vec<(u64, i64)>),
}

impl Parts {
    fn count(&mut self, orders: i64, units: i128, revenue: i128) {
        self.figures.orders += orders;
        self.figures.units += units;
        self.figures.revenue += revenue;
    }

    fn add_sale(&mut self, customer_key: u64, total: i64) {
        match self.details.last_mut() {
            Some(Detail::Sales(sales)) => sales.push((customer_key, total)),
            _ => self.details.push(Detail::Sales(vec![(customer_key, total)])),
        }
    }

    /// Returns the number of bytes to merge.
    fn bytes(&self) -> usize {
        let bytes = |detail: &Detail| match detail {
            Detail::Sum { customers, order_value } => customers.len() + order_value.len(),
            Detail::Sales(sales) => size_of_val(sales.as_slice()),
        };
        self.details.iter().map(bytes).sum()
    }

    /// Returns the number of customers, and the order totals at p50, p95 and p99.
    fn merged(&self) -> Result<(u64, [i64; 3]), SketchError> {
        let mut single_customers = HyperLogLog::new();
        let mut customers: Vec<&[u8]> = Vec::with_capacity(self.details.len() + 1);
        let mut values = TDigest::new(TDigest::COMPRESSION_DEFAULT);
        for detail in &self.details {
            match detail {
                Detail::Sum { customers: of_sum, order_value } => {
                    customers.push(of_sum);
                    values.merge_encoded(order_value)?;
                }
                Detail::Sales(sales) => {
                    single_customers.extend(sales.iter().map(|(customer_key, _)| *customer_key));
                    sales.iter().try_for_each(|(_, total)| values.insert(*total as f64))?;
                }
            }
        }
        let mut encoded = Vec::new();
        if !single_customers.is_empty() {
            single_customers.encode(&mut encoded);
            customers.push(&encoded);
        }
        let customers = HyperLogLog::union_of(&customers)?.estimate().round() as u64;
        let ranks = values.quantiles([0.5, 0.95, 0.99]);
        Ok((customers, ranks.map(|value| value.unwrap_or_default().round() as i64)))
    }
}

/// The parts of every group.
struct Gathered {
    /// Ordered by group, name and currency.
    groups: Vec<(GroupKey, Parts)>,
    rows_scanned: u64,
}

impl Gathered {
    fn of(shares: Vec<Share>, spans: &Spans, with_details: bool) -> Gathered {
        let mut groups: BTreeMap<GroupKey, Parts> = BTreeMap::new();
        let mut rows_scanned = 0;
        for (sums, singles) in shares {
            rows_scanned += sums.len() as u64;
            for (key, sum) in sums {
                let parts = groups.entry(key).or_default();
                parts.count(sum.orders, sum.units, sum.revenue);
                if with_details {
                    let SalesSum { customers, order_value, .. } = sum;
                    parts.details.push(Detail::Sum { customers, order_value });
                }
            }
            for SaleParts { sales, names } in singles {
                rows_scanned += sales.len() as u64;
                for sale in sales {
                    let Some(span) = spans.group_of(sale.ordered_at_us) else { continue };
                    let name = names.get(sale.name as usize).cloned().unwrap_or_default();
                    let parts = groups.entry((span, name, sale.currency)).or_default();
                    parts.count(1, sale.units.into(), sale.revenue.into());
                    if with_details {
                        parts.add_sale(sale.customer_key, sale.total);
                    }
                }
            }
        }
        Gathered { groups: groups.into_iter().collect(), rows_scanned }
    }
}

/// The least number of bytes to merge for which another thread is asked. Merging them takes 0.5 ms.
const PIECE_BYTES_MIN: usize = 256 * 1024;

/// Divides groups into at most `pieces_max` pieces, in order, with about the same number of bytes to merge.
fn divide(groups: Vec<(GroupKey, Parts)>, pieces_max: usize) -> Vec<Vec<(GroupKey, Parts)>> {
    let bytes: usize = groups.iter().map(|(_, parts)| parts.bytes()).sum();
    let piece_bytes = bytes.div_ceil(pieces_max.max(1)).max(PIECE_BYTES_MIN);
    let mut pieces = vec![Vec::new()];
    let mut before = 0;
    for group in groups {
        let bytes = group.1.bytes();
        // A group belongs to the piece in which its middle is.
        let piece = ((before + bytes / 2) / piece_bytes).min(pieces_max.saturating_sub(1));
        while pieces.len() <= piece {
            pieces.push(Vec::new());
        }
        pieces[piece].push(group);
        before += bytes;
    }
    pieces
}

fn merge(
    groups: Vec<(GroupKey, Parts)>,
    spans: &Spans,
    with_details: bool,
) -> Result<Vec<SalesGroup>, SketchError> {
    let figures_of = |((span, name, currency), parts): (GroupKey, Parts)| {
        let details = if with_details { Some(parts.merged()?) } else { None };
        let figures = Figures { details, ..parts.figures };
        Ok(SalesGroup { start_us: spans.start_us(span), name, currency, figures })
    };
    groups.into_iter().map(figures_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sales::read::SalePart;

    /// Returns numbers that look random, the same in every run.
    fn numbers(seed: u64) -> impl Iterator<Item = u64> {
        (1_u64..).map(move |at| {
            let n = (seed << 32 | at).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let n = (n ^ n >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
            n ^ n >> 32
        })
    }

    fn sum(seed: u64, orders: usize) -> SalesSum {
        let (mut customers, mut values) = (HyperLogLog::new(), TDigest::default());
        for number in numbers(seed).take(orders) {
            customers.insert_hash(number);
            values.insert((number % 100_000) as f64).unwrap();
        }
        let mut sum = SalesSum { orders: orders as i64, units: 3, revenue: 5, ..SalesSum::default() };
        customers.encode(&mut sum.customers);
        values.encode(&mut sum.order_value);
        sum
    }

    fn sales(seed: u64, count: usize) -> SaleParts {
        let sale = |number: u64| SalePart {
            ordered_at_us: (number % 900) as i64,
            name: (number % 2) as u32,
            currency: Currency::parse("EUR").unwrap(),
            customer_key: number,
            total: (number % 100_000) as i64,
            units: 2,
            revenue: 7,
        };
        let names = vec!["books".to_owned(), "tools".to_owned()];
        SaleParts { sales: numbers(seed).take(count).map(sale).collect(), names }
    }

    /// Shares with sums of 30 groups, and single sales of nine.
    fn shares() -> Vec<Share> {
        let currency = Currency::parse("EUR").unwrap();
        let share = |shard: u64| {
            let key = |group| (group, ["books", "tools"][group as usize % 2].to_owned(), currency);
            let sizes = |group: u32| [2, 700, 1_500, 5_000, 40][(group as usize + shard as usize) % 5];
            let sums =
                (0..30).rev().map(|group| (key(group), sum(shard << 8 | u64::from(group), sizes(group))));
            (sums.collect(), vec![sales(shard + 900, 300), SaleParts::default(), sales(shard + 700, 20)])
        };
        (0..4).map(share).collect()
    }

    /// Merges shares one after the other, each sketch as it comes.
    fn one_by_one(shares: Vec<Share>, spans: &Spans) -> Vec<SalesGroup> {
        let mut groups: BTreeMap<GroupKey, (Figures, HyperLogLog, TDigest)> = BTreeMap::new();
        for (sums, singles) in shares {
            for (key, sum) in sums {
                let (figures, customers, values) = groups.entry(key).or_default();
                figures.orders += sum.orders;
                figures.units += sum.units;
                figures.revenue += sum.revenue;
                customers.merge_encoded(&sum.customers).unwrap();
                values.merge_encoded(&sum.order_value).unwrap();
            }
            for SaleParts { sales, names } in singles {
                for sale in sales {
                    let Some(span) = spans.group_of(sale.ordered_at_us) else { continue };
                    let key = (span, names[sale.name as usize].clone(), sale.currency);
                    let (figures, customers, values) = groups.entry(key).or_default();
                    figures.orders += 1;
                    figures.units += i128::from(sale.units);
                    figures.revenue += i128::from(sale.revenue);
                    customers.insert_hash(sale.customer_key);
                    values.insert(sale.total as f64).unwrap();
                }
            }
        }
        let group = |((span, name, currency), (figures, customers, mut values)): (GroupKey, _)| {
            let (customers, values): (HyperLogLog, &mut TDigest) = (customers, &mut values);
            let ranks = [0.5, 0.95, 0.99].map(|q| values.quantile(q).unwrap().round() as i64);
            let details = Some((customers.estimate().round() as u64, ranks));
            let figures = Figures { details, ..figures };
            SalesGroup { start_us: spans.start_us(span), name, currency, figures }
        };
        groups.into_iter().map(group).collect()
    }

    #[test]
    fn pieces_on_any_number_of_threads_give_the_same_figures() {
        let spans = Spans::each((0..30).map(|group| (group * 100, group * 100 + 100)).collect());
        let expected = one_by_one(shares(), &spans);
        assert!(expected.len() > 30);
        for piece in [1, 2, 7, 1_000] {
            let Gathered { mut groups, rows_scanned } = Gathered::of(shares(), &spans, true);
            assert_eq!(rows_scanned, 4 * (30 + 320));
            let mut merged = Vec::new();
            while !groups.is_empty() {
                let rest = groups.split_off(piece.min(groups.len()));
                merged.extend(merge(std::mem::replace(&mut groups, rest), &spans, true).unwrap());
            }
            assert_eq!(merged, expected, "pieces of {piece}");
        }
        let Gathered { groups, .. } = Gathered::of(shares(), &spans, false);
        let counts: Vec<SalesGroup> = expected
            .into_iter()
            .map(|group| SalesGroup { figures: Figures { details: None, ..group.figures }, ..group })
            .collect();
        assert_eq!(merge(groups, &spans, false).unwrap(), counts);
    }

    #[test]
    fn little_to_merge_is_one_piece_and_more_is_divided_evenly() {
        let group = |(at, bytes): (u32, usize)| {
            let sum = Detail::Sum { customers: vec![0; bytes], order_value: Vec::new() };
            let parts = Parts { details: vec![sum], ..Parts::default() };
            ((at, String::new(), Currency::parse("EUR").unwrap()), parts)
        };
        let sizes = |bytes: &[usize], pieces_max| {
            let groups = (0..).zip(bytes.iter().copied()).map(group).collect();
            divide(groups, pieces_max).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[], 2), [0]);
        assert_eq!(sizes(&[0; 5], 2), [5]);
        assert_eq!(sizes(&[1_000; 100], 8), [100]);
        assert_eq!(sizes(&[10_000; 100], 2), [50, 50]);
        assert_eq!(sizes(&[10_000; 100], 0), [100]);
        assert_eq!(sizes(&[10_000; 100], 8).len(), 4, "each has a quarter of a megabyte");
        assert_eq!(sizes(&[1_000_000, 1, 1, 1_000_000], 2), [2, 2]);
        assert_eq!(sizes(&[9_000_000, 1, 1, 1], 3).iter().sum::<usize>(), 4);
    }
}
