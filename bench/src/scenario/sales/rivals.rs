//! The same figures from DuckDB, on its own tables, and from the sqlite3 shell, on the shard's own file.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;
use rusqlite::Connection;
use serde::Deserialize;

use super::{Answer, Group};
use crate::orders::Loaded;
use crate::peer;
use crate::process::{self, Process};
use crate::run::Figures;
use crate::scenario::ingest_orders::median;
use crate::setup::Setup;

#[derive(Deserialize)]
struct Told {
    load_s: f64,
    answers: BTreeMap<String, ToldAnswer>,
}

#[derive(Deserialize)]
struct ToldAnswer {
    first_ms: f64,
    ms: Vec<f64>,
    groups: Vec<(String, u64, u64, u64, u64, [u64; 3])>,
}

/// Runs every query ("day exact") in DuckDB with one thread. Its file stays next to the CSV for the next round.
pub(super) fn duckdb(
    setup: &Setup,
    folder: &Path,
    runs: usize,
) -> Result<BTreeMap<String, (Figures, Answer)>> {
    let out = folder.join("duckdb.json");
    let mut command = peer::program("duckdb", "sales.py");
    for file in ["sales.duckdb", "orders.csv", "items.csv"] {
        command.arg(folder.join(file));
    }
    command.arg(runs.to_string()).arg(&out).stdin(Stdio::null()).stdout(Stdio::null());
    let mut process = Process::start("duckdb", &mut command, &setup.server_cores)?;
    let status = process.wait(Duration::from_secs(1_800))?;
    ensure!(status.success(), "duckdb ended with {status}");
    let told: Told = serde_json::from_slice(&std::fs::read(&out)?)?;
    eprintln!("[sales] duckdb: loaded in {:.1} s", told.load_s);
    let read = |answer: ToldAnswer| {
        let mut figures = Figures::new();
        figures.insert("first_ms", answer.first_ms);
        figures.insert("computed_ms", median(answer.ms));
        let groups = answer.groups.into_iter().map(|(key, orders, units, revenue, customers, ranks)| {
            (key, Group { orders, units, revenue, customers, ranks: Some(ranks) })
        });
        (figures, groups.collect())
    };
    Ok(told.answers.into_iter().map(|(question, answer)| (question, read(answer))).collect())
}

/// Runs one exact query in the shell, without quantiles, which it does not have. The time of the whole process counts.
pub(super) fn sqlite3(setup: &Setup, loaded: &Loaded, group: &str) -> Result<(Figures, Answer)> {
    let sql = sql(loaded, group)?;
    let mut command = Command::new("sqlite3");
    command.arg("-readonly").arg(loaded.database(0)).stdin(Stdio::piped()).stdout(Stdio::piped());
    process::pin_here(&setup.server_cores)?;
    let start = clock::now();
    let mut child = command.spawn().context("sqlite3 is not installed: apt-get install sqlite3")?;
    child.stdin.take().context("no standard input")?.write_all(sql.as_bytes())?;
    let output = child.wait_with_output()?;
    let ms = start.elapsed().as_secs_f64() * 1e3;
    process::pin_here(&setup.load_cores)?;
    ensure!(output.status.success(), "sqlite3 failed: {}", output.status);
    let answer = String::from_utf8(output.stdout)?.lines().map(read).collect::<Result<_>>()?;
    Ok((Figures::from([("computed_ms", ms)]), answer))
}

/// Parses one line of the shell's list mode.
fn read(line: &str) -> Result<(String, Group)> {
    let (key, numbers) = line.split_once('|').context("no line of figures")?;
    let numbers: Vec<u64> = numbers.split('|').map(str::parse).collect::<Result<_, _>>()?;
    let [orders, units, revenue, customers] = numbers[..] else {
        anyhow::bail!("{line} has no four figures")
    };
    Ok((key.to_owned(), Group { orders, units, revenue, customers, ranks: None }))
}

/// Returns the query, partition by partition: an item's order is in the partition of the same number, and a join of
/// the views would search all of them.
fn sql(loaded: &Loaded, group: &str) -> Result<String> {
    let reader = Connection::open(loaded.database(0))?;
    let mut statement =
        reader.prepare("SELECT name FROM partition WHERE stream = 'sales_order' ORDER BY first_id")?;
    let partitions = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let part = |partition: &String| {
        let items = partition.replacen("sales_order", "sales_item", 1);
        match group {
            "day" => format!(
                "SELECT ordered_at_us / 86400000000 AS part, units, total AS revenue, customer_key FROM {partition} \
                 INDEXED BY {partition}_time WHERE tenant = 1 AND status <= 4"
            ),
            by => format!(
                "SELECT p.{} AS part, sum(i.quantity) AS units, sum(i.quantity * i.unit_price) AS revenue, \
                 o.customer_key FROM {partition} o CROSS JOIN {items} i ON i.id >= o.id * 1024 \
                 AND i.id < o.id * 1024 + 1024 CROSS JOIN product_row p ON p.id = i.product \
                 WHERE o.status <= 4 GROUP BY o.id, 1",
                if by == "category" { "category" } else { "product_id" }
            ),
        }
    };
    let parts: Vec<String> =
        partitions.iter().map(|name| format!("SELECT * FROM ({})", part(name))).collect();
    let key = match group {
        "day" => "date(part * 86400, 'unixepoch')",
        "category" => "(SELECT name FROM category_row WHERE id = part)",
        _ => "part",
    };
    Ok(format!(
        ".mode list\nSELECT {key}, orders, units, revenue, customers FROM (SELECT part, count(*) AS orders, \
         sum(units) AS units, sum(revenue) AS revenue, count(DISTINCT customer_key) AS customers FROM ({}) \
         GROUP BY part);\n",
        parts.join(" UNION ALL ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_shell_is_a_group() -> Result<()> {
        let group = Group { orders: 1, units: 2, revenue: 3, customers: 4, ranks: None };
        assert_eq!(read("Home & Garden|1|2|3|4")?, ("Home & Garden".to_owned(), group));
        assert!(read("x|1|2|3").is_err() && read("x").is_err() && read("x|1|2|3|a").is_err());
        Ok(())
    }
}
