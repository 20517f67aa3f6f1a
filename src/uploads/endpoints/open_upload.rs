//! One upload under one request's claim: its body, its unpacker, and the checkpoint before which everything is
//! stored.

use std::io;
use std::rc::Rc;

use super::super::answer::UploadRefused;
use super::super::body::Body;
use super::super::record::{Checkpoint, State, Upload, UploadId};
use super::claim::claim;
use super::finish::{drop_body, keep_end};
use super::kept::KeptState;
use super::{kept, upload_store};
use crate::api::write::WriteRefused;
use crate::base::clock;
use crate::cores::executor::{self, Files};
use crate::lane::Lane;
use crate::lane::keyed::Claim;
use crate::orders::OrderIngest;
use crate::orders::endpoints::{RowIntake, ingest_id};
use crate::unpack::{Limits, Unpacker};

/// A body is read again in slices of this many bytes. Decompressed, a slice has up to a few MB. Other tasks run
/// between two slices.
pub(super) const SLICE_BYTES: usize = 64 * 1024;

pub(super) struct OpenUpload {
    pub(super) lane: Rc<Lane>,
    claim: Claim,
    pub(super) upload: Upload,
    /// The upload's body. It is present while the upload is being received.
    pub(super) body: Option<Body>,
    pub(super) live: Option<KeptState>,
    /// Set if the reported state has to survive a power cut.
    pub(super) wants_disk: bool,
    /// An offset in the body, and the body's CRC-32C up to it.
    sum: (u64, u32),
    /// The number of body bytes that were fed to `live`.
    fed: u64,
    since_us: u64,
}

/// Returns an upload as of its last checkpoint, if the tenant may see it and it has not expired.
pub(super) fn find(lane: &Lane, id: &UploadId, tenant: Option<&str>) -> Result<Upload, UploadRefused> {
    let upload = upload_store(lane).load(id)?.filter(|upload| upload.is_of(tenant));
    let upload = upload.ok_or(UploadRefused::NotFound)?;
    match upload.is_expired(clock::unix_us()) {
        true => Err(UploadRefused::Gone),
        false => Ok(upload),
    }
}

/// Saves the upload. Its present state is valid from now on, even after a crash. If `is_kept`, it also survives a
/// power cut. Otherwise, an earlier state may be valid after a power cut. Saving also restarts the upload's expiry
/// time.
pub(super) async fn save(lane: &Lane, upload: &mut Upload, is_kept: bool) -> io::Result<()> {
    let expiry_us = lane.vitals.config.upload_expiry.as_micros() as i64;
    upload.expires_us = clock::unix_us().saturating_add(expiry_us);
    let (store, mut saved) = (upload_store(lane).clone(), upload.clone());
    *upload = executor::blocking(move || store.save(&mut saved, is_kept).map(|()| saved)).await?;
    Ok(())
}

/// Compares the body with the checkpoint, when the body is first used after a start. After a power cut, the file may
/// have its full length on disk but not its content after the checkpoint. The bytes after the checkpoint are
/// therefore truncated, and the client sends them again. If the bytes before the checkpoint differ from those
/// received, all bytes are truncated. Rows that arrive again are recognised by their lines.
async fn check(body: &mut Body, checkpoint: &mut Checkpoint) -> io::Result<()> {
    let is_there = body.length() >= checkpoint.offset;
    body.cut(checkpoint.offset)?;
    // A body that was synced is read too: if one sync fails, the next one may succeed although pages are missing.
    let (mut sum, mut at) = (0, 0);
    while is_there && at < checkpoint.offset {
        let bytes = body.read(at, SLICE_BYTES)?;
        (sum, at) = (Body::sum(sum, &bytes), at + bytes.len() as u64);
        futures_lite::future::yield_now().await;
    }
    // An earlier version stored no sum.
    let expected = *checkpoint.sum.get_or_insert(sum);
    if !is_there || sum != expected {
        tracing::warn!(body = %body.path().display(), "an upload lost bytes in a power cut and restarts");
        body.cut(0)?;
        *checkpoint = Checkpoint::default();
    }
    Ok(())
}

