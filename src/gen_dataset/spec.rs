//! The parameters of a dataset: presets, flags that override them, and the checks.

use clap::{Args, ValueEnum};
use jiff::civil::Date;

use super::currency::Currency;
use super::error::GenError;
use super::orders::ITEMS_MEAN_MAX;

/// Incremented when the same parameters produce other bytes, so that no two datasets share a hash.
const GENERATION: u32 = 2;

const TENANTS_MAX: u32 = 10_000;
/// The maximum number of products of a tenant. Each takes 24 bytes while its tenant's expected totals are computed.
const PRODUCTS_MAX: u64 = 5_000_000;
/// The maximum number of customers of a tenant. Each takes 8 bytes while its tenant's expected totals are computed.
const CUSTOMERS_MAX: u64 = 20_000_000;
/// The maximum number of rows in one table. Ids have enough digits for this number.
const ROWS_MAX: u64 = 10_000_000_000;
const DAYS_MAX: u32 = 3_660;
/// The maximum scale. The limits above are reached long before it.
const SCALE_MAX: f64 = 1_000_000.0;

/// A dataset's size. Products, customers, orders and stock events are those of each tenant, price samples those of
/// each product.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Preset {
    /// 1 tenant: 100 products, 10 price samples, 300 customers, 1,000 orders, 500 stock events.
    Tiny,
    /// 2 tenants: 1,000 products, 12 price samples, 5,000 customers, 25,000 orders, 6,250 stock events.
    Small,
    /// 10 tenants: 10,000 products, 10 price samples, 20,000 customers, 100,000 orders, 100,000 stock events.
    #[value(name = "1m")]
    OneMillion,
    /// 10 tenants: 500,000 products, 100 price samples, 400,000 customers, 2 M orders, 5 M stock events.
    Full,
}

/// The counts of a preset.
struct Counts {
    tenants: u32,
    products: u64,
    price_samples: u64,
    customers: u64,
    orders: u64,
    stock_events: u64,
}

impl Preset {
    fn counts(self) -> Counts {
        let of = |tenants, [products, price_samples, customers, orders, stock_events]: [u64; 5]| Counts {
            tenants,
            products,
            price_samples,
            customers,
            orders,
            stock_events,
        };
        match self {
            Preset::Tiny => of(1, [100, 10, 300, 1_000, 500]),
            Preset::Small => of(2, [1_000, 12, 5_000, 25_000, 6_250]),
            Preset::OneMillion => of(10, [10_000, 10, 20_000, 100_000, 100_000]),
            // A customer has five orders on average.
            Preset::Full => of(10, [500_000, 100, 400_000, 2_000_000, 5_000_000]),
        }
    }
}

/// The flags that determine a dataset's content.
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
    pub products: Option<u64>,

    /// Number of price samples of each product.
    #[arg(long, value_name = "N")]
    pub price_samples: Option<u64>,

    /// Number of customers of each tenant.
    #[arg(long, value_name = "N")]
    pub customers: Option<u64>,

    /// Number of orders of each tenant.
    #[arg(long, value_name = "N")]
    pub orders: Option<u64>,

    /// Average number of items in an order, 1 to 20.
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    pub items_mean: f64,

    /// Number of stock events of each tenant.
    #[arg(long, value_name = "N")]
    pub stock_events: Option<u64>,

    /// Multiplies the products, customers, orders and stock events of each tenant, whether the preset or a flag gives
    /// them. At least one row remains. The numbers of tenants and of price samples of a product do not change.
    #[arg(long, value_name = "F", default_value_t = 1.0)]
    pub scale: f64,

    /// Seed of the random generator. The same seed and parameters generate the same bytes.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// First day (UTC).
    #[arg(long, value_name = "DATE", default_value = "2025-01-01")]
    pub start: Date,

    /// Number of days.
    #[arg(long, value_name = "N", default_value_t = 365)]
    pub days: u32,

    /// Currencies, assigned to tenants in rotation. A tenant's country and time zone follow from its currency.
    #[arg(long, value_name = "CODES", value_delimiter = ',', default_value = "USD")]
    pub currencies: Vec<String>,
}

/// Parameters that were checked.
#[derive(Clone, Debug)]
pub struct Spec {
    pub seed: u64,
    pub tenants: u32,
    /// The number of products of each tenant.
    pub products: u32,
    /// The number of price samples of each product.
    pub price_samples: u64,
    /// The number of customers of each tenant.
    pub customers: u32,
    /// The number of orders of each tenant.
    pub orders: u64,
    pub items_mean: f64,
    /// The number of stock events of each tenant.
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
        if !(self.scale > 0.0 && self.scale <= SCALE_MAX) {
            return no(format!("--scale: above 0, at most {SCALE_MAX}"));
        }
        let counts = self.preset.counts();
        let scaled = |count: u64| match count {
            0 => 0,
            // A count is at most 10^10 where it is valid, which a float represents exactly.
            count => ((count as f64 * self.scale).round() as u64).max(1),
        };
        let products = scaled(self.products.unwrap_or(counts.products));
        let customers = scaled(self.customers.unwrap_or(counts.customers));
        if !(1..=PRODUCTS_MAX).contains(&products) {
            return no(format!("--products: 1 to {PRODUCTS_MAX} for each tenant, not {products}"));
        }
        if !(1..=CUSTOMERS_MAX).contains(&customers) {
            return no(format!("--customers: 1 to {CUSTOMERS_MAX} for each tenant, not {customers}"));
        }
        let mut currencies = Vec::new();
        for code in &self.currencies {
            currencies.push(Currency::of(code).ok_or_else(|| unknown(code))?);
        }
        let spec = Spec {
            seed: self.seed,
            tenants: self.tenants.unwrap_or(counts.tenants),
            products: products as u32,
            price_samples: self.price_samples.unwrap_or(counts.price_samples),
            customers: customers as u32,
            orders: scaled(self.orders.unwrap_or(counts.orders)),
            items_mean: self.items_mean,
            stock_events: scaled(self.stock_events.unwrap_or(counts.stock_events)),
            start: self.start,
            days: self.days,
            currencies,
        };
        spec.check()?;
        Ok(spec)
    }
}

