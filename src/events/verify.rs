//! Compares the event buckets with a recount of the rows (R3), and checks that no event id is stored twice (W2).

use rusqlite::{Connection, Row};

use super::buckets::{is_counted, view_of};
use super::schema::EVENTS;
use crate::base::bucket_size::BucketSize;
use crate::shard::{ShardError, differences, partitions_of, total};

/// Sorts all ids and groups in temporary files, which takes a few seconds per million events. Returns the number of
/// events.
pub(super) fn verify_aggregates(
    connection: &Connection,
    problems: &mut Vec<String>,
) -> Result<u64, ShardError> {
    let infos = partitions_of(connection, &EVENTS)?;
    for size in BucketSize::ALL {
        let (table, us) = (view_of(size), size.us());
        // The buckets do not contain the rows of some unordered partitions, where they are read from the rows.
        let mut uncounted: Vec<(i64, i64)> = Vec::new();
        for info in infos.iter().filter(|info| !is_counted(info, size)) {
            match uncounted.last_mut() {
                Some((_, end)) if *end == info.first_id => *end = info.end_id,
                _ => uncounted.push((info.first_id, info.end_id)),
            }
        }
        let outside = |(first, end): &(i64, i64)| format!("AND NOT (id >= {first} AND id < {end}) ");
        let outside: String = uncounted.iter().map(outside).collect();
        let start = format!("timestamp_us - ((timestamp_us % {us}) + {us}) % {us}");
        let recount = format!(
            "SELECT tenant_id, {start} AS start_us, source, event_type, count(*), min(timestamp_us), \
             max(timestamp_us) FROM service_event WHERE true {outside}GROUP BY tenant_id, {start}, source, event_type"
        );
        let columns = "tenant_id, start_us, source, event_type, count, first_us, last_us";
        let told = |row: &Row<'_>| {
            let (start_us, rows): (i64, i64) = (row.get(1)?, row.get(4)?);
            Ok(format!("the bucket at {start_us} with {rows} rows"))
        };
        differences(connection, (table, columns), &recount, told, problems)?;
    }
    let twice: i64 = connection.query_row(
        "SELECT count(*) FROM (SELECT 1 FROM service_event GROUP BY tenant_id, event_id HAVING count(*) > 1)",
        [],
        |row| row.get(0),
    )?;
    if twice > 0 {
        problems.push(format!("{twice} event ids are stored more than once"));
    }
    total(connection, EVENTS.total)
}
