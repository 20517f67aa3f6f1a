//! The encoders of compressed responses, and a body that is compressed while the client receives it.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::write::GzEncoder;
use hyper::body::{Body as _, Frame};
use zstd::stream::raw::CParameter;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::body::{AnswerBody, BodyError};
use super::memory::Reservation;

/// The number of bytes that are compressed between two polls of the socket: less than a millisecond of the executor's
/// time.
pub(super) const STEP_BYTES: usize = 64 * 1024;
/// The base-2 logarithm of the window size. Every client can be expected to allocate a window of this size for each
/// response, and the size keeps the encoder small.
pub(super) const ZSTD_WINDOW_LOG: u32 = 18;
/// The memory of a gzip encoder, including its output.
pub(super) const GZIP_BYTES: usize = 384 * 1024;
/// The memory of a Zstandard encoder, including its output.
pub(super) const ZSTD_BYTES: usize = 1024 * 1024;

/// The codings, most preferred first. The order applies if a client has no preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Zstd,
    Gzip,
}

impl Coding {
    pub(super) const ALL: [Coding; 2] = [Coding::Zstd, Coding::Gzip];
    pub(super) const NAMES: [&str; 2] = ["zstd", "gzip"];

    pub(super) fn bytes(self) -> usize {
        match self {
            Coding::Zstd => ZSTD_BYTES,
            Coding::Gzip => GZIP_BYTES,
        }
    }
}

pub(super) enum Compressor {
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Compressor {
    pub(super) fn new(coding: Coding) -> io::Result<Compressor> {
        Ok(match coding {
            Coding::Gzip => Compressor::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::fast())),
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), 1)?;
                encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG))?;
                Compressor::Zstd(encoder)
            }
        })
    }

    /// Returns compressed bytes from which a client can decompress everything that was pushed so far.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Compressor::Gzip(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Compressor::Zstd(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Compressor::Gzip(encoder) => encoder.finish(),
            Compressor::Zstd(encoder) => encoder.finish(),
        }
    }

    pub(super) fn whole(mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match &mut self {
            Compressor::Gzip(encoder) => encoder.write_all(bytes)?,
            Compressor::Zstd(encoder) => encoder.write_all(bytes)?,
        }
        self.finish()
    }
}

/// A body that is compressed while the client receives it. Every piece can be decompressed when it arrives. If the
/// body is aborted, its end is missing.
pub struct PackedBody {
    pub(super) inner: Box<AnswerBody>,
    /// The part of a piece that has not been pushed yet.
    pub(super) rest: Bytes,
    /// The encoder. `None` once the end was returned.
    pub(super) packer: Option<Compressor>,
    pub(super) _held: Reservation,
}

impl PackedBody {
    pub(super) fn is_query(&self) -> bool {
        self.inner.is_query()
    }

    pub fn is_end(&self) -> bool {
        self.packer.is_none()
    }

    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(packer) = &mut self.packer else { return Poll::Ready(None) };
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut *self.inner).poll_frame(context)) {
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let end = self.packer.take().map(Compressor::finish).transpose()?;
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
            let mut packer = Compressor::new(coding).unwrap();
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
