//! Decides whether a price is an anomaly: whether it differs too much from the accepted prices around it. Two rules
//! decide. They compute in whole numbers, so that a replay gives the same result on any machine.
//!
//! The first rule: the price differs from the accepted price before it by more than a percentage. A late price may
//! have accepted prices on both sides of its own time. It is compared with the neighbour nearer in value, because it
//! may belong before or after an accepted change.
//!
//! The second rule: the modified z-score `0.6745 · |x − median| / MAD` (Iglewicz, Hoaglin 1993) among the last
//! accepted prices is too high. This detects a drift whose steps are each below the first limit. Prices that hardly
//! ever change have a MAD of zero or close to it, so any change would be an anomaly. The MAD is therefore at least
//! [`MAD_FLOOR_PERCENT`] of the median. No score is computed from fewer than [`SCORE_COUNT_MIN`] prices.

use crate::base::prices::PriceRules;

/// The minimum number of accepted prices for a score. A median of fewer prices is not meaningful.
pub(super) const SCORE_COUNT_MIN: usize = 5;
/// The minimum MAD as a percentage of the median. With a limit of 3.5, a price must be 10.4 % away from the median to
/// be an anomaly by its score.
const MAD_FLOOR_PERCENT: i128 = 2;
/// `Φ⁻¹(3/4)` in ten-thousandths. This factor makes a MAD comparable to a standard deviation.
const NORMAL: i128 = 6_745;

/// The comparison that makes a price an anomaly. Prices are in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The accepted price that the price was compared with.
    pub(super) baseline: i64,
    /// The difference in hundredths of a percent of the baseline, or `None` if the baseline is zero.
    pub(super) change_bp: Option<i64>,
    /// The score, or `None` if there are too few prices.
    pub(super) score: Option<Score>,
}

/// A price's modified z-score, and the numbers from which it is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Score {
    pub(super) median: i64,
    pub(super) mad: i64,
    /// The score in thousandths.
    pub(super) milli: i64,
    /// The number of prices in the window.
    pub(super) count: u16,
}

impl Finding {
    /// Returns `true` if the change is too large. A change from a baseline of zero is always too large.
    pub(super) fn is_by_change(&self, rules: &PriceRules) -> bool {
        self.change_bp.is_none_or(|change| change.unsigned_abs() > u64::from(rules.change_bp))
    }

    pub(super) fn is_by_score(&self, rules: &PriceRules) -> bool {
        self.score.is_some_and(|score| score.milli > i64::from(rules.score_milli))
    }
}

/// Returns the finding if the price is an anomaly. `before` contains the accepted prices before the price's own time,
/// newest first. `after` contains the accepted prices after that time, oldest first. It is empty if the price is the
/// newest. All prices are in the same currency. At most [`PriceRules::window`] accepted prices enter the score.
pub(crate) fn judge(price: i64, rules: &PriceRules, before: &[i64], after: &[i64]) -> Option<Finding> {
    let neighbours = [before.first(), after.first()].into_iter().flatten();
    let (_, baseline) = neighbours.map(|&base| (distance(price, base), base)).reduce(|best, next| {
        // If both are equally near, the earlier one is the baseline.
        if is_nearer(next.0, best.0) { next } else { best }
    })?;
    let window = usize::from(rules.window);
    let behind = after.len().min(window / 2);
    let ahead = before.len().min(window - behind);
    let mut prices: Vec<i64> = before[..ahead].iter().chain(&after[..behind]).copied().collect();
    let finding =
        Finding { baseline, change_bp: change_bp(price, baseline), score: score(price, &mut prices) };
    (finding.is_by_change(rules) || finding.is_by_score(rules)).then_some(finding)
}

/// Returns a price's distance from a base, as a fraction.
fn distance(price: i64, base: i64) -> (u128, u128) {
    ((i128::from(price) - i128::from(base)).unsigned_abs(), i128::from(base).unsigned_abs())
}

fn is_nearer((a, of_a): (u128, u128), (b, of_b): (u128, u128)) -> bool {
    // Any other price is infinitely far from a base of zero.
    match (of_a, of_b) {
        (0, 0) => a < b,
        (0, _) => a == 0 && b > 0,
        (_, 0) => b > 0,
        _ => a * of_b < b * of_a,
    }
}

