//! The expected size and time of a dataset, reported before it is generated, and compared with the free disk space.
//!
//! The figures are averages per row, measured with `--preset full --scale 0.01` (two shards, the default currency) in a
//! release build on two vCPUs of an Intel Xeon VM with ext4: bytes from the sizes of files and, for shards, from
//! `dbstat`; times from the CPU time, as if one core did the work. `tests/dataset_stored.rs` compares the bytes with
//! what is written.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::GenError;
use super::generate::Table;
use super::spec::Spec;
use super::units::{bytes_text, time_text};
use crate::ops::disk;

/// A form of a dataset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    Ndjson,
    Csv,
    Sql,
    /// The shards of a data folder.
    Load,
    /// The shards of a server.
    Post,
}

/// The rows whose costs are known, in the order of the columns below: the tables, and the items of the orders.
const COLUMNS: [&str; 7] =
    ["tenants", "customers", "products", "orders", "order_items", "price_history", "stock_events"];

/// The costs of one form: bytes per row, and nanoseconds per row. Expected totals are computed from the orders.
struct Costs {
    bytes: [f64; 7],
    ns: [f64; 7],
}

const fn costs(form: Form) -> Costs {
    match form {
        Form::Ndjson => Costs {
            bytes: [116.0, 135.0, 141.0, 247.0, 87.0, 156.0, 135.0],
            ns: [1_000.0, 300.0, 500.0, 1_500.0, 500.0, 400.0, 1_000.0],
        },
        Form::Csv => Costs {
            bytes: [58.0, 73.0, 61.0, 124.0, 56.0, 74.0, 68.0],
            ns: [1_000.0, 300.0, 500.0, 2_000.0, 800.0, 450.0, 700.0],
        },
        Form::Sql => Costs {
            bytes: [70.0, 86.0, 72.0, 142.0, 65.0, 85.0, 82.0],
            ns: [1_000.0, 300.0, 500.0, 1_500.0, 500.0, 400.0, 1_000.0],
        },
        // An item includes the sums by product and day. The bytes of products and customers depend on the shards: see
        // `shard_bytes`.
        Form::Load => Costs {
            bytes: [0.0, 0.0, 0.0, 200.0, 67.0, 128.0, 63.0],
            ns: [0.0, 0.0, 0.0, 12_000.0, 2_000.0, 2_800.0, 4_600.0],
        },
        // A posted price is stored a second time, as an event. Its time is that of the default quota of a tenant: 16
        // connections sent 8,300 prices per second to tenants whose budget was not exhausted.
        Form::Post => Costs {
            bytes: [0.0, 0.0, 0.0, 200.0, 67.0, 210.0, 63.0],
            ns: [0.0, 0.0, 0.0, 25_000.0, 5_000.0, 200_000.0, 4_000.0],
        },
    }
}

/// Bytes of `truth.json` for each tenant, and for each of its days.
const TRUTH_BYTES: [u64; 2] = [15_000, 252];
/// Bytes of an empty shard.
const SHARD_BYTES: f64 = 900_000.0;
/// Bytes of a product in each shard that has sold it.
const SOLD_PRODUCT_BYTES: f64 = 48.0;
/// Bytes of a product in the shard of its stock.
const LEVEL_BYTES: f64 = 90.0;
/// Bytes of a customer in each shard that has an order of the customer: the row and its words.
const CUSTOMER_BYTES: f64 = 131.0;
/// Bytes of the sums of an hour.
const HOUR_BYTES: f64 = 32.0;
/// Bytes of the sums of a day or a category: at least, for each order, and at most. They contain sketches.
const SKETCHES_BYTES: [f64; 3] = [100.0, 16.0, 20_000.0];
/// The number of categories, and how many of them an order has on average.
const CATEGORIES: [f64; 2] = [20.0, 2.6];

/// The maximum of a shard's WAL, and of its journals: one segment each while the writer keeps up.
const WAL_BYTES: u64 = 90_000_000;
const JOURNAL_BYTES: u64 = 67_000_000;

/// The WAL of a small dataset is not as large: it has each page as often as a commit or a slice of upkeep changes it.
const REWRITES_MAX: u64 = 8;

/// The expected size and time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    pub(super) bytes: u64,
    /// The bytes that are needed in addition while rows are stored.
    pub(super) work_bytes: u64,
    pub(super) seconds: u64,
}

impl Estimate {
    pub(super) fn of(spec: &Spec, form: Form, shards: u16) -> Estimate {
        let Costs { bytes, ns } = costs(form);
        let rows = rows(spec).map(|rows| rows as f64);
        let sum = |per_row: [f64; 7]| rows.iter().zip(per_row).map(|(rows, cost)| rows * cost).sum::<f64>();
        let more_bytes = match form {
            Form::Ndjson | Form::Csv | Form::Sql => {
                u64::from(spec.tenants) * (TRUTH_BYTES[0] + TRUTH_BYTES[1] * u64::from(spec.days))
            }
            Form::Load | Form::Post => shard_bytes(spec, shards.into()) as u64,
        };
        let bytes = sum(bytes) as u64 + more_bytes;
        let work_bytes = match form {
            Form::Ndjson | Form::Csv | Form::Sql => 0,
            Form::Load => WAL_BYTES * u64::from(shards),
            Form::Post => (WAL_BYTES + JOURNAL_BYTES) * u64::from(shards),
        };
        Estimate {
            bytes,
            work_bytes: work_bytes.min(bytes.saturating_mul(REWRITES_MAX)),
            seconds: (sum(ns) / 1e9).ceil() as u64,
        }
    }
}

impl Estimate {
    fn needed_bytes(self) -> u64 {
        self.bytes.saturating_add(self.work_bytes)
    }
}

