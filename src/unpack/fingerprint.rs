//! BLAKE3 (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020) over rows. The rows are gathered in a buffer, so that the
//! hash can use vector instructions.

/// The size of the buffer. The hash processes aligned pieces of 16 KiB in parallel. Hashing line by line would take
/// more than twice the time.
pub(super) const GATHER_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Fingerprint {
    hasher: blake3::Hasher,
    gathered: Vec<u8>,
}

impl Fingerprint {
    pub(super) fn new() -> Fingerprint {
        Fingerprint { hasher: blake3::Hasher::new(), gathered: Vec::new() }
    }

    #[inline]
    pub(super) fn add(&mut self, bytes: &[u8]) {
        // The comparison is strict, because a full buffer is hashed.
        if bytes.len() < GATHER_BYTES - self.gathered.len() {
            self.gathered.extend_from_slice(bytes);
        } else {
            self.add_beyond(bytes);
        }
    }

    fn add_beyond(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(GATHER_BYTES - self.gathered.len());
        self.gathered.extend_from_slice(first);
        self.hasher.update(&self.gathered);
        self.gathered.clear();
        let (whole, rest) = rest.split_at(rest.len() / GATHER_BYTES * GATHER_BYTES);
        self.hasher.update(whole);
        self.gathered.extend_from_slice(rest);
    }

    /// Returns the memory of the buffer, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.gathered.capacity()
    }

    /// Returns the hash of everything added so far.
    pub(super) fn value(&self) -> [u8; 32] {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.gathered);
        *hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_blake3_of_the_bytes_however_they_come() {
        let bytes: Vec<u8> = (0..400_000_u32).map(|index| (index % 251) as u8).collect();
        for piece in [1, 7, 300, 65_535, 65_536, 65_537, 200_000, 400_000] {
            let mut fingerprint = Fingerprint::new();
            for (index, piece) in bytes.chunks(piece).enumerate() {
                fingerprint.add(piece);
                // Reading the value changes nothing.
                if index % 1000 == 0 {
                    fingerprint.value();
                }
            }
            assert_eq!(fingerprint.value(), *blake3::hash(&bytes).as_bytes(), "{piece}");
        }
    }
}
