//! The data folder: its manifest, its lock, and the location of each shard's files.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::error::FolderError;
use super::manifest::Manifest;
use crate::base::durable;
use crate::base::ids::{LaneId, ShardId};
use crate::base::limits::SHARD_COUNT_MAX;

/// The file that a serving process locks.
const LOCK_FILE: &str = "lock";
/// A file that exists next to the manifest while `firehose reshard` is in progress.
const RESHARD_MARKER: &str = "reshard.json";

/// A data folder. It stays locked until this value is dropped, unless it was opened with [`DataFolder::read_only`].
#[derive(Debug)]
pub struct DataFolder {
    dir: PathBuf,
    manifest: Manifest,
    /// The file with the `flock`. The kernel releases it no matter how the process ends.
    _lock: Option<File>,
}

/// The location of one shard's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardFolder {
    dir: PathBuf,
}

impl ShardFolder {
    #[must_use]
    pub fn new(dir: PathBuf) -> ShardFolder {
        ShardFolder { dir }
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the path of the SQLite file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.dir.join("shard.db")
    }

    /// Returns the folder with one lane's journal.
    #[must_use]
    pub fn lane(&self, lane: LaneId) -> PathBuf {
        self.dir.join(lane.folder())
    }

    /// Returns the lanes that have a folder, in numerical order.
    pub fn lanes(&self) -> io::Result<Vec<LaneId>> {
        let mut lanes = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if let Some(lane) = entry.file_name().to_str().and_then(LaneId::from_folder)
                && entry.file_type()?.is_dir()
            {
                lanes.push(lane);
            }
        }
        lanes.sort();
        Ok(lanes)
    }
}

impl DataFolder {
    /// Opens a data folder for serving and locks it. Creates it if it is absent or empty. `shards_wanted` is the
    /// operator's setting; `create_default` is the number for a new folder without this setting. Syncs files, which
    /// takes milliseconds, so call it only at start.
    pub fn open(
        dir: &Path,
        shards_wanted: Option<u16>,
        create_default: u16,
    ) -> Result<DataFolder, FolderError> {
        if let Some(wanted) = shards_wanted.filter(|wanted| !(1..=SHARD_COUNT_MAX).contains(wanted)) {
            return Err(FolderError::ShardCount(wanted));
        }
        durable::create_folder(dir).map_err(|error| FolderError::io(dir, error))?;
        // An earlier start that was killed may have created the folder without syncing its name. If this process may
        // not open the parent folder, syncing that folder is the responsibility of its owner.
        let _ = durable::sync_folder(durable::holder_of(dir));
        // This check precedes the creation of the lock file, so that a foreign folder is not changed.
        if Manifest::read(dir)?.is_none() && !is_empty(dir).map_err(|error| FolderError::io(dir, error))? {
            return Err(FolderError::NotOurs(dir.to_owned()));
        }
        let lock = lock(dir)?;
        if dir.join(RESHARD_MARKER).exists() {
            return Err(FolderError::Resharding(dir.to_owned()));
        }
        let manifest = match Manifest::read(dir)? {
            Some(manifest) => manifest,
            None => {
                let shards = shards_wanted.unwrap_or(create_default).clamp(1, SHARD_COUNT_MAX);
                let manifest = Manifest::new(shards)?;
                manifest.write(dir)?;
                manifest
            }
        };
        if let Some(wanted) = shards_wanted.filter(|wanted| *wanted != manifest.shards) {
            let (dir, found) = (dir.to_owned(), manifest.shards);
            return Err(FolderError::OtherShardCount { dir, found, wanted });
        }
        let folder = DataFolder { dir: dir.to_owned(), manifest, _lock: Some(lock) };
        for (_, shard) in folder.shards() {
            for lane in [LaneId::hot(0), LaneId::keyed(0)] {
                let path = shard.lane(lane);
                durable::create_folder(&path).map_err(|error| FolderError::io(&path, error))?;
            }
            durable::sync_folder(shard.dir()).map_err(|error| FolderError::io(shard.dir(), error))?;
        }
        durable::sync_folder(dir).map_err(|error| FolderError::io(dir, error))?;
        Ok(folder)
    }

    /// Locks an existing folder, to change its structure. Creates and checks nothing.
    pub fn lock(dir: &Path) -> Result<DataFolder, FolderError> {
        let manifest = Manifest::read(dir)?.ok_or_else(|| FolderError::NoManifest(dir.to_owned()))?;
        Ok(DataFolder { dir: dir.to_owned(), manifest, _lock: Some(lock(dir)?) })
    }

