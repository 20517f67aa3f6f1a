//! Checks that run once a second: the free space on the data disk, each shard's write rate, and key changes.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::base::clock;
use crate::cores::stop::Stage;
use crate::ingest::DrainRate;
use crate::ops;
use crate::ops::vitals::Vitals;
use crate::tenants::Keeper;

const INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn start(vitals: Arc<Vitals>, mut keeper: Keeper) -> io::Result<JoinHandle<()>> {
    look_at_disk(&vitals);
    super::thread("watch", move || {
        let mut rates: Vec<DrainRate> = vitals.board.shards.iter().map(|_| DrainRate::default()).collect();
        while vitals.stop.stage() < Stage::Flushing {
            std::thread::park_timeout(INTERVAL);
            keeper.check(clock::unix_us());
            look_at_disk(&vitals);
            for (board, rate) in vitals.board.shards.iter().zip(&mut rates) {
                board.drained_per_s.set(rate.sample(board.flow(), clock::monotonic_us()));
            }
        }
        keeper.write_back();
    })
}

fn look_at_disk(vitals: &Vitals) {
    match ops::disk(&vitals.config.data) {
        Ok(disk) => {
            vitals.board.disk_free_bytes.set(disk.free_bytes);
            let low = disk.free_bytes < vitals.config.disk_reserve;
            if low != vitals.board.disk_low() {
                vitals.board.set_disk_low(low);
                if low {
                    tracing::error!(
                        free_bytes = disk.free_bytes,
                        "the data disk is nearly full: events get 507"
                    );
                } else {
                    tracing::info!(free_bytes = disk.free_bytes, "the data disk has space again");
                }
            }
        }
        // The disk may be unmounted. In that case, the appends report an error as well.
        Err(error) => tracing::warn!(%error, "the free space of the data folder cannot be read"),
    }
}
