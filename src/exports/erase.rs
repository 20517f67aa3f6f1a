//! Removes people from a tenant's exports, and a user from the exports of clicks.
//!
//! A person's rows are orders, events or clicks; below, all of them are called orders.
//!
//! A file that contains none of the person's orders remains. A finished file that contains some is deleted, and its
//! export reports the reason. An unfinished file omits those orders that it does not contain yet. If it already
//! contains some, it is spliced ([`super::splice`]): the blocks with the person's orders are removed, and the other
//! orders of these blocks are written again at the end, under another generation. An export that takes longer than
//! the time between two erasures therefore still finishes. Each erasure costs it only the blocks with the person's
//! orders, and a job advances beyond its earlier position before it yields to the next erasure ([`super::job`]).
//! `chosen` lists an export's orders in file order, so no file has to be unpacked to find the person's orders.
//!
//! An export restarts only if it cannot be spliced: an older version started the file, the files are damaged, there
//! is not enough space for a second file, or a kill interrupted an erasure, so that the length of `chosen` differs
//! from its counts.
//!
//! Orders that are kept under a pseudonym are written again once every shard has the pseudonym. An export with a name
//! search (`q`) omits these orders instead, because its results would link the pseudonym to the name, and because `q`
//! does not find pseudonyms.
//!
//! During an erasure, no job works on the exports ([`super::store::Hold`]), and none of the person's orders are
//! added.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::body::ExportRows;
use super::file::{CHOSEN_BYTES, opened};
use super::marks::Blocks;
use super::record::{Checkpoint, Export, ExportState, Progress};
use super::source::id_of;
use super::store::{BESIDE, CHOSEN, ExportStore, FILE, MARKS, PROGRESS};
use crate::base::{clock, durable};

const CHOSEN_NEW: &str = "chosen.new";
/// The name instead of a tenant's of exports of clicks.
const OF_CLICKS: &str = "";
/// The error that the export of a deleted file reports to clients.
const REASON: &str = "it contained a person who was erased";

/// The sorted ids of people's rows in each shard, each with its person.
type RowsOf<'p> = &'p [Vec<(i64, usize)>];

/// The people whose data is searched for in a tenant's exports, or removed from them.
#[derive(Clone, Copy)]
pub struct PeopleInExports<'p> {
    pub orders: RowsOf<'p>,
    /// Whether the orders remain under a pseudonym. Otherwise, they are deleted.
    pub are_kept: bool,
    /// The events that are deleted. An event may refer to several people.
    pub events: RowsOf<'p>,
    /// The events that remain, with a pseudonym instead of the person.
    pub kept_events: RowsOf<'p>,
    /// Returns the people to whom a text refers.
    pub who_is: &'p dyn Fn(&str) -> Vec<usize>,
    /// The number of people.
    pub count: usize,
}

impl<'p> PeopleInExports<'p> {
    /// Returns the people's rows of the kind that an export contains, those that are deleted apart from those that are
    /// kept (`true`).
    fn rows(&self, of: ExportRows) -> Vec<(RowsOf<'p>, bool)> {
        match of {
            ExportRows::Orders | ExportRows::Items => vec![(self.orders, self.are_kept)],
            ExportRows::Events => vec![(self.events, false), (self.kept_events, true)],
            ExportRows::Clicks => Vec::new(),
        }
    }
}

/// What an export holds of people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportHolds {
    Nothing,
    /// Its filters or its key refer to these people.
    Named(Vec<usize>),
    /// Its selection has rows of people: their indexes in it, each with its person.
    Rows(Vec<(u64, usize)>),
    /// Its rows can no longer be determined. It may contain anyone.
    MayBeAnyone,
}

