//! Order queries: the rows that a search selects, one order, a product's last sale, a finished ingest.

use rusqlite::Connection;

use super::read::{self, FinishedIngest, OrderFilter, ProductSale, SaleSearch, SaleStep};
use super::schema::ORDERS;
use super::status::OrderStatus;
use crate::base::ids::ShardId;
use crate::query::{Filter, QueryError, Readers, Selection, Step, received};
use crate::shard::read::{Bounds, Partial};
use crate::shard::{ShardError, Stream};

/// Selects orders in order of (ordered_at, order id).
impl Selection for OrderFilter {
    fn stream(&self) -> &'static Stream {
        &ORDERS
    }

    fn step(&self, connection: &Connection, step: &Step<'_>) -> Result<Partial, ShardError> {
        let Step { shard, range, pin, position, bounds, keys_only } = *step;
        read::step(connection, shard, (range, self), pin, position, bounds, keys_only)
    }

    fn count(&self, _connection: &Connection, _range: (i64, i64)) -> Result<Option<i64>, ShardError> {
        Ok(None)
    }

    fn fingerprint(&self, part: &mut dyn FnMut(Option<&str>)) {
        part(Some("orders"));
        part(Some(&self.tenant_id));
        for list in [&self.product_ids, &self.words] {
            part(Some(&list.len().to_string()));
            list.iter().for_each(|entry| part(Some(entry)));
        }
        part(Some(&format!("{} {:?} {:?}", self.statuses, self.total_min, self.total_max)));
        if let Some(order) = &self.order {
            part(Some(&order.order_id));
        }
        // An absent condition adds nothing, so that cursors issued before the condition was introduced remain valid.
        let prices = (self.price_min.is_some() || self.price_max.is_some())
            .then(|| format!("{:?} {:?}", self.price_min, self.price_max));
        let currency = self.currency.map(|currency| currency.to_string());
        let customer = self.customer.as_ref().map(|customer| customer.customer_id.as_str());
        let conditions = [
            ("customer", customer),
            ("currency", currency.as_deref()),
            ("category", self.category.as_deref()),
            ("price", prices.as_deref()),
        ];
        for (name, value) in conditions.into_iter().filter(|(_, value)| value.is_some()) {
            part(Some(name));
            part(value);
        }
    }
}

/// Returns the response stored for an idempotency key, if there is one.
pub async fn finished_ingest(
    readers: &Readers,
    shard: ShardId,
    scope: &str,
    key: &str,
) -> Result<Option<FinishedIngest>, QueryError> {
    let (scope, key) = (scope.to_owned(), key.to_owned());
    let step = move |connection: &Connection| read::find_ingest(connection, &scope, &key);
    received(readers.ask(shard, None, step)?.recv().await)
}

/// Returns the order that the filter selects as a line of JSON, or `None` if its shard does not have it.
///
/// # Errors
/// Returns an error if the shard cannot be read.
pub(super) async fn order(
    readers: &Readers,
    shard: ShardId,
    filter: Filter,
) -> Result<Option<Vec<u8>>, QueryError> {
    let bounds = Bounds { rows: 1, bytes: usize::MAX };
    let ask = move |connection: &Connection| {
        let (range, position) = (&filter.range(), &filter.start());
        let step = Step { shard, range, pin: i64::MAX, position, bounds, keys_only: false };
        let partial = filter.of.step(connection, &step)?;
        Ok((!partial.rows.is_empty()).then_some(partial.bytes))
    };
    received(readers.ask(shard, None, ask)?.recv().await)
}

/// Returns the last sale of a tenant's product, over all shards.
///
/// # Errors
/// Returns an error if a shard cannot be read.
pub async fn last_sale(
    readers: &Readers,
    tenant_id: &str,
    product_id: &str,
) -> Result<Option<ProductSale>, QueryError> {
    let sales = OrderStatus::ALL.into_iter().filter(|status| status.is_sale());
    let of = OrderFilter {
        tenant_id: tenant_id.to_owned(),
        product_ids: vec![product_id.to_owned()],
        statuses: sales.fold(0, |mask, status| mask | 1 << status.code()),
        ..OrderFilter::default()
    };
    let ask = |shard, from: SaleSearch| {
        let of = of.clone();
        readers.ask(shard, SaleStep::Found(None), move |connection| {
            read::last_sale(connection, shard, &of, from)
        })
    };
    let begun = readers.shards().map(|shard| Ok((shard, ask(shard, SaleSearch::before(i64::MAX))?)));
    let begun = begun.collect::<Result<Vec<_>, QueryError>>()?;
    let mut last: Option<ProductSale> = None;
    for (shard, mut answer) in begun {
        let found = loop {
            match received(answer.recv().await)? {
                SaleStep::Found(found) => break found,
                SaleStep::Continues(from) => answer = ask(shard, from)?,
            }
        };
        last = last.into_iter().chain(found).max_by(|one, other| {
            (one.ordered_at_us, &one.order_id).cmp(&(other.ordered_at_us, &other.order_id))
        });
    }
    Ok(last)
}
