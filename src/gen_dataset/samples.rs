//! The streams of price samples and stock events, sorted by time like the orders.

use super::error::GenError;
use super::random::{Random, Use, key};
use super::row::{Id, PriceSample, Sink, StockChange, StockEvent};
use super::season::Timeline;
use super::world::{World, product_id};

/// The number of price samples per thousand that are far off, as if the decimal point had slipped or the currency
/// were wrong.
const PRICE_SLIPS_PER_MILLE: u64 = 5;

impl World {
    /// Generates every price sample. Prices are within 3 % of the product's price, and sometimes far off.
    pub(super) fn price_samples(
        &self,
        sink: &mut dyn Sink,
        row_done: &mut dyn FnMut(),
    ) -> Result<(), GenError> {
        self.events(Use::PriceTimes, Use::Prices, self.spec.price_samples, &mut |at, random| {
            let tenant = &self.tenants[at.tenant as usize];
            let number = self.some_product(tenant, random);
            let price = tenant.product(number).price_minor;
            let price_minor = match random.per_mille(PRICE_SLIPS_PER_MILLE) {
                true => [price / 10, price / 2, price * 2, price * 10][random.below(4) as usize],
                false => price * (970 + random.below(61)) / 1000,
            };
            sink.price_sample(&PriceSample {
                event_id: Id::new(&tenant.price_prefix, at.number, 8),
                tenant_id: &tenant.id,
                product_id: product_id(number),
                price_minor: price_minor.max(1),
                currency: tenant.currency,
                observed_at_ms: at.time_ms,
            })?;
            row_done();
            Ok(())
        })
    }

    /// Generates every stock event: sales of a few units, deliveries of many, and sometimes a count.
    pub(super) fn stock_events(
        &self,
        sink: &mut dyn Sink,
        row_done: &mut dyn FnMut(),
    ) -> Result<(), GenError> {
        self.events(Use::StockTimes, Use::Stock, self.spec.stock_events, &mut |at, random| {
            let tenant = &self.tenants[at.tenant as usize];
            let number = self.some_product(tenant, random);
            let change = match random.below(100) {
                0..=4 => StockChange::Quantity(random.below(2_000) as u32),
                5..=12 => StockChange::Delta(20 + random.below(200) as i32),
                _ => StockChange::Delta(-1 - random.below(5) as i32),
            };
            sink.stock_event(&StockEvent {
                event_id: Id::new(&tenant.stock_prefix, at.number, 8),
                tenant_id: &tenant.id,
                product_id: product_id(number),
                change,
                occurred_at_ms: at.time_ms,
            })?;
            row_done();
            Ok(())
        })
    }

    /// Calls `each` with the sorted times of `total` events over all tenants, and with the random numbers of each
    /// event's tenant.
    fn events(
        &self,
        times: Use,
        numbers: Use,
        total: u64,
        each: &mut dyn FnMut(At, &mut Random) -> Result<(), GenError>,
    ) -> Result<(), GenError> {
        let spec = &self.spec;
        let counts = (0..spec.tenants).map(|tenant| spec.share(total, tenant));
        let mut timeline = Timeline::new(&self.season, spec.seed, times, counts);
        let source = |tenant| (Random::new(key(spec.seed, numbers, tenant)), 0_u64);
        let mut sources: Vec<_> = (0..spec.tenants).map(source).collect();
        while let Some((time_ms, tenant)) = timeline.next() {
            let (random, number) = &mut sources[tenant as usize];
            *number += 1;
            each(At { time_ms, tenant, number: *number }, random)?;
        }
        Ok(())
    }
}

/// One event: its time, its tenant, and its number within the tenant, from 1.
#[derive(Clone, Copy, Debug)]
struct At {
    time_ms: i64,
    tenant: u32,
    number: u64,
}
