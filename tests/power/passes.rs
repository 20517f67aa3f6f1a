//! W6, W1: cuts while the WAL is being copied into the database file. Commits continue meanwhile, and most of the
//! time is syncs, so a cut at any moment finds any state of it.

use std::collections::BTreeSet;

use super::{After, Rig, files_of, verify_databases};
use crate::disk::Policy;
use crate::support::{Chance, event, stored};

const CUTS: u64 = 4;
/// Changes of the disk before a cut, at most. A pass over a small WAL is about thirty.
const CHANGES: u64 = 600;

#[test]
fn w6_a_cut_in_a_pass_loses_nothing_and_sets_no_file_aside() {
    let mut chance = Chance::new();
    let policies =
        [Policy::Synced, Policy::Nameless, Policy::Prefix, Policy::Pages, Policy::Sectors, Policy::Files];
    for _ in 0..CUTS {
        let Some(rig) = Rig::new() else { return };
        let flags = ["--ack", "disk", "--checkpoint-interval", "10ms", "--checkpoint-wal-bytes", "64KiB"];
        let server = rig.serve(&[&flags[..], &["--flush-interval", "1ms"]].concat());
        rig.settle();
        rig.disk.cut_after(rig.disk.operations() + 50 + chance.below(CHANGES));
        let (mut client, mut acked) = (server.client(), BTreeSet::new());
        for number in 1.. {
            match client.ask("POST", "/event", &event(number)) {
                Ok(answer) if answer.status == 202 => acked.insert(number),
                _ => break,
            };
        }
        assert!(rig.disk.is_cut(), "the events end with the power");
        server.kill();
        let images = rig.after_cut_by(&policies, 2, |image| {
            let data = image.join("data");
            let after = After { server: rig.serve_on(&data, &[]), data };
            after.server.wait_until_stored();
            let rows: Vec<_> = stored(&after.data);
            let found: BTreeSet<_> = rows.iter().copied().collect();
            assert_eq!(found.len(), rows.len(), "nothing is stored twice");
            let missing: Vec<_> = acked.difference(&found).collect();
            assert!(missing.is_empty(), "of {} acked, {missing:?} are missing", acked.len());
            let is_aside = |path: &std::path::PathBuf| path.to_string_lossy().contains(".damaged-");
            assert_eq!(files_of(&after.data).iter().find(|path| is_aside(path)), None);
            after.server.stop();
            verify_databases(&after.data);
        });
        images.assert_sound();
    }
}
