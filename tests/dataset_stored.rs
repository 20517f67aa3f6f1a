//! `firehose gen-dataset --load` and `--post`: every row is stored once, whatever is repeated, refused or killed, and
//! the command ends when no upkeep is left. The announced size is that of the files and shards.
//!
//! `DATASET_SCALE=0.01 cargo test --release --test all counted_by_sql` counts a larger part of the preset `full`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Output, Stdio};

use crate::support::commerce::truth;
use crate::support::datasets::{generate, generated, said, text};
use crate::support::{Folder, Server, SmallDisk, command, rows_of, wait_until};
use serde_json::Value;

/// The tables that a shard stores, with the columns that do not depend on the time of arrival.
const CONTENT: [&str; 5] = [
    "SELECT tenant_id || ' ' || order_id || ' ' || customer_id || ' ' || customer_name || ' ' || customer_email || \
     ' ' || status || ' ' || currency || ' ' || ordered_at || ' ' || total || ' ' || units FROM orders",
    "SELECT i.tenant_id || ' ' || o.order_id || ' ' || line || ' ' || product_id || ' ' || category || ' ' || \
     quantity || ' ' || unit_price FROM order_items i JOIN orders o ON o.id = i.order_row",
    "SELECT t.tenant_id || ' ' || product_id || ' ' || event_id || ' ' || price || ' ' || currency || ' ' || \
     observed_at_us || ' ' || accepted FROM price_row_all p JOIN tenant_row t ON t.id = p.tenant",
    "SELECT tenant_id || ' ' || product_id || ' ' || event_id || ' ' || kind || ' ' || number || ' ' || \
     occurred_at || ' ' || version || ' ' || mode || ' ' || stock FROM stock_events",
    "SELECT tenant_id || ' ' || product_id || ' ' || quantity || ' ' || version FROM stock",
];

/// Returns the content of every table over all shards, sorted.
fn content(data: &Path) -> Vec<Vec<String>> {
    let read = |sql: &&str| {
        let mut rows = rows_of(data, sql, |row| row.get::<_, String>(0));
        rows.sort_unstable();
        rows
    };
    CONTENT.iter().map(read).collect()
}

#[track_caller]
fn sum(data: &Path, sql: &str) -> i64 {
    rows_of(data, sql, |row| row.get::<_, i64>(0)).into_iter().sum()
}

/// Calls `each` with every row of a file, which may be large.
fn each_row(dataset: &Path, name: &str, mut each: impl FnMut(&Value)) {
    use std::io::BufRead as _;
    let file = fs::File::open(dataset.join(name)).expect("the file is there");
    for line in std::io::BufReader::new(file).lines() {
        each(&serde_json::from_str(&line.expect("UTF-8")).expect("JSON"));
    }
}

/// The tables of `truth.json` that have one row for each row of a query over all shards.
const COUNTS: [(&str, &str); 4] = [
    ("orders", "SELECT count(*) FROM orders"),
    ("order_items", "SELECT count(*) FROM order_items"),
    ("price_history", "SELECT count(*) FROM price_history"),
    ("stock_events", "SELECT count(*) FROM stock_events"),
];

