//! A key's scopes, and sets of scopes.

use std::fmt;
use std::str::FromStr;

/// A permission of a key. Only `admin` includes other scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Append clicks and events, and nothing else, so that the key may be in a public page.
    Write = 1,
    /// Change the tenant's data: ingest of orders, uploads, order status, stock, prices, reviews.
    Manage = 8,
    /// Read rows, counts and reports.
    Read = 2,
    /// Everything.
    Admin = 4,
}

impl Scope {
    pub const ALL: [Scope; 4] = [Scope::Write, Scope::Manage, Scope::Read, Scope::Admin];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Write => "write",
            Scope::Manage => "manage",
            Scope::Read => "read",
            Scope::Admin => "admin",
        }
    }
}

/// A set of scopes, which is never empty. Its text form is, for example, `write,read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// All scopes: the access of every request if there are no keys.
    pub const ALL: Scopes =
        Scopes(Scope::Write as u8 | Scope::Manage as u8 | Scope::Read as u8 | Scope::Admin as u8);

    /// Returns `true` if the set permits this scope; `admin` permits all.
    #[must_use]
    pub const fn allows(self, scope: Scope) -> bool {
        self.0 & (scope as u8 | Scope::Admin as u8) != 0
    }

    /// Returns the union of two sets.
    #[must_use]
    pub const fn and(self, other: Scopes) -> Scopes {
        Scopes(self.0 | other.0)
    }

    /// Returns `true` if a key with these scopes may be in a public page.
    #[must_use]
    pub const fn is_public(self) -> bool {
        self.0 == Scope::Write as u8
    }

    /// Returns the scopes of the set, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & *scope as u8 != 0)
    }
}

/// The string contains no scope, or an unknown one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a list of scopes; use write, manage, read and admin, separated by commas")]
pub struct NoScopes(String);

impl FromStr for Scopes {
    type Err = NoScopes;

    fn from_str(text: &str) -> Result<Scopes, NoScopes> {
        let scope = |name: &str| Scope::ALL.into_iter().find(|scope| scope.name() == name.trim());
        text.split(',')
            .try_fold(0, |set, name| Some(set | scope(name)? as u8))
            .map(Scopes)
            .ok_or_else(|| NoScopes(text.to_owned()))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { "," }, scope.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_reads_back_as_written_and_admin_is_everything() {
        for text in ["write", "manage", "read", "admin", "write,read", "write,manage,read,admin"] {
            assert_eq!(text.parse::<Scopes>().unwrap().to_string(), text);
        }
        assert_eq!("read, write,read".parse::<Scopes>().unwrap().to_string(), "write,read");
        assert_eq!("read,write,manage".parse::<Scopes>().unwrap().to_string(), "write,manage,read");
        for text in ["", ",", "write,", "Write", "all", "write read"] {
            assert!(text.parse::<Scopes>().is_err(), "{text:?}");
        }
        let (write, admin): (Scopes, Scopes) = ("write".parse().unwrap(), "admin".parse().unwrap());
        for scope in Scope::ALL {
            let alone: Scopes = scope.name().parse().unwrap();
            let allowed: Vec<Scope> = Scope::ALL.into_iter().filter(|other| alone.allows(*other)).collect();
            let expected = if scope == Scope::Admin { Scope::ALL.to_vec() } else { vec![scope] };
            assert_eq!(allowed, expected);
            assert_eq!(alone.is_public(), scope == Scope::Write);
            assert_eq!(alone.and(write).is_public(), scope == Scope::Write);
        }
        assert!(Scope::ALL.into_iter().all(|scope| admin.allows(scope) && Scopes::ALL.allows(scope)));
    }
}
