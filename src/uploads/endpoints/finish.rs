//! The end of an upload. A complete upload is finished, and its response is stored under the idempotency key that the
//! client sent, if any. An upload that is too damaged to read, or that contains no order, fails.

use std::io;

use super::super::answer::UploadRefused;
use super::super::record::{Checkpoint, Damage, State, Upload};
use super::claim::name;
use super::open_upload::{OpenUpload, SLICE_BYTES, save};
use super::upload_store;
use crate::api::write::WriteRefused;
use crate::cores::executor;
use crate::lane::Lane;
use crate::unpack::{Next, UnpackError, Unpacker};

/// Saves the final state durably, at any ack level. This must precede the deletion of the body, because an upload in
/// the receiving state must have a body.
pub(super) async fn keep_end(lane: &Lane, upload: &mut Upload) -> io::Result<()> {
    save(lane, upload, true).await
}

/// Deletes the body, after [`keep_end`].
pub(super) async fn drop_body(lane: &Lane, upload: &Upload) -> io::Result<()> {
    let (store, upload) = (upload_store(lane).clone(), upload.clone());
    executor::blocking(move || store.ended(&upload)).await
}

impl OpenUpload {
    /// Ends the unpacker's input, and stores the rows that this yields.
    pub(super) async fn finish(&mut self) -> Result<(), UploadRefused> {
        let Some(live) = &mut self.live else { return Ok(()) };
        live.unpacker.finish();
        let drained = live.intaking.drain(&self.lane, &mut live.unpacker, 0).await;
        if let Some(live) = &mut self.live {
            live.intaking.ingest.summary.skip_entries(&live.unpacker.skipped());
        }
        self.checked(drained)?;
        if !self.commit().await? {
            // Neither the upload's state nor its key may outlive its rows. The next request finishes the upload.
            return Ok(());
        }
        let summary = &self.upload.checkpoint.summary;
        if !summary.is_anything_known() {
            // All bytes arrived, but no line is an order. The failure is reported, and the key remains free.
            let failed = State::Failed { damage: Damage::NothingKnown, detail: summary.advice() };
            return self.end(failed).await;
        }
        if self.upload.key.is_some() {
            self.remember().await?;
        }
        self.end(State::Finished).await
    }

    /// Saves the final state, and deletes the body.
    async fn end(&mut self, state: State) -> Result<(), UploadRefused> {
        self.upload.state = state;
        if let Err(error) = keep_end(&self.lane, &mut self.upload).await {
            // On disk, the upload may have ended anyway. The next request that opens it detects this and ends it
            // again.
            self.upload.state = State::Receiving;
            return Err(error.into());
        }
        self.body = None;
        Ok(drop_body(&self.lane, &self.upload).await?)
    }

    /// Ends the upload if the outcome is that its bytes cannot be read. Stored rows remain.
    pub(super) async fn failing(&mut self, outcome: Result<(), UploadRefused>) -> Result<(), UploadRefused> {
        let Err(UploadRefused::Ingest(WriteRefused::Unpack(error))) = &outcome else { return outcome };
        let (damage, detail) = (Damage::from(error), error.to_string());
        // If the rows cannot be synced, the upload does not end yet. A later request fails again and ends it.
        if self.commit().await? {
            self.end(State::Failed { damage, detail: detail.clone() }).await?;
        }
        self.live = None;
        Err(UploadRefused::Failed { damage, detail })
    }

    /// Stores the response under its idempotency key, as a single-request ingest does. A response that is already
    /// stored remains.
    async fn remember(&mut self) -> Result<(), UploadRefused> {
        let fingerprint = self.live.as_ref().and_then(|live| live.unpacker.fingerprint());
        let fingerprint = match fingerprint {
            Some(fingerprint) => fingerprint,
            None => self.fingerprint().await?,
        };
        let (lane, upload) = (&self.lane, &self.upload);
        let named = name(lane, upload.tenant.as_deref(), upload.key()).await?;
        if named.finished(lane).await?.is_some() {
            named.keep(lane, self.wants_disk).await?;
        } else {
            let Checkpoint { summary, worked_us, .. } = &upload.checkpoint;
            let answer = summary.json(upload.key(), *worked_us);
            named.finish(lane, &fingerprint, &answer, self.wants_disk).await?;
        }
        Ok(())
    }

    /// Returns the fingerprint of an upload that was resumed partway. This reads the whole body again.
    async fn fingerprint(&self) -> Result<[u8; 32], UploadRefused> {
        let (Some(body), mut unpacker, mut at) = (&self.body, Unpacker::new(self.limits()), 0) else {
            return Err(UploadRefused::Lost);
        };
        let mut held = self.lane.memory.hold();
        let read = |unpacker: &mut Unpacker| -> Result<(), UnpackError> {
            while let Next::Line(_) = unpacker.next()? {}
            Ok(())
        };
        while at < body.length() {
            let bytes = body.read(at, SLICE_BYTES)?;
            at += bytes.len() as u64;
            unpacker.feed(bytes);
            read(&mut unpacker).map_err(WriteRefused::from)?;
            // The upload already exists, so its memory is counted but not refused.
            let _ = held.set(unpacker.memory_bytes());
            futures_lite::future::yield_now().await;
        }
        unpacker.finish();
        read(&mut unpacker).map_err(WriteRefused::from)?;
        unpacker.fingerprint().ok_or(UploadRefused::Lost)
    }
}
