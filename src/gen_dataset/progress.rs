//! The progress of dataset generation: a bar on a terminal or lines elsewhere, and figures at the end.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

use crate::base::clock;

/// The number of rows between two reads of the clock.
const STEP_ROWS: u64 = 256;
/// The time between two progress lines if there is no terminal.
const LINE_EVERY_US: u64 = 5_000_000;

/// One table's progress.
#[derive(Debug)]
pub(super) struct Progress {
    table: &'static str,
    total: u64,
    rows: u64,
    start_us: u64,
    next_line_us: u64,
    /// The progress bar. `None` if there is no terminal.
    bar: Option<ProgressBar>,
}

/// A table's figures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    pub(super) table: &'static str,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) time_us: u64,
}

impl Progress {
    pub(super) fn new(table: &'static str, total: u64) -> Progress {
        let start_us = clock::monotonic_us();
        let bar = stderr().is_terminal().then(|| {
            let style = "{msg:13} {wide_bar} {human_pos}/{human_len}  {per_sec}  {eta} left";
            let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total).with_style(style).with_message(table)
        });
        Progress { table, total, rows: 0, start_us, next_line_us: start_us + LINE_EVERY_US, bar }
    }

    pub(super) fn row(&mut self) {
        self.rows += 1;
        if self.rows.is_multiple_of(STEP_ROWS) {
            self.show();
        }
    }

    fn show(&mut self) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.rows);
            return;
        }
        let now_us = clock::monotonic_us();
        if now_us >= self.next_line_us {
            self.next_line_us = now_us + LINE_EVERY_US;
            eprintln!("{}", line(self.table, self.rows, self.total, now_us - self.start_us));
        }
    }

    /// Completes the table and returns its figures.
    pub(super) fn finish(self, bytes: u64) -> Figure {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        let time_us = clock::monotonic_us() - self.start_us;
        Figure { table: self.table, rows: self.rows, bytes, time_us }
    }
}

fn line(table: &str, rows: u64, total: u64, time_us: u64) -> String {
    let rate = per_second(rows, time_us);
    let left_s = total.saturating_sub(rows) / rate.max(1);
    let percent = rows * 100 / total.max(1);
    format!("{table}: {rows} of {total} rows ({percent} %), {rate} rows/s, {left_s} s left")
}

fn per_second(count: u64, time_us: u64) -> u64 {
    (u128::from(count) * 1_000_000 / u128::from(time_us.max(1))) as u64
}

/// Formats the figures as an aligned table: rows, seconds, rows/s, MB/s (of 10⁶ bytes).
pub(super) fn table(figures: &[Figure]) -> String {
    let mut text = format!("{:14}{:>12}{:>10}{:>12}{:>9}\n", "table", "rows", "seconds", "rows/s", "MB/s");
    for figure in figures {
        let seconds = figure.time_us as f64 / 1e6;
        let rate = per_second(figure.rows, figure.time_us);
        let megabytes = per_second(figure.bytes, figure.time_us) as f64 / 1e6;
        text += &format!("{:14}{:>12}{seconds:>10.2}{rate:>12}{megabytes:>9.1}\n", figure.table, figure.rows);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_is_left() {
        assert_eq!(
            line("orders", 500, 2000, 2_000_000),
            "orders: 500 of 2000 rows (25 %), 250 rows/s, 6 s left"
        );
        assert_eq!(line("orders", 0, 0, 0), "orders: 0 of 0 rows (0 %), 0 rows/s, 0 s left");
    }

    #[test]
    fn figures_are_rows_and_bytes_over_time() {
        let figure = Figure { table: "orders", rows: 1000, bytes: 3_000_000, time_us: 500_000 };
        let text = table(&[figure]);
        let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["orders", "1000", "0.50", "2000", "6.0"]);
    }
}
