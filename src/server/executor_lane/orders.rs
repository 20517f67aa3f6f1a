//! `POST /api/v1/ingest/orders`: a body of any size, line by line into journals, commit by commit into a
//! summary.
//!
//! ```text
//! frames ─► (multipart) ─► unpack ─► line ─► staged by shard ─► journal ─► commit ─► summary
//! ```
//! What is held: one frame, what unpacking holds, up to [`STAGED_BYTES`] staged and [`OPEN_MAX`] times as
//! much on its way to a commit. A shard that falls behind stops the reading, and so the sender.

mod form;

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use self::form::Form;
use super::Lane;
use super::SharedGate;
use super::admit::{admit, charge_as_it_comes, tenant_of};
use super::call::{Call, RequestHead};
use super::events::level;
use super::keyed::{self, Begun, Claim, JournalEnds, Refused, Settled};
use super::memory::{Held, Spent};
use super::respond::Body;
use crate::api::commerce::{IngestEnded, IngestRefused, StatusRefused, ingest_key};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::base::keys::KeyHash;
use crate::base::kinds::Kind;
use crate::base::limits::INGEST_KEY_KEPT_US;
use crate::commerce::OrderIngest;
use crate::cores::executor;
use crate::http::{Answer, Refusal, without_mark};
use crate::ingest::{KeyedRows, Pressure};
use crate::shard::{FinishedIngest, IngestRow, Outcome, StatusRow};
use crate::tenants::Principal;
use crate::unpack::{Limits, Next, Unpacker};
use crate::{api, query};

/// Bytes of rows that go to their journals together.
const STAGED_BYTES: usize = 256 * 1024;
/// Such portions that wait for their commits.
const OPEN_MAX: usize = 6;
/// How long one portion may wait for its journal or its commit before the ingest ends.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long a portion waits for a shard over its high-water mark.
const QUEUE_PATIENCE: Duration = Duration::from_secs(1);
const PRESSURE_PAUSE: Duration = Duration::from_millis(20);
/// A body without an end is given its time limit anew for every so many bytes.
const PACE_BYTES: u64 = 64 * 1024;

/// Rows on their way to a commit.
struct Portion {
    rows: Arc<KeyedRows>,
    begun: Begun,
}

/// One upload being taken in, wherever its bytes come from.
pub(super) struct Intaking {
    pub(super) ingest: OrderIngest,
    open: VecDeque<Portion>,
    /// Lines from the first one on that the summary knows already.
    lines_known: u64,
    /// Whether what is settled is to survive a power cut.
    wants_disk: bool,
    /// Where the rows end that the summary names and that may not be on disk yet.
    ends: JournalEnds,
    /// How long a portion may wait for its commit.
    patience: Duration,
    /// The memory of unpacking and of rows under way.
    held: Option<Held>,
}

impl Intaking {
    pub(super) fn new(ingest: OrderIngest, wants_disk: bool) -> Intaking {
        Intaking::behind(ingest, 0, wants_disk)
    }

    /// Goes on where `ingest.summary` has so many lines already; they come again and are passed over.
    pub(super) fn behind(ingest: OrderIngest, lines_known: u64, wants_disk: bool) -> Intaking {
        let (open, ends) = (VecDeque::new(), JournalEnds::default());
        Intaking { ingest, open, lines_known, wants_disk, ends, patience: PATIENCE, held: None }
    }

    /// What comes from now on is acked at this level.
    pub(super) fn set_wants_disk(&mut self, wants_disk: bool) {
        self.wants_disk = wants_disk;
    }

    /// Takes in every line the unpacker has.
    pub(super) async fn drain(
        &mut self,
        lane: &Lane,
        unpacker: &mut Unpacker,
        lines_before: u64,
    ) -> Result<(), IngestRefused> {
        loop {
            let is_drained = {
                let mut decoder = lane.decoder.borrow_mut();
                loop {
                    match unpacker.next()? {
                        Next::Hungry | Next::End => break true,
                        Next::Line(line) if line.number <= self.lines_known => {}
                        Next::Line(line) if line.is_too_long => {
                            self.ingest
                                .too_long(lines_before + line.number, Limits::default().line_bytes_max);
                        }
                        Next::Line(line) => {
                            let number = lines_before + line.number;
                            self.ingest.line(&mut decoder, &lane.keys, number, line.bytes);
                        }
                    }
                    if self.ingest.staged_bytes() >= STAGED_BYTES {
                        break false;
                    }
                }
            };
            if is_drained {
                return self.hold(lane, unpacker.memory_bytes());
            }
            self.hand_on(lane).await?;
        }
    }

