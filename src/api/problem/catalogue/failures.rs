//! Server failures: 5xx.

use super::{Entry, Problem, entry};

pub(super) const ENTRIES: &[Entry] = &[
    entry(
        Problem::Internal,
        500,
        "internal",
        "Internal server error",
        "An unexpected error occurred in the server. The server's log has it under the request's id. Whether \
         anything was stored is not known.",
    ),
    entry(
        Problem::UnsupportedTransferCoding,
        501,
        "unsupported-transfer-coding",
        "Unsupported Transfer-Encoding",
        "The server supports only the transfer coding chunked. Nothing was stored. Compress with \
         Content-Encoding instead.",
    ),
    entry(
        Problem::Overloaded,
        503,
        "overloaded",
        "The server is overloaded",
        "A limit of the server was reached, such as its number of connections, its memory for unfinished \
         requests, or the number of queries that run at once. Each tenant may use a share of these queries. \
         `detail` names the limit. Nothing was stored. Wait as long as Retry-After says, then send the request \
         again.",
    ),
    entry(
        Problem::Draining,
        503,
        "draining",
        "The server is shutting down",
        "The server accepts no new requests and stores what it accepted before. This request was not stored, or \
         it was a query that was ended because it had run for a second. Send it to another server, or to this \
         one after its restart.",
    ),
    entry(
        Problem::JournalUnsynced,
        503,
        "journal-unsynced",
        "The journal could not be synced to disk",
        "The request asked for a promise that survives a power cut (ack=disk), and the disk did not confirm the \
         write. `detail` says whether something may be stored nevertheless. If so, a retry stores an event \
         without an id twice, but not a record with an id. While a failed sync is known, the server refuses \
         requests for this promise at once and stores nothing of them; other requests continue. Check the disk.",
    ),
    entry(
        Problem::OutcomeUnknown,
        503,
        "outcome-unknown",
        "Outcome unknown",
        "The core that stores these events did not respond in time. They may have been stored. Send them again: \
         an event_id is stored once, however often it arrives.",
    ),
    entry(
        Problem::ShardUnavailable,
        503,
        "shard-unavailable",
        "Part of the data cannot be read",
        "A shard is damaged, locked or too slow, and without it the answer would be silently incomplete. The \
         data of other shards is safe, and events are still accepted. Retry later. /ready names the shard and \
         the reason.",
    ),
    entry(
        Problem::UnsupportedVersion,
        505,
        "unsupported-version",
        "Unsupported HTTP version",
        "The server supports HTTP/1.1 and HTTP/1.0. Nothing was stored. A proxy in front of it can support \
         other versions.",
    ),
    entry(
        Problem::JournalFull,
        507,
        "journal-full",
        "The journal is full",
        "The journal has reached its size limit, or the disk is full. This event was not stored. Reads and \
         health checks continue. The server recovers as soon as there is space; send the event again then.",
    ),
    entry(
        Problem::NoRoomForUpload,
        507,
        "no-room-for-upload",
        "No space for the upload",
        "The bytes of running uploads have reached uploads_bytes_max or the tenant's share of it, there are too \
         many uploads, or the disk is full. Bytes that were reported as received remain. Wait as long as \
         Retry-After says, then continue. If the upload exists, resume at the offset that HEAD returns. Space \
         becomes free when uploads finish, are terminated or expire.",
    ),
    entry(
        Problem::NoRoomForExport,
        507,
        "no-room-for-export",
        "No space for the export",
        "The exports have reached exports_bytes_max, there are too many of them, or the disk is full. No export \
         was created. Delete exports that are no longer needed, or wait until they expire.",
    ),
];
