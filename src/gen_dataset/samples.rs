//! The price history and the stock events, product by product, and sorted by time within a product.
//!
//! A product's rows follow each other, so that nothing is remembered about any other product, whatever the number of
//! products, and a database that stores them by product only appends.

use super::error::GenError;
use super::random::{Random, Use, key, of_product};
use super::row::{Id, PriceSample, Sink, StockChange, StockEvent};
use super::season::Arrivals;
use super::world::{Tenant, World, product_id};

/// The number of price samples per thousand that are far off, as if the decimal point had slipped or the currency
/// were wrong.
const PRICE_SLIPS_PER_MILLE: u64 = 5;
/// A counted stock is below this number.
const COUNT_BELOW: u64 = 2_000;

impl World {
    /// Generates every price sample. Prices are within 3 % of the product's price, and sometimes far off.
    pub(super) fn price_history(
        &self,
        sink: &mut dyn Sink,
        row_done: &mut dyn FnMut(),
    ) -> Result<(), GenError> {
        let (seed, samples) = (self.spec.seed, self.spec.price_samples);
        for (index, tenant) in (0..).zip(&self.tenants) {
            let keys = [Use::PriceTimes, Use::Prices].map(|of| key(seed, of, index));
            for product in 0..self.spec.products {
                let [times, mut random] = keys.map(|key| of_product(key, product));
                let mut times = Arrivals::new(samples, times);
                let usual_minor = tenant.product(product).price_minor;
                let mut number = u64::from(product) * samples;
                while let Some(observed_at_ms) = times.next(&self.season) {
                    number += 1;
                    sink.price_sample(&PriceSample {
                        tenant: index,
                        product,
                        event_id: Id::new(&tenant.price_prefix, number, 8),
                        tenant_id: &tenant.id,
                        product_id: product_id(product),
                        price_minor: price(usual_minor, &mut random),
                        currency: tenant.currency,
                        observed_at_ms,
                    })?;
                    row_done();
                }
            }
        }
        Ok(())
    }

    /// Generates every stock event: an opening count, sales of a few units, deliveries of many, and sometimes another
    /// count. A stock never falls below zero. A popular product has more events than others, and some have none.
    pub(super) fn stock_events(
        &self,
        sink: &mut dyn Sink,
        row_done: &mut dyn FnMut(),
    ) -> Result<(), GenError> {
        let (seed, total) = (self.spec.seed, self.spec.stock_events);
        let whole = self.product_weights();
        for (index, tenant) in (0..).zip(&self.tenants) {
            let keys = [Use::StockTimes, Use::Stock].map(|of| key(seed, of, index));
            let (mut weight, mut number) = (0.0, 0);
            for product in 0..self.spec.products {
                weight += self.product_weight(tenant, product);
                let is_last = product + 1 == self.spec.products;
                // The number of events up to this product, so that rounding neither adds nor loses one.
                let upto = if is_last { total } else { (weight / whole * total as f64) as u64 };
                let [times, mut random] = keys.map(|key| of_product(key, product));
                let mut times = Arrivals::new(upto.min(total).saturating_sub(number), times);
                let mut stock = None;
                while let Some(occurred_at_ms) = times.next(&self.season) {
                    number += 1;
                    sink.stock_event(&StockEvent {
                        tenant: index,
                        product,
                        event_id: Id::new(&tenant.stock_prefix, number, 8),
                        tenant_id: &tenant.id,
                        product_id: product_id(product),
                        change: change(&mut stock, &mut random),
                        occurred_at_ms,
                    })?;
                    row_done();
                }
            }
        }
        Ok(())
    }

    /// Returns the sum of all products' weights, which is the same for each tenant.
    fn product_weights(&self) -> f64 {
        (1..=self.spec.products).map(|rank| self.product_popularity.share(rank.into())).sum()
    }

    /// Returns a product's weight by its popularity.
    fn product_weight(&self, tenant: &Tenant, product: u32) -> f64 {
        let rank = tenant.product_ranks.index_of(product) + 1;
        self.product_popularity.share(rank.into())
    }
}

fn price(usual_minor: u64, random: &mut Random) -> u64 {
    let price_minor = match random.per_mille(PRICE_SLIPS_PER_MILLE) {
        true => {
            [usual_minor / 10, usual_minor / 2, usual_minor * 2, usual_minor * 10][random.below(4) as usize]
        }
        false => usual_minor * (970 + random.below(61)) / 1000,
    };
    price_minor.max(1)
}

/// Draws the next change of a stock, which is `None` before the first, and applies it.
fn change(stock: &mut Option<u32>, random: &mut Random) -> StockChange {
    let drawn = random.below(100);
    let amount = random.below(COUNT_BELOW) as u32;
    let sold = 1 + amount % 5;
    match *stock {
        Some(before) if drawn >= 13 && sold <= before => {
            *stock = Some(before - sold);
            StockChange::Delta(-(sold as i32))
        }
        // The stock is too low for the sale, or a delivery was drawn.
        Some(before) if drawn >= 5 => {
            let delivered = 20 + amount % 40;
            *stock = Some(before.saturating_add(delivered));
            StockChange::Delta(delivered as i32)
        }
        _ => {
            *stock = Some(amount);
            StockChange::Quantity(amount)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_begins_with_a_count_and_never_falls_below_zero() {
        for seed in 0..50 {
            let (mut stock, mut random) = (None, Random::new(seed));
            let mut level = None;
            for _ in 0..2_000 {
                level = match (change(&mut stock, &mut random), level) {
                    (StockChange::Quantity(counted), _) => Some(i64::from(counted)),
                    (StockChange::Delta(delta), Some(level)) => Some(level + i64::from(delta)),
                    (StockChange::Delta(_), None) => panic!("a stock begins with a count"),
                };
                assert_eq!(level, stock.map(i64::from));
                assert!(level >= Some(0));
            }
        }
    }
}
