//! Page origins and names of this server, as settings define them and requests contain them.

use std::net::{IpAddr, Ipv6Addr};

/// The origin of a page: scheme and authority (RFC 6454), in lower case and without the scheme's default port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOrigin(String);

impl WebOrigin {
    /// Parses `https://shop.example`, optionally with a trailing slash. `None` for anything else, including `null` and
    /// `*`.
    #[must_use]
    pub fn parse(text: &str) -> Option<WebOrigin> {
        let text = text.trim().to_ascii_lowercase();
        let text = text.strip_suffix('/').unwrap_or(&text);
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        let is_named = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
        if !is_named || !scheme.bytes().all(is_scheme) || !is_authority(authority) {
            return None;
        }
        let authority = without_own_port(scheme.as_bytes(), authority.as_bytes());
        Some(WebOrigin(format!("{scheme}://{}", String::from_utf8_lossy(authority))))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the host, and the port if it is not the scheme's default.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.0.split_once("://").map_or("", |(_, authority)| authority)
    }

    /// Returns `true` if an `Origin` header names this origin.
    #[must_use]
    pub fn is(&self, origin: &[u8]) -> bool {
        self.0.as_bytes().eq_ignore_ascii_case(origin)
    }

    /// Returns `true` if a `Host` header names this origin's authority.
    #[must_use]
    pub fn is_served_as(&self, host: &[u8]) -> bool {
        let (scheme, authority) = self.0.split_once("://").unwrap_or_default();
        without_own_port(scheme.as_bytes(), host).eq_ignore_ascii_case(authority.as_bytes())
    }
}

/// Returns `true` if an `Origin` header has the same authority as a `Host` header. The page then came from this
/// server.
#[must_use]
pub fn is_same_authority(origin: &[u8], host: &[u8]) -> bool {
    let Some(at) = memchr::memmem::find(origin, b"://") else { return false };
    let (scheme, authority) = (&origin[..at], &origin[at + 3..]);
    let bare = |authority| without_own_port(scheme, authority);
    !authority.is_empty() && bare(authority).eq_ignore_ascii_case(bare(host))
}

/// Removes the scheme's default port.
fn without_own_port<'a>(scheme: &[u8], authority: &'a [u8]) -> &'a [u8] {
    let port: &[u8] = match scheme {
        scheme if scheme.eq_ignore_ascii_case(b"http") => b":80",
        scheme if scheme.eq_ignore_ascii_case(b"https") => b":443",
        _ => return authority,
    };
    authority.strip_suffix(port).unwrap_or(authority)
}

/// Returns `true` for a name, an IPv4 address or an IPv6 address in brackets, optionally with a port.
fn is_authority(text: &str) -> bool {
    let (host, port) = split_port(text.as_bytes());
    let is_port = port.is_none_or(|port| {
        std::str::from_utf8(port).is_ok_and(|port| !port.starts_with('+') && port.parse::<u16>().is_ok())
    });
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    is_port && !host.is_empty() && (is_bracketed(host) || host.iter().all(is_name))
}

/// Splits an authority into host and port.
fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memrchr(b':', authority) {
        // The colons of an IPv6 address are in brackets.
        Some(at) if !authority[at..].contains(&b']') => (&authority[..at], Some(&authority[at + 1..])),
        _ => (authority, None),
    }
}

