//! Segment files in a lane's folder: their names, their order, their headers.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::batch::read_up_to;
use super::error::JournalError;
use super::format::{HEADER_BYTES, Opening, SegmentHeader, VERSION};
use crate::base::durable;
use crate::base::ids::LaneId;

/// The subfolder of the lane's folder that contains hard links to damaged segments.
pub(super) const QUARANTINE: &str = "quarantine";

const SUFFIX: &str = ".seg";
const DIGITS: usize = 20;

/// Returns a segment's path: `00000000000067108864.seg`. The order of names is the order of offsets.
pub(super) fn path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:0DIGITS$}{SUFFIX}"))
}

/// Returns the base offset in a segment's name.
pub(super) fn base_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
}

/// Offsets and sequences are below this, so that adding to them never overflows. A larger number is foreign. At a
/// million records per second, it would take 146,000 years to reach it.
const NUMBER_MAX: u64 = 1 << 62;

/// Returns the base offsets of the segments in a folder, ascending. A `.seg` file whose name has another form is
/// foreign.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, JournalError> {
    bases(dir, |name| Err(JournalError::Foreign(dir.join(name))))
}

/// Like [`list`], but for a running lane: ignores foreign files instead of failing.
pub(super) fn list_ours(dir: &Path) -> Result<Vec<u64>, JournalError> {
    bases(dir, |_| Ok(()))
}

fn bases(dir: &Path, odd: impl Fn(&OsStr) -> Result<(), JournalError>) -> Result<Vec<u64>, JournalError> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(dir).map_err(JournalError::io(dir))? {
        let name = entry.map_err(JournalError::io(dir))?.file_name();
        let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) else { continue };
        let digits = stem.len() == DIGITS && stem.bytes().all(|byte| byte.is_ascii_digit());
        match stem.parse() {
            Ok(base) if digits && base < NUMBER_MAX => bases.push(base),
            _ => odd(&name)?,
        }
    }
    bases.sort_unstable();
    Ok(bases)
}

/// A segment file opened for reading.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) base: u64,
    pub(super) file: File,
    pub(super) bytes: u64,
    pub(super) opening: Opening,
}

impl Segment {
    /// Opens a segment. Returns `None` if the file no longer exists. A file that is not a segment, has a newer
    /// format, or belongs to another lane is an error.
    pub(super) fn open(dir: &Path, base: u64, lane: Option<LaneId>) -> Result<Option<Segment>, JournalError> {
        let path = path(dir, base);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(JournalError::io(&path)(error)),
        };
        let bytes = file.metadata().map_err(JournalError::io(&path))?.len();
        let mut start = [0; HEADER_BYTES];
        let filled = read_up_to(&file, &mut start, 0).map_err(JournalError::io(&path))?;
        let mut opening = SegmentHeader::decode(&start[..filled]);
        match &opening {
            Opening::Foreign => return Err(JournalError::Foreign(path)),
            Opening::Newer(version) => {
                return Err(JournalError::Newer { path, version: *version, supported: VERSION });
            }
            Opening::Sound { header, .. } => match lane {
                Some(expected) if header.lane != expected => {
                    return Err(JournalError::OtherLane { path, found: header.lane, expected });
                }
                _ if header.base != base || header.first.0 >= NUMBER_MAX => {
                    return Err(JournalError::Foreign(path));
                }
                _ => {}
            },
            // If bytes follow a header of zeros, a valid header was once there.
            Opening::Unfinished if bytes > HEADER_BYTES as u64 => {
                if !only_zeros(&file).map_err(JournalError::io(&path))? {
                    opening = Opening::Damaged;
                }
            }
            Opening::Unfinished | Opening::Damaged => {}
        }
        Ok(Some(Segment { path, base, file, bytes, opening }))
    }

    pub(super) fn header(&self) -> Option<SegmentHeader> {
        match self.opening {
            Opening::Sound { header, .. } => Some(header),
            _ => None,
        }
    }
}

fn only_zeros(file: &File) -> io::Result<bool> {
    let mut buffer = vec![0; 64 * 1024];
    let mut at = 0;
    loop {
        let filled = read_up_to(file, &mut buffer, at)?;
        if filled == 0 {
            return Ok(true);
        }
        if buffer[..filled].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += filled as u64;
    }
}

/// Preserves a damaged segment by a hard link, which may exist already.
pub(super) fn quarantine(dir: &Path, base: u64) -> Result<(), JournalError> {
    let from = path(dir, base);
    let folder = dir.join(QUARANTINE);
    durable::create_folder(&folder).map_err(JournalError::io(&folder))?;
    let to = path(&folder, base);
    match fs::hard_link(&from, &to) {
        Ok(()) => sync_folder(&folder),
        Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
            Ok(())
        }
        Err(error) => Err(JournalError::io(&to)(error)),
    }
}

/// Syncs a folder, so that its names survive a power cut.
pub(super) fn sync_folder(dir: &Path) -> Result<(), JournalError> {
    durable::sync_folder(dir).map_err(JournalError::io(dir))
}
