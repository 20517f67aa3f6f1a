//! The form of a key: `fh_<id>_<secret>`, generated from the system's random bytes and stored as a hash.
//!
//! The secret is 32 random bytes, so one pass of BLAKE3 (O'Connor, Aumasson, Neves, Wilcox-O'Hearn 2020) suffices. Slow
//! password hashes protect against guessing, which is hopeless at 256 bits.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

use super::error::TenantsError;

/// The prefix of every key, for scanners that find leaked secrets.
const PREFIX: &str = "fh_";
/// 8 random bytes in hexadecimal.
const ID_BYTES: usize = 16;
/// 32 random bytes in base64url.
const SECRET_BYTES: usize = 43;

/// A key's id, which is not secret. It is written as 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(u64);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The string is not a key id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKeyId;

impl FromStr for KeyId {
    type Err = NotAKeyId;

    /// Parses a key id. The only accepted form is 16 lower-case hexadecimal digits.
    fn from_str(text: &str) -> Result<KeyId, NotAKeyId> {
        if text.len() != ID_BYTES {
            return Err(NotAKeyId);
        }
        text.bytes()
            .try_fold(0_u64, |id, byte| match byte {
                b'0'..=b'9' => Some(id << 4 | u64::from(byte - b'0')),
                b'a'..=b'f' => Some(id << 4 | u64::from(byte - b'a' + 10)),
                _ => None,
            })
            .map(KeyId)
            .ok_or(NotAKeyId)
    }
}

/// The stored hash of a secret.
#[derive(Clone, Copy)]
pub(super) struct SecretHash([u8; 32]);

impl SecretHash {
    fn of(secret: &str) -> SecretHash {
        SecretHash(*blake3::hash(secret.as_bytes()).as_bytes())
    }

    /// Creates a hash from stored bytes. Returns `None` if they are not a hash.
    pub(super) fn from_stored(bytes: &[u8]) -> Option<SecretHash> {
        bytes.try_into().ok().map(SecretHash)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Compares in constant time.
    pub(super) fn is(&self, other: &SecretHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

/// Parses a key, as sent by a client, into its two halves. Returns `None` if the text does not have the form of a
/// key. Computes one hash and allocates nothing.
pub(super) fn parse(text: &str) -> Option<(KeyId, SecretHash)> {
    let rest = text.strip_prefix(PREFIX)?;
    let (id, secret) = rest.split_at_checked(ID_BYTES)?;
    let secret = secret.strip_prefix('_')?;
    let is_secret = secret.len() == SECRET_BYTES
        && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !is_secret {
        return None;
    }
    Some((id.parse().ok()?, SecretHash::of(secret)))
}

/// A new key. Its text exists only here.
pub struct NewKey {
    pub id: KeyId,
    /// Shown to its owner once.
    pub text: String,
    pub(super) hash: SecretHash,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewKey({})", self.id)
    }
}

impl NewKey {
    /// Generates a key from the operating system's random bytes.
    pub(super) fn make() -> Result<NewKey, TenantsError> {
        let (mut id, mut secret) = ([0; 8], [0; 32]);
        getrandom::fill(&mut id).map_err(TenantsError::Random)?;
        getrandom::fill(&mut secret).map_err(TenantsError::Random)?;
        let id = KeyId(u64::from_be_bytes(id));
        let secret = URL_SAFE_NO_PAD.encode(secret);
        Ok(NewKey { id, hash: SecretHash::of(&secret), text: format!("{PREFIX}{id}_{secret}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_to_its_id_and_hash() {
        let key = NewKey::make().unwrap();
        assert_eq!(key.text.len(), 63);
        let (id, hash) = parse(&key.text).unwrap();
        assert!(id == key.id && hash.is(&key.hash));
        assert_eq!(key.id.to_string().parse(), Ok(key.id));
        let other = NewKey::make().unwrap();
        assert!(other.id != key.id && !other.hash.is(&key.hash));
        assert!(!format!("{key:?}{hash:?}").contains(&key.text[20..]));
    }

    #[test]
    fn text_of_another_form_is_no_key() {
        let key = NewKey::make().unwrap().text;
        for text in [
            "",
            "fh_",
            "fh__",
            &key[1..],
            &key[..62],
            &format!("{key}x"),
            &format!(" {key}"),
            &key.replacen("fh", "FH", 1),
            &key.replacen('_', "-", 2),
            &format!("fh_0123456789ABCDEF{}", &key[19..]),
            &format!("fh_01234567\u{e9}abcdef{}", &key[19..]),
            &format!("{}+", &key[..62]),
        ] {
            assert!(parse(text).is_none(), "{text:?}");
        }
    }
}
