//! The file of one export while it is written: batches in, bytes and checkpoints out.
//!
//! When the work continues after a restart, the bytes before the checkpoint are verified by their digest. After a
//! kill they always match; after a power cut they may not. A checkpoint's bytes are written before `progress.json` or
//! `state.json` records the checkpoint. When the work continues, bytes after the checkpoint are truncated.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sha2::{Digest as _, Sha256};

use super::body::{Compression, ExportFormat};
use super::marks::marks_of;
use super::pack::pack;
use super::parquet::ParquetEncoder;
use super::record::{Checkpoint, Export, ExportState, Progress, Seen};
use super::source::{Batch, Chosen};
use super::store::{BESIDE, CHOSEN, ExportError, ExportStore, FILE, MARKS};
use super::text::TextEncoder;
use crate::base::clock;
use crate::base::ids::hex;

/// The number of bytes verified in one step. A step takes some 10 ms.
const VERIFIED_BYTES: u64 = 8 << 20;

/// Converts rows to bytes.
#[derive(Debug)]
enum Encoder {
    Text { encoder: TextEncoder, compression: Compression, raw: Vec<u8> },
    Parquet(Box<ParquetEncoder>),
}

/// The file being written.
#[derive(Debug)]
pub(super) struct ExportFile {
    store: Arc<ExportStore>,
    export: Arc<Export>,
    file: File,
    /// The metadata of the row groups, for Parquet only.
    beside: File,
    marks: File,
    digest: Sha256,
    beside_digest: Sha256,
    marks_digest: Sha256,
    encoder: Encoder,
    checkpoint: Checkpoint,
    /// The number of received orders, events or clicks, including those of the group that is not written yet.
    orders: u64,
    /// The runs of received orders that are not yet written. A run consists of consecutive orders of one shard: the
    /// shard's index, and the value of `orders` at the end of the run.
    runs: Vec<(u32, u64)>,
    /// Set once rows have been written since the file was opened.
    has_advanced: bool,
    out: Vec<u8>,
}

/// What remains to be done after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remaining {
    Nothing,
    /// Call [`ExportFile::encode_more`].
    More,
}

