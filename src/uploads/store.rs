//! The folder of uploads. [`Quota`] counts the space that they occupy together.
//!
//! An upload occupies space as long as it has a body. The code that removes the file releases the space, so that the
//! space is released only once, even if something fails in between.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::body::Body;
use super::quota::{Full, Quota, QuotaShare, UPLOADS_MAX};
use super::record::{State, Upload, UploadId};
use crate::base::durable;

pub(super) const FOLDER: &str = "uploads";
pub(super) const INFO: &str = "info.json";
/// The prefix for the folder name of an upload whose info is unreadable.
const ASIDE: &str = "aside-";
/// The suffix for the folder name of an upload that is being created.
const MAKING: &str = ".new";
pub(super) const BODY: &str = "body";

/// Why an upload cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error(
        "the limit of {bytes_max} bytes for all running uploads, or the tenant's share of it, is reached"
    )]
    NoRoom { bytes_max: u64 },
    #[error("the limit of {UPLOADS_MAX} running uploads, or the tenant's share of it, is reached")]
    TooMany,
    #[error("the info file of upload {0} cannot be read")]
    Unreadable(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// All uploads, shared by the cores. Code that writes an upload must first ensure that it is the only writer.
#[derive(Debug)]
pub struct UploadStore {
    folder: PathBuf,
    bytes_max: u64,
    /// The space that running uploads use.
    room: Arc<Quota>,
    /// The ended uploads, oldest first. If there are too many, the oldest ones are removed.
    ended: (async_channel::Sender<UploadId>, async_channel::Receiver<UploadId>),
    /// The uploads that existed at the start. The flag is set once the upload's body has been compared with its
    /// checkpoint.
    checked: HashMap<UploadId, AtomicBool>,
}

impl UploadStore {
    /// Counts the existing uploads, removes those that a crash left incomplete, and sets unreadable ones aside. Reads
    /// one small file per upload.
    ///
    /// # Errors
    /// Returns file system errors.
    pub fn open(data: &Path, bytes_max: u64) -> io::Result<UploadStore> {
        let folder = data.join(FOLDER);
        durable::create_folder(&folder)?;
        let ended = async_channel::bounded(UPLOADS_MAX as usize);
        let room = Quota::new(bytes_max);
        let mut store = UploadStore { folder, bytes_max, room, ended, checked: HashMap::new() };
        let mut ended = Vec::new();
        for entry in fs::read_dir(&store.folder)? {
            let entry = entry?;
            if entry
                .file_name()
                .to_str()
                .and_then(|name| UploadId::parse(name.strip_suffix(MAKING)?))
                .is_some()
            {
                fs::remove_dir_all(entry.path())?;
            }
        }
        for id in store.ids()? {
            match store.load(&id) {
                Ok(Some(upload)) if upload.state == State::Receiving => {
                    if let Some(length) = store.length(&id) {
                        store.place(&upload).reserve(length);
                    }
                    store.checked.insert(id, AtomicBool::new(false));
                }
                Ok(Some(upload)) => {
                    gone(fs::remove_file(store.body_of(&id)))?;
                    ended.push((upload.expires_us, upload));
                }
                Ok(None) => gone(fs::remove_dir_all(store.folder_of(&id)))?,
                Err(UploadError::Unreadable(_)) => {
                    store.put_aside(&id)?;
                    tracing::error!(
                        upload = id.as_str(),
                        "the info file of an upload cannot be read; the upload is set aside until it \
                         expires"
                    );
                }
                Err(error) => tracing::error!(%error, "an upload cannot be continued"),
            }
        }
        ended.sort_by_key(|(expires_us, _)| *expires_us);
        for (_, upload) in ended {
            store.remember_ended(&upload);
        }
        Ok(store)
    }

    /// Returns `true` if the upload existed at the start and its body has not been checked since. The body's content
    /// may differ from the received bytes.
    #[must_use]
    pub fn is_unchecked(&self, id: &UploadId) -> bool {
        self.checked.get(id).is_some_and(|checked| !checked.load(Ordering::Relaxed))
    }

    /// Marks the body as checked.
    pub fn note_checked(&self, id: &UploadId) {
        if let Some(checked) = self.checked.get(id) {
            checked.store(true, Ordering::Relaxed);
        }
    }

    /// Sets aside an upload whose info is unreadable. No client can continue it. Its tenant is unknown, so the
    /// tenant's share is corrected only at the next start.
    ///
    /// # Errors
    /// Returns file system errors.
    pub fn set_aside(&self, id: &UploadId) -> io::Result<()> {
        let length = self.length(id);
        let put = self.put_aside(id);
        // The rename may have succeeded before a sync failed.
        if let Some(length) = length
            && !self.has_body(id)
        {
            self.room.place(None).give_back(length);
        }
        put
    }

    fn put_aside(&self, id: &UploadId) -> io::Result<()> {
        durable::rename(&self.folder_of(id), &self.folder.join(format!("{ASIDE}{}", id.as_str())))
    }

    /// Returns the ids of the uploads that were set aside.
    ///
    /// # Errors
    /// Returns file system errors.
    pub fn aside(&self) -> io::Result<Vec<String>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.strip_prefix(ASIDE));
            ids.extend(id.filter(|id| UploadId::parse(id).is_some()).map(str::to_owned));
        }
        Ok(ids)
    }

    /// Removes the uploads that were set aside and have not been written since `before_us`. Returns their number.
    ///
    /// # Errors
    /// Returns the first file system error, after it has tried all uploads.
    pub fn remove_aside(&self, before_us: i64) -> io::Result<u64> {
        let (mut removed, mut done) = (0, Ok(()));
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_aside =
                name.to_str().and_then(|name| UploadId::parse(name.strip_prefix(ASIDE)?)).is_some();
            if !is_aside || !is_older(&entry.path(), before_us) {
                continue;
            }
            match gone(fs::remove_dir_all(entry.path())) {
                Ok(()) => removed += 1,
                failed => done = done.and(failed),
            }
        }
        if removed > 0 {
            done = done.and(durable::sync_folder(&self.folder));
        }
        done.map(|()| removed)
    }

    fn place(&self, upload: &Upload) -> QuotaShare {
        self.room.place(upload.tenant.as_deref())
    }

    /// Returns the length of the body in bytes.
    fn length(&self, id: &UploadId) -> Option<u64> {
        fs::metadata(self.body_of(id)).ok().map(|body| body.len())
    }

    /// Returns `true` if the upload occupies space. An ended upload occupies space if ending it failed partway.
    #[must_use]
    pub fn has_body(&self, id: &UploadId) -> bool {
        self.length(id).is_some()
    }

    fn full(&self, full: Full) -> UploadError {
        match full {
            Full::Bytes => UploadError::NoRoom { bytes_max: self.bytes_max },
            Full::Uploads => UploadError::TooMany,
        }
    }

    /// Adds an upload to the ended uploads. If there are too many, removes the oldest.
    fn remember_ended(&self, upload: &Upload) {
        let mut unsent = self.ended.0.try_send(upload.id.clone());
        while let Err(async_channel::TrySendError::Full(id)) = unsent {
            if let Ok(oldest) = self.ended.1.try_recv()
                && let Err(error) = self.remove_ended(&oldest)
            {
                tracing::warn!(upload = oldest.as_str(), %error, "an ended upload cannot be removed");
            }
            unsent = self.ended.0.try_send(id);
        }
    }

    /// Removes an ended upload, if it still exists. No request works on it; its info can only be read.
    fn remove_ended(&self, id: &UploadId) -> Result<(), UploadError> {
        match self.load(id)? {
            Some(upload) if upload.state != State::Receiving => Ok(self.remove(&upload)?),
            _ => Ok(()),
        }
    }

    fn folder_of(&self, id: &UploadId) -> PathBuf {
        self.folder.join(id.as_str())
    }

    fn body_of(&self, id: &UploadId) -> PathBuf {
        self.folder_of(id).join(BODY)
    }

    /// Returns the path of an upload's folder.
    #[must_use]
    pub fn path(&self, id: &UploadId) -> PathBuf {
        self.folder_of(id)
    }

    /// Returns every upload that has a folder.
    ///
    /// # Errors
    /// Returns file system errors.
    pub fn all(&self) -> io::Result<Vec<UploadId>> {
        self.ids()
    }

    fn ids(&self) -> io::Result<Vec<UploadId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            ids.extend(entry?.file_name().to_str().and_then(UploadId::parse));
        }
        Ok(ids)
    }

    /// Returns the uploads whose info has not been written since `before_us`. Takes one `stat` per upload.
    pub fn resting(&self, before_us: i64) -> io::Result<Vec<UploadId>> {
        let mut ids = self.ids()?;
        ids.retain(|id| is_older(&self.folder_of(id).join(INFO), before_us));
        Ok(ids)
    }

    /// Creates the folder, an empty body and the info. They survive a power cut.
    ///
    /// # Errors
    /// Returns [`UploadError::NoRoom`], [`UploadError::TooMany`], or a file system error. In that case, nothing of
    /// the upload remains.
    pub fn create(&self, upload: &mut Upload) -> Result<(), UploadError> {
        let place = self.place(upload);
        place.try_take().map_err(|full| self.full(full))?;
        let made = self.make(upload);
        if made.is_err() {
            self.unmake(&upload.id, &place);
        }
        made
    }

    /// Removes an upload whose creation failed, before or after the rename to its final name.
    fn unmake(&self, id: &UploadId, place: &QuotaShare) {
        let folders = [self.making(id), self.folder_of(id)];
        for folder in &folders {
            // The info is removed first, because only a folder with an info is an upload.
            let _ = fs::remove_file(folder.join(INFO));
            let _ = fs::remove_dir_all(folder);
        }
        if folders.iter().all(|folder| !folder.join(BODY).exists()) {
            place.give_back(0);
        }
    }

    fn making(&self, id: &UploadId) -> PathBuf {
        self.folder.join(format!("{}{MAKING}", id.as_str()))
    }

    /// Creates the folder under a temporary name, and renames it when it is complete. A folder without an info is
    /// therefore being removed, or its removal failed.
    fn make(&self, upload: &mut Upload) -> Result<(), UploadError> {
        let folder = self.making(&upload.id);
        fs::create_dir(&folder)?;
        Body::create(&folder.join(BODY))?;
        upload.version += 1;
        durable::write(&folder.join(INFO), &serde_json::to_vec(upload).map_err(io::Error::other)?)?;
        durable::sync_folder(&folder)?;
        Ok(durable::rename(&folder, &self.folder_of(&upload.id))?)
    }

    /// Loads an upload. Returns `None` if no upload has this id.
    pub fn load(&self, id: &UploadId) -> Result<Option<Upload>, UploadError> {
        let written = match fs::read(self.folder_of(id).join(INFO)) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let upload = serde_json::from_slice(&written);
        upload.map(Some).map_err(|_| UploadError::Unreadable(id.as_str().to_owned()))
    }

    /// Replaces the info with its next version. After a power cut, either the old or the next version is valid as a
    /// whole. If `is_kept`, it is the next version.
    ///
    /// # Errors
    /// Returns file system errors. In that case, either version may be valid.
    pub fn save(&self, upload: &mut Upload, is_kept: bool) -> io::Result<()> {
        self.write(upload)?;
        self.publish(&upload.id)?;
        if is_kept { durable::sync_folder(&self.folder_of(&upload.id)) } else { Ok(()) }
    }

    /// Writes the next version of the info to a draft in the same folder, and syncs it.
    pub(super) fn write(&self, upload: &mut Upload) -> io::Result<()> {
        upload.version += 1;
        let path = durable::draft_of(&self.folder_of(&upload.id).join(INFO));
        durable::write(&path, &serde_json::to_vec(upload).map_err(io::Error::other)?)
    }

    /// Replaces the valid info with the draft.
    pub(super) fn publish(&self, id: &UploadId) -> io::Result<()> {
        let info = self.folder_of(id).join(INFO);
        fs::rename(durable::draft_of(&info), info)
    }

    /// Opens the body, which counts the space that it occupies.
    pub fn body(&self, upload: &Upload) -> io::Result<Body> {
        Body::open(&self.body_of(&upload.id), self.place(upload))
    }

    /// Deletes the body and frees its space. The caller must first store an info that is no longer
    /// [`State::Receiving`]. If there are too many ended uploads, the oldest one is removed.
    pub fn ended(&self, upload: &Upload) -> io::Result<()> {
        self.remember_ended(upload);
        self.remove_body(upload)
    }

    fn remove_body(&self, upload: &Upload) -> io::Result<()> {
        let Some(length) = self.length(&upload.id) else { return Ok(()) };
        match fs::remove_file(self.body_of(&upload.id)) {
            Ok(()) => self.place(upload).give_back(length),
            failed => gone(failed)?,
        }
        Ok(())
    }

    /// Deletes the body of an upload that is no longer [`State::Receiving`], in case an earlier deletion failed. The
    /// body does not reappear after a power cut.
    pub fn forget_body(&self, upload: &Upload) -> io::Result<()> {
        self.remove_body(upload)?;
        durable::sync_folder(&self.folder_of(&upload.id))
    }

    /// Removes an upload. It does not reappear after a power cut.
    pub fn remove(&self, upload: &Upload) -> io::Result<()> {
        // The info is removed first, because only a folder with an info is an upload. If a crash leaves remains, the
        // next start removes them. If a failure leaves remains, the next erasure also removes them.
        fs::remove_file(self.folder_of(&upload.id).join(INFO))?;
        // No other code can release the space from now on, so it is released even if the file remains.
        if let Some(length) = self.length(&upload.id) {
            self.place(upload).give_back(length);
        }
        gone(fs::remove_dir_all(self.folder_of(&upload.id)))?;
        durable::sync_folder(&self.folder)
    }

    /// Removes the remains of uploads whose removal failed partway. Nothing refers to them any more.
    ///
    /// # Errors
    /// Returns the first file system error, after it has tried all uploads.
    pub fn remove_remains(&self) -> io::Result<()> {
        let mut done = Ok(());
        for id in self.ids()? {
            let folder = self.folder_of(&id);
            let removed = match folder.join(INFO).try_exists() {
                Ok(true) => Ok(()),
                Ok(false) => gone(fs::remove_dir_all(&folder)),
                Err(error) => Err(error),
            };
            done = done.and(removed);
        }
        // This also syncs earlier removals that were not synced.
        done.and(durable::sync_folder(&self.folder))
    }
}

