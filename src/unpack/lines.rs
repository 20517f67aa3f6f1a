//! Splits decoded bytes into lines. A line is borrowed if it is within one block, and copied if it spans blocks.

use std::ops::Range;

use memchr::memchr;

use super::fingerprint::Fingerprint;

/// The length of the part that is returned if a line is too long.
const CUT_BYTES: usize = 256;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Position of a line.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) range: Range<usize>,
    /// Set if the line is in the bytes carried over from earlier blocks. Otherwise, it is in the block.
    pub(super) is_carried: bool,
    pub(super) is_too_long: bool,
}

#[derive(Debug)]
pub(super) struct Lines {
    line_bytes_max: usize,
    /// The current line's bytes from earlier blocks. For a long line, only its first bytes.
    carry: Vec<u8>,
    /// Set once `carry` has been returned.
    is_carry_done: bool,
    long: Option<Long>,
    /// Set while the line is the first of its stream, so a byte order mark may precede it.
    is_first: bool,
    lines: u64,
    /// Bytes processed.
    passed_bytes: u64,
    /// Bytes up to the end of the last complete line.
    whole_bytes: u64,
    fingerprint: Option<Fingerprint>,
}

/// A line beyond the limit, while its rest is skipped.
#[derive(Clone, Copy, Debug)]
struct Long {
    /// Set if the line's last byte so far is a CR. The CR belongs to the line only if no LF follows.
    holds_cr: bool,
}

impl Lines {
    pub(super) fn new(line_bytes_max: usize) -> Lines {
        Lines {
            line_bytes_max,
            carry: Vec::new(),
            is_carry_done: false,
            long: None,
            is_first: true,
            lines: 0,
            passed_bytes: 0,
            whole_bytes: 0,
            fingerprint: Some(Fingerprint::new()),
        }
    }

    /// Resumes a stream after `lines` lines and `bytes` bytes, without a fingerprint.
    pub(super) fn resumed(line_bytes_max: usize, lines: u64, bytes: u64) -> Lines {
        Lines {
            is_first: bytes == 0,
            lines,
            passed_bytes: bytes,
            whole_bytes: bytes,
            fingerprint: None,
            ..Lines::new(line_bytes_max)
        }
    }

    /// Returns the number of lines that have ended, including blank ones.
    pub(super) fn count(&self) -> u64 {
        self.lines
    }

    /// Returns the number of bytes up to the end of the last complete line.
    pub(super) fn whole_bytes(&self) -> u64 {
        self.whole_bytes
    }

    pub(super) fn fingerprint(&self) -> Option<[u8; 32]> {
        self.fingerprint.as_ref().map(Fingerprint::value)
    }

    /// Returns the bytes of a line whose [`Found::is_carried`] is set.
    pub(super) fn carried(&self) -> &[u8] {
        &self.carry
    }

    /// Returns the memory held for a line and for hashing.
    pub(super) fn memory_bytes(&self) -> usize {
        self.carry.capacity() + self.fingerprint.as_ref().map_or(0, Fingerprint::memory_bytes)
    }