impl OpenUpload {
    /// Opens an upload. Waits for the previous request, if there is one.
    pub(super) async fn open(
        lane: &Rc<Lane>,
        id: &UploadId,
        tenant: Option<&str>,
        wants_disk: bool,
    ) -> Result<OpenUpload, UploadRefused> {
        // This check precedes the claim, so that a client that may not see the upload cannot delay other requests.
        find(lane, id, tenant)?;
        let claim = claim(lane, id).await?;
        let mut upload = find(lane, id, tenant)?;
        let mut body = None;
        if upload.state == State::Receiving {
            let mut found = upload_store(lane).body(&upload)?;
            if let Some(held_from) = upload.held_from.take() {
                found.cut(held_from)?;
            }
            if upload_store(lane).is_unchecked(id) {
                let before = upload.checkpoint.clone();
                check(&mut found, &mut upload.checkpoint).await?;
                if upload.checkpoint != before {
                    save(lane, &mut upload, wants_disk).await?;
                }
                upload_store(lane).note_checked(id);
            }
            if found.length() < upload.checkpoint.offset {
                // The body was truncated by something outside the server. The rows arrive again, and are recognised
                // by their lines.
                upload.checkpoint = Checkpoint::default();
            }
            body = Some(found);
        } else if upload_store(lane).has_body(id) {
            // The upload's end was published, but may not be durable.
            keep_end(lane, &mut upload).await?;
            drop_body(lane, &upload).await?;
        }
        let sum = (upload.checkpoint.offset, upload.checkpoint.sum.unwrap_or_default());
        let since_us = clock::monotonic_us();
        let lane = lane.clone();
        Ok(OpenUpload { lane, claim, upload, body, live: None, wants_disk, sum, fed: 0, since_us })
    }

    /// Returns the number of bytes in the upload's body. After [`OpenUpload::settle`], all of them are also stored as
    /// rows.
    pub(super) fn offset(&self) -> u64 {
        match (&self.body, &self.upload.state) {
            (Some(body), _) => body.length(),
            (None, State::Finished) => self.upload.length,
            _ => self.upload.checkpoint.offset,
        }
    }

    /// Sets the length of an upload that was created without one. For any other upload, the length must equal the
    /// declared length.
    pub(super) async fn tell_length(&mut self, length: u64) -> Result<(), UploadRefused> {
        match self.upload.is_deferred {
            true if length >= self.offset() => {
                (self.upload.length, self.upload.is_deferred) = (length, false);
                Ok(save(&self.lane, &mut self.upload, self.wants_disk).await?)
            }
            true => Err(UploadRefused::Header("Upload-Length is less than the number of bytes received")),
            false if length == self.upload.length => Ok(()),
            false => Err(UploadRefused::Header("the upload already has another length")),
        }
    }

    /// Completes when another request wants the upload.
    pub(super) async fn wanted(&self) {
        self.claim.wanted().await;
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { decoded_bytes_max: self.lane.vitals.config.ingest_bytes_max, ..Limits::default() }
    }

    /// Moves the unpacker to the end of the body. An unpacker that was not kept in memory is restored from the
    /// checkpoint: immediately for plain lines, and at 400 MB of lines per second for gzip.
    pub(super) async fn revive(&mut self) -> Result<(), UploadRefused> {
        if self.live.is_none() {
            let Upload { id, version, .. } = &self.upload;
            let kept = kept(&self.lane).borrow_mut().take(id, *version);
            self.fed = match (&kept, self.upload.checkpoint.resume) {
                (Some(_), _) => self.upload.checkpoint.offset,
                (None, Some(resume)) => resume.offset_bytes,
                (None, None) => 0,
            };
            let mut live = kept.unwrap_or_else(|| self.begin());
            live.intaking.set_wants_disk(self.wants_disk);
            self.live = Some(live);
        }
        self.feed_body().await
    }

