//! One upload under one request's claim: its body, what unpacks it, and the checkpoint behind which all is stored.

use std::io;
use std::rc::Rc;

use super::super::Lane;
use super::super::keyed::Claim;
use super::super::orders::{Intaking, ingest_id};
use super::claim::claim;
use super::kept::Live;
use crate::api::commerce::IngestRefused;
use crate::api::uploads::UploadRefused;
use crate::base::clock;
use crate::commerce::{Body, Checkpoint, OrderIngest, State, Upload, UploadId};
use crate::config::AckLevel;
use crate::cores::executor::Files;
use crate::unpack::{Limits, Unpacker};

/// Bytes of a body that are read again at once; unfolded they are up to a few MB, in between others get a turn.
pub(super) const SLICE_BYTES: usize = 64 * 1024;

pub(super) struct Working {
    pub(super) lane: Rc<Lane>,
    claim: Claim,
    pub(super) upload: Upload,
    /// There while it is being received.
    pub(super) body: Option<Body>,
    pub(super) live: Option<Live>,
    /// Bytes of the body that were fed to `live`.
    fed: u64,
    since_us: u64,
}

/// One that the tenant may know of and that has not expired, as of its last checkpoint.
pub(super) fn find(lane: &Lane, id: &UploadId, tenant: Option<&str>) -> Result<Upload, UploadRefused> {
    let upload = lane.uploads.load(id)?.filter(|upload| upload.is_of(tenant));
    let upload = upload.ok_or(UploadRefused::NotFound)?;
    match upload.is_expired(clock::unix_us()) {
        true => Err(UploadRefused::Gone),
        false => Ok(upload),
    }
}

/// Whether what is reported has to survive a power cut.
fn wants_disk(lane: &Lane) -> bool {
    lane.vitals.config.ack == AckLevel::Disk
}

/// The upload as it is now holds, also after a crash; and it lives on for as long as an upload may rest.
pub(super) async fn save(lane: &Lane, upload: &mut Upload) -> io::Result<()> {
    let expiry_us = lane.vitals.config.upload_expiry.as_micros() as i64;
    upload.expires_us = clock::unix_us().saturating_add(expiry_us);
    let written = lane.uploads.write(upload)?;
    // Not kept open: the next one is another file of the same name.
    let files = Files::default();
    if wants_disk(lane) {
        files.sync_data(&written).await?;
    }
    lane.uploads.publish(&upload.id)?;
    if wants_disk(lane) {
        files.sync_folder(&lane.uploads.path(&upload.id)).await?;
    }
    Ok(())
}

/// One that was just created survives what its answer promises.
pub(super) async fn keep_created(lane: &Lane, upload: &mut Upload) -> io::Result<()> {
    if wants_disk(lane) {
        save(lane, upload).await?;
        if let Some(all) = lane.uploads.path(&upload.id).parent() {
            Files::default().sync_folder(all).await?;
        }
    }
    Ok(())
}

impl Working {
    /// Waits for the request before this one, if there is one.
    pub(super) async fn open(
        lane: &Rc<Lane>,
        id: &UploadId,
        tenant: Option<&str>,
    ) -> Result<Working, UploadRefused> {
        // Before the claim: who may not know of an upload holds nobody up.
        find(lane, id, tenant)?;
        let claim = claim(lane, id).await?;
        let mut upload = find(lane, id, tenant)?;
        let mut body = None;
        if upload.state == State::Receiving {
            let mut found = lane.uploads.body(&upload)?;
            if let Some(held_from) = upload.held_from.take() {
                found.cut(held_from)?;
            }
            if found.length() < upload.checkpoint.offset {
                // After a power cut the page cache is gone. The rows come again, and are known by their lines.
                upload.checkpoint = Checkpoint::default();
            }
            body = Some(found);
        }
        let since_us = clock::monotonic_us();
        Ok(Working { lane: lane.clone(), claim, upload, body, live: None, fed: 0, since_us })
    }

    /// Bytes the upload has: those in the body, which are rows too once this was settled.
    pub(super) fn offset(&self) -> u64 {
        match (&self.body, &self.upload.state) {
            (Some(body), _) => body.length(),
            (None, State::Finished) => self.upload.length,
            _ => self.upload.checkpoint.offset,
        }
    }

    /// The length of one that was created without; of another it is the same.
    pub(super) async fn tell_length(&mut self, length: u64) -> Result<(), UploadRefused> {
        match self.upload.is_deferred {
            true if length >= self.offset() => {
                (self.upload.length, self.upload.is_deferred) = (length, false);
                Ok(save(&self.lane, &mut self.upload).await?)
            }
            true => Err(UploadRefused::Header("Upload-Length is less than the bytes the upload has")),
            false if length == self.upload.length => Ok(()),
            false => Err(UploadRefused::Header("the upload has another length")),
        }
    }

    /// Comes back when another request wants the upload.
    pub(super) async fn wanted(&self) {
        self.claim.wanted().await;
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { decoded_bytes_max: self.lane.vitals.config.ingest_bytes_max, ..Limits::default() }
    }

    /// What unpacks it stands behind the last byte of the body; where nobody kept it, it is made anew from the
    /// checkpoint: at once for plain lines, at 400 MB of lines a second for gzip.
    pub(super) async fn revive(&mut self) -> Result<(), UploadRefused> {
        if self.live.is_none() {
            let Upload { id, version, .. } = &self.upload;
            let kept = self.lane.kept.borrow_mut().take(id, *version);
            self.fed = match (&kept, self.upload.checkpoint.resume) {
                (Some(_), _) => self.upload.checkpoint.offset,
                (None, Some(resume)) => resume.offset_bytes,
                (None, None) => 0,
            };
            self.live = Some(kept.unwrap_or_else(|| self.begin()));
        }
        self.feed_body().await
    }

