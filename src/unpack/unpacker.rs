//! The [`Unpacker`]. Each turn returns the next line of the block, decodes the next block, or requests more of the
//! upload.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::{Fault, Place, UnpackError};
use super::input::Step;
use super::layer::Layer;
use super::limits::Limits;
use super::lines::{Found, Lines};
use super::magic::{Encoding, MAGIC_BYTES};
use super::pipe::Pipe;
use super::skipped::Skipped;
use super::source::Source;

/// Decompresses an upload and splits it into lines.
///
/// ```
/// use firehose::unpack::{Limits, Next, Unpacker};
/// # fn main() -> Result<(), firehose::unpack::UnpackError> {
/// let mut unpacker = Unpacker::new(Limits::default());
/// let mut chunks = [&b"{\"order_id\":\"o_1\"}\n{\"ord"[..], b"er_id\":\"o_2\"}"].into_iter();
/// let mut rows = 0;
/// loop {
///     match unpacker.next()? {
///         Next::Line(line) => rows += u64::from(line.bytes.starts_with(b"{")),
///         Next::Hungry => match chunks.next() {
///             Some(chunk) => unpacker.feed(bytes::Bytes::from_static(chunk)),
///             None => unpacker.finish(),
///         },
///         Next::End => break,
///     }
/// }
/// assert_eq!((rows, unpacker.lines()), (2, 2));
/// # Ok(())
/// # }
/// ```
pub struct Unpacker {
    pipe: Pipe,
    source: Source,
    /// Decodes data that was compressed twice.
    inner: Option<Box<Layer>>,
    text: Text,
    /// The step that ended the data of `inner`, or that ended data shorter than a magic. It is processed after that
    /// data.
    after: Option<Step>,
    skipped: Skipped,
    lines: Lines,
    /// The number of bytes of the block that have been searched for lines.
    at: usize,
    is_over: bool,
    failed: Option<UnpackError>,
}

/// The next action.
#[derive(Debug)]
pub enum Next<'u> {
    Line(Line<'u>),
    /// Call [`Unpacker::feed`] or [`Unpacker::finish`].
    Hungry,
    /// Everything was read, and every check succeeded.
    End,
}

/// A line that is not blank. A blank line contains only JSON whitespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'u> {
    /// Line number over the whole upload, from 1, including blank lines.
    pub number: u64,
    /// The line without its LF or CR LF, and without the byte order mark of a stream's first line.
    pub bytes: &'u [u8],
    /// Set if the line has more than `line_bytes_max` bytes. `bytes` then contains at most its first 256 bytes.
    pub is_too_long: bool,
}

/// The position at which an upload of plain lines can resume: after a line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The number of upload bytes before the position. The next byte to feed is the byte at this offset.
    pub offset_bytes: u64,
    /// The number of lines before the position, including blank ones.
    pub lines: u64,
}

/// The position within decoded data.
enum Text {
    /// At its first bytes, which are too few to detect its encoding.
    Head(Vec<u8>),
    Begun,
}

impl Text {
    const NEW: Text = Text::Head(Vec::new());
}

enum Turn {
    Line(Found),
    Hungry,
    End,
}

impl Unpacker {
    /// Creates an unpacker for an upload from its first byte on.
    #[must_use]
    pub fn new(limits: Limits) -> Unpacker {
        let lines = Lines::new(limits.line_bytes_max);
        Unpacker::with(limits, Source::Untold(Vec::new()), lines, 0)
    }

    /// Creates an unpacker for the rest of a plain upload, from a position that [`Unpacker::plain_resume`] returned.
    /// The unpacker has no fingerprint. Offsets, line numbers and limits continue.
    #[must_use]
    pub fn resume(limits: Limits, resume: Resume) -> Unpacker {
        let Resume { offset_bytes, lines } = resume;
        let lines = Lines::resumed(limits.line_bytes_max, lines, offset_bytes);
        Unpacker::with(limits, Source::Plain, lines, offset_bytes)
    }

    fn with(limits: Limits, source: Source, lines: Lines, offset_bytes: u64) -> Unpacker {
        Unpacker {
            pipe: Pipe::new(limits, offset_bytes),
            source,
            inner: None,
            text: Text::NEW,
            after: None,
            skipped: Skipped::default(),
            lines,
            at: 0,
            is_over: false,
            failed: None,
        }
    }

    /// Returns the bytes that are searched for lines.
    #[inline]
    fn block(&self) -> &[u8] {
        match &self.inner {
            None => self.pipe.block.bytes(),
            Some(inner) => inner.pipe.block.bytes(),
        }
    }

    /// Accepts the next bytes of the upload, any number of them, and holds them until they are read.
    ///
    /// # Panics
    ///
    /// Panics unless the last result was [`Next::Hungry`], and after [`Unpacker::finish`].
    pub fn feed(&mut self, bytes: Bytes) {
        assert!(self.pipe.input.is_empty() && !self.pipe.input.is_ended(), "fed without being hungry");
        self.pipe.input.feed(bytes);
    }