/// Every table is counted with SQL over all shards, and compared with the files of the same parameters: a ten-thousandth
/// of `full`, or the part in `DATASET_SCALE`.
#[test]
fn a_loaded_dataset_is_complete_counted_by_sql() {
    let scale = std::env::var_os("DATASET_SCALE").and_then(|given| given.into_string().ok());
    let flags = format!("--preset full --scale {}", scale.as_deref().unwrap_or("0.0001"));
    let folder = Folder::new();
    let data = folder.data();
    let dataset = generated(&format!("{flags} --load {} --shards 3", data.display()));
    let truth = truth(dataset.path());
    let rows = |table: &str| truth["rows"][table].as_i64().expect("a count");
    for (table, sql) in COUNTS {
        assert_eq!(sum(&data, sql), rows(table), "{table}");
    }
    // A tenant has rows in every shard, and a product has its history in one.
    let mut tenants = rows_of(&data, "SELECT tenant_id FROM tenant_row", |row| row.get::<_, String>(0));
    tenants.sort_unstable();
    tenants.dedup();
    assert_eq!(tenants.len() as i64, rows("tenants"));
    let products = "SELECT count(*) FROM (SELECT DISTINCT tenant, product_id FROM price_row_all)";
    assert_eq!(sum(&data, products), rows("products"));
    let mut customers = rows_of(&data, "SELECT tenant_id || ' ' || customer_id FROM customers", |row| {
        row.get::<_, String>(0)
    });
    customers.sort_unstable();
    customers.dedup();
    assert!(!customers.is_empty() && customers.len() as i64 <= rows("customers"), "{}", customers.len());

    // The newest accepted price of a product is its newest sample, and its stock is the fold of its events.
    let (mut newest, mut levels) = (BTreeMap::new(), BTreeMap::new());
    let key = |row: &Value| (text(row, "tenant_id").to_owned(), text(row, "product_id").to_owned());
    each_row(dataset.path(), "price_history.ndjson", |row| {
        let price = text(row, "price").replace('.', "").parse::<i64>().expect("a price");
        newest.insert(key(row), price);
    });
    each_row(dataset.path(), "stock_events.ndjson", |row| {
        let level = levels.entry(key(row)).or_insert(0);
        *level = row["quantity"].as_i64().unwrap_or_else(|| *level + row["delta"].as_i64().expect("a delta"));
    });
    let stored = |sql: &str| -> BTreeMap<(String, String), i64> {
        let of = |row: &rusqlite::Row<'_>| Ok(((row.get(0)?, row.get(1)?), row.get(2)?));
        rows_of(&data, sql, of).into_iter().collect()
    };
    let newest_sql = "SELECT t.tenant_id, p.product_id, p.price, max(p.observed_at_us) FROM price_row_all p \
                      JOIN tenant_row t ON t.id = p.tenant WHERE accepted = 1 GROUP BY p.tenant, p.product_id";
    assert!(stored(newest_sql) == newest, "a newest price differs");
    assert!(stored("SELECT tenant_id, product_id, quantity FROM stock") == levels, "a stock differs");
    let (code, told) = folder.run_json(&["verify", "--aggregates", "--stock"]);
    assert_eq!(code, 0, "{told}");
}

/// Small enough for a debug build, and large enough for several chunks of a load.
const SMALL: &str = "--preset tiny --tenants 2 --price-samples 80 --orders 1500 --stock-events 3000 --products 150 --currencies EUR,JPY";

