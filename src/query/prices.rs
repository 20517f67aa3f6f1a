//! What is asked of price events over all shards: a page of anomalies, and changes behind a place in every shard.
//!
//! A place among changes is a number for each shard. A client holds it sealed, as the id of an event: whatever shard
//! the next change comes from, nothing is missed and nothing is told twice.

use std::collections::VecDeque;
use std::rc::Rc;

use super::cursor::CursorKey;
use super::readers::{Readers, received};
use super::{ParameterError, QueryError};
use crate::base::ids::ShardId;
use crate::shard::{
    self, AnomaliesOf, AnomalyId, AnomalyLine, AnomalyStatus, ChangeMark, FirstAnswer, PriceChange,
    StoredAnomaly,
};

/// What a price event was answered with, if it is stored.
pub async fn first_answer(
    readers: &Readers,
    shard: ShardId,
    tenant_id: &str,
    product_id: &str,
    event_id: &str,
) -> Result<Option<FirstAnswer>, QueryError> {
    let [tenant_id, product_id, event_id] = [tenant_id, product_id, event_id].map(str::to_owned);
    let step = move |connection: &rusqlite::Connection| {
        shard::first_answer(connection, &tenant_id, &product_id, &event_id)
    };
    received(readers.ask(shard, None, step)?.recv().await)
}

/// One anomaly of a tenant.
pub async fn stored_anomaly(
    readers: &Readers,
    shard: ShardId,
    tenant_id: &str,
    name: AnomalyId,
) -> Result<Option<StoredAnomaly>, QueryError> {
    let tenant_id = tenant_id.to_owned();
    let step = move |connection: &rusqlite::Connection| shard::anomaly(connection, &tenant_id, name);
    received(readers.ask(shard, None, step)?.recv().await)
}

/// Anomalies of one page.
#[derive(Debug)]
pub struct AnomaliesPage {
    pub anomalies: Vec<AnomalyLine>,
    pub next_cursor: Option<String>,
}

/// What a cursor of anomalies is sealed for: the same question.
fn context(of: &AnomaliesOf) -> Vec<u8> {
    let mut context = b"price anomalies".to_vec();
    let since = of.since_us.map(|since| since.to_string());
    for part in [
        Some(of.tenant_id.as_str()),
        of.product_id.as_deref(),
        of.status.map(AnomalyStatus::as_str),
        since.as_deref(),
    ] {
        context.push(0);
        // No name is empty.
        context.extend_from_slice(part.unwrap_or_default().as_bytes());
    }
    context
}

/// One page of anomalies, newest first, from one shard where they are of one product, else merged over all.
pub async fn anomalies_page(
    readers: &Readers,
    key: &CursorKey,
    mut of: AnomaliesOf,
    only: Option<ShardId>,
    limit: usize,
    cursor: Option<&str>,
) -> Result<AnomaliesPage, QueryError> {
    let _permit = readers.permit()?;
    let context = context(&of);
    if let Some(cursor) = cursor {
        let opened = key.open_bytes(&context, cursor);
        let after = opened.as_deref().and_then(|bytes| {
            let (created_us, name) = bytes.split_first_chunk()?;
            Some((i64::from_le_bytes(*created_us), String::from_utf8(name.to_vec()).ok()?))
        });
        let wrong = || {
            let detail = "this cursor is none of this server, or of another question; begin without one";
            QueryError::Parameters(vec![ParameterError {
                name: "cursor",
                code: "invalid_cursor",
                detail: detail.to_owned(),
            }])
        };
        of.after = Some(after.ok_or_else(wrong)?);
    }
    let step = move |connection: &rusqlite::Connection| shard::anomalies(connection, &of, limit + 1);
    let partials = match only {
        Some(shard) => vec![received(readers.ask(shard, Vec::new(), step)?.recv().await)?],
        None => readers.ask_all(Vec::new(), step).await?,
    };
    let mut anomalies: Vec<AnomalyLine> = partials.into_iter().flatten().collect();
    anomalies.sort_unstable_by(|a, b| (b.created_us, &b.anomaly_id).cmp(&(a.created_us, &a.anomaly_id)));
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

/// A place among the changes of every shard, in the order of the shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangePosition(pub Vec<ChangeMark>);

/// A place as a client holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeId(pub String);

impl ChangePosition {
    /// The id of an event after which a reader stands here.
    pub fn seal(&self, key: &CursorKey, tenant_id: &str) -> Result<ChangeId, QueryError> {
        let mut bytes = Vec::with_capacity(self.0.len() * 12);
        for mark in &self.0 {
            bytes.extend_from_slice(&mark.epoch.to_le_bytes());
            bytes.extend_from_slice(&mark.change.to_le_bytes());
        }
        key.seal_bytes(&ChangePosition::context(tenant_id), &bytes).map(ChangeId)
    }

    /// # Errors
    /// [`QueryError::Parameters`] where the text is no id of this tenant's changes in this folder as it is now
    /// distributed.
    pub fn open(
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
                Some(ChangeMark { epoch: u32::from_le_bytes(*epoch), change })
            };
            let marks = marks.iter().map(mark).collect::<Option<Vec<_>>>()?;
            // What begins at nothing goes with any numbering: the shard was not there then.
            let fits = |(of, now): (&ChangeMark, &ChangeMark)| {
                of.change == 0 || (of.epoch == now.epoch && of.change <= now.change)
            };
            let is_ours = odd.is_empty() && marks.len() == now.0.len();
            (is_ours && marks.iter().zip(&now.0).all(fits)).then_some(marks)
        });
        marks.map(ChangePosition).ok_or_else(|| {
            let detail =
                "this is no id of this stream, or the data was distributed anew since; begin without one";
            QueryError::Parameters(vec![ParameterError {
                name: "Last-Event-ID",
                code: "invalid_event_id",
                detail: detail.to_owned(),
            }])
        })
    }

    fn context(tenant_id: &str) -> Vec<u8> {
        [b"price changes\0", tenant_id.as_bytes()].concat()
    }
}

