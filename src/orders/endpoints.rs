//! `POST /api/v1/ingest/orders`: a body of any size, line by line into journals, commit by commit into a summary.
//! `GET …/orders/search` and one order.
//!
//! ```text
//! frames ─► (multipart) ─► unpack ─► line ─► staged by shard ─► journal ─► commit ─► summary
//! ```
//! Memory holds one frame, the buffers of unpacking, and some portions of rows on their way to a commit
//! ([`row_intake`]). If a shard falls behind, the body is not read further, which slows the sender down.

mod body;
mod claimed;
mod form;
mod frames;
mod row_intake;
mod status;

use bytes::Bytes;
use hyper::body::Incoming;

use self::body::{UploadSink, boundary, feed_body};
pub use self::claimed::{ClaimedIngest, ingest_id};
pub use self::frames::{Frames, Pace};
pub use self::row_intake::{OrderLines, RowIntake};
pub use self::status::patch;
use super::answer::{self, IngestEnded, OrderNotRead};
use super::query;
use super::search::{SearchPlan, one_order};
use super::search_stream::Search;
use crate::api;
use crate::api::request::idempotency_key;
use crate::api::write::WriteRefused;
use crate::base::clock;
use crate::config::AckLevel;
use crate::http::{Answer, Refusal};
use crate::lane::{
    Body, BudgetExceeded, Call, Lane, NextBytes, Pieces, Reply, RequestHead, Reservation, admit, shape,
    streamed, tenant_of,
};
use crate::query::{Filter, QueryError, Shape};
use crate::unpack::{Limits, Next, Unpacker};

/// The lines of one or more uploads, and their combined fingerprint.
struct BodyParts {
    unpacker: Unpacker,
    decoded_bytes_max: u64,
    /// The number of lines in the previous uploads.
    lines_before: u64,
    fingerprint: Fingerprint,
}

impl BodyParts {
    fn new(decoded_bytes_max: u64) -> BodyParts {
        let unpacker = BodyParts::unpacker(decoded_bytes_max);
        BodyParts { unpacker, decoded_bytes_max, lines_before: 0, fingerprint: Fingerprint::default() }
    }

    fn unpacker(decoded_bytes_max: u64) -> Unpacker {
        Unpacker::new(Limits { decoded_bytes_max, ..Limits::default() })
    }

    fn feed(&mut self, bytes: Option<Bytes>) {
        match bytes {
            Some(bytes) => self.unpacker.feed(bytes),
            None => self.unpacker.finish(),
        }
    }

    /// Ends an upload, so that the next one may start.
    fn ended(&mut self) {
        if let Some(fingerprint) = self.unpacker.fingerprint() {
            self.fingerprint.add(fingerprint);
        }
        self.lines_before += self.unpacker.lines();
        self.decoded_bytes_max = self.decoded_bytes_max.saturating_sub(self.unpacker.decoded_bytes());
        self.unpacker = BodyParts::unpacker(self.decoded_bytes_max);
    }
}

/// The combined fingerprint of any number of uploads. For one upload, it equals the upload's own fingerprint. For
/// several uploads, it is a hash over their fingerprints.
#[derive(Default)]
struct Fingerprint {
    first: [u8; 32],
    count: u64,
    /// The hash over all fingerprints, in the order of the uploads.
    all: blake3::Hasher,
}

impl Fingerprint {
    fn add(&mut self, one: [u8; 32]) {
        if self.count == 0 {
            self.first = one;
        }
        self.count += 1;
        self.all.update(&one);
    }

    fn get(&self) -> [u8; 32] {
        match self.count {
            1 => self.first,
            _ => *self.all.finalize().as_bytes(),
        }
    }
}

/// An upload sink that ingests the lines as orders.
struct Ingesting<'l> {
    lane: &'l Lane,
    uploads: BodyParts,
    intaking: RowIntake,
}

impl UploadSink for Ingesting<'_> {
    fn uploads(&mut self) -> &mut BodyParts {
        &mut self.uploads
    }

    fn skip(&mut self, name: String, reason: &'static str) {
        self.intaking.ingest.summary.skip(name, reason);
    }

    fn skip_entries(&mut self) {
        self.intaking.ingest.summary.skip_entries(&self.uploads.unpacker.skipped());
    }

    async fn drain(&mut self) -> Result<(), WriteRefused> {
        self.intaking.drain(self.lane, &mut self.uploads.unpacker, self.uploads.lines_before).await
    }
}

/// An upload sink that only computes the uploads' fingerprint, for comparison with that of the earlier request.
struct Comparing<'l> {
    lane: &'l Lane,
    uploads: BodyParts,
    held: Reservation,
}

impl UploadSink for Comparing<'_> {
    fn uploads(&mut self) -> &mut BodyParts {
        &mut self.uploads
    }

    async fn drain(&mut self) -> Result<(), WriteRefused> {
        while let Next::Line(_) = self.uploads.unpacker.next()? {}
        match self.held.set(self.uploads.unpacker.memory_bytes()) {
            Err(BudgetExceeded) if !self.lane.release_memory() => Err(Refusal::BuffersFull.into()),
            _ => Ok(()),
        }
    }
}