fn is_older(path: &Path, before_us: i64) -> bool {
    let written = fs::metadata(path).and_then(|file| file.modified());
    let since = written.ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    since.is_some_and(|since| since.as_micros() as i64 <= before_us)
}

/// Treats a missing file as removed.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::quota::RESERVE_BYTES;
    use super::super::record::tests::upload;
    use super::*;

    fn room(store: &UploadStore) -> (u64, u64) {
        store.room.taken()
    }

    const KIB: u64 = 1 << 10;

    fn grow(store: &UploadStore, upload: &Upload, bytes: u64) -> io::Result<()> {
        store.body(upload).unwrap().append(&vec![b'x'; bytes as usize])
    }

    #[test]
    fn room_is_taken_by_bytes_and_given_back_and_counted_again_after_a_start() {
        let data = tempfile::tempdir().unwrap();
        let store = UploadStore::open(data.path(), 1_000 * KIB).unwrap();
        // Declared lengths are not counted.
        let (mut first, mut second, mut third) = (upload(1 << 40), upload(1 << 40), upload(1));
        store.create(&mut first).unwrap();
        store.create(&mut second).unwrap();
        assert_eq!(room(&store), (2, 2 * RESERVE_BYTES));
        grow(&store, &first, 300 * KIB).unwrap();
        let refused = grow(&store, &second, 210 * KIB).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::QuotaExceeded, "more than is left to others");
        grow(&store, &second, 10 * KIB).unwrap();
        assert_eq!(room(&store), (2, 300 * KIB + RESERVE_BYTES));
        store.body(&first).unwrap().cut(100 * KIB).unwrap();
        grow(&store, &second, 200 * KIB).unwrap();
        assert_eq!(room(&store), (2, 310 * KIB));
        second.state = State::Finished;
        store.write(&mut second).unwrap();
        store.publish(&second.id).unwrap();
        store.ended(&second).unwrap();
        assert_eq!(room(&store), (1, 100 * KIB));
        store.create(&mut third).unwrap();
        // The state after a crash: an upload without an info, an upload that was being created, and an upload whose
        // body should have been deleted.
        fs::create_dir(store.path(&UploadId::random().unwrap())).unwrap();
        fs::create_dir(store.making(&UploadId::random().unwrap())).unwrap();
        Body::create(&store.path(&second.id).join(BODY)).unwrap();
        let again = UploadStore::open(data.path(), 1_000 * KIB).unwrap();
        assert_eq!(room(&again), (2, 100 * KIB + RESERVE_BYTES));
        assert!(again.body(&second).is_err() && again.body(&first).is_ok());
        assert_eq!((again.ids().unwrap().len(), fs::read_dir(&again.folder).unwrap().count()), (3, 3));
        again.remove(&first).unwrap();
        again.remove(&second).unwrap();
        again.remove(&third).unwrap();
        assert_eq!((room(&again), again.ids().unwrap().len()), ((0, 0), 0));
    }

    #[test]
    fn what_failed_half_way_gives_its_room_back_once() {
        let data = tempfile::tempdir().unwrap();
        let store = UploadStore::open(data.path(), 1_000 * KIB).unwrap();
        let mut other = upload(9);
        store.create(&mut other).unwrap();
        grow(&store, &other, 100 * KIB).unwrap();
        let others = (1, 100 * KIB);
        // The upload's end was published, but its folder could not be synced, so the end was not reported.
        let finish = |one: &mut Upload| {
            store.create(one).unwrap();
            grow(&store, one, 200 * KIB).unwrap();
            one.state = State::Finished;
            store.write(one).unwrap();
            store.publish(&one.id).unwrap();
            assert_eq!(room(&store), (2, 300 * KIB));
        };
        let (mut ended, mut removed, mut forgotten) = (upload(9), upload(9), upload(9));
        finish(&mut ended);
        assert!(store.has_body(&ended.id));
        store.ended(&ended).unwrap();
        assert_eq!(room(&store), others);
        // The end is repeated.
        store.ended(&ended).unwrap();
        store.remove(&ended).unwrap();
        assert_eq!(room(&store), others);
        finish(&mut removed);
        store.remove(&removed).unwrap();
        assert_eq!(room(&store), others);
        finish(&mut forgotten);
        store.forget_body(&forgotten).unwrap();
        store.forget_body(&forgotten).unwrap();
        assert_eq!(room(&store), others);
        // The upload was renamed to its final name, but the rename could not be synced.
        let mut unmade = upload(9);
        let place = store.place(&unmade);
        place.try_take().unwrap();
        store.make(&mut unmade).unwrap();
        store.unmake(&unmade.id, &place);
        assert!(store.load(&unmade.id).unwrap().is_none() && !store.path(&unmade.id).exists());
        assert_eq!(room(&store), others);
        // The info is damaged while the server runs.
        let mut damaged = upload(9);
        store.create(&mut damaged).unwrap();
        grow(&store, &damaged, 200 * KIB).unwrap();
        fs::write(store.path(&damaged.id).join(INFO), "{").unwrap();
        store.set_aside(&damaged.id).unwrap();
        assert_eq!(room(&store), others);
        assert_eq!(store.remove_aside(i64::MAX).unwrap(), 1);
        store.place(&other).give_back(200 * KIB);
        store.place(&other).give_back(200 * KIB);
        assert_eq!(room(&store), (0, 0), "and never less");
    }

    #[test]
    fn finished_ones_leave_first() {
        let data = tempfile::tempdir().unwrap();
        let store = UploadStore::open(data.path(), 1_000 * KIB).unwrap();
        let mut under_way = upload(9);
        store.create(&mut under_way).unwrap();
        let mut ids = Vec::new();
        for _ in 0..3 {
            let mut one = upload(0);
            store.create(&mut one).unwrap();
            one.state = State::Finished;
            store.write(&mut one).unwrap();
            store.publish(&one.id).unwrap();
            store.ended(&one).unwrap();
            ids.push(one.id);
        }
        // The maximum is reached, so the next upload that ends replaces the oldest ended one.
        while store.ended.0.try_send(UploadId::random().unwrap()).is_ok() {}
        let mut last = upload(0);
        store.create(&mut last).unwrap();
        last.state = State::Expired;
        store.write(&mut last).unwrap();
        store.publish(&last.id).unwrap();
        store.ended(&last).unwrap();
        assert!(store.load(&ids[0]).unwrap().is_none() && store.load(&ids[1]).unwrap().is_some());
        assert!(store.load(&under_way.id).unwrap().is_some() && store.load(&last.id).unwrap().is_some());
        assert_eq!(room(&store), (1, RESERVE_BYTES));
    }

    #[test]
    fn what_a_failed_removal_left_goes_and_nothing_else() {
        let data = tempfile::tempdir().unwrap();
        let store = UploadStore::open(data.path(), 1 << 20).unwrap();
        let (mut one, mut other) = (upload(60), upload(40));
        store.create(&mut one).unwrap();
        store.create(&mut other).unwrap();
        store.body(&one).unwrap().append(b"line").unwrap();
        fs::remove_file(store.path(&one.id).join(INFO)).unwrap();
        // An upload that is being created at the same time.
        let making = store.making(&UploadId::random().unwrap());
        fs::create_dir(&making).unwrap();
        store.remove_remains().unwrap();
        assert!(!store.path(&one.id).exists() && making.exists());
        assert_eq!(store.load(&other.id).unwrap(), Some(other));
        store.remove_remains().unwrap();
    }

    #[test]
    fn what_was_written_holds_once_it_is_published() {
        let data = tempfile::tempdir().unwrap();
        let store = UploadStore::open(data.path(), 1 << 20).unwrap();
        let mut one = upload(60);
        store.create(&mut one).unwrap();
        let before = one.clone();
        one.checkpoint.offset = 7;
        store.write(&mut one).unwrap();
        assert_eq!(store.load(&one.id).unwrap().as_ref(), Some(&before));
        store.publish(&one.id).unwrap();
        assert_eq!(store.load(&one.id).unwrap().as_ref(), Some(&one));
        assert_eq!(store.resting(before.created_us - 60_000_000).unwrap(), []);
        assert_eq!(store.resting(before.created_us + 60_000_000).unwrap(), [one.id.clone()]);
        fs::write(store.path(&one.id).join(INFO), "{").unwrap();
        assert!(matches!(store.load(&one.id), Err(UploadError::Unreadable(_))));
    }
}
