//! Compares the sales sums with a recount of the rows (R3).

use rusqlite::{Connection, Row};

use super::schema::{ORDERS, unfreed};
use super::sums::recount;
use super::sums_by::SumsBy;
use crate::base::money::Currency;
use crate::shard::partition::names;
use crate::shard::{Problems, ShardError, differences};
use crate::sketch::{HyperLogLog, TDigest};

/// The permitted distance between a stored digest's quantiles and those of a rebuilt digest, as a fraction of the
/// value range or of the ranks. Both digests are within their error bounds, but the orders were added in a different
/// sequence.
const QUANTILE_TOLERANCE: f64 = 0.05;

/// The number of queries that one statement combines.
const PARTS_MAX: usize = 400;

/// Checks every sales sum and sketch, and that no order id is stored twice (W2). Sorts all orders and items.
pub(crate) fn verify_sales(connection: &Connection, problems: &mut Vec<String>) -> Result<(), ShardError> {
    let floor = |column: &str, us: i64| format!("{column} - (({column} % {us}) + {us}) % {us}");
    let sale = "o.status <= 4";
    let tables = names(connection, &ORDERS)?;
    // Dropped orders whose sales are not yet in the tables of dropped sales.
    let counted: Vec<String> = tables.iter().cloned().chain(unfreed(connection)?).collect();
    for by in [SumsBy::Hour, SumsBy::Day] {
        let start = floor("o.ordered_at_us", by.us());
        let parts = counted.iter().map(|orders| {
            format!(
                "SELECT o.tenant AS tenant, o.currency AS currency, {start} AS start, 0 AS key, count(*) AS orders, \
                 sum(o.units) AS units, sum(o.total) AS revenue FROM {orders} o WHERE {sale} \
                 GROUP BY o.tenant, o.currency, {start}"
            )
        });
        compare(connection, by, parts.collect(), problems)?;
    }
    let by = SumsBy::Category;
    let day = floor("o.ordered_at_us", by.us());
    let parts = counted.iter().map(|orders| {
        let items = super::items_of(orders);
        format!(
            "SELECT o.tenant AS tenant, o.currency AS currency, {day} AS start, p.category AS key, \
             count(DISTINCT o.id) AS orders, sum(i.quantity) AS units, \
             sum(i.quantity * i.unit_price) AS revenue FROM {items} i CROSS JOIN {orders} o \
             ON o.id = i.id / 1024 CROSS JOIN product_row p ON p.id = i.product WHERE {sale} \
             GROUP BY o.tenant, o.currency, {day}, p.category"
        )
    });
    compare(connection, by, parts.collect(), problems)?;
    for by in SumsBy::WITH_SKETCHES {
        verify_sketches(connection, &counted, by, problems)?;
    }
    let twice: i64 = connection.query_row(
        "SELECT count(*) FROM (SELECT 1 FROM sales_order GROUP BY tenant, order_id HAVING count(*) > 1)",
        [],
        |row| row.get(0),
    )?;
    if twice > 0 {
        problems.push(format!("{twice} order ids are stored more than once"));
    }
    let mut wrong = 0_i64;
    // Reads partition by partition, because a query over the views would search the items of all partitions for every
    // order.
    for table in &tables {
        let items = super::items_of(table);
        let of_order = "i.id >= o.id * 1024 AND i.id < o.id * 1024 + 1024";
        let sql = format!(
            "SELECT count(*) FROM {table} o WHERE o.total != (SELECT coalesce(sum(i.quantity * i.unit_price), 0) \
             FROM {items} i WHERE {of_order}) OR o.items != (SELECT count(*) FROM {items} i WHERE {of_order})"
        );
        wrong += connection.query_row(&sql, [], |row| row.get::<_, i64>(0))?;
    }
    if wrong > 0 {
        problems.push(format!("{wrong} orders have other items than they declare"));
    }
    Ok(())
}

/// Compares the sums in a table with those computed from the rows of each partition and the sums of dropped orders.
fn compare(
    connection: &Connection,
    by: SumsBy,
    mut parts: Vec<String>,
    problems: &mut Vec<String>,
) -> Result<(), ShardError> {
    let column = by.column().unwrap_or("0");
    let columns = format!("tenant, currency, start_us, {column}, orders, units, revenue");
    parts.push(format!(
        "SELECT tenant, currency, start_us AS start, {column} AS key, orders, units, revenue FROM {}",
        by.dropped_table()
    ));
    // SQLite combines at most 500 queries.
    let sums = "SELECT tenant, currency, start, key, sum(orders) AS orders, sum(units) AS units, \
                sum(revenue) AS revenue FROM";
    let groups = "GROUP BY tenant, currency, start, key";
    let named = "WITH part (tenant, currency, start, key, orders, units, revenue) AS";
    while parts.len() > PARTS_MAX {
        let merge = |parts: &[String]| format!("{sums} ({}) {groups}", parts.join(" UNION ALL "));
        parts = parts.chunks(PARTS_MAX).map(merge).collect();
    }
    let recount = format!("SELECT * FROM ({named} ({}) {sums} part {groups})", parts.join(" UNION ALL "));
    let told = |row: &Row<'_>| {
        let (tenant, start_us, orders): (i64, i64, i64) = (row.get(0)?, row.get(2)?, row.get(4)?);
        Ok(format!("tenant {tenant} at {start_us} with {orders} orders"))
    };
    differences(connection, (by.table(), &columns), &recount, told, problems)
}

