//! Removes the blocks with an erased person's orders from the file of a running export.
//!
//! ```text
//! marks ──► blocks ──► kept:    bytes ──► file.new-G    orders ──► chosen.new-G, at the beginning
//!                  └─► dropped: orders of other people ──► chosen.new-G, at the end, by shard
//! state.json of generation G ──► file.new-G → file, …
//! ```
//!
//! `state.json` is the commit. Before it is written, the new files are drafts. After a crash before the commit, the
//! next start removes the drafts, and the client requests the erasure again because it got no response. After a later
//! crash, the next start completes the renames ([`settle`]). A draft's name contains its generation, so no other
//! generation uses it. If a splice is impossible, because there is not enough space or there are no marks, the export
//! restarts.
//!
//! The cost: the file is read and written once, and the other orders of the dropped blocks are written again.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sha2::{Digest as _, Sha256};

use super::body::ExportFormat;
use super::file::CHOSEN_BYTES;
use super::marks::{Block, Blocks, Run, marks_of};
use super::parquet::ParquetEncoder;
use super::record::{Checkpoint, Export, Progress, Seen};
use super::store::{BESIDE, CHOSEN, ExportError, ExportStore, FILE, FILES, MARKS};
use crate::base::durable;
use crate::base::ids::hex;

const BUFFER_BYTES: usize = 256 * 1024;

/// Returns the path of a file's draft, which is in use until this generation's state is written.
fn draft(folder: &Path, name: &str, generation: u32) -> PathBuf {
    folder.join(format!("{name}.new-{generation}"))
}

/// Gives this generation's drafts their final names, and removes all other drafts.
///
/// # Errors
/// Returns I/O errors.
pub(super) fn settle(folder: &Path, generation: u32) -> io::Result<()> {
    let mut is_changed = false;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((name, of)) = name.to_str().and_then(|name| name.split_once(".new-")) else { continue };
        if !FILES.contains(&name) {
            continue;
        }
        is_changed = true;
        if of.parse() == Ok(generation) {
            fs::rename(entry.path(), folder.join(name))?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    if is_changed { durable::sync_folder(folder) } else { Ok(()) }
}

/// Returns the sorted indexes that are within a range.
fn within<'p>(places: &'p [u64], range: &Range<u64>) -> &'p [u64] {
    let at = |end: u64| places.partition_point(|place| *place < end);
    &places[at(range.start)..at(range.end)]
}

impl ExportStore {
    /// Drops the blocks that contain orders at the indexes `places`. The file must contain at least one of these
    /// orders. The other orders of these blocks are written again at the end. The orders at `places` are written
    /// again too if they `are_kept` under a pseudonym. The result is another generation of the file. No job may work
    /// on the export during this call.
    ///
    /// # Errors
    /// Returns I/O errors. In that case, the file is unchanged, and the erasure is not done.
    pub(super) fn splice(&self, export: &Export, places: &[u64], are_kept: bool) -> io::Result<()> {
        let held = export.held.load(Ordering::Relaxed);
        let outcome = match self.spliced(export, places, are_kept) {
            Ok(Some(spliced)) => self.swap(export, spliced).map_err(ExportError::from),
            Ok(None) => Err(io::Error::other("the file or its marks do not match what was written").into()),
            Err(error) => Err(error),
        };
        let Err(error) = outcome else { return Ok(()) };
        tracing::warn!(export = export.id.as_str(), %error, "an export cannot be spliced");
        // No state has the generation `u32::MAX`, so all drafts are removed.
        settle(&self.folder_of(&export.id), u32::MAX)?;
        self.recharge(export, held);
        self.begin_again(export)
    }

