//! A limit on concurrent work across threads: a holder of a token runs, and others wait their turn.

/// A pool of tokens. Clones share it.
#[derive(Clone, Debug)]
pub struct Tokens {
    give: async_channel::Sender<()>,
    take: async_channel::Receiver<()>,
}

/// Permission to run. Dropping it passes the token on, no matter how its holder ends.
#[derive(Debug)]
pub struct Token(async_channel::Sender<()>);

impl Tokens {
    /// Creates `count` tokens, but at least one.
    #[must_use]
    pub fn new(count: usize) -> Tokens {
        let (give, take) = async_channel::bounded(count.max(1));
        for _ in 0..count.max(1) {
            // The channel has space for all tokens.
            let _ = give.try_send(());
        }
        Tokens { give, take }
    }

    /// Waits for a token.
    pub async fn token(&self) -> Token {
        // Both ends of the channel are in this struct, so the channel stays open and this never fails.
        let _ = self.take.recv().await;
        Token(self.give.clone())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn so_many_at_a_time_and_no_more() {
        let tokens = Tokens::new(2);
        let next = || block_on(poll_once(tokens.token()));
        let (one, other) = (next(), next());
        assert!(one.is_some() && other.is_some() && next().is_none());
        drop(one);
        let again = next();
        assert!(again.is_some() && next().is_none());
        // A waiter that was dropped while it waited has not taken a token.
        drop((again, other));
        assert!(next().is_some());
    }
}
