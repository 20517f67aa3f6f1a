//! Stable random numbers: xoshiro256++ seeded by splitmix64, in integers only.
//!
//! They are implemented here and not taken from a crate, because a dataset's bytes are part of its identity (seed and
//! parameters): no update of a dependency may change them. xoshiro256++ is by Blackman and Vigna, "Scrambled linear
//! pseudorandom number generators" (2021); splitmix64 is by Steele, Lea and Flood, "Fast splittable pseudorandom
//! number generators" (2014).

/// What a stream of numbers is used for. Each use has its own stream, so that a longer table does not change other
/// tables.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    Catalogue = 1,
    People = 2,
    OrderTimes = 3,
    Orders = 4,
    PriceTimes = 5,
    Prices = 6,
    StockTimes = 7,
    Stock = 8,
    Ranks = 9,
    Names = 10,
}

/// Applies the finaliser of splitmix64: every input bit affects every output bit.
#[must_use]
pub(super) fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Returns the key of one stream, derived from a seed, a use, and a tenant (or 0).
#[must_use]
pub(super) fn key(seed: u64, for_use: Use, tenant: u32) -> u64 {
    mix(mix(mix(seed) ^ for_use as u64) ^ u64::from(tenant))
}

/// Returns the random numbers of one product, derived from the key of its tenant's stream.
#[must_use]
pub(super) fn of_product(key: u64, number: u32) -> Random {
    Random::new(mix(key ^ u64::from(number) << 20))
}

/// xoshiro256++: 32 bytes of state.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: [u64; 4],
}

impl Random {
    pub(super) fn new(key: u64) -> Random {
        // Splitmix64's outputs are a permutation of the counter, so the four words are never all zero.
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        let state = [0, 1, 2, 3].map(|turn: u64| mix(key.wrapping_add(turn.wrapping_mul(step))));
        Random { state }
    }

    pub(super) fn bits(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let bits = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        bits
    }

    /// Returns a number 0 ≤ x < 1 in steps of 2⁻⁵³.
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Returns a number 0 < x ≤ 1 in steps of 2⁻⁵³, for logarithms.
    pub(super) fn unit_above_zero(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Returns 0 to `below` - 1, without bias (Lemire, "Fast random integer generation in an interval", 2019).
    /// Returns 0 for 0.
    pub(super) fn below(&mut self, below: u64) -> u64 {
        loop {
            let wide = u128::from(self.bits()) * u128::from(below);
            let low = wide as u64;
            if low >= below || low >= below.wrapping_neg() % below.max(1) {
                return (wide >> 64) as u64;
            }
        }
    }

    /// Returns `true` with a probability of `times` in a thousand.
    pub(super) fn per_mille(&mut self, times: u64) -> bool {
        self.below(1000) < times
    }

    /// Returns a number from -6 to 6 with mean 0 and standard deviation 1. It is the sum of twelve uniform numbers
    /// (Irwin and Hall, 1927), because additions round identically on every machine.
    pub(super) fn bell(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_gives_the_published_numbers() {
        // These are the reference implementation's first outputs for the seed 1234567.
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        let first = [0, 1, 2].map(|turn: u64| mix(1_234_567_u64.wrapping_add(step.wrapping_mul(turn))));
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn xoshiro_gives_the_published_numbers() {
        // These are the reference implementation's first outputs for the state 1, 2, 3, 4.
        let mut random = Random { state: [1, 2, 3, 4] };
        let first: Vec<u64> = (0..4).map(|_| random.bits()).collect();
        assert_eq!(first, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn ranges_are_kept_and_every_value_comes() {
        let mut random = Random::new(7);
        let mut seen = [0_u32; 6];
        for _ in 0..6000 {
            seen[random.below(6) as usize] += 1;
            let (unit, above) = (random.unit(), random.unit_above_zero());
            assert!((0.0..1.0).contains(&unit) && above > 0.0 && above <= 1.0);
        }
        assert!(seen.iter().all(|count| (850..1150).contains(count)), "{seen:?}");
        assert_eq!((random.below(0), random.below(1)), (0, 0));
    }

    #[test]
    fn the_bell_has_its_mean_and_deviation() {
        let mut random = Random::new(8);
        let drawn: Vec<f64> = (0..20_000).map(|_| random.bell()).collect();
        let mean = drawn.iter().sum::<f64>() / 20_000.0;
        let variance = drawn.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