    /// Counts what is held just now, `unpacker_bytes` of it by the unpacker.
    fn hold(&mut self, lane: &Lane, unpacker_bytes: usize) -> Result<(), IngestRefused> {
        let open_bytes: usize = self.open.iter().map(|portion| portion.rows.bytes()).sum();
        let bytes = unpacker_bytes + self.ingest.staged_bytes() + open_bytes;
        let held = self.held.get_or_insert_with(|| lane.memory.hold());
        match held.set(bytes) {
            Err(Spent) if !lane.let_go_of_kept() => Err(Refusal::BuffersFull.into()),
            _ => Ok(()),
        }
    }

    /// What is staged goes to its journals; waits where too much is under way.
    async fn hand_on(&mut self, lane: &Lane) -> Result<(), IngestRefused> {
        for (shard, rows) in self.ingest.take() {
            let rows = Arc::new(rows);
            let begun = begin(lane, shard, &rows, self.wants_disk).await?;
            self.open.push_back(Portion { rows, begun });
        }
        while self.open.len() > OPEN_MAX * usize::from(lane.shard_count) {
            self.settle_one(lane).await?;
        }
        Ok(())
    }

    async fn settle_one(&mut self, lane: &Lane) -> Result<(), IngestRefused> {
        let Some(Portion { rows, begun }) = self.open.pop_front() else { return Ok(()) };
        let settled = keyed::settle(lane, begun, self.wants_disk, self.patience).await?;
        let Settled { first, outcomes, synced, upto } = settled;
        if !synced {
            return Err(IngestRefused::Unsynced);
        }
        self.ends.add(first.shard, upto);
        for ((line, payload), outcome) in rows.rows().zip(outcomes) {
            let outcome = outcome.ok_or(IngestRefused::NotCommitted)?;
            self.ingest.summary.settle(line as u64, payload, outcome);
        }
        Ok(())
    }

    /// Everything taken in so far is committed.
    pub(super) async fn settle(&mut self, lane: &Lane) -> Result<(), IngestRefused> {
        self.hand_on(lane).await?;
        while !self.open.is_empty() {
            self.settle_one(lane).await?;
        }
        self.ingest.summary.sort();
        Ok(())
    }

    /// Syncs the rows whatever the ack level: what names them from here on, a key or a checkpoint, may reach the disk
    /// at any moment, and must not be there without them. Where the sync fails, who asks for the disk is refused.
    /// Others go on, and `false` says that nothing may name the rows yet.
    pub(super) async fn make_durable(&mut self, lane: &Lane) -> Result<bool, IngestRefused> {
        let synced = self.ends.sync(lane).await?;
        match synced || !self.wants_disk {
            true => Ok(synced),
            false => Err(IngestRefused::Unsynced),
        }
    }
}

/// Journals rows as soon as there is room. A shard over its high-water mark is given [`QUEUE_PATIENCE`]: one ingest
/// has little under way, so the queue is not its own, and whoever sends is told to come back.
pub(super) async fn begin(
    lane: &Lane,
    shard: ShardId,
    rows: &Arc<KeyedRows>,
    wants_disk: bool,
) -> Result<Begun, Refused> {
    let since_us = clock::monotonic_us();
    loop {
        let refused = match keyed::begin(lane, shard, rows, wants_disk, PATIENCE) {
            Ok(begun) => return Ok(begun),
            Err(refused) => refused,
        };
        let patience = match refused {
            Refused::Pressure(Pressure::QueueFull { .. }) => QUEUE_PATIENCE,
            Refused::MailboxFull => PATIENCE,
            _ => return Err(refused),
        };
        if clock::monotonic_us() - since_us >= patience.as_micros() as u64 {
            return Err(refused);
        }
        executor::sleep(PRESSURE_PAUSE).await;
    }
}

