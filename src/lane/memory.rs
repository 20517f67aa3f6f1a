//! The memory of one core's executor lane that clients decide about: bodies that are kept, and what unpacking and
//! staging an ingest hold. One budget for all of it; whoever goes beyond it is refused, and gives back what it held.

use std::cell::Cell;
use std::rc::Rc;

/// What is held, and how much may be.
#[derive(Debug)]
pub struct Memory {
    bytes: Cell<usize>,
    bytes_max: usize,
}

/// There is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent;

impl Memory {
    pub fn new(bytes_max: usize) -> Rc<Memory> {
        Rc::new(Memory { bytes: Cell::new(0), bytes_max })
    }

    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    pub fn is_spent(&self) -> bool {
        self.bytes.get() > self.bytes_max
    }

    pub fn hold(self: &Rc<Memory>) -> Held {
        Held { memory: self.clone(), bytes: 0 }
    }
}

/// What one request or upload holds; counted until it is dropped.
#[derive(Debug)]
pub struct Held {
    memory: Rc<Memory>,
    bytes: usize,
}

impl Held {
    /// It holds so many bytes more.
    pub fn add(&mut self, bytes: usize) -> Result<(), Spent> {
        self.set(self.bytes + bytes)
    }

    /// It holds so many bytes now. They are counted also where they are too many: whoever holds them lets go of them
    /// next.
    pub fn set(&mut self, bytes: usize) -> Result<(), Spent> {
        let grows = bytes > self.bytes;
        self.memory.bytes.set(self.memory.bytes.get() - self.bytes + bytes);
        self.bytes = bytes;
        // One that shrinks is not who is to blame.
        if grows && self.memory.is_spent() { Err(Spent) } else { Ok(()) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.bytes.set(self.memory.bytes.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_until_it_is_let_go() {
        let memory = Memory::new(100);
        let (mut one, mut two) = (memory.hold(), memory.hold());
        assert_eq!((one.set(60), two.add(40), memory.bytes()), (Ok(()), Ok(()), 100));
        assert_eq!((two.add(1), memory.is_spent()), (Err(Spent), true));
        assert_eq!((one.set(59), memory.is_spent()), (Ok(()), false));
        drop(two);
        assert_eq!((one.set(100), memory.bytes()), (Ok(()), 100));
        drop(one);
        assert_eq!(memory.bytes(), 0);
    }
}
