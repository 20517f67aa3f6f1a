//! One request on an idle server. Whatever its response promises exists in every state that the disk may have.
//!
//! Under load, the syncs of other requests hide a missing one, so each test is alone on its disk.

use std::path::Path;
use std::time::Duration;

use firehose::base::clock;

use super::{After, Rig};
use crate::support::Server;

/// How a request gets its ack level.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// The server's own level.
    pub(super) ack: &'static str,
    /// The query of the target.
    pub(super) query: &'static str,
    /// Time from the response to the cut. Nothing that continues meanwhile may undo the promise.
    pause: Duration,
}

const WAYS: [Way; 3] = [
    Way { ack: "disk", query: "", pause: Duration::ZERO },
    Way { ack: "os", query: "?ack=disk", pause: Duration::ZERO },
    Way { ack: "disk", query: "", pause: Duration::from_millis(50) },
];

/// Runs three servers, with one cut each. The result of `prepare` has long been on the disk when `request` is sent.
/// `check` verifies what the response promised.
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

/// Runs a command on an idle data folder, and cuts the power when it has ended. No server runs on the image yet when
/// `check` is called.
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
