//! One piece of an upload: the body of a PATCH, or of the POST that created the upload.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::FutureExt as _;
use hyper::body::{Body as _, Incoming};

use super::super::answer::UploadRefused;
use super::super::checksum::Checksum;
use super::super::record::{State, Upload, UploadId};
use super::open_upload::OpenUpload;
use crate::base::clock;
use crate::cores::executor;
use crate::lane::{Lane, SharedGate};
use crate::orders::endpoints::{Frames, Pace};
use crate::tenants::Principal;

/// How long a sender may pause while another request waits for the upload.
pub(super) const REST: Duration = Duration::from_millis(500);
/// The time between two checkpoints of a piece. It bounds how much the server reads again after a crash. Each
/// checkpoint takes as long as a commit.
const CHECKPOINT_US: u64 = 2_000_000;

pub(super) struct Piece {
    /// The offset at which the piece starts, according to the client.
    pub(super) offset: u64,
    /// The upload's length, if the request declares it.
    pub(super) length: Option<u64>,
    pub(super) checksum: Option<Checksum>,
    pub(super) principal: Principal,
    pub(super) wants_disk: bool,
    pub(super) body: Incoming,
    pub(super) gate: SharedGate,
}

impl Piece {
    /// Ingests the piece to its end, or as much of it as arrives. Returns the updated upload and its number of bytes,
    /// all of which are in the body or stored as rows.
    pub(super) async fn receive(
        self,
        lane: Rc<Lane>,
        id: UploadId,
        tenant: Option<&str>,
        is_unread: &Cell<bool>,
    ) -> Result<(Upload, u64), UploadRefused> {
        let mut working = OpenUpload::open(&lane, &id, tenant, self.wants_disk).await?;
        let taken = self.take_into(&lane, &mut working, is_unread).await;
        working.keep();
        taken?;
        let offset = working.offset();
        Ok((working.upload, offset))
    }

    async fn take_into(
        self,
        lane: &Lane,
        working: &mut OpenUpload,
        is_unread: &Cell<bool>,
    ) -> Result<(), UploadRefused> {
        if let State::Failed { damage, detail } = &working.upload.state {
            return Err(UploadRefused::Failed { damage: *damage, detail: detail.clone() });
        }
        let offset = working.offset();
        if self.offset != offset {
            return Err(UploadRefused::Offset { offset });
        }
        if let Some(length) = self.length {
            working.tell_length(length).await?;
        }
        let left = working.upload.length.saturating_sub(offset);
        if self.body.size_hint().lower() > left {
            return Err(UploadRefused::Beyond);
        }
        if !is_unread.get() || working.upload.state == State::Finished {
            return working.catch_up().await;
        }
        let Piece { checksum, principal, body, gate, .. } = self;
        let mut stream = Stream {
            frames: Frames::new(lane, principal, body, &gate, Pace::AnyButResting),
            left,
            is_beyond: false,
            is_unread,
        };
        let revived = working.revive().await;
        working.failing(revived).await?;
        let taken = match checksum {
            None => stream.flow(working).await,
            Some(checksum) => stream.checked(working, &checksum).await,
        };
        let taken = working.failing(taken).await;
        // The bytes that have arrived are stored if possible, regardless of how the piece ended.
        let stored = working.store().await;
        taken.and(stored)
    }
}

/// A piece's bytes as they arrive.
struct Stream<'p> {
    frames: Frames<'p>,
    /// The number of bytes that the upload may still receive.
    left: u64,
    /// Set if more bytes arrived than the upload may receive.
    is_beyond: bool,
    is_unread: &'p Cell<bool>,
}

impl Stream<'_> {
    /// Returns the next bytes, or `None` at the end. A sender that pauses yields to another request.
    async fn next(&mut self, working: &OpenUpload) -> Result<Option<Bytes>, UploadRefused> {
        if self.is_beyond {
            return Err(UploadRefused::Beyond);
        }
        if self.frames.lane.vitals.board.disk_low() {
            return Err(UploadRefused::DiskLow);
        }
        let frames = &mut self.frames;
        let frame = async { Ok(frames.next().await?) };
        let wanted = async {
            working.wanted().await;
            executor::sleep(REST).await;
            Err(UploadRefused::Locked)
        };
        let Some(mut bytes) = frame.or(wanted).await? else {
            self.is_unread.set(false);
            return Ok(None);
        };
        self.is_beyond = bytes.len() as u64 > self.left;
        if self.left == 0 {
            return Err(UploadRefused::Beyond);
        }
        bytes.truncate(bytes.len().min(self.left as usize));
        self.left -= bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// Converts bytes to rows while more arrive.
    async fn flow(&mut self, working: &mut OpenUpload) -> Result<(), UploadRefused> {
        let mut settled_us = clock::monotonic_us();
        while let Some(bytes) = self.next(working).await? {
            working.ingest(bytes).await?;
            if clock::monotonic_us() - settled_us >= CHECKPOINT_US {
                working.settle().await?;
                settled_us = clock::monotonic_us();
            }
        }
        Ok(())
    }

    /// Converts bytes to rows, once all of them have arrived and match the checksum.
    async fn checked(&mut self, working: &mut OpenUpload, checksum: &Checksum) -> Result<(), UploadRefused> {
        working.hold().await?;
        match self.add_up(working, checksum).await {
            Ok(()) => {
                working.accept().await?;
                working.feed_body().await
            }
            Err(refused) => {
                working.reject().await?;
                Err(refused)
            }
        }
    }

    async fn add_up(&mut self, working: &mut OpenUpload, checksum: &Checksum) -> Result<(), UploadRefused> {
        let mut digest = checksum.begin();
        while let Some(bytes) = self.next(working).await? {
            digest.add(&bytes);
            working.append(&bytes)?;
        }
        checksum.matches(digest).then_some(()).ok_or(UploadRefused::Mismatch)
    }
}
