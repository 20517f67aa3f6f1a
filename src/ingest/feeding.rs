//! The assignment of shards to the cores that feed them.

/// Returns the shards that a core feeds, each with the core's index among the cores that feed the same shard. With at
/// least as many shards as cores, each shard has one core. With fewer shards than cores, several cores share a shard,
/// and each has its own journals.
#[must_use]
pub fn feeds(core: usize, cores: usize, shards: usize) -> Vec<(usize, u8)> {
    if shards >= cores {
        (core..shards).step_by(cores).map(|shard| (shard, 0)).collect()
    } else {
        vec![(core % shards, (core / shards) as u8)]
    }
}

/// Returns `true` if a core feeds a shard.
#[must_use]
pub fn is_fed_by(shard: usize, core: usize, cores: usize, shards: usize) -> bool {
    feeds(core, cores, shards).iter().any(|(fed, _)| *fed == shard)
}

/// Returns the core whose CPU a shard's writer shares.
#[must_use]
pub fn home(shard: usize, cores: usize) -> usize {
    shard % cores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_is_fed_and_no_journal_has_two_writers() {
        for cores in 1..9 {
            for shards in 1..9 {
                let mut all: Vec<_> = (0..cores).flat_map(|core| feeds(core, cores, shards)).collect();
                let before = all.len();
                all.sort_unstable();
                all.dedup();
                assert_eq!(all.len(), before, "{cores} cores, {shards} shards");
                let mut fed: Vec<_> = all.iter().map(|(shard, _)| *shard).collect();
                fed.dedup();
                assert_eq!(fed, (0..shards).collect::<Vec<_>>(), "{cores} cores, {shards} shards");
                assert!((0..shards).all(|shard| home(shard, cores) < cores));
            }
        }
    }
}
