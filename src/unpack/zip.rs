//! zip (PKWARE APPNOTE 6.3.10), read from the front: local headers, data, then the directory.
//!
//! The format is designed to be read from its end. An archive can mislead a program that reads it from the front. To
//! detect this, the directory is compared with the entries that were read: [`directory::Tally`].

mod bytes;
mod descriptor;
mod directory;
mod local;

use super::error::Fault;
use super::inflate::{Inflate, MEMORY_BYTES};
use super::input::{Input, Step};
use super::pipe::Pipe;
use super::skipped::Skipped;
use descriptor::Descriptor;
use directory::{Directory, Tally};
use local::{Entry, Method};

const LOCAL: [u8; 4] = *b"PK\x03\x04";
const NO_ENTRY: &str = "the archive has bytes that belong to no entry";

#[derive(Debug)]
pub(super) struct Zip {
    state: State,
    header: Header,
    /// The current entry.
    entry: Option<Entry>,
    /// Created with the first deflated entry.
    inflate: Option<Inflate>,
    done: Done,
    tally: Tally,
    directory: Directory,
    skipped: Skipped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a header of any kind.
    Signature,
    Local,
    /// In the data of an entry that is skipped without decoding.
    Skip,
    Stored,
    Deflated,
    /// After the data of an entry whose sizes and checksum are in its header.
    Check,
    Descriptor,
    /// After the last entry.
    Directory,
}

/// The part of an entry's data that was read.
#[derive(Clone, Debug, Default)]
struct Done {
    packed_bytes: u64,
    plain_bytes: u64,
    crc: crc32fast::Hasher,
}

/// The part of a header that has arrived. Length fields in the input determine the size of the header, at most 192
/// KiB. The buffer grows only as bytes arrive.
#[derive(Debug, Default)]
struct Header {
    bytes: Vec<u8>,
    offset_bytes: u64,
}

impl Header {
    /// Returns `true` if `length` bytes of the header are present.
    fn reaches(&mut self, input: &mut Input, length: usize) -> bool {
        if self.bytes.is_empty() {
            self.offset_bytes = input.consumed_bytes();
        }
        while self.bytes.len() < length && !input.is_empty() {
            let missing = length - self.bytes.len();
            self.bytes.extend_from_slice(&input.take(missing as u64));
        }
        self.bytes.len() >= length
    }

    /// Drops the first `length` bytes of the header.
    fn drop_first(&mut self, length: usize) {
        self.bytes.drain(..length);
        self.offset_bytes += length as u64;
    }
}

impl Zip {
    pub(super) fn new() -> Zip {
        Zip {
            state: State::Signature,
            header: Header::default(),
            entry: None,
            inflate: None,
            done: Done::default(),
            tally: Tally::default(),
            directory: Directory::default(),
            skipped: Skipped::default(),
        }
    }

