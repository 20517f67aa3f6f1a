//! Lists of what a tenant has by name, such as its products: the shards' entries in the order of the names' bytes.
//!
//! Each name occurs once. If several shards know a part of it, the parts are joined. A list has no pins: an entry is
//! what its shards contain when the list reaches its name.

use std::collections::VecDeque;

use rusqlite::Connection;

use super::QueryError;
use super::cursor::CursorKey;
use super::merge::{CHUNK_BYTES, Chunk, PARTIAL_ROWS_MAX, partial_bytes_max};
use super::plan::{ParameterError, Parameters};
use super::readers::{Answer, Permit, Readers, received};
use super::rows_frame::{RowsFrame, Shape};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::shard::ShardError;
use crate::shard::read::Bounds;

/// The maximum time that one step holds its snapshot.
const STEP_US: u64 = 50_000;
/// The number of names read between two checks of the clock.
const NAMES_PER_LOOK: u32 = 256;
/// The default number of entries in a JSON page.
const LIMIT: usize = 100;
/// The maximum number of entries in a response with a limit.
pub const LIST_LIMIT_MAX: usize = 100_000;

/// What a list contains. A feature implements it for its filter.
pub trait Listed: Clone + Send + Sync + 'static {
    /// What one shard knows of a name.
    type Part: Send + 'static;

    /// The member of a JSON page that has the entries. It also separates the cursors of different lists.
    const MEMBER: &'static str;

    /// Returns every condition of the filter, beginning with the tenant. A cursor is valid only for the same ones.
    fn conditions(&self) -> Vec<Option<String>>;

    /// Returns the first name that may be in the list.
    fn first(&self) -> &str;

    /// Adds one shard's entries with names from `from` on, in order, until it ends or the partial is full.
    fn step(
        &self,
        connection: &Connection,
        from: &str,
        partial: &mut ListPartial<Self::Part>,
    ) -> Result<(), ShardError>;

    /// Joins what another shard knows of the same name.
    fn join(one: &mut Self::Part, other: Self::Part);

    /// Appends an entry as a JSON object.
    fn write(name: &str, part: &Self::Part, out: &mut Vec<u8>);
}

/// A request for a list.
#[derive(Clone, Debug)]
pub struct ListPlan<L> {
    pub of: L,
    /// `None` selects the usual number of a page, and everything in a stream of lines.
    pub limit: Option<usize>,
    pub cursor: Option<String>,
}

impl<L> ListPlan<L> {
    /// Parses the parameters that every list has.
    pub fn new(mut parameters: Parameters, of: L) -> Result<ListPlan<L>, Vec<ParameterError>> {
        let limit = parameters.number("limit", 1, LIST_LIMIT_MAX);
        let cursor = parameters.value("cursor");
        parameters.done(ListPlan { of, limit, cursor })
    }
}

/// Returns the first possible name after this one in the order of bytes.
#[must_use]
pub fn successor(name: &str) -> String {
    format!("{name}\0")
}

/// One shard's next entries.
#[derive(Debug)]
pub struct ListPartial<P> {
    entries: VecDeque<(String, P)>,
    /// The name at which the next step begins; `None` at the end.
    next: Option<String>,
    bounds: Bounds,
    bytes: usize,
    names: u32,
    until_us: u64,
}

impl<P> ListPartial<P> {
    fn new(bounds: Bounds) -> ListPartial<P> {
        let until_us = clock::monotonic_us() + STEP_US;
        ListPartial { entries: VecDeque::new(), next: None, bounds, bytes: 0, names: 0, until_us }
    }

    /// Returns the number of entries that a step may add.
    #[must_use]
    pub fn rows_max(&self) -> usize {
        self.bounds.rows
    }

    /// Adds what the shard has under a name, if the list contains it. `bytes` is about the part's size in memory.
    /// Returns `true` if the step must end.
    pub fn add(&mut self, name: String, part: Option<P>, bytes: usize) -> bool {
        self.names += 1;
        let is_late = || clock::monotonic_us() >= self.until_us;
        let added = usize::from(part.is_some());
        self.bytes += added * (name.len() + bytes);
        let is_full = self.entries.len() + added >= self.bounds.rows || self.bytes >= self.bounds.bytes;
        let ends = is_full || (self.names.is_multiple_of(NAMES_PER_LOOK) && is_late());
        if ends {
            self.next = Some(successor(&name));
        }
        self.entries.extend(part.map(|part| (name, part)));
        ends
    }
}

/// A list that is being read. [`List::next`] returns its pieces; dropping it ends the query.
pub struct List<L: Listed> {
    readers: Readers,
    key: CursorKey,
    of: L,
    bounds: Bounds,
    shards: Vec<Side<L::Part>>,
    frame: RowsFrame,
    /// The number of entries that may still be returned; `None` if there is no limit.
    left: Option<usize>,
    /// The name of the last returned entry.
    last: String,
    ended: bool,
    _permit: Permit,
}

/// One shard's side of the merge.
struct Side<P> {
    shard: ShardId,
    ready: VecDeque<(String, P)>,
    coming: Option<Answer<ListPartial<P>>>,
}

