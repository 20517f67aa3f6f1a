//! Splits a body into uploads: the whole body is one upload, or each file of a multipart form is one.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;

use super::BodyParts;
use super::form::Form;
use super::frames::Frames;
use crate::api::write::WriteRefused;
use crate::lane::RequestHead;

/// Returns the boundary if the body is `multipart/form-data`. In that case, each file of the form is an upload.
pub(super) fn boundary(request: &RequestHead) -> Result<Option<String>, WriteRefused> {
    let content_type = request.headers.get("content-type").and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is = |known: &&str| essence.eq_ignore_ascii_case(known);
    if is(&"multipart/form-data") {
        let boundary = multer::parse_boundary(content_type);
        return boundary.map(Some).map_err(|error| WriteRefused::Multipart(error.to_string()));
    }
    // Compression is detected from the bytes.
    CONTENT_TYPES.iter().any(is).then_some(None).ok_or(WriteRefused::ContentType)
}

/// The content types that curl and similar clients send with JSON lines, plain or compressed.
const CONTENT_TYPES: [&str; 12] = [
    "",
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/octet-stream",
    "application/gzip",
    "application/x-gzip",
    "application/zip",
    "application/zstd",
    "application/json",
    "application/x-www-form-urlencoded",
    "text/plain",
];

/// A receiver for the bytes of uploads, one upload at a time. In `take`, `None` ends an upload.
pub(super) trait UploadSink {
    fn uploads(&mut self) -> &mut BodyParts;

    /// Records a part that was not read.
    fn skip(&mut self, _name: String, _reason: &'static str) {}

    /// Records the skipped archive entries of the upload that has ended.
    fn skip_entries(&mut self) {}

    /// Handles every line that has arrived completely.
    async fn drain(&mut self) -> Result<(), WriteRefused>;

    async fn take(&mut self, bytes: Option<Bytes>) -> Result<(), WriteRefused> {
        let is_last = bytes.is_none();
        self.uploads().feed(bytes);
        self.drain().await?;
        if is_last {
            self.skip_entries();
            self.uploads().ended();
        }
        Ok(())
    }
}

/// Passes the body, or each file of its form, to `taker`.
pub(super) async fn feed_body(
    mut frames: Frames<'_>,
    boundary: Option<String>,
    taker: &mut impl UploadSink,
) -> Result<(), WriteRefused> {
    let Some(boundary) = boundary else {
        while let Some(bytes) = frames.next().await? {
            taker.take(Some(bytes)).await?;
        }
        return taker.take(None).await;
    };
    let (send, received) = async_channel::bounded(1);
    let pump = async move {
        while let Some(bytes) = frames.next().await? {
            // The form may end before the body does.
            let _ = send.send(bytes).await;
        }
        Ok::<(), WriteRefused>(())
    };
    let parts = async {
        let mut form = Form::new(received, boundary);
        while let Some(mut part) = form.next().await? {
            if let Some(name) = part.name_of_no_file() {
                taker.skip(name, "the part has no file name");
                while part.next().await?.is_some() {}
                continue;
            }
            while let Some(bytes) = part.next().await? {
                taker.take(Some(bytes)).await?;
            }
            taker.take(None).await?;
        }
        Ok::<(), WriteRefused>(())
    };
    let (mut pump, mut parts) = (pin!(pump), pin!(parts));
    let (mut is_pumped, mut is_parted) = (false, false);
    poll_fn(|context| {
        // The body is polled first, because an incomplete body is a more useful reason than the incomplete form that
        // it causes.
        if !is_pumped && let Poll::Ready(pumped) = pump.as_mut().poll(context) {
            is_pumped = true;
            pumped?;
        }
        // An error in a form is returned at once, even if the rest of the form has not arrived.
        if !is_parted && let Poll::Ready(parted) = parts.as_mut().poll(context) {
            is_parted = true;
            parted?;
        }
        if is_pumped && is_parted { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}
