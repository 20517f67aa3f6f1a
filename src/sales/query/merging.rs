//! Merges every shard's sums by group. The parts of a range that are not whole days are computed from single sales.

use std::collections::BTreeMap;

use super::super::read::{SaleParts, SalePartsCursor, SaleSplit, SalesSum, SumKey};
use super::super::spans::Spans;
use super::{Figures, SalesGroup, SalesQuery, SalesResult};
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
    let single = if by == SumsBy::Product { SaleSplit::Product } else { SaleSplit::Category };
    let (of, asked_spans) = (query.of.clone(), spans.clone());
    let shares: Vec<Share> = readers
        .ask_all((Vec::new(), Vec::new()), move |connection| {
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
                    (SaleParts::default(), Some(SalePartsCursor::new(single, (0, 1))));
                while let Some(from) = reading {
                    let (step, next) = crate::sales::read::sale_parts(connection, &of, last, edge, from)?;
                    of_edge.append(step);
                    reading = next;
                }
                singles.push(of_edge);
            }
            Ok((sums, singles))
        })
        .await?;
    let with_details = query.with_details;
    let merged = readers.compute(move || merge(shares, &spans, with_details)).await?;
    merged.map_err(|_| QueryError::TooLarge("a sales sketch is damaged; run verify --aggregates"))
}

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

/// One group, merged over all shards.
#[derive(Default)]
struct Merged {
    figures: Figures,
    /// The encoded sketches of customers.
    customers: Vec<Vec<u8>>,
    /// The customers of single sales.
    more_customers: Option<HyperLogLog>,
    values: Option<TDigest>,
}

impl Merged {
    fn customers(&self) -> Result<u64, SketchError> {
        let mut single = Vec::new();
        if let Some(customers) = &self.more_customers {
            customers.encode(&mut single);
        }
        let mut parts: Vec<&[u8]> = self.customers.iter().map(Vec::as_slice).collect();
        parts.extend((!single.is_empty()).then_some(single.as_slice()));
        Ok(HyperLogLog::union_of(&parts)?.estimate().round() as u64)
    }

    fn values(&mut self) -> &mut TDigest {
        self.values.get_or_insert_with(|| TDigest::new(TDigest::COMPRESSION_DEFAULT))
    }

    fn count(&mut self, orders: i64, units: i128, revenue: i128) {
        self.figures.orders += orders;
        self.figures.units += units;
        self.figures.revenue += revenue;
    }
}

fn merge(shares: Vec<Share>, spans: &Spans, with_details: bool) -> Result<SalesResult, SketchError> {
    let mut groups: BTreeMap<(u32, String, Currency), Merged> = BTreeMap::new();
    let mut rows_scanned = 0;
    for (sums, singles) in shares {
        rows_scanned += sums.len() as u64;
        for (key, sum) in sums {
            let merged = groups.entry(key).or_default();
            merged.count(sum.orders, sum.units, sum.revenue);
            if with_details {
                merged.customers.push(sum.customers);
                merged.values().merge_encoded(&sum.order_value)?;
            }
        }
        for SaleParts { sales, names } in singles {
            rows_scanned += sales.len() as u64;
            for sale in sales {
                let Some(span) = spans.group_of(sale.ordered_at_us) else { continue };
                let name = names.get(sale.name as usize).cloned().unwrap_or_default();
                let merged = groups.entry((span, name, sale.currency)).or_default();
                merged.count(1, sale.units.into(), sale.revenue.into());
                if with_details {
                    merged.more_customers.get_or_insert_default().insert_hash(sale.customer_key);
                    merged.values().insert(sale.total as f64)?;
                }
            }
        }
    }
    let groups = groups
        .into_iter()
        .map(|((span, name, currency), mut merged)| {
            let details = match with_details {
                true => {
                    let customers = merged.customers()?;
                    let values = merged.values();
                    let rank = |q: f64| values.quantile(q).unwrap_or_default().round() as i64;
                    Some((customers, [0.5, 0.95, 0.99].map(rank)))
                }
                false => None,
            };
            Ok(SalesGroup {
                start_us: spans.start_us(span),
                name,
                currency,
                figures: Figures { details, ..merged.figures },
            })
        })
        .collect::<Result<Vec<_>, SketchError>>()?;
    let estimated = with_details && !groups.is_empty();
    Ok(SalesResult { groups, rows_scanned, preaggregated: true, estimated, ..SalesResult::default() })
}
