//! The decoder for an encoding.

use super::error::Fault;
use super::gzip::Gzip;
use super::inflate::MEMORY_BYTES;
use super::input::Step;
use super::magic::Encoding;
use super::pipe::Pipe;
use super::zip::Zip;
use super::zstd::Zstd;

/// The decoder that reads an upload's bytes.
pub(super) enum Source {
    /// The first bytes, until there are enough to detect the encoding.
    Untold(Vec<u8>),
    Plain,
    Gzip(Box<Gzip>),
    Zstd(Zstd),
    Zip(Box<Zip>),
}

impl Source {
    pub(super) fn of(encoding: Encoding) -> Result<Source, Fault> {
        Ok(match encoding {
            Encoding::Plain => Source::Plain,
            Encoding::Gzip => Source::Gzip(Box::new(Gzip::new())),
            Encoding::Zstd => Source::Zstd(Zstd::new()?),
            Encoding::Zip => Source::Zip(Box::new(Zip::new())),
        })
    }

    /// Creates the decoder for bytes whose encoding is known.
    pub(super) fn packed(encoding: Encoding) -> Result<Source, Fault> {
        Source::of(encoding)
    }

    /// Runs one step of a decoder. Returns `None` while the encoding is not known.
    pub(super) fn decode(&mut self, pipe: &mut Pipe) -> Option<Result<Step, Fault>> {
        match self {
            Source::Untold(_) => None,
            Source::Plain => Some(plain(pipe)),
            Source::Gzip(gzip) => Some(gzip.step(pipe)),
            Source::Zstd(zstd) => Some(zstd.step(pipe)),
            Source::Zip(zip) => Some(zip.step(pipe)),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Source::Untold(_) | Source::Plain => 0,
            Source::Gzip(_) => MEMORY_BYTES,
            Source::Zstd(zstd) => zstd.memory_bytes(),
            Source::Zip(zip) => zip.memory_bytes(),
        }
    }

    pub(super) fn zip(&self) -> Option<&Zip> {
        match self {
            Source::Zip(zip) => Some(zip),
            _ => None,
        }
    }
}

/// Lends plain bytes to the block without decoding.
fn plain(pipe: &mut Pipe) -> Result<Step, Fault> {
    if pipe.input.is_empty() {
        return Ok(if pipe.input.is_ended() { Step::End } else { Step::Hungry });
    }
    let bytes = pipe.input.take(u64::MAX);
    pipe.decoded(bytes.len())?;
    pipe.block.lend(bytes);
    Ok(Step::Block)
}
