//! `firehose gen-dataset`: the same seed makes the same bytes, every format contains the same rows, and `truth.json`
//! equals a recount from the files.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::Path;

use crate::support::commerce::truth;
use crate::support::datasets::{generate, generated, ndjson, text};
use serde_json::{Value, json};

/// Returns every file of a folder by its name.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry"));
    let read = |entry: fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a file"))
    };
    entries.map(read).collect()
}

/// Returns a decimal string in minor units and its number of fraction digits.
fn minor(decimal: &str) -> (u64, usize) {
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
    (format!("{whole}{fraction}").parse().expect("digits"), fraction.len())
}

fn decimal(minor: u64, digits: usize) -> String {
    let padded = format!("{minor:0width$}", width = digits + 1);
    let (whole, fraction) = padded.split_at(padded.len() - digits);
    if digits == 0 { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

// ── seeds and parameters ────────────────────────────────────────────────────────────────────────────

#[test]
fn d1_the_same_seed_makes_the_same_bytes_and_another_makes_others() {
    let flags = "--preset tiny --tenants 3 --currencies USD,JPY,KWD";
    for format in ["ndjson", "csv", "sql"] {
        let [one, again, other] = [7, 7, 8].map(|seed| {
            let dir = generated(&format!("{flags} --format {format} --seed {seed}"));
            contents(dir.path())
        });
        assert!(one == again, "{format}");
        assert_eq!(
            one.len(),
            match format {
                "ndjson" => 7,
                "csv" => 8,
                _ => 2,
            }
        );
        for (name, bytes) in &one {
            assert!(!bytes.is_empty() && *bytes != other[name], "{name}");
        }
    }
}

/// The bytes of a seed are pinned: they must not change with a dependency, the compiler or the machine. An intended
/// change raises `GENERATION` in `src/gen_dataset/spec.rs`.
#[test]
fn d1_the_bytes_of_a_seed_never_change() {
    let dir =
        generated("--preset tiny --tenants 2 --customers 150 --orders 500 --currencies USD,JPY --seed 42");
    let sums: Vec<String> = contents(dir.path())
        .into_iter()
        .map(|(name, bytes)| format!("{name} {} {:08x}", bytes.len(), crc32c::crc32c(&bytes)))
        .collect();
    assert_eq!(sums, PINNED);
}

const PINNED: [&str; 7] = [
    "customers.ndjson 40035 95cad9e9",
    "orders.ndjson 516546 59fb4f33",
    "price_history.ndjson 311089 71b1e6d9",
    "products.ndjson 27894 c71fabad",
    "stock_events.ndjson 135031 1acd7ff1",
    "tenants.ndjson 219 4137b528",
    "truth.json 150561 d75d31ac",
];

#[test]
fn one_table_grows_without_touching_the_others() {
    let base = contents(generated("--preset tiny").path());
    let more = contents(generated("--preset tiny --price-samples 20 --stock-events 10").path());
    for name in ["tenants.ndjson", "customers.ndjson", "products.ndjson", "orders.ndjson"] {
        assert!(base[name] == more[name], "{name}");
    }
    assert_ne!(base["price_history.ndjson"], more["price_history.ndjson"]);
    assert_ne!(base["stock_events.ndjson"], more["stock_events.ndjson"]);
}

/// Counts are those of each tenant, and price samples those of each product.
#[test]
fn rows_are_as_many_as_were_asked_for() {
    let flags = "--preset tiny --tenants 3 --products 40 --price-samples 7 --customers 90 --orders 500 --items-mean 4 \
                 --stock-events 70";
    for (scale, wanted) in [
        ("1", [3, 270, 120, 1_500, 840, 210]),
        ("0.1", [3, 27, 12, 150, 84, 21]),
        ("0.001", [3, 3, 3, 3, 21, 3]),
    ] {
        let dir = generated(&format!("{flags} --scale {scale}"));
        let rows = &truth(dir.path())["rows"];
        let tables = ["tenants", "customers", "products", "orders", "price_history", "stock_events"];
        for (table, wanted) in tables.into_iter().zip(wanted) {
            assert_eq!(rows[table], wanted, "{table} at {scale}");
            let of = ndjson(dir.path(), &format!("{table}.ndjson"));
            assert_eq!(of.len(), wanted, "{table} at {scale}");
            let tenants: HashSet<_> = of.iter().map(|row| text(row, "tenant_id")).collect();
            assert_eq!(tenants.len(), 3, "{table} at {scale}");
        }
    }
    let mean = |flags: &str| {
        let rows = &truth(generated(&format!("--preset tiny --orders 5000 {flags}")).path())["rows"];
        rows["order_items"].as_f64().expect("a number") / 5_000.0
    };
    let (usual, larger) = (mean(""), mean("--items-mean 4"));
    assert!((2.9..3.1).contains(&usual) && (3.85..4.15).contains(&larger), "{usual} {larger}");
}

#[test]
fn a_folder_with_a_dataset_is_left_alone_without_force() {
    let dir = generated("--preset tiny --format csv");
    let before = contents(dir.path());
    let again = format!("--preset tiny --seed 9 --out {}", dir.path().display());
    let refused = generate(&again);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--force"));
    assert!(contents(dir.path()) == before);
    assert!(generate(&format!("{again} --force")).status.success());
    assert_eq!(
        contents(dir.path()).into_keys().collect::<Vec<_>>(),
        [
            "customers.ndjson",
            "orders.ndjson",
            "price_history.ndjson",
            "products.ndjson",
            "stock_events.ndjson",
            "tenants.ndjson",
            "truth.json"
        ]
    );
}

#[test]
fn nonsense_is_refused_before_any_file() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("new");
    for flags in [
        "--tenants 0",
        "--items-mean 21",
        "--scale 0",
        "--currencies XXX",
        "--post https://example.com",
        "--post localhost",
        "--post http:///x",
        "--post http://localhost --key schl\u{fc}ssel",
        "--post http://localhost --start 9990-01-01",
        "--force --chunk 5",
    ] {
        let refused = generate(&format!("{flags} --out {}", out.display()));
        assert_eq!(refused.status.code(), Some(2), "{flags}");
        assert!(!out.exists(), "{flags}");
    }
    assert_eq!(generate("--preset tiny").status.code(), Some(2), "neither --out nor --post");
}

// ── the truth ───────────────────────────────────────────────────────────────────────────────────────

/// Sales as a test counts them: keeps everything and optimises nothing.
#[derive(Default)]
struct Sales {
    orders: HashSet<String>,
    units: u64,
    revenue: u64,
    customers: HashSet<String>,
    totals: Vec<u64>,
}

impl Sales {
    fn add(&mut self, order: &Value, units: u64, revenue: u64) {
        self.orders.insert(text(order, "order_id").to_owned());
        self.customers.insert(text(order, "customer_id").to_owned());
        self.units += units;
        self.revenue += revenue;
    }

    fn values(&mut self, digits: usize) -> Value {
        self.totals.sort_unstable();
        let count = self.totals.len();
        let at = |q: f64| match count {
            0 => decimal(0, digits),
            _ => decimal(self.totals[((q * count as f64).ceil() as usize).max(1) - 1], digits),
        };
        json!({"p50": at(0.50), "p95": at(0.95), "p99": at(0.99)})
    }

    fn report(&self, digits: usize) -> Value {
        json!({"orders": self.orders.len(), "units": self.units, "revenue": decimal(self.revenue, digits)})
    }

    fn with_customers(&self, digits: usize) -> Value {
        let mut report = self.report(digits);
        report["unique_customers"] = json!(self.customers.len());
        report
    }

    fn with_values(&mut self, digits: usize) -> Value {
        let mut report = self.with_customers(digits);
        report["order_value"] = self.values(digits);
        report
    }
}

/// Returns what `truth.json` should contain for one tenant, computed from its orders.
fn recount(orders: &[&Value]) -> Value {
    let mut all = Sales::default();
    let mut by_status: BTreeMap<&str, u64> = BTreeMap::new();
    let mut by_day: BTreeMap<String, Sales> = BTreeMap::new();
    let mut by_category: BTreeMap<String, Sales> = BTreeMap::new();
    let mut by_product: HashMap<String, Sales> = HashMap::new();
    let digits = minor(text(&orders[0]["items"][0], "unit_price")).1;
    for status in ["pending", "paid", "shipped", "delivered", "cancelled", "refunded"] {
        by_status.insert(status, 0);
    }
    for order in orders {
        *by_status.get_mut(text(order, "status")).expect("a known status") += 1;
        if ["cancelled", "refunded"].contains(&text(order, "status")) {
            continue;
        }
        let (mut units, mut total) = (0, 0);
        for item in order["items"].as_array().expect("items") {
            let quantity = item["quantity"].as_u64().expect("a quantity");
            let (price, digits_here) = minor(text(item, "unit_price"));
            assert_eq!(digits_here, digits);
            units += quantity;
            total += quantity * price;
            by_category.entry(text(item, "category").to_owned()).or_default().add(
                order,
                quantity,
                quantity * price,
            );
            by_product.entry(text(item, "product_id").to_owned()).or_default().add(
                order,
                quantity,
                quantity * price,
            );
        }
        let day = by_day.entry(text(order, "ordered_at")[..10].to_owned()).or_default();
        for sales in [&mut all, day] {
            sales.add(order, units, total);
            sales.totals.push(total);
        }
    }
    let mut top: Vec<(String, Sales)> = by_product.into_iter().collect();
    top.sort_by(|(a, a_sales), (b, b_sales)| b_sales.revenue.cmp(&a_sales.revenue).then(a.cmp(b)));
    let top = top.iter().take(20).map(|(key, sales)| {
        let mut report = sales.report(digits);
        report["key"] = json!(key);
        report
    });
    let mut report = all.with_values(digits);
    report["orders_all"] = json!(orders.len());
    report["by_status"] = json!(by_status);
    report["by_day"] =
        by_day.iter_mut().map(|(day, sales)| (day.clone(), sales.with_values(digits))).collect();
    report["by_category"] =
        by_category.iter().map(|(name, sales)| (name.clone(), sales.with_customers(digits))).collect();
    report["by_product_top"] = top.collect();
    report["currency"] = orders[0]["currency"].clone();
    report
}

/// Returns the rows of a tenant by product, in the order of the file.
fn by_product<'r>(rows: &'r [Value], tenant: &str) -> BTreeMap<&'r str, Vec<&'r Value>> {
    let mut found: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for row in rows.iter().filter(|row| text(row, "tenant_id") == tenant) {
        found.entry(text(row, "product_id")).or_default().push(row);
    }
    found
}