    /// Creates the unpacker and the ingest as of the checkpoint.
    fn begin(&self) -> KeptState {
        let Upload { tenant, checkpoint, .. } = &self.upload;
        let lane = &self.lane;
        // The ingest's id is derived from the key and not from the upload's id, so that rows stored by an earlier
        // upload with the same key belong to this upload too.
        let id = ingest_id(lane.keys.hash(tenant.as_deref().unwrap_or("*"), self.upload.key()));
        let mut ingest = OrderIngest::new(id, tenant.clone(), clock::unix_us(), lane.shard_count);
        ingest.summary = checkpoint.summary.clone();
        let unpacker = match checkpoint.resume {
            Some(resume) => Unpacker::resume(self.limits(), resume),
            None => Unpacker::new(self.limits()),
        };
        let intaking = RowIntake::behind(ingest, checkpoint.lines, self.wants_disk);
        KeptState { unpacker, intaking }
    }

    /// Feeds the body's bytes that have not been fed yet.
    pub(super) async fn feed_body(&mut self) -> Result<(), UploadRefused> {
        while let Some(body) = &self.body
            && self.fed < body.length()
        {
            let bytes = body.read(self.fed, SLICE_BYTES)?;
            self.feed(bytes).await?;
            futures_lite::future::yield_now().await;
        }
        Ok(())
    }

    async fn feed(&mut self, bytes: bytes::Bytes) -> Result<(), UploadRefused> {
        let Some(live) = &mut self.live else { return Err(UploadRefused::Lost) };
        // Bytes that are read again are already in the sum.
        let known = (self.sum.0.saturating_sub(self.fed)).min(bytes.len() as u64);
        self.fed += bytes.len() as u64;
        self.sum = (self.sum.0.max(self.fed), Body::sum(self.sum.1, &bytes[known as usize..]));
        live.unpacker.feed(bytes);
        let drained = live.intaking.drain(&self.lane, &mut live.unpacker, 0).await;
        self.checked(drained)
    }

    /// Returns the outcome. After a failure that the bytes did not cause, drops `live`, because the state of some
    /// rows is unknown.
    pub(super) fn checked(&mut self, outcome: Result<(), WriteRefused>) -> Result<(), UploadRefused> {
        if !matches!(outcome, Ok(()) | Err(WriteRefused::Unpack(_))) {
            self.live = None;
        }
        Ok(outcome?)
    }

    /// Appends bytes to the body, then converts them to rows.
    pub(super) async fn ingest(&mut self, bytes: bytes::Bytes) -> Result<(), UploadRefused> {
        self.append(&bytes)?;
        self.feed(bytes).await
    }

