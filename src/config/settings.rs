//! The one table of settings: a line here is a flag, a variable, a file key and a field of [`Config`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::limits::HEAD_BYTES_MAX;
use crate::base::prices::PriceRules;

use super::error::Complaints;
use super::networks::Network;
use super::raw::Raw;
use super::values::{self, AckLevel, Codec, CoreList, DataMode, LogFormat, LogLevel, RuntimeChoice};
use super::web::{HostName, WebOrigin};

/// What is known of a setting before anything was read.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The file key; `--flag` has dashes for its underscores, the variable is `FIREHOSE_` and capitals.
    pub name: &'static str,
    /// The group it stands under in `--help`.
    pub heading: &'static str,
    /// The default, written as a user would.
    pub default: &'static str,
    /// What a value looks like.
    pub allowed: &'static str,
    /// Written in a file without quotes: a number or a truth value.
    pub bare: bool,
    /// What it does, its unit, when to change it; a line an element.
    pub help: &'static [&'static str],
}

macro_rules! settings {
    ($($heading:literal { $($(#[doc = $doc:literal])+ $name:ident: $type:ty as $codec:ident = $default:literal;)+ })+) => {
        /// Every setting, in the order of `--help`.
        pub static SETTINGS: &[Spec] = &[$($(Spec {
            name: stringify!($name),
            heading: $heading,
            default: $default,
            allowed: <values::$codec as Codec>::ALLOWED,
            bare: <values::$codec as Codec>::BARE,
            help: &[$($doc),+],
        },)+)+];

        /// The effective settings: plain data, checked once, the same for the life of the process.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $($($(#[doc = $doc])+ pub $name: $type,)+)+
        }

        impl Config {
            /// Reads each setting by itself; what cannot be read is a complaint, and its default stands
            /// in so that the others can still be looked at.
            pub(super) fn read(raw: &Raw, complaints: &mut Complaints) -> Config {
                Config { $($($name: complaints.read::<values::$codec>(raw, stringify!($name), $default),)+)+ }
            }

            /// Name and value of every setting, written so that they read back to the same.
            #[must_use]
            pub fn written(&self) -> Vec<(&'static str, String)> {
                vec![$($((stringify!($name), <values::$codec as Codec>::write(&self.$name)),)+)+]
            }
        }
    };
}

settings! {
    "Network" {
        /// Address and port that clients post to.
        /// Anything but a loopback address needs a key (`firehose key create`), or --insecure.
        listen: SocketAddr as Address = "127.0.0.1:8000";
        /// Address and port of the operators' listener (/metrics, /health, /ready, /debug), or "off".
        /// It has a thread of its own and answers while every core is busy. Keep it off public networks.
        ops_listen: Option<SocketAddr> as AddressOrOff = "127.0.0.1:9100";
        /// Serve on addresses that other machines reach although there is no key, or (ops_listen) none is asked
        /// for. Only behind a proxy or a network policy that checks who is calling.
        insecure: bool as Truth = "false";
        /// Connections open at once, whole process; those above wait in the kernel's backlog.
        /// Raise it together with the open-files limit (`firehose doctor` shows both).
        connections_max: u64 as Count = "100000";
        /// Where browsers reach this server, or "none": https://events.example.com.
        /// For a proxy in front that asks under another name (`Host`) than its own: pages of this origin are this
        /// server's.
        public_url: Option<WebOrigin> as OriginOrNone = "none";
        /// Names that this server is called by, with commas between them, or "none". One without a port counts at
        /// every port.
        /// While there are no keys, a request under any other name is 421: a page could have had it pointed here.
        /// Addresses, localhost and the host of public_url always count.
        allowed_hosts: Vec<HostName> as Hosts = "none";
        /// Origins whose pages may do everything here that their key allows, with commas between them, or "none".
        /// Pages of other origins than these and this server's own may post events and nothing else.
        cors_origins: Vec<WebOrigin> as Origins = "none";
        /// Addresses and networks of proxies that are believed when they name the client (X-Forwarded-For), with commas
        /// between them, or "none".
        trusted_proxies: Vec<Network> as Networks = "none";
        /// Posts of events a second of one client's address, or "off"; 429 above. An IPv6 network of 64 bits counts as
        /// one address.
        /// Behind a proxy set trusted_proxies too, or all clients are one.
        rate_per_address: Option<u64> as CountOrOff = "off";
    }
    "Data and promise" {
        /// The data folder: manifest, shards, journals. Created when it is missing. A local disk, not NFS.
        data: PathBuf as Folder = "./data";
        /// Who may use the data folder: "0700" its owner alone, "0750" a group as well, which may read the shards and
        /// the manifest (with sqlite3, say). tenants.db and cursors.key stay the owner's whatever this says.
        data_mode: DataMode as Privacy = "0700";
        /// Shards of a new data folder, or "auto" for one a core. Fixed once the folder exists.
        /// Set it to the cores of the largest machine the folder will ever be served on.
        shards: Option<u16> as CountOrAuto = "auto";
        /// What a 202 promises: "os" survives the death of the process, "disk" survives a power cut.
        /// "disk" costs one shared fdatasync of waiting time; a request may ask for it with ?ack=disk.
        ack: AckLevel as Ack = "os";
    }
    "Cores" {
        /// CPUs to serve on ("0,1" or "0-3"), or "auto" for all this process may use.
        /// Leave one out to keep it free for other programs.
        cores: Option<CoreList> as CoresOrAuto = "auto";
        /// What runs everything that streams or waits: "io_uring", "epoll" or "auto".
        /// "auto" takes io_uring where the kernel allows it; `firehose doctor` says why it does not.
        runtime: RuntimeChoice as Runtime = "auto";
    }
    "Requests" {
        /// Largest event, in decoded bytes; 413 above.
        event_bytes_max: u64 as Bytes = "256KiB";
        /// Largest body of POST /events, in decoded bytes; 413 above.
        events_bytes_max: u64 as Bytes = "128KiB";
        /// Largest body of POST /events/bulk and of stock updates, in decoded bytes; 413 above.
        bulk_bytes_max: u64 as Bytes = "20MiB";
        /// How long POST /events and stock updates wait for their commit before they are answered with 202.
        /// What was answered with 202 is checked for duplicates when the shard commits again.
        commit_wait: Duration as Time = "1s";
        /// Time a request head may take from its first byte to its last; 408 after.
        head_timeout: Duration as Time = "10s";
        /// Time a body may take; 408 after. Raise it for clients on poor radio links.
        /// One that is taken in as it comes (orders) may rest this long at a time.
        body_timeout: Duration as Time = "30s";
        /// Time a kept-alive connection may rest between requests before it is closed.
        /// Keep it above the idle timeout of a load balancer in front.
        idle_timeout: Duration as Time = "75s";
        /// Time a client may leave an answer untaken before its connection is closed.
        write_timeout: Duration as Time = "30s";
        /// Memory of the listeners for partial requests and unsent answers, whole process, and as much again
        /// for bodies and ingests on the executors. "auto" is 64MiB a core.
        /// Above it new requests get 503. Raise it where many clients send slowly.
        buffer_bytes_max: Option<u64> as BytesOrAuto = "auto";
    }
    "Journal" {
        /// Size of one segment file. Larger means fewer files, smaller gives disk back sooner.
        segment_bytes: u64 as Bytes = "64MiB";
        /// Disk that one journal (a lane of a shard) may take; 507 at it.
        /// What is stored but not yet cut counts. Size it for the longest outage you want to sit out.
        journal_bytes_max: u64 as Bytes = "8GiB";
        /// Bytes of a shard accepted but not yet stored; 429 with Retry-After above it.
        journal_high_water: u64 as Bytes = "2GiB";
        /// Free space kept on the data disk; 507 when less is left, until there is room again.
        disk_reserve: u64 as Bytes = "64MiB";
    }
    "Storing" {
        /// Longest time an accepted event waits for a fuller transaction.
        /// Higher means larger batches and less work per event, lower means rows are seen sooner.
        flush_interval: Duration as Time = "20ms";
        /// Most rows in one transaction.
        batch_rows_max: u64 as Count = "20000";
        /// Most bytes of events in one transaction.
        batch_bytes_max: u64 as Bytes = "4MiB";
        /// SQLite page size of a new shard; a power of two.
        page_size: u64 as Bytes = "16KiB";
        /// Page cache of each shard's writer, at most.
        shard_cache: u64 as Bytes = "16MiB";
        /// Page caches of all shards' writers together; each has its share.
        shard_caches: u64 as Bytes = "32MiB";
        /// Largest ingest of orders, unpacked; what was stored until then stays.
        ingest_bytes_max: u64 as Bytes = "64GiB";
        /// Received bytes of all resumable uploads that are under way, 64 KiB at least for each; 507 above.
        /// One tenant has no more than it leaves to the others; an upload that declares more is 413.
        /// Their bytes lie in the data folder until an upload is finished.
        uploads_bytes_max: u64 as Bytes = "64GiB";
        /// How long a resumable upload may rest before it is removed, and a finished one be asked about.
        upload_expiry: Duration as Time = "1d";
        /// Bytes that the files of all exports may take; 507 above, and an export that comes to it fails.
        exports_bytes_max: u64 as Bytes = "64GiB";
        /// How long the file of an export is kept once it is made, and its name after that.
        export_expiry: Duration as Time = "1d";
        /// Rows of a partition before it is sealed and gets its indexes.
        partition_rows_max: u64 as Count = "250000";
        /// Orders of a partition before it is sealed and gets its lists by product and customer.
        order_partition_rows_max: u64 as Count = "100000";
        /// Write-ahead log size that calls for a checkpoint.
        checkpoint_wal_bytes: u64 as Bytes = "32MiB";
        /// Longest time between checkpoints while there is something to carry over.
        /// Journal segments are deleted only after one.
        checkpoint_interval: Duration as Time = "5s";
        /// How long clicks are kept after they arrived ("30d"), or "off" to keep them for ever.
        /// Whole partitions go, so rows may stay an eighth of this longer. Where the clock jumps ahead, or nothing was
        /// written for a week, nothing goes for a day.
        retention_clicks: Option<Duration> as TimeOrOff = "off";
        /// The same for the events of /events; their ids are forgotten and their counts leave the buckets.
        retention_events: Option<Duration> as TimeOrOff = "off";
    }
    "Prices" {
        /// Percent that a price may differ from the accepted one before it; a price beyond is an anomaly.
        /// This and the next four are for tenants that have none of their own (`firehose tenant prices`).
        price_change_percent: u32 as Hundredths = "20";
        /// Modified z-score that a price may have among the accepted ones; a price beyond is an anomaly.
        /// 3.5 is what its inventors recommend.
        price_score: u32 as Thousandths = "3.5";
        /// Accepted prices that the score looks at; below 5 there is none.
        price_window: u64 as Count = "20";
        /// Price events a second of one tenant; 429 above.
        price_events_per_second: u64 as Count = "5000";
        /// Price events a second of one product; 429 above.
        product_events_per_second: u64 as Count = "100";
    }
    "Reading" {
        /// Threads that read the shards for queries, on each core.
        reader_threads: u64 as Count = "2";
    }
    "Stopping" {
        /// How long /ready says no before the sockets close, so that a load balancer notices.
        drain_delay: Duration as Time = "0s";
        /// How long a stop waits for open requests and for the last batches.
        /// What is left then stays in the journal and is stored at the next start.
        drain_timeout: Duration as Time = "10s";
    }
    "Logging" {
        /// Least important level written: "error", "warn", "info", "debug" or "trace".
        log_level: LogLevel as Level = "info";
        /// "json" (one object a line), "text" (for people), or "auto": text on a terminal, else json.
        log_format: LogFormat as Format = "auto";
        /// File the log is appended to instead of standard error, or "none".
        log_file: Option<PathBuf> as FileOrNone = "none";
    }
}

impl Config {
    /// The limits of prices where a tenant has none of its own.
    #[must_use]
    pub fn price_rules(&self) -> PriceRules {
        PriceRules {
            change_bp: self.price_change_percent,
            score_milli: self.price_score,
            window: self.price_window as u16,
        }
    }

    /// Bytes that a core may keep for requests and answers on their way, on its listener and again on its executor.
    #[must_use]
    pub fn buffer_bytes_a_core(&self, core_count: usize) -> usize {
        match self.buffer_bytes_max {
            Some(bytes) => bytes as usize / core_count,
            None => (self.two_requests_bytes() as usize).max(64 << 20),
        }
    }

    /// The least of them: one event that is being answered, and the next that arrives.
    pub(super) fn two_requests_bytes(&self) -> u64 {
        2 * (self.event_bytes_max + HEAD_BYTES_MAX as u64)
    }

    /// The defaults, checked: what an empty file, environment and command line give.
    #[must_use]
    pub fn defaults() -> Config {
        Config::read(&Raw::default(), &mut Complaints::default())
    }
}