/// Returns what `truth.json` should contain on the price history and the stock of one tenant.
fn recount_products(dir: &Path, tenant: &str) -> (Value, Value) {
    let (samples, events) = (ndjson(dir, "price_history.ndjson"), ndjson(dir, "stock_events.ndjson"));
    let (prices, stock) = (by_product(&samples, tenant), by_product(&events, tenant));
    let count = |rows: &BTreeMap<&str, Vec<&Value>>| rows.values().map(Vec::len).sum::<usize>();
    let newest = prices.values().map(|rows| minor(text(rows.last().expect("a sample"), "price")));
    let (totals, digits): (Vec<u64>, Vec<usize>) = newest.unzip();
    let fold = |level: i64, row: &&Value| match row["quantity"].as_i64() {
        Some(quantity) => quantity,
        None => level + row["delta"].as_i64().expect("a delta"),
    };
    let levels = stock.values().map(|rows| rows.iter().fold(0, fold)).sum::<i64>();
    (
        json!({"samples": count(&prices), "products": prices.len(),
            "newest_total": decimal(totals.iter().sum(), digits[0])}),
        json!({"events": count(&stock), "products": stock.len(), "units": levels}),
    )
}

#[test]
fn d1_the_truth_equals_a_recount() {
    let dir =
        generated("--preset tiny --tenants 4 --orders 1500 --days 60 --currencies USD,JPY,KWD --seed 3");
    let orders = ndjson(dir.path(), "orders.ndjson");
    let truth = truth(dir.path());
    assert_eq!(truth["seed"], 3);
    let items = orders.iter().map(|order| order["items"].as_array().expect("items").len()).sum::<usize>();
    assert_eq!(truth["rows"]["order_items"], items);
    let tenants = truth["tenants"].as_object().expect("tenants");
    assert_eq!(tenants.keys().collect::<Vec<_>>(), ["tenant_1", "tenant_2", "tenant_3", "tenant_4"]);
    for (tenant, told) in tenants {
        let own: Vec<&Value> = orders.iter().filter(|order| text(order, "tenant_id") == tenant).collect();
        let mut recounted = recount(&own);
        (recounted["price_history"], recounted["stock_events"]) = recount_products(dir.path(), tenant);
        for (name, value) in recounted.as_object().expect("an object") {
            assert_eq!(told[name], *value, "{tenant} {name}");
        }
        assert_eq!(
            told.as_object().map(serde_json::Map::len),
            recounted.as_object().map(serde_json::Map::len)
        );
        // Some orders contain a product twice, so that counting it once is tested.
        let repeats = own.iter().filter(|order| {
            let items = order["items"].as_array().expect("items");
            items.iter().map(|item| text(item, "product_id")).collect::<HashSet<_>>().len() < items.len()
        });
        assert!(repeats.count() > 10);
    }
}

