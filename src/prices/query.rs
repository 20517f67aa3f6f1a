//! Queries about price events over all shards: a page of anomalies, and the changes after a position in every shard.
//!
//! A position among the changes consists of an epoch and a change number for each shard. A client holds a position as
//! a sealed event id. No change is missed or repeated, regardless of which shard the next change comes from.

use std::collections::VecDeque;
use std::rc::Rc;

use super::read::{
    AnomalyFilter, AnomalyLine, AnomalyStatus, ChangeMark, FirstAnswer, PriceChange, StoredAnomaly,
};
use super::record::AnomalyId;
use crate::base::ids::ShardId;
use crate::base::keys::KeyHasher;
use crate::query::{Answer, CursorKey, ParameterError, QueryError, Readers, received};
use crate::shard::ShardError;

/// A running step on one shard.
struct PendingStep<T> {
    shard: ShardId,
    answer: Answer<Option<T>>,
}

/// Sends a shard a query whose answer must be complete. The shard's writer creates the database file when the server
/// starts, and again if the file is removed. While the file is missing, the shard's content is unknown rather than
/// empty, so the query fails.
fn ask<T: Send + 'static>(
    readers: &Readers,
    shard: ShardId,
    step: impl FnOnce(&rusqlite::Connection) -> Result<T, ShardError> + Send + 'static,
) -> Result<PendingStep<T>, QueryError> {
    let answer = readers.ask(shard, None, move |connection| step(connection).map(Some))?;
    Ok(PendingStep { shard, answer })
}

impl<T> PendingStep<T> {
    async fn get(self) -> Result<T, QueryError> {
        let absent = || {
            let reason = "the database is not available".to_owned();
            QueryError::Shard { shard: self.shard, reason }
        };
        received(self.answer.recv().await)?.ok_or_else(absent)
    }
}

/// The name of a price event.
#[derive(Clone, Debug)]
pub(super) struct EventName {
    keys: KeyHasher,
    tenant_id: String,
    product_id: String,
    event_id: String,
}

impl EventName {
    pub(super) fn new(keys: &KeyHasher, tenant_id: &str, product_id: &str, event_id: &str) -> EventName {
        let [tenant_id, product_id, event_id] = [tenant_id, product_id, event_id].map(str::to_owned);
        EventName { keys: *keys, tenant_id, product_id, event_id }
    }
}

/// Returns the response to a price event that is stored.
pub(super) async fn first_answer(
    readers: &Readers,
    shard: ShardId,
    of: EventName,
) -> Result<FirstAnswer, QueryError> {
    let step = move |connection: &rusqlite::Connection| {
        super::read::first_answer(connection, &of.keys, &of.tenant_id, &of.product_id, &of.event_id)
    };
    ask(readers, shard, step)?.get().await
}

/// Returns `true` if a price event is stored.
pub(super) async fn has_event(readers: &Readers, shard: ShardId, of: EventName) -> Result<bool, QueryError> {
    let step = move |connection: &rusqlite::Connection| {
        super::read::has_event(connection, &of.keys, &of.tenant_id, &of.product_id, &of.event_id)
    };
    ask(readers, shard, step)?.get().await
}

/// Returns one of a tenant's anomalies.
pub(super) async fn stored_anomaly(
    readers: &Readers,
    shard: ShardId,
    tenant_id: &str,
    name: AnomalyId,
) -> Result<Option<StoredAnomaly>, QueryError> {
    let tenant_id = tenant_id.to_owned();
    let step = move |connection: &rusqlite::Connection| crate::prices::anomaly(connection, &tenant_id, name);
    ask(readers, shard, step)?.get().await
}

/// One page of anomalies.
#[derive(Debug)]
pub(super) struct AnomaliesPage {
    pub anomalies: Vec<AnomalyLine>,
    pub next_cursor: Option<String>,
}

/// Returns the context that an anomaly cursor is sealed for. It binds the cursor to its query.
fn context(of: &AnomalyFilter) -> Vec<u8> {
    let mut context = b"price anomalies".to_vec();
    let [from, to] = [of.from_us, of.to_us].map(|bound| bound.map(|us| us.to_string()));
    for part in [
        Some(of.tenant_id.as_str()),
        of.product_id.as_deref(),
        of.status.map(AnomalyStatus::as_str),
        from.as_deref(),
    ] {
        context.push(0);
        // A part that is present is never empty, so an empty part always means an absent one.
        context.extend_from_slice(part.unwrap_or_default().as_bytes());
    }
    // Cursors from before there was an end have no such part.
    if let Some(to) = to {
        context.push(0);
        context.extend_from_slice(to.as_bytes());
    }
    context
}