/// Compares stored sketches with rebuilt ones. A HyperLogLog depends only on the set of values, so it must be equal.
/// A digest also depends on the sequence, so it only has to be close.
fn verify_sketches(
    connection: &Connection,
    tables: &[String],
    by: SumsBy,
    problems: &mut Vec<String>,
) -> Result<(), ShardError> {
    let (table, name) = (by.table(), by.column().unwrap_or("0"));
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    let sql = format!("SELECT tenant, currency, start_us, {name}, customers, order_value FROM {table}");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut found = Problems::default();
    while let Some(row) = rows.next()? {
        let (tenant, start_us, name): (i64, i64, i64) = (row.get(0)?, row.get(2)?, row.get(3)?);
        let code: String = row.get(1)?;
        let currency = Currency::parse(&code)
            .ok_or_else(|| ShardError::Corrupt(format!("{table} has an unknown currency")))?;
        let (customers, mut values) = recount(connection, &tables, by, &(tenant, currency, start_us, name))?;
        let (mut stored_customers, mut stored_values) =
            (HyperLogLog::new(), TDigest::new(TDigest::COMPRESSION_DEFAULT));
        let [hll, digest] = [4, 5].map(|at| row.get_ref(at).and_then(|blob| Ok(blob.as_blob()?.to_vec())));
        let is_readable =
            stored_customers.merge_encoded(&hll?).is_ok() && stored_values.merge_encoded(&digest?).is_ok();
        let is_near = values.count() == stored_values.count()
            && [0.0, 0.5, 0.95, 1.0].into_iter().all(|q| near(&mut values, &mut stored_values, q));
        if !(is_readable && stored_customers.estimate() == customers.estimate() && is_near) {
            found
                .report(|| format!("{table}: tenant {tenant} at {start_us}: a sketch differs from the rows"));
        }
    }
    problems.extend(found.done(|count| format!("{table}: {count} sketches in total differ from the rows")));
    Ok(())
}

/// Returns `true` if a quantile of a stored digest is near that of a rebuilt one, by value or by rank. Where few values
/// occur often, a digest may answer anything between two of them, and only the rank shows that both are right.
fn near(rebuilt: &mut TDigest, stored: &mut TDigest, q: f64) -> bool {
    let Some((low, high)) = rebuilt.quantile(0.0).zip(rebuilt.quantile(1.0)) else {
        return stored.count() == 0;
    };
    let Some((value, found)) = rebuilt.quantile(q).zip(stored.quantile(q)) else { return false };
    let ranks = [q - QUANTILE_TOLERANCE, q + QUANTILE_TOLERANCE].map(|q| q.clamp(0.0, 1.0));
    let within = ranks.map(|q| rebuilt.quantile(q));
    (value - found).abs() <= (high - low) * QUANTILE_TOLERANCE
        || (0.0 < q && q < 1.0)
            && matches!(within, [Some(least), Some(most)] if (least..=most).contains(&found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(values: impl IntoIterator<Item = f64>) -> TDigest {
        let mut digest = TDigest::new(TDigest::COMPRESSION_DEFAULT);
        values.into_iter().for_each(|value| digest.insert(value).unwrap());
        digest
    }

    #[test]
    fn a_quantile_between_two_frequent_values_is_near() {
        // The median lies between the two values: one more of either moves it from one to the other.
        let of = |cheap: usize| {
            let values = [vec![1_999.0; cheap], vec![7_996.0; 1_000 - cheap], vec![9_995.0]].concat();
            digest_of(values)
        };
        let near = |q: f64| near(&mut of(499), &mut of(502), q);
        assert_ne!(of(499).quantile(0.5), of(502).quantile(0.5));
        assert!([0.0, 0.5, 0.95, 1.0].into_iter().all(near));
    }

    #[test]
    fn a_digest_of_other_values_is_not_near() {
        let mut rebuilt = digest_of((0..1_000).map(f64::from));
        let mut twice = digest_of((0..1_000).map(|value| f64::from(value * 2)));
        let mut lower = digest_of((0..1_000).map(|value| f64::from(value.min(600))));
        assert!(!near(&mut rebuilt, &mut twice, 0.5));
        assert!(!near(&mut rebuilt, &mut lower, 0.95));
        let mut none = digest_of([]);
        assert!(near(&mut none, &mut digest_of([]), 0.5));
        assert!(!near(&mut none, &mut rebuilt, 0.5) && !near(&mut rebuilt, &mut none, 0.5));
    }
}