// ── what the rows are like ──────────────────────────────────────────────────────────────────────────

#[test]
fn orders_come_in_order_of_time_with_ids_that_are_unique_and_refer_to_rows_that_are_there() {
    let dir = generated("--preset tiny --tenants 3 --customers 200 --orders 1000 --start 2026-01-01");
    let key = |row: &Value, name: &str| (text(row, "tenant_id").to_owned(), text(row, name).to_owned());
    let customers: HashMap<_, _> = ndjson(dir.path(), "customers.ndjson")
        .into_iter()
        .map(|row| (key(&row, "customer_id"), row))
        .collect();
    let products: HashMap<_, _> =
        ndjson(dir.path(), "products.ndjson").into_iter().map(|row| (key(&row, "product_id"), row)).collect();
    assert_eq!((customers.len(), products.len()), (600, 300));
    let emails: HashSet<_> = customers.values().map(|row| key(row, "email")).collect();
    assert_eq!(emails.len(), 600);

    let (mut ids, mut last) = (HashSet::new(), String::new());
    for order in ndjson(dir.path(), "orders.ndjson") {
        assert!(ids.insert(key(&order, "order_id")));
        let at = text(&order, "ordered_at");
        assert!(*at >= *last && at.starts_with("2026-") && at.len() == 24 && at.ends_with('Z'), "{at}");
        last = at.to_owned();
        let customer = &customers[&key(&order, "customer_id")];
        assert_eq!(customer["name"], order["customer_name"]);
        assert_eq!(customer["email"], order["customer_email"]);
        for item in order["items"].as_array().expect("items") {
            let product =
                &products[&(text(&order, "tenant_id").to_owned(), text(item, "product_id").to_owned())];
            assert_eq!(product["category"], item["category"]);
            assert!(minor(text(item, "unit_price")) <= minor(text(product, "unit_price")));
            assert!((1..=5).contains(&item["quantity"].as_u64().expect("a quantity")));
        }
    }
    // Samples and events are sorted by tenant, product and time.
    for (name, at) in [("price_history", "observed_at"), ("stock_events", "occurred_at")] {
        let rows = ndjson(dir.path(), &format!("{name}.ndjson"));
        assert!(rows.is_sorted_by_key(|row| (key(row, "product_id"), text(row, at).to_owned())));
        assert_eq!(rows.iter().map(|row| key(row, "event_id")).collect::<HashSet<_>>().len(), rows.len());
        assert!(rows.iter().all(|row| products.contains_key(&key(row, "product_id"))));
    }
}