impl<P> Side<P> {
    /// Returns `true` if the next entry can only be known when a step has ended.
    fn is_awaited(&self) -> bool {
        self.ready.is_empty() && self.coming.is_some()
    }
}

impl<L: Listed> List<L> {
    /// Starts a list at its first name, or after the cursor.
    pub fn begin(
        readers: &Readers,
        key: &CursorKey,
        plan: ListPlan<L>,
        shape: Shape,
    ) -> Result<List<L>, QueryError> {
        let permit = readers.permit()?;
        let ListPlan { of, limit, cursor } = plan;
        let parse = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let last = key.open_given_bytes(&context(&of), cursor.as_deref(), parse)?;
        let from = last.as_deref().map_or_else(|| of.first().to_owned(), successor);
        let left = limit.or((shape == Shape::Object).then_some(LIMIT));
        let bounds = Bounds {
            // One entry more than the page needs. It shows whether another page follows.
            rows: left.map_or(PARTIAL_ROWS_MAX, |left| (left + 1).min(PARTIAL_ROWS_MAX)),
            bytes: partial_bytes_max(readers.shard_count()),
        };
        let frame = RowsFrame::new(shape, L::MEMBER);
        let last = last.unwrap_or_default();
        let (readers, key) = (readers.clone(), *key);
        let mut list = List {
            readers,
            key,
            of,
            bounds,
            shards: Vec::new(),
            frame,
            left,
            last,
            ended: false,
            _permit: permit,
        };
        let shards: Vec<ShardId> = list.readers.shards().collect();
        for shard in shards {
            let coming = Some(list.ask(shard, from.clone())?);
            list.shards.push(Side { shard, ready: VecDeque::new(), coming });
        }
        Ok(list)
    }

    fn ask(&self, shard: ShardId, from: String) -> Result<Answer<ListPartial<L::Part>>, QueryError> {
        let (of, bounds) = (self.of.clone(), self.bounds);
        self.readers.ask(shard, ListPartial::new(bounds), move |connection| {
            let mut partial = ListPartial::new(bounds);
            of.step(connection, &from, &mut partial)?;
            Ok(partial)
        })
    }

    /// Makes sure that every shard has its next entry in memory, or has none left. Shards whose steps find nothing
    /// continue concurrently.
    async fn fill(&mut self) -> Result<(), QueryError> {
        while self.shards.iter().any(Side::is_awaited) {
            for at in 0..self.shards.len() {
                let side = &mut self.shards[at];
                let Some(coming) = side.coming.take_if(|_| side.ready.is_empty()) else { continue };
                let partial = received(coming.recv().await)?;
                let next = partial.next.map(|from| self.ask(self.shards[at].shard, from)).transpose()?;
                (self.shards[at].ready, self.shards[at].coming) = (partial.entries, next);
            }
        }
        Ok(())
    }

    /// Takes the next entry, joined over all shards.
    fn take(&mut self) -> Option<(String, L::Part)> {
        let heads = self.shards.iter().filter_map(|side| side.ready.front());
        let name = heads.map(|(name, _)| name).min()?.clone();
        let mut whole: Option<L::Part> = None;
        for side in &mut self.shards {
            if side.ready.front().is_none_or(|(head, _)| *head != name) {
                continue;
            }
            match (side.ready.pop_front(), &mut whole) {
                (Some((_, part)), Some(whole)) => L::join(whole, part),
                (popped, _) => whole = popped.map(|(_, part)| part),
            }
        }
        whole.map(|whole| (name, whole))
    }

    /// Returns the next piece, or `None` after the last. After an error, the list does not send an end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, QueryError> {
        if self.ended {
            return Ok(None);
        }
        let mut chunk = Chunk::default();
        while chunk.bytes.len() < CHUNK_BYTES && self.left != Some(0) {
            // Entries that are ready are returned before a step is awaited, which may read many names in vain.
            if chunk.rows > 0 && self.shards.iter().any(Side::is_awaited) {
                break;
            }
            self.fill().await?;
            let Some((name, part)) = self.take() else { break };
            L::write(&name, &part, &mut chunk.bytes);
            chunk.bytes.push(b'\n');
            chunk.rows += 1;
            self.left = self.left.map(|left| left - 1);
            self.last = name;
        }
        if chunk.rows > 0 {
            return Ok(Some(self.frame.add(chunk)));
        }
        self.ended = true;
        self.fill().await?;
        let has_more = self.shards.iter().any(|side| !side.ready.is_empty());
        let cursor = has_more.then(|| self.key.seal_bytes(&context(&self.of), self.last.as_bytes()));
        Ok(Some(self.frame.end(cursor.transpose()?)))
    }
}

/// Returns the context that a list's cursor is sealed for.
fn context<L: Listed>(of: &L) -> Vec<u8> {
    let mut context = [b"list of ", L::MEMBER.as_bytes()].concat();
    for condition in of.conditions() {
        // No condition contains a control character.
        context.push(0);
        context.push(u8::from(condition.is_some()));
        context.extend_from_slice(condition.unwrap_or_default().as_bytes());
    }
    context
}