    /// Ends the upload. Call it only for a complete upload: one that may be resumed must not be finished.
    pub fn finish(&mut self) {
        self.pipe.input.end();
    }

    /// Returns the next line, borrowed until the next call.
    ///
    /// One call decodes at most 64 KiB beyond the line that it returns. It also reads any blank lines, skipped
    /// entries and the rest of a line that is too long before the returned line, up to the end of the chunk.
    ///
    /// # Errors
    ///
    /// After an error, every further call returns the same one.
    #[allow(clippy::should_implement_trait, reason = "the line is lent, which an iterator cannot do")]
    #[inline]
    pub fn next(&mut self) -> Result<Next<'_>, UnpackError> {
        // The common case: another line of the block.
        let found = match self.pull() {
            Some(found) => found,
            None => match self.turn()? {
                Turn::Line(found) => found,
                Turn::Hungry => return Ok(Next::Hungry),
                Turn::End => return Ok(Next::End),
            },
        };
        let bytes = if found.is_carried { self.lines.carried() } else { self.block() };
        Ok(Next::Line(Line {
            number: self.lines.count(),
            bytes: &bytes[found.range],
            is_too_long: found.is_too_long,
        }))
    }

    /// Returns another line of the block, if it has one.
    #[inline]
    fn pull(&mut self) -> Option<Found> {
        let block = match &self.inner {
            None => self.pipe.block.bytes(),
            Some(inner) => inner.pipe.block.bytes(),
        };
        self.lines.pull(block, &mut self.at)
    }

    fn clear_block(&mut self) {
        self.pipe.block.clear();
        if let Some(inner) = &mut self.inner {
            inner.pipe.block.clear();
        }
    }

    fn turn(&mut self) -> Result<Turn, UnpackError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.advance() {
            Ok(turn) => Ok(turn),
            Err(fault) => {
                let error = fault.at(self.place());
                self.clear_block();
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Continues after the block has been consumed.
    fn advance(&mut self) -> Result<Turn, Fault> {
        loop {
            self.clear_block();
            self.at = 0;
            if self.is_over {
                return Ok(Turn::End);
            }
            let found = match self.step()? {
                Step::Block => self.pull(),
                Step::Break => self.lines.end_text(),
                Step::Hungry => return Ok(Turn::Hungry),
                Step::End => {
                    self.is_over = true;
                    self.lines.end_text()
                }
            };
            if let Some(found) = found {
                return Ok(Turn::Line(found));
            }
        }
    }

    /// Runs one step on the upload, through one or two decoders.
    fn step(&mut self) -> Result<Step, Fault> {
        loop {
            if let Some(inner) = &mut self.inner {
                match inner.step(&mut self.pipe)? {
                    // The inner decoder needs more output of the outer decoder.
                    Step::Hungry if self.after.is_none() => {}
                    Step::Hungry | Step::End => self.leave(),
                    step => return Ok(step),
                }
            }
            if self.inner.is_none()
                && let Some(after) = self.after.take()
            {
                self.text = Text::NEW;
                return Ok(after);
            }
            match self.outer_step()? {
                Step::Hungry => return Ok(Step::Hungry),
                end @ (Step::Break | Step::End) => {
                    self.after = Some(end);
                    if let Some(inner) = &mut self.inner {
                        inner.pipe.input.end();
                    } else if let Text::Head(head) = &mut self.text
                        && !head.is_empty()
                    {
                        // The data is too short to be compressed.
                        self.pipe.block.lend(Bytes::from(std::mem::take(head)));
                        return Ok(Step::Block);
                    }
                }
                Step::Block => match (&mut self.inner, &self.text) {
                    (Some(inner), _) => inner.pipe.input.feed(self.pipe.block.lent_or_copied()),
                    (None, Text::Begun) => return Ok(Step::Block),
                    (None, Text::Head(_)) => {
                        if self.begin_text()? {
                            return Ok(Step::Block);
                        }
                    }
                },
            }
        }
    }

    /// Examines the first bytes of a stream in the block, and returns `true` if they are lines. Otherwise, either
    /// more bytes are needed, or the bytes are compressed again and `inner` has received them.
    fn begin_text(&mut self) -> Result<bool, Fault> {
        let Text::Head(head) = &mut self.text else { return Ok(true) };
        let is_packed = !matches!(self.source, Source::Plain | Source::Untold(_));
        if is_packed && (!head.is_empty() || self.pipe.block.bytes().len() < MAGIC_BYTES) {
            head.extend_from_slice(self.pipe.block.bytes());
            self.pipe.block.clear();
            if head.len() < MAGIC_BYTES {
                return Ok(false);
            }
            self.pipe.block.lend(Bytes::from(std::mem::take(head)));
        }
        self.text = Text::Begun;
        let encoding = match self.pipe.block.bytes().first_chunk::<MAGIC_BYTES>() {
            // Bytes that are neither compressed nor text become errors line by line.
            Some(first) if is_packed => Encoding::detect(first).unwrap_or(Encoding::Plain),
            _ => Encoding::Plain,
        };
        if encoding == Encoding::Plain {
            return Ok(true);
        }
        let mut inner = Box::new(Layer::new(encoding, &self.pipe.meter)?);
        inner.pipe.input.feed(self.pipe.block.lent_or_copied());
        self.inner = Some(inner);
        Ok(false)
    }

    /// Handles the end of the inner data.
    fn leave(&mut self) {
        if let Some(zip) = self.inner.take().as_ref().and_then(|inner| inner.source.zip()) {
            self.skipped.add(zip.skipped());
        }
    }

    fn outer_step(&mut self) -> Result<Step, Fault> {
        loop {
            let encoding = match &mut self.source {
                Source::Untold(head) => {
                    let input = &mut self.pipe.input;
                    // Usually, all bytes of the magic are present, and they remain in the chunk.
                    if let (true, Some(first)) = (head.is_empty(), input.rest().first_chunk::<MAGIC_BYTES>())
                    {
                        self.source = Source::of(Encoding::detect(first)?)?;
                        continue;
                    }
                    while head.len() < MAGIC_BYTES && !input.is_empty() {
                        head.extend_from_slice(&input.take((MAGIC_BYTES - head.len()) as u64));
                    }
                    if head.len() < MAGIC_BYTES && !input.is_ended() {
                        return Ok(Step::Hungry);
                    }
                    let encoding = Encoding::detect(head)?;
                    input.give_back(Bytes::from(std::mem::take(head)));
                    encoding
                }
                source => match source.decode(&mut self.pipe) {
                    Some(step) => return step,
                    None => continue,
                },
            };
            self.source = Source::of(encoding)?;
        }
    }

    fn place(&self) -> Place {
        let inner = self.inner.as_ref().and_then(|inner| inner.source.zip());
        let entry = inner.or(self.source.zip()).and_then(|zip| zip.entry_name().map(Into::into));
        Place { offset_bytes: self.consumed_bytes(), lines: self.lines(), entry }
    }

    /// Returns the encoding of the upload, once four bytes or its end have been seen.
    #[must_use]
    pub fn encoding(&self) -> Option<Encoding> {
        match &self.source {
            Source::Untold(_) => None,
            Source::Plain => Some(Encoding::Plain),
            Source::Gzip(_) => Some(Encoding::Gzip),
            Source::Zstd(_) => Some(Encoding::Zstd),
            Source::Zip(_) => Some(Encoding::Zip),
        }
    }

    /// Returns the number of upload bytes read, including those before a [`Resume`]. A chunk of plain lines is read
    /// as a whole.
    #[must_use]
    pub fn consumed_bytes(&self) -> u64 {
        self.pipe.input.consumed_bytes()
    }

    /// Returns the number of decompressed bytes so far.
    #[must_use]
    pub fn decoded_bytes(&self) -> u64 {
        self.pipe.meter.decoded_bytes()
    }

    /// Returns the number of lines so far, including blank ones.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines.count()
    }

    /// Returns the files of an archive that were skipped because of their names.
    #[must_use]
    pub fn skipped(&self) -> Skipped {
        let mut skipped = self.skipped.clone();
        let inner = self.inner.as_ref().map(|inner| &inner.source);
        for zip in inner.into_iter().chain([&self.source]).filter_map(Source::zip) {
            skipped.add(zip.skipped());
        }
        skipped
    }

    /// Returns `true` if the upload is an archive of files.
    #[must_use]
    pub fn is_archive(&self) -> bool {
        self.encoding() == Some(Encoding::Zip)
    }

    /// Returns the memory held in addition to the chunk: decoders with their windows, a block, an incomplete line.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let inner = self.inner.as_ref();
        let inner = inner.map_or(0, |inner| inner.source.memory_bytes() + inner.pipe.block.memory_bytes());
        inner + self.source.memory_bytes() + self.pipe.block.memory_bytes() + self.lines.memory_bytes()
    }

    /// Returns the BLAKE3 hash of every returned line, each followed by LF. For a line that is too long, all its
    /// bytes are hashed. The same rows have the same fingerprint, regardless of their encoding, line ends and blank
    /// lines. Returns `None` for a resumed upload.
    #[must_use]
    pub fn fingerprint(&self) -> Option<[u8; 32]> {
        self.lines.fingerprint()
    }

    /// Returns the position where a plain upload can resume if it is interrupted now: after the last returned line
    /// and the blank lines after it. Returns `None` for a compressed upload, and while the encoding is not known.
    #[must_use]
    pub fn plain_resume(&self) -> Option<Resume> {
        let is_plain = matches!(self.source, Source::Plain) && self.failed.is_none();
        is_plain.then(|| Resume { offset_bytes: self.lines.whole_bytes(), lines: self.lines() })
    }
}

#[cfg(test)]
impl Unpacker {
    /// Returns the memory for a line that is carried over, and for a header.
    pub(super) fn held_bytes(&self) -> usize {
        let header_bytes = self.source.zip().map_or(0, super::zip::Zip::held_bytes);
        self.lines.held_bytes() + header_bytes
    }
}
