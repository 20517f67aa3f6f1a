//! `firehose gen-dataset`: the same seed makes the same bytes, every format contains the same rows, `truth.json`
//! equals a recount from the files, and posting survives a server that refuses requests for a while.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Output;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tempfile::TempDir;

fn generate(flags: &str) -> Output {
    crate::support::command().arg("gen-dataset").args(flags.split_whitespace()).output().expect("it runs")
}

#[track_caller]
fn generated(flags: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output = generate(&format!("{flags} --out {}", dir.path().display()));
    assert!(output.status.success(), "{flags}: {}", String::from_utf8_lossy(&output.stderr));
    dir
}

/// Returns every file of a folder by its name.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry"));
    let read = |entry: fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a file"))
    };
    entries.map(read).collect()
}

fn truth(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("truth.json")).expect("the truth")).expect("JSON")
}

fn ndjson(dir: &Path, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir.join(name)).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("no text {name} in {value}"))
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
                "ndjson" => 6,
                "csv" => 7,
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
    let dir = generated("--preset tiny --tenants 2 --customers 300 --currencies USD,JPY --seed 42");
    let sums: Vec<String> = contents(dir.path())
        .into_iter()
        .map(|(name, bytes)| format!("{name} {} {:08x}", bytes.len(), crc32c::crc32c(&bytes)))
        .collect();
    assert_eq!(sums, PINNED);
}

const PINNED: [&str; 6] = [
    "customers.ndjson 40035 95cad9e9",
    "orders.ndjson 467229 61998bdc",
    "price_samples.ndjson 154553 ceff375a",
    "products.ndjson 27645 d4bf86a8",
    "stock_events.ndjson 66642 8ce7c134",
    "truth.json 153707 857bec0d",
];

#[test]
fn one_table_grows_without_touching_the_others() {
    let base = contents(generated("--preset tiny").path());
    let more = contents(generated("--preset tiny --price-samples 2000 --stock-events 10").path());
    for name in ["customers.ndjson", "products.ndjson", "orders.ndjson"] {
        assert!(base[name] == more[name], "{name}");
    }
    assert_ne!(base["price_samples.ndjson"], more["price_samples.ndjson"]);
}

