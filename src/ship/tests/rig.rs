//! A data folder with one shard, which a test fills with rows of every kind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::target::{MemorySink, Target};
use crate::base::clock;
use crate::base::ids::{LaneId, Sequence, ShardId};
use crate::base::money::Currency;
use crate::base::observed::Observed;
use crate::base::prices::PriceRules;
use crate::events::{SERVICE_EVENT, ServiceEventRow};
use crate::families::FAMILIES;
use crate::ingest::encode_header;
use crate::orders::{ItemRow, ORDER, ORDER_STATUS, OrderParts, OrderStatus, StatusRow, encode_order};
use crate::prices::{
    AnomalyId, Decision, PRICE_EVENT, PRICE_REVIEW, PriceEventRow, PriceReviewRow, PriceRow,
};
use crate::shard::{CheckpointMode, DataFolder, Entry, Records, Shard, ShardError, ShardOptions, backup};
use crate::ship::metrics::ShardFigures;
use crate::ship::rate::RateLimit;
use crate::ship::shipper::Shipper;
use crate::ship::source::{ReadLimits, Source};
use crate::stock::{STOCK_UPDATE, StockChange, StockEvent, StockMode, StockUpdateRow, encode_stock_update};

pub(super) const KEYED: LaneId = LaneId(1);
/// The number of the record of a click.
const CLICK: u8 = 1;

/// Records in memory, in the form in which a journal returns them.
struct Lane(Vec<(Sequence, u8, Vec<u8>)>);

impl Records for Lane {
    fn records(&self) -> impl Iterator<Item = Entry<'_>> {
        self.0.iter().map(|(sequence, kind, payload)| Entry { sequence: *sequence, kind: *kind, payload })
    }
}

/// A record: the number of its kind, and its payload.
pub(super) type Record = (u8, Vec<u8>);

pub(super) fn click(number: i64) -> Record {
    (
        CLICK,
        [
            &encode_header(number, number * 1_000, number * 1_000 + 1),
            format!("{{\"n\":{number}}}").as_bytes(),
        ]
        .concat(),
    )
}

pub(super) fn event(number: usize, payload: &str) -> Record {
    let mut bytes = Vec::new();
    ServiceEventRow {
        timestamp_us: number as i64 * 1_000_000,
        received_us: number as i64 * 1_000_000 + 5,
        tenant_id: "acme",
        event_id: &format!("e{number}"),
        source: "web",
        event_type: "view",
        payload,
    }
    .encode(&mut bytes);
    (SERVICE_EVENT.number(), bytes)
}

pub(super) fn order(number: usize, status: OrderStatus) -> Record {
    let parts = OrderParts {
        tenant_id: "acme",
        order_id: &format!("o{number}"),
        customer_id: &format!("c{}", number % 3),
        customer_name: "Ann",
        customer_email: "ann@example.org",
        status,
        currency: Currency::parse("USD").unwrap(),
        ordered_at_us: number as i64 * 1_000_000,
    };
    let item = |product_id, quantity| ItemRow { product_id, category: "tools", quantity, unit_price: 250 };
    let mut bytes = Vec::new();
    encode_order(&parts, (1, number as i64, 7), [item("p1", 1), item("p2", 2)].into_iter(), &mut bytes);
    (ORDER.number(), bytes)
}

/// A change of an order's status, later than any with a lower `at`.
pub(super) fn status(number: usize, status: OrderStatus, at: i64) -> Record {
    let mut bytes = Vec::new();
    let order_id = format!("o{number}");
    StatusRow { received_us: at, occurred_us: at, status, tenant_id: "acme", order_id: &order_id }
        .encode(&mut bytes);
    (ORDER_STATUS.number(), bytes)
}

pub(super) fn stock(number: i64) -> Record {
    let event_id = format!("s{number}");
    let row = StockUpdateRow {
        received_us: 1_000_000 + number,
        request: number,
        place: 0,
        mode: StockMode::Merge,
        expected_version: 0,
        tenant_id: "acme",
        product_id: "p1",
        events: vec![StockEvent { occurred_us: number, event_id: &event_id, change: StockChange::Delta(1) }],
    };
    let mut bytes = Vec::new();
    encode_stock_update(&row, &mut bytes);
    (STOCK_UPDATE.number(), bytes)
}

/// A price event. Prices far from 100 are out of line, once there is one.
pub(super) fn price(number: i64, price: i64) -> Record {
    let observed = Observed {
        at_us: number * 1_000,
        received_us: 2_000_000 + number,
        tenant_id: "acme",
        product_id: "p1",
        event_id: &format!("x{number}"),
    };
    let row = PriceRow { observed, price, currency: Currency::parse("USD").unwrap() };
    let rules = PriceRules { change_bp: 2_000, score_milli: 3_500, window: 20 };
    let mut bytes = Vec::new();
    PriceEventRow::new(row, rules).encode(&mut bytes);
    (PRICE_EVENT.number(), bytes)
}

