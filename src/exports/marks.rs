//! The side file `marks`: the end of each block of an export's file, and the orders in the block.
//!
//! A record describes a run of one shard's orders. A block consists of the records up to the first one at which the
//! file grows. A block of text has one record. A Parquet row group has one record for each shard with orders in it.
//! The file's head is a block without orders. A checkpoint contains the number of bytes of the records and their
//! digest.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Take};
use std::ops::Range;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::record::Checkpoint;
use crate::base::ids::hex;

const MARK_BYTES: usize = 40;
/// The shard number in a record without orders.
const NO_SHARD: u32 = u32::MAX;
const BUFFER_BYTES: usize = 64 * 1024;

/// One record. Every number except `shard` is a total from the start of the file to the end of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    /// The shard's index, not its id.
    shard: u32,
    orders: u64,
    rows: u64,
    /// The number of bytes in the file.
    bytes: u64,
    /// The number of bytes in the side file.
    beside: u64,
}

impl Mark {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&u64::from(self.shard).to_le_bytes());
        for number in [self.orders, self.rows, self.bytes, self.beside] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn read(record: &[u8; MARK_BYTES]) -> Mark {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| record[at * 8 + byte]));
        Mark {
            shard: number(0) as u32,
            orders: number(1),
            rows: number(2),
            bytes: number(3),
            beside: number(4),
        }
    }
}

/// Returns the records to append for a block: one for the end of each run, or one without orders if there are no
/// runs. A run belongs to one shard. The rows, bytes and side-file bytes are those that the block adds.
pub(super) fn marks_of(
    before: &Checkpoint,
    runs: &[(u32, u64)],
    (rows, bytes, beside): (u64, u64, u64),
) -> Vec<u8> {
    let runs = if runs.is_empty() { &[(NO_SHARD, before.orders)] } else { runs };
    let mut out = Vec::with_capacity(runs.len() * MARK_BYTES);
    for (at, (shard, orders)) in runs.iter().enumerate() {
        let (shard, orders) = (*shard, *orders);
        let mut mark = Mark { shard, orders, rows: before.rows, bytes: before.bytes, beside: before.beside };
        if at + 1 == runs.len() {
            mark.rows += rows;
            mark.bytes += bytes;
            mark.beside += beside;
        }
        mark.write(&mut out);
    }
    out
}

/// Consecutive orders of one shard, as indexes into the selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) shard: u32,
    pub(super) places: Range<u64>,
}

/// The part of the file that one append wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) runs: Vec<Run>,
    pub(super) orders: Range<u64>,
    pub(super) rows: Range<u64>,
    pub(super) bytes: Range<u64>,
    pub(super) beside: Range<u64>,
}

/// A reader of the blocks, one at a time, in file order.
#[derive(Debug)]
pub(super) struct Blocks {
    records: BufReader<Take<File>>,
    at: Mark,
}

impl Blocks {
    /// Opens the records that the checkpoint covers. Returns `None` if the file has other records, or if the
    /// checkpoint covers none.
    pub(super) fn open(path: &Path, checkpoint: &Checkpoint) -> io::Result<Option<Blocks>> {
        let open = || File::open(path).map(|file| file.take(checkpoint.marks));
        if checkpoint.marks == 0 {
            return Ok(None);
        }
        let mut records = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            records => records?,
        };
        let (mut digest, mut part, mut bytes) = (Sha256::new(), vec![0; BUFFER_BYTES], 0);
        loop {
            match records.read(&mut part)? {
                0 => break,
                count => {
                    digest.update(&part[..count]);
                    bytes += count as u64;
                }
            }
        }
        if bytes != checkpoint.marks || hex(&digest.finalize()) != checkpoint.marks_digest {
            return Ok(None);
        }
        Ok(Some(Blocks { records: BufReader::with_capacity(BUFFER_BYTES, open()?), at: Mark::default() }))
    }

    fn record(&mut self) -> io::Result<Option<Mark>> {
        let mut record = [0; MARK_BYTES];
        match self.records.read_exact(&mut record) {
            Ok(()) => Ok(Some(Mark::read(&record))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn block(&mut self) -> io::Result<Option<Block>> {
        let (start, mut end, mut runs) = (self.at, self.at, Vec::new());
        while let Some(mark) = self.record()? {
            if mark.orders < end.orders || mark.bytes < end.bytes || mark.beside < end.beside {
                return Err(io::Error::other("the marks of an export go backwards"));
            }
            if mark.orders > end.orders {
                runs.push(Run { shard: mark.shard, places: end.orders..mark.orders });
            }
            end = mark;
            if end.bytes > start.bytes {
                break;
            }
        }
        self.at = end;
        if runs.is_empty() && end.bytes == start.bytes {
            return Ok(None);
        }
        Ok(Some(Block {
            runs,
            orders: start.orders..end.orders,
            rows: start.rows..end.rows,
            bytes: start.bytes..end.bytes,
            beside: start.beside..end.beside,
        }))
    }
}

impl Iterator for Blocks {
    type Item = io::Result<Block>;

    fn next(&mut self) -> Option<io::Result<Block>> {
        self.block().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_as_they_were_written_and_damaged_ones_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marks");
        let marks = [
            Mark { shard: NO_SHARD, orders: 0, rows: 0, bytes: 4, beside: 0 },
            Mark { shard: 0, orders: 3, rows: 0, bytes: 4, beside: 0 },
            Mark { shard: 2, orders: 5, rows: 9, bytes: 40, beside: 7 },
            Mark { shard: 2, orders: 6, rows: 10, bytes: 41, beside: 9 },
        ];
        let mut written = Vec::new();
        marks.iter().for_each(|mark| mark.write(&mut written));
        let checkpoint = Checkpoint {
            marks: written.len() as u64,
            marks_digest: hex(&Sha256::digest(&written)),
            ..Checkpoint::default()
        };
        assert!(Blocks::open(&path, &checkpoint).unwrap().is_none(), "there is no such file");
        let length = written.len();
        // Bytes after the checkpoint are not read.
        written.extend_from_slice(&[7; 50]);
        std::fs::write(&path, &written).unwrap();
        let blocks: Vec<Block> =
            Blocks::open(&path, &checkpoint).unwrap().unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(blocks.len(), 3);
        assert_eq!((blocks[0].runs.len(), blocks[0].bytes.clone()), (0, 0..4));
        let runs = [Run { shard: 0, places: 0..3 }, Run { shard: 2, places: 3..5 }];
        assert_eq!(
            (&blocks[1].runs[..], blocks[1].rows.clone(), blocks[1].beside.clone()),
            (&runs[..], 0..9, 0..7)
        );
        assert_eq!((blocks[2].orders.clone(), blocks[2].bytes.clone()), (5..6, 40..41));
        written[length - 1] ^= 1;
        std::fs::write(&path, &written).unwrap();
        assert!(Blocks::open(&path, &checkpoint).unwrap().is_none());
    }
}
