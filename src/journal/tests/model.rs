//! A lane compared with a plain list of its expected content, through crashes, truncations, flipped bits and a full
//! disk.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::base::kinds::Kind;
use crate::journal::format::{HEADER_BYTES, RECORD_HEADER_BYTES, SYNCED_BYTES};
use crate::journal::{AppendError, segment, verify};

const SEGMENT_BYTES: u64 = 260;
const CAP_BYTES: u64 = 2000;

#[derive(Clone, Debug)]
enum Op {
    Stage(usize),
    Commit,
    Abandon,
    Read {
        records_max: usize,
        bytes_max: usize,
    },
    /// The database applies the records that were read, and releases them.
    Release,
    SeekBack,
    Restart,
    /// The machine loses the end of the newest file. The number is the lost fraction, in units of 1/65536.
    Cut(u16),
    /// One bit of one record is flipped while no process runs.
    Flip(u16, u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0_usize..120).prop_map(Op::Stage),
        6 => Just(Op::Commit),
        1 => Just(Op::Abandon),
        5 => (0_usize..6, 0_usize..300)
            .prop_map(|(records_max, bytes_max)| Op::Read { records_max, bytes_max }),
        2 => Just(Op::Release),
        1 => Just(Op::SeekBack),
        1 => Just(Op::Restart),
        1 => any::<u16>().prop_map(Op::Cut),
        1 => any::<(u16, u16)>().prop_map(|(record, bit)| Op::Flip(record, bit)),
    ]
}

#[derive(Clone, Debug)]
struct Stored {
    sequence: u64,
    payload: Vec<u8>,
    /// The logical offset after the record.
    end: u64,
}

struct Model {
    dir: tempfile::TempDir,
    lane: Option<(Appender, Reader)>,
    stored: Vec<Stored>,
    staged: Vec<Vec<u8>>,
    last: u64,
    read: u64,
    applied: u64,
    made: u64,
    /// The last synced offset in a record, and the synced offset that is staged, if any.
    said: (u64, Option<u64>),
}