    /// Appends bytes to the body only.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), UploadRefused> {
        let body = self.body.as_mut().ok_or(UploadRefused::Lost)?;
        Ok(body.append(bytes)?)
    }

    /// Marks the current offset. Bytes after this offset do not count until [`OpenUpload::accept`] is called. This
    /// also holds after a crash.
    pub(super) async fn hold(&mut self) -> Result<(), UploadRefused> {
        self.upload.held_from = Some(self.offset());
        Ok(save(&self.lane, &mut self.upload, self.wants_disk).await?)
    }

    pub(super) async fn accept(&mut self) -> Result<(), UploadRefused> {
        self.upload.held_from = None;
        Ok(save(&self.lane, &mut self.upload, self.wants_disk).await?)
    }

    /// Drops the bytes that arrived since [`OpenUpload::hold`].
    pub(super) async fn reject(&mut self) -> Result<(), UploadRefused> {
        if let (Some(held_from), Some(body)) = (self.upload.held_from, &mut self.body) {
            body.cut(held_from)?;
        }
        self.accept().await
    }

    /// Commits everything that was fed. If possible, also moves the checkpoint to the end of these bytes and saves
    /// it.
    pub(super) async fn settle(&mut self) -> Result<(), UploadRefused> {
        self.commit().await?;
        if self.live.is_some() {
            save(&self.lane, &mut self.upload, self.wants_disk).await?;
        }
        Ok(())
    }

    /// Commits everything that was fed, and moves the checkpoint in memory only. Returns `false` if the rows could
    /// not be synced. In that case, the checkpoint does not move. After a power cut, or at the next request, the rows
    /// arrive again and are recognised by their lines.
    pub(super) async fn commit(&mut self) -> Result<bool, UploadRefused> {
        self.sync_body().await?;
        let Some(live) = &mut self.live else { return Ok(true) };
        let settled = live.intaking.settle(&self.lane).await;
        let settled = match settled {
            Ok(()) => live.intaking.make_durable(&self.lane).await,
            Err(refused) => Err(refused),
        };
        let is_durable = matches!(settled, Ok(true));
        self.checked(settled.map(drop))?;
        let Some(live) = self.live.as_ref().filter(|_| is_durable) else { return Ok(false) };
        let now_us = clock::monotonic_us();
        self.upload.checkpoint = Checkpoint {
            offset: self.fed,
            lines: live.unpacker.lines(),
            sum: Some(self.sum.1),
            is_synced: self.wants_disk,
            resume: live.unpacker.plain_resume(),
            worked_us: self.upload.checkpoint.worked_us + (now_us - self.since_us),
            summary: live.intaking.ingest.summary.clone(),
        };
        self.since_us = now_us;
        Ok(true)
    }

    async fn sync_body(&self) -> io::Result<()> {
        match &self.body {
            Some(body) if self.wants_disk => Files::default().sync_data(body.path()).await,
            _ => Ok(()),
        }
    }

    /// Makes the present checkpoint as durable as this request's ack level requires. This level may be higher than
    /// the level at which the checkpoint was written. The checkpoint's rows are already durable.
    async fn keep_checkpoint(&mut self) -> Result<(), UploadRefused> {
        if !self.wants_disk {
            return Ok(());
        }
        if self.upload.checkpoint.is_synced {
            return Ok(Files::default().sync_folder(&upload_store(&self.lane).path(&self.upload.id)).await?);
        }
        self.sync_body().await?;
        self.upload.checkpoint.is_synced = true;
        Ok(save(&self.lane, &mut self.upload, true).await?)
    }

    /// Ends a piece: stores what was fed, and finishes the upload if it is complete. Does nothing after a failure. In
    /// that case, the next request stores the bytes.
    pub(super) async fn store(&mut self) -> Result<(), UploadRefused> {
        if self.live.is_none() {
            return Ok(());
        }
        self.settle().await?;
        self.catch_up().await
    }

    /// Converts the body's remaining bytes to rows, and finishes the upload if it is complete. If the rows cannot be
    /// synced yet, a later request finishes the upload.
    pub(super) async fn catch_up(&mut self) -> Result<(), UploadRefused> {
        if self.body.is_none() {
            return Ok(());
        }
        let is_whole = self.upload.is_whole(self.offset());
        if self.offset() == self.upload.checkpoint.offset && !is_whole {
            return self.keep_checkpoint().await;
        }
        let revived = self.revive().await;
        self.failing(revived).await?;
        self.settle().await?;
        if is_whole {
            let finished = self.finish().await;
            // The unpacker's input has ended.
            self.live = None;
            self.failing(finished).await?;
        }
        Ok(())
    }

    /// Returns the upload and its number of bytes.
    pub(super) fn close(mut self) -> (Upload, u64) {
        self.keep();
        let offset = self.offset();
        (self.upload, offset)
    }

    /// Keeps the state from which the next request can continue.
    pub(super) fn keep(&mut self) {
        let is_settled = self.body.is_some() && self.fed == self.upload.checkpoint.offset;
        let Some(live) = self.live.take().filter(|_| is_settled) else { return };
        let Upload { id, version, .. } = &self.upload;
        kept(&self.lane).borrow_mut().put(id.clone(), *version, clock::monotonic_us(), live);
    }
}
