//! A copy of every upload at one moment, made for a backup while the server continues to write.
//!
//! An upload's info is replaced as a whole, and its body's bytes before the checkpoint never change. The copy
//! therefore consists of the info as read, and of the body up to the checkpoint in that info. It contains no bytes
//! after the checkpoint, whether their piece is still being received or waits for its checksum.
//!
//! Rows before a checkpoint were committed before the checkpoint was written. If the shards are copied *after* the
//! uploads, their copy has all of these rows, and perhaps more. The client sends the additional rows again, starting
//! at the checkpoint, and the server recognises them by their ingest and line. If the shards were copied first, a
//! checkpoint could promise rows that are missing.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use super::record::{State, Upload, UploadId};
use super::store::{BODY, FOLDER, INFO};
use crate::base::durable;

/// The maximum number of times that an info is read if its body is deleted in the meantime. A second read is enough,
/// because a body is deleted only after the last info has been written.
const LOOKS: usize = 3;

/// The result of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopiedUploads {
    pub uploads: u64,
    /// The total size of the copied bodies in bytes.
    pub bytes: u64,
    /// The uploads whose files are unreadable. The server cannot continue them either.
    pub unreadable: Vec<String>,
}

/// Copies the uploads in the data folder `data` to the folder `dest`, which must contain no uploads, and syncs the
/// copies.
///
/// # Errors
/// Returns file system errors.
pub fn copy_uploads(data: &Path, dest: &Path) -> io::Result<CopiedUploads> {
    let mut copied = CopiedUploads::default();
    let entries = match fs::read_dir(data.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(copied),
        entries => entries?,
    };
    let to = dest.join(FOLDER);
    fs::create_dir(&to)?;
    for entry in entries {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(UploadId::parse) else { continue };
        match copy(&entry.path(), &to.join(id.as_str()))? {
            Copied::Whole { bytes } => {
                copied.uploads += 1;
                copied.bytes += bytes;
            }
            Copied::Gone => {}
            Copied::Unreadable => copied.unreadable.push(id.as_str().to_owned()),
        }
    }
    durable::sync_folder(&to)?;
    durable::sync_folder(dest)?;
    Ok(copied)
}

enum Copied {
    Whole { bytes: u64 },
    Gone,
    Unreadable,
}

fn copy(from: &Path, to: &Path) -> io::Result<Copied> {
    for _ in 0..LOOKS {
        let Some(mut info) = found(File::open(from.join(INFO)))? else { return Ok(Copied::Gone) };
        let mut written = Vec::new();
        info.read_to_end(&mut written)?;
        let Ok(upload) = serde_json::from_slice::<Upload>(&written) else { return Ok(Copied::Unreadable) };
        let body = match upload.state {
            State::Receiving => found(File::open(from.join(BODY)))?.map(Some),
            _ => Some(None),
        };
        // A missing body means that the upload has ended since its info was read. The new info reports this.
        let Some(body) = body else { continue };
        fs::create_dir(to)?;
        let mut bytes = 0;
        if let Some(body) = body {
            let mut target = File::create_new(to.join(BODY))?;
            bytes = io::copy(&mut body.take(upload.checkpoint.offset), &mut target)?;
            target.sync_all()?;
        }
        fs::write(to.join(INFO), &written)?;
        let target = File::options().write(true).open(to.join(INFO))?;
        // The server measures the time without progress from this modification time.
        target.set_modified(info.metadata()?.modified()?)?;
        target.sync_all()?;
        durable::sync_folder(to)?;
        return Ok(Copied::Whole { bytes });
    }
    Ok(Copied::Unreadable)
}

fn found<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Checkpoint;
    use super::super::record::tests::upload;
    use super::super::store::UploadStore;
    use super::*;

    #[test]
    fn of_a_body_comes_what_is_in_front_of_the_checkpoint() {
        let (data, dest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = UploadStore::open(data.path(), 1 << 20).unwrap();
        let (mut held, mut ended, mut shorter, mut broken) = (upload(60), upload(40), upload(30), upload(1));
        for one in [&mut held, &mut ended, &mut shorter, &mut broken] {
            store.create(one).unwrap();
            store.body(one).unwrap().append(b"abcdef").unwrap();
        }
        for (one, offset) in [(&mut held, 4), (&mut shorter, 20)] {
            one.checkpoint = Checkpoint { offset, ..Checkpoint::default() };
            one.held_from = Some(offset);
            store.write(one).unwrap();
            store.publish(&one.id).unwrap();
        }
        ended.state = State::Finished;
        store.write(&mut ended).unwrap();
        store.publish(&ended.id).unwrap();
        // The body of `ended` remains, as after a crash before the deletion.
        fs::write(store.path(&broken.id).join(INFO), "{").unwrap();
        fs::create_dir(store.path(&UploadId::random().unwrap())).unwrap();

        let copied = copy_uploads(data.path(), dest.path()).unwrap();
        let unreadable = vec![broken.id.as_str().to_owned()];
        assert_eq!(copied, CopiedUploads { uploads: 3, bytes: 10, unreadable });
        let copy = UploadStore::open(dest.path(), 1 << 20).unwrap();
        for one in [&held, &ended, &shorter] {
            assert_eq!(copy.load(&one.id).unwrap().as_ref(), Some(one));
        }
        let body = |one: &Upload| copy.body(one).map(|body| body.read(0, 99).unwrap().to_vec());
        assert_eq!(body(&held).unwrap(), b"abcd");
        // A power cut lost bytes before the checkpoint. The server detects this when it opens the upload, and
        // restarts it.
        assert_eq!(body(&shorter).unwrap(), b"abcdef");
        assert!(body(&ended).is_err() && copy.load(&broken.id).unwrap().is_none());
        let modified =
            |store: &UploadStore| fs::metadata(store.path(&held.id).join(INFO)).unwrap().modified();
        assert_eq!(modified(&copy).unwrap(), modified(&store).unwrap());
    }

    #[test]
    fn a_folder_without_uploads_has_a_copy_without() {
        let (data, dest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(copy_uploads(data.path(), dest.path()).unwrap(), CopiedUploads::default());
        assert!(!dest.path().join(FOLDER).exists());
    }
}
