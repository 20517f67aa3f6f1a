//! The products that a tenant's orders name.

use rusqlite::{Connection, params};

use crate::shard::ShardError;

/// The SQL that reads products in order of id, each once. The numbers of a product in several categories are rows.
pub(super) const KNOWN_SQL: &str = "SELECT p.product_id, min(g.name) FROM product_row p \
                         CROSS JOIN category_row g ON g.id = p.category WHERE p.tenant = ?1 AND p.product_id >= ?2 \
                         GROUP BY p.product_id ORDER BY p.product_id LIMIT ?3";

/// Returns at most `limit` products that the shard's orders name, from a product id on, in the order of the ids' bytes.
/// Each has the first of its categories in the order of bytes.
pub fn known_products(
    connection: &Connection,
    tenant: i64,
    from: &str,
    limit: usize,
) -> Result<Vec<(String, String)>, ShardError> {
    let mut statement = connection.prepare_cached(KNOWN_SQL)?;
    let found =
        statement.query_map(params![tenant, from, limit as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}
