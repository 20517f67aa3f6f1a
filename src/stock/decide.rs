//! The effect of a change on a stock level. This is its only definition; the writer and the recount both use it.

use super::mode::{STOCK_MAX, StockMode};
use super::record::{StockChange, StockEvent};

/// The mode in which a change applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Asked(StockMode),
    /// Events that happened elsewhere and were carried in. Deltas add up, regardless of the resulting stock. A
    /// quantity applies if it is the newest.
    History,
}

const HISTORY_CODE: u8 = 4;

impl Mode {
    pub(super) fn code(self) -> u8 {
        match self {
            Mode::Asked(mode) => mode.code(),
            Mode::History => HISTORY_CODE,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Mode> {
        if code == HISTORY_CODE { Some(Mode::History) } else { StockMode::from_code(code).map(Mode::Asked) }
    }
}

/// A product's stock at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) quantity: i64,
    /// The number of changes so far.
    pub(super) version: i64,
    /// The time and id of the newest of all events, or `None` before the first.
    pub(super) newest: Option<(i64, String)>,
}

/// The machine-readable reason for a result. The numbers are stored only briefly, but still never change their
/// meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StockCode {
    /// The change is applied, but a stored event is newer and its quantity remains.
    Superseded = 1,
    /// The stock would be below zero.
    NegativeStock = 2,
    /// The product has another version.
    StaleVersion = 3,
    /// The product has an event with this id and other content.
    EventIdReused = 4,
    /// Some of the events are already stored, and some are not.
    PartlySeen = 5,
    /// The stock would exceed 2^53 - 1.
    StockTooLarge = 6,
}

impl StockCode {
    pub const ALL: [StockCode; 6] = [
        StockCode::Superseded,
        StockCode::NegativeStock,
        StockCode::StaleVersion,
        StockCode::EventIdReused,
        StockCode::PartlySeen,
        StockCode::StockTooLarge,
    ];

    /// Returns the code's name in a response.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            StockCode::Superseded => "superseded",
            StockCode::NegativeStock => "negative_stock",
            StockCode::StaleVersion => "stale_version",
            StockCode::EventIdReused => "event_id_reused",
            StockCode::PartlySeen => "partly_seen",
            StockCode::StockTooLarge => "stock_too_large",
        }
    }

    pub(super) fn from_number(number: u8) -> Option<StockCode> {
        StockCode::ALL.into_iter().find(|code| *code as u8 == number)
    }
}

