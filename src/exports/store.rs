//! A data folder's exports: their files, their limits and the bytes that they use.
//!
//! Each export has a folder. It contains `state.json`, which is replaced as a whole and synced, and `file`, which
//! clients download. While the file is written, the folder also contains `chosen`, `marks`, for Parquet `groups`, and
//! `progress.json`, a newer state that is not synced. After a kill, `progress.json` is valid. After a power cut, it
//! may contain anything. If it is unreadable or older, `state.json` applies. All exports are in memory too, so that
//! requests for them need no disk access.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use arc_swap::ArcSwap;

use super::record::{Export, ExportId, ExportRecord, ExportState, Progress};
use super::splice;
use crate::base::{clock, durable};

/// The name of the folder within the data folder.
const FOLDER: &str = "exports";
const STATE: &str = "state.json";
pub(super) const PROGRESS: &str = "progress.json";
pub(super) const FILE: &str = "file";
pub(super) const CHOSEN: &str = "chosen";
pub(super) const BESIDE: &str = "groups";
pub(super) const MARKS: &str = "marks";
/// The names of all files except the states.
pub(super) const FILES: [&str; 4] = [FILE, CHOSEN, BESIDE, MARKS];
/// The prefix that a folder's name gets before the folder is removed, so that a crash leaves no incomplete export.
const GONE: &str = "gone-";
/// The maximum number of exports of all tenants. Each takes 2 KiB of memory.
const EXPORTS_MAX: usize = 2_000;
/// The maximum number of exports of one tenant.
const EXPORTS_PER_TENANT_MAX: usize = 200;
/// The minimum number of free bytes for a new export. With less, it is useless to start one.
const ROOM_MIN: u64 = 32 * 1024;

/// Why an export is not created.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("the exports together have reached the limit of {bytes_max} bytes")]
    NoRoom { bytes_max: u64 },
    #[error("the limit of exports is reached: {EXPORTS_PER_TENANT_MAX} per tenant, {EXPORTS_MAX} in total")]
    TooMany,
    #[error("the disk refused the write: {0}")]
    Io(#[from] io::Error),
}

/// Holds a tenant's exports. While this guard exists, no job starts to work on them, and a running job stops. See
/// [`ExportStore::hold`].
#[derive(Debug)]
pub struct Hold {
    store: Arc<ExportStore>,
    tenant: String,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.store.held.rcu(|held| {
            let mut held = Vec::clone(held);
            if let Some(at) = held.iter().position(|tenant| *tenant == self.tenant) {
                held.swap_remove(at);
            }
            held
        });
        self.store.wake();
    }
}

/// All exports in one data folder.
#[derive(Debug)]
pub struct ExportStore {
    folder: PathBuf,
    bytes_max: u64,
    expiry_us: i64,
    bytes: AtomicU64,
    all: ArcSwap<Vec<Arc<Export>>>,
    /// Tenants whose exports are held. A tenant is listed once for each [`Hold`].
    held: ArcSwap<Vec<String>>,
    /// A channel whose message means that there may be an export to run.
    wake: (async_channel::Sender<()>, async_channel::Receiver<()>),
    /// The number of rows written, for the metrics.
    pub rows_total: AtomicU64,
    /// The number of exports done, for the metrics.
    pub done_total: AtomicU64,
    /// The number of exports failed, for the metrics.
    pub failed_total: AtomicU64,
}

