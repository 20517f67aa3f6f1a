//! Zstandard (RFC 8878): consecutive frames, read as one stream. Skippable frames are skipped.

use zstd::zstd_safe::{DCtx, DParameter, ErrorCode, InBuffer, OutBuffer, get_error_name};

use super::error::Fault;
use super::input::Step;
use super::pipe::Pipe;

/// The base-2 logarithm of the largest permitted window, 8 MiB. Windows of compression levels up to 19 are not
/// larger, but windows of `--long` and `--ultra` are. A few bytes in a frame's header must not cost more memory.
pub(super) const WINDOW_LOG_MAX: u32 = 23;

const NO_MEMORY: &str = "not enough memory for the window of the zstd frame";

pub(super) struct Zstd {
    context: DCtx<'static>,
    /// Set before the first frame and after the end of a frame, where another frame may begin.
    is_between: bool,
    /// Set if the output buffer was full. The decoder may then have more output without more input.
    holds_output: bool,
}

impl Zstd {
    /// Creates a decoder. Fails if there is not enough memory.
    pub(super) fn new() -> Result<Zstd, Fault> {
        let mut context = DCtx::try_create().ok_or(Fault::Unsupported(NO_MEMORY))?;
        context.init().map_err(fault)?;
        context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(fault)?;
        Ok(Zstd { context, is_between: true, holds_output: false })
    }

    /// Returns the window size that the frames so far required, plus the decoder's own memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.context.sizeof()
    }

    pub(super) fn step(&mut self, pipe: &mut Pipe) -> Result<Step, Fault> {
        loop {
            // The decoder must not be called without input. Between frames, such a call begins a frame. Within a
            // frame, such a call is an error after a few repetitions.
            if pipe.input.is_empty() && !self.holds_output {
                return match self.is_between && pipe.input.is_ended() {
                    true => Ok(Step::End),
                    false if self.is_between => Ok(Step::Hungry),
                    false => pipe.input.starved(),
                };
            }
            let mut input = InBuffer::around(pipe.input.rest());
            let mut output = OutBuffer::around(pipe.block.buffer());
            let outcome = self.context.decompress_stream(&mut output, &mut input);
            let (read, written, is_full) = (input.pos(), output.pos(), output.pos() == output.capacity());
            pipe.input.advance(read);
            // The outcome is the number of bytes that the decoder expects next. It is 0 if a frame has ended and all
            // of the frame was returned.
            self.is_between = outcome.map_err(fault)? == 0;
            self.holds_output = is_full && !self.is_between;
            pipe.decoded(written)?;
            if written > 0 {
                return Ok(Step::Block);
            }
        }
    }
}

/// Converts an error. The library distinguishes its errors only by their names.
fn fault(error: ErrorCode) -> Fault {
    match get_error_name(error) {
        "Restored data doesn't match checksum" => Fault::Checksum(
            "the checksum of the zstd frame does not \
                                                                   match",
        ),
        "Frame requires too much memory for decoding" => Fault::Unsupported(
            "the window of the zstd frame exceeds 8 MiB: compress without --long and \
                                --ultra",
        ),
        "Dictionary mismatch" => Fault::Unsupported("the zstd frame requires a dictionary"),
        "Unknown frame descriptor" => Fault::Damaged("unexpected bytes follow a zstd frame"),
        "Unsupported frame parameter" => Fault::Unsupported("the zstd frame has unsupported parameters"),
        "Allocation error : not enough memory" => Fault::Unsupported(NO_MEMORY),
        _ => Fault::Damaged("the zstd data is damaged"),
    }
}
