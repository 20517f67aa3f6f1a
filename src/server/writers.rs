//! The writer threads: one per shard, on the CPU of the core that feeds it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::open::ShardParts;
use crate::base::ids::ShardId;
use crate::clicks::CLICKS;
use crate::config::{Config, HoldPolicy, SumsPolicy};
use crate::cores::pin::{self, Rank};
use crate::events::EVENTS;
use crate::families::FAMILIES;
use crate::ingest::write::{self, Settle, Stop, WriteSettings};
use crate::ingest::{Board, home};
use crate::orders::ORDERS;
use crate::prices::PRICE_ROWS;
use crate::shard::{ShardOptions, ShipOptions, TenantKeeps};
use crate::stock::STOCK_EVENTS;

pub(super) struct Writers {
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    pub(super) fn start(
        shards: Vec<ShardParts>,
        folder_id: [u8; 16],
        board: &Board,
        (config, keeps): (&Config, &TenantKeeps),
        cpus: &[usize],
    ) -> io::Result<Writers> {
        let stop = Arc::new(Stop::new());
        let mut threads = Vec::new();
        let cache_bytes = config.shard_cache.min(config.shard_caches / shards.len().max(1) as u64);
        let shard_count = shards.len().max(1) as u64;
        for parts in shards {
            let stop = stop.clone();
            let mut settings = settings(config, (folder_id, parts.shard), cache_bytes, shard_count);
            settings.shard.tenant_keeps = keeps.clone();
            let on_board = board.shards.iter().find(|known| known.shard == parts.shard);
            let cpu = cpus[home(usize::from(parts.shard.0), cpus.len())];
            let copier_cpu = copier_cpu(usize::from(parts.shard.0), cpu, cpus);
            settings.settle_copier = Settle::new(move || super::settle(copier_cpu, Rank::Writer));
            let thread = super::thread(&format!("write-{}", parts.shard), move || {
                super::settle(cpu, Rank::Writer);
                let ShardParts { shard, folder, journals, status, verdicts } = parts;
                write::run(shard, folder, journals, status, verdicts, stop, settings);
            })?;
            if let Some(on_board) = on_board {
                let _ = on_board.writer.set(thread.thread().clone());
            }
            threads.push(thread);
        }
        Ok(Writers { stop, threads })
    }

    /// Stores what the journals still contain, for at most `patience`, and closes the shards.
    pub(super) fn finish(self, patience: Duration) {
        self.stop.request(patience);
        for thread in self.threads {
            thread.thread().unpark();
            // A writer catches its own panics. If one escapes, it was logged.
            let _ = thread.join();
        }
    }
}

/// Returns the CPU for a shard's copier: one without a listener if there is one, otherwise that of the writer.
fn copier_cpu(shard: usize, writer_cpu: usize, cpus: &[usize]) -> usize {
    let spare: Vec<usize> = pin::allowed().into_iter().filter(|cpu| !cpus.contains(cpu)).collect();
    spare.get(shard % spare.len().max(1)).copied().unwrap_or(writer_cpu)
}

fn settings(
    config: &Config,
    (folder_id, shard): ([u8; 16], ShardId),
    cache_bytes: u64,
    shard_count: u64,
) -> WriteSettings {
    WriteSettings {
        flush_interval: config.flush_interval,
        batch_rows_max: config.batch_rows_max as usize,
        batch_bytes_max: config.batch_bytes_max as usize,
        checkpoint_bytes: config.checkpoint_bytes,
        checkpoint_age_max: config.checkpoint_interval,
        shard: ShardOptions {
            page_bytes: config.page_size as u32,
            cache_bytes,
            partition_rows_max: config.partition_rows_max,
            partition_rows_max_of: vec![(&ORDERS, config.order_partition_rows_max)],
            checkpoint_wal_bytes: config.checkpoint_wal_bytes,
            folder_id,
            retention: [
                (&CLICKS, config.retention_clicks),
                (&EVENTS, config.retention_events),
                (&ORDERS, config.retention_orders),
            ]
            .into_iter()
            .filter_map(|(stream, keep)| Some((stream, keep?)))
            .collect(),
            ledger_retention: [
                (&PRICE_ROWS, config.retention_prices),
                (&STOCK_EVENTS, config.retention_stock),
            ]
            .into_iter()
            .filter_map(|(ledger, keep)| Some((ledger, keep?)))
            .collect(),
            retention_bytes: [
                (&CLICKS, config.retention_clicks_bytes),
                (&EVENTS, config.retention_events_bytes),
                (&ORDERS, config.retention_orders_bytes),
            ]
            .into_iter()
            .filter_map(|(stream, bytes)| Some((stream, bytes? / shard_count)))
            .collect(),
            ledger_bytes: [
                (&PRICE_ROWS, config.retention_prices_bytes),
                (&STOCK_EVENTS, config.retention_stock_bytes),
            ]
            .into_iter()
            .filter_map(|(ledger, bytes)| Some((ledger, bytes? / shard_count)))
            .collect(),
            ship: Some(ShipOptions {
                data: config.data.clone(),
                shard,
                keep: config.ship_keep,
                hold_bytes_max: config.ship_hold_max,
                drops_when_full: config.ship_hold_full == HoldPolicy::Drop,
            }),
            drops_sums: config.retention_orders_sums == SumsPolicy::Drop,
            ..ShardOptions::default()
        },
        ..WriteSettings::new(&FAMILIES)
    }
}