fn no<T>(text: String) -> Result<T, GenError> {
    Err(GenError::Parameters(text))
}

fn unknown(code: &str) -> GenError {
    let known = Currency::codes().collect::<Vec<_>>().join(", ");
    GenError::Parameters(format!("--currencies: {code} is not one of {known}"))
}

impl Spec {
    fn check(&self) -> Result<(), GenError> {
        if !(1..=TENANTS_MAX).contains(&self.tenants) {
            return no(format!("--tenants: 1 to {TENANTS_MAX}"));
        }
        let tables = [
            ("--orders", self.orders),
            ("--price-samples", u64::from(self.products).saturating_mul(self.price_samples)),
            ("--stock-events", self.stock_events),
        ];
        for (flag, of_tenant) in tables {
            let rows = of_tenant.saturating_mul(self.tenants.into());
            if rows > ROWS_MAX {
                return no(format!("{flag}: at most {ROWS_MAX} rows over all tenants, not {rows}"));
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

    fn counts(spec: &Spec) -> (u32, [u64; 5]) {
        let Spec { products, price_samples, customers, orders, stock_events, .. } = *spec;
        (spec.tenants, [products.into(), price_samples, customers.into(), orders, stock_events])
    }

    #[test]
    fn presets_are_what_they_say_and_flags_outdo_them() {
        let of = |flags| counts(&spec(flags).unwrap());
        assert_eq!(of("--preset tiny"), (1, [100, 10, 300, 1_000, 500]));
        assert_eq!(of(""), (2, [1_000, 12, 5_000, 25_000, 6_250]));
        assert_eq!(of("--preset 1m"), (10, [10_000, 10, 20_000, 100_000, 100_000]));
        assert_eq!(of("--preset full"), (10, [500_000, 100, 400_000, 2_000_000, 5_000_000]));
        assert_eq!(
            of("--preset full --tenants 2 --orders 7 --price-samples 3"),
            (2, [500_000, 3, 400_000, 7, 5_000_000])
        );
        assert_eq!(spec("").unwrap().items_mean, 3.0);
        let dates = spec("--start 2024-02-01 --days 29 --currencies USD,JPY").unwrap();
        assert_eq!((dates.days, dates.currencies[1].digits), (29, 0));
    }

    #[test]
    fn a_scale_multiplies_the_rows_of_a_tenant_and_keeps_one_of_each() {
        let of = |flags| counts(&spec(flags).unwrap());
        assert_eq!(of("--preset full --scale 0.01"), (10, [5_000, 100, 4_000, 20_000, 50_000]));
        assert_eq!(of("--preset tiny --scale 0.0001"), (1, [1, 10, 1, 1, 1]));
        assert_eq!(of("--preset tiny --scale 2.5 --orders 3"), (1, [250, 10, 750, 8, 1_250]));
        // A table that was switched off remains empty.
        assert_eq!(
            of("--preset tiny --scale 9 --stock-events 0 --price-samples 0").1,
            [900, 0, 2_700, 9_000, 0]
        );
    }

    #[test]
    fn nonsense_is_refused_by_the_name_of_its_flag() {
        for flags in [
            "--tenants 0",
            "--products 0",
            "--products 5000001",
            "--customers 0",
            "--items-mean 0.5",
            "--items-mean NaN",
            "--scale 0",
            "--scale=-1",
            "--scale NaN",
            "--scale inf",
            "--days 0",
            "--start 9999-12-01",
            "--start 1969-12-31",
            "--currencies USD,XXX",
            "--orders 99999999999",
            "--orders 18446744073709551615",
            "--price-samples 18446744073709551615",
            "--tenants 10000 --stock-events 4000000",
        ] {
            let said = spec(flags).unwrap_err().to_string();
            let named = flags.split(' ').filter(|word| word.starts_with("--"));
            let named = named.map(|word| word.split('=').next().unwrap_or(word));
            assert!(named.clone().any(|flag| said.contains(flag)), "{flags}: {said}");
        }
    }

    #[test]
    fn the_hash_sees_every_parameter_but_the_seed() {
        let base = spec("").unwrap().hash("");
        assert_ne!(spec("").unwrap().hash("chunk 7"), base);
        assert_eq!(spec("--seed 9").unwrap().hash(""), base);
        for flags in [
            "--tenants 3",
            "--products 5",
            "--orders 5",
            "--items-mean 2.5",
            "--price-samples 5",
            "--stock-events 5",
            "--customers 5",
            "--scale 0.5",
            "--start 2024-01-01",
            "--days 5",
            "--currencies EUR",
        ] {
            assert_ne!(spec(flags).unwrap().hash(""), base, "{flags}");
        }
    }
}
