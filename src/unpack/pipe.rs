//! The input and output of decoders.

use super::block::Block;
use super::error::Fault;
use super::input::Input;
use super::limits::{Limits, Meter};

/// The input that a decoder reads, and the block that it fills.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) input: Input,
    pub(super) block: Block,
    pub(super) meter: Meter,
    /// The number of upload bytes read. It is set only if `input` is not the upload itself.
    pub(super) upload_bytes: Option<u64>,
}

impl Pipe {
    pub(super) fn new(limits: Limits, offset_bytes: u64) -> Pipe {
        Pipe {
            input: Input::starting_at(offset_bytes),
            block: Block::default(),
            meter: Meter::new(limits, offset_bytes),
            upload_bytes: None,
        }
    }

    /// Adds decoded bytes to the block and to the meter.
    pub(super) fn decoded(&mut self, bytes: usize) -> Result<(), Fault> {
        self.block.fill(bytes);
        self.meter.add(bytes, self.upload_bytes.unwrap_or_else(|| self.input.consumed_bytes()))
    }

    pub(super) fn entries_max(&self) -> u32 {
        self.meter.entries_max()
    }
}
