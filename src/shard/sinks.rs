//! The sinks that a data folder's rows are shipped to: `DATA/ship/NAME/`, written by `firehose ship`.
//!
//! `sink.json` registers a sink, and `shard-XX.json` notes how far the sink has one shard's rows. A note is written after
//! the target's commit, so it is never ahead of the target. A lost note only holds rows longer.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::base::durable;
use crate::base::ids::ShardId;

/// The folder of the sinks in a data folder.
pub const SINKS_FOLDER: &str = "ship";
const SINK_FILE: &str = "sink.json";
/// The maximum length of a sink's name.
pub const SINK_NAME_MAX: usize = 64;
/// A file of a sink is a few hundred bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A registered sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkEntry {
    /// 32 random hex digits. They distinguish this registration from another one under the same name.
    pub id: String,
    /// The kind of the target, such as `postgres`.
    pub kind: String,
    /// The target without secrets, for messages.
    pub target: String,
    /// RFC 3339, UTC.
    pub registered_at: String,
}

/// The rows of one shard that a sink has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// The id of the registration.
    pub sink: String,
    /// The id of the epoch that the row ids belong to.
    pub epoch: String,
    /// The last confirmed row id of each stream; `change` has the feed's.
    pub last: BTreeMap<String, i64>,
    /// The time at which the note was written, in microseconds since 1970.
    pub at_us: i64,
    /// Rows that the target refused for their data.
    #[serde(default)]
    pub rejected: u64,
}

/// Returns `true` if the name can be a sink's: letters, digits, `-` and `_`.
#[must_use]
pub fn is_sink_name(name: &str) -> bool {
    (1..=SINK_NAME_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn folder_of(data: &Path, name: &str) -> PathBuf {
    data.join(SINKS_FOLDER).join(name)
}

fn note_of(data: &Path, name: &str, shard: ShardId) -> PathBuf {
    folder_of(data, name).join(format!("{}.json", shard.folder()))
}

/// Returns the registered sinks of a data folder, by name.
///
/// # Errors
/// The folder or a registration cannot be read.
pub fn sinks(data: &Path) -> io::Result<BTreeMap<String, SinkEntry>> {
    let mut found = BTreeMap::new();
    let entries = match fs::read_dir(data.join(SINKS_FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().filter(|name| is_sink_name(name)).map(str::to_owned)
        else {
            continue;
        };
        if let Some(sink) = read(&entry.path().join(SINK_FILE))? {
            found.insert(name, sink);
        }
    }
    Ok(found)
}

/// Returns one registered sink, or `None` if there is none with this name.
///
/// # Errors
/// The registration cannot be read.
pub fn sink(data: &Path, name: &str) -> io::Result<Option<SinkEntry>> {
    read(&folder_of(data, name).join(SINK_FILE))
}

/// Registers a sink, durably. Of several processes that do so at once, one succeeds.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if the name is registered. Disk errors.
pub fn register_sink(data: &Path, name: &str, sink: &SinkEntry) -> io::Result<()> {
    let folder = folder_of(data, name);
    durable::create_folder(&folder)?;
    let path = folder.join(SINK_FILE);
    let draft = own_draft_of(&path);
    durable::write(&draft, &serde_json::to_vec(sink)?)?;
    // Unlike a rename, a link fails if the name exists.
    let linked = fs::hard_link(&draft, &path);
    fs::remove_file(&draft)?;
    linked?;
    durable::sync_folder(&folder)
}

/// Returns a temporary name that no other process writes to.
fn own_draft_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    durable::draft_of(Path::new(&name))
}

/// Removes a sink and its notes. Returns `false` if there is none with this name.
///
/// # Errors
/// Disk errors.
pub fn remove_sink(data: &Path, name: &str) -> io::Result<bool> {
    let folder = folder_of(data, name);
    // The registration ends first, at once.
    match durable::remove(&folder.join(SINK_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        removed => removed?,
    }
    fs::remove_dir_all(&folder)?;
    Ok(true)
}

/// Returns how far a sink has a shard's rows, or `None` if it has noted nothing.
///
/// # Errors
/// The note cannot be read.
pub fn confirmed(data: &Path, name: &str, shard: ShardId) -> io::Result<Option<Confirmed>> {
    read(&note_of(data, name, shard))
}

/// Returns how far a sink has a shard's rows, as [`confirmed`] does. A note of another registration under the same name
/// is none of this one.
///
/// # Errors
/// The note cannot be read.
pub fn confirmed_by(
    data: &Path,
    (name, sink): (&str, &SinkEntry),
    shard: ShardId,
) -> io::Result<Option<Confirmed>> {
    Ok(confirmed(data, name, shard)?.filter(|note| note.sink == sink.id))
}

/// Writes how far a sink has a shard's rows. Readers see the whole note or the one before it.
///
/// # Errors
/// Disk errors. [`io::ErrorKind::NotFound`] if the sink was removed.
pub fn write_confirmed(data: &Path, name: &str, shard: ShardId, confirmed: &Confirmed) -> io::Result<()> {
    write(&note_of(data, name, shard), confirmed)
}

/// Writes a file of a sink. Readers see the whole file or the one before it; a power cut may lose it.
pub(super) fn write(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let draft = own_draft_of(path);
    fs::write(&draft, serde_json::to_vec(content)?)?;
    fs::rename(&draft, path)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let found = match fs::metadata(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        found => found?,
    };
    let damaged =
        |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()));
    if found.len() > FILE_BYTES_MAX {
        return Err(damaged("it is too large".to_owned()));
    }
    let text = fs::read(path)?;
    serde_json::from_slice(&text).map(Some).map_err(|error| damaged(error.to_string()))
}
