//! gzip (RFC 1952): consecutive members, read as one stream.

use super::error::Fault;
use super::inflate::Inflate;
use super::input::Step;
use super::pipe::Pipe;

#[derive(Debug)]
pub(super) struct Gzip {
    inflate: Inflate,
    /// Set after the end of a member, where another member may begin.
    is_between: bool,
}

impl Gzip {
    pub(super) fn new() -> Gzip {
        Gzip { inflate: Inflate::gzip(), is_between: false }
    }

    pub(super) fn step(&mut self, pipe: &mut Pipe) -> Result<Step, Fault> {
        loop {
            if self.is_between {
                match (pipe.input.is_empty(), pipe.input.is_ended()) {
                    (true, true) => return Ok(Step::End),
                    (true, false) => return Ok(Step::Hungry),
                    (false, _) => *self = Gzip::new(),
                }
            }
            let done = self.inflate.run(&mut pipe.input, u64::MAX, pipe.block.buffer())?;
            if done.is_starved() {
                return pipe.input.starved();
            }
            self.is_between = done.is_end;
            pipe.decoded(done.written)?;
            if let Some(step) = done.step() {
                return Ok(step);
            }
        }
    }
}
