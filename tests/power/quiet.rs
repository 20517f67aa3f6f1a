//! One request on an idle server: what its answer promises is there in every state the disk may have.
//!
//! Under load the syncs of others hide a missing one, so each test is alone on its disk.

use std::path::Path;
use std::time::Duration;

use firehose::base::clock;

use super::{After, Rig};
use crate::support::Server;

/// How a request asks for the level.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// The server's own level.
    pub(super) ack: &'static str,
    /// What the target gets.
    pub(super) query: &'static str,
    /// From the answer to the cut: nothing that goes on then may undo it.
    pause: Duration,
}

const WAYS: [Way; 3] = [
    Way { ack: "disk", query: "", pause: Duration::ZERO },
    Way { ack: "os", query: "?ack=disk", pause: Duration::ZERO },
    Way { ack: "disk", query: "", pause: Duration::from_millis(50) },
];

/// Three servers, a cut each. `prepare` is on the disk for long when `request` is sent; `check` looks at what its
/// answer promised.
#[track_caller]
pub(super) fn quiet<P, T>(
    prepare: impl Fn(&Server) -> P,
    request: impl Fn(&Server, Way, &P) -> T,
    check: impl Fn(&After, &T),
) {
    let mut failed = Vec::new();
    for way in WAYS {
        let Some(rig) = Rig::new() else { return };
        let server = rig.serve(&["--ack", way.ack]);
        let prepared = prepare(&server);
        server.wait_until_stored();
        rig.settle();
        let promised = request(&server, way, &prepared);
        clock::pause(way.pause);
        let images = rig.cut(server, |after| check(after, &promised));
        if !images.failed.is_empty() {
            failed.push(format!("{way:?}: {images}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// A command on an idle data folder, and a cut when it has ended. No server runs on the image yet.
#[track_caller]
pub(super) fn quiet_command<P, T>(
    prepare: impl Fn(&Rig) -> P,
    command: impl Fn(&Rig, &P) -> T,
    check: impl Fn(&Rig, &Path, &T),
) {
    let Some(rig) = Rig::new() else { return };
    let prepared = prepare(&rig);
    rig.settle();
    let promised = command(&rig, &prepared);
    rig.disk.cut();
    rig.after_cut(|image| check(&rig, image, &promised)).assert_sound();
}