/// How far every shard's changes have come.
pub async fn change_marks(readers: &Readers) -> Result<ChangePosition, QueryError> {
    readers.ask_all(ChangeMark::default(), shard::change_mark).await.map(ChangePosition)
}

/// Changes of one shard behind a place, of all tenants, with its numbering and how far it has come.
pub async fn changes_of_shard(
    readers: &Readers,
    place: usize,
    after: ChangeMark,
    limit: usize,
) -> Result<(ChangeMark, Vec<PriceChange>), QueryError> {
    let shard = readers.shards().nth(place).ok_or(QueryError::Busy)?;
    let step = move |connection: &rusqlite::Connection| {
        let mark = shard::change_mark(connection)?;
        if mark.epoch != after.epoch && after.change > 0 {
            return Ok((mark, Vec::new()));
        }
        Ok((mark, shard::changes(connection, None, (after.change, mark.change), limit)?))
    };
    received(readers.ask(shard, (ChangeMark::default(), Vec::new()), step)?.recv().await)
}

/// Changes of a shard in hand while a replay merges it with the others.
#[derive(Debug, Default)]
struct Ahead {
    ready: VecDeque<PriceChange>,
    /// Nothing more comes from this shard.
    is_done: bool,
}

/// A tenant's changes between two places, over all shards in the order of their times.
#[derive(Debug)]
pub struct Changes {
    readers: Readers,
    tenant_id: String,
    /// Behind the last one that was given.
    at: ChangePosition,
    upto: Rc<ChangePosition>,
    shards: Vec<Ahead>,
}

/// Changes that a replay asks a shard for at once; of each as many are in memory.
const STEP_CHANGES: usize = 64;

impl Changes {
    #[must_use]
    pub fn new(
        readers: &Readers,
        tenant_id: &str,
        from: ChangePosition,
        upto: Rc<ChangePosition>,
    ) -> Changes {
        let shards = from.0.iter().zip(&upto.0);
        let shards =
            shards.map(|(from, upto)| Ahead { ready: VecDeque::new(), is_done: from.change >= upto.change });
        let shards = shards.collect();
        Changes { readers: readers.clone(), tenant_id: tenant_id.to_owned(), at: from, upto, shards }
    }

    /// Where a reader of all that was given so far stands.
    #[must_use]
    pub fn position(&self) -> &ChangePosition {
        &self.at
    }

    /// The next change; `None` at the end, where the position is the upper one.
    pub async fn next(&mut self) -> Result<Option<PriceChange>, QueryError> {
        self.fill().await?;
        let heads = self.shards.iter().enumerate();
        let heads = heads.filter_map(|(place, ahead)| Some((ahead.ready.front()?.at_us, place)));
        let Some((_, place)) = heads.min() else {
            self.at = (*self.upto).clone();
            return Ok(None);
        };
        let change = self.shards[place].ready.pop_front();
        if let Some(change) = &change {
            self.at.0[place] = ChangeMark { epoch: self.upto.0[place].epoch, change: change.change };
        }
        Ok(change)
    }

    /// Asks every shard whose changes are used up, side by side.
    async fn fill(&mut self) -> Result<(), QueryError> {
        let mut asked = Vec::new();
        for (place, ahead) in self.shards.iter().enumerate() {
            if ahead.is_done || !ahead.ready.is_empty() {
                continue;
            }
            let shard = self.readers.shards().nth(place).ok_or(QueryError::Busy)?;
            let (tenant_id, range) =
                (self.tenant_id.clone(), (self.at.0[place].change, self.upto.0[place].change));
            let step = move |connection: &rusqlite::Connection| {
                shard::changes(connection, Some(&tenant_id), range, STEP_CHANGES)
            };
            asked.push((place, self.readers.ask(shard, Vec::new(), step)?));
        }
        for (place, answer) in asked {
            let found = received(answer.recv().await)?;
            let ahead = &mut self.shards[place];
            ahead.is_done = found.len() < STEP_CHANGES;
            ahead.ready.extend(found);
        }
        Ok(())
    }
}