impl Model {
    fn new() -> Model {
        let mut model = Model {
            dir: tempfile::tempdir().unwrap(),
            lane: None,
            stored: Vec::new(),
            staged: Vec::new(),
            last: 0,
            read: 0,
            applied: 0,
            made: 0,
            said: (0, None),
        };
        model.start();
        model
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn start(&mut self) {
        let options = Options { segment_bytes: SEGMENT_BYTES, bytes_max: CAP_BYTES };
        let verified = verify(self.path()).unwrap();
        let (appender, mut reader, recovered) =
            open(self.path(), LANE, Some(Sequence(self.applied)), &options).unwrap();
        let newest = self.stored.last().map_or(0, |stored| stored.sequence).max(self.applied);
        assert!((newest..=self.last).contains(&recovered.last.0), "{recovered:?}, {newest}, {}", self.last);
        assert_eq!(verified.damaged.len(), recovered.damaged.len());
        self.last = recovered.last.0;
        let gap = reader.seek(Sequence(self.applied)).unwrap();
        let found = self.after(self.applied).next().map(|stored| stored.sequence);
        let found = found.or((self.last > self.applied).then_some(self.last + 1));
        assert_eq!(gap.map(|gap| gap.found.0), found.filter(|found| *found > self.applied + 1));
        (self.read, self.staged) = (self.applied, Vec::new());
        self.said = (appender.state().end(), None);
        self.lane = Some((appender, reader));
    }

    fn after(&self, sequence: u64) -> impl Iterator<Item = &Stored> {
        self.stored.iter().filter(move |stored| stored.sequence > sequence)
    }

    fn commit(&mut self) {
        let Some((appender, _)) = &mut self.lane else { return };
        let end_before = appender.state().end();
        match appender.commit() {
            Ok(committed) => {
                let first = self.last + 1;
                self.last += self.staged.len() as u64;
                assert_eq!(committed.last.0, self.last);
                let said = self.said.1.take();
                self.said.0 = said.unwrap_or(self.said.0);
                let mut end = committed.end;
                let mut new = Vec::new();
                for (index, payload) in self.staged.drain(..).enumerate().rev() {
                    let says = if index == 0 && said.is_some() { SYNCED_BYTES } else { 0 };
                    let start = end - (RECORD_HEADER_BYTES + says + payload.len()) as u64;
                    new.push(Stored { sequence: first + index as u64, payload, end });
                    let header = start - HEADER_BYTES as u64;
                    let begins = header >= end_before && segment::path(self.dir.path(), header).exists();
                    end = if begins { header } else { start };
                }
                assert_eq!(end, end_before, "every byte is accounted for");
                self.stored.extend(new.into_iter().rev());
            }
            Err(error) => {
                assert!(matches!(error, AppendError::Full), "{error}");
                assert_eq!(appender.state().end(), end_before);
                self.staged.clear();
                self.said.1 = None;
            }
        }
    }

    fn read(&mut self, records_max: usize, bytes_max: usize) {
        let mut batch = Batch::new();
        let Some((_, reader)) = &mut self.lane else { return };
        let count = reader.read(&mut batch, records_max, bytes_max).unwrap();
        assert!(count <= records_max.max(1) && (batch.bytes() <= bytes_max || count == 1));
        let expected: Vec<_> = self.after(self.read).collect();
        assert_eq!(count == 0, expected.is_empty());
        for (record, stored) in batch.records().zip(&expected) {
            assert_eq!((record.sequence.0, record.payload), (stored.sequence, &stored.payload[..]));
            assert_eq!(record.kind, Kind::new(1).number());
        }
        assert!(count <= expected.len());
        self.read = batch.last().map_or(self.read, |last| last.0);
    }

    fn release(&mut self) {
        self.applied = self.read.max(self.applied);
        let Some((_, reader)) = &mut self.lane else { return };
        reader.release(Sequence(self.applied)).unwrap();
        let kept = segment::list(self.dir.path()).unwrap().first().copied().unwrap_or(0);
        assert!(self.stored.iter().all(|stored| stored.end > kept || stored.sequence <= self.applied));
        self.stored.retain(|stored| stored.end > kept);
    }

    fn cut(&mut self, share: u16) {
        self.lane = None;
        let Some(base) = segment::list(self.path()).unwrap().pop() else { return self.start() };
        let file = fs::File::options().write(true).open(segment::path(self.path(), base)).unwrap();
        let keep = file.metadata().unwrap().len() * u64::from(share) / 65536;
        file.set_len(keep).unwrap();
        self.stored.retain(|stored| stored.end <= base + keep);
        self.start();
    }

    fn flip(&mut self, record: u16, bit: u16) {
        self.lane = None;
        if !self.stored.is_empty() {
            let hit = self.stored.remove(usize::from(record) % self.stored.len());
            let bytes = RECORD_HEADER_BYTES + hit.payload.len();
            let bit = usize::from(bit) % (bytes * 8);
            let at = hit.end - bytes as u64 + bit as u64 / 8;
            let bases = segment::list(self.path()).unwrap();
            let base = bases.into_iter().rfind(|base| *base <= at).unwrap();
            let path = segment::path(self.path(), base);
            let mut whole = fs::read(&path).unwrap();
            whole[(at - base) as usize] ^= 1 << (bit % 8);
            fs::write(path, whole).unwrap();
        }
        self.start();
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Stage(bytes) => {
                self.made += 1;
                let payload: Vec<u8> =
                    (0..bytes).map(|index| (self.made as usize * 31 + index) as u8).collect();
                let (appender, _) = self.lane.as_mut().unwrap();
                if self.staged.is_empty() {
                    let synced = appender.state().synced();
                    self.said.1 = (synced > self.said.0).then_some(synced);
                }
                let (head, tail) = payload.split_at(bytes / 2);
                let sequence = appender.stage(Kind::new(1), &[head, tail]);
                self.staged.push(payload);
                assert_eq!(sequence.0, self.last + self.staged.len() as u64);
            }
            Op::Commit => self.commit(),
            Op::Abandon => {
                self.staged.clear();
                self.said.1 = None;
                self.lane.as_mut().unwrap().0.abandon();
            }
            Op::Read { records_max, bytes_max } => self.read(records_max, bytes_max),
            Op::Release => self.release(),
            Op::SeekBack => {
                self.lane.as_mut().unwrap().1.seek(Sequence(self.applied)).unwrap();
                self.read = self.applied;
            }
            Op::Restart => {
                self.lane = None;
                self.start();
            }
            Op::Cut(share) => self.cut(share),
            Op::Flip(record, bit) => self.flip(record, bit),
        }
        let state = self.lane.as_ref().unwrap().0.state().clone();
        let files = segment::list(self.path()).unwrap();
        let on_disk: u64 =
            files.iter().map(|base| fs::metadata(segment::path(self.path(), *base)).unwrap().len()).sum();
        assert_eq!(state.bytes_on_disk(), on_disk);
        assert!(on_disk <= CAP_BYTES);
        assert_eq!(state.appended().0, self.last);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_lane_holds_what_was_committed_through_everything(ops in prop::collection::vec(op(), 1..80)) {
        let mut model = Model::new();
        for op in &ops {
            model.step(op);
        }
        model.lane = None;
        model.start();
        while model.after(model.read).next().is_some() {
            model.read(5, 200);
        }
        model.read(5, 200);
    }
}