#[track_caller]
fn load(data: &Path) -> String {
    let output = generate(&format!("{SMALL} --load {}", data.display()));
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

#[test]
fn d2_a_second_load_adds_nothing_and_reports_it() {
    let folder = Folder::new();
    let first = load(&folder.data());
    for line in ["orders: 3000 rows loaded, 0 already", "price_history: 24000 rows loaded, 0 already"] {
        assert!(first.contains(line), "{first}");
    }
    assert!(first.contains("no upkeep is left"), "{first}");
    let before = content(&folder.data());
    let again = load(&folder.data());
    for line in [
        "orders: 0 rows loaded, 3000 already existed",
        "price_history: 0 rows loaded, 24000 already existed",
        "stock_events: 0 rows loaded, 6000 already existed",
    ] {
        assert!(again.contains(line), "{again}");
    }
    assert!(content(&folder.data()) == before);
    // Another dataset under the same ids is a conflict, which is reported.
    let other = generate(&format!("{SMALL} --seed 2 --load {}", folder.data().display()));
    assert_eq!(other.status.code(), Some(1));
    let told = said(&other);
    for part in
        ["shard.db: ", " or more rows have the ids of other rows in the folder", "Load into a new folder"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    // No server takes part, and no database has failed.
    let error = told.lines().find(|line| line.contains("or more rows")).expect("the error");
    assert!(!error.contains("server") && !error.contains("failed"), "{error}");
}

fn spawn(flags: &str) -> Child {
    let mut command = command();
    command.arg("gen-dataset").args(flags.split_whitespace());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs")
}

fn kill(mut child: Child) {
    child.kill().expect("it is killed");
    child.wait().expect("it has ended");
}

#[test]
fn d2_a_load_that_is_killed_and_repeated_is_as_one_that_was_not() {
    let (whole, broken) = (Folder::new(), Folder::new());
    let first = load(&whole.data());
    assert!(!first.contains("found"), "{first}");
    let child = spawn(&format!("{SMALL} --load {}", broken.data().display()));
    wait_until("some rows are stored", || rows_in(&broken, "price_row") > 0);
    kill(child);
    let (orders, prices) =
        (sum(&broken.data(), "SELECT count(*) FROM orders"), rows_in(&broken, "price_row"));
    let again = load(&broken.data());
    let found =
        format!("with {orders} orders, {prices} price samples and 0 stock events; rows of this dataset");
    assert!(again.contains("found 2 shards (") && again.contains(&found), "{again}");
    assert!(again.contains(&format!("orders: 0 rows loaded, {orders} already existed")), "{again}");
    let rest = format!("price_history: {} rows loaded, {prices} already existed", 24_000 - prices);
    assert!(again.contains(&rest), "{again}");
    assert!(content(&whole.data()) == content(&broken.data()));
}

/// A load that is killed while it creates the folder is completed by the next one, whatever the number of shards that
/// the next one names.
#[test]
fn d2_a_load_that_is_killed_at_its_beginning_is_completed_by_the_next() {
    let flags = "--preset tiny --price-samples 3 --stock-events 100";
    let whole = Folder::new();
    assert!(generate(&format!("{flags} --load {}", whole.data().display())).status.success());
    let expected = content(&whole.data());
    type HasBegun = fn(&Folder) -> bool;
    let moments: [(&str, HasBegun); 5] = [
        ("a folder", |folder| folder.data().exists()),
        ("a manifest", |folder| folder.data().join("manifest.json").exists()),
        ("a shard", |folder| folder.shard(0).exists()),
        ("a database", |folder| folder.database(0).exists()),
        ("two databases", |folder| folder.database(1).exists()),
    ];
    for (what, has_begun) in moments {
        let folder = Folder::new();
        let child = spawn(&format!("{flags} --load {}", folder.data().display()));
        wait_until(what, || has_begun(&folder));
        kill(child);
        let had_manifest = folder.data().join("manifest.json").exists();
        let shards = if had_manifest { 3 } else { 2 };
        let again = generate(&format!("{flags} --shards {shards} --load {}", folder.data().display()));
        assert!(again.status.success(), "{what}: {}", said(&again));
        assert_eq!(said(&again).contains("found 2 shards"), had_manifest, "{what}: {}", said(&again));
        assert!(content(&folder.data()) == expected, "{what}");
    }
}

/// Returns the rows of a table over both shards, or 0 while one of them is being created.
fn rows_in(folder: &Folder, table: &str) -> i64 {
    if !folder.database(1).exists() {
        return 0;
    }
    let created = format!("SELECT count(*) FROM sqlite_master WHERE name = '{table}'");
    let is_complete = sum(&folder.data(), &created) == 2;
    if is_complete { sum(&folder.data(), &format!("SELECT count(*) FROM {table}")) } else { 0 }
}

// ── over HTTP ───────────────────────────────────────────────────────────────────────────────────────

/// A dataset that a debug server stores within seconds.
const POSTED: &str = "--preset tiny --tenants 2 --products 30 --price-samples 12 --orders 600 --stock-events 1500 \
                      --currencies EUR,JPY --chunk 250 --connections 8";
const ORDERS: usize = 1_200;
const PRICES: usize = 2 * 30 * 12;
const STOCK: usize = 3_000;

fn post(server: &Server) -> Output {
    generate(&format!("{POSTED} --post http://{}", server.address))
}

fn server(folder: &Folder, flags: &[&str]) -> Server {
    folder.serve(&[&["--shards", "2", "--order-partition-rows-max", "200"], flags].concat())
}

#[test]
fn d2_a_posted_dataset_is_stored_once_and_indexed_when_the_command_ends() {
    let folder = Folder::new();
    let server = server(&folder, &[]);
    let first = post(&server);
    assert!(first.status.success(), "{}", said(&first));
    let told = said(&first);
    for (sent, what) in [(ORDERS, "orders"), (PRICES, "price samples"), (STOCK, "stock events")] {
        assert!(
            told.contains(&format!("{sent} {what} sent, {sent} inserted, 0 duplicates, 0 failed")),
            "{told}"
        );
    }
    assert!(told.contains("the server has stored everything, and no upkeep is left"), "{told}");
    let health = server.health();
    assert_eq!(health["queue_size"], 0);
    for shard in health["shards"].as_array().expect("shards") {
        assert_eq!(shard["upkeep_pending"], false, "{health}");
    }
    let page = String::from_utf8(server.get("/metrics").body).expect("UTF-8");
    for shard in 0..2 {
        assert!(page.contains(&format!("firehose_upkeep_pending{{shard=\"{shard}\"}} 0.0\n")), "{page}");
    }
    let before = content(&folder.data());
    let rows: Vec<usize> = before.iter().map(Vec::len).collect();
    assert_eq!((rows[0], rows[2], rows[3]), (ORDERS, PRICES, STOCK));
    let anomalies = sum(&folder.data(), "SELECT count(*) FROM price_anomaly");
    assert_eq!(anomalies, sum(&folder.data(), "SELECT count(*) FROM price_row WHERE accepted = 0"));
    // Every sealed partition has its index.
    let sealed = "SELECT count(*) FROM partition WHERE sealed_at IS NOT NULL";
    assert!(sum(&folder.data(), sealed) >= 4);
    assert_eq!(sum(&folder.data(), &format!("{sealed} AND indexed_at IS NULL")), 0);

    let again = post(&server);
    assert!(again.status.success(), "{}", said(&again));
    let told = said(&again);
    for (sent, what) in [(ORDERS, "orders"), (PRICES, "price samples"), (STOCK, "stock events")] {
        assert!(
            told.contains(&format!("{sent} {what} sent, 0 inserted, {sent} duplicates, 0 failed")),
            "{told}"
        );
    }
    assert!(content(&folder.data()) == before);
    server.stop();
    let (code, told) = folder.run_json(&["verify", "--aggregates", "--stock"]);
    assert_eq!(code, 0, "{told}");
}

#[test]
fn d2_a_post_that_is_killed_or_throttled_and_repeated_is_as_one_that_was_not() {
    let (whole, broken) = (Folder::new(), Folder::new());
    let calm = server(&whole, &[]);
    assert!(post(&calm).status.success());
    calm.stop();
    // 429 with Retry-After, until the tenant's bucket has filled again.
    let busy = server(&broken, &["--price-events-per-second", "300", "--product-events-per-second", "10"]);
    for stored in [0, PRICES / 3] {
        let child = spawn(&format!("{POSTED} --post http://{}", busy.address));
        wait_until("some prices are stored", || rows_in(&broken, "price_row") > stored as i64);
        kill(child);
    }
    let last = post(&busy);
    assert!(last.status.success(), "{}", said(&last));
    let told = said(&last);
    assert!(told.contains("0 failed") && !told.contains("requests, 0 retries: 720 price samples"), "{told}");
    busy.stop();
    assert!(content(&whole.data()) == content(&broken.data()));
}

/// Creates a key with these words, and returns it.
fn key(folder: &Folder, words: &[&str]) -> String {
    let (code, made) = folder.run_json(&[&["key", "create", "--scope"], words].concat());
    assert_eq!(code, 0, "{made}");
    made["key"].as_str().expect("a key").to_owned()
}

/// The body is larger than what a server reads of a refused request.
#[test]
fn a_post_without_access_ends_with_the_servers_reason() {
    let folder = Folder::new();
    for tenant in ["tenant_1", "tenant_2"] {
        assert!(folder.run(&["tenant", "add", tenant]).status.success());
    }
    let of_other = key(&folder, &["manage", "--tenant", "tenant_2"]);
    let reader = key(&folder, &["read"]);
    let server = server(&folder, &[]);
    let post = |flags: &str, key: &str| {
        let output = generate(&format!("{flags} --post http://{} --key {key}", server.address));
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        said(&output)
    };
    let orders = "--preset tiny --orders 8000 --price-samples 0 --stock-events 0";
    let rows = "the first error: line 1, the key belongs to another tenant (wrong_tenant)";
    for (flags, key, status, reason) in [
        (orders, "fh_0_0", 401, "unknown key"),
        (orders, &*reader, 403, "the key lacks the scope manage"),
        (orders, &*of_other, 422, rows),
    ] {
        let told = post(flags, key);
        let expected = format!("chunk 1 was refused with status {status}: ");
        assert!(told.contains(&expected) && told.contains(reason), "{told}");
    }
    // The orders of the key's own tenant are stored. Both reasons are told.
    let told = post("--preset tiny --tenants 2 --products 5 --orders 100", &of_other);
    assert!(told.contains("100 of 200 orders failed") && told.contains("wrong_tenant"), "{told}");
    assert!(
        told.contains("price-event was refused with status 403: the key is bound to another tenant"),
        "{told}"
    );
    server.stop();
}

// ── size ────────────────────────────────────────────────────────────────────────────────────────────

/// Returns the announced bytes.
fn announced(output: &Output) -> f64 {
    let told = said(output);
    let (_, rest) = told.split_once(": about ").expect("an announcement");
    bytes_of(rest)
}

/// Returns the bytes at the start of a text.
fn bytes_of(text: &str) -> f64 {
    let mut words = text.split_whitespace();
    let number = words.next().and_then(|word| word.parse::<f64>().ok()).expect("a number");
    number
        * match words.next() {
            Some("kB") => 1e3,
            Some("MB") => 1e6,
            _ => 1e9,
        }
}

fn bytes_in(folder: &Path) -> f64 {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let size = |entry: fs::DirEntry| match entry.path() {
        path if path.is_dir() => bytes_in(&path),
        _ => entry.metadata().expect("its size").len() as f64,
    };
    entries.map(size).sum()
}

/// The announced size is at most a quarter off for files, and at most a half for shards, which also depend on the
/// number of days and categories.
#[test]
fn the_announced_size_is_that_of_the_files_and_shards() {
    let flags = "--preset tiny --tenants 2 --scale 3 --price-samples 60 --stock-events 4000";
    for (format, factor) in [("ndjson", 1.25), ("csv", 1.25), ("sql", 1.25), ("load", 1.5)] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let place = dir.path().join("dataset");
        let to = match format {
            "load" => format!("--load {}", place.display()),
            _ => format!("--format {format} --out {}", place.display()),
        };
        let output = generate(&format!("{flags} {to}"));
        assert!(output.status.success(), "{}", said(&output));
        let ratio = announced(&output) / bytes_in(&place);
        assert!((1.0 / factor..factor).contains(&ratio), "{format}: {ratio}: {}", said(&output));
    }
}

/// Returns the announced bytes at the peak.
fn announced_peak(told: &str) -> f64 {
    let (_, rest) = told.split_once("in the end, up to ").expect("a peak");
    bytes_of(rest)
}

/// Returns the bytes of files in a folder, some of which may vanish meanwhile.
fn bytes_now(folder: &Path) -> f64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_now(&entry.path()),
        found => found.map_or(0.0, |found| found.len() as f64),
    };
    entries.map(size).sum()
}

