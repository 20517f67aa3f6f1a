//! The promises of the journal, and the helpers of their tests.

mod damage;
mod life;
mod model;
mod outside;
mod promises;
mod threads;

use std::path::Path;

use super::{Appender, Batch, Options, Reader, Recovered, open};
use crate::base::ids::{LaneId, Sequence};
use crate::base::kinds::Kind;

const LANE: LaneId = LaneId(2);

fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, bytes_max: 1 << 30 }
}

fn reopen(dir: &Path, segment_bytes: u64) -> (Appender, Reader, Recovered) {
    open(dir, LANE, None, &options(segment_bytes)).unwrap()
}

/// Commits each payload as a separate tick.
fn append(appender: &mut Appender, payloads: &[&[u8]]) {
    for payload in payloads {
        appender.stage(Kind::new(1), &[payload]);
        appender.commit().unwrap();
    }
}

/// Reads every record, in small batches.
fn drain(reader: &mut Reader) -> Vec<(u64, Vec<u8>)> {
    let mut batch = Batch::new();
    let mut all = Vec::new();
    while reader.read(&mut batch, 3, 100).unwrap() > 0 {
        assert_eq!(batch.records().count(), batch.len());
        assert_eq!(batch.records().last().map(|record| record.sequence), batch.last());
        all.extend(batch.records().map(|record| (record.sequence.0, record.payload.to_vec())));
    }
    all
}

fn numbered(payloads: &[&[u8]]) -> Vec<(u64, Vec<u8>)> {
    payloads.iter().enumerate().map(|(index, payload)| (index as u64 + 1, payload.to_vec())).collect()
}

fn seek(reader: &mut Reader, applied: u64) -> Option<(u64, u64)> {
    reader.seek(Sequence(applied)).unwrap().map(|gap| (gap.expected.0, gap.found.0))
}
