//! `manifest.json`: the identity and shape of a data folder, written when the folder is created.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::FolderError;
use crate::base::ids::random_hex;
use crate::base::limits::SHARD_COUNT_MAX;
use crate::base::{clock, durable};

/// The newest format that this program reads, and the one that it writes.
const FORMAT: u64 = 1;
/// A manifest is a few hundred bytes. A larger file is not a manifest.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;

/// The content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u64,
    /// 32 random hex digits that distinguish this folder from others.
    pub id: String,
    /// The number of shards, fixed when the folder is created.
    pub shards: u16,
    /// RFC 3339, UTC.
    pub created_at: String,
}

impl Manifest {
    /// Returns the 16 bytes of the id: the key of [`crate::base::keys::KeyHasher`]. Returns zeros for an invalid id,
    /// which [`Manifest::read`] refuses.
    #[must_use]
    pub fn folder_id(&self) -> [u8; 16] {
        u128::from_str_radix(&self.id, 16).unwrap_or(0).to_be_bytes()
    }

    pub(super) const FILE: &str = "manifest.json";

    pub(super) fn new(shards: u16) -> Result<Manifest, FolderError> {
        let failed = |error| FolderError::io(Path::new("random bytes"), std::io::Error::other(error));
        let id = random_hex().map_err(failed)?;
        Ok(Manifest { format: FORMAT, id, shards, created_at: clock::rfc3339(clock::unix_us()) })
    }

    /// Reads a folder's manifest, or returns `None` if there is none.
    pub(super) fn read(dir: &Path) -> Result<Option<Manifest>, FolderError> {
        let path = dir.join(Manifest::FILE);
        let mut text = Vec::new();
        match File::open(&path) {
            Ok(file) => file.take(MANIFEST_BYTES_MAX).read_to_end(&mut text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        }
        .map_err(|error| FolderError::io(&path, error))?;
        let bad = |why: String| FolderError::BadManifest { path: path.clone(), why };
        // The format is checked first, because a newer one may have other fields.
        let value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        let found = value.get("format").and_then(serde_json::Value::as_u64);
        match found.ok_or_else(|| bad("it has no format number".to_owned()))? {
            FORMAT => {}
            found if found > FORMAT => return Err(FolderError::TooNew { path, found, known: FORMAT }),
            _ => return Err(bad("its format is 0".to_owned())),
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(|error| bad(error.to_string()))?;
        if !(1..=SHARD_COUNT_MAX).contains(&manifest.shards) {
            return Err(bad(format!("it names {} shards", manifest.shards)));
        }
        let is_id = manifest.id.len() == 32 && manifest.id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            return Err(bad("its id is not 32 hex digits".to_owned()));
        }
        Ok(Some(manifest))
    }

    /// Writes the same manifest to another folder, which becomes a data folder.
    pub fn copy_to(&self, dir: &Path) -> Result<(), FolderError> {
        self.write(dir)
    }

    /// Writes the manifest with a different number of shards.
    pub fn with_shards(&self, shards: u16, dir: &Path) -> Result<(), FolderError> {
        Manifest { shards, ..self.clone() }.write(dir)
    }

    /// Writes the manifest atomically, even with respect to a power cut.
    pub(super) fn write(&self, dir: &Path) -> Result<(), FolderError> {
        let path = dir.join(Manifest::FILE);
        let mut text =
            serde_json::to_vec(self).map_err(|error| FolderError::io(&path, std::io::Error::other(error)))?;
        text.push(b'\n');
        durable::replace(&path, &text).map_err(|error| FolderError::io(&path, error))
    }
}
