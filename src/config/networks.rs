//! Networks of trusted proxies, and the client address that follows from their headers.

use std::net::IpAddr;

/// Addresses with a common prefix: `10.0.0.0/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// Returns an address's bits and their number. The bits of an IPv4 address are the lowest 32.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    }
}

impl Network {
    /// Parses an address, or an address with a prefix length.
    #[must_use]
    pub fn parse(text: &str) -> Option<Network> {
        let text = text.trim();
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().ok()?;
        let (_, all) = bits(address);
        let prefix_bits = match length {
            Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => length.parse().ok()?,
            Some(_) => return None,
            None => all,
        };
        (prefix_bits <= all).then_some(Network { address, prefix_bits })
    }

    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let ((own, own_bits), (other, other_bits)) = (bits(self.address), bits(address.to_canonical()));
        let differ = (own ^ other).checked_shr(u32::from(own_bits - self.prefix_bits)).unwrap_or(0);
        own_bits == other_bits && differ == 0
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

/// Returns the client address of a request from `peer`. If `peer` is a trusted proxy, this is the last address in the
/// `X-Forwarded-For` lines that is not a trusted proxy. An unreadable entry ends the search, because its author is
/// not trusted.
#[must_use]
pub fn client_address<'a>(
    peer: IpAddr,
    trusted: &[Network],
    lines: impl DoubleEndedIterator<Item = &'a [u8]>,
) -> IpAddr {
    let is_trusted = |address| trusted.iter().any(|network| network.has(address));
    let mut client = peer.to_canonical();
    let mut said = lines.rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    while is_trusted(client) {
        let Some(next) = said.next().and_then(address) else { break };
        client = next;
    }
    client
}

/// Parses an address as proxies write it: bare, in brackets, or with a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => address,
            _ => text,
        },
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_of_its_prefix() {
        let network = |text| Network::parse(text).unwrap();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for (of, has, lacks) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("192.168.1.128/25", "192.168.1.129", "192.168.1.127"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("::/0", "2001:db8::1", "8.8.8.8"),
            ("fd00::/8", "fdff::1", "fe80::1"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
        ] {
            assert!(network(of).has(address(has)), "{of} {has}");
            assert!(!network(of).has(address(lacks)), "{of} {lacks}");
            assert_eq!(Network::parse(&network(of).to_string()), Some(network(of)));
        }
        for text in ["", "10", "10.0.0.0/33", "::/129", "a/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/-1"] {
            assert_eq!(Network::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_client_is_believed_only_through_proxies_that_are_trusted() {
        let trusted = ["127.0.0.1", "10.0.0.0/8", "fd00::/8"].map(|text| Network::parse(text).unwrap());
        for (peer, lines, client) in [
            ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:127.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            // The client's own entries precede those that the proxy adds.
            ("127.0.0.1", &["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["1.1.1.1", "198.51.100.1, 10.1.1.1"], "198.51.100.1"),
            ("127.0.0.1", &["10.2.2.2, 10.1.1.1"], "10.2.2.2"),
            ("127.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("127.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("127.0.0.1", &["198.51.100.1, unknown"], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1,"], "127.0.0.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
        ] {
            let found =
                client_address(peer.parse().unwrap(), &trusted, lines.iter().map(|line| line.as_bytes()));
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
        }
    }
}
