//! The one table of settings: a row is a flag, a variable, a file key and a field of [`Config`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::limits::HEAD_BYTES_MAX;
use crate::base::prices::PriceRules;

use super::error::Complaints;
use super::networks::Network;
use super::raw::Raw;
use super::values::{
    self, AckLevel, Codec, CoreList, DataMode, HoldPolicy, LogFormat, LogLevel, RuntimeChoice, SumsPolicy,
    TargetUrl,
};
use super::web::{HostName, WebOrigin};

/// The static description of a setting.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The file key. The flag has dashes in place of its underscores. The variable is `FIREHOSE_` and the key in
    /// capitals.
    pub name: &'static str,
    /// The setting's group in `--help`.
    pub heading: &'static str,
    /// The default, as a user would write it.
    pub default: &'static str,
    /// The form of a value.
    pub allowed: &'static str,
    /// If true, a file contains the value without quotes, because it is a number or a Boolean.
    pub bare: bool,
    /// What the setting does, its unit, and when to change it; one element per line.
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

        /// The effective settings: plain data, checked once, constant for the life of the process.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $($($(#[doc = $doc])+ pub $name: $type,)+)+
        }

        impl Config {
            /// Reads each setting. An unreadable value becomes an error, and the default replaces it so that the
            /// other settings can still be checked.
            pub(super) fn read(raw: &Raw, complaints: &mut Complaints) -> Config {
                Config { $($($name: complaints.read::<values::$codec>(raw, stringify!($name), $default),)+)+ }
            }

            /// Returns the name and value of every setting, written so that they parse to the same values.
            #[must_use]
            pub fn written(&self) -> Vec<(&'static str, String)> {
                vec![$($((stringify!($name), <values::$codec as Codec>::write(&self.$name)),)+)+]
            }
        }
    };
}

