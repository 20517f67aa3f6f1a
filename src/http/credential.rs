//! A request's key, from `Authorization: Bearer` or `X-API-Key`: extracted, not checked.

/// The key in a request's header lines. A key in the query string is ignored, because it would appear in logs and
/// histories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credential<'b> {
    #[default]
    Absent,
    /// The text of the key. If it was given several times, all were equal.
    Key(&'b str),
    /// Several different keys, or bytes other than visible ASCII.
    Unusable,
}

impl<'b> Credential<'b> {
    /// Adds an `Authorization` line (RFC 6750 §2.1). Schemes other than `Bearer` are ignored, because they may be
    /// meant for a proxy.
    #[must_use]
    pub fn and_authorization(self, value: &'b [u8]) -> Credential<'b> {
        let end = value.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(value.len());
        let (scheme, rest) = value.split_at(end);
        if scheme.eq_ignore_ascii_case(b"bearer") { self.and_key(rest) } else { self }
    }

    /// Adds an `X-API-Key` line.
    #[must_use]
    pub fn and_key(self, value: &'b [u8]) -> Credential<'b> {
        let value = value.trim_ascii();
        let text = match std::str::from_utf8(value) {
            Ok(text) if !text.is_empty() && value.iter().all(u8::is_ascii_graphic) => text,
            _ => return Credential::Unusable,
        };
        match self {
            Credential::Absent => Credential::Key(text),
            Credential::Key(known) if known == text => self,
            _ => Credential::Unusable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_come_either_way_but_only_one() {
        let none = Credential::default();
        let key = Credential::Key("fh_1");
        for value in ["Bearer fh_1", "bearer fh_1", "BEARER   fh_1 ", "Bearer\tfh_1"] {
            assert_eq!(none.and_authorization(value.as_bytes()), key, "{value}");
        }
        assert_eq!(none.and_key(b" fh_1 "), key);
        assert_eq!(key.and_authorization(b"Bearer fh_1"), key);
        assert_eq!(key.and_key(b"fh_2"), Credential::Unusable);
        assert_eq!(Credential::Unusable.and_key(b"fh_1"), Credential::Unusable);
        for value in ["Basic dXNlcjpwYXNz", "Bearerfh_1", "", "fh_1"] {
            assert_eq!(none.and_authorization(value.as_bytes()), none, "{value}");
            assert_eq!(key.and_authorization(value.as_bytes()), key, "{value}");
        }
        for value in [&b"Bearer"[..], b"Bearer ", b"Bearer a b", b"Bearer \xff", b"Bearer \xc3\xa9"] {
            assert_eq!(none.and_authorization(value), Credential::Unusable, "{value:?}");
        }
    }
}