/// The shard's folder and the shipper of it.
pub(super) struct Rig {
    dir: TempDir,
    /// `None` only while its file is replaced.
    shard: Option<Shard>,
    pub(super) target: Target,
}

pub(super) fn options() -> ShardOptions {
    ShardOptions { page_bytes: 4096, partition_rows_max: 50, ..ShardOptions::default() }
}

fn open(data: &Path) -> Shard {
    let folder = DataFolder::read_only(data).unwrap();
    loop {
        match Shard::open(&folder.shard(ShardId(0)), &options(), &FAMILIES) {
            // A thread that still reads for upkeep may hold the lock for a moment.
            Err(ShardError::Busy) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

impl Rig {
    pub(super) fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        // The folder is not locked afterwards, as after a stop.
        drop(DataFolder::open(dir.path(), Some(1), 1).unwrap());
        let mut rig = Rig { shard: Some(open(dir.path())), dir, target: Target::default() };
        rig.checkpoint();
        rig
    }

    pub(super) fn data(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn shard(&mut self) -> &mut Shard {
        self.shard.as_mut().unwrap()
    }

    pub(super) fn path(&self) -> PathBuf {
        DataFolder::read_only(self.data()).unwrap().shard(ShardId(0)).database()
    }

    pub(super) fn apply(&mut self, records: &[Record]) {
        let first = self.shard().position(KEYED).0 + 1;
        let numbered =
            records.iter().zip(first..).map(|((kind, payload), n)| (Sequence(n), *kind, payload.clone()));
        let lane = Lane(numbered.collect());
        self.shard().apply(&[(KEYED, &lane)], &mut |_, _, _| {}).unwrap();
    }

    /// Copies everything into the file, and notes that.
    pub(super) fn checkpoint(&mut self) {
        assert!(self.shard().checkpoint(CheckpointMode::Passive).unwrap().complete);
        self.shard().save_checkpointed().unwrap();
    }

    /// Applies records and makes them durable.
    pub(super) fn store(&mut self, records: &[Record]) {
        self.apply(records);
        self.checkpoint();
    }

    /// Makes a copy of the file, as a backup does.
    pub(super) fn backup(&self) -> PathBuf {
        let copy = self.data().join("copy.db");
        backup(&self.path(), &copy, clock::unix_us(), &FAMILIES, &mut |_, _| {}).unwrap();
        copy
    }

    /// Puts another file in the place of the shard's, as a restored backup is.
    pub(super) fn replace(&mut self, copy: &Path) {
        self.shard().checkpoint(CheckpointMode::Truncate).unwrap();
        self.shard = None;
        for suffix in ["-wal", "-shm"] {
            _ = std::fs::remove_file(self.path().with_extension(format!("db{suffix}")));
        }
        std::fs::rename(copy, self.path()).unwrap();
        self.shard = Some(open(self.dir.path()));
        self.checkpoint();
    }

    pub(super) fn review(&mut self, number: i64, decision: Decision) -> Record {
        let keys = self.shard().keys();
        let anomaly = AnomalyId::of(keys, "acme", "p1", &format!("x{number}"));
        let mut bytes = Vec::new();
        PriceReviewRow { decision, received_us: 99, anomaly, tenant_id: "acme", product_id: "" }
            .encode(&mut bytes);
        (PRICE_REVIEW.number(), bytes)
    }

    pub(super) fn source(&self) -> Source {
        Source::new(&self.path(), ReadLimits::MAX)
    }

    pub(super) fn shipper(&self) -> Shipper<MemorySink> {
        self.shipper_with(MemorySink::new(&self.target), ReadLimits::MAX)
    }

    pub(super) fn shipper_with(&self, sink: MemorySink, limits: ReadLimits) -> Shipper<MemorySink> {
        self.shipper_of(sink, limits, Arc::default())
    }

    /// Returns a shipper that sends these epochs whole.
    pub(super) fn shipper_of(
        &self,
        sink: MemorySink,
        limits: ReadLimits,
        whole: Arc<BTreeSet<String>>,
    ) -> Shipper<MemorySink> {
        Shipper::new(
            ShardId(0),
            Source::new(&self.path(), limits),
            sink,
            whole,
            Arc::new(RateLimit::new(None)),
            Arc::new(ShardFigures::new(ShardId(0))),
        )
    }

    /// Ships until everything is at its limit.
    pub(super) fn ship(&self) {
        ship(&mut self.shipper());
    }
}

/// Takes turns until everything is at its limit.
pub(super) fn ship(shipper: &mut Shipper<MemorySink>) {
    for _ in 0..10_000 {
        let turn = shipper.turn().unwrap();
        if turn.is_at_limit {
            return;
        }
    }
    panic!("it does not end");
}