    /// Writes the drafts. Returns `None` if there are no marks, or if the old files differ from what was written.
    pub(super) fn spliced(
        &self,
        export: &Export,
        places: &[u64],
        are_kept: bool,
    ) -> Result<Option<Spliced>, ExportError> {
        let (progress, folder) = (export.progress(), self.folder_of(&export.id));
        let generation = progress.generation + 1;
        let Some(blocks) = Blocks::open(&folder.join(MARKS), &progress.checkpoint)? else { return Ok(None) };
        let charge = |bytes: u64| self.charge(export, bytes);
        let mut cut = BlockCopier::begin(export, &progress, &folder)?;
        let mut chosen = Chosen::begin(&folder, generation)?;
        let mut dropped: Vec<Run> = Vec::new();
        for block in blocks {
            let block = block?;
            if within(places, &block.orders).is_empty() {
                charge(block.bytes.end - block.bytes.start)?;
                cut.keep(&block)?;
                chosen.copy(block.orders, &[])?;
            } else {
                cut.drop(&block)?;
                // The number of these runs is at most the number of the person's orders times the number of shards in
                // a block.
                dropped.extend(block.runs);
            }
        }
        let Some((checkpoint, digest)) = cut.end(&progress.checkpoint)? else { return Ok(None) };
        charge(checkpoint.beside + checkpoint.marks)?;
        let gone = if are_kept { &[] } else { places };
        charge((progress.orders().unwrap_or_default() - gone.len() as u64) * CHOSEN_BYTES)?;
        let (mut counts, mut end) = (Vec::new(), progress.spliced);
        for (shard, count) in (0_u32..).zip(progress.chosen.iter().flatten()) {
            let start = end.max(progress.checkpoint.orders);
            end += count;
            let before = chosen.orders;
            chosen.copy(start.min(end)..end, gone)?;
            for run in dropped.iter().filter(|run| run.shard == shard) {
                chosen.copy(run.places.clone(), gone)?;
            }
            counts.push(chosen.orders - before);
        }
        chosen.end()?;
        durable::sync_folder(&folder)?;
        let progress = Progress {
            generation,
            chosen: Some(counts),
            spliced: checkpoint.orders,
            awaits_pseudonym: progress.awaits_pseudonym || are_kept,
            checkpoint,
            ..Progress::clone(&progress)
        };
        Ok(Some(Spliced { progress, digest }))
    }

    /// Replaces the old files with the drafts.
    fn swap(&self, export: &Export, Spliced { progress, digest }: Spliced) -> io::Result<()> {
        let (folder, generation) = (self.folder_of(&export.id), progress.generation);
        export.reached.fetch_max(export.progress().checkpoint.orders, Ordering::Relaxed);
        self.write(export, &progress, true)?;
        // This aborts downloads of the old file. No request reads the new file until it has its final name.
        let unread = Progress { checkpoint: Checkpoint::default(), ..progress.clone() };
        export.progress.store(Arc::new(unread));
        for name in FILES {
            fs::rename(draft(&folder, name, generation), folder.join(name))?;
        }
        durable::sync_folder(&folder)?;
        let Checkpoint { bytes, beside, marks, .. } = progress.checkpoint;
        let orders = progress.orders().unwrap_or_default();
        self.recharge(export, bytes + beside + marks + orders * CHOSEN_BYTES);
        export.seen.store(Some(Arc::new(Seen { generation, bytes, digest })));
        tracing::info!(
            export = export.id.as_str(),
            generation,
            bytes,
            orders = progress.spliced,
            "an export continues without an erased person"
        );
        export.progress.store(Arc::new(progress));
        Ok(())
    }
}

/// The new state. Once it is written, the drafts become the export's files.
pub(super) struct Spliced {
    pub(super) progress: Progress,
    digest: Sha256,
}

/// Copies the blocks from the old file to the new one.
struct BlockCopier {
    file: File,
    beside: BufReader<File>,
    encoder: Option<ParquetEncoder>,
    new_file: File,
    new_beside: BufWriter<File>,
    new_marks: BufWriter<File>,
    /// The digest of the old file, or `None` if this process has already verified its bytes.
    old_digest: Option<Sha256>,
    old_beside_digest: Sha256,
    digest: Sha256,
    beside_digest: Sha256,
    marks_digest: Sha256,
    /// The checkpoint of the new file, without digests.
    checkpoint: Checkpoint,
    /// The end of the blocks read so far: orders, bytes of the file, and bytes of the side file.
    seen: (u64, u64, u64),
    buffer: Vec<u8>,
}