    /// Returns the files that were skipped because of their names.
    pub(super) fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Returns the memory held for a header.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.header.bytes.capacity()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let inflate_bytes = if self.inflate.is_some() { MEMORY_BYTES } else { 0 };
        self.header.bytes.capacity() + inflate_bytes
    }

    /// Returns the name of the current entry, for display.
    pub(super) fn entry_name(&self) -> Option<&str> {
        self.entry.as_ref().map(|entry| &*entry.shown_name)
    }

    pub(super) fn step(&mut self, pipe: &mut Pipe) -> Result<Step, Fault> {
        loop {
            let step = match self.state {
                State::Signature => self.signature(&mut pipe.input)?,
                State::Local => self.local(pipe)?,
                State::Skip => self.skip(&mut pipe.input)?,
                State::Stored => self.stored(pipe)?,
                State::Deflated => self.deflated(pipe)?,
                State::Check => self.check()?,
                State::Descriptor => self.descriptor(&mut pipe.input)?,
                State::Directory => {
                    return self.directory.step(&mut self.header, &self.tally, &mut pipe.input);
                }
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    fn signature(&mut self, input: &mut Input) -> Result<Option<Step>, Fault> {
        if !self.header.reaches(input, LOCAL.len()) {
            return input.starved().map(Some);
        }
        self.entry = None;
        self.state = if self.header.bytes.starts_with(&LOCAL) { State::Local } else { State::Directory };
        Ok(None)
    }

    fn local(&mut self, pipe: &mut Pipe) -> Result<Option<Step>, Fault> {
        let is_whole = self.header.reaches(&mut pipe.input, local::FIXED_BYTES)
            && self.header.reaches(&mut pipe.input, local::length(&self.header.bytes));
        if !is_whole {
            return pipe.input.starved().map(Some);
        }
        if self.tally.entries() >= u64::from(pipe.entries_max()) {
            return Err(Fault::TooManyEntries(pipe.entries_max()));
        }
        let entry = self.entry.insert(Entry::read(&self.header.bytes, self.header.offset_bytes));
        self.state = match entry.check()? {
            // Some tools write no deflated data at all for an empty entry.
            _ if entry.is_wanted && entry.is_empty() => State::Check,
            // Only the inflater can find the end of deflated data.
            Method::Deflated if entry.is_wanted || entry.has_descriptor => State::Deflated,
            Method::Stored if entry.is_wanted => State::Stored,
            // A directory has no data, but may have a descriptor.
            _ if entry.has_descriptor => State::Descriptor,
            _ => State::Skip,
        };
        if !entry.is_wanted && !entry.is_directory {
            self.skipped.push(&entry.shown_name);
        }
        if let (State::Deflated, Some(inflate)) = (self.state, &mut self.inflate) {
            inflate.restart_raw();
        }
        self.done = Done::default();
        self.header.bytes.clear();
        Ok(None)
    }

    /// Skips the data without examining it.
    fn skip(&mut self, input: &mut Input) -> Result<Option<Step>, Fault> {
        let left = self.packed_bytes() - self.done.packed_bytes;
        self.done.packed_bytes += input.take(left).len() as u64;
        match self.done.packed_bytes == self.packed_bytes() {
            true => Ok(self.close()),
            false => input.starved().map(Some),
        }
    }

    fn stored(&mut self, pipe: &mut Pipe) -> Result<Option<Step>, Fault> {
        let left = self.packed_bytes() - self.done.packed_bytes;
        if left == 0 {
            self.state = State::Check;
            return Ok(None);
        }
        if pipe.input.is_empty() {
            return pipe.input.starved().map(Some);
        }
        let bytes = pipe.input.take(left);
        self.done.packed_bytes += bytes.len() as u64;
        self.done.plain_bytes += bytes.len() as u64;
        self.done.crc.update(&bytes);
        pipe.decoded(bytes.len())?;
        pipe.block.lend(bytes);
        Ok(Some(Step::Block))
    }

    fn deflated(&mut self, pipe: &mut Pipe) -> Result<Option<Step>, Fault> {
        let Some(entry) = &self.entry else { return Err(Fault::Damaged(NO_ENTRY)) };
        // The inflater reads no further than the entry's own length, if that length is known.
        let left = if entry.has_descriptor { u64::MAX } else { entry.packed_bytes - self.done.packed_bytes };
        let inflate = self.inflate.get_or_insert_with(Inflate::raw);
        let done = inflate.run(&mut pipe.input, left, pipe.block.buffer())?;
        if done.is_starved() {
            return match left {
                0 => Err(Fault::Damaged("the data of the entry does not end where its header says")),
                _ => pipe.input.starved().map(Some),
            };
        }
        self.done.packed_bytes += done.read as u64;
        self.done.plain_bytes += done.written as u64;
        pipe.decoded(done.written)?;
        self.done.crc.update(&pipe.block.bytes()[..done.written]);
        let has_descriptor = entry.has_descriptor;
        let is_shown = entry.is_wanted && done.written > 0;
        if done.is_end {
            // The bytes are processed before the checksum is checked.
            self.state = if has_descriptor { State::Descriptor } else { State::Check };
        }
        if !is_shown {
            pipe.block.clear();
        }
        Ok(is_shown.then_some(Step::Block))
    }

    fn descriptor(&mut self, input: &mut Input) -> Result<Option<Step>, Fault> {
        if !self.header.reaches(input, descriptor::REACH_BYTES) {
            return input.starved().map(Some);
        }
        let Done { packed_bytes, plain_bytes, crc } = self.done.clone();
        let found = Descriptor { crc: crc.finalize(), packed_bytes, plain_bytes };
        let length = found.length_in(&self.header.bytes)?;
        self.header.drop_first(length);
        if let Some(entry) = &mut self.entry {
            (entry.crc, entry.packed_bytes, entry.plain_bytes) = (found.crc, packed_bytes, plain_bytes);
        }
        Ok(self.close())
    }

    fn packed_bytes(&self) -> u64 {
        self.entry.as_ref().map_or(0, |entry| entry.packed_bytes)
    }

    /// Compares the data with the size and the checksum in its header.
    fn check(&mut self) -> Result<Option<Step>, Fault> {
        let Some(entry) = &self.entry else { return Err(Fault::Damaged(NO_ENTRY)) };
        if self.done.packed_bytes != entry.packed_bytes || self.done.plain_bytes != entry.plain_bytes {
            return Err(Fault::Damaged("the size of the entry does not match its header"));
        }
        if self.done.crc.clone().finalize() != entry.crc {
            return Err(Fault::Checksum("the CRC-32 of the entry does not match"));
        }
        Ok(self.close())
    }

    fn close(&mut self) -> Option<Step> {
        self.state = State::Signature;
        let entry = self.entry.as_ref()?;
        self.tally.add(&entry.record());
        entry.is_wanted.then_some(Step::Break)
    }
}