impl ExportStore {
    /// Removes people from the tenant's exports. Returns the number of affected exports for each person. Reads 8 bytes
    /// for each row in the tenant's exports.
    ///
    /// # Errors
    /// Returns the first I/O error, after it has processed all exports. Another call retries the exports with errors.
    pub fn erase_people(&self, tenant: &str, people: &PeopleInExports<'_>) -> io::Result<Vec<u64>> {
        let mut counts = vec![0; people.count];
        self.each_of(tenant, |export| {
            let mut who = named_in(export, people.who_is);
            if who.is_empty() {
                who = self.erase_rows(export, &people.rows(export.spec.rows), people.count)?;
            } else {
                self.remove(export)?;
            }
            for person in who {
                counts[person] += 1;
            }
            Ok(())
        })?;
        Ok(counts)
    }

    /// Removes a user's clicks, as the only person's, from the exports of clicks. Returns the number of affected
    /// exports.
    ///
    /// # Errors
    /// Returns the first I/O error, after it has processed all exports. Another call retries the exports with errors.
    pub fn erase_user(&self, user_id: i64, rows: RowsOf<'_>) -> io::Result<u64> {
        let mut count = 0;
        self.each_of(OF_CLICKS, |export| {
            if is_of_user(export, user_id) {
                count += 1;
                return self.remove(export);
            }
            count += u64::from(!self.erase_rows(export, &[(rows, false)], 1)?.is_empty());
            Ok(())
        })?;
        Ok(count)
    }

    /// Returns the highest row id in each shard that a selection of the tenant's events, or of clicks if the name is
    /// empty, may contain. Returns `None` if there is no selection.
    #[must_use]
    pub fn pins_of(&self, tenant: &str) -> Option<Vec<i64>> {
        let all = self.all();
        let is_of_rows = |export: &&Arc<Export>| export.tenant == tenant && !export.spec.rows.are_of_orders();
        let selected = all.iter().filter(is_of_rows).filter(|export| has_selection(&export.progress()));
        selected.map(|export| export.pins.clone()).reduce(|one, other| {
            let places = one.len().max(other.len());
            let pin = |pins: &[i64], at: usize| pins.get(at).copied().unwrap_or_default();
            (0..places).map(|at| pin(&one, at).max(pin(&other, at))).collect()
        })
    }

    /// Removes the tenant's exports whose filters or key refer to a person. Jobs may be running. Returns the number
    /// of removed exports.
    ///
    /// # Errors
    /// Returns the first I/O error, after it has processed all exports. Another call retries the exports with errors.
    pub fn remove_identifying(&self, tenant: &str, who_is: &dyn Fn(&str) -> Vec<usize>) -> io::Result<u64> {
        let mut count = 0;
        self.each_of(tenant, |export| {
            if named_in(export, who_is).is_empty() {
                return Ok(());
            }
            count += 1;
            self.remove(export)
        })?;
        Ok(count)
    }

    /// Removes the exports of clicks whose filters or key identify a user. Jobs may be running. Returns the number of
    /// removed exports.
    ///
    /// # Errors
    /// Returns the first I/O error, after it has processed all exports. Another call retries the exports with errors.
    pub fn remove_of_user(&self, user_id: i64) -> io::Result<u64> {
        let mut count = 0;
        self.each_of(OF_CLICKS, |export| {
            if !is_of_user(export, user_id) {
                return Ok(());
            }
            count += 1;
            self.remove(export)
        })?;
        Ok(count)
    }

    /// Calls the function for each of the tenant's exports, also after errors, and then deletes the files of removed
    /// exports. Returns the first error.
    fn each_of(&self, tenant: &str, mut change: impl FnMut(&Export) -> io::Result<()>) -> io::Result<()> {
        let mut outcome = Ok(());
        for export in self.all().iter().filter(|export| export.tenant == tenant) {
            outcome = outcome.and(change(export));
        }
        outcome.and(self.sweep())
    }

    /// Returns what an export holds of people.
    ///
    /// # Errors
    /// Returns I/O errors.
    pub fn holds(&self, export: &Export, people: &PeopleInExports<'_>) -> io::Result<ExportHolds> {
        let named = named_in(export, people.who_is);
        match named.is_empty() {
            true => self.holds_rows(export, &people.rows(export.spec.rows)),
            false => Ok(ExportHolds::Named(named)),
        }
    }

