//! `GET …/stock`: a tenant's levels in order of product id.

use rusqlite::Connection;

use super::read::{StockLevel, stock_levels};
use super::shapes::StockLevelState;
use crate::query::{ListPartial, ListPlan, Listed, ParameterError, Parameters, successor};
use crate::shard::{ShardError, tenant_number};

/// The maximum number of levels that one statement reads.
const READ_AHEAD: usize = 256;

/// The selected levels.
#[derive(Clone, Debug)]
pub(super) struct StockFilter {
    tenant_id: String,
    prefix: String,
    below: Option<i128>,
    above: Option<i128>,
}

/// Parses the parameters of a list of levels.
pub(super) fn plan(
    tenant_id: &str,
    query: Option<&str>,
) -> Result<ListPlan<StockFilter>, Vec<ParameterError>> {
    let mut parameters = Parameters::read(query, &["below", "above", "prefix", "limit", "cursor"]);
    let [below, above] = ["below", "above"].map(|name| parameters.whole_bound(name));
    if let (Some(below), Some(above)) = (below, above)
        && above >= below
    {
        parameters.wrong("below", "out_of_range", "below must be greater than above");
    }
    let prefix = parameters.prefix();
    ListPlan::new(parameters, StockFilter { tenant_id: tenant_id.to_owned(), prefix, below, above })
}

impl Listed for StockFilter {
    type Part = StockLevel;
    const MEMBER: &'static str = "stock";

    fn conditions(&self) -> Vec<Option<String>> {
        let number = |bound: Option<i128>| bound.map(|bound| bound.to_string());
        vec![Some(self.tenant_id.clone()), Some(self.prefix.clone()), number(self.below), number(self.above)]
    }

    fn first(&self) -> &str {
        &self.prefix
    }

    fn step(
        &self,
        connection: &Connection,
        from: &str,
        partial: &mut ListPartial<StockLevel>,
    ) -> Result<(), ShardError> {
        let Some(tenant) = tenant_number(connection, &self.tenant_id)? else { return Ok(()) };
        let (mut from, count) = (from.to_owned(), partial.rows_max().min(READ_AHEAD));
        loop {
            let levels = stock_levels(connection, tenant, &from, count)?;
            let is_last = levels.len() < count;
            if let Some((last, _)) = levels.last() {
                from = successor(last);
            }
            for (product_id, level) in levels {
                if !product_id.starts_with(&self.prefix) {
                    return Ok(());
                }
                let is_selected = self.below.is_none_or(|below| i128::from(level.quantity) < below)
                    && self.above.is_none_or(|above| i128::from(level.quantity) > above);
                if partial.add(product_id, is_selected.then_some(level), size_of::<StockLevel>()) {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// A product's stock is in one shard.
    fn join(_: &mut StockLevel, _: StockLevel) {}

    fn write(product_id: &str, level: &StockLevel, out: &mut Vec<u8>) {
        // Writing to memory cannot fail.
        let _ = serde_json::to_writer(out, &StockLevelState::new(product_id, level));
    }
}
