//! Reads a multipart form part by part, in bounded memory. The parser gets another frame only if the bytes that it
//! has contain no further part or piece of a part. The number of bytes that it may get without an output is limited.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_lite::Stream;

use crate::api::write::WriteRefused;

/// The maximum number of bytes that may arrive without completing a part or a piece of a part: the preamble before
/// the first boundary, or a part's headers. The frame that crosses the limit is still accepted.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The flow control for the parser's input. The parser buffers every frame until it has parsed it, and reads
/// everything available before it parses.
#[derive(Debug, Default)]
struct Feed {
    /// Set once the parser has parsed all that it has and may get one more frame.
    is_hungry: AtomicBool,
    /// The number of bytes that the parser has received since its last output.
    given: AtomicUsize,
}

/// The stream of frames that the parser reads.
struct Fed {
    // The parser requires `Unpin`.
    frames: Pin<Box<async_channel::Receiver<Bytes>>>,
    feed: Arc<Feed>,
}

impl Stream for Fed {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.feed.is_hungry.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        if self.feed.given.load(Ordering::Relaxed) > HEAD_BYTES_MAX {
            let detail = format!("the head of a part exceeds {HEAD_BYTES_MAX} bytes");
            return Poll::Ready(Some(Err(std::io::Error::other(detail))));
        }
        let frame = ready!(self.frames.as_mut().poll_next(context));
        if let Some(frame) = &frame {
            self.feed.is_hungry.store(false, Ordering::Relaxed);
            self.feed.given.fetch_add(frame.len(), Ordering::Relaxed);
        }
        Poll::Ready(frame.map(Ok))
    }
}

impl Feed {
    /// Returns the parser's next output, first from its buffer, then from new frames.
    async fn next<T>(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<Result<Option<T>, multer::Error>>,
    ) -> Result<Option<T>, WriteRefused> {
        let next = poll_fn(|context| {
            self.is_hungry.store(false, Ordering::Relaxed);
            loop {
                let next = poll(context);
                // The parser was allowed to read a frame and got none, so no frame has arrived yet.
                if next.is_ready() || self.is_hungry.swap(true, Ordering::Relaxed) {
                    return next;
                }
            }
        });
        let next = next.await.map_err(|error| {
            WriteRefused::Multipart(match error {
                multer::Error::StreamReadFailed(ours) => ours.to_string(),
                error => error.to_string(),
            })
        })?;
        self.given.store(0, Ordering::Relaxed);
        Ok(next)
    }
}

/// A `multipart/form-data` body.
pub(super) struct Form {
    parser: multer::Multipart<'static>,
    feed: Arc<Feed>,
}

impl Form {
    pub(super) fn new(frames: async_channel::Receiver<Bytes>, boundary: String) -> Form {
        let feed = Arc::<Feed>::default();
        let fed = Fed { frames: Box::pin(frames), feed: feed.clone() };
        Form { parser: multer::Multipart::new(fed, boundary), feed }
    }

    /// Returns the next part. The previous one must have been read and dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Part>, WriteRefused> {
        let Form { parser, feed } = self;
        let field = feed.next(|context| parser.poll_next_field(context)).await?;
        Ok(field.map(|field| Part { field, feed: feed.clone() }))
    }
}

/// One part of a form.
pub(super) struct Part {
    field: multer::Field<'static>,
    feed: Arc<Feed>,
}

impl Part {
    /// Returns the next bytes of the part, or `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, WriteRefused> {
        let Part { field, feed } = self;
        feed.next(|context| Pin::new(&mut *field).poll_next(context).map(Option::transpose)).await
    }

    /// Returns the part's name if the part is not a file.
    pub(super) fn name_of_no_file(&self) -> Option<String> {
        if self.field.file_name().is_some() || has_extended_name(self.field.headers()) {
            return None;
        }
        let name = self.field.name().filter(|name| !name.is_empty());
        Some(name.map_or_else(|| format!("part {}", self.field.index() + 1), shown))
    }
}

