//! Erasures that have been started and are not done in the data folder. Each request has a file with its records, from
//! before they are sent until the last export is removed. If the server is killed in between, the next start sends the records again
//! to shards that do not have them, and completes the rest.
//!
//! A file contains masked records, as a journal does, and is deleted with the last trace of the people.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::super::exported::sweep_exports;
use super::super::query;
use super::super::record::ErasureRecord;
use super::super::refused::PeopleRefused;
use super::super::report::BatchProgress;
use super::super::uploads::ErasedPeople;
use super::begin::send;
use super::{LOOK, LOOK_MAX};
use crate::base::durable;
use crate::base::ids::is_random_hex;
use crate::cores::executor;
use crate::lane::{Component, Lane};

/// The name of the folder within the data folder.
const FOLDER: &str = "erasures";
/// The core that continues the erasures of an earlier run.
const CONTINUING_CORE: usize = 0;
/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Continues the erasures of an earlier run.
pub struct PendingErasures;

impl Component for PendingErasures {
    fn start(&self, lane: &Rc<Lane>) {
        if lane.core != CONTINUING_CORE {
            return;
        }
        match read_all(&pending_folder(lane)) {
            Ok(all) => {
                for (pending, records) in all {
                    tracing::info!(erasure = pending.name, "an erasure of an earlier run continues");
                    complete(lane.clone(), pending, records);
                }
            }
            Err(error) => tracing::error!(%error, "the erasures of an earlier run cannot be read"),
        }
    }
}

pub(super) fn pending_folder(lane: &Lane) -> PathBuf {
    lane.vitals.config.data.join(FOLDER)
}

/// One request's erasures, and their file.
#[derive(Clone)]
pub(super) struct Pending {
    /// The id of the batch, or of the only erasure.
    pub(super) name: String,
    path: PathBuf,
    people: Arc<ErasedPeople>,
}

impl Pending {
    /// Writes the file. Once this function returns, it survives a power cut.
    pub(super) async fn create(
        lane: &Lane,
        name: String,
        people: Arc<ErasedPeople>,
        records: &[ErasureRecord],
    ) -> Result<Pending, PeopleRefused> {
        let mut bytes = Vec::new();
        for record in records {
            let at = bytes.len();
            bytes.extend_from_slice(&[0; 4]);
            record.encode(&mut bytes)?;
            let length = (bytes.len() - at - 4) as u32;
            bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
        let folder = pending_folder(lane);
        let path = folder.join(&name);
        let written = path.clone();
        executor::blocking(move || {
            durable::create_folder(&folder)?;
            durable::replace(&written, &bytes)
        })
        .await?;
        Ok(Pending { name, path, people })
    }

    async fn remove(&self) -> io::Result<()> {
        let path = self.path.clone();
        executor::blocking(move || match durable::remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        })
        .await
    }
}

/// Reads the files of an earlier run, and removes drafts.
fn read_all(folder: &Path) -> io::Result<Vec<(Pending, Vec<ErasureRecord>)>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if !is_random_hex(&name) {
            // A draft: nothing was promised yet.
            std::fs::remove_file(&path)?;
            continue;
        }
        let records = decode(&std::fs::read(&path)?);
        match records.and_then(|records| Some((people_of(&records)?, records))) {
            Some((people, records)) => all.push((Pending { name, path, people: Arc::new(people) }, records)),
            None => tracing::error!(file = %path.display(), "the file of an erasure cannot be read"),
        }
    }
    Ok(all)
}

/// Returns every record of a file, or `None` if any cannot be read: without it, the erasure would end early.
fn decode(mut bytes: &[u8]) -> Option<Vec<ErasureRecord>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        records.push(ErasureRecord::decode(payload)?);
        bytes = rest;
    }
    Some(records)
}