/// Returns the bytes of all shards that do not grow with the rows of a table: levels, names and sums.
fn shard_bytes(spec: &Spec, shards: f64) -> f64 {
    let (orders, days) = (spec.orders as f64 / shards, f64::from(spec.days));
    let (products, customers) = (f64::from(spec.products), f64::from(spec.customers));
    let [least, each, most] = SKETCHES_BYTES;
    let group = |orders: f64| (least + each * orders).min(most);
    let [categories, of_order] = CATEGORIES;
    // Each shard has a part of every tenant's orders.
    let of_tenant = products.min(orders * spec.items_mean) * SOLD_PRODUCT_BYTES
        + customers.min(orders) * CUSTOMER_BYTES
        + (days * 24.0).min(orders) * HOUR_BYTES
        + days.min(orders) * group(orders / days)
        + categories.min(orders * of_order) * group(orders * of_order / categories);
    let levels = products.min(spec.stock_events as f64) * LEVEL_BYTES;
    shards * SHARD_BYTES + f64::from(spec.tenants) * (shards * of_tenant + levels)
}

/// Returns the number of rows of each column.
fn rows(spec: &Spec) -> [u64; 7] {
    let of = |table: Table| table.rows(spec);
    let items = (of(Table::Orders) as f64 * spec.items_mean) as u64;
    [
        of(Table::Tenants),
        of(Table::Customers),
        of(Table::Products),
        of(Table::Orders),
        items,
        of(Table::PriceHistory),
        of(Table::StockEvents),
    ]
}

/// Returns the rows by table, one line each.
pub(super) fn rows_text(spec: &Spec) -> String {
    let mut text = String::new();
    for (name, rows) in COLUMNS.iter().zip(rows(spec)) {
        let about = if *name == "order_items" { "about " } else { "" };
        // Writing to a string cannot fail.
        _ = writeln!(text, "{name:14}{:>18}", format!("{about}{rows}"));
    }
    text
}

/// The places of a dataset, with what each needs.
#[derive(Debug, Default)]
pub(super) struct Disks(Vec<Need>);

#[derive(Debug)]
struct Need {
    place: String,
    /// The device, or `None` for a server's.
    device: Option<u64>,
    free_bytes: Option<u64>,
    estimate: Estimate,
    /// The bytes of a data folder that exists, or 0.
    found_bytes: u64,
}

impl Disks {
    /// Adds a folder, which may not exist yet.
    pub(super) fn add(&mut self, path: &Path, estimate: Estimate, found_bytes: u64) {
        let existing = existing(path);
        self.0.push(Need {
            place: path.display().to_string(),
            device: existing.metadata().ok().map(|found| found.dev()),
            free_bytes: disk(&existing).ok().map(|disk| disk.free_bytes),
            estimate,
            found_bytes,
        });
    }

    /// Adds a server, and the free space that it reports.
    pub(super) fn add_server(&mut self, place: &str, free_bytes: Option<u64>, estimate: Estimate) {
        self.0.push(Need { place: place.to_owned(), device: None, free_bytes, estimate, found_bytes: 0 });
    }

    /// Returns a line for each place.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for Need { place, free_bytes, estimate, .. } in &self.0 {
            let free = free_bytes.map_or_else(
                || "the free space is not known".to_owned(),
                |free_bytes| format!("{} free", bytes_text(free_bytes)),
            );
            let (size, time) = (bytes_text(estimate.bytes), time_text(estimate.seconds));
            let peak = match estimate.work_bytes {
                0 => String::new(),
                _ => format!(" in the end, up to {} meanwhile", bytes_text(estimate.needed_bytes())),
            };
            _ = writeln!(text, "{place}: about {size}{peak} ({free}), about {time}");
        }
        text
    }

    /// Fails if a disk has less space than everything on it needs.
    pub(super) fn check(&self) -> Result<(), GenError> {
        for Need { place, device, free_bytes, estimate, found_bytes } in &self.0 {
            let on_it = self.0.iter().filter(|other| device.is_some() && other.device == *device);
            let together: u64 = on_it.map(|other| other.estimate.needed_bytes()).sum();
            let needed_bytes = together.max(estimate.needed_bytes());
            if let Some(free_bytes) = free_bytes.filter(|free_bytes| *free_bytes < needed_bytes) {
                let (place, found_bytes) = (place.clone(), *found_bytes);
                return Err(GenError::NoSpace { place, needed_bytes, free_bytes, found_bytes });
            }
        }
        Ok(())
    }
}

/// Returns the path, or the nearest folder above it that exists.
fn existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_holds_everything_on_it_or_is_refused_by_name() {
        let of = |bytes| Estimate { bytes: bytes - bytes / 3, work_bytes: bytes / 3, seconds: 1 };
        let need = |place: &str, device, free_bytes, bytes| Need {
            place: place.to_owned(),
            device,
            free_bytes,
            estimate: of(bytes),
            found_bytes: 0,
        };
        let both = |second| Disks(vec![need("a", Some(1), Some(100), 60), need("b", second, Some(100), 60)]);
        assert!(both(Some(2)).check().is_ok());
        let refused = both(Some(1)).check().unwrap_err();
        assert!(matches!(refused, GenError::NoSpace { needed_bytes: 120, free_bytes: 100, .. }), "{refused}");
        // A server's disk is not compared with local ones, and an unknown one is not refused.
        assert!(both(None).check().is_ok());
        assert!(Disks(vec![need("c", None, None, u64::MAX)]).check().is_ok());
    }

    #[test]
    fn a_folder_that_does_not_exist_is_on_the_disk_of_the_one_above() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(existing(&dir.path().join("a/b/c")), dir.path());
        assert_eq!(existing(dir.path()), dir.path());
    }
}
