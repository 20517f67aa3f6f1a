//! Data that was compressed twice: a compressed entry of an archive, or a compressed file sent with a content coding.
//!
//! The inner decoder reads the output of the outer decoder. Both count against the upload's limits: their outputs are
//! added up, and the ratio refers to the bytes that were sent.

use super::error::Fault;
use super::input::Step;
use super::magic::{Encoding, MAGIC_BYTES};
use super::pipe::Pipe;
use super::source::Source;

pub(super) struct Layer {
    pub(super) pipe: Pipe,
    pub(super) source: Source,
    /// Set once the first bytes of the data have been examined.
    is_looked_at: bool,
}

impl Layer {
    pub(super) fn new(encoding: Encoding, meter: &super::limits::Meter) -> Result<Layer, Fault> {
        let pipe = Pipe { meter: meter.clone(), ..Pipe::new(super::Limits::default(), 0) };
        Ok(Layer { pipe, source: Source::packed(encoding)?, is_looked_at: false })
    }

    /// Runs one step, counted by the meter of `outer`.
    pub(super) fn step(&mut self, outer: &mut Pipe) -> Result<Step, Fault> {
        self.pipe.meter.follow(&outer.meter);
        self.pipe.upload_bytes = Some(outer.input.consumed_bytes());
        let step = self.source.decode(&mut self.pipe).unwrap_or(Ok(Step::Hungry));
        outer.meter.follow(&self.pipe.meter);
        let step = step?;
        match step {
            Step::Block if !self.is_looked_at => {
                self.is_looked_at = true;
                let first =
                    self.pipe.block.bytes().first_chunk::<MAGIC_BYTES>().map(|first| Encoding::detect(first));
                if let Some(Ok(Encoding::Gzip | Encoding::Zstd | Encoding::Zip)) = first {
                    return Err(Fault::Unsupported("the upload has more than two levels of compression"));
                }
            }
            // The next entry may have another encoding.
            Step::Break => self.is_looked_at = false,
            _ => {}
        }
        Ok(step)
    }
}
