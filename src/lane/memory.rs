//! The memory of one core's executor lane that clients control: stored bodies, and the buffers for unpacking and
//! staging an ingest. All of it shares one budget. A request that exceeds the budget is refused, and releases what it
//! held.

use std::cell::Cell;
use std::rc::Rc;

/// The held bytes and their limit.
#[derive(Debug)]
pub struct Memory {
    bytes: Cell<usize>,
    bytes_max: usize,
}

/// The budget is exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetExceeded;

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

    pub fn hold(self: &Rc<Memory>) -> Reservation {
        Reservation { memory: self.clone(), bytes: 0 }
    }
}

/// The memory of one request or upload. It counts until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    memory: Rc<Memory>,
    bytes: usize,
}

impl Reservation {
    /// Increases the held bytes by `bytes`.
    pub fn add(&mut self, bytes: usize) -> Result<(), BudgetExceeded> {
        self.set(self.bytes + bytes)
    }

    /// Sets the held bytes. They are counted even if they exceed the budget, because the holder releases them next.
    pub fn set(&mut self, bytes: usize) -> Result<(), BudgetExceeded> {
        let grows = bytes > self.bytes;
        self.memory.bytes.set(self.memory.bytes.get() - self.bytes + bytes);
        self.bytes = bytes;
        // A holder that shrinks does not cause the excess.
        if grows && self.memory.is_spent() { Err(BudgetExceeded) } else { Ok(()) }
    }
}

impl Drop for Reservation {
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
        assert_eq!((two.add(1), memory.is_spent()), (Err(BudgetExceeded), true));
        assert_eq!((one.set(59), memory.is_spent()), (Ok(()), false));
        drop(two);
        assert_eq!((one.set(100), memory.bytes()), (Ok(()), 100));
        drop(one);
        assert_eq!(memory.bytes(), 0);
    }
}