pub(super) fn opened(store: &ExportStore, export: &Export, name: &str) -> io::Result<File> {
    let path = store.folder_of(&export.id).join(name);
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

impl ExportFile {
    /// Opens the file at its checkpoint. The caller must still verify it.
    ///
    /// # Errors
    /// Returns I/O errors.
    pub(super) fn open(store: Arc<ExportStore>, export: Arc<Export>) -> io::Result<ExportFile> {
        let (file, beside) = (opened(&store, &export, FILE)?, opened(&store, &export, BESIDE)?);
        let marks = opened(&store, &export, MARKS)?;
        let (spec, columns) = (&export.spec, export.spec.columns());
        let encoder = match spec.format {
            ExportFormat::Parquet => {
                let made = ParquetEncoder::new(&export.tenant, spec.rows, &columns, spec.compression)?;
                Encoder::Parquet(Box::new(made))
            }
            ExportFormat::Csv | ExportFormat::Ndjson => Encoder::Text {
                encoder: TextEncoder::new(&export.tenant, spec.format, spec.rows, &columns),
                compression: spec.compression,
                raw: Vec::new(),
            },
        };
        let checkpoint = export.progress().checkpoint.clone();
        let orders = checkpoint.orders;
        Ok(ExportFile {
            store,
            export,
            file,
            beside,
            marks,
            digest: Sha256::new(),
            beside_digest: Sha256::new(),
            marks_digest: Sha256::new(),
            encoder,
            checkpoint,
            orders,
            runs: Vec::new(),
            has_advanced: false,
            out: Vec::new(),
        })
    }

    /// Returns the offset at which [`ExportFile::verify`] must start: the end of the bytes that this process has
    /// already written or verified. Erasures restart jobs repeatedly, and a restarted job must not read a long file
    /// each time.
    pub(super) fn seen(&mut self) -> u64 {
        let generation = self.export.progress().generation;
        match self.export.seen.load_full() {
            Some(seen) if seen.generation == generation && seen.bytes <= self.checkpoint.bytes => {
                self.digest = seen.digest.clone();
                seen.bytes
            }
            _ => 0,
        }
    }

    fn see(&self, bytes: u64) {
        let generation = self.export.progress().generation;
        let seen = Seen { generation, bytes, digest: self.digest.clone() };
        self.export.seen.store(Some(Arc::new(seen)));
    }

    /// Verifies the next part of the bytes before the checkpoint, starting at `from`, where the last step ended.
    /// Returns the end of this step, or `None` once all bytes are verified and the bytes after the checkpoint are
    /// truncated.
    ///
    /// # Errors
    /// Returns I/O errors. If the bytes differ from those written, the file restarts as another generation.
    pub(super) fn verify(&mut self, from: u64) -> io::Result<Option<u64>> {
        let until = self.checkpoint.bytes.min(from + VERIFIED_BYTES);
        let (mut at, mut block) = (from, vec![0; 256 * 1024]);
        while at < until {
            let wanted = block.len().min((until - at) as usize);
            match self.file.read_at(&mut block[..wanted], at)? {
                0 => break,
                count => {
                    self.digest.update(&block[..count]);
                    at += count as u64;
                }
            }
        }
        if at == until && until < self.checkpoint.bytes {
            self.see(until);
            return Ok(Some(until));
        }
        let is_right = at == self.checkpoint.bytes
            && (at == 0 || hex(&self.digest.clone().finalize()) == self.checkpoint.digest)
            && self.verify_beside()?
            && self.verify_marks()?;
        if is_right {
            self.see(at);
        } else {
            tracing::error!(
                export = self.export.id.as_str(),
                "the file of an export does not match its record; the export restarts"
            );
            let mut progress = Progress::clone(&self.export.progress());
            progress.generation += 1;
            progress.checkpoint = Checkpoint::default();
            self.checkpoint = Checkpoint::default();
            self.orders = 0;
            (self.digest, self.beside_digest) = (Sha256::new(), Sha256::new());
            self.marks_digest = Sha256::new();
            self.store.publish(&self.export, progress, false)?;
        }
        self.file.set_len(self.checkpoint.bytes)?;
        self.beside.set_len(self.checkpoint.beside)?;
        self.marks.set_len(self.checkpoint.marks)?;
        let chosen = opened(&self.store, &self.export, CHOSEN)?.metadata()?.len();
        let Checkpoint { bytes, beside, marks, .. } = &self.checkpoint;
        self.store.recharge(&self.export, bytes + beside + marks + chosen);
        Ok(None)
    }

    /// Returns `true` if the side file still contains what was written. Reads some KB for each row group.
    fn verify_beside(&mut self) -> io::Result<bool> {
        if self.beside.metadata()?.len() < self.checkpoint.beside {
            return Ok(false);
        }
        self.beside_digest = Sha256::new_with_prefix(self.read_beside()?);
        let is_empty = self.checkpoint.beside == 0;
        Ok(is_empty || hex(&self.beside_digest.clone().finalize()) == self.checkpoint.beside_digest)
    }

    /// Returns `true` if the marks are the ones that were written. Reads 40 bytes for each mark.
    fn verify_marks(&mut self) -> io::Result<bool> {
        if self.marks.metadata()?.len() < self.checkpoint.marks {
            return Ok(false);
        }
        let mut marks = vec![0; self.checkpoint.marks as usize];
        self.marks.read_exact_at(&mut marks, 0)?;
        self.marks_digest = Sha256::new_with_prefix(marks);
        let is_empty = self.checkpoint.marks == 0;
        Ok(is_empty || hex(&self.marks_digest.clone().finalize()) == self.checkpoint.marks_digest)
    }

    fn read_beside(&self) -> io::Result<Vec<u8>> {
        let mut beside = vec![0; self.checkpoint.beside as usize];
        self.beside.read_exact_at(&mut beside, 0)?;
        Ok(beside)
    }

    /// Returns the number of chosen orders that the file has received.
    pub(super) fn orders(&self) -> u64 {
        self.orders
    }

    /// Returns `true` if rows have been written since the file was opened, and the file contains more than this many
    /// orders. A job that stops at this point has made progress.
    pub(super) fn has_advanced_behind(&self, orders: u64) -> bool {
        self.has_advanced && self.checkpoint.orders > orders
    }

    /// Writes the bytes that precede all rows as a separate block, because the first block of rows may be removed
    /// later.
    fn begin(&mut self) -> Result<(), ExportError> {
        self.out.clear();
        match &mut self.encoder {
            Encoder::Parquet(_) => ParquetEncoder::head(&mut self.out),
            Encoder::Text { encoder, compression, raw } => {
                raw.clear();
                encoder.head(raw);
                if raw.is_empty() {
                    return Ok(());
                }
                pack(*compression, raw, &mut self.out)?;
            }
        }
        self.append(0, &[])
    }

    /// Receives the next rows, which all belong to the shard with this index.
    ///
    /// # Errors
    /// Returns [`ExportError::NoRoom`] or I/O errors.
    pub(super) fn encode(&mut self, batch: &mut Batch, shard: u32) -> Result<Remaining, ExportError> {
        if self.checkpoint.bytes == 0 {
            self.begin()?;
        }
        self.orders += batch.chosen() as u64;
        match self.runs.last_mut() {
            Some((of, end)) if *of == shard => *end = self.orders,
            _ => self.runs.push((shard, self.orders)),
        }
        match &mut self.encoder {
            Encoder::Parquet(encoder) => {
                Ok(if encoder.encode(batch) { Remaining::More } else { Remaining::Nothing })
            }
            Encoder::Text { encoder, compression, raw } => {
                raw.clear();
                let rows = encoder.rows(batch, raw);
                self.out.clear();
                match compression {
                    // Some MB a batch, which need no copy.
                    Compression::None => std::mem::swap(raw, &mut self.out),
                    _ => pack(*compression, raw, &mut self.out)?,
                }
                self.append(rows, &[])?;
                Ok(Remaining::Nothing)
            }
        }
    }

    /// Continues to encode a full group of rows, one column at a time.
    ///
    /// # Errors
    /// Returns [`ExportError::NoRoom`] or I/O errors.
    pub(super) fn encode_more(&mut self) -> Result<Remaining, ExportError> {
        let offset = self.checkpoint.bytes;
        let Encoder::Parquet(encoder) = &mut self.encoder else { return Ok(Remaining::Nothing) };
        if !encoder.has_rows() || encoder.next_column()? {
            return Ok(if encoder.has_rows() { Remaining::More } else { Remaining::Nothing });
        }
        self.out.clear();
        let (rows, beside) = encoder.end_group(offset, &mut self.out)?;
        self.append(rows, &beside)?;
        Ok(Remaining::Nothing)
    }

    /// Writes `out` and publishes the new checkpoint.
    fn append(&mut self, rows: u64, beside: &[u8]) -> Result<(), ExportError> {
        // If an older version started the file, no marks are written, because they would not cover all of it.
        let has_marks = self.checkpoint.bytes == 0 || self.checkpoint.marks > 0;
        let grown = (rows, self.out.len() as u64, beside.len() as u64);
        let marks = if has_marks { marks_of(&self.checkpoint, &self.runs, grown) } else { Vec::new() };
        self.runs.clear();
        self.store.charge(&self.export, (self.out.len() + beside.len() + marks.len()) as u64)?;
        self.file.write_all_at(&self.out, self.checkpoint.bytes)?;
        self.beside.write_all_at(beside, self.checkpoint.beside)?;
        self.marks.write_all_at(&marks, self.checkpoint.marks)?;
        self.digest.update(&self.out);
        self.beside_digest.update(beside);
        self.marks_digest.update(&marks);
        self.checkpoint.bytes += self.out.len() as u64;
        self.checkpoint.beside += beside.len() as u64;
        self.checkpoint.marks += marks.len() as u64;
        self.checkpoint.rows += rows;
        self.checkpoint.orders = self.orders;
        self.checkpoint.digest = hex(&self.digest.clone().finalize());
        self.checkpoint.beside_digest = hex(&self.beside_digest.clone().finalize());
        self.checkpoint.marks_digest = hex(&self.marks_digest.clone().finalize());
        let mut progress = Progress::clone(&self.export.progress());
        progress.checkpoint = self.checkpoint.clone();
        self.store.publish(&self.export, progress, false)?;
        self.see(self.checkpoint.bytes);
        self.has_advanced |= rows > 0;
        self.store.rows_total.fetch_add(rows, Ordering::Relaxed);
        Ok(())
    }

    /// Returns `true` if some rows have been received but not written yet.
    pub(super) fn is_holding(&self) -> bool {
        matches!(&self.encoder, Encoder::Parquet(encoder) if encoder.has_rows())
    }

    /// Ends the file after the last order. The file is synced, and the export is done.
    ///
    /// # Errors
    /// Returns [`ExportError::NoRoom`] or I/O errors.
    pub(super) fn finish(mut self) -> Result<(), ExportError> {
        self.out.clear();
        let is_empty = self.checkpoint.bytes == 0;
        match &self.encoder {
            Encoder::Parquet(encoder) => {
                if is_empty {
                    ParquetEncoder::head(&mut self.out);
                }
                self.out.extend_from_slice(&encoder.end(&self.read_beside()?)?);
            }
            // A file without rows still has its header. If the file is compressed, it is a complete gzip member or
            // zstd frame even without content.
            Encoder::Text { encoder, compression, .. } if is_empty => {
                let mut head = Vec::new();
                encoder.head(&mut head);
                pack(*compression, &head, &mut self.out)?;
            }
            Encoder::Text { .. } => {}
        }
        self.store.charge(&self.export, self.out.len() as u64)?;
        self.file.write_all_at(&self.out, self.checkpoint.bytes)?;
        self.file.sync_all()?;
        self.marks.sync_all()?;
        self.digest.update(&self.out);
        self.checkpoint.bytes += self.out.len() as u64;
        self.checkpoint.digest = hex(&self.digest.clone().finalize());
        let now_us = clock::unix_us();
        let progress = Progress {
            state: ExportState::Done,
            checkpoint: self.checkpoint.clone(),
            finished_us: Some(now_us),
            expires_us: Some(self.store.expires_us(now_us)),
            ..Progress::clone(&self.export.progress())
        };
        self.store.publish(&self.export, progress, true)?;
        // The selection and the marks are not deleted, because they show whether the file contains a person who is to
        // be erased.
        let folder = self.store.folder_of(&self.export.id);
        let _ = std::fs::remove_file(folder.join(BESIDE));
        let chosen = std::fs::metadata(folder.join(CHOSEN)).map_or(0, |found| found.len());
        self.store.recharge(&self.export, self.checkpoint.bytes + self.checkpoint.marks + chosen);
        self.export.seen.store(None);
        self.store.done_total.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// The chosen rows of all shards, in file order: shard by shard until the first splice. Each row takes 8 bytes: the
/// row id, above 3 bits for an order's status.
#[derive(Debug)]
pub(super) struct ChosenFile(File);

pub(super) const CHOSEN_BYTES: u64 = 8;

impl ChosenFile {
    pub(super) fn open(store: &ExportStore, export: &Export) -> io::Result<ChosenFile> {
        opened(store, export, CHOSEN).map(ChosenFile)
    }

    /// Removes all rows.
    pub(super) fn clear(&self) -> io::Result<()> {
        self.0.set_len(0)
    }

    /// Appends rows to those already written through this handle.
    pub(super) fn append(
        &mut self,
        store: &ExportStore,
        export: &Export,
        chosen: &Chosen,
    ) -> Result<(), ExportError> {
        let mut bytes = Vec::with_capacity(chosen.len() * CHOSEN_BYTES as usize);
        chosen.write(&mut bytes);
        store.charge(export, bytes.len() as u64)?;
        self.0.write_all(&bytes)?;
        Ok(())
    }

    /// Returns the number of rows.
    pub(super) fn count(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len() / CHOSEN_BYTES)
    }

    /// Syncs the file, so that the rows survive a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    /// Returns the words of the next rows from an index on.
    pub(super) fn read(&self, first: u64, count: usize) -> io::Result<Vec<u64>> {
        let mut bytes = vec![0; count * CHOSEN_BYTES as usize];
        self.0.read_exact_at(&mut bytes, first * CHOSEN_BYTES)?;
        Ok(bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }
}
