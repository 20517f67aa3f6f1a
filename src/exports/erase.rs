//! Removes people from a tenant's exports.
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
use std::sync::atomic::Ordering;

use super::file::{CHOSEN_BYTES, opened};
use super::marks::Blocks;
use super::record::{Checkpoint, Export, ExportState, Progress};
use super::store::{BESIDE, CHOSEN, ExportStore, FILE, MARKS, PROGRESS};
use crate::base::{clock, durable};

const CHOSEN_NEW: &str = "chosen.new";
/// The error that the export of a deleted file reports to clients.
const REASON: &str = "it contained a person who was erased";

/// The people whose data is searched for in exports, or removed from them.
pub struct PeopleInExports<'p> {
    /// The sorted ids of their orders in each shard, each with its person.
    pub rows: &'p [Vec<(i64, usize)>],
    /// Returns the people to whom a text refers.
    pub who_is: &'p dyn Fn(&str) -> Vec<usize>,
    /// The number of people.
    pub count: usize,
}

/// What an export holds of people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportHolds {
    Nothing,
    /// Its filters or its key refer to these people.
    Named(Vec<usize>),
    /// Its selection has orders of people: their indexes in it, each with its person.
    Orders(Vec<(u64, usize)>),
    /// Its orders can no longer be determined. It may contain anyone.
    MayBeAnyone,
}

/// The members of an export's filters that are words of the server's own, times, amounts, or names of goods. They
/// equal the id of a person only by chance.
const NOT_OF_PEOPLE: [&str; 13] = [
    "from",
    "to",
    "start_date",
    "end_date",
    "tz",
    "product_id",
    "category",
    "min_price",
    "max_price",
    "currency",
    "status",
    "min_total",
    "max_total",
];

impl ExportStore {
    /// Removes people from the tenant's exports. If `are_kept`, their orders remain under another name; otherwise,
    /// they are deleted. Returns the number of affected exports for each person. Reads 8 bytes for each order in the
    /// tenant's exports.
    ///
    /// # Errors
    /// Returns the first I/O error, after it has processed all exports. Another call retries the exports with errors.
    pub fn erase_people(
        &self,
        tenant: &str,
        people: &PeopleInExports<'_>,
        are_kept: bool,
    ) -> io::Result<Vec<u64>> {
        let mut counts = vec![0; people.count];
        self.each_of(tenant, |export| {
            for person in self.erase_from(export, people, are_kept)? {
                counts[person] += 1;
            }
            Ok(())
        })?;
        Ok(counts)
    }

    /// Removes the tenant's exports whose filters or key refer to a person. Jobs may be running. Returns the number
    /// of removed exports.
    ///
    /// # Errors
    /// Returns the first I/O error, after it has processed all exports. Another call retries the exports with errors.
    pub fn remove_identifying(&self, tenant: &str, who_is: &dyn Fn(&str) -> Vec<usize>) -> io::Result<u64> {
        let mut count = 0;
        self.each_of(tenant, |export| {
            if named_in(export, who_is)?.is_empty() {
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
        let named = named_in(export, people.who_is)?;
        if !named.is_empty() {
            return Ok(ExportHolds::Named(named));
        }
        let progress = export.progress();
        if !has_selection(&progress) {
            return Ok(ExportHolds::Nothing);
        }
        Ok(match self.places(export, &progress, people.rows)? {
            None => ExportHolds::MayBeAnyone,
            Some(places) if places.is_empty() => ExportHolds::Nothing,
            Some(places) => ExportHolds::Orders(places),
        })
    }

    /// Removes people from an export. Returns those whom it held.
    fn erase_from(
        &self,
        export: &Export,
        people: &PeopleInExports<'_>,
        are_kept: bool,
    ) -> io::Result<Vec<usize>> {
        let progress = export.progress();
        let is_done = progress.state == ExportState::Done;
        let who = match self.holds(export, people)? {
            // Without a selection, or without a file any more. A crash may still have left files.
            ExportHolds::Nothing if !has_selection(&progress) => {
                return self.drop_files(export).map(|()| Vec::new());
            }
            ExportHolds::Nothing => return Ok(Vec::new()),
            ExportHolds::Named(who) => {
                self.remove(export)?;
                return Ok(who);
            }
            ExportHolds::MayBeAnyone => {
                if is_done {
                    self.take_away(export)?
                } else {
                    self.begin_again(export)?
                }
                return Ok((0..people.count).collect());
            }
            ExportHolds::Orders(orders) => orders,
        };
        let (places, mut who): (Vec<u64>, Vec<usize>) = who.into_iter().unzip();
        match &progress.chosen {
            Some(counts) if !is_done => self.take_out(export, &places, counts, are_kept)?,
            _ => self.take_away(export)?,
        }
        who.sort_unstable();
        who.dedup();
        Ok(who)
    }

    /// Removes the orders at these indexes of the selection, or makes them wait for their pseudonym.
    fn take_out(&self, export: &Export, places: &[u64], counts: &[u64], are_kept: bool) -> io::Result<()> {
        let progress = export.progress();
        let are_kept = are_kept && export.spec.filters.q.is_none();
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
        rows: &[Vec<(i64, usize)>],
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
fn named_in(export: &Export, who_is: &dyn Fn(&str) -> Vec<usize>) -> io::Result<Vec<usize>> {
    let mut who: Vec<usize> = export.key.as_deref().map(who_is).unwrap_or_default();
    let filters = serde_json::to_value(&export.spec.filters).map_err(io::Error::other)?;
    let members = filters.as_object().into_iter().flatten();
    for (_, value) in members.filter(|(name, _)| !NOT_OF_PEOPLE.contains(&name.as_str())) {
        let one = std::slice::from_ref(value);
        let values = value.as_array().map_or(one, Vec::as_slice);
        who.extend(values.iter().filter_map(|value| value.as_str()).flat_map(who_is));
    }
    who.sort_unstable();
    who.dedup();
    Ok(who)
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
            let id = (u64::from_le_bytes(word) >> 3) as i64;
            if let Ok(row) = rows.binary_search_by_key(&id, |(row, _)| *row) {
                self.places.push((place, rows[row].1));
            }
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
    use std::sync::Arc;

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
        let people = PeopleInExports { rows: &rows, who_is: &who_is, count: 1 };
        store.erase_people(tenant, &people, false).unwrap()[0]
    }

    /// Returns an export of two shards with orders 10 to 14 and 20 to 24. The first `told` of them are written.
    fn export(store: &ExportStore, state: ExportState, told: u64) -> Arc<Export> {
        let export = store.create(record(r#"{"format":"ndjson"}"#)).unwrap();
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
            let people = PeopleInExports { rows: &[vec![], vec![]], who_is: &who_is, count: 1 };
            assert_eq!(store.erase_people(&tenant, &people, false).unwrap(), [0], "{id}");
        }
        assert!(store.find(&tenant, export.id.as_str()).is_some());
        let ann = PersonMatcher::new(["ann"], [], []);
        let who_is = |text: &str| if ann.matches_name(text) { vec![0] } else { Vec::new() };
        assert_eq!(store.remove_identifying(&tenant, &who_is).unwrap(), 1);
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
