//! W1: cuts while upkeep moves stock events and prices of an earlier schema version. Afterwards each is stored once, and
//! the histories are what they were.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{After, Rig, verify_databases};
use crate::disk::Policy;
use crate::support::{Chance, command, rows_of, wait_until};

const CUTS: u64 = 2;
/// Changes of the disk before a cut, at most. A start and the conversion are about as many.
const CHANGES: u64 = 300;

/// Returns every stock event and every price.
fn histories(data: &Path) -> Vec<String> {
    let views = [
        "SELECT tenant_id || product_id || event_id || kind || number || occurred_at || version || mode || stock \
         FROM stock_events ORDER BY 1",
        "SELECT tenant_id || product_id || event_id || price || currency || observed_at FROM price_history ORDER BY 1",
        "SELECT anomaly_id || event_id || status || ifnull(reviewed_at, '') FROM price_anomalies ORDER BY 1",
    ];
    views.iter().flat_map(|sql| rows_of(data, sql, |row| row.get::<_, String>(0))).collect()
}

/// Returns `false` for a shard that cannot be read, too.
fn is_moved(data: &Path) -> bool {
    let sql = "SELECT (SELECT user_version FROM pragma_user_version) = ?1 AND NOT EXISTS (SELECT 1 FROM sqlite_schema \
               WHERE name IN ('stock_event_v11', 'price_row_v14'))";
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(data.join("shard-00/shard.db"), flags)
        .and_then(|shard| shard.query_row(sql, [firehose::shard::VERSION], |row| row.get(0)))
        .unwrap_or(false)
}

#[test]
fn w1_a_cut_while_rows_of_an_earlier_version_are_moved_costs_none_of_them() {
    let mut chance = Chance::new();
    let policies =
        [Policy::Synced, Policy::Nameless, Policy::Prefix, Policy::Pages, Policy::Sectors, Policy::Files];
    let flags = ["--ack=disk", "--checkpoint-interval=20ms", "--shards", "1"];
    for (fixture, what) in [("folder-v11-stock", "stock events"), ("folder-v14-prices", "prices")] {
        for _ in 0..CUTS {
            let Some(rig) = Rig::new() else { return };
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
            fs::create_dir_all(rig.data().join("shard-00")).expect("the folder is made");
            for file in ["manifest.json", "shard-00/shard.db"] {
                fs::copy(from.join(file), rig.data().join(file)).expect("the file is copied");
            }
            rig.settle();
            let expected = histories(&from);
            assert!(expected.len() > 100, "{}", expected.len());
            rig.disk.cut_after(rig.disk.operations() + chance.below(CHANGES));
            let server = rig.folder.spawn_as(command(), &rig.data(), &flags);
            // This process serves the disk, so it must not map a file of it into its memory.
            let moved = format!("the {what} of an earlier version are moved");
            wait_until("the cut", || rig.disk.is_cut() || server.logged(&moved).is_some());
            rig.disk.cut();
            server.kill();
            let images = rig.after_cut_by(&policies, 1, |image| {
                let data = image.join("data");
                let after = After { server: rig.folder.serve_on(&data, &flags), data };
                wait_until("the rows are moved", || is_moved(&after.data));
                assert_eq!(histories(&after.data), expected, "{fixture}");
                after.server.stop();
                verify_databases(&after.data);
            });
            images.assert_sound();
        }
    }
}
