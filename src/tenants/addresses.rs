//! The rate limit per client address: a table of fixed size, so that the number of addresses does not affect memory.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use super::buckets::Buckets;
use super::budget::Rate;
use super::error::{Denied, Limited, Quota};

/// The buckets of all addresses. They are separate from the buckets of price events, so that neither kind displaces
/// the other.
#[derive(Debug)]
pub(super) struct Addresses {
    rate: Rate,
    buckets: Buckets,
    /// Seeded, so that no one can choose an address that shares a bucket with another client's address.
    hasher: RandomState,
}

impl Addresses {
    pub(super) fn new(per_s: u64) -> Addresses {
        Addresses { rate: Rate::new(per_s, 1), buckets: Buckets::default(), hasher: RandomState::new() }
    }

    /// Takes one token from an address's bucket, in about 50 ns.
    pub(super) fn charge(&self, address: IpAddr, now_ns: u64) -> Result<(), Denied> {
        let name = self.hasher.hash_one(network(address));
        self.buckets.take(name, &self.rate, now_ns).map_err(|shortage| {
            Denied::Limited(Limited {
                quota: Quota::Address,
                capacity: self.rate.capacity(),
                window_s: self.rate.window_s(),
                available: shortage.available,
                wait_ns: shortage.wait_ns,
            })
        })
    }
}

/// Returns a client's network: its IPv4 address, or the 64-bit prefix of its IPv6 address. The client may choose any
/// address with that prefix.
fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        // No assigned network has a 64-bit prefix whose first 32 bits are zero.
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_a_limit_of_its_own_and_an_ipv6_network_one_for_all() {
        let addresses = Addresses::new(2);
        let charge = |address: &str, now_ns| addresses.charge(address.parse().unwrap(), now_ns);
        assert!(charge("198.51.100.1", 1).is_ok() && charge("::ffff:198.51.100.1", 1).is_ok());
        let Err(Denied::Limited(limited)) = charge("198.51.100.1", 1) else { panic!("it is limited") };
        assert_eq!((limited.quota, limited.capacity, limited.wait_s()), (Quota::Address, 2, 1));
        assert!(charge("198.51.100.2", 1).is_ok());
        assert!(charge("198.51.100.1", 500_000_001).is_ok());
        assert!(charge("2001:db8::1", 1).is_ok() && charge("2001:db8::2", 1).is_ok());
        assert!(charge("2001:db8::3", 1).is_err() && charge("2001:db8:0:1::1", 1).is_ok());
    }
}
