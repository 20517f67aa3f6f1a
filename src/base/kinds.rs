//! The record kinds: one table of every kind of journal record.
//!
//! Journals and shards both read it, so it lives below both. A new kind is a new row here; `src/lib.rs` lists the other
//! steps.

/// The feature of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// The collector's events.
    Clicks,
    /// The idempotent events of the events service.
    Events,
    /// Orders, their statuses and their ingests.
    Orders,
    /// Prices, price anomalies, and decisions on them.
    Prices,
    /// Levels of stock and their changes.
    Stock,
    /// The erasure of people.
    People,
}

/// The shards that hold a record of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Placement {
    /// Any one shard. No request waits for the outcome of the record.
    AnyShard,
    /// The one shard that the record's key selects.
    KeyShard,
    /// Every shard holds a copy.
    EveryShard,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    family: Family,
    placement: Placement,
    is_counted: bool,
    rejection: &'static str,
}

macro_rules! kinds {
    ($($(#[$doc:meta])+ $kind:ident = $number:literal
        => ($name:literal, $family:ident, $placement:ident, $is_counted:literal, $rejection:literal),)+) => {
        /// The kind of a record. The number is on disk, in journals and in `rejected_record`. A number never changes
        /// its meaning, and the next kind takes the next number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])+ $kind = $number,)+
        }

        impl Kind {
            /// Number of kinds.
            pub const COUNT: usize = [$($number),+].len();

            /// Every kind, by number.
            pub const ALL: [Kind; Kind::COUNT] = [$(Kind::$kind),+];
        }

        /// The row of every kind, by number.
        const ROWS: [Row; Kind::COUNT] = [$(Row {
            name: $name,
            family: Family::$family,
            placement: Placement::$placement,
            is_counted: $is_counted,
            rejection: $rejection,
        }),+];
    };
}

kinds! {
    // kind, number        name             family  placement   counted  a rejected record is
    /// One event of `POST /event`.
    Click = 1        => ("click",         Clicks, AnyShard,   true,    "not a click"),
    /// One row of `POST /events` or `/events/bulk`.
    ServiceEvent = 2 => ("service_event", Events, KeyShard,   true,    "not an event"),
    /// An order with its items.
    Order = 3        => ("order",         Orders, KeyShard,   true,    "not an order"),
    /// A new status of an order.
    OrderStatus = 4  => ("order_status",  Orders, KeyShard,   false,   "not a status of an order"),
    /// A finished ingest, stored under its idempotency key.
    Ingest = 5       => ("ingest",        Orders, KeyShard,   false,   "not a finished ingest"),
    /// A price loaded as history, or moved to another shard.
    Price = 6        => ("price",         Prices, KeyShard,   false,   "not a price"),
    /// A stock event loaded as history, or moved to another shard.
    Stock = 7        => ("stock",         Stock,  KeyShard,   false,   "not a stock event"),
    /// A price event, with the limits that apply to it.
    PriceEvent = 8   => ("price_event",   Prices, KeyShard,   false,   "not a price event"),
    /// A decision on a price anomaly. A reshard moves it within its price event.
    PriceReview = 9  => ("price_review",  Prices, KeyShard,   false,   "not a decision on a price"),
    /// The changes of one request to one product.
    StockUpdate = 10 => ("stock_update",  Stock,  KeyShard,   false,   "not a change of stock"),
    /// One step of the erasure of a person, or one entry of the list of suppressed people.
    Erasure = 11     => ("erasure",       People, EveryShard, false,   "not an erasure"),
}

/// The numbers start at 1 and have no gaps, so a number minus one is the index of its row.
const _: () = {
    let mut index = 0;
    while index < Kind::COUNT {
        assert!(Kind::ALL[index] as usize == index + 1);
        index += 1;
    }
};

impl Kind {
    /// The number on disk.
    #[must_use]
    #[inline]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind with a number; `None` for a number that a newer program wrote.
    #[must_use]
    #[inline]
    pub fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(number).wrapping_sub(1)).copied()
    }

    #[inline]
    const fn row(self) -> &'static Row {
        &ROWS[self as usize - 1]
    }

    /// The name, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    #[must_use]
    #[inline]
    pub const fn family(self) -> Family {
        self.row().family
    }

    /// The shards that hold its records.
    #[must_use]
    #[inline]
    pub const fn placement(self) -> Placement {
        self.row().placement
    }

    /// Whether its records arrive only through a `keyed` journal, and the writer reports the outcome of each.
    #[must_use]
    #[inline]
    pub const fn is_keyed(self) -> bool {
        !matches!(self.row().placement, Placement::AnyShard)
    }

    /// Whether a stored record adds one to the clicks, events or orders of its shard. A reshard compares these counts.
    /// A rejected record counts as rejected, whatever its kind.
    #[must_use]
    #[inline]
    pub const fn is_counted(self) -> bool {
        self.row().is_counted
    }

    /// Why its records are in `rejected_record`.
    #[must_use]
    pub const fn rejection(self) -> &'static str {
        self.row().rejection
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_and_names_stay_what_they_are() {
        let known = [
            (1, "click", "not a click"),
            (2, "service_event", "not an event"),
            (3, "order", "not an order"),
            (4, "order_status", "not a status of an order"),
            (5, "ingest", "not a finished ingest"),
            (6, "price", "not a price"),
            (7, "stock", "not a stock event"),
            (8, "price_event", "not a price event"),
            (9, "price_review", "not a decision on a price"),
            (10, "stock_update", "not a change of stock"),
            (11, "erasure", "not an erasure"),
        ];
        assert_eq!(Kind::ALL.map(|kind| (kind.number(), kind.name(), kind.rejection())), known);
    }

    #[test]
    fn every_number_is_one_kind_or_none() {
        assert_eq!((Kind::ALL.len(), ROWS.len()), (Kind::COUNT, Kind::COUNT));
        assert_eq!(Kind::ALL.map(Kind::number).into_iter().collect::<BTreeSet<_>>().len(), Kind::COUNT);
        assert_eq!(Kind::ALL.map(Kind::name).into_iter().collect::<BTreeSet<_>>().len(), Kind::COUNT);
        for number in 0..=u8::MAX {
            let known = Kind::ALL.into_iter().find(|kind| kind.number() == number);
            assert_eq!(Kind::from_number(number), known, "{number}");
        }
    }
}