#[test]
fn tenants_have_a_name_a_currency_and_a_place() {
    let dir = generated("--preset tiny --tenants 5 --scale 0.01 --currencies EUR,JPY");
    let tenants = ndjson(dir.path(), "tenants.ndjson");
    let told = |name: &str| tenants.iter().map(|row| text(row, name)).collect::<Vec<_>>();
    assert_eq!(told("tenant_id"), ["tenant_1", "tenant_2", "tenant_3", "tenant_4", "tenant_5"]);
    assert_eq!(told("currency"), ["EUR", "JPY", "EUR", "JPY", "EUR"]);
    assert_eq!(told("country")[..2], ["DE", "JP"]);
    assert_eq!(told("time_zone")[..2], ["Europe/Berlin", "Asia/Tokyo"]);
    assert_eq!(told("name").into_iter().collect::<HashSet<_>>().len(), 5);
}

#[test]
fn stock_is_counted_first_and_never_below_zero_and_prices_slip_seldom() {
    let dir = generated("--preset tiny --price-samples 40 --stock-events 8000");
    let events = ndjson(dir.path(), "stock_events.ndjson");
    let stock = by_product(&events, "tenant_1");
    let mut most = 0;
    for rows in stock.values() {
        assert!(rows[0]["quantity"].is_u64(), "{}", rows[0]);
        most = most.max(rows.len());
        let mut level = 0;
        for row in rows {
            assert!(row.get("delta").is_some() != row.get("quantity").is_some(), "{row}");
            level =
                row["quantity"].as_i64().unwrap_or_else(|| level + row["delta"].as_i64().expect("a delta"));
            assert!(level >= 0, "{row}");
        }
    }
    // A popular product has more events than others.
    assert!(most > 20 * 8_000 / 100 / 4 && stock.len() > 80, "{most} {}", stock.len());
    let samples = ndjson(dir.path(), "price_history.ndjson");
    let products = by_product(&samples, "tenant_1");
    assert!(products.len() == 100 && products.values().all(|rows| rows.len() == 40));
    let slips = products.values().flat_map(|rows| {
        let mut prices: Vec<u64> = rows.iter().map(|row| minor(text(row, "price")).0).collect();
        prices.sort_unstable();
        let median = prices[20];
        prices.into_iter().filter(move |price| price.abs_diff(median) * 10 > median)
    });
    assert!((5..50).contains(&slips.count()));
}

