//! Rules for the values of settings, alone and in combination.

use std::time::Duration;

use crate::base::limits::{CORE_COUNT_MAX, RECORD_BYTES_MAX, RETENTION_MAX, RETENTION_MIN, SHARD_COUNT_MAX};
use crate::base::prices::PriceRules;

use super::error::{Complaints, ConfigError};
use super::raw::Raw;
use super::settings::{Config, Spec};
use super::values::{Bytes, Codec, Time, TimeOrOff};

/// The minimum size to which retention limits a kind of rows. Each shard has a share of it.
const RETENTION_BYTES_MIN: u64 = MIB;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The bytes that a journal record adds to its event, with space to spare.
const RECORD_ROOM_BYTES: u64 = 4 * KIB;

impl Config {
    /// Checks settings whose layers are merged.
    ///
    /// # Errors
    /// Every invalid setting, with its source and its allowed values.
    pub fn check(raw: &Raw) -> Result<Config, Vec<ConfigError>> {
        let mut complaints = Complaints::default();
        let config = Config::check_into(raw, &mut complaints);
        let errors = complaints.into_errors();
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    pub(super) fn check_into(raw: &Raw, complaints: &mut Complaints) -> Config {
        let config = Config::read(raw, complaints);
        let mut rules = Rules { raw, complaints };
        rules.alone(&config);
        rules.together(&config);
        config
    }
}

/// Returns the minimum of a retention setting, as a user would write it, for its help.
pub(super) fn retention_min(spec: &Spec) -> Option<String> {
    let of_age = <TimeOrOff as Codec>::ALLOWED;
    match spec.name.strip_prefix("retention_")? {
        _ if spec.allowed == of_age => Some(Time::write(&RETENTION_MIN)),
        name if name.ends_with("_bytes") => Some(Bytes::write(&RETENTION_BYTES_MIN)),
        _ => None,
    }
}

struct Rules<'a> {
    raw: &'a Raw,
    complaints: &'a mut Complaints,
}

