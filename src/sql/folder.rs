//! The shards of a data folder, open for reading, and the snapshot that one query sees.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rusqlite::Connection;

use super::plan::Sizes;
use super::stop::{STEPS, Stop};
use super::view::View;
use super::work::Work;
use crate::base::ids::ShardId;
use crate::base::keys::{KeyHash, KeyHasher};
use crate::shard::ids::{IdReader, IdsOf};
use crate::shard::{
    DataFolder, FolderError, Identity, PartitionInfo, ShardError, Stream, check_current, is_made,
    open_reader, partitions_of,
};

/// Memory for the pages of all shards together.
const CACHE_KIB: i64 = 64 * 1024;
/// Compiled statements of all shards together, each about 8 KB. A shard has at least 16.
const STATEMENTS: usize = 2_048;
/// Newest ids of all shards together that one query sorts, each 12 bytes. Those of the other shards are scanned.
const SORTED_IDS: usize = 5_000_000;

/// Why a folder cannot be queried. An answer from a part of the shards would be wrong, so one shard is enough.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("shard {}: {} does not exist; start the server once, or restore it from a backup", .0.0, .1.display())]
    Missing(ShardId, PathBuf),
    #[error("shard {}: {}: {why}", id.0, path.display())]
    Shard { id: ShardId, path: PathBuf, why: String },
}

