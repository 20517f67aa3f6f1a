//! A target in memory that keeps the contract of a sink: rows and place move together or not at all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::ship::rows::{Change, OrderRow, Rows, ShipStream};
use crate::ship::sink::{EpochId, Known, Places, ShipBatch, Sink, SinkError, Written};

/// The name of a row: epoch, stream and id.
pub(super) type RowName = (EpochId, ShipStream, i64);

/// The content of the target. All of it changes together.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) places: BTreeMap<EpochId, Places>,
    /// Every row as text.
    pub(super) rows: BTreeMap<RowName, String>,
    /// Orders by tenant and id.
    pub(super) orders: BTreeMap<(String, String), OrderRow>,
    pub(super) changes: Vec<Change>,
    pub(super) batches: Vec<(ShipStream, usize)>,
    /// Errors of the next calls, oldest first.
    pub(super) errors: VecDeque<SinkError>,
    /// A commit that happens although the caller gets an error.
    pub(super) lost_answers: usize,
    pub(super) refused: BTreeSet<ShipStream>,
    /// Streams whose tables are locked by somebody else.
    pub(super) locked: BTreeSet<ShipStream>,
    pub(super) calls_of_known: usize,
}

#[expect(clippy::disallowed_types, reason = "a test's target is shared by the threads of a run")]
type Shared = Arc<std::sync::Mutex<Content>>;

/// A target, and a connection to it.
#[derive(Clone, Default)]
pub(super) struct Target(Shared);

impl Target {
    pub(super) fn with<T>(&self, read: impl FnOnce(&mut Content) -> T) -> T {
        read(&mut self.0.lock().expect("no thread has panicked"))
    }

    /// Returns the ids of a stream's rows in all epochs, in order of arrival of the epochs.
    pub(super) fn ids(&self, stream: ShipStream) -> Vec<i64> {
        self.with(|content| content.rows.keys().filter(|row| row.1 == stream).map(|row| row.2).collect())
    }

    pub(super) fn count(&self, stream: ShipStream) -> usize {
        self.ids(stream).len()
    }

    /// Returns the only epoch's place.
    pub(super) fn place(&self, stream: ShipStream) -> i64 {
        self.with(|content| {
            let last = content.places.values().last();
            last.and_then(|places| places.get(&stream).copied()).unwrap_or_default()
        })
    }

    pub(super) fn fail(&self, error: SinkError) {
        self.with(|content| content.errors.push_back(error));
    }
}

/// A connection that calls a hook before each write.
pub(super) struct MemorySink {
    pub(super) target: Target,
    pub(super) before_write: Box<dyn FnMut(&ShipBatch)>,
}

impl MemorySink {
    pub(super) fn new(target: &Target) -> MemorySink {
        MemorySink { target: target.clone(), before_write: Box::new(|_| {}) }
    }
}

fn names(rows: &Rows) -> Vec<(i64, String)> {
    fn all<T: std::fmt::Debug>(rows: &[T], id: impl Fn(&T) -> i64) -> Vec<(i64, String)> {
        rows.iter().map(|row| (id(row), format!("{row:?}"))).collect()
    }
    match rows {
        Rows::Clicks(rows) => all(rows, |row| row.id),
        Rows::Events(rows) => all(rows, |row| row.id),
        Rows::Orders(rows) => all(rows, |row| row.id),
        Rows::StockEvents(rows) => all(rows, |row| row.id),
        Rows::Prices(rows) => all(rows, |row| row.id),
        Rows::Changes(rows) => all(rows, |row| row.seq),
    }
}

impl Content {
    fn error(&mut self) -> Result<(), SinkError> {
        self.errors.pop_front().map_or(Ok(()), Err)
    }

    fn store(&mut self, batch: &ShipBatch) -> Written {
        for (id, text) in names(&batch.rows) {
            assert!(id > batch.after && id <= batch.last, "{id} is outside of its batch");
            let earlier = self.rows.insert((batch.epoch.clone(), batch.stream, id), text);
            assert_eq!(earlier, None, "row {id} of {} is stored twice", batch.stream.as_str());
        }
        match &batch.rows {
            Rows::Orders(rows) => {
                for order in rows {
                    self.orders.insert((order.tenant_id.clone(), order.order_id.clone()), order.clone());
                }
            }
            Rows::Changes(rows) => {
                for row in rows {
                    if let Change::Status { tenant_id, order_id, status, .. } = &row.change
                        && let Some(order) = self.orders.get_mut(&(tenant_id.clone(), order_id.clone()))
                        && order.status_seq < row.seq
                    {
                        (order.status, order.status_seq) = (status, row.seq);
                    }
                    self.changes.push(row.change.clone());
                }
            }
            _ => {}
        }
        let place = self.places.entry(batch.epoch.clone()).or_default();
        place.insert(batch.stream, batch.last);
        self.batches.push((batch.stream, batch.rows.len()));
        Written { rows: batch.rows.len() as u64, ..Written::default() }
    }
}

impl Sink for MemorySink {
    fn known(&mut self, epochs: &[EpochId]) -> Result<Known, SinkError> {
        self.target.with(|content| {
            content.calls_of_known += 1;
            content.error()?;
            let known =
                epochs.iter().filter_map(|epoch| Some((epoch.clone(), content.places.get(epoch)?.clone())));
            Ok(Known { epochs: known.collect(), knows_node: !content.places.is_empty() })
        })
    }

    fn begin_epoch(&mut self, epoch: &EpochId, starts: &Places) -> Result<Places, SinkError> {
        self.target.with(|content| {
            content.error()?;
            Ok(content.places.entry(epoch.clone()).or_insert_with(|| starts.clone()).clone())
        })
    }

    fn write(&mut self, batch: &ShipBatch) -> Result<Written, SinkError> {
        (self.before_write)(batch);
        self.target.with(|content| {
            if content.locked.contains(&batch.stream) {
                return Err(SinkError::Passing(format!("{} is locked", batch.stream.as_str())));
            }
            if content.refused.contains(&batch.stream) {
                return Err(SinkError::Lasting(format!("no permission for {}", batch.stream.as_str())));
            }
            content.error()?;
            let known = content.places.get(&batch.epoch);
            let place = known.and_then(|places| places.get(&batch.stream).copied()).unwrap_or_default();
            if place != batch.after {
                return Err(SinkError::Moved(format!("{place} instead of {}", batch.after)));
            }
            let written = content.store(batch);
            if content.lost_answers > 0 {
                content.lost_answers -= 1;
                return Err(SinkError::Passing("the connection was lost during the commit".to_owned()));
            }
            Ok(written)
        })
    }

    fn idle(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}