settings! {
    "Network" {
        /// Address and port for clients.
        /// Any address other than a loopback address requires a key (`firehose key create`), or --insecure.
        listen: SocketAddr as Address = "127.0.0.1:8000";
        /// Address and port of the operators' listener (/metrics, /health, /ready, /debug), or "off".
        /// It has its own thread and responds even while every core is busy. Keep it off public networks.
        ops_listen: Option<SocketAddr> as AddressOrOff = "127.0.0.1:9100";
        /// Serves without keys on addresses that other machines can reach.
        /// This applies to listen if there is no key, and to ops_listen, which never requires one. Use it only behind
        /// a proxy or a network policy that authenticates clients.
        insecure: bool as Truth = "false";
        /// Maximum number of open connections in the whole process. Further ones get 503.
        /// Raise it together with the open-files limit (`firehose doctor` shows both).
        connections_max: u64 as Count = "100000";
        /// Public origin of this server, such as https://events.example.com, or "none".
        /// Set it if a proxy in front of the server forwards a different host name (`Host`) than browsers use. Pages
        /// of this origin count as this server's own.
        public_url: Option<WebOrigin> as OriginOrNone = "none";
        /// Host names of this server, separated by commas, or "none". A name without a port applies to every port.
        /// While there are no keys, a request under any other name gets 421, because a web page could have pointed
        /// that name here. Addresses, localhost and the host of public_url are always allowed.
        allowed_hosts: Vec<HostName> as Hosts = "none";
        /// Origins whose pages may use everything that their key permits, separated by commas, or "none".
        /// Pages of other origins, except this server's own, may only post events.
        cors_origins: Vec<WebOrigin> as Origins = "none";
        /// Addresses and networks of trusted proxies, separated by commas, or "none".
        /// The server uses the client address that these proxies send in X-Forwarded-For.
        trusted_proxies: Vec<Network> as Networks = "none";
        /// Maximum posted events per second from one client address, or "off". Above it: 429.
        /// All addresses of an IPv6 /64 network count as one. Behind a proxy, set trusted_proxies too; otherwise all
        /// clients count as one.
        rate_per_address: Option<u64> as CountOrOff = "off";
    }
    "Data and promise" {
        /// The data folder: manifest, shards and journals. Created if it does not exist. Use a local disk, not NFS.
        data: PathBuf as Folder = "./data";
        /// Permissions of the data folder: "0700" for its owner alone, "0750" if its group may read it too.
        /// The group may read the shards and the manifest, with sqlite3 for example. Only the owner ever has access
        /// to tenants.db and cursors.key.
        data_mode: DataMode as Privacy = "0700";
        /// Number of shards in a new data folder, or "auto" for one per core. It is fixed once the folder exists.
        /// Set it to the number of cores of the largest machine that will ever serve the folder.
        shards: Option<u16> as CountOrAuto = "auto";
        /// What an event survives after a 202: "os" the death of the process, "disk" also a power cut.
        /// "disk" adds the wait for one shared fdatasync. A request may ask for it with ?ack=disk.
        ack: AckLevel as Ack = "os";
    }
    "Cores" {
        /// CPUs to serve on ("0,1" or "0-3"), or "auto" for all that this process may use.
        /// Omit a CPU to keep it free for other programs.
        cores: Option<CoreList> as CoresOrAuto = "auto";
        /// Runtime for everything that streams or waits: "io_uring", "epoll" or "auto".
        /// "auto" uses io_uring if the kernel permits it. If not, `firehose doctor` reports why.
        runtime: RuntimeChoice as Runtime = "auto";
    }
    "Requests" {
        /// Maximum size of an event in decoded bytes. Above it: 413.
        event_bytes_max: u64 as Bytes = "256KiB";
        /// Maximum body size of POST /events in decoded bytes. Above it: 413.
        events_bytes_max: u64 as Bytes = "128KiB";
        /// Maximum body size of POST /events/bulk and of stock updates in decoded bytes. Above it: 413.
        bulk_bytes_max: u64 as Bytes = "20MiB";
        /// Maximum time that POST /events and stock updates wait for their commit before the server responds with 202.
        /// For such a request, duplicates are detected when the shard commits.
        commit_wait: Duration as Time = "1s";
        /// Maximum time from the first to the last byte of a request head. After it: 408.
        head_timeout: Duration as Time = "10s";
        /// Maximum time for a body. After it: 408. Raise it for clients on slow links.
        /// For a streamed body (orders) it is the maximum pause between two reads.
        body_timeout: Duration as Time = "30s";
        /// Maximum idle time of a kept-alive connection between requests.
        /// Set it higher than the idle timeout of a load balancer in front of the server.
        idle_timeout: Duration as Time = "75s";
        /// Maximum time that a client may leave a response unread before the server closes its connection.
        write_timeout: Duration as Time = "30s";
        /// Memory limit of the whole process for partial requests and unsent responses, or "auto" for 64MiB per core.
        /// It applies once to the listeners, and once more to the bodies and ingests on the executors. Above it, new
        /// requests get 503. Raise it if many clients send slowly.
        buffer_bytes_max: Option<u64> as BytesOrAuto = "auto";
    }
    "Journal" {
        /// Size of one segment file. Larger segments mean fewer files; smaller ones free disk space sooner.
        segment_bytes: u64 as Bytes = "64MiB";
        /// Maximum disk space of one journal (one lane of a shard). At this size: 507.
        /// Records that are stored but whose segments are not deleted yet count too. Size it for the longest outage
        /// to survive.
        journal_bytes_max: u64 as Bytes = "8GiB";
        /// Maximum backlog of a shard: bytes accepted but not yet stored. Above it: 429 with Retry-After.
        journal_high_water: u64 as Bytes = "2GiB";
        /// Free space to keep on the data disk. Below it: 507, until there is space again.
        disk_reserve: u64 as Bytes = "64MiB";
    }
    "Storing" {
        /// Maximum time that an accepted event waits for its transaction to fill.
        /// A higher value means larger batches and less work per event. A lower value makes rows visible sooner.
        flush_interval: Duration as Time = "20ms";
        /// Maximum number of rows in one transaction.
        batch_rows_max: u64 as Count = "20000";
        /// Maximum bytes of events in one transaction.
        batch_bytes_max: u64 as Bytes = "4MiB";
        /// SQLite page size of a new shard, a power of two.
        page_size: u64 as Bytes = "16KiB";
        /// Maximum page cache of each shard's writer.
        shard_cache: u64 as Bytes = "16MiB";
        /// Maximum page cache of all shards' writers together. Each writer gets an equal share.
        shard_caches: u64 as Bytes = "32MiB";
        /// Maximum size of an ingest of orders after decompression. Orders stored before the limit is reached remain.
        ingest_bytes_max: u64 as Bytes = "64GiB";
        /// Maximum received bytes of all running uploads together. Each counts as at least 64 KiB. Above it: 507.
        /// A tenant may use at most as much as it leaves for the others. An upload that declares more gets 413. The
        /// bytes stay in the data folder until the upload is finished.
        uploads_bytes_max: u64 as Bytes = "64GiB";
        /// Time after which an abandoned upload expires and a finished upload's record is deleted.
        upload_expiry: Duration as Time = "1d";
        /// Maximum size of all export files together. Above it: 507, and an export that reaches it fails.
        exports_bytes_max: u64 as Bytes = "64GiB";
        /// Time for which a finished export's file is kept. Its record is then kept for the same time again.
        export_expiry: Duration as Time = "1d";
        /// Number of rows at which a partition is sealed and gets its indexes.
        partition_rows_max: u64 as Count = "250000";
        /// Number of orders at which a partition is sealed and gets its lists by product and customer.
        order_partition_rows_max: u64 as Count = "100000";
        /// Size at which the write-ahead log starts again from its beginning.
        checkpoint_wal_bytes: u64 as Bytes = "64MiB";
        /// New bytes of the write-ahead log after which a checkpoint begins. Commits continue meanwhile.
        checkpoint_bytes: u64 as Bytes = "2MiB";
        /// Maximum time between checkpoints while the write-ahead log has uncopied pages.
        /// Journal segments are deleted only after a checkpoint.
        checkpoint_interval: Duration as Time = "5s";
        /// Time for which clicks are kept after their arrival ("30d"), or "off" to keep them indefinitely.
        /// Whole partitions are deleted, so rows may remain an eighth longer. If the clock jumps ahead, or nothing
        /// was written for a week, nothing is deleted for a day.
        retention_clicks: Option<Duration> as TimeOrOff = "off";
        /// Time for which the events of /events are kept, or "off" to keep them indefinitely.
        /// Their ids are then forgotten, and their counts are removed from the buckets.
        retention_events: Option<Duration> as TimeOrOff = "off";
        /// Time for which orders are kept after their arrival, or "off" to keep them indefinitely.
        /// Their ids are then forgotten, and customers without other orders are deleted.
        retention_orders: Option<Duration> as TimeOrOff = "off";
        /// Time for which price events are kept after their arrival, or "off" to keep them indefinitely.
        /// Their ids, anomalies and changes leave with them. The prices that later ones are compared with stay.
        retention_prices: Option<Duration> as TimeOrOff = "off";
        /// Time for which stock events are kept after their arrival, or "off" to keep them indefinitely.
        /// Levels stay, and a repeated event is still recognised.
        retention_stock: Option<Duration> as TimeOrOff = "off";
        /// Maximum size of all clicks with their indexes, or "off". Above it, the oldest partitions are deleted.
        /// Each shard has an equal share of this and the next four. The files do not shrink: freed space is reused.
        retention_clicks_bytes: Option<u64> as BytesOrOff = "off";
        /// Maximum size of the events of /events with their indexes, or "off".
        retention_events_bytes: Option<u64> as BytesOrOff = "off";
        /// Maximum size of all orders with their items, indexes and lists, or "off".
        retention_orders_bytes: Option<u64> as BytesOrOff = "off";
        /// Maximum size of all price events with their anomalies and indexes, or "off".
        retention_prices_bytes: Option<u64> as BytesOrOff = "off";
        /// Maximum size of all stock events, or "off". The hashes of deleted events do not count.
        retention_stock_bytes: Option<u64> as BytesOrOff = "off";
        /// The treatment of the sales figures of deleted orders: "keep" or "drop".
        /// With "drop", a day's figures are deleted once all its orders are.
        retention_orders_sums: SumsPolicy as Sums = "keep";
        /// Minimum time for which a row stays after every sink of `firehose ship` has confirmed it.
        /// A target that is set back to an earlier state by no more than this time gets the rows again. Without a
        /// sink, rows do not wait.
        ship_keep: Duration as Time = "1d";
        /// Maximum bytes per shard of rows that retention would delete, but that a sink has not confirmed.
        /// Above it, /health reports "degraded".
        ship_hold_max: u64 as Bytes = "16GiB";
        /// The treatment of unconfirmed rows above ship_hold_max: "keep" or "drop".
        /// With "keep", they stay until the disk is full (507). With "drop", retention deletes them, although the sink
        /// will never get them; the log and metrics count them.
        ship_hold_full: HoldPolicy as Hold = "keep";
    }
    "Prices" {
        /// Maximum difference in percent between a price and the accepted price before it. Above it: an anomaly.
        /// This and the next four settings apply to tenants without settings of their own (`firehose tenant prices`).
        price_change_percent: u32 as Hundredths = "20";
        /// Maximum modified z-score of a price among the accepted prices. Above it: an anomaly.
        /// The authors of the score recommend 3.5.
        price_score: u32 as Thousandths = "3.5";
        /// Number of accepted prices that the score uses. No score is computed from fewer than 5.
        price_window: u64 as Count = "20";
        /// Maximum price events per second of one tenant. Above it: 429.
        price_events_per_second: u64 as Count = "5000";
        /// Maximum price events per second of one product. Above it: 429.
        product_events_per_second: u64 as Count = "100";
    }
    "Shipping" {
        /// URL of the PostgreSQL database to which `firehose ship` sends every row, or "none".
        /// Such as postgres://user@host:5432/database?sslmode=verify-full. Keep the password out of it: use
        /// ship_password_file or the variable PGPASSWORD.
        ship_to: Option<TargetUrl> as TargetOrNone = "none";
        /// Name of the sink, under which the data folder notes what the target has.
        /// Each target of a data folder requires its own name.
        ship_name: String as SinkName = "postgres";
        /// File with the password for the target in its first line, or "none".
        ship_password_file: Option<PathBuf> as FileOrNone = "none";
        /// Maximum rows per second of all shards together that `firehose ship` sends, or "off".
        /// Set it if the target must not be busy with a backlog.
        ship_rate_max: Option<u64> as CountOrOff = "off";
        /// Address and port of the metrics of `firehose ship`, or "off". Keep it off public networks.
        ship_metrics: Option<SocketAddr> as AddressOrOff = "off";
    }
    "Reading" {
        /// Number of threads per core that read the shards for queries.
        reader_threads: u64 as Count = "2";
    }
    "Stopping" {
        /// Time for which /ready reports not ready before the sockets close, so that a load balancer notices.
        drain_delay: Duration as Time = "0s";
        /// Maximum time that a shutdown waits for open requests and for the last batches, which get a second at least.
        /// Records that are not stored by then remain in the journal and are stored at the next start.
        drain_timeout: Duration as Time = "10s";
    }
    "Logging" {
        /// Least important level to log: "error", "warn", "info", "debug" or "trace".
        log_level: LogLevel as Level = "info";
        /// "json" (one object per line), "text" (for people), or "auto": text on a terminal, otherwise json.
        log_format: LogFormat as Format = "auto";
        /// File to append the log to, or "none" for standard error.
        log_file: Option<PathBuf> as FileOrNone = "none";
    }
}

impl Config {
    /// Returns the price limits for a tenant without limits of its own.
    #[must_use]
    pub fn price_rules(&self) -> PriceRules {
        PriceRules {
            change_bp: self.price_change_percent,
            score_milli: self.price_score,
            window: self.price_window as u16,
        }
    }

    /// Returns the bytes that a core may hold for requests and responses in progress, once on its listener and once
    /// on its executor.
    #[must_use]
    pub fn buffer_bytes_a_core(&self, core_count: usize) -> usize {
        match self.buffer_bytes_max {
            Some(bytes) => bytes as usize / core_count,
            None => (self.two_requests_bytes() as usize).max(64 << 20),
        }
    }

    /// Returns the minimum: the space for one event that is being answered and for the next one to arrive.
    pub(super) fn two_requests_bytes(&self) -> u64 {
        2 * (self.event_bytes_max + HEAD_BYTES_MAX as u64)
    }

    /// Returns the defaults, checked. They are the result of an empty file, environment and command line.
    #[must_use]
    pub fn defaults() -> Config {
        Config::read(&Raw::default(), &mut Complaints::default())
    }
}