fn people_of(records: &[ErasureRecord]) -> Option<ErasedPeople> {
    let mut erasures = Vec::with_capacity(records.len());
    for record in records {
        let ErasureRecord::Erase { mode, subject, .. } = record else { return None };
        erasures.push((*mode, subject));
    }
    let (mode, _) = erasures.first()?;
    ErasedPeople::of(*mode, erasures.iter().map(|(_, subject)| *subject))
}

/// Completes an erasure in the background. The returned channel is closed at the end. `records` are sent first.
pub(super) fn complete(
    lane: Rc<Lane>,
    pending: Pending,
    records: Vec<ErasureRecord>,
) -> async_channel::Receiver<()> {
    let (tell, done) = async_channel::bounded::<()>(1);
    executor::spawn(async move {
        let _tell = tell;
        let mut records = records;
        while let Err(error) = try_complete(&lane, &pending, &mut records).await {
            tracing::warn!(erasure = pending.name, %error, "an erasure cannot be completed yet");
            executor::sleep(RETRY).await;
        }
    });
    done
}

async fn try_complete(
    lane: &Rc<Lane>,
    pending: &Pending,
    records: &mut Vec<ErasureRecord>,
) -> Result<(), PeopleRefused> {
    if !records.is_empty() {
        // A shard that has a record already ignores it.
        send(lane, records, false).await?;
        records.clear();
    }
    let count = pending.people.customer_ids.len() as u64;
    let mut pause = LOOK;
    loop {
        let shards = query::progress(&lane.readers, &pending.name).await?;
        // The wait for the sinks continues in each shard, from its own record.
        let is_done = |shard: &BatchProgress| shard.known >= count && shard.local >= count;
        if shards.iter().all(is_done) {
            break;
        }
        executor::sleep(pause).await;
        pause = LOOK_MAX.min(pause * 2);
    }
    // An export that was created during the erasure has none of the people's orders, but may filter by a person.
    sweep_exports(lane, &pending.people).await?;
    Ok(pending.remove().await?)
}

#[cfg(test)]
mod tests {
    use super::super::super::record::{RemovedOutside, Subject};
    use super::*;
    use crate::shard::ErasureMode;

    #[test]
    fn a_file_is_read_back_and_a_draft_is_removed() {
        let data = tempfile::tempdir().unwrap();
        assert!(read_all(&data.path().join(FOLDER)).unwrap().is_empty());
        let mut bytes = Vec::new();
        for (id, customer_id) in [("0", "c-1"), ("1", "c-2")] {
            let subject = Subject::Customer {
                tenant_id: "t".to_owned(),
                customer_id: customer_id.to_owned(),
                token: "anon-1".to_owned(),
                names: Vec::new(),
                emails: vec![format!("{customer_id}@example.org")],
            };
            let record = ErasureRecord::Erase {
                id: id.repeat(32),
                began_us: 1,
                mode: ErasureMode::Erase,
                subject,
                names_truncated: false,
                removed: RemovedOutside::default(),
                batch: Some("2".repeat(32)),
            };
            let mut payload = Vec::new();
            record.encode(&mut payload).unwrap();
            bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&payload);
        }
        std::fs::write(data.path().join("2".repeat(32)), &bytes).unwrap();
        std::fs::write(data.path().join(format!("{}.tmp", "3".repeat(32))), "half").unwrap();
        let all = read_all(data.path()).unwrap();
        let [(pending, records)] = &all[..] else { panic!("one file") };
        assert_eq!(
            (records.len(), &pending.people.customer_ids[..]),
            (2, &["c-1".to_owned(), "c-2".to_owned()][..])
        );
        assert_eq!(pending.people.matcher.who(b"mail C-2@example.org"), [1]);
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_with_a_record_that_cannot_be_read_is_not_taken_for_a_shorter_one() {
        assert!(decode(&[]).is_some_and(|records| records.is_empty()));
        let cut = [[1, 0, 0].as_slice(), &[2, 0, 0, 0, 9], &[1, 0, 0, 0, 255], &[0, 0, 0, 0]];
        assert!(cut.iter().all(|bytes| decode(bytes).is_none()), "{cut:?}");
    }
}
