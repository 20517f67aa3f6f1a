//! The body of an answer: whole, or rows that are read while the client takes them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::changes::Stream;
use crate::query::{Merged, QueryError, Search};

/// Rows that come piece by piece.
pub(super) enum Pieces {
    Merged(Box<Merged>),
    Search(Box<Search>),
}

impl Pieces {
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, QueryError> {
        match self {
            Pieces::Merged(rows) => Ok(rows.next(usize::MAX).await?.map(|chunk| chunk.bytes)),
            Pieces::Search(search) => search.next().await,
        }
    }
}

type NextPiece = Pin<Box<dyn Future<Output = (Pieces, Result<Option<Vec<u8>>, QueryError>)>>>;

pub(super) enum AnswerBody {
    Whole(Bytes),
    /// A piece in hand, and the one that is being read: no more is read than the client takes.
    Rows {
        ready: Option<Bytes>,
        next: Option<NextPiece>,
    },
    /// Changes as they become known; ends when the server drains.
    Changes(Box<Stream>),
}

impl AnswerBody {
    pub(super) fn empty() -> AnswerBody {
        AnswerBody::Whole(Bytes::new())
    }

    pub(super) fn rows(first: Option<Vec<u8>>, rows: Pieces) -> AnswerBody {
        let ready = first.map(Bytes::from);
        let next = ready.is_some().then(|| piece(rows));
        AnswerBody::Rows { ready, next }
    }
}

fn piece(mut rows: Pieces) -> NextPiece {
    Box::pin(async move {
        let next = rows.next().await;
        (rows, next)
    })
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = QueryError;

    /// An error breaks the framing off: the client sees that the answer is not whole.
    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, QueryError>>> {
        match self.get_mut() {
            AnswerBody::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            AnswerBody::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            AnswerBody::Changes(stream) => {
                stream.poll_next(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            AnswerBody::Rows { ready, next } => {
                if let Some(bytes) = ready.take() {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                let Some(coming) = next else { return Poll::Ready(None) };
                let (rows, outcome) = ready!(coming.as_mut().poll(context));
                *next = None;
                match outcome {
                    Ok(Some(bytes)) => {
                        *next = Some(piece(rows));
                        Poll::Ready(Some(Ok(Frame::data(Bytes::from(bytes)))))
                    }
                    Ok(None) => Poll::Ready(None),
                    Err(error) => {
                        tracing::error!(%error, "a stream of rows was broken off");
                        Poll::Ready(Some(Err(error)))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::Whole(bytes) => bytes.is_empty(),
            AnswerBody::Rows { ready, next } => ready.is_none() && next.is_none(),
            AnswerBody::Changes(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            AnswerBody::Rows { .. } | AnswerBody::Changes(_) => SizeHint::default(),
        }
    }
}