/// One shard's anomalies in memory while a page is merged.
struct ShardAnomalies {
    shard: ShardId,
    /// The filter, positioned after the last anomaly that was read.
    of: AnomalyFilter,
    ready: VecDeque<AnomalyLine>,
    /// Set once the shard has no more anomalies.
    is_done: bool,
}

/// Queries every shard whose anomalies in memory are exhausted, concurrently.
async fn fill(readers: &Readers, shards: &mut [ShardAnomalies], rows: usize) -> Result<(), QueryError> {
    let mut asked = Vec::new();
    for (place, newest) in shards.iter().enumerate() {
        if newest.is_done || !newest.ready.is_empty() {
            continue;
        }
        let of = newest.of.clone();
        let step = move |connection: &rusqlite::Connection| crate::prices::anomalies(connection, &of, rows);
        asked.push((place, readers.ask(newest.shard, Vec::new(), step)?));
    }
    for (place, answer) in asked {
        let found = received(answer.recv().await)?;
        let newest = &mut shards[place];
        newest.is_done = found.len() < rows;
        if let Some(last) = found.last() {
            newest.of.after = Some((last.created_us, last.anomaly_id.clone()));
        }
        newest.ready.extend(found);
    }
    Ok(())
}

/// The minimum number of rows requested from each of several shards, unless the page needs fewer rows. A round trip
/// costs more than a few unneeded rows.
const ROUND_ROWS: usize = 16;

/// Returns one page of anomalies, newest first. A list of one product's anomalies reads only the shard `only`. Any
/// other list merges all shards. For each shard, memory holds about twice the shard's equal share of a page rather
/// than a whole page. The total is about two pages.
pub(super) async fn anomalies_page(
    readers: &Readers,
    key: &CursorKey,
    mut of: AnomalyFilter,
    only: Option<ShardId>,
    limit: usize,
    cursor: Option<&str>,
) -> Result<AnomaliesPage, QueryError> {
    let _permit = readers.permit()?;
    let context = context(&of);
    of.after = key.open_given_bytes(&context, cursor, |bytes| {
        let (created_us, name) = bytes.split_first_chunk()?;
        Some((i64::from_le_bytes(*created_us), String::from_utf8(name.to_vec()).ok()?))
    })?;
    let asked: Vec<ShardId> = only.map_or_else(|| readers.shards().collect(), |shard| vec![shard]);
    // One anomaly more than the page needs. It shows whether another page follows.
    let wanted = limit + 1;
    let rows = match asked.len() {
        1 => wanted,
        count => (wanted.div_ceil(count) * 2).max(ROUND_ROWS).min(wanted),
    };
    let newest = |shard| ShardAnomalies { shard, of: of.clone(), ready: VecDeque::new(), is_done: false };
    let mut shards: Vec<ShardAnomalies> = asked.into_iter().map(newest).collect();
    let mut anomalies: Vec<AnomalyLine> = Vec::new();
    while anomalies.len() < wanted {
        fill(readers, &mut shards, rows).await?;
        let heads = shards.iter().enumerate();
        let heads = heads.filter_map(|(place, newest)| {
            newest.ready.front().map(|line| (line.created_us, &line.anomaly_id, place))
        });
        let Some((_, _, place)) = heads.max() else { break };
        anomalies.extend(shards[place].ready.pop_front());
    }
    let has_more = anomalies.len() > limit;
    anomalies.truncate(limit);
    let next_cursor = match anomalies.last() {
        Some(last) if has_more => {
            let bytes = [&last.created_us.to_le_bytes(), last.anomaly_id.as_bytes()].concat();
            Some(key.seal_bytes(&context, &bytes)?)
        }
        _ => None,
    };
    Ok(AnomaliesPage { anomalies, next_cursor })
}

/// A position in the changes of every shard, in shard order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ChangePosition(pub Vec<ChangeMark>);

/// A position in the form that a client holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChangeId(pub String);

impl ChangePosition {
    /// Seals this position as an event id. A client that has received the event is at this position.
    pub(super) fn seal(&self, key: &CursorKey, tenant_id: &str) -> Result<ChangeId, QueryError> {
        let mut bytes = Vec::with_capacity(self.0.len() * 12);
        for mark in &self.0 {
            bytes.extend_from_slice(&mark.epoch.to_le_bytes());
            bytes.extend_from_slice(&mark.change.to_le_bytes());
        }
        key.seal_bytes(&ChangePosition::context(tenant_id), &bytes).map(ChangeId)
    }