#[test]
fn sales_are_skewed_and_seasonal() {
    let dir = generated("--preset tiny --products 1000 --customers 2000 --orders 8000");
    let orders = ndjson(dir.path(), "orders.ndjson");
    let (mut products, mut customers, mut hours) = (HashMap::new(), HashMap::new(), [0_u32; 24]);
    for order in &orders {
        *customers.entry(text(order, "customer_id")).or_insert(0_u32) += 1;
        hours[text(order, "ordered_at")[11..13].parse::<usize>().expect("an hour")] += 1;
        for item in order["items"].as_array().expect("items") {
            *products.entry(text(item, "product_id")).or_insert(0_u32) += 1;
        }
    }
    // Returns the share of the largest tenth.
    let share = |counts: HashMap<&str, u32>, of: usize| {
        let mut counts: Vec<u32> = counts.into_values().collect();
        counts.sort_unstable_by_key(|count| std::cmp::Reverse(*count));
        f64::from(counts.iter().take(of / 10).sum::<u32>()) / f64::from(counts.iter().sum::<u32>())
    };
    let (products, customers) = (share(products, 1000), share(customers, 2000));
    assert!((0.60..0.85).contains(&products), "{products}");
    assert!((0.35..0.65).contains(&customers), "{customers}");
    assert!(hours[20] > 4 * hours[3], "{hours:?}");
    let truth = truth(dir.path());
    let by_status = &truth["tenants"]["tenant_1"]["by_status"];
    assert!((240..400).contains(&by_status["cancelled"].as_u64().expect("a count")), "{by_status}");
    assert!((100..220).contains(&by_status["refunded"].as_u64().expect("a count")), "{by_status}");
}

// ── other formats ───────────────────────────────────────────────────────────────────────────────────

const MIXED: &str = "--preset tiny --tenants 2 --orders 750 --currencies EUR,JPY --seed 5";

