//! The parameters of a dataset: presets, flags that override them, and the checks.

use clap::{Args, ValueEnum};
use jiff::civil::Date;

use super::currency::Currency;
use super::error::GenError;
use super::orders::ITEMS_MEAN_MAX;

/// Incremented when the same parameters produce other bytes, so that no two datasets share a hash.
const GENERATION: u32 = 1;

const TENANTS_MAX: u32 = 10_000;
/// The maximum number of products over all tenants. Each takes 16 bytes, and another 24 bytes in the expected totals.
const PRODUCTS_MAX: u64 = 50_000_000;
/// The maximum number of customers over all tenants. Each takes 8 bytes in the expected totals.
const CUSTOMERS_MAX: u64 = 500_000_000;
/// The maximum number of rows in one table. Ids have enough digits for this number.
const ROWS_MAX: u64 = 10_000_000_000;
const DAYS_MAX: u32 = 3_660;

/// A dataset's size.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Preset {
    /// 1 tenant, 100 products, 300 customers, 1,000 orders.
    Tiny,
    /// 2 tenants, 1,000 products each, 10,000 customers, 50,000 orders.
    Small,
    /// 5 tenants, 20,000 products each, 200,000 customers, 1 M orders.
    Medium,
    /// 10 tenants, 100,000 products each, 1 M customers, 20 M orders.
    Full,
}

/// The flags that determine a dataset's content. All counts are totals over all tenants, except products.
#[derive(Clone, Debug, Args)]
pub struct SpecArgs {
    /// The size of the dataset. Other flags override its values.
    #[arg(long, value_enum, default_value_t = Preset::Small)]
    pub preset: Preset,

    /// Number of tenants: tenant_1, tenant_2, …
    #[arg(long, value_name = "N")]
    pub tenants: Option<u32>,

    /// Number of products of each tenant.
    #[arg(long, value_name = "N")]
    pub products: Option<u32>,

    /// Number of orders, all tenants together.
    #[arg(long, value_name = "N")]
    pub orders: Option<u64>,

    /// Average number of items in an order, 1 to 20.
    #[arg(long, value_name = "N", default_value_t = 2.5)]
    pub items_mean: f64,

    /// Number of price samples, all tenants together.
    #[arg(long, value_name = "N")]
    pub price_samples: Option<u64>,

    /// Number of stock events, all tenants together.
    #[arg(long, value_name = "N")]
    pub stock_events: Option<u64>,

    /// Number of customers, all tenants together.
    #[arg(long, value_name = "N")]
    pub customers: Option<u64>,

    /// Seed of the random generator. The same seed and parameters generate the same bytes.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// First day (UTC).
    #[arg(long, value_name = "DATE", default_value = "2026-01-01")]
    pub start: Date,

    /// Number of days.
    #[arg(long, value_name = "N", default_value_t = 365)]
    pub days: u32,

    /// Currencies, assigned to tenants in rotation.
    #[arg(long, value_name = "CODES", value_delimiter = ',', default_value = "USD")]
    pub currencies: Vec<String>,
}

/// Parameters that were checked.
#[derive(Clone, Debug)]
pub struct Spec {
    pub seed: u64,
    pub tenants: u32,
    /// The number of products per tenant.
    pub products: u32,
    pub customers: u64,
    pub orders: u64,
    pub items_mean: f64,
    pub price_samples: u64,
    pub stock_events: u64,
    pub start: Date,
    pub days: u32,
    pub currencies: Vec<Currency>,
}

impl SpecArgs {
    /// Returns the preset's parameters, with the flags that override them.
    ///
    /// # Errors
    /// Returns the first invalid parameter.
    pub fn check(&self) -> Result<Spec, GenError> {
        let (tenants, products, customers, orders, price_samples, stock_events) = match self.preset {
            Preset::Tiny => (1, 100, 300, 1_000, 1_000, 500),
            Preset::Small => (2, 1_000, 10_000, 50_000, 25_000, 12_500),
            Preset::Medium => (5, 20_000, 200_000, 1_000_000, 500_000, 250_000),
            Preset::Full => (10, 100_000, 1_000_000, 20_000_000, 10_000_000, 5_000_000),
        };
        let mut currencies = Vec::new();
        for code in &self.currencies {
            currencies.push(Currency::of(code).ok_or_else(|| unknown(code))?);
        }
        let spec = Spec {
            seed: self.seed,
            tenants: self.tenants.unwrap_or(tenants),
            products: self.products.unwrap_or(products),
            customers: self.customers.unwrap_or(customers),
            orders: self.orders.unwrap_or(orders),
            items_mean: self.items_mean,
            price_samples: self.price_samples.unwrap_or(price_samples),
            stock_events: self.stock_events.unwrap_or(stock_events),
            start: self.start,
            days: self.days,
            currencies,
        };
        spec.check()?;
        Ok(spec)
    }
}

fn unknown(code: &str) -> GenError {
    let known = Currency::codes().collect::<Vec<_>>().join(", ");
    GenError::Parameters(format!("--currencies: {code} is not one of {known}"))
}