    /// Returns the path of the file that exists while the shards are redistributed.
    #[must_use]
    pub fn reshard_marker(&self) -> PathBuf {
        self.dir.join(RESHARD_MARKER)
    }

    /// Reads a folder's manifest without locking or changing the folder. Tools use it, even while a server runs.
    pub fn read_only(dir: &Path) -> Result<DataFolder, FolderError> {
        let manifest = Manifest::read(dir)?.ok_or_else(|| FolderError::NoManifest(dir.to_owned()))?;
        Ok(DataFolder { dir: dir.to_owned(), manifest, _lock: None })
    }

    /// Returns `true` if another process serves or changes the folder. If it cannot be checked, the answer is `true`,
    /// too. For a moment, the check holds the lock in shared mode.
    #[must_use]
    pub fn is_served(dir: &Path) -> bool {
        match File::open(dir.join(LOCK_FILE)) {
            Ok(file) => file.try_lock_shared().is_err(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the location of a shard's files.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> ShardFolder {
        ShardFolder::new(self.dir.join(shard.folder()))
    }

    /// Returns every shard of the folder, in the order of their numbers.
    pub fn shards(&self) -> impl Iterator<Item = (ShardId, ShardFolder)> + '_ {
        (0..self.manifest.shards).map(|index| (ShardId(index), self.shard(ShardId(index))))
    }
}

/// Returns `true` if a folder contains nothing except remains of an interrupted start, the file of keys that were
/// created before the first start, and the `lost+found` of a new file system.
fn is_empty(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let ours = [
            LOCK_FILE,
            "manifest.json.new",
            "manifest.json.tmp",
            "lost+found",
            "tenants.db",
            "tenants.db-journal",
        ];
        if !ours.iter().any(|ours| name == *ours) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn lock(dir: &Path) -> Result<File, FolderError> {
    let path = dir.join(LOCK_FILE);
    let io = |error| FolderError::io(&path, error);
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // The pid is only informative. If it cannot be read, the caller must still get the refusal and its
            // reason.
            let _ = (&mut file).take(20).read_to_string(&mut pid);
            let pid = pid.trim();
            let known = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
            let pid = if known { pid } else { "unknown" }.to_owned();
            return Err(FolderError::Held { dir: dir.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    file.set_len(0).map_err(io)?;
    file.rewind().map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(result: Result<DataFolder, FolderError>) -> String {
        result.expect_err("refused").to_string()
    }

    #[test]
    fn a_folder_keeps_the_shard_count_it_was_made_with() {
        let dir = tempfile::tempdir().unwrap();
        let made = DataFolder::open(dir.path(), None, 2).unwrap();
        let (id, shards) = (made.manifest().id.clone(), made.manifest().shards);
        assert_eq!((id.len(), shards), (32, 2));
        assert!(made.shard(ShardId(1)).lane(LaneId::keyed(0)).is_dir());
        drop(made);
        let again = DataFolder::open(dir.path(), None, 7).unwrap();
        assert_eq!((again.manifest().id.as_str(), again.manifest().shards), (id.as_str(), 2));
        drop(again);
        let refused = error(DataFolder::open(dir.path(), Some(3), 1));
        assert!(refused.contains("has 2 shards and the settings ask for 3"), "{refused}");
        assert!(DataFolder::open(dir.path(), Some(0), 1).is_err());
        assert_eq!(DataFolder::open(dir.path(), Some(2), 1).unwrap().shards().count(), 2);
    }

    #[test]
    fn a_second_server_is_told_who_holds_the_folder_and_a_tool_may_look() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataFolder::open(dir.path(), Some(1), 1).unwrap();
        let refused = error(DataFolder::open(dir.path(), Some(1), 1));
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        assert_eq!(DataFolder::read_only(dir.path()).unwrap().manifest(), held.manifest());
        let lanes = held.shard(ShardId(0)).lanes().unwrap();
        assert_eq!(lanes, [LaneId::hot(0), LaneId::keyed(0)]);
    }

    #[test]
    fn a_foreign_or_newer_folder_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "mine").unwrap();
        assert!(error(DataFolder::open(dir.path(), None, 1)).contains("no manifest.json"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(error(DataFolder::read_only(dir.path())).contains("no server has used"));
        for (text, said) in [
            (r#"{"format":2,"later":true}"#, "format 2"),
            (r#"{"format":1,"id":"","shards":0,"created_at":""}"#, "names 0 shards"),
            (r#"{"format":0}"#, "format is 0"),
            ("{", "cannot be read"),
        ] {
            fs::write(dir.path().join("manifest.json"), text).unwrap();
            let refused = error(DataFolder::open(dir.path(), None, 1));
            assert!(refused.contains(said), "{refused}");
        }
    }
}
