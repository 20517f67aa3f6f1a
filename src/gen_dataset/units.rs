//! Sizes and durations as people read them.

/// Formats bytes with three digits and a decimal unit.
pub(super) fn bytes_text(bytes: u64) -> String {
    match bytes as f64 {
        few if few < 1e6 => format!("{:.0} kB", (few / 1e3).ceil()),
        some if some < 1e9 => format!("{:.1} MB", some / 1e6),
        many => format!("{:.1} GB", many / 1e9),
    }
}

/// Formats a duration with one unit or two.
pub(super) fn time_text(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{} s", seconds.max(1)),
        120..=7_199 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(["1 kB", "2.5 MB", "57.0 GB"], [1, 2_500_000, 57_000_000_000].map(bytes_text));
        assert_eq!(["1 s", "119 s", "2 min", "25 h 5 min"], [0, 119, 120, 90_300].map(time_text));
    }
}