/// Returns `true` if a part's file name has the RFC 5987 syntax: `filename*=UTF-8''a.ndjson`.
fn has_extended_name(headers: &hyper::HeaderMap) -> bool {
    let disposition = headers.get("content-disposition").map_or(&b""[..], |value| value.as_bytes());
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parameters = disposition.split(|byte| {
        let is_end = *byte == b';' && !is_quoted;
        is_quoted ^= *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && is_quoted && !is_escaped;
        is_end
    });
    let mut names = parameters.filter_map(|parameter| {
        let end = parameter.iter().position(|byte| *byte == b'=')?;
        Some(parameter[..end].trim_ascii())
    });
    names.any(|name| name.eq_ignore_ascii_case(b"filename*"))
}

/// Returns a name from the client for display: shortened, without control characters.
fn shown(name: &str) -> String {
    let plain = |next: char| if next.is_control() { char::REPLACEMENT_CHARACTER } else { next };
    name.chars().take(100).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn a_file_name_may_be_an_extended_one() {
        let has = |value: &str| {
            let mut headers = hyper::HeaderMap::new();
            headers.insert("content-disposition", value.parse().unwrap());
            has_extended_name(&headers)
        };
        assert!(has("form-data; name=\"file\"; filename*=UTF-8''a%20b.ndjson"));
        assert!(has("form-data; FileName* = UTF-8''x"));
        assert!(!has("form-data; name=\"a; filename*=x\"") && !has("form-data; name=\"a\\\"; filename*=x\""));
        assert!(!has("form-data; name=file; filename=x") && !has("form-data"));
    }

    /// Reads a form that starts with `first` and continues with `frames` copies of `frame`. Returns the number of
    /// frames left unread, and the result.
    fn read(first: &'static [u8], frame: &'static [u8], frames: usize) -> (usize, Result<u64, WriteRefused>) {
        let (send, received) = async_channel::bounded(frames + 1);
        send.try_send(Bytes::from_static(first)).unwrap();
        (0..frames).for_each(|_| send.try_send(Bytes::from_static(frame)).unwrap());
        drop(send);
        let left = received.clone();
        let mut form = Form::new(received, "b".to_owned());
        let parts = block_on(async {
            let mut parts = 0;
            while let Some(mut part) = form.next().await? {
                parts += 1;
                while part.next().await?.is_some() {}
            }
            Ok(parts)
        });
        (left.len(), parts)
    }

    #[test]
    fn what_comes_before_a_part_is_bounded() {
        const KIB: &[u8] = &[b'a'; 1024];
        for first in [&b"no boundary"[..], b"--b\r\nContent-Disposition: form-data; name=\""] {
            let (left, parts) = read(first, KIB, 1_000);
            let told = parts.unwrap_err().to_string();
            assert!(told.contains("the head of a part exceeds 65536 bytes"), "{told}");
            assert!(left >= 1_000 - 65, "{left} frames were not taken");
        }
    }

    #[test]
    fn what_is_in_parts_is_not() {
        const PART: &[u8] = b"--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n\r\n";
        let (left, parts) = read(PART, PART, 10_000);
        // The last boundary is missing.
        let told = parts.unwrap_err().to_string();
        assert!(left == 0 && told.contains("incomplete"), "{left} {told}");
        let (send, received) = async_channel::bounded(10_001);
        (0..10_000).for_each(|_| send.try_send(Bytes::from_static(PART)).unwrap());
        send.try_send(Bytes::from_static(b"--b--\r\n")).unwrap();
        let (left, mut form) = (received.clone(), Form::new(received, "b".to_owned()));
        block_on(async {
            for number in 0..10_000_usize {
                let mut part = form.next().await.unwrap().unwrap();
                while let Some(bytes) = part.next().await.unwrap() {
                    assert!(bytes.is_empty());
                }
                // Each part needs one frame, and one more that shows its end. No frame is read before it is needed.
                assert!(left.len() + number + 2 >= 10_000, "{} at part {number}", left.len());
            }
            assert!(form.next().await.unwrap().is_none());
        });
    }
}