    /// As of the checkpoint.
    fn begin(&self) -> Live {
        let Upload { tenant, checkpoint, .. } = &self.upload;
        let lane = &self.lane;
        // By its key and not by its id: what an earlier upload under the same key stored is this one's too.
        let id = ingest_id(lane.keys.hash(tenant.as_deref().unwrap_or("*"), self.upload.key()));
        let mut ingest = OrderIngest::new(id, tenant.clone(), clock::unix_us(), lane.shard_count);
        ingest.summary = checkpoint.summary.clone();
        let unpacker = match checkpoint.resume {
            Some(resume) => Unpacker::resume(self.limits(), resume),
            None => Unpacker::new(self.limits()),
        };
        let intaking = Intaking::behind(ingest, checkpoint.lines, wants_disk(lane));
        Live { unpacker, intaking }
    }

    /// Feeds what is in the body and was not fed.
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
        self.fed += bytes.len() as u64;
        live.unpacker.feed(bytes);
        let drained = live.intaking.drain(&self.lane, &mut live.unpacker, 0).await;
        self.checked(drained)
    }

    /// After a failure that is not the bytes' own, some rows of `live` are neither here nor there.
    pub(super) fn checked(&mut self, outcome: Result<(), IngestRefused>) -> Result<(), UploadRefused> {
        if !matches!(outcome, Ok(()) | Err(IngestRefused::Unpack(_))) {
            self.live = None;
        }
        Ok(outcome?)
    }

    /// More of the upload: into the body, then to rows.
    pub(super) async fn take(&mut self, bytes: bytes::Bytes) -> Result<(), UploadRefused> {
        self.append(&bytes)?;
        self.feed(bytes).await
    }

    /// More of the upload, into the body only.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), UploadRefused> {
        let body = self.body.as_mut().ok_or(UploadRefused::Lost)?;
        Ok(body.append(bytes)?)
    }

    /// What comes from now on counts only if it is [`Working::accept`]ed, also after a crash.
    pub(super) async fn hold(&mut self) -> Result<(), UploadRefused> {
        self.upload.held_from = Some(self.offset());
        Ok(save(&self.lane, &mut self.upload).await?)
    }

    pub(super) async fn accept(&mut self) -> Result<(), UploadRefused> {
        self.upload.held_from = None;
        Ok(save(&self.lane, &mut self.upload).await?)
    }

    /// Forgets what came since [`Working::hold`].
    pub(super) async fn reject(&mut self) -> Result<(), UploadRefused> {
        if let (Some(held_from), Some(body)) = (self.upload.held_from, &mut self.body) {
            body.cut(held_from)?;
        }
        self.accept().await
    }

    /// Everything that was fed is committed, and the checkpoint is behind it.
    pub(super) async fn settle(&mut self) -> Result<(), UploadRefused> {
        self.commit().await?;
        if self.live.is_some() {
            save(&self.lane, &mut self.upload).await?;
        }
        Ok(())
    }

    /// The same, with the checkpoint in memory only.
    pub(super) async fn commit(&mut self) -> Result<(), UploadRefused> {
        if wants_disk(&self.lane)
            && let Some(body) = &self.body
        {
            Files::default().sync_data(body.path()).await?;
        }
        let Some(live) = &mut self.live else { return Ok(()) };
        let settled = live.intaking.settle(&self.lane).await;
        self.checked(settled)?;
        let Some(live) = &self.live else { return Ok(()) };
        let now_us = clock::monotonic_us();
        self.upload.checkpoint = Checkpoint {
            offset: self.fed,
            lines: live.unpacker.lines(),
            resume: live.unpacker.plain_resume(),
            worked_us: self.upload.checkpoint.worked_us + (now_us - self.since_us),
            summary: live.intaking.ingest.summary.clone(),
        };
        self.since_us = now_us;
        Ok(())
    }

    /// The end of a piece: what was fed is stored, an upload that is whole is finished. Nothing where a failure
    /// came before; the next request makes up for it.
    pub(super) async fn store(&mut self) -> Result<(), UploadRefused> {
        if self.live.is_none() {
            return Ok(());
        }
        self.settle().await?;
        self.catch_up().await
    }

    /// What is in the body is rows, and an upload that is whole is finished.
    pub(super) async fn catch_up(&mut self) -> Result<(), UploadRefused> {
        if self.body.is_none() {
            return Ok(());
        }
        let is_whole = self.upload.is_whole(self.offset());
        if self.offset() == self.upload.checkpoint.offset && !is_whole {
            return Ok(());
        }
        let revived = self.revive().await;
        self.failing(revived).await?;
        self.settle().await?;
        if is_whole {
            let finished = self.finish().await;
            // Its unpacker was told that no more comes.
            self.live = None;
            self.failing(finished).await?;
        }
        Ok(())
    }

    /// The upload and how many bytes it has.
    pub(super) fn close(mut self) -> (Upload, u64) {
        self.keep();
        let offset = self.offset();
        (self.upload, offset)
    }

    /// Keeps what the next request can go on with.
    pub(super) fn keep(&mut self) {
        let is_settled = self.body.is_some() && self.fed == self.upload.checkpoint.offset;
        let Some(live) = self.live.take().filter(|_| is_settled) else { return };
        let Upload { id, version, .. } = &self.upload;
        self.lane.kept.borrow_mut().put(id.clone(), *version, clock::monotonic_us(), live);
    }
}