/// The partitions of one stream.
type OfStream = (&'static Stream, Rc<Vec<PartitionInfo>>);

/// One open shard.
pub(super) struct Reader {
    pub(super) id: ShardId,
    path: PathBuf,
    identity: Option<Identity>,
    pub(super) connection: Rc<Connection>,
    /// The partitions by stream, as of the snapshot.
    partitions: RefCell<Vec<OfStream>>,
    /// The ids that were looked up, as of the snapshot.
    ids: RefCell<Vec<Lookups>>,
    pub(super) work: Arc<Work>,
}

/// The lookups of ids in one snapshot.
struct Lookups {
    of: &'static IdsOf,
    reader: IdReader,
    /// Set if the newest ids are sorted, or are too many.
    is_prepared: bool,
}

/// All shards of a folder.
pub(super) struct Folder {
    pub(super) readers: RefCell<Vec<Rc<Reader>>>,
    pub(super) keys: KeyHasher,
    pub(super) stop: Arc<Stop>,
    pub(super) work: Arc<Work>,
    /// The remaining part of [`SORTED_IDS`].
    sorted_ids: Cell<usize>,
    tenants: Cell<f64>,
    /// Sizes by view, as of the snapshot: SQLite asks for them many times for one statement.
    sizes: RefCell<Vec<(&'static str, Sizes)>>,
}

impl Folder {
    /// Opens every shard.
    pub(super) fn open(data: &Path, stop: Arc<Stop>) -> Result<Folder, OpenError> {
        let found = DataFolder::read_only(data)?;
        if found.reshard_marker().exists() {
            return Err(FolderError::Resharding(data.to_owned()).into());
        }
        // Each shard has up to four open files.
        let files = 4 * u64::from(found.manifest().shards) + 64;
        let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        if limit.current.is_some_and(|current| current < files) {
            limit.current = limit.maximum.map_or(Some(files), |maximum| Some(files.min(maximum)));
            // If it is refused and too low, opening a shard reports it.
            let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
        }
        let count = usize::from(found.manifest().shards);
        let work = Arc::default();
        let readers = found
            .shards()
            .map(|(id, folder)| Reader::open(id, folder.database(), count, (&stop, &work)).map(Rc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let keys = KeyHasher::new(&found.manifest().folder_id());
        let folder = Folder {
            readers: RefCell::new(readers),
            keys,
            stop,
            work,
            sorted_ids: Cell::new(SORTED_IDS),
            tenants: Cell::new(1.0),
            sizes: RefCell::default(),
        };
        folder.begin()?;
        let tenants = folder.each(|reader| count_of(reader, "SELECT count(*) FROM tenant_row"))?;
        folder.tenants.set(tenants.into_iter().fold(1.0, f64::max));
        folder.end();
        Ok(folder)
    }

    fn each<T>(&self, read: impl Fn(&Reader) -> Result<T, ShardError>) -> Result<Vec<T>, OpenError> {
        let readers = self.readers.borrow();
        readers.iter().map(|reader| read(reader).map_err(|error| reader.failed(&error))).collect()
    }

    pub(super) fn shards(&self) -> u16 {
        self.readers.borrow().len() as u16
    }

    /// Begins a read transaction in every shard, one directly after the other. A shard whose file was replaced is
    /// opened again.
    pub(super) fn begin(&self) -> Result<(), OpenError> {
        let count = usize::from(self.shards());
        self.sizes.borrow_mut().clear();
        self.sorted_ids.set(SORTED_IDS);
        self.work.reset();
        for reader in self.readers.borrow_mut().iter_mut() {
            let now = Identity::of(&reader.path).map_err(|error| reader.failed(&error.into()))?;
            if now.is_none() || now != reader.identity {
                *reader =
                    Rc::new(Reader::open(reader.id, reader.path.clone(), count, (&self.stop, &self.work))?);
            }
        }
        let begun = self.each(|reader| {
            reader.partitions.borrow_mut().clear();
            reader.ids.borrow_mut().clear();
            // Only the first read begins the transaction.
            reader.connection.execute_batch("BEGIN; SELECT 1 FROM partition LIMIT 1")?;
            check_current(&reader.connection)
        });
        if begun.is_err() {
            self.end();
        }
        begun.map(drop)
    }

    /// Ends the read transactions.
    pub(super) fn end(&self) {
        for reader in self.readers.borrow().iter().filter(|reader| !reader.connection.is_autocommit()) {
            // A read transaction that cannot be ended ends with the connection.
            let _ = reader.connection.execute_batch("ROLLBACK");
        }
    }

    /// Returns the rows of a shard that may have one of these ids.
    pub(super) fn find(
        &self,
        reader: &Reader,
        of: &'static IdsOf,
        hashes: &[KeyHash],
    ) -> Result<Vec<i64>, ShardError> {
        reader.work.start_statement();
        let mut all = reader.ids.borrow_mut();
        if let Some(known) = all.iter_mut().find(|known| std::ptr::eq(known.of, of)) {
            // The first lookup is often the only one. Sorting pays from the second one on.
            if !known.is_prepared {
                let sorted = known.reader.sort(&reader.connection, self.sorted_ids.get())?;
                self.sorted_ids.set(self.sorted_ids.get().saturating_sub(sorted));
                known.is_prepared = true;
            }
            return known.reader.find(&reader.connection, hashes);
        }
        let ids = IdReader::open(&reader.connection, of)?;
        let found = ids.find(&reader.connection, hashes);
        all.push(Lookups { of, reader: ids, is_prepared: false });
        found
    }

    /// Estimates the size of a view.
    pub(super) fn sizes(&self, view: &View) -> Result<Sizes, ShardError> {
        let known = self.sizes.borrow().iter().find(|(name, _)| *name == view.name).map(|(_, sizes)| *sizes);
        if let Some(known) = known {
            return Ok(known);
        }
        let readers = self.readers.borrow();
        let (mut rows, mut partitions) = (0.0, 0.0);
        for reader in readers.iter() {
            rows += count_of(reader, view.size)?;
            if let Some(stream) = view.stream() {
                partitions += reader.partitions(stream)?.len() as f64;
            }
        }
        let sizes = Sizes { rows, partitions, shards: readers.len() as f64, tenants: self.tenants.get() };
        self.sizes.borrow_mut().push((view.name, sizes));
        Ok(sizes)
    }
}

fn count_of(reader: &Reader, sql: &str) -> Result<f64, ShardError> {
    let count: i64 = reader.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(count as f64)
}

impl Reader {
    fn open(
        id: ShardId,
        path: PathBuf,
        shards: usize,
        (stop, work): (&Arc<Stop>, &Arc<Work>),
    ) -> Result<Reader, OpenError> {
        let failed = |error: ShardError| OpenError::Shard { id, path: path.clone(), why: remedy(&error) };
        let identity = Identity::of(&path).map_err(|error| failed(error.into()))?;
        if identity.is_none() {
            return Err(OpenError::Missing(id, path));
        }
        let mut connection = open_reader(&path).map_err(failed)?;
        let set = |connection: &mut Connection| {
            connection.pragma_update(None, "cache_size", -(CACHE_KIB / shards as i64).max(256))?;
            connection.set_prepared_statement_cache_capacity((STATEMENTS / shards).clamp(16, 256));
            let (stop, work) = (Arc::clone(stop), Arc::clone(work));
            let progress = move || {
                work.tick();
                stop.reason().is_some()
            };
            connection.progress_handler(STEPS, Some(progress))?;
            match is_made(connection)? {
                true => check_current(connection),
                false => {
                    Err(ShardError::Other("the server is still creating it; repeat in a moment".to_owned()))
                }
            }
        };
        set(&mut connection).map_err(failed)?;
        let (partitions, ids) = (RefCell::default(), RefCell::default());
        Ok(Reader {
            id,
            path,
            identity,
            connection: Rc::new(connection),
            partitions,
            ids,
            work: Arc::clone(work),
        })
    }

    /// Returns the partitions of a stream, as of the snapshot.
    pub(super) fn partitions(&self, stream: &'static Stream) -> Result<Rc<Vec<PartitionInfo>>, ShardError> {
        let known =
            self.partitions.borrow().iter().find(|(of, _)| *of == stream).map(|(_, found)| Rc::clone(found));
        if let Some(known) = known {
            return Ok(known);
        }
        let found = Rc::new(partitions_of(&self.connection, stream)?);
        // Outside of a snapshot, the partitions may change.
        if !self.connection.is_autocommit() {
            self.partitions.borrow_mut().push((stream, Rc::clone(&found)));
        }
        Ok(found)
    }

    pub(super) fn failed(&self, error: &ShardError) -> OpenError {
        OpenError::Shard { id: self.id, path: self.path.clone(), why: remedy(error) }
    }
}

/// Returns an error with what a reader can do about it.
fn remedy(error: &ShardError) -> String {
    match error {
        ShardError::Other(why) if why.contains("unable to open") => format!(
            "{why}; reading a database in WAL mode requires permission to write to its folder, unless a server has it open"
        ),
        other => other.to_string(),
    }
}