/// Handles `POST /api/v1/ingest/orders`.
pub async fn post(call: Call<'_>, body: Incoming) -> Result<Answer, IngestEnded> {
    let Call { lane, gate, request, .. } = call;
    let principal = admit(lane, request, &body).map_err(WriteRefused::Denied)?.principal;
    let tenant = tenant_of(lane, request, &principal);
    let tenant = tenant.as_deref();
    let wants_disk = call.wants_disk()?;
    let key = idempotency_key(&request.headers)?;
    let boundary = boundary(request)?;
    if !is_understood(request) {
        return Err(WriteRefused::ContentCoding.into());
    }
    // If no shard accepts more rows, reading the body is pointless.
    if let Some(pressure) = lane.intake.borrow().pressure_everywhere() {
        return Err(WriteRefused::Pressure(pressure).into());
    }
    let named = ClaimedIngest::claim(lane, tenant, &key).await?;
    let frames = Frames::new(lane, principal, body, gate, Pace::Steady);
    let uploads = BodyParts::new(lane.vitals.config.ingest_bytes_max);
    if let Some(finished) = named.finished(lane).await? {
        let mut comparing = Comparing { lane, uploads, held: lane.memory.hold() };
        feed_body(frames, boundary, &mut comparing).await?;
        if comparing.uploads.fingerprint.get() != finished.fingerprint {
            return Err(WriteRefused::KeyReused.into());
        }
        named.keep(lane, wants_disk).await?;
        return Ok(answer::replayed(finished.response, AckLevel::of(wants_disk)));
    }
    let started_us = clock::monotonic_us();
    let intaking = named.begin(lane, tenant, wants_disk);
    let mut ingesting = Ingesting { lane, uploads, intaking };
    let poured = feed_body(frames, boundary, &mut ingesting).await;
    if matches!(poured, Err(WriteRefused::Pressure(_))) {
        // A client that has to retry later gets its response within the commit timeout, with the outcomes known by
        // then.
        ingesting.intaking.hurry(lane.keyed.commit_wait);
    }
    let settled = ingesting.intaking.settle(lane).await;
    let durable = match poured.and(settled) {
        Ok(()) => ingesting.intaking.make_durable(lane).await,
        Err(refused) => Err(refused),
    };
    let summary = ingesting.intaking.ingest.summary;
    request.rows.set(Some(summary.received()));
    let is_durable = match durable {
        Ok(is_durable) => is_durable,
        Err(refused) => return Err(IngestEnded { refused, summary: Some(summary) }),
    };
    if !summary.is_anything_known() {
        // The idempotency key remains free.
        let refused = WriteRefused::NothingKnown(summary.advice());
        return Err(IngestEnded { refused, summary: Some(summary) });
    }
    let response = summary.json(&key, clock::monotonic_us() - started_us);
    if is_durable {
        let finished = named.finish(lane, &ingesting.uploads.fingerprint.get(), &response, wants_disk).await;
        finished.map_err(|refused| IngestEnded { refused, summary: Some(summary) })?;
    } else {
        // The idempotency key remains free. If the client repeats the ingest with the same key, the stored orders are
        // recognised by their lines.
        tracing::warn!(
            key,
            "the server does not remember an ingest by its key, because its rows could not \
                             be synced"
        );
    }
    Ok(answer::ingested(response, AckLevel::of(wants_disk)))
}

/// Returns `true` if the codings in the `Content-Encoding` header are known. The server detects compression from the
/// bytes, so the header may be present or absent.
fn is_understood(request: &RequestHead) -> bool {
    let mut codings = request.headers.get_all("content-encoding").iter();
    codings.all(|coding| {
        ["identity", "gzip", "x-gzip", "zstd"]
            .iter()
            .any(|known| coding.as_bytes().eq_ignore_ascii_case(known.as_bytes()))
    })
}

impl Pieces for Search {
    fn next(&mut self) -> NextBytes<'_> {
        Box::pin(async { Ok(Search::next(self).await?) })
    }
}

/// Searches the orders of the tenant in the path.
pub async fn search(call: Call<'_>, _: Body<'_>) -> Result<Reply, QueryError> {
    let lane = call.lane;
    let plan = SearchPlan::new(call.tenant(), call.query(), &lane.keys).map_err(QueryError::Parameters)?;
    let shape = shape(&call, Shape::Lines);
    let SearchPlan { of, range, limit, cursor } = plan;
    let filter = Filter::new(of, range);
    let (readers, key) = (call.readers(), &lane.cursors);
    let search = Search::begin(readers, key, filter, limit, cursor.as_deref(), shape).await?;
    streamed(api::reads::rows(shape), search, call.is_head()).await
}

/// Returns one order, with its items.
pub async fn get(call: Call<'_>, _: Body<'_>) -> Result<Answer, OrderNotRead> {
    let (lane, order_id) = (call.lane, call.request.parameter("order"));
    if !api::request::is_identifier(&order_id) {
        return Err(OrderNotRead::NoSuchOrder);
    }
    let (filter, key) = one_order(call.tenant(), &order_id, &lane.keys);
    let found = query::order(call.readers(), key.shard(lane.shard_count), filter).await?;
    found.map(answer::order).ok_or(OrderNotRead::NoSuchOrder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_have_the_fingerprint_they_always_had_however_many_they_are() {
        let (one, two, three) = ([1; 32], [2; 32], [3; 32]);
        let of = |all: &[[u8; 32]]| {
            let mut fingerprint = Fingerprint::default();
            all.iter().for_each(|one| fingerprint.add(*one));
            fingerprint.get()
        };
        assert_eq!(of(&[two]), two);
        for several in [&[][..], &[one, two], &[one, two, three]] {
            assert_eq!(of(several), *blake3::hash(several.as_flattened()).as_bytes());
        }
        assert!(std::mem::size_of::<Fingerprint>() < 4 << 10, "it holds none of them but the first");
    }
}