    /// Returns the memory held for a line.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.carry.capacity()
    }

    /// Returns the next line from `at` on, and advances `at`. Returns `None` at the end of the block.
    pub(super) fn pull(&mut self, block: &[u8], at: &mut usize) -> Option<Found> {
        self.let_go();
        while *at < block.len() {
            let start = *at;
            let rest = &block[start..];
            let Some(length) = memchr(b'\n', rest) else {
                *at = block.len();
                self.passed_bytes += rest.len() as u64;
                self.keep(rest);
                return None;
            };
            *at += length + 1;
            self.passed_bytes += length as u64 + 1;
            let found = if self.has_begun() {
                self.keep(&rest[..length]);
                self.close()
            } else {
                self.whole(&rest[..=length], start)
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Ends the stream and its last line.
    pub(super) fn end_text(&mut self) -> Option<Found> {
        self.let_go();
        let found = if self.has_begun() { self.close() } else { None };
        self.is_first = true;
        self.whole_bytes = self.passed_bytes;
        found
    }

    /// Returns `true` if the current line began in an earlier block.
    fn has_begun(&self) -> bool {
        !self.carry.is_empty() || self.long.is_some()
    }

    fn let_go(&mut self) {
        if self.is_carry_done {
            self.is_carry_done = false;
            self.carry.clear();
        }
    }

    /// Processes a line that is entirely in the block, with its LF.
    #[inline]
    fn whole(&mut self, line: &[u8], start: usize) -> Option<Found> {
        let content = content(&line[..line.len() - 1], self.is_first);
        self.begin_next();
        let is_too_long = content.len() > self.line_bytes_max;
        if !is_too_long && is_blank(&line[content.clone()]) {
            return None;
        }
        if let Some(fingerprint) = &mut self.fingerprint {
            if content.end + 1 == line.len() {
                fingerprint.add(&line[content.start..]);
            } else {
                fingerprint.add(&line[content.clone()]);
                fingerprint.add(b"\n");
            }
        }
        let length = if is_too_long { self.cut_bytes() } else { content.len() };
        let start = start + content.start;
        Some(Found { range: start..start + length, is_carried: false, is_too_long })
    }

    /// Ends the line that was carried over.
    fn close(&mut self) -> Option<Found> {
        let content = content(&self.carry, self.is_first && self.long.is_none());
        let is_too_long = self.long.is_some() || content.len() > self.line_bytes_max;
        if self.long.take().is_some() {
            // The line's bytes are already hashed, and only its beginning is in `carry`.
            self.begin_next();
            self.hash(0..0);
            self.is_carry_done = true;
            return Some(Found { range: 0..self.carry.len(), is_carried: true, is_too_long });
        }
        self.begin_next();
        if !is_too_long && is_blank(&self.carry[content.clone()]) {
            self.carry.clear();
            return None;
        }
        self.hash(content.clone());
        self.is_carry_done = true;
        let length = if is_too_long { self.cut_bytes() } else { content.len() };
        Some(Found { range: content.start..content.start + length, is_carried: true, is_too_long })
    }

    /// Hashes a part of the carried line, followed by LF.
    fn hash(&mut self, part: Range<usize>) {
        if let Some(fingerprint) = &mut self.fingerprint {
            fingerprint.add(&self.carry[part]);
            fingerprint.add(b"\n");
        }
    }

    fn begin_next(&mut self) {
        self.is_first = false;
        self.lines += 1;
        self.whole_bytes = self.passed_bytes;
    }

    fn cut_bytes(&self) -> usize {
        CUT_BYTES.min(self.line_bytes_max)
    }

    /// Carries over a part of a line, at most the limit plus 4 bytes.
    fn keep(&mut self, piece: &[u8]) {
        if let Some(long) = self.long {
            self.long = Some(self.skip(piece, long));
            return;
        }
        let mark = if self.is_first { BYTE_ORDER_MARK.len() } else { 0 };
        let kept_bytes_max = self.line_bytes_max.saturating_add(1 + mark);
        let (begin, rest) = piece.split_at(piece.len().min(kept_bytes_max - self.carry.len()));
        let length = self.carry.len() + begin.len();
        if length > self.carry.capacity() {
            let capacity = kept_bytes_max.min(length.max(self.carry.capacity() * 2));
            self.carry.reserve_exact(capacity - self.carry.len());
        }
        self.carry.extend_from_slice(begin);
        if rest.is_empty() {
            return;
        }
        // The line is too long, no matter what follows. A byte order mark is entirely in the carry.
        let mut carry = std::mem::take(&mut self.carry);
        carry.drain(..content(&carry, self.is_first).start);
        let long = self.skip(&carry, Long { holds_cr: false });
        self.long = Some(self.skip(rest, long));
        carry.truncate(self.cut_bytes());
        self.carry = carry;
    }

    /// Hashes a part of a long line, without a trailing CR, which may belong to the line end.
    fn skip(&mut self, piece: &[u8], long: Long) -> Long {
        let (Some(last), Some(fingerprint)) = (piece.last(), &mut self.fingerprint) else { return long };
        if long.holds_cr {
            fingerprint.add(b"\r");
        }
        let holds_cr = *last == b'\r';
        fingerprint.add(&piece[..piece.len() - usize::from(holds_cr)]);
        Long { holds_cr }
    }
}

/// Returns the range of a line without its byte order mark and its trailing CR.
fn content(line: &[u8], is_first: bool) -> Range<usize> {
    let start = if is_first && line.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let has_cr = line.len() > start && line.ends_with(b"\r");
    start..line.len() - usize::from(has_cr)
}

/// Returns `true` if a line contains only JSON whitespace.
fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}
