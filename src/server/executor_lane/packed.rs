//! Answers compressed for clients that ask for it (RFC 9110 §12.5.3): those over a kilobyte, and rows that are streamed,
//! whose length nobody knows yet.
//!
//! Downloads of exports stay as they are: their ranges and digests count the bytes of the file. So do streams of
//! changes, whose lines must not wait for each other.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::write::GzEncoder;
use hyper::body::{Body as _, Frame};
use zstd::stream::raw::CParameter;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::Lane;
use super::body::{AnswerBody, Broken};
use super::call::{Reply, RequestHead};
use super::memory::Held;
use crate::http::{Answer, preferred_coding};

/// A smaller answer fits into a segment or two as it is.
const PACKED_MIN: usize = 1024;
/// Bytes compressed between two looks at the socket: less than a millisecond of the executor.
const STEP_BYTES: usize = 64 * 1024;
/// A window that a client can be expected to give to each answer, and that keeps the encoder small.
const ZSTD_WINDOW_LOG: u32 = 18;
/// What an encoder holds, its output included.
const GZIP_BYTES: usize = 384 * 1024;
const ZSTD_BYTES: usize = 1024 * 1024;

/// The reply, compressed where the request takes that, the answer gains by it and there is memory for an encoder.
pub(super) fn packed(lane: &Lane, request: &RequestHead, mut reply: Reply) -> Reply {
    if !is_packable(&reply) {
        return reply;
    }
    reply.answer = reply.answer.with("Vary", "Accept-Encoding");
    let Some(coding) = preferred_coding(&request.values("accept-encoding"), &Coding::NAMES) else {
        return reply;
    };
    let coding = Coding::ALL[coding];
    let mut held = lane.memory.hold();
    if held.add(coding.bytes()).is_err() {
        return reply;
    }
    let Ok(packer) = Packer::new(coding) else { return reply };
    let body = match reply.body.take() {
        None if reply.answer.body.len() <= STEP_BYTES => {
            if let Ok(packed) = packer.whole(&reply.answer.body)
                && packed.len() < reply.answer.body.len()
            {
                reply.answer = coded(Answer { body: packed.into(), ..reply.answer }, coding);
            }
            return reply;
        }
        None => AnswerBody::Whole(match std::mem::take(&mut reply.answer.body) {
            std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
        }),
        Some(body) => body,
    };
    let packed = PackedBody { inner: Box::new(body), rest: Bytes::new(), packer: Some(packer), _held: held };
    Reply::streamed(coded(reply.answer, coding), AnswerBody::Packed(Box::new(packed)))
}

fn coded(answer: Answer, coding: Coding) -> Answer {
    answer.with("Content-Encoding", Coding::NAMES[coding as usize])
}

fn is_packable(Reply { answer, body }: &Reply) -> bool {
    // A tag, a range and a digest are of these bytes; what has a coding already needs no other.
    const OF_THESE_BYTES: [&str; 4] = ["ETag", "Content-Range", "Repr-Digest", "Content-Encoding"];
    let is_long = match body {
        None => answer.body.len() > PACKED_MIN,
        Some(body) => body.may_be_packed(PACKED_MIN),
    };
    let is_text = answer.content_type.starts_with("text/")
        || ["json", "javascript", "xml", "openmetrics"].iter().any(|kind| answer.content_type.contains(kind));
    is_long && is_text && !answer.headers.iter().any(|(name, _)| OF_THESE_BYTES.contains(name))
}

/// In the order of preference where a client leaves it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Zstd,
    Gzip,
}

impl Coding {
    const ALL: [Coding; 2] = [Coding::Zstd, Coding::Gzip];
    const NAMES: [&str; 2] = ["zstd", "gzip"];

    fn bytes(self) -> usize {
        match self {
            Coding::Zstd => ZSTD_BYTES,
            Coding::Gzip => GZIP_BYTES,
        }
    }
}

enum Packer {
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Packer {
    fn new(coding: Coding) -> io::Result<Packer> {
        Ok(match coding {
            Coding::Gzip => Packer::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::fast())),
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), 1)?;
                encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG))?;
                Packer::Zstd(encoder)
            }
        })
    }

    /// What a client can unpack of all that was pushed so far.
    fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Packer::Gzip(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Packer::Zstd(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Packer::Gzip(encoder) => encoder.finish(),
            Packer::Zstd(encoder) => encoder.finish(),
        }
    }

    fn whole(mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match &mut self {
            Packer::Gzip(encoder) => encoder.write_all(bytes)?,
            Packer::Zstd(encoder) => encoder.write_all(bytes)?,
        }
        self.finish()
    }
}

/// A body that is compressed as the client takes it; every piece can be unpacked when it arrives. One that is broken
/// off lacks its end.
pub(super) struct PackedBody {
    inner: Box<AnswerBody>,
    /// What is yet to be pushed of a piece.
    rest: Bytes,
    /// `None` once the end was given.
    packer: Option<Packer>,
    _held: Held,
}

impl PackedBody {
    pub(super) fn is_end(&self) -> bool {
        self.packer.is_none()
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(packer) = &mut self.packer else { return Poll::Ready(None) };
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut *self.inner).poll_frame(context)) {
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let end = self.packer.take().map(Packer::finish).transpose()?;
                    return Poll::Ready(end.map(|end| Ok(Frame::data(Bytes::from(end)))));
                }
            }
        }
        let step = self.rest.split_to(self.rest.len().min(STEP_BYTES));
        let packed = packer.push(&step)?;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(packed)))))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn every_piece_can_be_unpacked_when_it_arrives() {
        for coding in Coding::ALL {
            let mut packer = Packer::new(coding).unwrap();
            let (mut sent, mut wanted) = (Vec::new(), Vec::new());
            for piece in [&b"one line\n"[..], &[b'x'; 100_000], b"the last"] {
                sent.extend(packer.push(piece).unwrap());
                wanted.extend_from_slice(piece);
                let mut seen = vec![0; wanted.len()];
                match coding {
                    Coding::Gzip => flate2::read::GzDecoder::new(&sent[..]).read_exact(&mut seen).unwrap(),
                    Coding::Zstd => {
                        zstd::stream::read::Decoder::new(&sent[..]).unwrap().read_exact(&mut seen).unwrap();
                    }
                }
                assert!(seen == wanted, "{coding:?}");
            }
            sent.extend(packer.finish().unwrap());
            let unpacked = match coding {
                Coding::Gzip => std::io::read_to_string(flate2::read::GzDecoder::new(&sent[..])).unwrap(),
                Coding::Zstd => String::from_utf8(zstd::decode_all(&sent[..]).unwrap()).unwrap(),
            };
            assert!(unpacked.as_bytes() == wanted, "{coding:?}");
        }
    }
}