fn is_bracketed(host: &[u8]) -> bool {
    let address = host.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")).unwrap_or_default();
    std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// Returns `true` if a `Host` header is safe from DNS rebinding: an address, or a local name of this machine.
#[must_use]
pub fn is_safe_host(host: &[u8]) -> bool {
    let (name, _) = split_port(host);
    let name = name.strip_suffix(b".").unwrap_or(name);
    const LOOPBACK: &[u8] = b"localhost";
    let is_loopback = name.len() >= LOOPBACK.len() && {
        let (front, end) = name.split_at(name.len() - LOOPBACK.len());
        end.eq_ignore_ascii_case(LOOPBACK) && (front.is_empty() || front.ends_with(b"."))
    };
    is_loopback
        || is_bracketed(name)
        || std::str::from_utf8(name).is_ok_and(|name| matches!(name.parse::<IpAddr>(), Ok(IpAddr::V4(_))))
}

/// A host name of this server. If it has a port, it matches only that port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    #[must_use]
    pub fn parse(text: &str) -> Option<HostName> {
        let text = text.trim().to_ascii_lowercase();
        is_authority(&text).then_some(HostName(text))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns `true` if a `Host` header is this name.
    #[must_use]
    pub fn is(&self, host: &[u8]) -> bool {
        let (name, port) = split_port(host);
        let name = name.strip_suffix(b".").unwrap_or(name);
        let (own, own_port) = split_port(self.0.as_bytes());
        own.eq_ignore_ascii_case(name) && own_port.is_none_or(|own| port == Some(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_as_browsers_write_it() {
        for (text, written, authority) in [
            ("https://shop.example", "https://shop.example", "shop.example"),
            ("HTTPS://Shop.Example:443/", "https://shop.example", "shop.example"),
            ("http://10.0.0.1:8000", "http://10.0.0.1:8000", "10.0.0.1:8000"),
            ("http://[::1]:80", "http://[::1]", "[::1]"),
            ("capacitor://localhost", "capacitor://localhost", "localhost"),
        ] {
            let origin = WebOrigin::parse(text).unwrap();
            assert_eq!((origin.as_str(), origin.authority()), (written, authority), "{text}");
            assert!(origin.is(written.as_bytes()) && origin.is_served_as(authority.as_bytes()));
            assert_eq!(WebOrigin::parse(origin.as_str()), Some(origin));
        }
        for text in [
            "",
            "null",
            "*",
            "shop.example",
            "https://",
            "https://a/b",
            "https://a b",
            "https://u@a",
            "https://a:x",
            "https://a:+1",
            "https://a:99999",
            "https://[::x]",
            "https://*.a",
            "://a",
            "https://a?b",
        ] {
            assert_eq!(WebOrigin::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_page_is_of_this_server_where_origin_and_host_agree() {
        for (origin, host, agrees) in [
            ("http://127.0.0.1:8000", "127.0.0.1:8000", true),
            ("https://Shop.example", "shop.EXAMPLE", true),
            ("https://shop.example", "shop.example:443", true),
            ("http://shop.example", "shop.example:80", true),
            ("http://shop.example", "shop.example:443", false),
            ("http://127.0.0.1:8001", "127.0.0.1:8000", false),
            ("http://a.shop.example", "shop.example", false),
            ("http://shop.example.evil", "shop.example", false),
            ("null", "null", false),
            ("", "", false),
            ("http://", "", false),
        ] {
            assert_eq!(is_same_authority(origin.as_bytes(), host.as_bytes()), agrees, "{origin} {host}");
        }
    }

    #[test]
    fn a_host_that_others_could_point_here_is_not_safe() {
        for host in [
            "127.0.0.1",
            "10.1.2.3:8000",
            "[::1]",
            "[fe80::1]:8000",
            "localhost",
            "LocalHost:8000",
            "localhost.",
            "a.localhost:1",
            "localhost:",
        ] {
            assert!(is_safe_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":8000",
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "notlocalhost",
            "localhost.evil.example",
            "127.1",
            "0x7f.1",
            "::1",
            "[::1",
            "[evil.example]",
            "2130706433",
        ] {
            assert!(!is_safe_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn an_allowed_name_counts_at_every_port_unless_it_names_one() {
        let (any, one) = (HostName::parse("Events.internal").unwrap(), HostName::parse("a:8000").unwrap());
        for host in ["events.internal", "EVENTS.internal:9", "events.internal."] {
            assert!(any.is(host.as_bytes()), "{host}");
        }
        assert!(!any.is(b"x.events.internal") && !any.is(b"events"));
        assert!(one.is(b"a:8000") && !one.is(b"a") && !one.is(b"a:80"));
        for text in ["", "a/b", "*", "http://a", "a,b", "a b", "a:", "a:b"] {
            assert_eq!(HostName::parse(text), None, "{text:?}");
        }
    }
}
