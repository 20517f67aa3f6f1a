//! The progress of a run: a bar on a terminal, and lines in the log elsewhere.

use std::io::{IsTerminal as _, stderr};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

use super::metrics::ShardFigures;
use super::rows::ShipStream;
use crate::base::clock;

/// The time between two lines in the log.
const LINE_EVERY_US: u64 = 10_000_000;
const TEMPLATE: &str = "{wide_bar} {human_pos}/{human_len} rows  {per_sec}  {msg}";

/// Shows the progress of all shards.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    line_us: u64,
    line_rows: u64,
}

impl Progress {
    /// Begins. `with_bar`: a bar is wanted if there is a terminal.
    #[must_use]
    pub(super) fn new(with_bar: bool) -> Progress {
        let bar = (with_bar && stderr().is_terminal()).then(|| {
            let style =
                ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style)
        });
        Progress { bar, line_us: clock::monotonic_us(), line_rows: 0 }
    }

    /// Shows the figures, if it is time.
    pub(super) fn show(&mut self, shards: &[Arc<ShardFigures>]) {
        let (rows, behind) = shards.iter().fold((0, 0), |(rows, behind), shard| {
            let (more, more_behind) = shard.sums();
            (rows + more, behind + more_behind)
        });
        if let Some(bar) = &self.bar {
            bar.set_length(rows + behind);
            bar.set_position(rows);
            bar.set_message(format!("{:.0} s behind", seconds_behind(shards)));
            return;
        }
        let now_us = clock::monotonic_us();
        let time_us = now_us.saturating_sub(self.line_us);
        // A run that has nothing to ship is silent.
        if time_us < LINE_EVERY_US || (rows == self.line_rows && behind == 0) {
            return;
        }
        let rows_per_second = (rows - self.line_rows).saturating_mul(1_000_000) / time_us.max(1);
        (self.line_us, self.line_rows) = (now_us, rows);
        let behind_seconds = seconds_behind(shards).round() as u64;
        tracing::info!(rows, rows_per_second, behind_rows = behind, behind_seconds, "shipping");
    }

    /// Removes the bar.
    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Returns the greatest age of a row that is not shipped.
fn seconds_behind(shards: &[Arc<ShardFigures>]) -> f64 {
    let now_us = clock::unix_us();
    let ages = shards.iter().flat_map(|shard| {
        ShipStream::ALL.into_iter().map(move |stream| shard.state(stream, now_us).behind_seconds)
    });
    ages.fold(0.0, f64::max)
}
