//! Maps keys to shards: a stable hash of (tenant, key) selects the shard, and each shard remembers the hashes of the
//! ids that it has seen.
//!
//! The hash is SipHash-1-3 with 128 bits of output (Aumasson, Bernstein 2012) over the tenant, a zero byte and the key.
//! The hash's key is the 16 bytes of the data folder's id, so the hash is stable for the life of the folder, and no
//! outsider can choose ids that collide. Two ids with one hash are still two ids: a caller compares the ids
//! themselves before it reports a duplicate.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::ids::ShardId;

/// Hashes keys of one data folder. About 30 ns for 50 bytes.
#[derive(Clone, Copy, Debug)]
pub struct KeyHasher {
    hasher: SipHasher13,
}

/// Hashes keys of one tenant.
#[derive(Clone, Copy, Debug)]
pub struct TenantKeyHasher {
    hasher: SipHasher13,
}

impl TenantKeyHasher {
    /// Hashes any number of parts. The result equals that of [`KeyHasher::hash_all`] of the tenant and the parts.
    #[inline]
    #[must_use]
    pub fn hash_all<const N: usize>(&self, parts: [&str; N]) -> KeyHash {
        hash_parts(self.hasher, parts)
    }
}

#[inline]
fn hash_parts<const N: usize>(mut hasher: SipHasher13, parts: [&str; N]) -> KeyHash {
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            hasher.write(&[0]);
        }
        hasher.write(part.as_bytes());
    }
    KeyHash(hasher.finish128().as_u128())
}

/// The 128-bit hash of a (tenant, key) pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u128);

impl KeyHasher {
    #[must_use]
    pub fn new(folder_id: &[u8; 16]) -> KeyHasher {
        KeyHasher { hasher: SipHasher13::new_with_key(folder_id) }
    }

    /// Hashes a tenant and a key. Neither contains a zero byte, because identifiers have no control characters.
    #[inline]
    #[must_use]
    pub fn hash(&self, tenant: &str, key: &str) -> KeyHash {
        let mut hasher = self.hasher;
        hasher.write(tenant.as_bytes());
        hasher.write(&[0]);
        hasher.write(key.as_bytes());
        KeyHash(hasher.finish128().as_u128())
    }

    /// Hashes any number of parts: `hash_all([tenant, key])` equals `hash(tenant, key)`.
    #[inline]
    #[must_use]
    pub fn hash_all<const N: usize>(&self, parts: [&str; N]) -> KeyHash {
        hash_parts(self.hasher, parts)
    }

    /// Returns a hasher of keys of one tenant, which has hashed the tenant already.
    #[inline]
    #[must_use]
    pub fn of_tenant(&self, tenant: &str) -> TenantKeyHasher {
        let mut hasher = self.hasher;
        hasher.write(tenant.as_bytes());
        hasher.write(&[0]);
        TenantKeyHasher { hasher }
    }

    /// Returns a 64-bit hash of any bytes.
    #[inline]
    #[must_use]
    pub fn digest(&self, bytes: &[u8]) -> u64 {
        self.wide_digest(bytes) as u64
    }

    /// Returns a 128-bit hash of any bytes.
    #[inline]
    #[must_use]
    pub fn wide_digest(&self, bytes: &[u8]) -> u128 {
        let mut hasher = self.hasher;
        hasher.write(bytes);
        hasher.finish128().as_u128()
    }
}

impl KeyHash {
    /// Returns this key's shard among `shards`. Scales the upper half of the hash (Lemire 2019), so that the
    /// lower half remains evenly distributed within a shard.
    #[inline]
    #[must_use]
    pub fn shard(self, shards: u16) -> ShardId {
        let upper = (self.0 >> 64) as u64;
        ShardId(((u128::from(upper) * u128::from(shards)) >> 64) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_place_for_the_life_of_a_folder() {
        // Fixed values: a change would send known ids to other shards.
        let hasher = KeyHasher::new(b"0123456789abcdef");
        let hash = hasher.hash("tenant_1", "evt_001");
        assert_eq!(hash, KeyHash(64_424_377_752_964_353_177_423_610_004_519_391_952));
        assert_eq!(hash, hasher.hash_all(["tenant_1", "evt_001"]));
        assert_eq!(hash, hasher.of_tenant("tenant_1").hash_all(["evt_001"]));
        let all = hasher.hash_all(["tenant_1", "evt_001", "x"]);
        assert_eq!(all, hasher.of_tenant("tenant_1").hash_all(["evt_001", "x"]));
        assert_ne!(hash, hasher.hash("tenant_1e", "vt_001"));
        assert_ne!(hash, KeyHasher::new(b"0123456789abcdeg").hash("tenant_1", "evt_001"));
    }

    #[test]
    fn keys_spread_evenly_over_the_shards() {
        let hasher = KeyHasher::new(&[7; 16]);
        for shards in [1, 2, 3, 8, 256] {
            let mut counts = vec![0_u32; usize::from(shards)];
            for key in 0..20_000 {
                counts[usize::from(hasher.hash("t", &key.to_string()).shard(shards).0)] += 1;
            }
            let even = 20_000.0 / f64::from(shards);
            assert!(
                counts.iter().all(|count| (f64::from(*count) - even).abs() < 6.0 * even.sqrt()),
                "{counts:?}"
            );
        }
    }
}
