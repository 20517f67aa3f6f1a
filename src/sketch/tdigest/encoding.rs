//! The bytes of a [`TDigest`].
//!
//! ```text
//! 03  flags (one byte)  compression  centroids  then, unless there are none:
//! shift (one byte)  least value if flag 1  greatest value if flag 2  total weight unless flag 4
//! for each centroid in order: key - previous key, weight unless flag 4 (every weight is 1)
//! ```
//! Numbers are varints. A key is `key.rs` of the mean without its last `shift` bits. Single values lose no bits that
//! distinguish them. Means of several values lose the bits beyond 24 bits of mantissa, or fewer if means are close
//! together. The least and greatest value are stored as their bits, last byte first (amounts of money have zeros
//! there), and omitted if they equal the first or the last centroid.

use super::key::{key_of, value_of};
use super::{COUNT_MAX, Centroid, TDigest, VALUE_MAX};
use crate::sketch::error::SketchError;
use crate::sketch::reader::{Reader, write_varint};

const KIND: u8 = 3;
const MIN_IS_APART: u8 = 1;
const MAX_IS_APART: u8 = 2;
const ALL_SINGLE: u8 = 4;

/// Maximum number of bits dropped from a mean of several values; 23 and the implied one remain.
const MEAN_SHIFT_MAX: u32 = 29;
/// Nine of ten neighbours are at least 2^7 steps apart. A step is the unit to which the mean of several values may be
/// rounded.
const GAP_STEPS_BITS: u32 = 7;

impl TDigest {
    /// Appends the digest's bytes: about 3 per value for up to `compression` values, and 5 per centroid for more.
    /// It needs `mut` because it sorts the centroids, and clusters them if there are more than `compression`, which
    /// takes 10 ns per centroid.
    pub fn encode(&mut self, into: &mut Vec<u8>) {
        self.sort();
        if self.centroids.len() > usize::from(self.compression) {
            self.cluster(self.compression);
        }
        let all_single = self.centroids.iter().all(|centroid| centroid.weight == 1);
        let min_is_apart =
            self.centroids.first().is_some_and(|first| first.mean != self.min || first.weight > 1);
        let max_is_apart = self.centroids.last().is_some_and(|last| last.mean != self.max || last.weight > 1);
        let flags = [(min_is_apart, MIN_IS_APART), (max_is_apart, MAX_IS_APART), (all_single, ALL_SINGLE)];
        into.push(KIND);
        into.push(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum());
        write_varint(u64::from(self.compression), into);
        write_varint(self.centroids.len() as u64, into);
        if self.centroids.is_empty() {
            return;
        }
        let shift = self.shift(all_single);
        into.push(shift as u8);
        if min_is_apart {
            write_varint(self.min.to_bits().swap_bytes(), into);
        }
        if max_is_apart {
            write_varint(self.max.to_bits().swap_bytes(), into);
        }
        if !all_single {
            write_varint(self.count, into);
        }
        let half_step = 1 << shift >> 1;
        let mut last_key = 0;
        for centroid in &self.centroids {
            // Rounds to the nearest step. Single values have no bits below a step. The addition cannot overflow (see
            // VALUE_MAX).
            let key = (key_of(centroid.mean) + half_step) >> shift;
            write_varint(key - last_key, into);
            last_key = key;
            if !all_single {
                write_varint(centroid.weight, into);
            }
        }
    }

    /// Returns the number of bits to drop from the keys.
    fn shift(&self, all_single: bool) -> u32 {
        let singles = self.centroids.iter().filter(|centroid| centroid.weight == 1);
        let exact = singles.map(|centroid| key_of(centroid.mean).trailing_zeros()).min().unwrap_or(63);
        if all_single {
            return exact;
        }
        let pairs = self.centroids.windows(2).map(|pair| key_of(pair[1].mean) - key_of(pair[0].mean));
        let mut gaps: Vec<u64> = pairs.filter(|gap| *gap > 0).collect();
        if gaps.is_empty() {
            return 0;
        }
        let tenth = gaps.len() / 10;
        let (_, narrow, _) = gaps.select_nth_unstable(tenth);
        exact.min(narrow.ilog2().saturating_sub(GAP_STEPS_BITS)).min(MEAN_SHIFT_MAX)
    }

