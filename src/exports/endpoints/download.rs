//! An export's file, piece by piece as the client receives it, including what is added while the file grows.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::super::record::{Export, ExportState, Progress};
use crate::cores::executor::{self, ReadFile};
use crate::cores::stop::Stage;
use crate::lane::{BodyError, Lane, NextBytes, Pieces};

/// The size of one piece. For a client that does not read, the server holds two pieces and the bytes in the socket.
const PIECE_BYTES: u64 = 128 * 1024;
/// The minimum pause between two checks for file growth. The pause doubles from this value up to the maximum.
const LOOK_MIN: Duration = Duration::from_millis(5);
/// The maximum pause between two checks for file growth.
const LOOK_MAX: Duration = Duration::from_millis(200);

/// Why a download is aborted. An aborted download never ends as if it were complete.
type Break = &'static str;

const MADE_ANEW: Break = "the export restarts";

/// The state of a download.
pub(super) struct ExportPieces {
    lane: Rc<Lane>,
    export: Arc<Export>,
    generation: u32,
    path: PathBuf,
    file: Option<ReadFile>,
    at: u64,
    /// The end of the requested part. `None` means the end of the file, once it is known.
    until: Option<u64>,
}

impl Pieces for ExportPieces {
    fn next(&mut self) -> NextBytes<'_> {
        Box::pin(async { self.next_piece().await.map_err(BodyError::Ended) })
    }
}

impl ExportPieces {
    pub(super) fn new(
        lane: Rc<Lane>,
        export: Arc<Export>,
        progress: &Progress,
        path: PathBuf,
        (at, until): (u64, Option<u64>),
    ) -> ExportPieces {
        ExportPieces { lane, export, generation: progress.generation, path, file: None, at, until }
    }

    async fn next_piece(&mut self) -> Result<Option<Vec<u8>>, Break> {
        let mut pause = LOOK_MIN;
        loop {
            let progress = self.export.progress();
            if self.export.is_removed() {
                return Err("the export was deleted");
            }
            if progress.generation != self.generation {
                return Err(MADE_ANEW);
            }
            match progress.state {
                ExportState::Failed => return Err("the export failed"),
                ExportState::Expired => return Err("the export expired"),
                ExportState::Erased => return Err("the export contained a person who was erased"),
                ExportState::Queued | ExportState::Running | ExportState::Done => {}
            }
            if self.until == Some(self.at) {
                return Ok(None);
            }
            let there = progress.checkpoint.bytes.min(self.until.unwrap_or(u64::MAX));
            if self.at < there {
                let bytes = self.read((there - self.at).min(PIECE_BYTES)).await?;
                // The file may have been replaced before it was opened. A new generation is published before its file
                // gets its final name.
                if self.export.progress().generation != self.generation {
                    return Err(MADE_ANEW);
                }
                return Ok(Some(bytes));
            }
            if progress.state == ExportState::Done {
                return Ok(None);
            }
            if self.lane.vitals.stop.stage() >= Stage::Draining {
                return Err("the server is shutting down");
            }
            executor::sleep(pause).await;
            pause = LOOK_MAX.min(pause * 2);
        }
    }

    async fn read(&mut self, count: u64) -> Result<Vec<u8>, Break> {
        let failed = |error: std::io::Error| {
            tracing::error!(%error, "the file of an export cannot be read");
            "the file cannot be read"
        };
        let file = match self.file.take() {
            Some(file) => file,
            None => ReadFile::open(&self.path).await.map_err(failed)?,
        };
        let bytes = file.read_at(self.at, count as usize).await.map_err(failed)?;
        self.file = Some(file);
        if bytes.is_empty() {
            return Err("the file is shorter than before");
        }
        self.at += bytes.len() as u64;
        Ok(bytes)
    }
}
