//! A profile as gzipped `profile.proto`, the format of `go tool pprof`.
//!
//! A sample has two values, its count and its CPU time, and the label `thread`. Each function with its line is a
//! location. Numbers of messages and fields are those of the format; a number of 0 is left out, as in every message of
//! Protocol Buffers.

use std::collections::HashMap;
use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::stacks::Stacks;
use crate::base::clock;

/// The mapping that all locations belong to: the program.
const PROGRAM: u64 = 1;

pub(super) fn encode(stacks: &Stacks, seconds: u64, hz: u32) -> io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&message(stacks, seconds, hz))?;
    gzip.finish()
}

fn message(stacks: &Stacks, seconds: u64, hz: u32) -> Vec<u8> {
    let period_ns = 1_000_000_000 / u64::from(hz);
    let mut strings = Strings::new();
    let mut profile = Message::default();
    let (count, cpu) = (strings.value_type("samples", "count"), strings.value_type("cpu", "nanoseconds"));
    profile.message(1, &count).message(1, &cpu);
    for stack in &stacks.stacks {
        let mut label = Message::default();
        label.number(1, strings.number("thread")).number(2, strings.number(&stack.thread));
        let mut sample = Message::default();
        // From the innermost outwards. The numbers of locations begin with 1.
        sample.numbers(1, stack.frames.iter().rev().map(|frame| *frame as u64 + 1));
        sample.numbers(2, [stack.count, stack.count * period_ns]).message(3, &label);
        profile.message(2, &sample);
    }
    profile.message(3, &program(&mut strings));
    let mut functions = HashMap::new();
    for (frame, number) in stacks.frames.iter().zip(1..) {
        let next = functions.len() as u64 + 1;
        let function = *functions.entry((frame.name.as_str(), frame.file.as_str())).or_insert(next);
        let mut line = Message::default();
        line.number(1, function).number(2, u64::from(frame.line));
        let mut location = Message::default();
        location.number(1, number).number(2, PROGRAM).message(4, &line);
        profile.message(4, &location);
    }
    for ((name, file), number) in functions {
        let name = strings.number(name);
        let mut function = Message::default();
        function.number(1, number).number(2, name).number(3, name).number(4, strings.number(file));
        profile.message(5, &function);
    }
    profile.number(9, clock::unix_us().unsigned_abs() * 1000 - seconds * 1_000_000_000);
    profile.number(10, seconds * 1_000_000_000).message(11, &cpu).number(12, period_ns);
    if stacks.lost > 0 {
        profile.number(13, strings.number(&format!("{} samples lost for lack of space", stacks.lost)));
    }
    for string in &strings.in_order {
        profile.bytes(6, string.as_bytes());
    }
    profile.0
}

/// States that functions, files, lines and inlined functions are known, so that no reader looks for the binary.
fn program(strings: &mut Strings) -> Message {
    let path = std::env::current_exe().unwrap_or_default();
    let mut mapping = Message::default();
    mapping.number(1, PROGRAM).number(5, strings.number(&path.to_string_lossy()));
    for has in 7..=10 {
        mapping.number(has, 1);
    }
    mapping
}

/// The table of strings. Other fields contain a string's index in it.
struct Strings {
    numbers: HashMap<String, u64>,
    in_order: Vec<String>,
}

impl Strings {
    /// The first string is always empty.
    fn new() -> Strings {
        let mut strings = Strings { numbers: HashMap::new(), in_order: Vec::new() };
        strings.number("");
        strings
    }

    fn number(&mut self, text: &str) -> u64 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.in_order.len() as u64;
        self.numbers.insert(text.to_owned(), number);
        self.in_order.push(text.to_owned());
        number
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> Message {
        let mut message = Message::default();
        message.number(1, self.number(kind)).number(2, self.number(unit));
        message
    }
}

/// A message of Protocol Buffers.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) -> &mut Message {
        if value != 0 {
            self.varint(field << 3);
            self.varint(value);
        }
        self
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Message {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn message(&mut self, field: u64, message: &Message) -> &mut Message {
        self.bytes(field, &message.0)
    }

    /// Writes a repeated number in its packed form.
    fn numbers(&mut self, field: u64, values: impl IntoIterator<Item = u64>) -> &mut Message {
        let mut packed = Message::default();
        for value in values {
            packed.varint(value);
        }
        self.message(field, &packed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_bytes_of_the_format() {
        let mut message = Message::default();
        // The examples of the format's own documentation.
        message.number(1, 150).bytes(2, b"testing").numbers(6, [3, 270, 86_942]).number(3, 0);
        let expected = [
            &[0x08, 0x96, 0x01][..],
            &[0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67],
            &[0x32, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05],
        ]
        .concat();
        assert_eq!(message.0, expected);
        let mut outer = Message::default();
        assert_eq!(outer.message(3, Message::default().number(1, u64::MAX)).0[..4], [0x1a, 11, 0x08, 0xff]);
        assert_eq!(outer.0.len(), 13);
    }
}