impl ExportStore {
    /// Reads the existing exports, removes those that a crash left incomplete, and completes renames. Reads one
    /// folder and one or two small files for each export.
    ///
    /// # Errors
    /// Returns I/O errors.
    pub fn open(data: &Path, bytes_max: u64, expiry_us: i64) -> io::Result<ExportStore> {
        let folder = data.join(FOLDER);
        durable::create_folder(&folder)?;
        let mut all = Vec::new();
        let mut bytes = 0;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(id) = ExportId::parse(name) else {
                if name.starts_with(GONE) {
                    fs::remove_dir_all(&path)?;
                }
                continue;
            };
            match fs::read(path.join(STATE)) {
                Ok(written) => match serde_json::from_slice::<ExportRecord>(&written) {
                    Ok(record) if record.id == id => {
                        splice::settle(&path, record.progress.generation)?;
                        let export = Export::new(newest(record, &path));
                        let held = FILES.iter().map(|name| size(&path.join(name))).sum();
                        export.held.store(held, Ordering::Relaxed);
                        bytes += held;
                        all.push(Arc::new(export));
                    }
                    // Neither a request nor an erasure could find this export.
                    _ => {
                        tracing::error!(
                            export = name,
                            "the state of an export is invalid; the export is \
                                                        removed"
                        );
                        fs::remove_dir_all(&path)?;
                    }
                },
                // The client that requested the export got no response.
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::remove_dir_all(&path)?,
                Err(error) => return Err(error),
            }
        }
        all.sort_by(|one, other| {
            (one.created_us, one.id.as_str()).cmp(&(other.created_us, other.id.as_str()))
        });
        Ok(ExportStore {
            folder,
            bytes_max,
            expiry_us,
            bytes: AtomicU64::new(bytes),
            all: ArcSwap::from_pointee(all),
            held: ArcSwap::default(),
            wake: async_channel::bounded(1),
            rows_total: AtomicU64::new(0),
            done_total: AtomicU64::new(0),
            failed_total: AtomicU64::new(0),
        })
    }

    #[must_use]
    pub fn folder_of(&self, id: &ExportId) -> PathBuf {
        self.folder.join(id.as_str())
    }

    /// Returns the path of the file that clients download.
    #[must_use]
    pub fn file_of(&self, export: &Export) -> PathBuf {
        self.folder_of(&export.id).join(FILE)
    }

    /// Returns the number of bytes that all exports use.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns all exports, oldest first.
    #[must_use]
    pub fn all(&self) -> Arc<Vec<Arc<Export>>> {
        self.all.load_full()
    }

    /// Returns the tenant's export with this id.
    #[must_use]
    pub fn find(&self, tenant: &str, id: &str) -> Option<Arc<Export>> {
        let all = self.all.load();
        all.iter().find(|export| export.id.as_str() == id && export.tenant == tenant).cloned()
    }

    /// Returns the tenant's export that was requested with this idempotency key.
    #[must_use]
    pub fn find_key(&self, tenant: &str, key: &str) -> Option<Arc<Export>> {
        let all = self.all.load();
        all.iter().find(|export| export.tenant == tenant && export.key.as_deref() == Some(key)).cloned()
    }

    /// Waits until there may be an export to run.
    pub async fn wanted(&self) {
        let _ = self.wake.1.recv().await;
    }

    /// Wakes the task that waits for [`ExportStore::wanted`], so that it checks again.
    pub fn wake(&self) {
        let _ = self.wake.0.try_send(());
    }

    /// Checks that another export may be created.
    ///
    /// # Errors
    /// Returns [`ExportError::NoRoom`] or [`ExportError::TooMany`] if the limits do not permit another export.
    pub fn has_room(&self, tenant: &str) -> Result<(), ExportError> {
        if !has_place(&self.all.load(), tenant) {
            return Err(ExportError::TooMany);
        }
        if self.bytes() + ROOM_MIN > self.bytes_max {
            return Err(ExportError::NoRoom { bytes_max: self.bytes_max });
        }
        Ok(())
    }

    /// Prevents work on the tenant's exports until the guard is dropped. A running job stops after a batch, possibly
    /// only after some seconds. Call [`ExportStore::is_at_rest`] to learn whether it has stopped.
    #[must_use]
    pub fn hold(self: &Arc<ExportStore>, tenant: &str) -> Hold {
        self.held.rcu(|held| {
            let mut held = Vec::clone(held);
            held.push(tenant.to_owned());
            held
        });
        fence(Ordering::SeqCst);
        Hold { store: self.clone(), tenant: tenant.to_owned() }
    }

    /// Returns `true` if no job is working on the tenant's exports. If a [`Hold`] exists, no job starts to work on
    /// them until the hold is released.
    #[must_use]
    pub fn is_at_rest(&self, tenant: &str) -> bool {
        let all = self.all.load();
        !all.iter().any(|export| export.tenant == tenant && export.running.load(Ordering::SeqCst))
    }

    #[must_use]
    pub fn is_held(&self, tenant: &str) -> bool {
        self.held.load().iter().any(|held| held == tenant)
    }

    /// Creates an export. Once this function returns, the export survives a power cut.
    ///
    /// # Errors
    /// Returns the errors of [`ExportStore::has_room`], or I/O errors. In that case, nothing of the export remains.
    pub fn create(&self, record: ExportRecord) -> Result<Arc<Export>, ExportError> {
        self.has_room(&record.tenant)?;
        let export = Arc::new(Export::new(record));
        let folder = self.folder_of(&export.id);
        let made = fs::create_dir(&folder)
            .and_then(|()| self.write(&export, &export.progress(), true))
            .and_then(|()| durable::sync_folder(&self.folder));
        if let Err(error) = made {
            let _ = fs::remove_dir_all(&folder);
            return Err(error.into());
        }
        // Another core may have taken the last slot in the meantime.
        let mut is_in = false;
        self.all.rcu(|all| {
            let mut all = Vec::clone(all);
            is_in = has_place(&all, &export.tenant);
            if is_in {
                all.push(export.clone());
            }
            all
        });
        if !is_in {
            let _ = fs::remove_dir_all(&folder);
            return Err(ExportError::TooMany);
        }
        self.wake();
        Ok(export)
    }

    /// Writes the progress to disk, then sets it in memory. If `synced`, it survives a power cut.
    ///
    /// # Errors
    /// Returns I/O errors. In that case, the earlier progress remains.
    pub fn publish(&self, export: &Export, progress: Progress, synced: bool) -> io::Result<()> {
        self.write(export, &progress, synced)?;
        export.progress.store(Arc::new(progress));
        Ok(())
    }

    pub(super) fn write(&self, export: &Export, progress: &Progress, synced: bool) -> io::Result<()> {
        let folder = self.folder_of(&export.id);
        let record = serde_json::to_vec(&export.record(progress.clone())).map_err(io::Error::other)?;
        if synced {
            durable::replace(&folder.join(STATE), &record)?;
            // `progress.json` is now older. If it reappears, it is recognised as older.
            let _ = fs::remove_file(folder.join(PROGRESS));
            return Ok(());
        }
        let draft = durable::draft_of(&folder.join(PROGRESS));
        fs::write(&draft, record)?;
        fs::rename(draft, folder.join(PROGRESS))
    }

    /// Charges bytes that are about to be written.
    ///
    /// # Errors
    /// Returns [`ExportError::NoRoom`]. In that case, nothing is charged.
    pub(super) fn charge(&self, export: &Export, bytes: u64) -> Result<(), ExportError> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.bytes_max {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(ExportError::NoRoom { bytes_max: self.bytes_max });
        }
        export.held.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Sets an export's charge to the number of bytes that its files use now.
    pub(super) fn recharge(&self, export: &Export, bytes: u64) {
        let held = export.held.swap(bytes, Ordering::Relaxed);
        // The total changes in one step, so that another job never sees both charges.
        match bytes.checked_sub(held) {
            Some(more) => self.bytes.fetch_add(more, Ordering::Relaxed),
            None => self.bytes.fetch_sub(held - bytes, Ordering::Relaxed),
        };
    }

    /// Marks an export as failed, with the reason. Deletes its files, which takes a while for a large file.
    pub fn fail(&self, export: &Export, reason: &str) {
        let mut progress = Progress::clone(&export.progress());
        let now_us = clock::unix_us();
        progress.state = ExportState::Failed;
        progress.error = Some(reason.to_owned());
        progress.finished_us = Some(now_us);
        progress.expires_us = Some(now_us.saturating_add(self.expiry_us));
        let _ = self.drop_files(export);
        self.failed_total.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.write(export, &progress, true)
            && !export.is_removed()
        {
            // After a restart, the export runs again, and may fail again.
            tracing::error!(export = export.id.as_str(), %error, "the state of an export cannot be written");
        }
        export.progress.store(Arc::new(progress));
    }

    /// Releases the whole charge of an export that was removed and is no longer being written.
    pub fn release(&self, export: &Export) {
        self.recharge(export, 0);
    }

    /// Returns the expiry time of an export that ends now.
    pub(super) fn expires_us(&self, now_us: i64) -> i64 {
        now_us.saturating_add(self.expiry_us)
    }

    /// Removes the export's files. They do not reappear after a power cut.
    ///
    /// # Errors
    /// Returns the first I/O error, after it has removed all files that it can.
    pub(super) fn drop_files(&self, export: &Export) -> io::Result<()> {
        let folder = self.folder_of(&export.id);
        let (mut outcome, mut is_changed) = (Ok(()), false);
        for name in FILES {
            match fs::remove_file(folder.join(name)) {
                Ok(()) => is_changed = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        export.seen.store(None);
        self.recharge(export, 0);
        if is_changed { outcome.and(durable::sync_folder(&folder)) } else { outcome }
    }

    /// Removes an export. From now on, no request finds it, and its downloads are aborted. The next
    /// [`ExportStore::sweep`] deletes its files.
    ///
    /// # Errors
    /// Returns I/O errors. In that case, the export still exists.
    pub fn remove(&self, export: &Export) -> io::Result<()> {
        let gone = self.folder.join(format!("{GONE}{}", export.id.as_str()));
        // Set first, so that a job whose files disappear knows the reason.
        export.removed.store(true, Ordering::Release);
        match durable::rename(&self.folder_of(&export.id), &gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                export.removed.store(false, Ordering::Release);
                return Err(error);
            }
            _ => {}
        }
        self.release(export);
        self.all.rcu(|all| {
            let mut all = Vec::clone(all);
            all.retain(|known| known.id != export.id);
            all
        });
        self.wake();
        Ok(())
    }

    /// Deletes the files of all removed exports. Takes some milliseconds per gigabyte.
    ///
    /// # Errors
    /// Returns the first I/O error, after it has deleted all files that it can.
    pub fn sweep(&self) -> io::Result<()> {
        let (mut outcome, mut is_changed) = (Ok(()), false);
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if !entry.file_name().as_encoded_bytes().starts_with(GONE.as_bytes()) {
                continue;
            }
            is_changed = true;
            match fs::remove_dir_all(entry.path()) {
                // If the folder is not found, another sweep has already deleted it.
                Err(error) if error.kind() != io::ErrorKind::NotFound => outcome = outcome.and(Err(error)),
                _ => {}
            }
        }
        // An erasure relies on the deletion being durable.
        if is_changed { outcome.and(durable::sync_folder(&self.folder)) } else { outcome }
    }

    /// Deletes the files of expired exports. Once the expiry time has passed again, deletes the exports themselves.
    pub fn expire(&self, now_us: i64) {
        for export in self.all().iter() {
            let progress = export.progress();
            if progress.state.is_open() || progress.expires_us.is_none_or(|at_us| at_us > now_us) {
                continue;
            }
            let outcome = if progress.state == ExportState::Done {
                let next = Progress {
                    state: ExportState::Expired,
                    expires_us: Some(self.expires_us(now_us)),
                    ..Progress::clone(&progress)
                };
                let published = self.publish(export, next, true);
                let published = published.and_then(|()| self.drop_files(export));
                if published.is_ok() {
                    tracing::info!(export = export.id.as_str(), "an export expired");
                }
                published
            } else {
                self.remove(export)
            };
            if let Err(error) = outcome {
                tracing::warn!(export = export.id.as_str(), %error, "an expired export cannot be removed");
            }
        }
        if let Err(error) = self.sweep() {
            tracing::warn!(%error, "files of removed exports remain");
        }
    }
}

