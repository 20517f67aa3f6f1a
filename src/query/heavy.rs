//! The permission to use much memory, which one query has at a time. Owners take turns with it.

use std::sync::Arc;

use super::shares::Owner;
use crate::base::tokens::{Token, Tokens};

/// The number of turns. Owners whose hashes select the same one have it together.
const TURNS: usize = 256;

/// A query's permission to use much memory. Dropping it passes it on.
#[derive(Debug)]
pub struct Heavy {
    // The permission is passed on before the turn ends, so that it goes to another owner.
    _permission: Permission,
    _turn: Token,
}

/// The queries that wait for the permission.
#[derive(Debug)]
pub(super) struct HeavyLine {
    /// One token for each turn, so that only one query of an owner is in the line.
    turns: Vec<Tokens>,
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    /// Has an entry while nobody has the permission.
    free: (async_channel::Sender<()>, async_channel::Receiver<()>),
    /// The queries that wait, first come, first served.
    waiting: (async_channel::Sender<Waiter>, async_channel::Receiver<Waiter>),
}

type Waiter = async_channel::Sender<Permission>;

#[derive(Debug)]
struct Permission(Arc<Line>);

impl HeavyLine {
    pub(super) fn new() -> HeavyLine {
        let line = Line { free: async_channel::bounded(1), waiting: async_channel::bounded(TURNS) };
        let _ = line.free.0.try_send(());
        HeavyLine { turns: (0..TURNS).map(|_| Tokens::new(1)).collect(), line: Arc::new(line) }
    }

    /// Waits for the owner's turn, and then for the permission. Returns `None` only if the line is broken.
    pub(super) async fn heavy(&self, owner: Owner) -> Option<Heavy> {
        let turn = self.turns[turn_of(owner)].token().await;
        let (give, given) = async_channel::bounded(1);
        // There is space for each turn.
        self.line.waiting.0.send(give).await.ok()?;
        self.line.pass_on();
        Some(Heavy { _permission: given.recv().await.ok()?, _turn: turn })
    }
}

fn turn_of(owner: Owner) -> usize {
    match owner {
        Owner::Server => 0,
        Owner::Tenant(hash) => hash as usize % TURNS,
    }
}

impl Line {
    /// Gives the permission to the first who waits, if it is free. Whoever returns it or begins to wait calls this, so
    /// it is never free while somebody waits.
    fn pass_on(self: &Arc<Line>) {
        while !self.waiting.1.is_empty() && self.free.1.try_recv().is_ok() {
            match self.waiting.1.try_recv() {
                // If the query was dropped, the permission returns by being dropped.
                Ok(waiter) => drop(waiter.try_send(Permission(self.clone()))),
                Err(_) => drop(self.free.0.try_send(())),
            }
        }
    }
}

impl Drop for Permission {
    fn drop(&mut self) {
        let _ = self.0.free.0.try_send(());
        self.0.pass_on();
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn owners_take_turns_with_queries_that_use_much_memory() {
        let line = HeavyLine::new();
        let (flood, other) = (Owner::Tenant(1), Owner::Tenant(2));
        let held = block_on(line.heavy(flood)).unwrap();
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(line.heavy(flood))).collect();
        let mut others = Box::pin(line.heavy(other));
        let mut none_of_flood = || waiting.iter_mut().all(|one| block_on(poll_once(one)).is_none());
        assert!(none_of_flood() && block_on(poll_once(&mut others)).is_none());
        drop(held);
        // The other one gets it, even if it is polled later.
        assert!(none_of_flood());
        let held = block_on(poll_once(&mut others)).unwrap();
        assert!(none_of_flood());
        drop(held);
        let mut held = Vec::new();
        for one in &mut waiting {
            held.clear();
            held.extend(block_on(poll_once(one)).unwrap());
        }
    }

    #[test]
    fn a_query_that_was_dropped_passes_it_on() {
        let line = HeavyLine::new();
        let held = block_on(line.heavy(Owner::Tenant(1))).unwrap();
        let mut dropped: Vec<_> = (2..5).map(|owner| Box::pin(line.heavy(Owner::Tenant(owner)))).collect();
        assert!(dropped.iter_mut().all(|one| block_on(poll_once(one)).is_none()));
        let mut last = Box::pin(line.heavy(Owner::Tenant(5)));
        assert!(block_on(poll_once(&mut last)).is_none());
        // One is dropped while it waits, one after it got the permission without having read it.
        drop(dropped.remove(1));
        drop(held);
        drop(dropped);
        assert!(block_on(poll_once(&mut last)).is_some());
    }
}