    /// Decodes a digest that [`TDigest::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<TDigest, SketchError> {
        let head = Head::read(&mut Reader(bytes))?;
        let mut digest = TDigest::new(head.compression);
        digest.centroids.reserve_exact(head.centroids);
        digest.merge_encoded(bytes)?;
        digest.sorted = digest.centroids.len();
        Ok(digest)
    }

    /// Merges an encoded digest without decoding it first. Changes nothing if the bytes are invalid. The compression
    /// does not change. Takes about 20 ns per centroid, most of it for sorting many digests at once.
    pub fn merge_encoded(&mut self, bytes: &[u8]) -> Result<(), SketchError> {
        let mut reader = Reader(bytes);
        let head = Head::read(&mut reader)?;
        if head.centroids == 0 {
            return reader.end();
        }
        self.make_room(head.centroids);
        let len_before = self.centroids.len();
        let read = self.append(&head, reader).and_then(|body| Ok((self.count_with(body.count)?, body)));
        match read {
            Ok((count, body)) => {
                self.count = count;
                self.min = self.min.min(body.min);
                self.max = self.max.max(body.max);
                // Encoded centroids are in order.
                if len_before == 0 {
                    self.sorted = self.centroids.len();
                }
                Ok(())
            }
            Err(error) => {
                self.centroids.truncate(len_before);
                Err(error)
            }
        }
    }

    /// Appends the centroids of another digest and returns the rest of it.
    fn append(&mut self, head: &Head, mut reader: Reader<'_>) -> Result<Body, SketchError> {
        let shift = u32::from(reader.byte()?);
        if shift >= u64::BITS {
            return Err(SketchError::Damaged("keys without bits"));
        }
        let mut end = |flag| match head.flags & flag {
            0 => Ok(None),
            _ => reader.varint().map(|bits| Some(f64::from_bits(bits.swap_bytes()))),
        };
        let (min, max) = (end(MIN_IS_APART)?, end(MAX_IS_APART)?);
        let all_single = head.flags & ALL_SINGLE != 0;
        let count = match all_single {
            true => head.centroids as u64,
            false => reader.varint()?,
        };
        let len_before = self.centroids.len();
        let lowest = (key_of(-VALUE_MAX) + ((1 << shift) - 1)) >> shift;
        let highest = key_of(VALUE_MAX) >> shift;
        let (mut key, mut left) = (0_u64, count);
        for _ in 0..head.centroids {
            key = key.saturating_add(reader.varint()?);
            let weight = if all_single { 1 } else { reader.varint()? };
            // Each weight is at least 1, and their sum is the total.
            if weight == 0 || !(lowest..=highest).contains(&key) {
                return Err(SketchError::Damaged("a centroid out of range"));
            }
            left = left.checked_sub(weight).ok_or(SketchError::Damaged("weights above their total"))?;
            self.centroids.push(Centroid { mean: value_of(key << shift), weight });
        }
        reader.end()?;
        if left > 0 || count > COUNT_MAX {
            return Err(SketchError::Damaged("weights below their total, or too great a total"));
        }
        let centroids = &mut self.centroids[len_before..];
        let mean_of = |centroid: Option<&Centroid>| centroid.map_or(f64::NAN, |centroid| centroid.mean);
        let body = Body::new(
            min.unwrap_or(mean_of(centroids.first())),
            max.unwrap_or(mean_of(centroids.last())),
            count,
        )?;
        // Rounding may have moved a mean outside the range.
        let below = centroids.iter_mut().take_while(|centroid| centroid.mean < body.min);
        below.for_each(|centroid| centroid.mean = body.min);
        let above = centroids.iter_mut().rev().take_while(|centroid| centroid.mean > body.max);
        above.for_each(|centroid| centroid.mean = body.max);
        Ok(body)
    }
}

struct Head {
    flags: u8,
    compression: u16,
    /// The number of centroids, at most `compression`.
    centroids: usize,
}

impl Head {
    fn read(reader: &mut Reader<'_>) -> Result<Head, SketchError> {
        let kind = reader.byte()?;
        if kind != KIND {
            return Err(SketchError::Kind(kind));
        }
        let flags = reader.byte()?;
        let (compression, centroids) = (reader.varint()?, reader.varint()?);
        let compression =
            u16::try_from(compression).ok().filter(|it| TDigest::COMPRESSION_RANGE.contains(it));
        let compression = compression.ok_or(SketchError::Damaged("a compression out of range"))?;
        if flags > MIN_IS_APART | MAX_IS_APART | ALL_SINGLE {
            return Err(SketchError::Damaged("unknown flags"));
        }
        if centroids > u64::from(compression) {
            return Err(SketchError::Damaged("more centroids than the compression"));
        }
        Ok(Head { flags, compression, centroids: centroids as usize })
    }
}

struct Body {
    min: f64,
    max: f64,
    count: u64,
}

impl Body {
    fn new(min: f64, max: f64, count: u64) -> Result<Body, SketchError> {
        let range = -VALUE_MAX..=VALUE_MAX;
        match range.contains(&min) && range.contains(&max) && min <= max {
            true => Ok(Body { min, max, count }),
            false => Err(SketchError::Damaged("no least or greatest value")),
        }
    }
}
