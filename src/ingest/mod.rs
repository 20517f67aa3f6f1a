//! The life of an event: admit → decode → route → journal → commit → ack.
//!
//! ```text
//! Intake::begin   admit    is there room? (429, 507) which of the thread's shards?
//! stage_click     decode   event::Decoder checks the JSON; the only copy is the one into the journal's stage
//!                 route    /event goes to a shard of the accepting core
//! Intake::commit  journal  one write for everything of the tick; from here on the event survives kill -9
//!                 ack      the lane answers 202 now (`os`) or when the next group fdatasync is done (`disk`)
//! write::run      commit   the shard's writer reads the journal and stores rows and position in one
//!                          transaction; after a later checkpoint the segment can be deleted
//! ```
//! An event with an id takes another path between decode and ack. The hash of its key selects the shard
//! ([`crate::base::keys`]), and [`Intake::stage_rows`] stages it on the core that feeds that shard. At
//! the end of the tick, [`Intake::flush`] journals the rows of all requests with one write. The writer
//! decides whether the event is new, and reports the outcome through [`Verdicts`] once it is committed.
//!
//! In: request bodies. Out: receipts, rows. Owns: the order of these steps. Never: shares a lock between threads, or
//! acknowledges before the append.

mod batch;
mod board;
mod click;
mod drain;
mod feeding;
mod intake;
mod keyed;
mod verdicts;
pub mod write;

pub use batch::{Batch, Flushed};
pub use board::{Board, EventState, Flow, ShardBoard};
pub use click::{CLICK, CLICK_HEADER_BYTES, encode_header};
pub use drain::DrainRate;
pub use feeding::{feeds, home, is_fed_by};
pub use intake::{Appended, Intake, Pressure, Refused};
pub use keyed::{KeyedRows, Written};
pub use verdicts::{ShardVerdicts, Verdicts};