    /// Opens an id that a client sent.
    ///
    /// # Errors
    /// Returns [`QueryError::Parameters`] if `text` is not an event id of this tenant that this data folder issued
    /// with its current shards, or if the position is lost.
    pub(super) fn open(
        key: &CursorKey,
        tenant_id: &str,
        text: &str,
        now: &ChangePosition,
    ) -> Result<ChangePosition, QueryError> {
        let opened = key.open_bytes(&ChangePosition::context(tenant_id), text);
        let marks = opened.as_deref().and_then(|bytes| {
            let (marks, odd) = bytes.as_chunks::<12>();
            let mark = |bytes: &[u8; 12]| {
                let (epoch, change) = bytes.split_first_chunk::<4>()?;
                let change = u64::from_le_bytes(*change.first_chunk()?);
                Some(ChangeMark::at(u32::from_le_bytes(*epoch), change))
            };
            let marks = marks.iter().map(mark).collect::<Option<Vec<_>>>()?;
            let fits = |(of, now): (&ChangeMark, &ChangeMark)| !of.is_lost(*now);
            let is_ours = odd.is_empty() && marks.len() == now.0.len();
            (is_ours && marks.iter().zip(&now.0).all(fits)).then_some(marks)
        });
        marks.map(ChangePosition).ok_or_else(|| {
            let detail = "unknown event id, or the data was resharded; start again without one";
            QueryError::Parameters(vec![ParameterError {
                name: "Last-Event-ID".into(),
                code: "invalid_event_id",
                detail: detail.to_owned(),
            }])
        })
    }

    fn context(tenant_id: &str) -> Vec<u8> {
        [b"price changes\0", tenant_id.as_bytes()].concat()
    }
}

/// Returns the latest position of every shard's changes.
pub(super) async fn change_marks(readers: &Readers) -> Result<ChangePosition, QueryError> {
    let asked = readers.shards().map(|shard| ask(readers, shard, crate::prices::change_mark));
    let asked = asked.collect::<Result<Vec<_>, _>>()?;
    let mut marks = Vec::with_capacity(asked.len());
    for asked in asked {
        marks.push(asked.get().await?);
    }
    Ok(ChangePosition(marks))
}

/// Returns one shard's changes after a position, for all tenants, with the shard's current mark: its epoch and its
/// last change. Returns no changes if the position is lost.
pub(super) async fn changes_of_shard(
    readers: &Readers,
    place: usize,
    after: ChangeMark,
    limit: usize,
) -> Result<(ChangeMark, Vec<PriceChange>), QueryError> {
    let shard = readers.shards().nth(place).ok_or(QueryError::Busy)?;
    let step = move |connection: &rusqlite::Connection| {
        let mark = crate::prices::change_mark(connection)?;
        if after.is_lost(mark) {
            return Ok((mark, Vec::new()));
        }
        Ok((mark, crate::prices::changes(connection, None, (after.change, mark.change), limit)?))
    };
    ask(readers, shard, step)?.get().await
}

/// One shard's changes in memory while a replay merges all shards.
#[derive(Debug, Default)]
struct ShardChanges {
    ready: VecDeque<PriceChange>,
    /// Set once the shard has no more changes.
    is_done: bool,
    /// The greatest number of a deleted change that was reported.
    gap: u64,
}

/// A tenant's changes between two positions, over all shards in time order.
#[derive(Debug)]
pub(super) struct Changes {
    readers: Readers,
    tenant_id: String,
    /// The position after the last returned change.
    at: ChangePosition,
    upto: Rc<ChangePosition>,
    shards: Vec<ShardChanges>,
    /// Set if retention has deleted changes between the positions, until it is reported.
    has_gap: bool,
}

/// The number of changes that a replay requests from a shard at once. Memory holds up to this many changes from each
/// shard.
const STEP_CHANGES: usize = 64;

impl Changes {
    #[must_use]
    pub(super) fn new(
        readers: &Readers,
        tenant_id: &str,
        from: ChangePosition,
        upto: Rc<ChangePosition>,
    ) -> Changes {
        let shards = from.0.iter().zip(&upto.0);
        let shards = shards.map(|(from, upto)| ShardChanges {
            ready: VecDeque::new(),
            is_done: from.change >= upto.change,
            gap: 0,
        });
        let shards = shards.collect();
        let (readers, tenant_id) = (readers.clone(), tenant_id.to_owned());
        Changes { readers, tenant_id, at: from, upto, shards, has_gap: false }
    }

