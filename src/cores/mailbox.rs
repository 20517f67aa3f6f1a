//! Bounded mailboxes between cores: one ring for each pair of threads, one wake-up for each reader.

use std::sync::Arc;

use super::wake::Wake;

/// The sending half, owned by one thread.
#[derive(Debug)]
pub struct Sender<T> {
    ring: rtrb::Producer<T>,
    wake: Arc<Wake>,
}

impl<T> Sender<T> {
    /// Sends a message, or returns it if the mailbox is full. The caller decides what to do with it.
    pub fn send(&mut self, message: T) -> Result<(), T> {
        self.ring.push(message).map_err(|rtrb::PushError::Full(message)| message)?;
        self.wake.wake();
        Ok(())
    }
}

/// The receiving half, owned by the thread that `wake` wakes.
pub type Receiver<T> = rtrb::Consumer<T>;

/// Creates a mailbox of `capacity` messages.
#[must_use]
pub fn mailbox<T>(capacity: usize, wake: Arc<Wake>) -> (Sender<T>, Receiver<T>) {
    let (ring, receiver) = rtrb::RingBuffer::new(capacity);
    (Sender { ring, wake }, receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_gives_the_message_back() {
        let wake = Arc::new(Wake::new().unwrap());
        let (mut sender, mut receiver) = mailbox(1, wake);
        assert_eq!(sender.send(1), Ok(()));
        assert_eq!(sender.send(2), Err(2));
        assert_eq!(receiver.pop(), Ok(1));
        assert_eq!(sender.send(2), Ok(()));
    }
}
