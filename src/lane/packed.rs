//! Response compression for clients that accept it (RFC 9110 §12.5.3). It applies to responses over a kilobyte, and
//! to streams of rows, whose length is not known yet.
//!
//! Files are not compressed, because their ranges and digests refer to their bytes. Live streams are not compressed
//! either, because their lines must not wait for each other.

use bytes::Bytes;

use super::body::AnswerBody;
use super::call::{Reply, RequestHead};
use super::packing::{Coding, Compressor, PackedBody, STEP_BYTES};
use super::state::Lane;
use crate::http::{Answer, UNPACKED_MAX, preferred_coding};

/// Compresses the reply if the request accepts it, the response benefits, and there is memory for an encoder.
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
    let Ok(packer) = Compressor::new(coding) else { return reply };
    let body = match reply.body.take() {
        None if reply.answer.body.len() <= STEP_BYTES => {
            if let Ok(packed) = packer.whole(&reply.answer.body)
                && packed.len() < reply.answer.body.len()
            {
                reply.answer = coded(Answer { body: packed.into(), ..reply.answer }, coding);
            }
            return reply;
        }
        None => AnswerBody::whole(AnswerBody::taken(&mut reply.answer)),
        Some(body) => body,
    };
    let packed = PackedBody { inner: Box::new(body), rest: Bytes::new(), packer: Some(packer), _held: held };
    Reply::streamed(coded(reply.answer, coding), AnswerBody::Packed(Box::new(packed)))
}

fn coded(answer: Answer, coding: Coding) -> Answer {
    answer.with("Content-Encoding", Coding::NAMES[coding as usize])
}

fn is_packable(Reply { answer, body }: &Reply) -> bool {
    // A tag, a range and a digest refer to these exact bytes. A response that already has a coding needs no second
    // one.
    const OF_THESE_BYTES: [&str; 4] = ["ETag", "Content-Range", "Repr-Digest", "Content-Encoding"];
    let is_long = match body {
        None => answer.body.len() > UNPACKED_MAX,
        Some(body) => body.may_be_packed(UNPACKED_MAX),
    };
    let is_text = || {
        answer.content_type.starts_with("text/")
            || ["json", "javascript", "xml", "openmetrics"]
                .iter()
                .any(|kind| answer.content_type.contains(kind))
    };
    is_long && is_text() && !answer.headers.iter().any(|(name, _)| OF_THESE_BYTES.contains(name))
}