/// The WAL and, of a server, the journals are part of what is announced, and of what a disk must have.
#[test]
fn a_load_and_a_post_never_take_more_space_than_announced() {
    let watched = |flags: &str, data: &Path| {
        let mut command = command();
        command.arg("gen-dataset").args(flags.split_whitespace());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
        let mut most = 0.0_f64;
        wait_until("the end", || {
            most = most.max(bytes_now(data));
            child.try_wait().expect("the child can be asked").is_some()
        });
        let output = child.wait_with_output().expect("it has ended");
        assert!(output.status.success(), "{}", said(&output));
        let (told, left) = (said(&output), bytes_now(data));
        let peak = announced_peak(&told);
        assert!(most <= peak && announced(&output) < peak, "{most} > {peak}, {left} in the end: {told}");
    };
    for flags in ["--preset tiny", SMALL] {
        let folder = Folder::new();
        watched(&format!("{flags} --load {}", folder.data().display()), &folder.data());
    }
    let folder = Folder::new();
    let server = server(&folder, &[]);
    let flags = format!("--preset tiny --price-samples 2 --post http://{}", server.address);
    watched(&flags, &folder.data());
    server.stop();
}

#[test]
fn a_disk_that_is_too_small_is_refused_with_its_figures_unless_forced() {
    let folder = Folder::new();
    let Some(disk) = SmallDisk::mount(folder.beside("disk"), 4 << 20) else { return };
    let place = disk.path().join("new");
    for to in [format!("--out {}", place.display()), format!("--load {}", place.display())] {
        let refused = generate(&format!("--preset small {to}"));
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        let told = said(&refused);
        assert!(told.contains("4.2 MB free") && told.contains("needs about"), "{told}");
        assert!(told.contains(&place.display().to_string()) && told.contains("--force"), "{told}");
        assert!(!place.exists());
    }
    // A part of the dataset may be there, which the command cannot know before it looks.
    let few =
        "--preset tiny --products 10 --orders 5 --customers 3 --price-samples 2 --stock-events 5 --days 2";
    let begun = generate(&format!("{few} --shards 1 --force --load {}", place.display()));
    assert!(begun.status.success(), "{}", said(&begun));
    let refused = generate(&format!("--preset small --load {}", place.display()));
    let told = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("found 1 shards (") && told.contains("continue with --force"), "{told}");
    fs::remove_dir_all(&place).expect("the folder is removed");
    // A caller who insists finds out.
    let forced = generate(&format!("--preset small --force --out {}", place.display()));
    assert_eq!(forced.status.code(), Some(1));
    assert!(said(&forced).contains("No space left on device"), "{}", said(&forced));
}
