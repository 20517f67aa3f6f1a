//! firehose: a thread-per-core, shared-nothing HTTP event collector, events service and commerce backend on SQLite
//! shards.
//!
//! This page is the map. Read it first, then [`ingest`] (the life of an event) and `server/core_loop.rs` (the loop of
//! one core), then the folder that your question concerns.
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
//! 1. `listen-i` reads every connection that is ready, parses and checks the events ([`http::Connection`],
//!    [`event::Decoder`]), stages them and appends them to its journal with one `write` ([`journal::Appender`]). Only
//!    then does it render and send the 202s (`ack=os`), or keep them until the next group fdatasync by `exec-i`
//!    (`ack=disk`).
//! 2. `write-XX` reads the journals back from the page cache, and stores rows, counters and the journal positions
//!    in one transaction ([`ingest::write`], [`shard::Shard::apply`]). After a crash it continues at these
//!    positions.
//! 3. `copy-XX` copies the WAL into the database file and syncs it, while commits continue ([`shard::Copier`],
//!    `ingest/write/passes.rs`). Only then does it delete journal segments, up to the positions that it has copied. The
//!    journal, not SQLite, is the durability layer.
//!
//! A database that is locked, full, damaged or missing stops only step 2.
//!
//! # The life of an idempotent event
//!
//! 1. `POST /events` and `/events/bulk` are served by an executor (`lane`), which calls `events/endpoints.rs`.
//!    `events/bulk.rs` splits rows, and `events/body.rs` has the rules of one.
//! 2. A hash of (tenant, event id) selects the shard ([`base::keys`]). The core that feeds this shard journals the rows
//!    in its `keyed` lane and wakes the writer. Rows of another core's shard go there through a bounded mailbox
//!    (`lane/keyed.rs`).
//! 3. [`shard::Shard::apply`] sorts the records of a batch by family. The events' store (`events/store.rs`) looks up
//!    candidates in the shard's memory of ids (`shard/ids`), compares them with the stored rows, stores new rows with
//!    their buckets, and returns the outcome of each row.
//! 4. [`ingest::Verdicts`] returns the outcomes once the commit is published. If there is no commit within
//!    `commit_wait`, the response is 202 and the duplicate check happens at commit.
//!
//! # The life of an order
//!
//! ```text
//! body ─► unpack ─► orders::OrderDecoder ─► orders::OrderIngest ─► journals (`keyed`) ─► write-XX ─► summary
//!         gzip, zstd,  one order a           staged by shard,       hash of (tenant,     order, items, names,
//!         zip, plain   line                  a portion at a time    order id)            sums: one transaction
//! ```
//!
//! 1. `POST /api/v1/ingest/orders` claims its idempotency key first: one core holds the name while the ingest runs
//!    (`orders/endpoints/claimed.rs`). A finished ingest is answered from `ingest_key`.
//! 2. [`unpack`] returns lines with constant memory, `orders/body.rs` parses each into an order or lists every invalid
//!    field, and `orders/ingest.rs` stages it for its shard. A full stage is journaled, and a limited number of
//!    portions waits for commits (`orders/endpoints/row_intake.rs`); beyond it, the body is not read further. At the
//!    end, the journals of the rows are synced at any ack level, and then the key is journaled, so that it never
//!    outlives the rows. If that sync fails, an ingest at `os` gets its response and its key is not kept.
//! 3. `orders/store.rs` stores an order whose id is new to the tenant, with its items and the numbers of its
//!    names, and adds it to the groups of the batch. `orders/sums.rs` writes these groups, counts and
//!    [`sketch`]es in the same transaction. The outcomes return through [`ingest::Verdicts`] and become the summary.
//! 4. A full partition is sealed and gets lists of its orders by product and by customer, in slices
//!    (`orders/seal.rs`). Orders are also stored by columns, in segments of 1,024 that become ones of 16,384
//!    (`orders/segment`).
//! 5. A status change (`orders/endpoints/status.rs`) is one keyed record. `orders/store.rs` compares its time with
//!    that of the last change. If it ends or reinstates a sale, it changes the sums. If it ends one, the sketches of
//!    its groups are rebuilt. If the order is in a segment, the list of changed orders gets the status, too.
//!
//! Queries: a search is a query as below, over the time index or the lists. Sales are answered from sums
//! (`sales/query.rs`), or exactly, from every sale in windows of time: from segments and the rows that are in none
//! (`sales/query/from_columns.rs`), or from rows alone if few are selected. Counts by product have no sums either
//! (`sales/product_sums.rs`). `docs/data-model.md` describes what clients
//! may rely on, `docs/plans.md` the value of each index.
//!
//! # The life of a stock update
//!
//! 1. `PUT …/stock/bulk_update` is parsed row by row (`stock/body.rs`), grouped by product (`stock/batch.rs`) and
//!    journaled as one record per product, in the `keyed` lane of the shard that hash(tenant, product) selects.
//! 2. The shard's writer decides one record at a time (`stock/store.rs`): duplicate, conflict, rejected or applied,
//!    with the next version. A product's changes are therefore serial without a lock. Known ids are found as those of
//!    events and orders are (`shard/ids`). Events are appended, each with the row of the product's event before it, and a
//!    level is written once a batch (`stock/levels.rs`).
//! 3. The decisions are stored under the request's number (`stock_answer`) and read back after the commit, so a
//!    response belongs to its own commit, not to a later one. Levels equal the result of the events.
//!
//! # The life of a price
//!
//! 1. `POST …/price-event` (`prices/endpoints.rs`) checks the signature, the buckets ([`tenants`]) and the
//!    body (`prices/body.rs`). hash(tenant, product) selects the shard, so one writer checks a product's prices, one at
//!    a time. The record contains the tenant's limits, so a replay reaches the same verdict.
//! 2. `prices/store.rs` recognises a repeated id (`shard/ids`), asks the series of the product and currency
//!    (`prices/series.rs`) for the accepted prices around the event's own time and calls `prices/detect.rs`. The price,
//!    which is appended, the verdict and, for an anomaly, a numbered change are one commit. An anomaly in the
//!    response is read back from what is committed, so every retry gets the same one.
//! 3. A commit with changes wakes every core's reader of changes (`prices/endpoints/changes.rs`), which reads new
//!    ones once for all its streams. The id of a stream event is a sealed number for each shard, from which a stream
//!    can always resume.
//! 4. A decision is an ordinary record. An approved price counts as accepted from then on.
//!
//! # The life of an upload
//!
//! Orders arrive in one request (`orders/endpoints.rs`) or resumably by tus (`uploads/endpoints.rs`). The bytes go to
//! `DATA/uploads/<id>/body` and the lines to the same journals. Once the lines are committed and their journals synced,
//! the upload writes a checkpoint. After a crash, the body is truncated to the checkpoint and compared with its
//! checksum. Rows that arrive again are recognised by their ingest and line. While a sync of the journals fails, the
//! checkpoint does not advance, and a complete upload is not finished.
//!
//! # The life of an export
//!
//! `POST …/reports/export` pins the shards and writes `DATA/exports/<id>/state.json` (`exports/endpoints.rs`). Core 0
//! runs a few jobs at a time (`exports/endpoints/run.rs`, `exports/job.rs`). A job records the selected rows, orders
//! with their statuses, and syncs that list. It reads them in batches (`orders/read/export`, where the numbers of orders
//! in segments come from columns; for events and clicks `shard/read/selected.rs`), encodes each on a reader's thread and
//! ends it with a checkpoint in `progress.json`, which is not synced. If retention has dropped a selected row, it fails. A download follows the file up to that checkpoint.
//! After a kill, `exports/store.rs` takes the newer of the two states, `exports/file.rs` verifies the
//! bytes by their digest and truncates the rest, and the job writes the same bytes as an uninterrupted one. After a
//! power cut, `state.json` applies. `docs/exports.md` describes what clients may rely on.
//!
//! # The life of an erasure
//!
//! `people/places.rs` lists every place that holds data of people: how it is erased, how it is read, and what a
//! certificate counts there. The steps below, the certificate and the export of a customer (`people/access`) follow from
//! this list.
//!
//! 1. `DELETE …/customers/{customer}` or `POST …/customers/erase` (`people/endpoints/begin.rs`) writes a first record for
//!    each customer to every shard's `keyed` journal, which adds the customer to the list of suppressed people. Next,
//!    uploads with lines of the customers are deleted (`people/forget.rs`), and exports lose the customers' rows or are
//!    deleted (`people/exported.rs` finds the rows, `exports/erase.rs` removes them).
//! 2. The request's records are written to a file (`people/endpoints/pending.rs`). From here on the erasure finishes: a
//!    start after a kill sends the records again and completes the rest.
//! 3. These records start the work in every shard (`people/store.rs`), for all customers of the request at once
//!    (`people/active.rs`; `people/many.rs` finds whom a text refers to). It waits until all lanes have passed their
//!    positions at that moment, and then runs in slices of upkeep (`people/rows`): orders with their copies in segments,
//!    names and their words, events,
//!    rejected records, stored responses. Every unused byte of the file is overwritten (`shard/scrub.rs`).
//! 4. At the end, the writer has each lane begin a new segment, checkpoints, truncates the WAL and releases the old
//!    segments. The progress is stored in the shard, so a crash changes nothing. Last, exports that were created in
//!    between and filter by a customer are removed, and with them the file.
//! 5. Rows may have been shipped. An erasure is a change of the shard's feed (`people/feed.rs` reads it for the sinks), and
//!    after its own work it waits, without delaying others, until every sink has confirmed the change
//!    (`people/waiting.rs`). Only then are the person's record and the bytes that it leaves overwritten.
//!
//! # Where these walks lead
//!
//! Each line is one request, by the folders that its data enters on the way to the response. Calls to helpers that
//! return at once (the parser, the clock, the memory of ids) are left out.
//!
//! | request | folders |
//! | --- | --- |
//! | one event | lane → events → lane → ingest → journal → ingest → shard → events → ingest → lane → events |
//! | one order | lane → orders → lane → ingest → journal → ingest → shard → orders → ingest → lane → orders |
//! | one stock update | lane → stock → lane → ingest → journal → ingest → shard → stock → ingest → lane → stock |
//! | one export | lane → exports → orders → exports → orders → exports |
//! | one erasure | lane → people → lane → ingest → journal → ingest → shard → people → ingest → lane → people → uploads → people → exports → people → lane → ingest → journal → ingest → shard → people → orders → people → shard → people → ingest → people |
//!
//! These are 10 changes of folder for an event, an order and a stock update, 5 for an export and 26 for an erasure.
//! With a layer of folders for each step instead of a folder for each feature, there were 11, 14, 17, 17 and 32.
//!
//! # The life of a query
//!
//! [`query`]: plan → fan out → partial → merge → stream. Reader threads run limited steps with read-only connections
//! ([`shard::read`]). A query sees the rows that existed when it first read each shard, and its cursor records this.
//! The readers run the steps of tenants in turn, those of short queries first (`query/turns.rs`), and a tenant holds only
//! a share of the places (`query/shares.rs`). A query ends when it is dropped: by the connection of a client that is gone
//! (`lane/presence.rs`), or by a stop (`lane/respond.rs`). Its steps that wait are skipped.
//! `bench/plans.md` has SQLite's plan for every statement. A count of a whole period (`events/scan.rs`) merges what
//! each step found, in the same bounded steps.
//!
//! # The life of a product read
//!
//! `GET …/products/{product}` asks every shard what it knows (`products/read.rs`): orders know the category, prices and
//! stock are in the product's own shard. `products/query.rs` joins the parts and asks [`orders`] for the last sale
//! (`orders/read/last_sale.rs`): lists and segments show its time, and only the orders of that time are searched.
//! `GET …/products` and `GET …/stock` are lists ([`query::List`]): each shard's entries in order of product id, joined
//! by id.
//!
//! # The life of a question in SQL
//!
//! `firehose sql` runs in a process of its own ([`sql`], whose `mod.rs` has the walk). A private database in memory has a
//! virtual table for each view of `docs/sql.md`. SQLite offers the conditions of a statement to these tables, and they
//! become one statement for each shard and partition that may have rows. A new column of a shard's view is also a column
//! in `src/sql/views`; `tests/sql/views.rs` compares both.
//!
//! # The life of a shipped row
//!
//! `firehose ship` is a process of its own ([`ship`]) with a thread for each shard (`ship/run.rs`, `ship/turns.rs`).
//!
//! 1. `ship/source.rs` reads the next rows of a stream in one short snapshot, up to what the file has without its WAL:
//!    until a checkpoint has copied a row, a power cut may give its id to another one. A change that appends no row
//!    (a status, a decision on a price, an erasure) comes from the feed (`shard/change.rs`), in order.
//! 2. `ship/shipper.rs` gives the batch to the [`Sink`](ship::sink::Sink), which stores rows and place in one transaction
//!    (`ship/postgres/write.rs`). The place is in the target only: after any error, the shipper asks for it again.
//! 3. In a file that is not the one in which the newest epoch began (`shard/epochs.rs`), ids are issued again.
//!    `ship/lives.rs` computes where such a life begins in the target.
//! 4. After the commit, `ship/notes.rs` notes the places in `DATA/ship/NAME`. Retention (`shard/hold.rs`), trimming
//!    (`shard/trim.rs`) and erasures (`people/waiting.rs`) wait for the notes of every registered sink.
//!
//! # The life of a figure
//!
//! Threads count in their own cells ([`ops::vitals`]), and the writer reports the state of its shard
//! ([`shard::ShardStatus`], with its outage). `/metrics` is a page of these figures for machines. `/` is a page for
//! people (`src/status/dashboard/page`); it loads `/dashboard/state` once a second and derives rates and percentiles
//! from the differences. No figure requires access to the disk.
//!
//! # Upkeep
//!
//! Between batches a writer runs slices of a few milliseconds (`shard/upkeep.rs`, in the order of `shard/stages.rs`):
//! it sorts ids into runs, erases people, builds the indexes of a sealed partition (`clicks/seal.rs`, `events/seal.rs`,
//! `orders/seal.rs`), makes segments of orders (`orders/segment/make.rs`) and merges small ones, moves stock events and
//! prices of earlier versions (`shard/moving.rs`, `stock/convert.rs`, `prices/convert.rs`), and deletes what retention
//! drops (`shard/retain.rs`). Streams lose whole partitions, and those of orders leave their sums behind
//! (`orders/dropped.rs`). Ledgers lose single rows (`prices/dropped.rs`, `stock/dropped.rs`). A tenant with an age of
//! its own loses its rows earlier, out of partitions that others still use (`shard/retain_tenants.rs`,
//! `events/dropped.rs`, `orders/dropped_tenant.rs`). No slice delays writing for longer.
//!
//! # Families
//!
//! A shard stores the records of families and names none of them. A [`Family`](shard::Family) is a feature's share of
//! every shard: its record kinds, keys, streams, migrations, carry and verification. A [`Store`](shard::Store) is what
//! one open shard keeps in memory of it, and a [`BatchWriter`](shard::BatchWriter) stores its records in one
//! transaction. The kernel sorts a batch into runs of one family, so that a call through a trait serves a run.
//! [`families::FAMILIES`] lists them.
//!
//! # Features
//!
//! A feature is one folder. Each folder has those of the following files that it needs:
//!
//! | file | content |
//! | --- | --- |
//! | `mod.rs` | the feature in a few sentences, and its `Family`, with the key that selects a record's shard |
//! | `endpoints.rs` | the handlers |
//! | `body.rs` | a request's body: parsed, with every fault |
//! | `record.rs` | the kinds of records and their bytes |
//! | `schema.rs` | the tables and their migrations |
//! | `store.rs` | records to rows, in the writer's transaction |
//! | `read.rs` | SQL that reads rows, in one step on one shard |
//! | `query.rs` | steps on the shards and the merge of their results (parameters: also `search.rs`, `plan.rs`) |
//! | `answer.rs` | responses and refusals |
//! | `openapi.rs`, `shapes.rs` | the description of the operations, and the shapes of bodies |
//! | `carry.rs` | rows back to records, for a reshard |
//! | `verify.rs` | the rows compared with a recount |
//!
//! [`uploads`] and [`exports`] have no rows: their `record.rs` is the state of one, `store.rs` the folder of all, and
//! `uploads/body.rs` a file on disk.
//!
//! A feature imports the kernel below it, and another feature only if `tests/house.rs` lists the pair with its reason.
//! [`people`] stands above the others, because an erasure reaches the rows of all, and [`products`] because it joins what
//! orders, prices and stock say about a product. The collector's own path lies below
//! the features, because it has no room for a call through a table: the listener decodes a click in [`event`],
//! journals it in [`ingest`] and answers it in `server/core_loop`.
//!
//! # Adding a record kind
//!
//! 1. Its number and properties go into `KINDS` in its family's `record.rs`. The next free number is one above the
//!    highest in `families/tests/kinds.rs`. Rejected records and the counts of a reshard follow from the row.
//! 2. Its encode and decode go there too. Decode returns `None` for bytes that are not a record. A table of its own
//!    is a new version in the family's `schema.rs`, in `shard/schema.rs` and in `families/mod.rs`, and a line in
//!    `docs/data-model.md`.
//! 3. Its outcome is an arm in the family's `store.rs`. Until then records of the kind are rejected.
//! 4. Its key goes into `key_of` in the family's `mod.rs`. Its rows, as records, go into the output of the family's
//!    `carry`; a reshard loses everything else. Personal data is a place in `people/places.rs`, with a step in
//!    `people/rows`, a reader in `people/access` and a count in `people/report.rs`.
//! 5. A valid record and the kind's number go into `families/tests/kinds.rs`, which compares the row, its outcome and
//!    its carry with what a shard does. Tests of the store are in `families/tests`, because they need every family.
//!
//! A handler writes the record with `KeyedRows::of(KIND)`, `lane::keyed::begin` and `settle`, and maps the
//! [`Outcome`](shard::Outcome).
//!
//! # Changing a record or a table
//!
//! 1. A journal of the version before must still be read, and so must rejected records. A changed record is a new
//!    kind, or has a flag that the old form does not have (as in `orders/record.rs`). The old form keeps its test.
//! 2. A changed table is a new schema version: an entry in `MIGRATIONS` (`shard/schema.rs`), an arm in the family's
//!    `schema.rs`, a line in `versions` (`families/mod.rs`), and a small folder made by the version before in
//!    `tests/fixtures`, which `tests/old_folders.rs` serves.
//! 3. `carry.rs`, `verify.rs` and the comparison of content in `store.rs` need the new column, too.
//!
//! # Adding a feature
//!
//! Its folder has the files above. It is entered in `src/lib.rs`, in the table and `SCHEMAS` of `server/endpoints.rs`,
//! in `list` at the end and `versions` of `families/mod.rs` if it has records, in `server/components.rs` if it keeps
//! something on a core, and in the ranks and features of `tests/house.rs` and `tests/house/figures.rs`. A stream, or a
//! kind that counts as rows, also appears in `cli/reshard.rs`, `cli/shards.rs`, `status/metrics.rs` and
//! `status/dashboard/state.rs`.
//!
//! # Adding an endpoint
//!
//! 1. Its row goes into the table in `server/endpoints.rs`: the path, and a line per method with the required access,
//!    the treatment of a body, the handler and its description. Words take precedence over parameters, regardless of
//!    the order of rows. Pages of other origins, and requests under an unknown host name, are refused unless the row
//!    permits them (`api/callers.rs`).
//! 2. Its handler is `pub async fn name(call: Call<'_>, body: Body<'_>) -> Result<R, E>` in the `endpoints.rs` of its
//!    feature. What it keeps on a core between requests is a [`Component`](lane::Component), listed in
//!    `server/components.rs`. `R` is an [`Answer`](http::Answer) or a `Reply` that streams, `E` an error that
//!    implements [`api::error::Refuse`]. By then the tenant in the path is valid, permitted and charged; a handler of
//!    a streamed body calls `lane::admit` itself. Other parameters (`call.request.parameter("order")`) may be
//!    anything, even empty. A handler that filters by time reads its [`query::Period`] from
//!    [`query::Parameters::with_period`]. One with a JSON body gets the document from `Call::json`, which refuses
//!    what is not JSON.
//! 3. A handler that only reads memory is a function of [`api::Asked`]. It may be `hot` if it requires no key.
//! 4. A function in the `openapi.rs` of the feature describes the endpoint. With the builders of [`api::openapi`], it
//!    lists the parameters with their limits, the responses, and the problems that only this endpoint has. The lock,
//!    401, 403 and 429 with the headers of quotas, the 404 of an invalid tenant, and the problems of every JSON body
//!    (`Body::Whole`) follow from the row. An operation that creates something has links to those that read it. Its
//!    shapes go into the feature's `schemas`. `tests/openapi.rs` compares the server with the document. A query
//!    parameter that the description does not have is refused ([`api::Endpoints::check_query`]), and
//!    `docs/routes.md` has a line for each operation.
//! 5. Its required access goes into `every_endpoint_asks_for_what_it_gives` (`server/endpoints/tests.rs`), and what
//!    another tenant might try goes into `tests/isolation.rs`. Both fail until they have it. `tests/endpoints.rs`
//!    compares the row with the running server, and sends what is not JSON to every operation with a JSON body.
//!
//! # The life of a connection
//!
//! A new connection goes to the core with the fewest connections. The hot lane answers `POST /event`, `/health`,
//! `/ready` and `/receipts/…`. At the first request for anything else the socket moves to the executor, with its
//! unread bytes, and remains there. Events posted there use the core's other journal (`keyed`). Both lanes follow the
//! same rules because they run the same code: in front of hyper, a [`http::Gate`] follows the bytes and passes only
//! what the hot lane would have accepted. The refusal of a request is sent in its turn.
//!
//! # Folders, from the bottom up
//!
//! | rank | folder | content |
//! | --- | --- | --- |
//! | 0 | [`base`] | identifiers, record kinds, limits, the clock, counters |
//! | 1 | [`config`], [`event`] | settings in four layers; JSON bytes to a click, and the parser of all bodies |
//! | 1 | [`sketch`], [`unpack`] | unique counts and quantiles; uploaded bytes to lines |
//! | 2 | [`http`], [`cores`], [`journal`], [`shard`] | HTTP without I/O; threads, runtimes, mailboxes; the durable buffer; one SQLite file, which knows features by a trait |
//! | 3 | [`tenants`] | keys, scopes, quotas |
//! | 4 | [`ingest`], [`query`] | the life of an event, the writer's loop; the life of a query |
//! | 5 | [`ops`] | log, metrics, profiles, the operators' listener |
//! | 6 | [`api`] | everything derived from a table of endpoints, problems, the OpenAPI document |
//! | 7 | [`lane`] | one core's executor: requests, bodies, memory, admission, mailboxes between cores |
//! | 8 | [`clicks`], [`events`], [`orders`], [`sales`], [`uploads`], [`exports`], [`prices`], [`stock`] | one feature each |
//! | 9 | [`people`], [`products`], [`status`] | erasures, and what is known of a product, from the rows of other features; health, metrics, the dashboard |
//! | 10 | [`families`] | the list of the features with records, handed to every shard that is opened |
//! | 11 | [`server`] | assembly; the table of endpoints; the loop of each core |
//! | 11 | [`gen_dataset`] | datasets generated from a seed, for `cli` alone |
//! | 11 | [`ship`] | rows onward to an engine, exactly once, for `cli` alone |
//! | 11 | [`sql`] | SQL over all shards as one read-only database, for `cli` alone |
//! | 12 | [`cli`] | commands |
//!
//! A folder imports only lower ranks, through their `mod.rs`. No import cycle has more than five files, and no file
//! more than 700 lines. `tests/house.rs` checks it.
//!
//! # Invariants, and the tests that check them
//!
//! | id | promise | test |
//! | --- | --- | --- |
//! | W1 | an event acknowledged at a level survives what the level promises; a response that names rows never outlives them | `tests/durability.rs`, `tests/exactly_once.rs`, `tests/unsynced.rs`, `src/journal/tests/promises.rs` |
//! | W2 | each event id and each order id of a tenant is stored once | `tests/duplicates.rs`, `tests/orders_once.rs`, `src/families/tests/events.rs`, `src/families/tests/orders.rs` |
//! | W3 | only its writer makes commits in a shard and decides which journal segments go; its copier copies pages of commits into the file, one pass at a time and never at the same time as a checkpoint of the writer, and deletes the segments that the writer names once it has checked a pass | `src/ingest/write/tests.rs`, `src/ingest/write/tests/passes.rs`, `tests/house.rs` |
//! | W6 | a database file that requires its WAL is not read without it: a start notices a WAL that was damaged or removed while it was being copied, and sets the file aside | `src/ingest/write/tests/passes.rs`, `tests/power/passes.rs` |
//! | W4 | accepted = stored + pending at every moment | `tests/durability.rs` |
//! | W5 | the bytes before a reported `Upload-Offset` are stored, even after a kill | `tests/uploads.rs` |
//! | R1 | any number of shards gives the same answer as one | `tests/one_vs_many.rs`, `tests/orders_search.rs`, `tests/stock.rs`, `tests/products.rs` |
//! | B1 | a page of another origin, or under a foreign name, can only post events | `tests/browsers.rs`, `src/api/callers.rs` |
//! | R2 | no tenant reads another's rows | `tests/isolation.rs`, `tests/one_vs_many.rs`; the type of an event plan requires a tenant |
//! | R3 | buckets equal a recount of the rows (without those of unordered partitions, as far as they are read from the rows), and sums of sales a recount plus the sums of dropped orders, at every commit, after any status changes; figures from columns equal those from rows. A commit is what a connection sees: the file with its WAL. The file alone equals one of its commits only after a complete checkpoint | `tests/orders.rs`, `src/families/tests/events.rs`, `src/families/tests/unordered.rs`, `src/families/tests/orders.rs`, `src/families/tests/retention.rs`, `src/families/tests/segments.rs`, `firehose verify --aggregates` |
//! | T1 | stock equals the result of its events, or of those that retention left on the level before them; a product's change is atomic, and each event counts once | `tests/stock.rs`, `src/families/tests/stock.rs`, `firehose verify --stock` |
//! | T2 | a serial order of each product explains every response, even across kills | `tests/stock_history.rs` |
//! | U1 | damage to an upload is reported, never mistaken for its end; its decompressed size is limited | `tests/orders_encodings.rs`, `src/unpack/tests/damage.rs`, `src/unpack/tests/bombs.rs` |
//! | P1 | a price event is stored once and always has the same response | `tests/prices.rs`, `src/families/tests/prices.rs` |
//! | P2 | a stream of changes neither omits nor repeats one, across cores, shards, restarts and slow readers | `tests/prices.rs` |
//! | C1 | each applied change of a status is in the feed of changes once, numbers are given out once in an epoch, and a copied file begins an epoch | `tests/changes.rs`, `src/families/tests/changes.rs` |
//! | X1 | an export's bytes do not depend on interruptions and kills; sent bytes never change; an incomplete response has no clean end | `tests/exports.rs`, `src/families/tests/segments.rs`, `src/exports/parquet/tests.rs` |
//! | D1 | the same seed generates the same bytes; the expected totals of a dataset equal a recount | `tests/dataset.rs` |
//! | D2 | a dataset that is loaded or posted is stored once, whatever is repeated or killed, and its indexes are built when the command ends | `tests/dataset_stored.rs` |
//! | E1 | an erased person is in no file of the data folder, and does not reappear; an export of a person contains what an erasure removes | `tests/people.rs`, `tests/people_many.rs`, `tests/people_shipped.rs`, `tests/people_access.rs`, `src/shard/scrub.rs`, `src/orders/words/tests.rs` |
//! | K1 | once there are keys, no endpoint reads or writes a tenant's rows without a key for them | `tests/keys.rs` |
//! | K2 | a tenant's or product's limit applies at any number of cores, within 5 % | `src/tenants/lease.rs`, `src/tenants/buckets.rs` |
//! | K3 | the dashboard loads nothing from other hosts, and shows only the data of `/health` without a required key | `tests/dashboard.rs`, `src/status/dashboard/files.rs` |
//! | S1 | memory remains within the budget under any load | `tests/connections.rs`, `tests/memory.rs` |
//! | S2 | in a steady state, a listener takes no lock and makes no futex call | `strace -c`, in `tuning.md` |
//! | S3 | a full disk or a locked database never stops health or recovery | `tests/outage.rs`, `tests/full_disk.rs`, `tests/orders_outage.rs` |
//!
//! # Glossary
//!
//! | word | meaning |
//! | --- | --- |
//! | *core* | a pinned thread with its helpers |
//! | *shard* | a SQLite file and its journals |
//! | *lane* | one journal with one producer; also the producing thread, and [`lane::Lane`], the executor of a core |
//! | *feature* | a folder that answers one kind of request, such as `stock` |
//! | *family* | a feature's share of a shard: its records and tables |
//! | *store* | what an open shard keeps in memory of a family |
//! | *component* | what a feature keeps on a core between requests |
//! | *slice* | a few milliseconds of upkeep between two batches |
//! | *tick* | one turn of a core's loop |
//! | *batch* | the rows of one commit |
//! | *pass* | one run of a shard's copier over the new part of the WAL |
//! | *mark* | how far a shard had come when a pass began |
//! | *set aside* | to keep a damaged file under another name and to begin another one |
//! | *partition* | a table of one shard, sealed and indexed when it is full |
//! | *unordered* | of a partition: made for events that arrive in no order of time; it gets its index and its counts once it is sealed |
//! | *receipt* | the position of an accepted event: shard, lane and sequence |
//! | *poison* | to stop using a connection after a failure |
//! | *key* | a client's credential, `fh_<id>_<secret>`; also the tenant and an id of an event, order or product, which select a shard |
//! | *lease* | a slice of a tenant's budget that one lane took in advance |
//! | *stream* | clicks, service events or orders, each in separate partitions |
//! | *ledger* | rows of one kind in tables without partitions, which retention deletes one by one |
//! | *partial* | one shard's share of an answer |
//! | *pin* | the highest row id of a shard that a query sees |
//! | *bucket* | a count over a period |
//! | *commit page* | the table of what nearly every commit changes, which fits on one page of the file |
//! | *ingest* | one upload of orders under one idempotency key |
//! | *sale* | an order that is neither cancelled nor refunded |
//! | *sum* | orders, units and revenue of one hour, day, category or product |
//! | *sketch* | the data for an estimate, stored with a sum |
//! | *list* | the orders of a sealed partition by product or customer |
//! | *segment* | consecutive orders of a partition by columns; in a journal, one of its files |
//! | *minor unit* | the smallest unit of a currency, in which amounts are stored |
//! | *level* | the stock of a product |
//! | *stock change* | everything that one request does to one product |
//! | *version* | the number of stock changes of a product |
//! | *accepted price* | a price without an anomaly, approved, or loaded as history; others are compared with it |
//! | *anomaly* | a price that differs too much from the accepted ones |
//! | *price change* | an anomaly or a decision on one, with a number in its shard |
//! | *feed* | the changes of a shard that are no new rows, numbered in one order |
//! | *epoch* | one life of the row ids and change numbers of a shard's file |
//! | *erasure* | the removal of a person's rows and bytes from all files |
//! | *suppress* | to refuse later records of an erased person |
//! | *token* | replaces the name of a pseudonymised customer |
//! | *outage* | a period in which a shard was not written |
//! | *chosen* | the selected rows of an export, orders with their statuses |
//!
//! # Surprising decisions
//!
//! - The hot lane uses plain epoll and not io_uring, which gains nothing for small keep-alive requests. glommio does
//!   the work that it is good at: fdatasync, timers, everything that streams.
//! - The writer uses prepared inserts, not a virtual table over the batch. They are equally fast here, and need no
//!   unsafe code.
//! - A damaged record affects only itself: the others of its journal are stored, and the damaged segment is kept in
//!   `quarantine/`.
//! - The index of a sealed partition grows as a table and becomes an index by a change of the catalogue
//!   (`shard/built.rs`), because `CREATE INDEX` would hold the write lock for half a second.
//! - Clicks have a time index from their first row, so reads of the open partition need no scan. So have events, unless
//!   they arrive in no order of time (`events/order.rs`): then each row would change a page of the index, and pages of the
//!   buckets, so both follow once the partition is sealed. Until then, a read scans its rows.
//! - Totals, positions of journals, counters of open partitions and the newest counts of events are in one table
//!   (`shard/commit_page.rs`), and their own names are views. Otherwise, a small commit writes a page of 16 KiB for each of
//!   them. Counts that do not fit there go to tables of their own.
//! - Id tables that are lost or do not match the rows are rebuilt at the start.
//! - A database file that is removed under the running server is copied back from the open connection.
//! - A pass that a reader limits is worth nothing: SQLite skips pages with later frames, so the file is in no state that
//!   ever was. Only a complete one releases journals.

pub mod api;
pub mod base;
pub mod cli;
pub mod clicks;
pub mod config;
pub mod cores;
pub mod event;
pub mod events;
pub mod exports;
pub mod families;
pub mod gen_dataset;
pub mod http;
pub mod ingest;
pub mod journal;
pub mod lane;
pub mod ops;
pub mod orders;
pub mod people;
pub mod prices;
pub mod products;
pub mod query;
pub mod sales;
pub mod server;
pub mod shard;
pub mod ship;
pub mod sketch;
pub mod sql;
pub mod status;
pub mod stock;
pub mod tenants;
pub mod unpack;
pub mod uploads;
