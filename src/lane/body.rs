//! The body of a response: complete, or rows that are read while the client receives them.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::memory::Reservation;
use super::packing::PackedBody;
use crate::http::Answer;
use crate::query::QueryError;

/// The largest piece of a whole body. hyper copies what it is about to send.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

pub type NextBytes<'p> = Pin<Box<dyn Future<Output = Result<Option<Vec<u8>>, BodyError>> + 'p>>;

/// A body that is read piece by piece while the client receives it.
pub trait Pieces {
    /// Returns the next piece, or `None` after the last one.
    fn next(&mut self) -> NextBytes<'_>;
}

/// A body that continues until one side ends it.
pub trait Stream {
    /// Returns the next bytes, or `None` at the end.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>>;
}

/// Why a response is aborted.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The source has ended for a reason that is not a server error.
    #[error("{0}")]
    Ended(&'static str),
    #[error("the response could not be compressed: {0}")]
    Packing(#[from] std::io::Error),
}

type NextPiece = Pin<Box<dyn Future<Output = (Box<dyn Pieces>, Result<Option<Vec<u8>>, BodyError>)>>>;

pub enum AnswerBody {
    /// Bytes that are in memory. They are passed on piece by piece, so that nothing copies them at once.
    Whole {
        bytes: Bytes,
        _held: Option<Reservation>,
    },
    /// A ready piece, and the piece that is being read. No more is read than the client receives.
    Rows {
        ready: Option<Bytes>,
        next: Option<NextPiece>,
        /// The number of remaining bytes, if known.
        left: Option<u64>,
        /// Set if ranges and digests refer to these exact bytes.
        is_fixed: bool,
    },
    Packed(Box<PackedBody>),
    /// A stream that ends when the server drains.
    Stream(Box<dyn Stream>),
}

impl AnswerBody {
    pub fn empty() -> AnswerBody {
        AnswerBody::whole(Bytes::new())
    }

    pub fn whole(bytes: Bytes) -> AnswerBody {
        AnswerBody::Whole { bytes, _held: None }
    }

    /// Takes an answer's body, without a copy.
    pub(super) fn taken(answer: &mut Answer) -> Bytes {
        match std::mem::take(&mut answer.body) {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        }
    }

    pub fn rows(first: Option<Vec<u8>>, rows: Box<dyn Pieces>) -> AnswerBody {
        let ready = first.map(Bytes::from);
        let next = ready.is_some().then(|| piece(rows));
        AnswerBody::Rows { ready, next, left: None, is_fixed: false }
    }

    /// Returns a body whose first piece may take a while. `left` is its length, if known.
    pub fn following(rows: Box<dyn Pieces>, left: Option<u64>) -> AnswerBody {
        let next = (left != Some(0)).then(|| piece(rows));
        AnswerBody::Rows { ready: None, next, left, is_fixed: true }
    }

    /// Returns `true` if another coding of the body is equivalent, and the body may be longer than `bytes`.
    pub fn may_be_packed(&self, bytes: usize) -> bool {
        match self {
            AnswerBody::Whole { bytes: whole, .. } => whole.len() > bytes,
            AnswerBody::Rows { ready, next, is_fixed, .. } => {
                !is_fixed && (next.is_some() || ready.as_ref().is_some_and(|ready| ready.len() > bytes))
            }
            AnswerBody::Packed(_) | AnswerBody::Stream(_) => false,
        }
    }

    /// Returns `true` if the body is read from the shards while the client receives it.
    pub(super) fn is_query(&self) -> bool {
        match self {
            AnswerBody::Rows { next, is_fixed, .. } => !is_fixed && next.is_some(),
            AnswerBody::Packed(packed) => packed.is_query(),
            AnswerBody::Whole { .. } | AnswerBody::Stream(_) => false,
        }
    }
}

fn piece(mut rows: Box<dyn Pieces>) -> NextPiece {
    Box::pin(async move {
        let next = rows.next().await;
        (rows, next)
    })
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    /// Returns the next frame. An error aborts the framing, so the client sees that the response is incomplete.
    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            AnswerBody::Whole { bytes, .. } if bytes.is_empty() => Poll::Ready(None),
            AnswerBody::Whole { bytes, .. } => {
                Poll::Ready(Some(Ok(Frame::data(bytes.split_to(bytes.len().min(PIECE_BYTES))))))
            }
            AnswerBody::Stream(stream) => {
                stream.poll_next(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            AnswerBody::Packed(packed) => packed.poll(context),
            AnswerBody::Rows { ready, next, left, .. } => {
                if let Some(bytes) = ready.take() {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                let Some(coming) = next else { return Poll::Ready(None) };
                let (rows, outcome) = ready!(coming.as_mut().poll(context));
                *next = None;
                match outcome {
                    Ok(Some(bytes)) => {
                        *left = left.map(|left| left.saturating_sub(bytes.len() as u64));
                        *next = (*left != Some(0)).then(|| piece(rows));
                        Poll::Ready(Some(Ok(Frame::data(Bytes::from(bytes)))))
                    }
                    Ok(None) => Poll::Ready(None),
                    Err(error) => {
                        match &error {
                            // The source has logged the reason itself. Here, only the end is known.
                            BodyError::Ended(reason) => tracing::info!(reason, "a response was aborted"),
                            error => tracing::error!(%error, "a stream of rows was aborted"),
                        }
                        Poll::Ready(Some(Err(error)))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::Whole { bytes, .. } => bytes.is_empty(),
            AnswerBody::Stream(_) => false,
            AnswerBody::Packed(packed) => packed.is_end(),
            AnswerBody::Rows { ready, next, .. } => ready.is_none() && next.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            AnswerBody::Rows { left: Some(left), .. } => SizeHint::with_exact(*left),
            AnswerBody::Rows { left: None, .. } | AnswerBody::Packed(_) | AnswerBody::Stream(_) => {
                SizeHint::default()
            }
        }
    }
}
