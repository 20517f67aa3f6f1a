//! What is looked at once a second: free space on the data disk, how fast each shard is being written, and
//! whether keys have changed.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::base::clock;
use crate::cores::stop::Stage;
use crate::ops;
use crate::ops::vitals::Vitals;
use crate::tenants::Keeper;

const INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn start(vitals: Arc<Vitals>, mut keeper: Keeper) -> io::Result<JoinHandle<()>> {
    look_at_disk(&vitals);
    super::thread("watch", move || {
        let mut seen: Vec<(u64, u64)> =
            vitals.board.shards.iter().map(|_| (0, clock::monotonic_us())).collect();
        while vitals.stop.stage() < Stage::Flushing {
            std::thread::park_timeout(INTERVAL);
            keeper.look(clock::unix_us());
            look_at_disk(&vitals);
            for (board, (processed, at_us)) in vitals.board.shards.iter().zip(&mut seen) {
                let (now, now_us) = (board.flow().processed, clock::monotonic_us());
                let per_s = now.saturating_sub(*processed) * 1_000_000 / (now_us - *at_us).max(1);
                // Half the old, half the new: steady enough for a Retry-After.
                board.applied_per_s.set((board.applied_per_s.get() + per_s) / 2);
                (*processed, *at_us) = (now, now_us);
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
                    tracing::info!(free_bytes = disk.free_bytes, "the data disk has room again");
                }
            }
        }
        // Unmounted, perhaps: the appends themselves will say so.
        Err(error) => tracing::warn!(%error, "the free space of the data folder cannot be read"),
    }
}