    fn holds_rows(&self, export: &Export, lists: &[(RowsOf<'_>, bool)]) -> io::Result<ExportHolds> {
        let progress = export.progress();
        if !has_selection(&progress) {
            return Ok(ExportHolds::Nothing);
        }
        let mut found = Vec::new();
        for (rows, _) in lists {
            match self.places(export, &progress, rows)? {
                None => return Ok(ExportHolds::MayBeAnyone),
                Some(places) => found.extend(places),
            }
        }
        Ok(if found.is_empty() { ExportHolds::Nothing } else { ExportHolds::Rows(found) })
    }

    /// Removes people's rows from an export. Returns those whom it held, of `count` people.
    fn erase_rows(
        &self,
        export: &Export,
        lists: &[(RowsOf<'_>, bool)],
        count: usize,
    ) -> io::Result<Vec<usize>> {
        let progress = export.progress();
        let is_done = progress.state == ExportState::Done;
        let mut who = match self.holds_rows(export, lists)? {
            ExportHolds::Rows(found) => found.into_iter().map(|(_, person)| person).collect(),
            ExportHolds::MayBeAnyone => (0..count).collect::<Vec<_>>(),
            ExportHolds::Nothing | ExportHolds::Named(_) if has_selection(&progress) => return Ok(Vec::new()),
            // Without a selection, or without a file any more. A crash may still have left files.
            ExportHolds::Nothing | ExportHolds::Named(_) => {
                return self.drop_files(export).map(|()| Vec::new());
            }
        };
        if is_done {
            self.take_away(export)?;
        } else {
            for (rows, are_kept) in lists {
                self.take_out_rows(export, rows, *are_kept)?;
            }
        }
        who.sort_unstable();
        who.dedup();
        Ok(who)
    }

    /// Removes rows from the selection of an unfinished export, or makes them wait for their pseudonym.
    fn take_out_rows(&self, export: &Export, rows: RowsOf<'_>, are_kept: bool) -> io::Result<()> {
        // The removal of other rows may have moved these, or the export restarts and has no selection any more.
        let progress = export.progress();
        let Some(counts) = &progress.chosen else { return Ok(()) };
        let Some(places) = self.places(export, &progress, rows)? else { return self.begin_again(export) };
        let mut places: Vec<u64> = places.into_iter().map(|(place, _)| place).collect();
        places.dedup();
        if places.is_empty() { Ok(()) } else { self.take_out(export, &places, counts, are_kept) }
    }

    /// Removes the orders at these indexes of the selection, or makes them wait for their pseudonym.
    fn take_out(&self, export: &Export, places: &[u64], counts: &[u64], are_kept: bool) -> io::Result<()> {
        let progress = export.progress();
        let are_kept = are_kept && !export.spec.filters.has("q");
        if places[0] < progress.checkpoint.orders {
            return self.splice(export, places, are_kept);
        }
        self.cut_tail(export, &progress.checkpoint)?;
        if !are_kept {
            return self.leave_out(export, places, counts);
        }
        let progress = Progress { awaits_pseudonym: true, ..Progress::clone(&progress) };
        self.publish(export, progress, true)?;
        // If a power cut restored the older `progress.json`, it would replace the state just written, because it
        // covers as many bytes.
        durable::remove(&self.folder_of(&export.id).join(PROGRESS))
    }

    /// Truncates the files at the checkpoint. A killed process may have written bytes after it, and these may contain
    /// orders that the file must not contain.
    fn cut_tail(&self, export: &Export, checkpoint: &Checkpoint) -> io::Result<()> {
        for (name, bytes) in
            [(FILE, checkpoint.bytes), (BESIDE, checkpoint.beside), (MARKS, checkpoint.marks)]
        {
            let file = opened(self, export, name)?;
            if file.metadata()?.len() > bytes {
                file.set_len(bytes)?;
                file.sync_all()?;
            }
        }
        Ok(())
    }

    /// Deletes the file. The next job selects the orders again and writes another file.
    pub(super) fn begin_again(&self, export: &Export) -> io::Result<()> {
        let progress = export.progress();
        let generation = progress.generation + 1;
        self.publish(export, Progress { generation, ..Progress::begin() }, true)?;
        self.drop_files(export)?;
        export.reached.store(0, Ordering::Relaxed);
        tracing::info!(
            export = export.id.as_str(),
            generation,
            "an export restarts because a person was erased"
        );
        Ok(())
    }

    fn take_away(&self, export: &Export) -> io::Result<()> {
        let progress = Progress {
            state: ExportState::Erased,
            chosen: None,
            checkpoint: Checkpoint::default(),
            expires_us: Some(self.expires_us(clock::unix_us())),
            error: Some(REASON.to_owned()),
            ..Progress::clone(&export.progress())
        };
        self.publish(export, progress, true)?;
        self.drop_files(export)?;
        tracing::info!(
            export = export.id.as_str(),
            "the file of an export was deleted because it contained an erased person"
        );
        Ok(())
    }

    /// Returns the indexes of these rows in the selection, each with its person, or `None` if they can no longer be
    /// determined.
    fn places(
        &self,
        export: &Export,
        progress: &Progress,
        rows: RowsOf<'_>,
    ) -> io::Result<Option<Vec<(u64, usize)>>> {
        let folder = self.folder_of(&export.id);
        let counts = progress.chosen.as_deref().filter(|counts| counts.len() == rows.len());
        let (Some(counts), Some(orders)) = (counts, progress.orders()) else { return Ok(None) };
        let file = match File::open(folder.join(CHOSEN)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if file.metadata()?.len() != orders * CHOSEN_BYTES {
            return Ok(None);
        }
        let mut looking =
            SelectionSearch { chosen: BufReader::with_capacity(256 * 1024, file), at: 0, places: Vec::new() };
        if progress.spliced > 0 {
            let Some(blocks) = Blocks::open(&folder.join(MARKS), &progress.checkpoint)? else {
                return Ok(None);
            };
            for block in blocks {
                let block = block?;
                if block.orders.end > progress.spliced {
                    break;
                }
                for run in block.runs {
                    let Some(rows) = rows.get(run.shard as usize) else { return Ok(None) };
                    looking.search(run.places.end - run.places.start, rows)?;
                }
            }
            if looking.at != progress.spliced {
                return Ok(None);
            }
        }
        for (count, rows) in counts.iter().zip(rows) {
            looking.search(*count, rows)?;
        }
        Ok(Some(looking.places))
    }

    /// Removes from the selection orders that are not in the file yet. After a crash in the middle, the length of
    /// `chosen` differs from the counts, which the job detects.
    fn leave_out(&self, export: &Export, places: &[u64], counts: &[u64]) -> io::Result<()> {
        let folder = self.folder_of(&export.id);
        copy_without(&folder, places)?;
        fs::rename(folder.join(CHOSEN_NEW), folder.join(CHOSEN))?;
        let spliced = export.progress().spliced;
        let (mut left, mut end) = (Vec::with_capacity(counts.len()), spliced);
        for count in counts {
            let (from, to) = (end, end + count);
            end = to;
            let gone =
                places.partition_point(|place| *place < to) - places.partition_point(|place| *place < from);
            left.push(count - gone as u64);
        }
        self.publish(export, Progress { chosen: Some(left), ..Progress::clone(&export.progress()) }, true)
    }
}

/// Returns `true` if an export has selected its orders, and still has a file or will have one.
fn has_selection(progress: &Progress) -> bool {
    match progress.state {
        ExportState::Done => true,
        ExportState::Queued | ExportState::Running => progress.chosen.is_some(),
        ExportState::Failed | ExportState::Expired | ExportState::Erased => false,
    }
}

/// Returns the people to whom an export's filters or its key refer.
fn named_in(export: &Export, who_is: &dyn Fn(&str) -> Vec<usize>) -> Vec<usize> {
    let mut who: Vec<usize> = export.key.as_deref().map(who_is).unwrap_or_default();
    who.extend(export.spec.filters.that_may_name_people().flat_map(who_is));
    who.sort_unstable();
    who.dedup();
    who
}

/// Returns `true` if the filters or the key of an export of clicks identify a user.
fn is_of_user(export: &Export, user_id: i64) -> bool {
    export.spec.filters.user_id() == Some(user_id) || export.key.as_deref() == Some(&user_id.to_string())
}

/// A search of the selection for people's orders.
struct SelectionSearch {
    chosen: BufReader<File>,
    at: u64,
    places: Vec<(u64, usize)>,
}

impl SelectionSearch {
    /// Searches the next `count` orders, which all belong to one shard. `rows` are the people's orders in that shard.
    fn search(&mut self, count: u64, rows: &[(i64, usize)]) -> io::Result<()> {
        for place in self.at..self.at + count {
            let mut word = [0; CHOSEN_BYTES as usize];
            self.chosen.read_exact(&mut word)?;
            let id = id_of(u64::from_le_bytes(word));
            let found = rows[rows.partition_point(|(row, _)| *row < id)..].iter();
            let people = found.take_while(|(row, _)| *row == id).map(|(_, person)| *person);
            self.places.extend(people.map(|person| (place, person)));
        }
        self.at += count;
        Ok(())
    }
}

fn copy_without(folder: &Path, places: &[u64]) -> io::Result<()> {
    let mut from = BufReader::with_capacity(256 * 1024, File::open(folder.join(CHOSEN))?);
    let mut to = BufWriter::with_capacity(256 * 1024, File::create(folder.join(CHOSEN_NEW))?);
    let mut at = 0;
    for place in places {
        io::copy(&mut from.by_ref().take((place - at) * CHOSEN_BYTES), &mut to)?;
        from.read_exact(&mut [0; CHOSEN_BYTES as usize])?;
        at = place + 1;
    }
    io::copy(&mut from, &mut to)?;
    to.flush()?;
    to.get_ref().sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;
    use crate::people::PersonMatcher;

    fn who_is(text: &str) -> Vec<usize> {
        let person = PersonMatcher::new(["c-17"], ["zaphod@heartofgold.example"], []);
        if person.matches_name(text) { vec![0] } else { Vec::new() }
    }

    /// Erases one person with these orders in the two shards.
    fn erase(store: &ExportStore, tenant: &str, rows: [&[i64]; 2]) -> u64 {
        let rows = rows.map(|ids| ids.iter().map(|id| (*id, 0)).collect::<Vec<_>>());
        store.erase_people(tenant, &people(&rows, &who_is)).unwrap()[0]
    }

    /// Returns one person with these orders.
    fn people<'p>(orders: RowsOf<'p>, who_is: &'p dyn Fn(&str) -> Vec<usize>) -> PeopleInExports<'p> {
        PeopleInExports { orders, are_kept: false, events: &[], kept_events: &[], who_is, count: 1 }
    }

    /// Returns an export of two shards with orders 10 to 14 and 20 to 24. The first `told` of them are written.
    fn export(store: &ExportStore, state: ExportState, told: u64) -> Arc<Export> {
        export_of(store, r#"{"format":"ndjson"}"#, state, told)
    }

    fn export_of(store: &ExportStore, wish: &str, state: ExportState, told: u64) -> Arc<Export> {
        let export = store.create(record(wish)).unwrap();
        let words = [10..15_u64, 20..25].into_iter().flatten().flat_map(|id| (id << 3).to_le_bytes());
        fs::write(store.folder_of(&export.id).join(CHOSEN), words.collect::<Vec<_>>()).unwrap();
        fs::write(store.file_of(&export), "rows").unwrap();
        let checkpoint = Checkpoint { orders: told, bytes: 4, ..Checkpoint::default() };
        let progress = Progress { state, chosen: Some(vec![5, 5]), checkpoint, ..Progress::begin() };
        store.publish(&export, progress, false).unwrap();
        export
    }

    fn ids(store: &ExportStore, export: &Export) -> Vec<u64> {
        let bytes = fs::read(store.folder_of(&export.id).join(CHOSEN)).unwrap();
        bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word) >> 3).collect()
    }

    #[test]
    fn a_file_that_does_not_tell_of_the_person_stays_and_one_that_does_goes_with_a_reason() {
        let data = tempfile::tempdir().unwrap();
        let store = ExportStore::open(data.path(), 1 << 30, 1_000).unwrap();
        let tenant = record(r#"{"format":"csv"}"#).tenant;
        let done = export(&store, ExportState::Done, 10);
        // Row ids that only the other shard's orders have, and a row id that is in no export.
        assert_eq!(erase(&store, &tenant, [&[20, 99], &[10, 11]]), 0);
        assert_eq!(erase(&store, "other", [&[10], &[]]), 0);
        assert_eq!((done.progress().state, store.file_of(&done).exists()), (ExportState::Done, true));
        assert_eq!(erase(&store, &tenant, [&[], &[24]]), 1);
        assert_eq!((done.progress().state, store.file_of(&done).exists()), (ExportState::Erased, false));
        assert_eq!(done.to_json()["error"], REASON);
        assert!(store.find(&tenant, done.id.as_str()).is_some(), "it still says why");
        // An export whose orders are unknown.
        let unknown = export(&store, ExportState::Done, 10);
        fs::remove_file(store.folder_of(&unknown.id).join(CHOSEN)).unwrap();
        assert_eq!(erase(&store, &tenant, [&[], &[]]), 1);
        assert_eq!(unknown.progress().state, ExportState::Erased);
        // An export that filters by the person's e-mail address.
        let named =
            store.create(record(r#"{"format":"csv","filters":{"q":"zaphod@heartofgold.example"}}"#)).unwrap();
        assert_eq!(erase(&store, &tenant, [&[], &[]]), 1);
        assert!(store.find(&tenant, named.id.as_str()).is_none());
        // This removal also works while jobs may be running. An export that does not identify the person remains
        // unchanged.
        let named = store.create(record(r#"{"format":"csv","filters":{"customer_id":"c-17"}}"#)).unwrap();
        let running = export(&store, ExportState::Running, 3);
        assert_eq!(store.remove_identifying("other", &who_is).unwrap(), 0);
        assert_eq!(store.remove_identifying(&tenant, &who_is).unwrap(), 1);
        assert!(store.find(&tenant, named.id.as_str()).is_none());
        assert_eq!(ids(&store, &running).len(), 10);
    }

    /// A customer's id may equal a word of the server, or the id of a product.
    #[test]
    fn an_export_that_has_the_id_as_another_word_stays() {
        let data = tempfile::tempdir().unwrap();
        let store = ExportStore::open(data.path(), 1 << 30, 1_000).unwrap();
        let spec = r#"{"format":"csv","filters":{"status":["paid"],"category":"toys","product_id":["p-1"],"q":"ann"}}"#;
        let tenant = record(spec).tenant;
        let export = store.create(record(spec)).unwrap();
        for id in ["csv", "orders", "paid", "toys", "p-1", "queued", "none", "status", "order_id"] {
            let person = PersonMatcher::new([id], [], []);
            let who_is = |text: &str| if person.matches_name(text) { vec![0] } else { Vec::new() };
            assert_eq!(store.remove_identifying(&tenant, &who_is).unwrap(), 0, "{id}");
            let orders = [const { Vec::new() }; 2];
            let people = people(&orders, &who_is);
            assert_eq!(store.erase_people(&tenant, &people).unwrap(), [0], "{id}");
        }
        assert!(store.find(&tenant, export.id.as_str()).is_some());
        let ann = PersonMatcher::new(["ann"], [], []);
        let who_is = |text: &str| if ann.matches_name(text) { vec![0] } else { Vec::new() };
        assert_eq!(store.remove_identifying(&tenant, &who_is).unwrap(), 1);
    }

    /// Event 12 of the first shard refers to both people; events 20 and 24 of the second to the first of them.
    #[test]
    fn an_event_of_several_people_counts_for_each_and_leaves_once() {
        let data = tempfile::tempdir().unwrap();
        let store = ExportStore::open(data.path(), 1 << 30, 1_000).unwrap();
        let nobody = |_: &str| Vec::new();
        let (deleted, kept) = ([vec![], vec![(20, 0)]], [vec![(12, 0), (12, 1)], vec![(24, 0)]]);
        let people = PeopleInExports {
            orders: &[vec![(10, 2)], vec![]],
            are_kept: true,
            events: &deleted,
            kept_events: &kept,
            who_is: &nobody,
            count: 3,
        };
        let of_rows = |rows: &str, state, told| {
            let export = export_of(&store, &format!(r#"{{"format":"ndjson","rows":"{rows}"}}"#), state, told);
            let tenant = export.tenant.clone();
            (export, tenant)
        };
        let (running, tenant) = of_rows("events", ExportState::Running, 0);
        for name in [FILE, BESIDE, MARKS] {
            fs::write(store.folder_of(&running.id).join(name), "rows").unwrap();
        }
        let held = vec![(5, 0), (2, 0), (2, 1), (9, 0)];
        assert_eq!(store.holds(&running, &people).unwrap(), ExportHolds::Rows(held));
        assert_eq!(store.erase_people(&tenant, &people).unwrap(), [1, 1, 0]);
        assert_eq!(ids(&store, &running), [10, 11, 12, 13, 14, 21, 22, 23, 24]);
        assert!(running.progress().awaits_pseudonym);
        let (done, _) = of_rows("events", ExportState::Done, 10);
        let (orders, _) = of_rows("orders", ExportState::Done, 10);
        assert_eq!(store.pins_of(&tenant), Some(done.pins.clone()));
        assert_eq!(store.erase_people(&tenant, &people).unwrap(), [2, 2, 1]);
        for gone in [done, orders] {
            assert_eq!(gone.progress().state, ExportState::Erased);
        }
    }

    #[test]
    fn one_being_made_leaves_out_what_it_has_not_told_and_begins_again_where_it_has() {
        let data = tempfile::tempdir().unwrap();
        let store = ExportStore::open(data.path(), 1 << 30, 1_000).unwrap();
        let tenant = record(r#"{"format":"csv"}"#).tenant;
        let running = export(&store, ExportState::Running, 3);
        let etag = running.etag(&running.progress());
        assert_eq!(erase(&store, &tenant, [&[14], &[20, 23, 99]]), 1);
        assert_eq!(ids(&store, &running), [10, 11, 12, 13, 21, 22, 24]);
        let progress = running.progress();
        assert_eq!((progress.chosen.clone(), progress.checkpoint.orders), (Some(vec![4, 3]), 3));
        assert_eq!(running.etag(&progress), etag, "nothing that was told has changed");
        assert_eq!(erase(&store, &tenant, [&[12], &[]]), 1);
        let progress = running.progress();
        assert_eq!((progress.state, &progress.chosen, progress.generation), (ExportState::Queued, &None, 1));
        assert_ne!(running.etag(&progress), etag);
        assert!(!store.file_of(&running).exists() && !store.folder_of(&running.id).join(FILE).exists());
        assert_eq!(store.find(&tenant, running.id.as_str()).unwrap().id, running.id);
        // The export has not started, so there is nothing to remove.
        let queued = store.create(record(r#"{"format":"csv"}"#)).unwrap();
        assert_eq!(erase(&store, &tenant, [&[10], &[]]), 0);
        assert_eq!(queued.progress().generation, 0);
    }
}
