//! Finds and erases people's rows, one stream at a time. Each `erase` function runs one slice of its step and returns
//! `true` once the step is done. Counters, buckets and sums change in the same transaction (R3). An export of a
//! person's data reads the rows that the same functions find.

mod clicks;
mod events;
mod kept;
mod orders;
mod pages;
mod walk;

pub(super) use self::clicks::erase_clicks;
pub(super) use self::events::{
    EventRefers, FoundEvents, erase_events, events_sql, find_events, matching_events,
};
pub(super) use self::kept::{
    ANSWERS_SQL, REJECTED_SQL, answer_refers, erase_answers, erase_rejected, matching_answers,
    matching_rejected,
};
pub(super) use self::orders::{erase_customers, erase_orders, merge_words};
pub(super) use self::pages::scrub_pages;
pub(super) use self::walk::{Walk, max_id};

/// The number of customer rows, rejected records or responses in one transaction.
const ROWS_PER_SLICE: i64 = 64;
/// The number of rows searched between two checks of the clock.
const LOOK_ROWS: i64 = 250;
