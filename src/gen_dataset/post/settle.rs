//! Waits until a server has stored everything and has no upkeep left, as seen from outside: `/health`.

use std::time::Duration;

use serde::Deserialize;

use super::client::{Answered, Client};
use crate::base::clock;

/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(250);
/// The number of requests between two lines about the wait.
const LINE_EVERY: u32 = 20;
/// The number of responses in a row that must report no work. A writer publishes a commit a moment before the upkeep
/// that follows from it.
const QUIET_ANSWERS: u32 = 2;
/// The number of requests in a row without a response after which the wait ends. A server that has responded before
/// may be restarting.
const LOST_MAX: u32 = 120;

/// How a wait ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in super::super) enum Settled {
    /// Everything is stored, and no upkeep is left.
    Quiet,
    /// The server does not report its upkeep, or does not respond.
    Unknown,
}

/// What `/health` reports of the server's work.
#[derive(Debug, Deserialize)]
struct Health {
    queue_size: u64,
    #[serde(default)]
    disk_free_bytes: Option<u64>,
    shards: Vec<ShardHealth>,
}

#[derive(Debug, Deserialize)]
struct ShardHealth {
    upkeep_pending: bool,
}

fn health(client: &Client) -> Option<Answered> {
    client.get("/health").filter(|answer| answer.status == 200)
}

/// The disk space and the shards that a server reports before rows are sent.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct ServerState {
    /// `None` if it does not report its disk.
    pub(in super::super) disk_free_bytes: Option<u64>,
    /// One if it does not report its shards.
    pub(in super::super) shards: u16,
}

/// Returns what the server reports.
pub(super) fn server(client: &Client) -> ServerState {
    let found = health(client).and_then(|answer| answer.json::<Health>("/health").ok());
    ServerState {
        disk_free_bytes: found.as_ref().and_then(|health| health.disk_free_bytes),
        shards: found.map_or(1, |health| health.shards.len().clamp(1, usize::from(u16::MAX)) as u16),
    }
}

/// Waits, whatever the time that the upkeep takes.
pub(super) fn settle(client: &Client) -> Settled {
    let (mut quiet, mut lost, mut asked) = (0, LOST_MAX, 0_u32);
    while quiet < QUIET_ANSWERS {
        asked += 1;
        match health(client).map(|answer| answer.json::<Health>("/health")) {
            Some(Ok(health)) => {
                lost = 0;
                let (queued, shards) = (health.queue_size, &health.shards);
                let pending = shards.iter().filter(|shard| shard.upkeep_pending).count();
                quiet = if queued + pending as u64 > 0 { 0 } else { quiet + 1 };
                if asked.is_multiple_of(LINE_EVERY) {
                    eprintln!(
                        "the server has {queued} records to store, and {pending} shards with upkeep left"
                    );
                }
            }
            Some(Err(_)) => return Settled::Unknown,
            None if lost >= LOST_MAX => return Settled::Unknown,
            None => lost += 1,
        }
        clock::pause(PAUSE);
    }
    Settled::Quiet
}