/// Returns the change in hundredths of a percent. It is rounded away from zero, so that no change above a limit is
/// rounded down to the limit.
fn change_bp(price: i64, base: i64) -> Option<i64> {
    if price == base {
        return Some(0);
    }
    if base == 0 {
        return None;
    }
    let (difference, base) = (i128::from(price) - i128::from(base), i128::from(base));
    let rounded = (difference.unsigned_abs() * 10_000).div_ceil(base.unsigned_abs());
    let rounded = i64::try_from(rounded).unwrap_or(i64::MAX);
    Some(if difference < 0 { -rounded } else { rounded })
}

/// Returns the median of sorted prices. For an even number of prices, it is the mean of the middle two, rounded down.
fn median(sorted: &[i64]) -> i64 {
    let middle = sorted.len() / 2;
    match sorted {
        [] => 0,
        _ if sorted.len() % 2 == 1 => sorted[middle],
        _ => ((i128::from(sorted[middle - 1]) + i128::from(sorted[middle])) / 2) as i64,
    }
}

fn score(price: i64, prices: &mut [i64]) -> Option<Score> {
    if prices.len() < SCORE_COUNT_MIN {
        return None;
    }
    prices.sort_unstable();
    let middle = median(prices);
    for other in prices.iter_mut() {
        *other = (*other - middle).abs();
    }
    prices.sort_unstable();
    let mad = median(prices);
    let away = (i128::from(price) - i128::from(middle)).abs();
    // The scale is in hundredths of a minor unit, so that a floor below one unit has an effect.
    let scale = (i128::from(mad) * 100).max(i128::from(middle) * MAD_FLOOR_PERCENT).max(1);
    let milli = NORMAL * away * 10 / scale;
    let milli = i64::try_from(milli).unwrap_or(i64::MAX);
    Some(Score { median: middle, mad, milli, count: prices.len() as u16 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: PriceRules = PriceRules { change_bp: 2_000, score_milli: 3_500, window: 20 };

    #[test]
    fn the_first_price_is_taken_and_a_change_is_measured_against_the_last() {
        assert_eq!(judge(1_000, &RULES, &[], &[]), None);
        assert_eq!(judge(1_200, &RULES, &[1_000], &[]), None);
        assert_eq!(judge(800, &RULES, &[1_000], &[]), None);
        let up = judge(1_201, &RULES, &[1_000], &[]).unwrap();
        assert_eq!((up.baseline, up.change_bp, up.score), (1_000, Some(2_010), None));
        assert_eq!(judge(799, &RULES, &[1_000], &[]).unwrap().change_bp, Some(-2_010));
        // Rounding does not reduce a change just above the limit to the limit.
        assert_eq!(judge(1_200_000_001, &RULES, &[1_000_000_000], &[]).unwrap().change_bp, Some(2_001));
    }

    #[test]
    fn from_zero_everything_is_out_of_line_and_nothing_overflows() {
        assert_eq!(judge(0, &RULES, &[0], &[]), None);
        assert_eq!(judge(1, &RULES, &[0], &[]).unwrap().change_bp, None);
        assert_eq!(judge(i64::MAX, &RULES, &[1], &[]).unwrap().change_bp, Some(i64::MAX));
        let zeros = [0; 20];
        assert_eq!(judge(0, &RULES, &zeros, &[]), None);
        assert_eq!(judge(i64::MAX, &RULES, &zeros, &[]).unwrap().score.unwrap().milli, i64::MAX);
        assert_eq!(judge(i64::MAX, &RULES, &[i64::MAX; 20], &[i64::MAX; 20]), None);
    }

    #[test]
    fn one_that_comes_late_is_held_against_the_nearer_neighbour_of_its_time() {
        // The price before is 10.00, and the accepted price after is 15.00. Prices near either are accepted; prices
        // beyond them are not.
        for price in [900, 1_100, 1_400, 1_600] {
            assert_eq!(judge(price, &RULES, &[1_000], &[1_500]), None, "{price}");
        }
        let found = judge(2_000, &RULES, &[1_000], &[1_500]).unwrap();
        assert_eq!((found.baseline, found.change_bp), (1_500, Some(3_334)));
        assert_eq!(judge(500, &RULES, &[1_000], &[1_500]).unwrap().baseline, 1_000);
        assert_eq!(judge(500, &RULES, &[1_000], &[1_000]).unwrap().baseline, 1_000);
        // No price precedes it, so it is only compared with the later price.
        assert_eq!(judge(2_000, &RULES, &[], &[1_500]).unwrap().baseline, 1_500);
        assert_eq!(judge(5, &RULES, &[0], &[5]), None);
    }

    #[test]
    fn a_mad_of_zero_has_a_floor_and_drift_is_seen() {
        let still = [1_000; 10];
        // The floor is 20, and 3.5 * 20 / 0.6745 is 10.4 % of 1,000.
        assert_eq!(judge(1_103, &RULES, &still, &[]), None);
        let found = judge(1_104, &RULES, &still, &[]).unwrap();
        assert_eq!(found.score, Some(Score { median: 1_000, mad: 0, milli: 3_507, count: 10 }));
        assert!(!found.is_by_change(&RULES) && found.is_by_score(&RULES));
        // Four prices are too few for a score.
        assert_eq!(judge(1_104, &RULES, &still[..4], &[]), None);
        // Each step is 15 %, which is below the limit on one change. The first step is an anomaly by its score.
        let mut before = vec![1_000; 8];
        let mut steps = 0;
        let mut price = 1_000;
        loop {
            price = price * 115 / 100;
            if let Some(found) = judge(price, &RULES, &before, &[]) {
                assert!(!found.is_by_change(&RULES));
                break;
            }
            before.insert(0, price);
            steps += 1;
            assert!(steps < 10);
        }
    }

    #[test]
    fn one_wild_price_among_the_accepted_does_not_move_the_median() {
        let before = [1_000, 1_010, 990, 100_000, 1_005, 995, 1_002];
        assert_eq!(judge(1_020, &RULES, &before, &[]), None);
        let score = judge(90_000, &RULES, &before[4..], &before[..4]).unwrap().score.unwrap();
        assert_eq!((score.median, score.count), (1_002, 7));
    }

    #[test]
    fn the_window_is_of_both_sides_and_never_larger_than_told() {
        let rules = PriceRules { window: 6, ..RULES };
        let before = [100, 100, 100, 900, 900, 900];
        let after = [100, 100, 100, 900, 900, 900];
        let score = judge(500, &rules, &before, &after).unwrap().score.unwrap();
        assert_eq!((score.median, score.mad, score.count), (100, 0, 6));
        assert_eq!(judge(500, &rules, &before, &[]).unwrap().score.unwrap().median, 500);
        let none = PriceRules { window: 0, ..RULES };
        assert_eq!(judge(500, &none, &before, &after).unwrap().score, None);
    }

    proptest! {
        /// Compares the result with the same rules in floating point, computed from the definitions. The results
        /// agree unless the score is within rounding of the limit.
        #[test]
        fn it_decides_as_the_definitions_do(
            price in 0_i64..5_000,
            before in prop::collection::vec(0_i64..5_000, 0..30),
            after in prop::collection::vec(0_i64..5_000, 0..30),
            change in 0_u32..10_000,
            limit in 0_u32..20_000,
            window in 0_u16..30,
        ) {
            let rules = PriceRules { change_bp: change, score_milli: limit, window };
            let relative = |base: i64| {
                if price == base { 0.0 } else { (price - base).abs() as f64 / base as f64 }
            };
            let nearest = before.first().into_iter().chain(after.first()).map(|base| relative(*base));
            let nearest = nearest.fold(f64::NAN, f64::min);
            let behind = after.len().min(usize::from(window) / 2);
            let ahead = before.len().min(usize::from(window) - behind);
            let mut all: Vec<f64> =
                before[..ahead].iter().chain(&after[..behind]).map(|price| *price as f64).collect();
            let middle = |values: &mut Vec<f64>| {
                values.sort_by(f64::total_cmp);
                let half = values.len() / 2;
                if values.len() % 2 == 1 { values[half] } else { ((values[half - 1] + values[half]) / 2.0).floor() }
            };
            let mut by_score = false;
            let mut doubtful = false;
            if all.len() >= SCORE_COUNT_MIN {
                let median = middle(&mut all);
                let mut away: Vec<f64> = all.iter().map(|other| (other - median).abs()).collect();
                let scale = middle(&mut away).max(median * 0.02).max(0.01);
                let score = 0.6745 * (price as f64 - median).abs() / scale * 1_000.0;
                by_score = score > f64::from(limit);
                doubtful = (score - f64::from(limit)).abs() <= 1.5;
            }
            let expected = !nearest.is_nan() && (nearest * 10_000.0 > f64::from(change) + 1e-6 || by_score);
            let found = judge(price, &rules, &before, &after);
            if !doubtful {
                prop_assert_eq!(found.is_some(), expected, "{:?}", found);
            }
        }
    }
}
