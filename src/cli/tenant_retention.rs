//! The retention of a tenant, in `firehose tenant add`, `set` and `list`.

use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value};

use crate::base::limits::{RETENTION_MAX, RETENTION_MIN};
use crate::config::{Config, duration, duration_text};
use crate::tenants::Retention;

/// The ages to set. `None` for those that do not change.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct RetentionArgs {
    /// Time for which the tenant's events of /events are kept after their arrival ("30d"), or "off" if only the server's
    /// setting applies. At least 1m. The shorter of both applies, so this can only shorten.
    #[arg(long, value_name = "TIME", value_parser = keep)]
    retention_events: Option<Keep>,

    /// Time for which the tenant's orders are kept, or "off". At least 1m.
    #[arg(long, value_name = "TIME", value_parser = keep)]
    retention_orders: Option<Keep>,

    /// Time for which the tenant's price events are kept, or "off". At least 1m.
    #[arg(long, value_name = "TIME", value_parser = keep)]
    retention_prices: Option<Keep>,

    /// Time for which the tenant's stock events are kept, or "off". At least 1m.
    #[arg(long, value_name = "TIME", value_parser = keep)]
    retention_stock: Option<Keep>,
}

/// An age, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Keep(Option<Duration>);

fn keep(text: &str) -> Result<Keep, String> {
    if text == "off" {
        return Ok(Keep(None));
    }
    let found = duration(text).filter(|keep| (RETENTION_MIN..=RETENTION_MAX).contains(keep));
    found.map(|keep| Keep(Some(keep))).ok_or_else(|| {
        let [least, most] = [RETENTION_MIN, RETENTION_MAX].map(duration_text);
        format!("expected {least} to {most}, a whole number with s, m, h or d such as 30d, or \"off\"")
    })
}

impl RetentionArgs {
    pub(super) fn over(self, before: Retention) -> Retention {
        let or = |keep: Option<Keep>, before| keep.map_or(before, |keep| keep.0);
        Retention {
            events: or(self.retention_events, before.events),
            orders: or(self.retention_orders, before.orders),
            prices: or(self.retention_prices, before.prices),
            stock: or(self.retention_stock, before.stock),
        }
    }
}

/// Returns the ages in one word, such as `events=30d,orders=400d`, or `-` without any.
pub(super) fn shown(retention: &Retention) -> String {
    let kept = retention.each().into_iter();
    let kept = kept.filter_map(|(kind, keep)| Some(format!("{kind}={}", duration_text(keep?))));
    let kept: Vec<String> = kept.collect();
    if kept.is_empty() { "-".to_owned() } else { kept.join(",") }
}

/// Adds the ages to the description of a tenant.
pub(super) fn describe(retention: &Retention, fields: &mut Map<String, Value>) {
    for (kind, keep) in retention.each() {
        fields.insert(format!("retention_{kind}"), keep.map(duration_text).into());
    }
}

/// Returns a line for each age that has no effect, because the setting of the server is not longer.
pub(super) fn without_effect(retention: &Retention, config: &Config) -> Vec<String> {
    let server =
        [config.retention_events, config.retention_orders, config.retention_prices, config.retention_stock];
    let ages = retention.each().into_iter().zip(server);
    let longer = ages.filter_map(|((kind, keep), server)| Some((kind, keep?, server?)));
    longer
        .filter(|(_, keep, server)| keep >= server)
        .map(|(kind, keep, server)| {
            let [keep, server] = [keep, server].map(duration_text);
            format!(
                "retention_{kind}={keep} has no effect, because the setting retention_{kind} of serve is {server}"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_at_least_a_minute_and_what_is_not_named_stays() {
        let day = Duration::from_secs(86_400);
        assert_eq!((keep("1m"), keep("off")), (Ok(Keep(Some(day / 1_440))), Ok(Keep(None))));
        for text in ["", "0", "59s", "30", "-1d", "100001d", "never"] {
            assert!(keep(text).is_err(), "{text:?}");
        }
        let before = Retention { events: Some(day), orders: Some(day * 400), ..Retention::default() };
        assert_eq!(RetentionArgs::default().over(before), before);
        let args = RetentionArgs { retention_events: Some(Keep(None)), ..RetentionArgs::default() };
        let after = args.over(before);
        assert_eq!(after, Retention { events: None, ..before });
        assert_eq!((&*shown(&before), &*shown(&after)), ("events=1d,orders=400d", "orders=400d"));
        assert_eq!(shown(&Retention::default()), "-");
    }
}