/// Returns the unsynced record if it belongs to the same run and has advanced at least as far. Otherwise, returns the
/// synced one.
fn newest(synced: ExportRecord, folder: &Path) -> ExportRecord {
    let beside = fs::read(folder.join(PROGRESS)).ok();
    let beside = beside.and_then(|written| serde_json::from_slice::<ExportRecord>(&written).ok());
    let place = |progress: &Progress| (progress.generation, progress.checkpoint.bytes);
    let is_newer = |beside: &ExportRecord| {
        let (old, new) = (&synced.progress, &beside.progress);
        old.state.is_open()
            && new.state.is_open()
            && (&old.chosen, old.spliced) == (&new.chosen, new.spliced)
            && place(new) >= place(old)
    };
    beside.filter(|beside| beside.id == synced.id && is_newer(beside)).unwrap_or(synced)
}

fn has_place(all: &[Arc<Export>], tenant: &str) -> bool {
    let of_tenant = all.iter().filter(|export| export.tenant == tenant).count();
    all.len() < EXPORTS_MAX && of_tenant < EXPORTS_PER_TENANT_MAX
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn room_is_taken_and_given_back_and_counted_again_after_a_start() {
        let data = tempfile::tempdir().unwrap();
        let bytes_max = ROOM_MIN + 100;
        let store = ExportStore::open(data.path(), bytes_max, 1_000).unwrap();
        let one = store.create(record(r#"{"format":"csv"}"#)).unwrap();
        let other = store.create(record(r#"{"format":"csv"}"#)).unwrap();
        store.charge(&one, 60).unwrap();
        assert!(matches!(store.charge(&other, ROOM_MIN + 41), Err(ExportError::NoRoom { bytes_max: _ })));
        store.has_room("x").unwrap();
        store.charge(&other, ROOM_MIN + 40).unwrap();
        assert!(matches!(store.has_room("x"), Err(ExportError::NoRoom { .. })));
        fs::write(store.file_of(&one), [0; 60]).unwrap();
        // The folders of an incomplete export and of a removed one, as after a crash.
        fs::create_dir(store.folder_of(&ExportId::random().unwrap())).unwrap();
        fs::create_dir(data.path().join("exports/gone-x")).unwrap();
        let again = ExportStore::open(data.path(), 100, 1_000).unwrap();
        assert_eq!((again.bytes(), again.all().len()), (60, 2));
        assert_eq!(fs::read_dir(data.path().join("exports")).unwrap().count(), 2);
        let found = again.find(&one.tenant, one.id.as_str()).unwrap();
        assert!(again.find("other", one.id.as_str()).is_none());
        again.remove(&found).unwrap();
        again.sweep().unwrap();
        assert!(found.is_removed() && again.find(&one.tenant, one.id.as_str()).is_none());
        assert_eq!((again.bytes(), again.all().len()), (0, 1));
    }

    #[test]
    fn what_is_over_loses_its_bytes_then_its_name() {
        let data = tempfile::tempdir().unwrap();
        let store = ExportStore::open(data.path(), 2 * ROOM_MIN, 1_000).unwrap();
        let one = store.create(record(r#"{"format":"csv"}"#)).unwrap();
        store.expire(i64::MAX);
        assert_eq!(one.progress().state, ExportState::Queued);
        fs::write(store.file_of(&one), "x").unwrap();
        store.charge(&one, 1).unwrap();
        let done = Progress { state: ExportState::Done, expires_us: Some(5), ..Progress::begin() };
        store.publish(&one, done, true).unwrap();
        store.expire(4);
        assert_eq!((one.progress().state, store.bytes()), (ExportState::Done, 1));
        store.expire(5);
        assert_eq!((one.progress().state, store.bytes()), (ExportState::Expired, 0));
        assert!(!store.file_of(&one).exists());
        store.expire(1_004);
        assert_eq!(store.all().len(), 1);
        store.expire(1_005);
        assert_eq!((store.all().len(), fs::read_dir(data.path().join("exports")).unwrap().count()), (0, 0));
    }
}
