//! Queries about products over all shards: the list of a tenant's products, and everything about one.

use rusqlite::Connection;

use super::read::{ProductPart, Products};
use super::shapes::ProductSummary;
use crate::orders::{self, ProductSale};
use crate::prices::{OpenAnomalies, open_anomalies};
use crate::query::{ListPartial, ListPlan, Listed, ParameterError, Parameters, QueryError, Readers};
use crate::shard::{ShardError, tenant_number};

/// The maximum number of entries that are read at once from each source.
const READ_AHEAD: usize = 256;

/// The selected products.
#[derive(Clone, Debug)]
pub(super) struct ProductFilter {
    tenant_id: String,
    prefix: String,
}

/// Parses the parameters of a list of products.
pub(super) fn plan(
    tenant_id: &str,
    query: Option<&str>,
) -> Result<ListPlan<ProductFilter>, Vec<ParameterError>> {
    let mut parameters = Parameters::read(query, &["prefix", "limit", "cursor"]);
    let prefix = parameters.prefix();
    ListPlan::new(parameters, ProductFilter { tenant_id: tenant_id.to_owned(), prefix })
}

impl Listed for ProductFilter {
    type Part = ProductPart;
    const MEMBER: &'static str = "products";

    fn conditions(&self) -> Vec<Option<String>> {
        vec![Some(self.tenant_id.clone()), Some(self.prefix.clone())]
    }

    fn first(&self) -> &str {
        &self.prefix
    }

    fn step(
        &self,
        connection: &Connection,
        from: &str,
        partial: &mut ListPartial<ProductPart>,
    ) -> Result<(), ShardError> {
        let Some(tenant) = tenant_number(connection, &self.tenant_id)? else { return Ok(()) };
        let mut products = Products::new(tenant, from, partial.rows_max().min(READ_AHEAD));
        while let Some((product_id, part)) = products.next(connection)? {
            let bytes = part.bytes();
            if !product_id.starts_with(&self.prefix) || partial.add(product_id, Some(part), bytes) {
                break;
            }
        }
        Ok(())
    }

    fn join(one: &mut ProductPart, other: ProductPart) {
        one.join(other);
    }

    fn write(product_id: &str, part: &ProductPart, out: &mut Vec<u8>) {
        // Writing to memory cannot fail.
        let _ = serde_json::to_writer(out, &ProductSummary::new(product_id, part));
    }
}

/// Everything about one product.
pub(super) struct WholeProduct {
    pub part: ProductPart,
    pub anomalies: OpenAnomalies,
    pub last_sale: Option<ProductSale>,
}

/// Returns a tenant's product, or `None` if no shard knows it.
pub(super) async fn product(
    readers: &Readers,
    tenant_id: &str,
    product_id: &str,
) -> Result<Option<WholeProduct>, QueryError> {
    let of = (tenant_id.to_owned(), product_id.to_owned());
    let parts = readers.ask_all(None, move |connection| part(connection, &of.0, &of.1)).await?;
    let joined = parts.into_iter().flatten().reduce(|mut one, other| {
        one.0.join(other.0);
        // Anomalies, too, are in one shard only.
        if other.1 != OpenAnomalies::default() {
            one.1 = other.1;
        }
        one
    });
    let Some((part, anomalies)) = joined else { return Ok(None) };
    // Only orders assign a category.
    let last_sale = match part.category {
        Some(_) => orders::last_sale(readers, tenant_id, product_id).await?,
        None => None,
    };
    Ok(Some(WholeProduct { part, anomalies, last_sale }))
}

/// Returns what one shard knows of a product, apart from its sales.
fn part(
    connection: &Connection,
    tenant_id: &str,
    product_id: &str,
) -> Result<Option<(ProductPart, OpenAnomalies)>, ShardError> {
    let Some(tenant) = tenant_number(connection, tenant_id)? else { return Ok(None) };
    let next = Products::new(tenant, product_id, 1).next(connection)?;
    let Some((_, part)) = next.filter(|(found, _)| found == product_id) else { return Ok(None) };
    Ok(Some((part, open_anomalies(connection, tenant_id, product_id)?)))
}