#[test]
fn rows_are_as_many_as_were_asked_for() {
    let dir =
        generated("--preset tiny --tenants 3 --products 40 --orders 500 --items-mean 4 --stock-events 7");
    let rows = &truth(dir.path())["rows"];
    for (table, wanted) in
        [("customers", 300), ("products", 120), ("orders", 500), ("price_samples", 1000), ("stock_events", 7)]
    {
        assert_eq!(rows[table], wanted, "{table}");
        assert_eq!(ndjson(dir.path(), &format!("{table}.ndjson")).len(), wanted, "{table}");
    }
    let items = rows["order_items"].as_f64().expect("a number");
    assert!((3.5..4.5).contains(&(items / 500.0)), "{items}");
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
            "price_samples.ndjson",
            "products.ndjson",
            "stock_events.ndjson",
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
        "--currencies XXX",
        "--post https://example.com",
        "--post localhost",
        "--post http:///x",
        "--post http://localhost --key schl\u{fc}ssel",
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

#[test]
fn d1_the_truth_equals_a_recount() {
    let dir =
        generated("--preset tiny --tenants 4 --orders 6000 --days 60 --currencies USD,JPY,KWD --seed 3");
    let orders = ndjson(dir.path(), "orders.ndjson");
    let truth = truth(dir.path());
    assert_eq!(truth["seed"], 3);
    let items = orders.iter().map(|order| order["items"].as_array().expect("items").len()).sum::<usize>();
    assert_eq!(truth["rows"]["order_items"], items);
    let tenants = truth["tenants"].as_object().expect("tenants");
    assert_eq!(tenants.keys().collect::<Vec<_>>(), ["tenant_1", "tenant_2", "tenant_3", "tenant_4"]);
    for (tenant, told) in tenants {
        let own: Vec<&Value> = orders.iter().filter(|order| text(order, "tenant_id") == tenant).collect();
        let recounted = recount(&own);
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
    let dir = generated("--preset tiny --tenants 3 --customers 600 --orders 3000");
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
    for name in ["price_samples", "stock_events"] {
        let rows = ndjson(dir.path(), &format!("{name}.ndjson"));
        let at = if name == "price_samples" { "observed_at" } else { "occurred_at" };
        assert!(rows.is_sorted_by_key(|row| text(row, at).to_owned()));
        assert_eq!(rows.iter().map(|row| key(row, "event_id")).collect::<HashSet<_>>().len(), rows.len());
        assert!(rows.iter().all(|row| products.contains_key(&key(row, "product_id"))));
        let stock = rows.iter().all(|row| row.get("delta").is_some() != row.get("quantity").is_some());
        assert!(stock || name == "price_samples");
    }
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

const MIXED: &str = "--preset tiny --tenants 2 --orders 1500 --currencies EUR,JPY --seed 5";

#[test]
fn csv_holds_the_same_rows() {
    let (lines, tables) = (generated(MIXED), generated(&format!("{MIXED} --format csv")));
    assert!(truth(lines.path()) == truth(tables.path()));
    let read = |name: &str| -> Vec<HashMap<String, String>> {
        let mut reader = csv::Reader::from_path(tables.path().join(name)).expect("a file");
        reader.deserialize().map(|row| row.expect("a row")).collect()
    };
    for name in ["customers", "products", "price_samples", "stock_events"] {
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
    for table in ["customers", "products", "orders", "order_items", "price_samples", "stock_events"] {
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

// ── posting ─────────────────────────────────────────────────────────────────────────────────────────

/// The server's reaction to one request.
#[derive(Clone, Copy)]
enum Turn {
    /// Counts the rows and reports all as inserted.
    Store,
    /// Reads the whole request and closes without a response.
    Hang,
    /// Refuses with this status and `Retry-After: 0`.
    Refuse(u16),
    /// Counts the rows and reports the first as failed.
    Fail,
}

/// One request as the server received it, with its body decoded.
struct Seen {
    head: HashMap<String, String>,
    start: String,
    body: Vec<u8>,
}

/// Starts a server that follows the turns, one request per connection, and returns what it received.
fn serve(turns: Vec<Turn>) -> (String, JoinHandle<Vec<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = std::thread::spawn(move || {
        turns
            .into_iter()
            .map(|turn| {
                let (stream, _) = listener.accept().expect("a connection");
                answer(stream, turn)
            })
            .collect()
    });
    (url, serving)
}

fn answer(mut stream: TcpStream, turn: Turn) -> Seen {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let line = |reader: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    };
    let start = line(&mut reader);
    let mut head = HashMap::new();
    loop {
        let field = line(&mut reader);
        let Some((name, value)) = field.split_once(": ") else { break };
        head.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    assert_eq!(head["transfer-encoding"], "chunked");
    let mut coded = Vec::new();
    loop {
        let length = usize::from_str_radix(&line(&mut reader), 16).expect("a chunk's length");
        let start = coded.len();
        coded.resize(start + length, 0);
        reader.read_exact(&mut coded[start..]).expect("a chunk");
        assert_eq!(line(&mut reader), "");
        if length == 0 {
            break;
        }
    }
    let mut body = coded;
    if head.get("content-encoding").is_some_and(|coding| coding == "gzip") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).expect("gzip");
        body = plain;
    }
    let rows = body.iter().filter(|byte| **byte == b'\n').count();
    let (status, text) = match turn {
        Turn::Hang => return Seen { head, start, body },
        Turn::Store => {
            let text = json!({"rows_received": rows, "rows_inserted": rows, "rows_duplicate": 0,
                "rows_failed": 0, "processing_time": 0.1, "errors": []});
            (200, text)
        }
        Turn::Fail => {
            let text = json!({"rows_received": rows, "rows_inserted": rows - 1, "rows_duplicate": 0,
                "rows_failed": 1, "errors": [{"line": 1, "code": "invalid_price"}]});
            (200, text)
        }
        Turn::Refuse(status) => (status, json!({"title": "No", "detail": "not now, not ever"})),
    };
    let text = text.to_string();
    write!(
        stream,
        "HTTP/1.1 {status} Whatever\r\nRetry-After: 0\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
    .expect("an answer");
    Seen { head, start, body }
}

fn post(flags: &str, turns: Vec<Turn>) -> (Output, Vec<Seen>) {
    let (url, serving) = serve(turns);
    let output = generate(&format!("--preset tiny --post {url} {flags}"));
    let seen = serving.join().expect("the server's thread");
    (output, seen)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn posting_tries_again_under_the_same_key_and_sends_the_orders_of_the_file() {
    let turns = vec![
        Turn::Store,
        Turn::Refuse(503),
        Turn::Hang,
        Turn::Refuse(409),
        Turn::Store,
        Turn::Refuse(429),
        Turn::Store,
    ];
    let (output, seen) = post("--chunk 400 --key secret-1", turns);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output)
            .contains("3 chunks, 4 retries: 1000 orders sent, 1000 inserted, 0 duplicates, 0 failed"),
        "{}",
        said(&output)
    );
    let mut keys = Vec::new();
    for request in &seen {
        assert_eq!(request.start, "POST /api/v1/ingest/orders/ HTTP/1.1");
        assert_eq!(request.head["content-type"], "application/x-ndjson");
        assert_eq!(request.head["authorization"], "Bearer secret-1");
        keys.push(request.head["idempotency-key"].as_str());
    }
    let stem = keys[0].strip_suffix("-1").expect("the first chunk");
    assert!(stem.starts_with("gen-1-") && stem.len() == "gen-1-".len() + 16, "{stem}");
    let numbers = keys.iter().map(|key| key[stem.len() + 1..].to_owned()).collect::<Vec<_>>();
    assert_eq!(numbers, ["1", "2", "2", "2", "2", "3", "3"]);
    assert!(seen[1].body == seen[4].body, "a second try has the same bytes");
    let sent: Vec<u8> = [0, 4, 6].iter().flat_map(|at: &usize| seen[*at].body.clone()).collect();
    let dir = generated("--preset tiny");
    assert!(sent == fs::read(dir.path().join("orders.ndjson")).expect("the orders"));
}

#[test]
fn posting_packed_sends_the_same_orders_under_other_keys() {
    let (plain, plain_seen) = post("", vec![Turn::Store]);
    let (packed, packed_seen) = post("--gzip", vec![Turn::Store]);
    assert!(plain.status.success() && packed.status.success());
    assert_eq!(packed_seen[0].head["content-encoding"], "gzip");
    assert!(plain_seen[0].body == packed_seen[0].body);
    assert_ne!(plain_seen[0].head["idempotency-key"], packed_seen[0].head["idempotency-key"]);
    assert!(!plain_seen[0].head.contains_key("authorization"));
}

#[test]
fn failed_rows_and_refusals_fail_the_command_and_say_why() {
    let (output, _) = post("--chunk 500", vec![Turn::Fail, Turn::Store]);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(text.contains("999 inserted, 0 duplicates, 1 failed"), "{text}");
    assert!(text.contains("1 of 1000 orders failed") && text.contains("invalid_price"), "{text}");

    let (output, seen) = post("", vec![Turn::Refuse(403)]);
    assert_eq!((output.status.code(), seen.len()), (Some(1), 1));
    assert!(said(&output).contains("status 403: not now, not ever"), "{}", said(&output));

    let (output, seen) = post("", (0..10).map(|_| Turn::Refuse(503)).collect());
    assert_eq!((output.status.code(), seen.len()), (Some(1), 10));
    assert!(said(&output).contains("gave up after 10 attempts"), "{}", said(&output));
}
