//! The cost of making columns: their bytes in the file, and CPU in comparison with the rest of sealing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::families::FAMILIES;
use firehose::gen_dataset::World;
use firehose::shard::{DataFolder, Shard, ShardOptions};
use rusqlite::Connection;

use crate::orders::{Loaded, finish_upkeep};
use crate::process;
use crate::run::{Figures, Round};
use crate::setup::Setup;

/// Returns the bytes of the pages of the tables of columns in all shards, for each item.
pub(super) fn bytes_per_item(loaded: &Loaded, items: u64) -> Result<Round> {
    let (mut pages, mut content) = (0, 0);
    for shard in 0..loaded.shards {
        let reader = Connection::open(loaded.database(shard))?;
        let sql = "SELECT sum(pgsize) FROM dbstat WHERE aggregate = 1 \
                   AND name IN ('sales_segment', 'sales_segment_stale')";
        pages += reader.query_row(sql, [], |row| row.get::<_, i64>(0)).context("dbstat")?;
        let sql = "SELECT coalesce(sum(length(data)), 0) FROM sales_segment";
        content += reader.query_row(sql, [], |row| row.get::<_, i64>(0))?;
    }
    let per_item = |bytes: i64| bytes as f64 / items as f64;
    let figures = Figures::from([("item_bytes", per_item(pages)), ("item_blob_bytes", per_item(content))]);
    Ok(Round { figures, fault: None })
}

/// Loads the dataset into one shard, lets it make all columns again, and then all other tables of its sealed
/// partitions. Returns the CPU of both, and their ratio. Columns are made from rows, without small segments that are merged later.
pub(super) fn sealing(setup: &Setup, world: &World) -> Result<Round> {
    let loaded = Loaded::new(&setup.data_root, 1, world, |_| Ok(()))?;
    let file = Connection::open(loaded.database(0))?;
    let sealed = "stream = 'sales_order' AND sealed_at IS NOT NULL";
    let sql = format!("SELECT coalesce(sum(rows), 0) FROM partition WHERE {sealed}");
    let orders: i64 = file.query_row(&sql, [], |row| row.get(0))?;
    ensure!(orders > 0, "no partition is full");
    // A start looks at every segment.
    let start = upkeep_cpu_us(&loaded)?;
    file.execute("DELETE FROM sales_segment", [])?;
    let columns = upkeep_cpu_us(&loaded)? / world.spec().orders as f64;
    file.execute(&format!("UPDATE partition_catalog SET indexed_at = NULL WHERE {sealed}"), [])?;
    let others = (upkeep_cpu_us(&loaded)? - start).max(0.0) / orders as f64;
    let figures = Figures::from([
        ("columns_cpu_us", columns),
        ("sealing_cpu_us", others),
        ("columns_to_sealing_ratio", columns / others),
    ]);
    Ok(Round { figures, fault: None })
}

fn upkeep_cpu_us(loaded: &Loaded) -> Result<f64> {
    let data = DataFolder::open(&loaded.data(), Some(1), 1)?;
    let options = ShardOptions { folder_id: data.manifest().folder_id(), ..ShardOptions::default() };
    let (_, files) = data.shards().next().context("a folder without a shard")?;
    let mut shards = [Shard::open(&files, &options, &FAMILIES)?];
    let pid = std::process::id();
    let before = process::cpu_ns(pid)?;
    // Segments are made on a thread of their own, which has nothing due while it runs.
    process::poll("upkeep", Duration::from_secs(600), || {
        finish_upkeep(&mut shards)?;
        Ok((!shards[0].upkeep_pending()).then_some(()))
    })?;
    Ok((process::cpu_ns(pid)? - before) as f64 / 1e3)
}
