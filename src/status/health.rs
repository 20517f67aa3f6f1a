//! `/health`, `/ready` and `/receipts/…`. The responses come from memory only, and are correct even while every disk
//! hangs.

use super::shapes::{Check, Checks, Health, Ready, ReceiptState, ShardHealth};
use crate::api::reads::json;
use crate::api::{Asked, Problem};
use crate::base::clock;
use crate::base::ids::Receipt;
use crate::config::AckLevel;
use crate::cores::stop::Stage;
use crate::http::Answer;
use crate::ingest::{EventState, ShardBoard};
use crate::ops::vitals::Vitals;
use crate::shard::ShardState;

fn shard_health(board: &ShardBoard) -> ShardHealth {
    let flow = board.flow();
    // Journals also contain records that are not rows of a stream. Such records are subtracted once they are
    // processed. Records that are still waiting are counted, because their kind is unknown.
    let other = board.status.other.get().min(flow.processed);
    let state = board.status.state();
    ShardHealth {
        shard: board.shard.0,
        state: state.name(),
        reason: match state {
            ShardState::Open => held(board),
            _ => Some(reason(board)),
        },
        received: flow.received - other,
        processed: flow.processed - other,
        pending: flow.pending(),
        pending_bytes: flow.pending_bytes,
        database_events: board.status.rows(),
        upkeep_pending: board.status.upkeep_pending.get() > 0,
    }
}

/// Returns what an open shard holds for its sinks, if this needs attention.
fn held(board: &ShardBoard) -> Option<String> {
    if let Some(problem) = board.status.ship_problem() {
        return Some(format!(
            "retention holds every row, because a file of a sink cannot be read: {problem}"
        ));
    }
    (board.status.ship_hold_full.get() > 0).then(|| {
        format!(
            "{} bytes of rows that retention would delete are held, because a sink of firehose ship has not \
             confirmed them: more than ship_hold_max",
            board.status.ship_held_bytes.get()
        )
    })
}

pub(super) fn reason(board: &ShardBoard) -> String {
    match board.status.last_error() {
        Some(error) => error.to_string(),
        None => format!("the shard is {}", board.status.state().name()),
    }
}

/// Answers `/health`. The status is always 200 while the process can respond: events are accepted even when no shard
/// can be written.
#[must_use]
pub fn health(vitals: &Vitals) -> Answer {
    let shards: Vec<ShardHealth> = vitals.board.shards.iter().map(shard_health).collect();
    let sum = |of: fn(&ShardHealth) -> u64| shards.iter().map(of).sum();
    let healthy = vitals
        .board
        .shards
        .iter()
        .all(|board| board.status.state() == ShardState::Open && board.status.ship_hold_full.get() == 0);
    json(
        200,
        &Health {
            status: if healthy { "healthy" } else { "degraded" },
            queue_size: sum(|shard| shard.pending),
            total_received: sum(|shard| shard.received),
            total_processed: sum(|shard| shard.processed),
            database_events: sum(|shard| shard.database_events),
            queue_bytes: sum(|shard| shard.pending_bytes),
            uptime_seconds: (clock::monotonic_us() - vitals.started_monotonic_us) / 1_000_000,
            version: env!("CARGO_PKG_VERSION"),
            runtime: vitals.runtime.name(),
            cores: vitals.cores.len() as u16,
            ack: match vitals.config.ack {
                AckLevel::Os => "os",
                AckLevel::Disk => "disk",
            },
            disk_free_bytes: vitals.board.disk_free(),
            shards,
        },
    )
}

/// Answers `/ready`: 200 if new events would be accepted and stored, otherwise 503 with the reason.
#[must_use]
pub fn ready(vitals: &Vitals) -> Answer {
    let check = |wrong: Vec<String>, fine: &str| Check {
        ok: wrong.is_empty(),
        reason: if wrong.is_empty() { fine.to_owned() } else { wrong.join("; ") },
    };
    let shards = vitals.board.shards.iter();
    let not_open = shards.clone().filter(|board| board.status.state() != ShardState::Open);
    let behind =
        shards.clone().filter(|board| board.flow().pending_bytes >= vitals.config.journal_high_water);
    let unsynced = shards.flat_map(|board| &board.lanes).filter(|lane| lane.sync_failed());
    let journal = behind
        .map(|board| format!("the backlog of shard {} exceeds journal_high_water", board.shard))
        .chain(unsynced.map(|lane| format!("{} could not be synced", lane.dir().display())));
    // A pinned WAL is reported, but it is not a reason to use another server, because everything is still stored.
    let pinned = pinned(vitals);
    let low = vitals.board.disk_low().then(|| "the data disk has less than disk_reserve free".to_owned());
    let checks = Checks {
        shards: check(
            not_open
                .map(|board| {
                    format!("shard {} is {}: {}", board.shard, board.status.state().name(), reason(board))
                })
                .collect(),
            &pinned,
        ),
        journal: check(journal.collect(), "every journal accepts events"),
        disk: check(low.into_iter().collect(), "the data disk has free space"),
    };
    let draining = vitals.stop.stage() > Stage::Running;
    let well = checks.shards.ok && checks.journal.ok && checks.disk.ok;
    let (code, status) = match (draining, well) {
        (true, _) => (503, "draining"),
        (false, true) => (200, "ready"),
        (false, false) => (503, "not_ready"),
    };
    let answer = json(code, &Ready { status, checks });
    if code == 503 { answer.with("Retry-After", "2") } else { answer }
}

/// Returns the note for the case that every shard is open. It mentions every pinned WAL.
fn pinned(vitals: &Vitals) -> String {
    let since = |board: &ShardBoard| match board.status.wal_pinned_us.get() {
        0 => None,
        since_us => {
            let since = clock::rfc3339(since_us as i64);
            let bytes = board.status.wal_bytes.get();
            Some(format!(
                "; a transaction of another program has pinned the WAL of shard {} since {since} ({bytes} \
                 bytes)",
                board.shard
            ))
        }
    };
    let pinned: String = vitals.board.shards.iter().filter_map(since).collect();
    format!("every shard is open{pinned}")
}

/// Answers with the state of a receipt's event, or with 404 if this server did not issue the receipt.
#[must_use]
pub fn receipt(asked: &Asked<'_>) -> Answer {
    let text = asked.path.rsplit('/').next().unwrap_or_default();
    let found = text.parse::<Receipt>().map(|receipt| asked.vitals.board.find(receipt));
    let state = match found {
        Ok(EventState::Stored) => "stored",
        Ok(EventState::Pending) => "pending",
        Ok(EventState::Unknown) | Err(_) => {
            return asked.not_found(Problem::NotAReceipt, "this server did not issue this receipt");
        }
    };
    json(200, &ReceiptState { state })
}