/// A request's body as it comes.
pub(super) struct Frames<'g> {
    pub(super) lane: &'g Lane,
    principal: Principal,
    body: Incoming,
    gate: &'g SharedGate,
    pace: Pace,
    /// Since when nobody has asked for more of it.
    left_us: u64,
}

/// How slowly a body may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Not slower than [`PACE_BYTES`] in the time a body has: it is begun anew if it is cut off.
    Steady,
    /// As slowly as it likes, as long as it never rests for that time: what came of it is kept.
    AnyButResting,
}

impl<'g> Frames<'g> {
    pub(super) fn new(
        lane: &'g Lane,
        principal: Principal,
        body: Incoming,
        gate: &'g SharedGate,
        pace: Pace,
    ) -> Frames<'g> {
        Frames { lane, principal, body, gate, pace, left_us: clock::monotonic_us() }
    }

    /// `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, IngestRefused> {
        // What the rows waited for is none of the sender's time.
        self.gate.borrow_mut().allow(clock::monotonic_us() - self.left_us);
        let next = self.read().await;
        self.left_us = clock::monotonic_us();
        next
    }

    async fn read(&mut self) -> Result<Option<Bytes>, IngestRefused> {
        let begun_us = clock::monotonic_us();
        while let Some(frame) = self.body.frame().await {
            let Ok(frame) = frame else {
                let refusal = self.gate.borrow().refused();
                return Err(IngestRefused::Refusal(refusal.unwrap_or(Refusal::BodyIncomplete)));
            };
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                let body_us = self.lane.times.body.as_micros() as u64;
                let earned_us = match self.pace {
                    Pace::Steady => body_us * data.len() as u64 / PACE_BYTES,
                    Pace::AnyButResting => clock::monotonic_us() - begun_us,
                };
                self.gate.borrow_mut().allow(earned_us);
                let asked_us = clock::monotonic_us();
                charge_as_it_comes(self.lane, &self.principal, data.len() as u64).await;
                self.gate.borrow_mut().allow(clock::monotonic_us() - asked_us);
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// Whether the body is a form whose files are meant, and with which boundary.
fn boundary(request: &RequestHead) -> Result<Option<String>, IngestRefused> {
    let content_type = request.headers.get("content-type").and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is = |known: &&str| essence.eq_ignore_ascii_case(known);
    if is(&"multipart/form-data") {
        let boundary = multer::parse_boundary(content_type);
        return boundary.map(Some).map_err(|error| IngestRefused::Multipart(error.to_string()));
    }
    // How the bytes are packed is told by the bytes.
    CONTENT_TYPES.iter().any(is).then_some(None).ok_or(IngestRefused::ContentType)
}

/// What curl and the like call lines of JSON, or those packed.
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

/// The bytes of one upload after another go to `take`; `None` ends an upload.
trait Take {
    fn uploads(&mut self) -> &mut Uploads;

    /// What came was not read.
    fn skip(&mut self, _name: String, _reason: &'static str) {}

    /// Entries of the upload that has ended.
    fn skip_entries(&mut self) {}

    /// Takes every line that has come whole.
    async fn drain(&mut self) -> Result<(), IngestRefused>;

    async fn take(&mut self, bytes: Option<Bytes>) -> Result<(), IngestRefused> {
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

/// Reads the body, whole or its files, into `taker`.
async fn pour(
    mut frames: Frames<'_>,
    boundary: Option<String>,
    taker: &mut impl Take,
) -> Result<(), IngestRefused> {
    let Some(boundary) = boundary else {
        while let Some(bytes) = frames.next().await? {
            taker.take(Some(bytes)).await?;
        }
        return taker.take(None).await;
    };
    let (send, received) = async_channel::bounded(1);
    let pump = async move {
        while let Some(bytes) = frames.next().await? {
            // The form may have ended before the body.
            let _ = send.send(bytes).await;
        }
        Ok::<(), IngestRefused>(())
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
        Ok::<(), IngestRefused>(())
    };
    let (mut pump, mut parts) = (pin!(pump), pin!(parts));
    let (mut is_pumped, mut is_parted) = (false, false);
    poll_fn(|context| {
        // The body first: that it broke is the better reason than the form it broke.
        if !is_pumped && let Poll::Ready(pumped) = pump.as_mut().poll(context) {
            is_pumped = true;
            pumped?;
        }
        // What is wrong with a form is told at once, however much of it is still to come.
        if !is_parted && let Poll::Ready(parted) = parts.as_mut().poll(context) {
            is_parted = true;
            parted?;
        }
        if is_pumped && is_parted { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// Lines of one upload or several, and their common fingerprint.
struct Uploads {
    unpacker: Unpacker,
    decoded_bytes_max: u64,
    /// Lines of the uploads before.
    lines_before: u64,
    fingerprint: Fingerprint,
}

impl Uploads {
    fn new(decoded_bytes_max: u64) -> Uploads {
        let unpacker = Uploads::unpacker(decoded_bytes_max);
        Uploads { unpacker, decoded_bytes_max, lines_before: 0, fingerprint: Fingerprint::default() }
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

    /// The upload has ended; the next one may begin.
    fn ended(&mut self) {
        if let Some(fingerprint) = self.unpacker.fingerprint() {
            self.fingerprint.add(fingerprint);
        }
        self.lines_before += self.unpacker.lines();
        self.decoded_bytes_max = self.decoded_bytes_max.saturating_sub(self.unpacker.decoded_bytes());
        self.unpacker = Uploads::unpacker(self.decoded_bytes_max);
    }
}

/// What any number of uploads are known by together: of one its own, of several a hash of theirs.
#[derive(Default)]
struct Fingerprint {
    first: [u8; 32],
    count: u64,
    /// Over all of them, one behind the other.
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

/// Takes orders in.
struct Ingesting<'l> {
    lane: &'l Lane,
    uploads: Uploads,
    intaking: Intaking,
}

impl Take for Ingesting<'_> {
    fn uploads(&mut self) -> &mut Uploads {
        &mut self.uploads
    }

    fn skip(&mut self, name: String, reason: &'static str) {
        self.intaking.ingest.summary.skip(name, reason);
    }

    fn skip_entries(&mut self) {
        self.intaking.ingest.summary.skip_entries(&self.uploads.unpacker.skipped());
    }

    async fn drain(&mut self) -> Result<(), IngestRefused> {
        self.intaking.drain(self.lane, &mut self.uploads.unpacker, self.uploads.lines_before).await
    }
}

/// Only looks whether the lines are the same as before.
struct Comparing<'l> {
    lane: &'l Lane,
    uploads: Uploads,
    held: Held,
}

impl Take for Comparing<'_> {
    fn uploads(&mut self) -> &mut Uploads {
        &mut self.uploads
    }

    async fn drain(&mut self) -> Result<(), IngestRefused> {
        while let Next::Line(_) = self.uploads.unpacker.next()? {}
        match self.held.set(self.uploads.unpacker.memory_bytes()) {
            Err(Spent) if !self.lane.let_go_of_kept() => Err(Refusal::BuffersFull.into()),
            _ => Ok(()),
        }
    }
}

/// The whole endpoint.
pub(in crate::server) async fn post(call: Call<'_>, body: Incoming) -> Result<Answer, IngestEnded> {
    let Call { lane, gate, request, .. } = call;
    let principal = admit(lane, request, &body).map_err(IngestRefused::Denied)?.principal;
    let tenant = tenant_of(lane, request, &principal);
    let tenant = tenant.as_deref();
    let wants_disk = wants_disk(&call)?;
    let key = ingest_key(&request.headers)?;
    let boundary = boundary(request)?;
    if !is_understood(request) {
        return Err(IngestRefused::ContentCoding.into());
    }
    // Where no shard takes any more, nothing of the body is worth reading.
    if let Some(pressure) = lane.intake.borrow().pressure_everywhere() {
        return Err(IngestRefused::Pressure(pressure).into());
    }
    let named = Named::claim(lane, tenant, &key).await?;
    let frames = Frames::new(lane, principal, body, gate, Pace::Steady);
    let uploads = Uploads::new(lane.vitals.config.ingest_bytes_max);
    if let Some(finished) = named.finished(lane).await? {
        let mut comparing = Comparing { lane, uploads, held: lane.memory.hold() };
        pour(frames, boundary, &mut comparing).await?;
        if comparing.uploads.fingerprint.get() != finished.fingerprint {
            return Err(IngestRefused::KeyReused.into());
        }
        named.keep(lane, wants_disk).await?;
        return Ok(api::commerce::replayed(finished.response, level(wants_disk)));
    }
    let started_us = clock::monotonic_us();
    let intaking = named.begin(lane, tenant, wants_disk);
    let mut ingesting = Ingesting { lane, uploads, intaking };
    let poured = pour(frames, boundary, &mut ingesting).await;
    if matches!(poured, Err(IngestRefused::Pressure(_))) {
        // Whoever is to come back later is told so now, with what is known by then.
        ingesting.intaking.patience = lane.keyed.commit_wait;
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
        // Its key stays free.
        let refused = IngestRefused::NothingKnown(summary.advice());
        return Err(IngestEnded { refused, summary: Some(summary) });
    }
    let response = summary.json(&key, clock::monotonic_us() - started_us);
    if is_durable {
        let finished = named.finish(lane, &ingesting.uploads.fingerprint.get(), &response, wants_disk).await;
        finished.map_err(|refused| IngestEnded { refused, summary: Some(summary) })?;
    } else {
        // The key stays free, and the orders are duplicates when they come again.
        tracing::warn!(key, "an ingest is not remembered by its key: its rows could not be synced");
    }
    Ok(api::commerce::ingested(response, level(wants_disk)))
}

/// Whether the answer waits until what it promises survives a power cut.
pub(super) fn wants_disk(call: &Call<'_>) -> Result<bool, IngestRefused> {
    let wants_disk = api::event::wants_disk(call.query(), call.lane.vitals.config.ack);
    wants_disk.map_err(|_| IngestRefused::AckParameter)
}

/// The bytes tell how they are packed; a header may say the same.
fn is_understood(request: &RequestHead) -> bool {
    let mut codings = request.headers.get_all("content-encoding").iter();
    codings.all(|coding| {
        ["identity", "gzip", "x-gzip", "zstd"]
            .iter()
            .any(|known| coding.as_bytes().eq_ignore_ascii_case(known.as_bytes()))
    })
}

/// What an ingest is known by in its rows: the same for every attempt under its key, so that each knows the
/// orders of the others as its own.
pub(super) fn ingest_id(key: KeyHash) -> i64 {
    // Positive, and 0 means none; all 63 bits of it, or ingests would take each other's orders for their own.
    ((key.0 as i64) & i64::MAX).max(1)
}

/// An ingest by its idempotency key, which nobody else works under meanwhile.
pub(super) struct Named {
    scope: String,
    key: String,
    hash: KeyHash,
    _claim: Claim,
}

impl Named {
    pub(super) async fn claim(lane: &Lane, tenant: Option<&str>, key: &str) -> Result<Named, IngestRefused> {
        let scope = tenant.unwrap_or("*").to_owned();
        let hash = lane.keys.hash(&scope, key);
        let name = format!("ingest\0{scope}\0{key}");
        let claim = keyed::claim(lane, hash.shard(lane.shard_count), name).await?;
        let claim = claim.ok_or(IngestRefused::Running)?;
        Ok(Named { scope, key: key.to_owned(), hash, _claim: claim })
    }

    fn shard(&self, lane: &Lane) -> ShardId {
        self.hash.shard(lane.shard_count)
    }

    /// What was answered before, if it was.
    pub(super) async fn finished(&self, lane: &Lane) -> Result<Option<FinishedIngest>, IngestRefused> {
        let found = query::finished_ingest(&lane.readers, self.shard(lane), &self.scope, &self.key).await?;
        Ok(found.filter(|finished| finished.expires_us > clock::unix_us()))
    }

    pub(super) fn begin(&self, lane: &Lane, tenant: Option<&str>, wants_disk: bool) -> Intaking {
        let id = ingest_id(self.hash);
        let ingest = OrderIngest::new(id, tenant.map(str::to_owned), clock::unix_us(), lane.shard_count);
        Intaking::new(ingest, wants_disk)
    }

    /// What was answered before survives what is promised of it now. Its rows do: they were on disk before it was
    /// journaled.
    pub(super) async fn keep(&self, lane: &Lane, wants_disk: bool) -> Result<(), IngestRefused> {
        let kept = !wants_disk || keyed::sync_shard(lane, self.shard(lane)).await?;
        kept.then_some(()).ok_or(IngestRefused::Unsynced)
    }

    /// Remembers what is answered. The rows it names are on disk by now.
    pub(super) async fn finish(
        &self,
        lane: &Lane,
        fingerprint: &[u8; 32],
        response: &[u8],
        wants_disk: bool,
    ) -> Result<(), IngestRefused> {
        let finished_us = clock::unix_us();
        let row = IngestRow {
            finished_us,
            expires_us: finished_us + INGEST_KEY_KEPT_US,
            scope: &self.scope,
            key: &self.key,
            fingerprint,
            response: std::str::from_utf8(response).unwrap_or_default(),
        };
        let mut rows = KeyedRows::of(Kind::Ingest);
        rows.push_record(0, |bytes| row.encode(bytes));
        let begun = begin(lane, self.shard(lane), &Arc::new(rows), wants_disk).await?;
        let settled = keyed::settle(lane, begun, wants_disk, PATIENCE).await?;
        if !settled.synced {
            return Err(IngestRefused::Unsynced);
        }
        // It will be, but a repetition before that would be answered anew.
        settled.outcomes.first().copied().flatten().map(drop).ok_or(IngestRefused::NotCommitted)
    }
}

/// `PATCH /api/v1/tenants/{tenant}/orders/{order}`: a new status, through the journal like everything else.
pub(in crate::server) async fn patch(call: Call<'_>, body: Body<'_>) -> Result<Answer, StatusRefused> {
    let lane = call.lane;
    let (tenant_id, order_id) = (call.tenant(), call.request.parameter("order"));
    let wants_disk = wants_disk(&call)?;
    let received_us = clock::unix_us();
    let (status, occurred_us) = api::commerce::status(without_mark(&body.bytes), received_us)?;
    drop(body);
    if !api::commerce::is_identifier(&order_id) {
        return Err(StatusRefused::NoSuchOrder);
    }
    let row = StatusRow { received_us, occurred_us, status, tenant_id, order_id: &order_id };
    let mut rows = KeyedRows::of(Kind::OrderStatus);
    rows.push_record(0, |bytes| row.encode(bytes));
    let shard = lane.keys.hash(tenant_id, &order_id).shard(lane.shard_count);
    let begun =
        keyed::begin(lane, shard, &Arc::new(rows), wants_disk, PATIENCE).map_err(IngestRefused::from)?;
    let settled = keyed::settle(lane, begun, wants_disk, PATIENCE).await.map_err(IngestRefused::from)?;
    if !settled.synced {
        return Err(IngestRefused::Unsynced.into());
    }
    let changed = |changed| api::commerce::status_changed(&order_id, status, changed, level(wants_disk));
    match settled.outcomes.first().copied().flatten() {
        Some(Outcome::Inserted) => Ok(changed(true)),
        Some(Outcome::Duplicate) => Ok(changed(false)),
        Some(Outcome::SumTooLarge) => Err(StatusRefused::SumTooLarge),
        Some(Outcome::Superseded) => {
            Ok(api::commerce::status_superseded(&order_id, status, level(wants_disk)))
        }
        Some(_) => Err(StatusRefused::NoSuchOrder),
        None => Err(IngestRefused::NotCommitted.into()),
    }
}

impl From<Refusal> for IngestRefused {
    fn from(refusal: Refusal) -> IngestRefused {
        IngestRefused::Refusal(refusal)
    }
}

impl From<Refused> for IngestRefused {
    fn from(refused: Refused) -> IngestRefused {
        match refused {
            Refused::Pressure(pressure) => IngestRefused::Pressure(pressure),
            Refused::MailboxFull | Refused::NoAnswer => IngestRefused::CoreBusy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keys::KeyHasher;

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

    #[test]
    fn every_key_has_an_ingest_of_its_own() {
        let keys = KeyHasher::new(&[3; 16]);
        let id = |number: u32| ingest_id(keys.hash("t", &number.to_string()));
        let mut ids: Vec<i64> = (0..10_000).map(id).collect();
        assert_eq!((id(7), ingest_id(KeyHash(0)), ingest_id(KeyHash(u128::MAX))), (ids[7], 1, i64::MAX));
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() == 10_000 && ids[0] > 0);
    }
}