    /// Returns `true` once if retention has deleted changes before the one that was returned last.
    pub(super) fn take_gap(&mut self) -> bool {
        std::mem::take(&mut self.has_gap)
    }

    /// Returns the position of a client that has received every change returned so far.
    #[must_use]
    pub(super) fn position(&self) -> &ChangePosition {
        &self.at
    }

    /// Returns the next change, or `None` at the end. At the end, the position equals the upper bound.
    pub(super) async fn next(&mut self) -> Result<Option<PriceChange>, QueryError> {
        self.fill().await?;
        let heads = self.shards.iter().enumerate();
        let heads = heads.filter_map(|(place, ahead)| Some((ahead.ready.front()?.at_us, place)));
        let Some((_, place)) = heads.min() else {
            self.at = (*self.upto).clone();
            return Ok(None);
        };
        let change = self.shards[place].ready.pop_front();
        if let Some(change) = &change {
            self.at.0[place] = ChangeMark::at(self.upto.0[place].epoch, change.change);
        }
        Ok(change)
    }

    /// Queries every shard whose changes in memory are exhausted, concurrently.
    async fn fill(&mut self) -> Result<(), QueryError> {
        let mut asked = Vec::new();
        for (place, ahead) in self.shards.iter().enumerate() {
            if ahead.is_done || !ahead.ready.is_empty() {
                continue;
            }
            let shard = self.readers.shards().nth(place).ok_or(QueryError::Busy)?;
            let (tenant_id, upto) = (self.tenant_id.clone(), self.upto.0[place]);
            let range = (self.at.0[place].change, upto.change);
            let step = move |connection: &rusqlite::Connection| {
                // The changes are lost with the file that contained them. Their numbers now belong to other changes.
                if upto.is_lost(crate::prices::change_mark(connection)?) {
                    return Ok((Vec::new(), 0));
                }
                // The changes are read first, because they may be deleted between the two statements.
                let found = crate::prices::changes(connection, Some(&tenant_id), range, STEP_CHANGES)?;
                Ok((found, crate::prices::dropped_changes(connection, &tenant_id)?))
            };
            asked.push((place, ask(&self.readers, shard, step)?));
        }
        for (place, asked) in asked {
            let (found, dropped) = asked.get().await?;
            let ahead = &mut self.shards[place];
            if dropped > self.at.0[place].change.max(ahead.gap) {
                (ahead.gap, self.has_gap) = (dropped, true);
            }
            ahead.is_done = found.len() < STEP_CHANGES;
            ahead.ready.extend(found);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::super::history::PriceRow;
    use super::super::record::{PRICE_EVENT, PriceEventRow};
    use super::*;
    use crate::base::ids::{LaneId, Sequence};
    use crate::base::money::Currency;
    use crate::base::observed::Observed;
    use crate::base::prices::PriceRules;
    use crate::families::FAMILIES;
    use crate::query::ReadShard;
    use crate::shard::{Entry, Records, Shard, ShardFolder, ShardOptions};

    struct Events(Vec<(Sequence, Vec<u8>)>);

    impl Records for Events {
        fn records(&self) -> impl Iterator<Item = Entry<'_>> {
            self.0.iter().map(|(sequence, payload)| Entry {
                sequence: *sequence,
                kind: PRICE_EVENT.number(),
                payload,
            })
        }
    }

    /// Returns a shard with a first price, and `anomalies` prices that differ too much from it.
    fn shard_of(folder: &ShardFolder, anomalies: u64) -> Shard {
        let mut shard = Shard::open(folder, &ShardOptions::default(), &FAMILIES).unwrap();
        let event = |n: u64| {
            let event_id = format!("e{n}");
            let observed = Observed {
                at_us: n as i64,
                received_us: n as i64,
                tenant_id: "t",
                product_id: "p",
                event_id: &event_id,
            };
            let price = if n == 0 { 100 } else { 900 };
            let row = PriceRow { observed, price, currency: Currency::parse("USD").unwrap() };
            let mut bytes = Vec::new();
            PriceEventRow::new(row, PriceRules { change_bp: 2_000, score_milli: 3_500, window: 20 })
                .encode(&mut bytes);
            (Sequence(n + 1), bytes)
        };
        let events = Events((0..=anomalies).map(event).collect());
        shard.apply(&[(LaneId::keyed(0), &events)], &mut |_, _, _| {}).unwrap();
        shard
    }

    #[test]
    fn a_shard_that_is_gone_is_no_shard_without_changes() {
        let dir = tempfile::tempdir().unwrap();
        let folder = ShardFolder::new(dir.path().join("shard-00"));
        let shard = shard_of(&folder, 3);
        let path = shard.path().to_owned();
        drop(shard);
        let readers = Readers::start(vec![ReadShard::alone(0, &path)], &[0], 1).unwrap();
        let now = block_on(change_marks(&readers)).unwrap();
        assert_eq!(now.0[0].change, 3);
        let begin = ChangePosition(vec![ChangeMark { change: 1, ..now.0[0] }]);
        let mut replay = Changes::new(&readers, "t", begin, Rc::new(now.clone()));
        let aside = dir.path().join("aside.db");
        std::fs::rename(&path, &aside).unwrap();
        let is_told = |outcome: Result<(), QueryError>| {
            assert!(matches!(outcome, Err(QueryError::Shard { .. })), "{outcome:?}");
        };
        is_told(block_on(change_marks(&readers)).map(drop));
        is_told(block_on(changes_of_shard(&readers, 0, now.0[0], 9)).map(drop));
        let of = EventName::new(&KeyHasher::new(&[0; 16]), "t", "p", "e0");
        is_told(block_on(first_answer(&readers, ShardId(0), of.clone())).map(drop));
        is_told(block_on(has_event(&readers, ShardId(0), of)).map(drop));
        is_told(block_on(replay.next()).map(drop));
        // The file has been restored, and nothing is missing.
        std::fs::rename(&aside, &path).unwrap();
        let numbers: Vec<u64> =
            std::iter::from_fn(|| block_on(replay.next()).unwrap().map(|change| change.change)).collect();
        assert_eq!((numbers, replay.position()), (vec![2, 3], &now));
    }

    #[test]
    fn a_shard_is_asked_again_where_it_has_most_of_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |number: u16| ShardFolder::new(dir.path().join(format!("shard-{number:02}")));
        let of = AnomalyFilter {
            tenant_id: "t".to_owned(),
            product_id: None,
            status: None,
            from_us: None,
            to_us: None,
            after: None,
        };
        let shards: Vec<Shard> =
            (0..8).map(|number| shard_of(&folder(number), if number == 3 { 60 } else { 2 })).collect();
        let paths = shards.iter().zip(0..).map(|(shard, number)| ReadShard::alone(number, shard.path()));
        let readers = Readers::start(paths.collect(), &[0], 1).unwrap();
        let (key, mut cursor, mut lengths, mut times) =
            (CursorKey::new(&[3; 16]), None, Vec::new(), Vec::new());
        loop {
            let page = anomalies_page(&readers, &key, of.clone(), None, 50, cursor.as_deref());
            let page = block_on(page).unwrap();
            lengths.push(page.anomalies.len());
            times.extend(page.anomalies.iter().map(|line| line.created_us));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(lengths, [50, 24]);
        assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    }

    #[test]
    fn a_place_ahead_of_its_shard_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let folder = ShardFolder::new(dir.path().join("shard-00"));
        let shard = shard_of(&folder, 3);
        let readers = Readers::start(vec![ReadShard::alone(0, shard.path())], &[0], 1).unwrap();
        let now = block_on(change_marks(&readers)).unwrap().0[0];
        let key = CursorKey::new(&[3; 16]);
        // The state after an older copy has replaced the file: the same epoch, but fewer changes.
        let ahead = ChangeMark { change: 4, ..now };
        let other = ChangeMark::at(now.epoch.wrapping_add(1), 1);
        for (place, is_lost) in [(ahead, true), (other, true), (now, false), (ChangeMark::default(), false)] {
            let (mark, found) = block_on(changes_of_shard(&readers, 0, place, 9)).unwrap();
            assert_eq!(mark, now);
            assert_eq!((place.is_lost(now), found.len()), (is_lost, if place.change == 0 { 3 } else { 0 }));
            let id = ChangePosition(vec![place]).seal(&key, "t").unwrap().0;
            let opened = ChangePosition::open(&key, "t", &id, &ChangePosition(vec![now]));
            assert_eq!(opened.is_err(), is_lost);
        }
        let whole = |upto| {
            let from = ChangePosition(vec![ChangeMark::default()]);
            let mut replay = Changes::new(&readers, "t", from, Rc::new(ChangePosition(vec![upto])));
            std::iter::from_fn(|| block_on(replay.next()).unwrap()).count()
        };
        assert_eq!((whole(now), whole(ahead)), (3, 0));
    }
}