impl Spec {
    fn check(&self) -> Result<(), GenError> {
        let no = |text: String| Err(GenError::Parameters(text));
        let products = u64::from(self.tenants) * u64::from(self.products);
        if !(1..=TENANTS_MAX).contains(&self.tenants) {
            return no(format!("--tenants: 1 to {TENANTS_MAX}"));
        }
        if self.products == 0 || products > PRODUCTS_MAX {
            return no(format!("--products: 1 to {PRODUCTS_MAX} over all tenants, not {products}"));
        }
        if self.customers < u64::from(self.tenants) || self.customers > CUSTOMERS_MAX {
            return no(format!("--customers: at least one per tenant, at most {CUSTOMERS_MAX}"));
        }
        let tables = [
            ("--orders", self.orders),
            ("--price-samples", self.price_samples),
            ("--stock-events", self.stock_events),
        ];
        for (flag, rows) in tables {
            if rows > ROWS_MAX {
                return no(format!("{flag}: at most {ROWS_MAX}"));
            }
        }
        if !(1.0..=ITEMS_MEAN_MAX).contains(&self.items_mean) {
            return no(format!("--items-mean: 1 to {ITEMS_MEAN_MAX}"));
        }
        if !(1..=DAYS_MAX).contains(&self.days) {
            return no(format!("--days: 1 to {DAYS_MAX}"));
        }
        // RFC 3339 has four digits for the year, and the years before 1970 are excluded.
        let end = self.start.checked_add(jiff::Span::new().days(self.days));
        if self.start.year() < 1970 || end.is_err() {
            return no(format!(
                "--start: {} days from {} are outside the years 1970 to 9999",
                self.days, self.start
            ));
        }
        if self.currencies.is_empty() {
            return no("--currencies: at least one is required".to_owned());
        }
        Ok(())
    }

    /// Returns a tenant's part of a count: equal parts, with the remainder going to the first tenants.
    #[must_use]
    pub(super) fn share(&self, total: u64, tenant: u32) -> u64 {
        let tenants = u64::from(self.tenants);
        total / tenants + u64::from(u64::from(tenant) < total % tenants)
    }

    /// Returns the hash of `more` and of all parameters except the seed (FNV-1a, 64 bits), in sixteen hexadecimal
    /// digits.
    #[must_use]
    pub fn hash(&self, more: &str) -> String {
        let codes: Vec<_> = self.currencies.iter().map(|currency| currency.code).collect();
        let text = format!(
            "{GENERATION} {} {} {} {} {:x} {} {} {} {} {} {more}",
            self.tenants,
            self.products,
            self.customers,
            self.orders,
            self.items_mean.to_bits(),
            self.price_samples,
            self.stock_events,
            self.start,
            self.days,
            codes.join(",")
        );
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("{hash:016x}")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        spec: SpecArgs,
    }

    fn spec(flags: &str) -> Result<Spec, GenError> {
        let line = std::iter::once("x").chain(flags.split_whitespace());
        Line::try_parse_from(line).unwrap().spec.check()
    }

    #[test]
    fn presets_are_what_they_say_and_flags_outdo_them() {
        let of = |flags| {
            let spec = spec(flags).unwrap();
            (spec.tenants, spec.products, spec.customers, spec.orders, spec.price_samples, spec.stock_events)
        };
        assert_eq!(of("--preset tiny"), (1, 100, 300, 1_000, 1_000, 500));
        assert_eq!(of(""), (2, 1_000, 10_000, 50_000, 25_000, 12_500));
        assert_eq!(of("--preset medium"), (5, 20_000, 200_000, 1_000_000, 500_000, 250_000));
        assert_eq!(of("--preset full"), (10, 100_000, 1_000_000, 20_000_000, 10_000_000, 5_000_000));
        assert_eq!(of("--preset full --tenants 2 --orders 7").0, 2);
        assert_eq!(of("--preset full --tenants 2 --orders 7").3, 7);
        let dates = spec("--start 2024-02-01 --days 29 --currencies USD,JPY").unwrap();
        assert_eq!((dates.days, dates.currencies[1].digits), (29, 0));
    }

    #[test]
    fn nonsense_is_refused_by_the_name_of_its_flag() {
        for flags in [
            "--tenants 0",
            "--products 0",
            "--tenants 11 --customers 10",
            "--items-mean 0.5",
            "--items-mean NaN",
            "--days 0",
            "--start 9999-12-01",
            "--start 1969-12-31",
            "--currencies USD,XXX",
            "--orders 99999999999",
            "--tenants 10000 --products 4000000",
        ] {
            let said = spec(flags).unwrap_err().to_string();
            let named = flags.split_whitespace().filter(|word| word.starts_with("--"));
            assert!(named.clone().any(|flag| said.contains(flag)), "{flags}: {said}");
        }
    }

    #[test]
    fn shares_add_up_and_the_hash_sees_every_parameter_but_the_seed() {
        let spec_7 = spec("--tenants 7 --orders 100").unwrap();
        assert_eq!((0..7).map(|tenant| spec_7.share(100, tenant)).sum::<u64>(), 100);
        let base = spec("").unwrap().hash("");
        assert_ne!(spec("").unwrap().hash("chunk 7"), base);
        assert_eq!(spec("--seed 9").unwrap().hash(""), base);
        for flags in [
            "--tenants 3",
            "--products 5",
            "--orders 5",
            "--items-mean 3",
            "--price-samples 5",
            "--stock-events 5",
            "--customers 5",
            "--start 2025-01-01",
            "--days 5",
            "--currencies EUR",
        ] {
            assert_ne!(spec(flags).unwrap().hash(""), base, "{flags}");
        }
    }
}