/// Returns the level after a change, and whether a newer event kept the change from having an effect. Returns the
/// reason as an error if the change is impossible. `events` are the change's events, ordered by time and id, none of
/// them seen before. Only mode `reject` uses `expected_version`.
pub(super) fn next(
    level: &Level,
    mode: Mode,
    expected_version: i64,
    events: &[StockEvent<'_>],
) -> Result<(Level, bool), StockCode> {
    let mut quantity = i128::from(level.quantity);
    let mut is_superseded = false;
    match mode {
        Mode::Asked(StockMode::LastWriteWins) => match events.last() {
            Some(newest) if is_newer(newest, level) => quantity = stated(newest, quantity),
            _ => is_superseded = true,
        },
        Mode::Asked(StockMode::Reject) if level.version != expected_version => {
            return Err(StockCode::StaleVersion);
        }
        Mode::Asked(StockMode::Merge | StockMode::Reject) => {
            quantity = events.iter().fold(quantity, |quantity, event| stated(event, quantity));
        }
        Mode::History => {
            for event in events {
                match event.change {
                    StockChange::Quantity(_) if !is_newer(event, level) => is_superseded = true,
                    _ => quantity = stated(event, quantity),
                }
            }
            // The event has already happened, so it cannot be refused.
            quantity = quantity.clamp((-STOCK_MAX).into(), STOCK_MAX.into());
        }
    }
    // A stock level that is already below zero may rise.
    if mode != Mode::History && quantity < 0 && quantity < i128::from(level.quantity) {
        return Err(StockCode::NegativeStock);
    }
    if quantity > STOCK_MAX.into() {
        return Err(StockCode::StockTooLarge);
    }
    let newest = match events.last() {
        Some(newest) if is_newer(newest, level) => Some((newest.occurred_us, newest.event_id.to_owned())),
        _ => level.newest.clone(),
    };
    // The quantity is within the limits, so it fits into 64 bits.
    Ok((Level { quantity: quantity as i64, version: level.version + 1, newest }, is_superseded))
}

fn is_newer(event: &StockEvent<'_>, level: &Level) -> bool {
    let newest = level.newest.as_ref().map(|(occurred_us, event_id)| (*occurred_us, event_id.as_str()));
    newest.is_none_or(|newest| (event.occurred_us, event.event_id) > newest)
}

fn stated(event: &StockEvent<'_>, quantity: i128) -> i128 {
    match event.change {
        StockChange::Quantity(stated) => stated.into(),
        StockChange::Delta(delta) => quantity + i128::from(delta),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LWW: Mode = Mode::Asked(StockMode::LastWriteWins);
    const MERGE: Mode = Mode::Asked(StockMode::Merge);
    const REJECT: Mode = Mode::Asked(StockMode::Reject);

    fn set(occurred_us: i64, event_id: &str, quantity: i64) -> StockEvent<'_> {
        StockEvent { occurred_us, event_id, change: StockChange::Quantity(quantity) }
    }

    fn add(occurred_us: i64, event_id: &str, delta: i64) -> StockEvent<'_> {
        StockEvent { occurred_us, event_id, change: StockChange::Delta(delta) }
    }

    fn level(quantity: i64, version: i64, newest: (i64, &str)) -> Level {
        Level { quantity, version, newest: Some((newest.0, newest.1.to_owned())) }
    }

    #[test]
    fn the_newest_write_stands_in_whatever_order_it_comes() {
        let (a, b) = ([set(5, "a", 50)], [set(7, "b", 70)]);
        let (first, superseded) = next(&Level::default(), LWW, 0, &b).unwrap();
        assert_eq!((&first, superseded), (&level(70, 1, (7, "b")), false));
        assert_eq!(next(&first, LWW, 0, &a), Ok((level(70, 2, (7, "b")), true)));
        // If the times are equal, the event with the greater id is newer.
        assert_eq!(next(&first, LWW, 0, &[set(7, "a", 1)]), Ok((level(70, 2, (7, "b")), true)));
        assert_eq!(next(&first, LWW, 0, &[set(7, "c", 1)]), Ok((level(1, 2, (7, "c")), false)));
        // The newest of several events applies. A newer delta takes precedence over an older quantity.
        assert_eq!(
            next(&first, LWW, 0, &[set(3, "z", 3), set(9, "y", 9)]),
            Ok((level(9, 2, (9, "y")), false))
        );
        let (added, _) = next(&first, MERGE, 0, &[add(20, "d", -5)]).unwrap();
        assert_eq!(next(&added, LWW, 0, &[set(15, "e", 1)]), Ok((level(65, 3, (20, "d")), true)));
    }

    #[test]
    fn deltas_add_up_and_never_below_zero() {
        let at = level(10, 4, (7, "b"));
        assert_eq!(
            next(&at, MERGE, 0, &[add(1, "x", -15), add(2, "y", 5)]),
            Ok((level(0, 5, (7, "b")), false))
        );
        assert_eq!(next(&at, MERGE, 0, &[add(1, "x", -11)]), Err(StockCode::NegativeStock));
        assert_eq!(next(&at, MERGE, 0, &[add(1, "x", STOCK_MAX)]), Err(StockCode::StockTooLarge));
        let below = level(-10, 4, (7, "b"));
        assert_eq!(next(&below, MERGE, 0, &[add(8, "x", 3)]), Ok((level(-7, 5, (8, "x")), false)));
        assert_eq!(next(&below, MERGE, 0, &[add(8, "x", -1)]), Err(StockCode::NegativeStock));
    }

    #[test]
    fn a_stale_version_is_a_conflict() {
        let at = level(10, 4, (7, "b"));
        assert_eq!(next(&at, REJECT, 4, &[set(1, "x", 3)]), Ok((level(3, 5, (7, "b")), false)));
        assert_eq!(next(&at, REJECT, 4, &[add(1, "x", -10)]), Ok((level(0, 5, (7, "b")), false)));
        for stale in [3, 5, -1] {
            assert_eq!(next(&at, REJECT, stale, &[set(1, "x", 3)]), Err(StockCode::StaleVersion));
        }
        assert_eq!(next(&at, REJECT, 4, &[add(1, "x", -11)]), Err(StockCode::NegativeStock));
        assert!(next(&Level::default(), REJECT, 0, &[set(1, "x", 3)]).is_ok());
    }

    #[test]
    fn history_is_taken_as_it_was() {
        let at = level(10, 4, (7, "b"));
        assert_eq!(next(&at, Mode::History, 0, &[add(1, "x", -15)]), Ok((level(-5, 5, (7, "b")), false)));
        assert_eq!(next(&at, Mode::History, 0, &[set(1, "x", 15)]), Ok((level(10, 5, (7, "b")), true)));
        let (full, _) = next(&level(STOCK_MAX, 1, (0, "a")), Mode::History, 0, &[add(1, "x", 9)]).unwrap();
        assert_eq!(full.quantity, STOCK_MAX);
    }
}