#[test]
fn csv_holds_the_same_rows() {
    let (lines, tables) = (generated(MIXED), generated(&format!("{MIXED} --format csv")));
    assert!(truth(lines.path()) == truth(tables.path()));
    let read = |name: &str| -> Vec<HashMap<String, String>> {
        let mut reader = csv::Reader::from_path(tables.path().join(name)).expect("a file");
        reader.deserialize().map(|row| row.expect("a row")).collect()
    };
    for name in ["tenants", "customers", "products", "price_history", "stock_events"] {
        let (rows, wanted) = (read(&format!("{name}.csv")), ndjson(lines.path(), &format!("{name}.ndjson")));
        assert_eq!(rows.len(), wanted.len(), "{name}");
        for (row, wanted) in rows.iter().zip(&wanted) {
            let wanted = wanted.as_object().expect("an object");
            for (field, value) in row {
                let wanted = wanted.get(field).map_or(String::new(), |value| {
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                });
                assert_eq!(*value, wanted, "{name} {field}");
            }
        }
    }
    let mut items: HashMap<(String, String), Vec<Value>> = HashMap::new();
    for row in read("order_items.csv") {
        let lines = items.entry((row["tenant_id"].clone(), row["order_id"].clone())).or_default();
        assert_eq!(row["line"], (lines.len() + 1).to_string());
        lines.push(json!({
            "product_id": row["product_id"],
            "category": row["category"],
            "quantity": row["quantity"].parse::<u64>().expect("a number"),
            "unit_price": row["unit_price"],
        }));
    }
    let orders: Vec<Value> = read("orders.csv")
        .into_iter()
        .map(|row| {
            let lines = items.remove(&(row["tenant_id"].clone(), row["order_id"].clone()));
            let mut order = json!(row);
            order["items"] = json!(lines.expect("items"));
            order
        })
        .collect();
    assert!(orders == ndjson(lines.path(), "orders.ndjson"));
    assert!(items.is_empty());
    let raw = fs::read_to_string(tables.path().join("orders.csv")).expect("UTF-8");
    assert!(
        raw.ends_with("\r\n") && raw.contains("\"\"") && raw.contains(", "),
        "quotes and commas are there"
    );
}

#[test]
fn the_script_makes_a_database_with_the_same_totals() {
    let dir = generated(&format!("{MIXED} --format sql"));
    let truth = truth(dir.path());
    let database = rusqlite::Connection::open_in_memory().expect("a database");
    let script = fs::read_to_string(dir.path().join("dataset.sql")).expect("UTF-8");
    database.execute_batch(&script).expect("SQLite reads it");
    let number = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).expect(sql) as u64;
    for table in
        ["tenants", "customers", "products", "orders", "order_items", "price_history", "stock_events"]
    {
        assert_eq!(truth["rows"][table], number(&format!("SELECT count(*) FROM {table}")), "{table}");
    }
    for (tenant, digits) in [("tenant_1", 2), ("tenant_2", 0)] {
        let told = &truth["tenants"][tenant];
        let sales = format!(
            "FROM orders JOIN order_items USING (tenant_id, order_id) \
             WHERE tenant_id = '{tenant}' AND status NOT IN ('cancelled', 'refunded')"
        );
        let count = |what: &str| number(&format!("SELECT {what} {sales}"));
        assert_eq!(told["orders"], count("count(DISTINCT order_id)"));
        assert_eq!(told["units"], count("sum(quantity)"));
        assert_eq!(told["unique_customers"], count("count(DISTINCT customer_id)"));
        assert_eq!(told["revenue"], decimal(count("sum(quantity * unit_price_minor)"), digits));
        let days = told["by_day"].as_object().expect("days");
        assert_eq!(days.len() as u64, count("count(DISTINCT substr(ordered_at, 1, 10))"));
    }
    // Names with quotes and non-ASCII letters are unchanged.
    let lines = generated(MIXED);
    let wanted: BTreeSet<String> =
        ndjson(lines.path(), "customers.ndjson").iter().map(|row| text(row, "name").to_owned()).collect();
    let mut names = database.prepare("SELECT DISTINCT name FROM customers").expect("a statement");
    let names = names.query_map([], |row| row.get(0)).expect("rows");
    assert_eq!(names.map(|name| name.expect("a name")).collect::<BTreeSet<String>>(), wanted);
    assert!(wanted.iter().any(|name| name.contains('\'')), "apostrophes are there");
}