impl Rules<'_> {
    fn alone(&mut self, config: &Config) {
        let ms = Duration::from_millis;
        if let Some(shards) = config.shards {
            self.count("shards", u64::from(shards), 1, u64::from(SHARD_COUNT_MAX));
        }
        if let Some(cores) = &config.cores {
            let few = cores.cpus().len() <= usize::from(CORE_COUNT_MAX);
            self.rule("cores", &[], few, &format!("expected at most {CORE_COUNT_MAX} CPUs"));
        }
        self.count("connections_max", config.connections_max, 1, 10_000_000);
        let event_bytes_top = RECORD_BYTES_MAX as u64 - RECORD_ROOM_BYTES;
        self.bytes("event_bytes_max", config.event_bytes_max, 256, event_bytes_top);
        self.bytes("events_bytes_max", config.events_bytes_max, 256, 256 * MIB);
        self.bytes("bulk_bytes_max", config.bulk_bytes_max, 256, 256 * MIB);
        self.time("commit_wait", config.commit_wait, ms(1), ms(600_000));
        for (name, value) in [
            ("retention_clicks", config.retention_clicks),
            ("retention_events", config.retention_events),
            ("retention_orders", config.retention_orders),
            ("retention_prices", config.retention_prices),
            ("retention_stock", config.retention_stock),
        ] {
            if let Some(value) = value {
                self.time(name, value, RETENTION_MIN, RETENTION_MAX);
            }
        }
        for (name, value) in [
            ("retention_clicks_bytes", config.retention_clicks_bytes),
            ("retention_events_bytes", config.retention_events_bytes),
            ("retention_orders_bytes", config.retention_orders_bytes),
            ("retention_prices_bytes", config.retention_prices_bytes),
            ("retention_stock_bytes", config.retention_stock_bytes),
        ] {
            if let Some(value) = value {
                self.bytes(name, value, RETENTION_BYTES_MIN, 1024 * 1024 * GIB);
            }
        }
        self.time("ship_keep", config.ship_keep, Duration::ZERO, RETENTION_MAX);
        self.bytes("ship_hold_max", config.ship_hold_max, 0, 1024 * 1024 * GIB);
        let change = (1..=PriceRules::CHANGE_BP_MAX).contains(&config.price_change_percent);
        self.rule("price_change_percent", &[], change, "expected 0.01 to 1000000");
        let score = (1..=PriceRules::SCORE_MILLI_MAX).contains(&config.price_score);
        self.rule("price_score", &[], score, "expected 0.001 to 1000000");
        self.count("price_window", config.price_window, 0, u64::from(PriceRules::WINDOW_MAX));
        self.count("price_events_per_second", config.price_events_per_second, 1, 1_000_000_000);
        self.count("product_events_per_second", config.product_events_per_second, 1, 1_000_000_000);
        self.count("reader_threads", config.reader_threads, 1, 64);
        for (name, value) in [
            ("head_timeout", config.head_timeout),
            ("body_timeout", config.body_timeout),
            ("idle_timeout", config.idle_timeout),
            ("write_timeout", config.write_timeout),
        ] {
            self.time(name, value, ms(10), ms(3_600_000));
        }
        if let Some(bytes) = config.buffer_bytes_max {
            self.bytes("buffer_bytes_max", bytes, MIB, 1024 * GIB);
        }
        self.bytes("segment_bytes", config.segment_bytes, MIB, 4 * GIB);
        self.count("batch_rows_max", config.batch_rows_max, 1, 1_000_000);
        self.bytes("batch_bytes_max", config.batch_bytes_max, 64 * KIB, GIB);
        self.time("flush_interval", config.flush_interval, ms(0), ms(10_000));
        let page_fits = config.page_size.is_power_of_two() && (512..=65_536).contains(&config.page_size);
        self.rule("page_size", &[], page_fits, "expected a power of two from 512 to 64KiB");
        self.bytes("shard_cache", config.shard_cache, 256 * KIB, 64 * GIB);
        self.bytes("shard_caches", config.shard_caches, 256 * KIB, 1024 * GIB);
        self.bytes("uploads_bytes_max", config.uploads_bytes_max, MIB, 1024 * 1024 * GIB);
        self.time("upload_expiry", config.upload_expiry, ms(100), ms(86_400_000 * 365));
        self.bytes("exports_bytes_max", config.exports_bytes_max, 64 * KIB, 1024 * 1024 * GIB);
        self.time("export_expiry", config.export_expiry, ms(100), ms(86_400_000 * 365));
        self.count("partition_rows_max", config.partition_rows_max, 1, 1_000_000_000);
        self.count("order_partition_rows_max", config.order_partition_rows_max, 1, 1_000_000_000);
        self.bytes("checkpoint_wal_bytes", config.checkpoint_wal_bytes, 64 * KIB, 16 * GIB);
        self.bytes("checkpoint_bytes", config.checkpoint_bytes, 64 * KIB, 16 * GIB);
        self.time("checkpoint_interval", config.checkpoint_interval, ms(10), ms(3_600_000));
        self.time("drain_delay", config.drain_delay, ms(0), ms(600_000));
        self.time("drain_timeout", config.drain_timeout, ms(0), ms(3_600_000));
    }

    fn together(&mut self, config: &Config) {
        let keyless = "expected a loopback address such as 127.0.0.1: the operators' pages require no key, \
                       so another machine could see all of them; --insecure permits it";
        if let Some(ops) = config.ops_listen {
            let guarded = config.insecure || ops.ip().to_canonical().is_loopback();
            self.rule("ops_listen", &["insecure"], guarded, keyless);
            let apart = ops != config.listen || ops.port() == 0;
            self.rule("ops_listen", &["listen"], apart, "expected a port other than that of listen");
        }
        let event = config.event_bytes_max;
        let request = config.two_requests_bytes();
        self.rule(
            "buffer_bytes_max",
            &["event_bytes_max"],
            config.buffer_bytes_max.is_none_or(|bytes| bytes >= request),
            "expected space for two requests of event_bytes_max with their heads (32KiB each)",
        );
        self.rule(
            "segment_bytes",
            &["event_bytes_max"],
            config.segment_bytes >= 2 * (event + RECORD_ROOM_BYTES),
            "expected at least twice event_bytes_max, and 8KiB",
        );
        self.rule(
            "journal_bytes_max",
            &["segment_bytes"],
            config.journal_bytes_max >= config.segment_bytes.saturating_mul(2),
            "expected at least two segments (segment_bytes), one to write and one to read",
        );
        self.rule(
            "journal_high_water",
            &["journal_bytes_max"],
            config.journal_high_water <= config.journal_bytes_max,
            "expected at most journal_bytes_max; otherwise 507 would precede 429",
        );
        self.rule(
            "journal_high_water",
            &["event_bytes_max"],
            config.journal_high_water >= event,
            "expected at least event_bytes_max; otherwise events of that size could never be accepted",
        );
        self.rule(
            "batch_bytes_max",
            &["event_bytes_max"],
            config.batch_bytes_max >= event,
            "expected at least event_bytes_max",
        );
    }

    fn rule(&mut self, name: &'static str, and: &[&str], good: bool, allowed: &str) {
        self.complaints.require(self.raw, name, and, good, allowed);
    }

    fn count(&mut self, name: &'static str, value: u64, least: u64, most: u64) {
        self.rule(name, &[], (least..=most).contains(&value), &format!("expected {least} to {most}"));
    }

    fn bytes(&mut self, name: &'static str, value: u64, least: u64, most: u64) {
        let range = format!("expected {} to {}", Bytes::write(&least), Bytes::write(&most));
        self.rule(name, &[], (least..=most).contains(&value), &range);
    }

    fn time(&mut self, name: &'static str, value: Duration, least: Duration, most: Duration) {
        let range = format!("expected {} to {}", Time::write(&least), Time::write(&most));
        self.rule(name, &[], (least..=most).contains(&value), &range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::Source;

    fn refused(pairs: &[(&str, &str)]) -> Vec<String> {
        let mut raw = Raw::default();
        for (name, text) in pairs {
            assert!(raw.set(name, text, Source::Flag), "{name}");
        }
        match Config::check(&raw) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn the_defaults_are_good() {
        assert_eq!(refused(&[]), Vec::<String>::new());
        assert_eq!(Config::check(&Raw::default()).unwrap(), Config::defaults());
    }

    #[test]
    fn an_operators_address_others_can_reach_needs_insecure() {
        for address in ["0.0.0.0:9100", "[::]:9100", "10.0.0.1:9100"] {
            let errors = refused(&[("ops_listen", address)]);
            assert!(errors.len() == 1 && errors[0].contains("--insecure"), "{errors:?}");
            assert!(refused(&[("ops_listen", address), ("insecure", "true")]).is_empty());
        }
        for address in ["[::1]:9100", "127.8.8.8:0", "[::ffff:127.0.0.1]:80"] {
            assert!(refused(&[("ops_listen", address)]).is_empty(), "{address}");
        }
        // Whether this address may be served depends on the keys, which are in the data folder.
        assert!(refused(&[("listen", "0.0.0.0:8000")]).is_empty());
        assert!(refused(&[("ops_listen", "off")]).is_empty());
        assert_eq!(refused(&[("ops_listen", "127.0.0.1:8000")]).len(), 1);
        assert!(refused(&[("ops_listen", "127.0.0.1:0"), ("listen", "127.0.0.1:0")]).is_empty());
    }

    #[test]
    fn values_that_do_not_fit_together_are_refused() {
        for pairs in [
            &[("journal_high_water", "9GiB")][..],
            &[("journal_bytes_max", "1GiB")],
            &[("segment_bytes", "1023KiB")],
            &[("event_bytes_max", "1000KiB"), ("segment_bytes", "1MiB")],
            &[("journal_bytes_max", "100MiB"), ("journal_high_water", "1MiB")],
            &[("batch_bytes_max", "128KiB")],
            &[("event_bytes_max", "1MiB")],
            &[("page_size", "128KiB")],
            &[("page_size", "5000")],
            &[("batch_rows_max", "0")],
            &[("shards", "257")],
            &[("journal_high_water", "1KiB")],
            &[("head_timeout", "0s")],
        ] {
            assert_eq!(refused(pairs).len(), 1, "{pairs:?}: {:?}", refused(pairs));
        }
        let small = [
            ("segment_bytes", "1MiB"),
            ("journal_bytes_max", "2MiB"),
            ("journal_high_water", "1MiB"),
            ("partition_rows_max", "10"),
            ("flush_interval", "0s"),
        ];
        assert!(refused(&small).is_empty());
    }
}
