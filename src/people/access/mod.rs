//! The export of everything that is held of a person: one line of JSON for each row, place by place.
//!
//! In: a customer. Out: pages of lines, and the number of rows by place. Owns: the order in which the places are read,
//! so that data on its way from an upload to its row is not missed. Never: writes, holds a snapshot for longer than a
//! step, or decides what belongs to a person: the functions that an erasure uses find it.

mod files;
mod journals;
mod page;
pub(super) mod reader;
mod record;
mod rows;

use std::collections::VecDeque;
use std::sync::Arc;

use self::page::{Page, count};
use self::reader::{FileReader, Files, RowReader, Sought};
use super::place::{Place, Read};
use super::query::some_events;
use super::refused::PeopleRefused;
use crate::base::ids::ShardId;
use crate::query::{Permit, Readers, received};

pub(super) use self::files::{ExportReader, UploadReader};
pub(super) use self::journals::{JournalReader, QuarantineReader};
pub(super) use self::rows::{AnswerReader, CustomerReader, EventReader, OrderReader, RejectedReader};

/// A running read of everything that is held of a person. Memory holds one page for each shard.
pub(super) struct AccessScan {
    readers: Readers,
    files: Files,
    sought: Arc<Sought>,
    left: VecDeque<&'static Place>,
    current: Current,
    /// The number of rows by place, up to now.
    rows: Vec<(&'static str, u64)>,
    _permit: Permit,
}

/// The place that is being read.
enum Current {
    Nothing,
    Rows(Vec<(ShardId, Box<dyn RowReader>)>),
    /// The person's events are searched, before these files.
    Events(EventSearch, Box<dyn FileReader>),
    Files(Box<dyn FileReader>),
}

/// A search of the events that exports may contain.
struct EventSearch {
    /// The highest row id in each shard.
    pins: Vec<i64>,
    /// The person's events in each shard. The search is in the last one.
    found: Vec<Vec<(i64, usize)>>,
    /// The row id that was reached there.
    after: i64,
}

impl AccessScan {
    /// Starts a read of these places.
    pub(super) fn begin(
        readers: &Readers,
        files: Files,
        sought: Sought,
        places: Vec<&'static Place>,
    ) -> Result<AccessScan, PeopleRefused> {
        let permit = readers.permit()?;
        Ok(AccessScan {
            readers: readers.clone(),
            files,
            sought: Arc::new(sought),
            left: places.into(),
            current: Current::Nothing,
            rows: Vec::new(),
            _permit: permit,
        })
    }

    /// Returns the number of rows by place, up to now.
    pub(super) fn rows(&self) -> &[(&'static str, u64)] {
        &self.rows
    }

    /// Returns the places that have not been read to their end.
    pub(super) fn unfinished(&self) -> Vec<&'static str> {
        self.left.iter().map(|place| place.name).collect()
    }

    /// Runs one step and returns its lines, which may be none. Returns `None` after the last step.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, PeopleRefused> {
        let page = match std::mem::replace(&mut self.current, Current::Nothing) {
            Current::Nothing => {
                let Some(place) = self.left.front() else { return Ok(None) };
                self.current = match place.read {
                    Read::Rows(reader) | Read::Scan(reader) => {
                        Current::Rows(self.readers.shards().map(|shard| (shard, reader())).collect())
                    }
                    Read::Files(reader) => Current::Files(reader()),
                    Read::Copies(reader) => match self.files.exports.pins_of(self.sought.tenant_id()) {
                        Some(pins) => {
                            let search = EventSearch { pins, found: vec![Vec::new()], after: 0 };
                            Current::Events(search, reader())
                        }
                        None => Current::Files(reader()),
                    },
                    Read::Never(_) => Current::Nothing,
                };
                if matches!(self.current, Current::Nothing) {
                    self.left.pop_front();
                }
                return Ok(Some(Vec::new()));
            }
            Current::Rows(readers) => self.step_rows(readers).await?,
            Current::Events(search, reader) => {
                self.step_events(search, reader).await?;
                return Ok(Some(Vec::new()));
            }
            Current::Files(reader) => self.step_files(reader).await?,
        };
        if matches!(self.current, Current::Nothing) {
            self.left.pop_front();
        }
        for (place, rows) in page.rows {
            count(&mut self.rows, place, rows);
        }
        Ok(Some(page.bytes))
    }

    /// Reads a step in every shard at once.
    async fn step_rows(
        &mut self,
        readers: Vec<(ShardId, Box<dyn RowReader>)>,
    ) -> Result<Page, PeopleRefused> {
        let mut asked = Vec::with_capacity(readers.len());
        for (shard, mut reader) in readers {
            let sought = self.sought.clone();
            let step = move |connection: &rusqlite::Connection| {
                let mut page = Page::default();
                let is_done = reader.step(connection, shard, &sought, &mut page)?;
                Ok((page, (!is_done).then_some(reader)))
            };
            asked.push((shard, self.readers.ask(shard, (Page::default(), None), step)?));
        }
        let (mut all, mut left) = (Page::default(), Vec::new());
        for (shard, answer) in asked {
            let (page, reader) = received(answer.recv().await)?;
            all.append(&page);
            left.extend(reader.map(|reader| (shard, reader)));
        }
        if !left.is_empty() {
            self.current = Current::Rows(left);
        }
        Ok(all)
    }

    /// Searches some events of one shard. After the last shard, the files are read.
    async fn step_events(
        &mut self,
        mut search: EventSearch,
        reader: Box<dyn FileReader>,
    ) -> Result<(), PeopleRefused> {
        let at = search.found.len() - 1;
        let shard = self.readers.shards().nth(at).zip(search.pins.get(at).copied());
        let Some((shard, pin)) = shard else {
            search.found.pop();
            let _ = self.sought.events.set(search.found);
            self.current = Current::Files(reader);
            return Ok(());
        };
        let bounds = (search.after, pin);
        // Nothing is kept under a pseudonym in the mode of a person whose data is read.
        let ([found, _], next) = some_events(&self.readers, shard, bounds, &self.sought.people).await?;
        search.found[at].extend(found);
        search.after = next.unwrap_or(0);
        if next.is_none() {
            search.found.push(Vec::new());
        }
        self.current = Current::Events(search, reader);
        Ok(())
    }

    async fn step_files(&mut self, mut reader: Box<dyn FileReader>) -> Result<Page, PeopleRefused> {
        let (files, sought) = (self.files.clone(), self.sought.clone());
        let step = move || {
            let mut page = Page::default();
            let is_done = reader.step(&files, &sought, &mut page)?;
            Ok::<_, std::io::Error>((page, (!is_done).then_some(reader)))
        };
        let (page, reader) = self.readers.compute(step).await??;
        if let Some(reader) = reader {
            self.current = Current::Files(reader);
        }
        Ok(page)
    }
}