impl BlockCopier {
    fn begin(export: &Export, progress: &Progress, folder: &Path) -> io::Result<BlockCopier> {
        let (spec, generation) = (&export.spec, progress.generation + 1);
        let encoder = (spec.format == ExportFormat::Parquet)
            .then(|| ParquetEncoder::new(&export.tenant, spec.rows, &spec.columns(), spec.compression))
            .transpose()?;
        let new = |name| File::create(draft(folder, name, generation));
        let is_known = export.seen.load().as_ref().is_some_and(|seen| {
            seen.generation == progress.generation && seen.bytes == progress.checkpoint.bytes
        });
        Ok(BlockCopier {
            file: File::open(folder.join(FILE))?,
            beside: BufReader::new(File::open(folder.join(BESIDE))?),
            encoder,
            new_file: new(FILE)?,
            new_beside: BufWriter::new(new(BESIDE)?),
            new_marks: BufWriter::new(new(MARKS)?),
            old_digest: (!is_known).then(Sha256::new),
            old_beside_digest: Sha256::new(),
            digest: Sha256::new(),
            beside_digest: Sha256::new(),
            marks_digest: Sha256::new(),
            checkpoint: Checkpoint::default(),
            seen: (0, 0, 0),
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    fn see(&mut self, block: &Block) -> io::Result<Vec<u8>> {
        self.seen = (block.orders.end, block.bytes.end, block.beside.end);
        let mut beside = vec![0; (block.beside.end - block.beside.start) as usize];
        self.beside.read_exact(&mut beside)?;
        self.old_beside_digest.update(&beside);
        Ok(beside)
    }

    /// Reads the bytes of a block, and writes them if the block is kept.
    fn pass(&mut self, block: &Block, is_kept: bool) -> io::Result<()> {
        let mut at = block.bytes.start;
        while at < block.bytes.end {
            let count = (self.buffer.len() as u64).min(block.bytes.end - at) as usize;
            let part = &mut self.buffer[..count];
            self.file.read_exact_at(part, at)?;
            if let Some(digest) = &mut self.old_digest {
                digest.update(&*part);
            }
            if is_kept {
                self.new_file.write_all(part)?;
                self.digest.update(&*part);
            }
            at += count as u64;
        }
        Ok(())
    }

    fn drop(&mut self, block: &Block) -> io::Result<()> {
        self.see(block)?;
        if self.old_digest.is_some() { self.pass(block, false) } else { Ok(()) }
    }

    fn keep(&mut self, block: &Block) -> io::Result<()> {
        let mut beside = self.see(block)?;
        self.pass(block, true)?;
        let new = &mut self.checkpoint;
        if let Some(encoder) = self.encoder.as_ref().filter(|_| !beside.is_empty()) {
            beside = encoder.moved(&beside, block.bytes.start - new.bytes)?;
        }
        self.new_beside.write_all(&beside)?;
        self.beside_digest.update(&beside);
        let shift = block.orders.start - new.orders;
        let runs: Vec<_> = block.runs.iter().map(|run| (run.shard, run.places.end - shift)).collect();
        let (rows, bytes) = (block.rows.end - block.rows.start, block.bytes.end - block.bytes.start);
        let marks = marks_of(new, &runs, (rows, bytes, beside.len() as u64));
        self.new_marks.write_all(&marks)?;
        self.marks_digest.update(&marks);
        new.orders = block.orders.end - shift;
        new.rows += rows;
        new.bytes += bytes;
        new.beside += beside.len() as u64;
        new.marks += marks.len() as u64;
        Ok(())
    }

    /// Syncs the new files and returns their checkpoint. Returns `None` if the old files did not match their digests.
    fn end(mut self, old: &Checkpoint) -> io::Result<Option<(Checkpoint, Sha256)>> {
        let is_right = self.seen == (old.orders, old.bytes, old.beside)
            && self.old_digest.take().is_none_or(|digest| hex(&digest.finalize()) == old.digest)
            && (old.beside == 0 || hex(&self.old_beside_digest.finalize()) == old.beside_digest);
        if !is_right {
            return Ok(None);
        }
        for draft in [&mut self.new_beside, &mut self.new_marks] {
            draft.flush()?;
            draft.get_ref().sync_all()?;
        }
        self.new_file.sync_all()?;
        let checkpoint = Checkpoint {
            digest: hex(&self.digest.clone().finalize()),
            beside_digest: hex(&self.beside_digest.finalize()),
            marks_digest: hex(&self.marks_digest.finalize()),
            ..self.checkpoint
        };
        Ok(Some((checkpoint, self.digest)))
    }
}

/// A writer of the chosen orders in their new sequence.
struct Chosen {
    from: File,
    to: BufWriter<File>,
    /// The number of orders written so far.
    orders: u64,
}

impl Chosen {
    fn begin(folder: &Path, generation: u32) -> io::Result<Chosen> {
        let to = File::create(draft(folder, CHOSEN, generation))?;
        let from = File::open(folder.join(CHOSEN))?;
        Ok(Chosen { from, to: BufWriter::with_capacity(BUFFER_BYTES, to), orders: 0 })
    }

    /// Appends the orders in the range, except those at the indexes `gone`.
    fn copy(&mut self, range: Range<u64>, gone: &[u64]) -> io::Result<()> {
        let mut at = range.start;
        for place in within(gone, &range) {
            self.copy_all(at..*place)?;
            at = place + 1;
        }
        self.copy_all(at..range.end)
    }

    fn copy_all(&mut self, range: Range<u64>) -> io::Result<()> {
        let wanted = (range.end - range.start) * CHOSEN_BYTES;
        if wanted == 0 {
            return Ok(());
        }
        self.from.seek(SeekFrom::Start(range.start * CHOSEN_BYTES))?;
        if io::copy(&mut (&self.from).take(wanted), &mut self.to)? != wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.orders += range.end - range.start;
        Ok(())
    }

    fn end(mut self) -> io::Result<()> {
        self.to.flush()?;
        self.to.get_ref().sync_all()
    }
}
