//! firehose: a thread-per-core, shared-nothing HTTP event collector, events service and commerce backend on
//! SQLite shards.
//!
//! This page is the map. Reading order: here, [`ingest`] (the life of an event), `server/core_loop.rs`
//! (one core's loop), then the folder a question leads to.
//!
//! # The life of an event
//!
//! ```text
//!              core i (pinned to one CPU)                                 data/
//!  TCP ──► listen-i  epoll, HTTP/1.1 ────────append──► shard-XX/hot/  ──┐
//!            │ `http` → `event` → `journal`, one write a tick           ├─► write-XX ──► shard-XX/shard.db
//!            │ anything else: the socket goes over                      │   one transaction: rows,
//!            └──────► exec-i  glommio (or tokio), hyper ─► shard-XX/keyed/  counters, journal positions
//!  operators ─► ops   may_minihttp: /metrics /health /ready /debug/flamegraph, alive when cores are not
//! ```
//!
//! 1. `listen-i` reads every connection that is ready, parses and checks the events
//!    ([`http::Connection`], [`event::Decoder`]), stages them and appends them to its journal with one
//!    `write` ([`journal::Appender`]). Only then are the 202s rendered and sent (`ack=os`), or kept until
//!    the next group fdatasync, which `exec-i` makes (`ack=disk`).
//! 2. `write-XX` reads the journals back from the page cache, and stores rows, counters and the journals'
//!    positions in one transaction ([`ingest::write`], [`shard::Shard::apply`]). After a crash it goes on
//!    exactly there.
//! 3. A checkpoint carries the WAL into the database file and syncs it; only then are journal segments
//!    deleted. The journal, not SQLite, is the durability layer.
//!
//! A database that is locked, full, damaged or gone stops step 2 only.
//!
//! # The life of an idempotent event
//!
//! `POST /events` and `/events/bulk` come to an executor. [`event::Decoder`] reads the rows, each by itself; a
//! hash of (tenant, event id) names the shard ([`base::keys`]); the core that feeds it journals the rows in its
//! `keyed` lane (another core's go there over a bounded mailbox, `server/executor_lane/keyed.rs`) and unparks
//! the writer. [`shard::Shard::apply`] asks the shard's memory of ids (`shard/ids`) for candidates, compares
//! them with the stored rows, stores what is new with its buckets, and tells each row's outcome, which
//! [`ingest::Verdicts`] hands back once the commit is published. No commit within `commit_wait`: 202, and the
//! check happens when there is one.
//!
//! # The life of an order
//!
//! ```text
//! body ─► unpack ─► event::Decoder ─► commerce::OrderIngest ─► journals (`keyed`) ─► write-XX ─► summary
//!         gzip, zstd,  one order a     staged by shard, half     hash of (tenant,     order, items, names,
//!         zip, plain   line            a megabyte at a time      order id)            sums: one transaction
//! ```
//!
//! 1. `POST /api/v1/ingest/orders` takes its idempotency key first: one core holds the name while the ingest runs
//!    (`server/executor_lane/orders.rs`), and a finished one is answered from `ingest_key`.
//! 2. [`unpack`] hands out lines with flat memory, [`event::Decoder`] makes each an order or names every broken
//!    field, [`commerce`] stages it for its shard. What is staged is journaled; a bounded number of portions
//!    waits for commits, and beyond it the body is not read on. At its end the journals that hold the rows are synced,
//!    whatever the ack level, and then the key is journaled: it never outlives them. Where that sync fails, an ingest at
//!    `os` is answered and its key is not kept.
//! 3. `shard/orders/take.rs` stores an order whose id the tenant does not have, with its items, the numbers of its
//!    names, and adds it to the groups of the batch; `shard/orders/sums.rs` writes those, counts and [`sketch`]es,
//!    in the same transaction. Outcomes come back through [`ingest::Verdicts`] and become the summary.
//! 4. A full partition is sealed and gets lists of its orders by product and by customer, in slices
//!    (`shard/orders/seal.rs`).
//! 5. A new status goes the same way as a record of its own. One that ends or makes a sale changes the sums; where
//!    a sale ends, the sketches of its groups are made anew.
//!
//! Out again: a search is a query as below, over an index in order of time or lists; sales are answered from sums
//! ([`query`], `src/query/sales.rs`) or exactly, from every sale in windows of time. `docs/data-model.md` says
//! what may be relied on, `docs/plans.md` what each index is worth.
//!
//! # The life of a stock update
//!
//! `PUT …/stock/bulk_update` is read row by row (`event/stock.rs`), put together by product (`commerce/stock.rs`) and
//! journaled, a record a product, in the `keyed` lane of the shard that hash(tenant, product) names. Its writer decides
//! one record after the other (`shard/stock/`): seen before, in conflict, rejected or applied, with the next version.
//! So a product is serial without a lock. What was decided is kept under the request's number (`stock_answer`) and read
//! back after the commit: an answer is of its commit, not of a later one. Levels are what the events come to.
//!
//! # The life of a price
//!
//! 1. `POST …/price-event` (`server/executor_lane/prices.rs`): signature, buckets ([`tenants`]), body
//!    (`commerce/prices.rs`); hash of (tenant, product) names the shard, so one writer judges a product's prices one
//!    after the other. The record carries the tenant's limits: a replay decides as it was decided.
//! 2. `shard/prices/take.rs` knows a repeated id, reads the accepted prices around the event's own time and asks
//!    `shard/prices/detect.rs`. Price, verdict and, with an anomaly, a numbered change are one commit. The answer is
//!    read back from what is committed, so the first can be given again for ever.
//! 3. A commit with changes wakes every core's reader of changes (`server/executor_lane/changes.rs`), which reads
//!    what is new once for all its streams. A stream's id is a number for each shard, sealed: it goes on from there
//!    after anything.
//! 4. A decision is a record like any other; an approved price is an accepted one from then on.
//!
//! # The life of an upload
//!
//! Orders come in one request (`server/executor_lane/orders.rs`) or resumably by tus
//! (`server/executor_lane/uploads.rs`): bytes to `DATA/uploads/<id>/body`, lines to the same journals, and once
//! they are committed and their journals synced a checkpoint. After a crash the body is cut to the checkpoint and held
//! against the checkpoint's sum; rows that come twice are known by their ingest and line. While a sync of the journals
//! fails, the checkpoint stays where it was and a whole upload is not finished.
//!
//! # The life of an export
//!
//! `POST …/reports/export` pins the shards and writes `DATA/exports/<id>/state.json`
//! (`server/executor_lane/exports.rs`); one core runs a few jobs at a time ([`commerce::run_export`]). A job writes
//! down which orders it tells and with which status, then reads them in batches (`shard/orders/read/export.rs`),
//! encodes each on a reader's thread and ends it in a checkpoint. A download follows the file up to that checkpoint.
//! After a kill the job goes on there and makes the bytes an uncut one makes. `docs/exports.md` says what a client may
//! rely on.
//!
//! # The life of an erasure
//!
//! `DELETE …/customers/{customer}` (`server/executor_lane/people.rs`): a first record in every shard's `keyed` journal
//! puts the customer on the list of those who are kept out; then uploads and exports go; a second record begins the
//! work in every shard (`shard/people`). It waits until all lanes have come to where they were, and then does slices
//! of upkeep: orders, names and their words, events; every unused byte of the file is overwritten
//! (`shard/people/scrub.rs`). At last the writer has each lane begin a new segment, checkpoints, cuts the WAL and lets
//! the old segments go. Where it stands is in the shard, so a crash changes nothing.
//!
//! # The life of a query
//!
//! [`query`]: plan → fan out → partial → merge → stream. Readers' threads do bounded steps with read-only
//! connections ([`shard::read`]); a query is of the rows that were there when it first asked each shard, and
//! its cursor says so. What SQLite makes of every statement is in `bench/plans.md`.
//!
//! # The life of a figure
//!
//! Threads count in cells of their own ([`ops::vitals`]), the writer tells how its shard stands
//! ([`shard::ShardStatus`], its outage with it). `/metrics` is a page of them for machines; `/` is one for people
//! (`src/api/dashboard/page`), which asks `/dashboard/state` once a second and makes rates and percentiles of the
//! differences. No figure is made by touching the disk.
//!
//! # Upkeep
//!
//! Between batches a writer does slices of a few milliseconds (`shard/upkeep.rs`): ids sorted into runs, people to
//! be erased, the index by user of a sealed partition, what retention drops. Nothing of it stops writing for longer.
//!
//! # Adding a record kind
//!
//! 1. Its row goes into the table in `base/kinds.rs`: the next number, and what is true of it. Rejected records, a
//!    reshard's counts and the tests that walk [`Kind::ALL`](base::kinds::Kind::ALL) follow from the row.
//! 2. Its encode and decode go into its family's `shard/…/record.rs`. Decode gives `None` for bytes that are no record.
//!    A table of its own is a migration at the end of the list in `shard/schema.rs`, and a line in `docs/data-model.md`.
//! 3. Its take is an arm of `take` in its family's folder; among the orders a `Row` of `Batch` in `shard/orders/take.rs`
//!    with an arm in `push` and in `Taker::take`, which calls the other families. Until then it is rejected.
//! 4. Its key goes into `key_of` in `shard/carry.rs`; its rows, as records, into what the family's `carry.rs` hands out:
//!    what is not handed out a reshard loses. What names a person goes into `shard/people/rows`.
//! 5. A good record of it goes into `shard/tests/kinds.rs`, which holds the row, its take and its carry against what a
//!    shard does.
//!
//! # Adding an endpoint
//!
//! 1. Its row goes into the table in `server/endpoints.rs`: the path, and a line a method with what is asked of a key,
//!    what is done with a body, the handler and its description. Words win over parameters, in whatever order. Pages of
//!    other origins may not call it, nor anybody by an unknown name, unless the row says so (`api/callers.rs`).
//! 2. Its handler is `pub(in crate::server) async fn name(call: Call<'_>, body: Body<'_>) -> Result<R, E>` in
//!    `server/executor_lane/…`, `R` an [`Answer`](http::Answer) or a `Reply` that streams, `E` an error that implements
//!    [`api::error::Refuse`]. By then the tenant in the path can be one, was let in and charged; other parameters
//!    (`call.request.parameter("order")`) may be anything, also empty.
//! 3. What only looks into memory is a function of [`api::Asked`] in `api/…`; it may be `hot` if it asks for no key.
//! 4. Its description is a function in `api/openapi/…`: its parameters with their limits, its answers, and the problems
//!    that are its own. The lock, 401, 403 and 429 with the headers of quotas, and the 404 of what cannot be a tenant
//!    follow from the row. What creates something has links to what reads it. `tests/openapi.rs` holds the server to it.
//! 5. What it asks of a key goes into `every_endpoint_asks_for_what_it_gives` (`server/endpoints.rs`), what another
//!    tenant might try there into `tests/isolation.rs`. Both fail until it is there; `tests/endpoints.rs` holds the row
//!    against the running server.
//!
//! # The life of a connection
//!
//! It comes to the core with the fewest. `POST /event`, `/health`, `/ready` and `/receipts/…` are answered
//! on the hot lane; at the first request for anything else the socket goes to the executor, with its unread
//! bytes, and stays there. Events posted there take the core's other journal (`keyed`). Both lanes keep the
//! same rules because they run the same code: in front of hyper a [`http::Gate`] follows the bytes and lets
//! pass only what the hot lane would have taken; what it refuses is answered in its turn.
//!
//! # Folders, from the bottom up
//!
//! | rank | folder | what lives there |
//! | --- | --- | --- |
//! | 0 | [`base`] | identifiers, record kinds, limits, the clock, counters |
//! | 1 | [`config`], [`event`] | settings in four layers; JSON bytes to an event or an order |
//! | 1 | [`sketch`], [`unpack`] | how many different, which value at a rank; uploaded bytes to lines |
//! | 2 | [`http`], [`cores`], [`journal`], [`shard`] | HTTP without I/O; threads, runtimes, mailboxes; the durable buffer; one SQLite file |
//! | 3 | [`tenants`] | keys, scopes, quotas |
//! | 4 | [`ingest`], [`query`] | the life of an event, the writer's loop; the life of a query |
//! | 5 | [`commerce`] | what an order, a search and a sales figure mean to a client |
//! | 5 | [`ops`] | log, metrics, profiles, the operators' listener |
//! | 6 | [`api`] | what follows from a table of endpoints, problems, OpenAPI |
//! | 7 | [`server`] | assembly; the table of endpoints; each core's loops |
//! | 8 | [`cli`] | commands, datasets by seed among them |
//!
//! A folder imports lower ranks only, through their `mod.rs`; `tests/house.rs` checks it.
//!
//! # Invariants, and the tests that hold them
//!
//! | id | promise | test |
//! | --- | --- | --- |
//! | W1 | what is acked at level L survives what L promises; an answer that names rows does not outlive them | `tests/durability.rs`, `tests/exactly_once.rs`, `tests/unsynced.rs`, `src/journal/tests/promises.rs` |
//! | W2 | one event id, one order id of one tenant is stored once | `tests/duplicates.rs`, `tests/orders_once.rs`, `src/shard/tests/events.rs`, `src/shard/tests/orders.rs` |
//! | W3 | a shard is written by its writer only | `src/ingest/write/tests.rs`, `tests/house.rs` |
//! | W4 | accepted = stored + pending at every moment | `tests/durability.rs` |
//! | W5 | what a reported `Upload-Offset` covers is stored, also after a kill | `tests/uploads.rs` |
//! | R1 | N shards answer as one | `tests/one_vs_many.rs`, `tests/orders_search.rs`, `tests/stock.rs` |
//! | B1 | a page of another origin, or one under a name pointed here, posts events and does nothing else | `tests/browsers.rs`, `src/api/callers.rs` |
//! | R2 | no row crosses tenants | `tests/isolation.rs`, `tests/one_vs_many.rs`; a plan of events has a tenant, by its type |
//! | R3 | buckets and sums of sales equal a recount at every commit, whatever statuses became | `tests/orders.rs`, `src/shard/tests/events.rs`, `src/shard/tests/orders.rs`, `firehose verify --aggregates` |
//! | T1 | stock is what its events come to; a product changes as a whole, each event counts once | `tests/stock.rs`, `src/shard/stock/tests.rs`, `firehose verify --stock` |
//! | T2 | some serial order of each product explains every answer, also over kills | `tests/stock_history.rs` |
//! | U1 | damage to an upload is told, never taken for its end; what it unfolds to is bounded | `tests/orders_encodings.rs`, `src/unpack/tests/damage.rs`, `src/unpack/tests/bombs.rs` |
//! | P1 | a price event is stored once and has one answer for ever | `tests/prices.rs`, `src/shard/tests/prices.rs` |
//! | P2 | a stream of changes misses none and repeats none, over cores, shards, restarts and slow readers | `tests/prices.rs` |
//! | X1 | an export's bytes are the same whatever is cut or killed; what was given out never changes; what is not whole has no clean end | `tests/exports.rs` |
//! | D1 | the same seed makes the same bytes; the truth of a dataset is a recount | `tests/dataset.rs` |
//! | E1 | who was erased is in no file of the data folder, and does not come back | `tests/people.rs`, `src/shard/people/scrub.rs`, `src/shard/orders/words/tests.rs` |
//! | K1 | no endpoint gives or takes a tenant's rows without a key for them, once there are keys | `tests/keys.rs` |
//! | K2 | a tenant's or product's limit holds at any number of cores, within 5 % | `src/tenants/lease.rs`, `src/tenants/buckets.rs` |
//! | K3 | the dashboard loads nothing from elsewhere and shows a server with keys no more than `/health` without one | `tests/dashboard.rs`, `src/api/dashboard/files.rs` |
//! | S1 | memory stays within the budget under any load | `tests/connections.rs`, `tests/memory.rs` |
//! | S2 | a listener takes no lock and makes no futex call in a steady state | `strace -c`, in `tuning.md` |
//! | S3 | a full disk or a locked database never stops health or recovery | `tests/outage.rs`, `tests/full_disk.rs`, `tests/orders_outage.rs` |
//!
//! # Words
//!
//! *core* a pinned thread with its helpers · *shard* a SQLite file and its journals · *lane* one journal
//! with one producer; also the thread that produces · *tick* one turn of a core's loop · *batch* the rows
//! of one commit · *partition* a table of one shard, sealed and indexed when it is full · *receipt* names
//! an accepted event: shard, lane and sequence · *poison* to stop trusting a connection after a failure ·
//! *key* what a client shows, `fh_<id>_<secret>`; also the (tenant, event id) that names a shard ·
//! *lease* a slice of a tenant's budget that one lane took in advance ·
//! *stream* clicks or service events, each in partitions of its own · *partial* one shard's share of an
//! answer · *pin* the highest row id of a shard that a query sees · *bucket* a count over a stretch of time ·
//! *ingest* one upload of orders under one idempotency key · *sale* an order that is neither cancelled nor
//! refunded · *erasure* a person's rows and bytes leaving all files · *suppress* to keep out what comes of one
//! who was erased · *token* stands for a customer whose orders were kept · *sum* orders, units and revenue of one
//! hour, day, category or product · *sketch* an estimate's
//! memory, kept beside a sum · *list* the orders of a sealed partition by product or customer · *minor unit* the
//! smallest coin of a currency, in which money is kept · *level* how much of a product there is · *stock change*
//! what one request does to one product · *version* of a product: how many stock changes it had · *accepted price* one that was in
//! line, approved or loaded as history: what others are held against · *anomaly* a price out of line · *price change*
//! an anomaly or a decision on one, with a number in its shard · *epoch* which numbering of changes a shard's file has ·
//! *outage* a stretch of time in which a shard was not written · *chosen* the orders an export tells, with the status
//! it tells them with.
//!
//! # Where this differs from what one might expect
//!
//! - The hot lane is plain epoll and not io_uring: for small keep-alive requests io_uring gains nothing;
//!   glommio has the work it is good at (fdatasync, timers, everything that streams).
//! - Prepared inserts, not a virtual table over the batch: equally fast here, and without unsafe code.
//! - A damaged record costs itself: the others of its journal are stored, the damaged segment is kept in
//!   `quarantine/`.
//! - The index by user of a sealed partition is grown as a table and becomes an index by a change of the
//!   catalogue (`shard/seal.rs`), because `CREATE INDEX` would hold the write lock for half a second.
//! - Clicks keep an index in order of time from their first row: reads of the open partition need no scan.
//! - Id tables that are lost or do not fit the rows are made anew at the start.
//! - A database file removed under the running server is copied back from the open connection.

pub mod api;
pub mod base;
pub mod cli;
pub mod commerce;
pub mod config;
pub mod cores;
pub mod event;
pub mod http;
pub mod ingest;
pub mod journal;
pub mod ops;
pub mod query;
pub mod server;
pub mod shard;
pub mod sketch;
pub mod tenants;
pub mod unpack;
