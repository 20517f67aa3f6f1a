//! A queue of steps whose owners take turns, with the steps of short queries first.
//!
//! A sender never waits: it passes the step through a bounded channel, and a ticket for it through another. A thread
//! that has a ticket sorts what has arrived and takes the step whose turn it is. The sorted steps pass from thread to
//! thread through a channel of one place, so that only threads of this queue ever wait for them.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::shares::{Full, Owner, Share, Shares};

/// The number of short steps in a row after which a long one has its turn.
const SHORT_IN_A_ROW: u32 = 3;

/// A step, and when it has its turn.
struct Waiting<T> {
    step: T,
    owner: Owner,
    is_long: bool,
    /// The step's place in the queue.
    _share: Share,
}

/// The sending side of a queue.
pub(super) struct StepQueue<T> {
    shares: Arc<Shares>,
    steps: async_channel::Sender<Box<Waiting<T>>>,
    tickets: async_channel::Sender<()>,
}

/// The side of a thread that runs steps.
pub(super) struct StepTaker<T> {
    steps: async_channel::Receiver<Box<Waiting<T>>>,
    tickets: async_channel::Receiver<()>,
    sorted: (async_channel::Sender<Sorted<T>>, async_channel::Receiver<Sorted<T>>),
}

impl<T> Clone for StepTaker<T> {
    fn clone(&self) -> StepTaker<T> {
        StepTaker { steps: self.steps.clone(), tickets: self.tickets.clone(), sorted: self.sorted.clone() }
    }
}

/// Creates a queue in which at most `waiting_max` steps wait.
pub(super) fn step_queue<T>(waiting_max: usize) -> (StepQueue<T>, StepTaker<T>) {
    let (steps, arriving) = async_channel::bounded(waiting_max);
    let (tickets, ticketed) = async_channel::bounded(waiting_max);
    let sorted = async_channel::bounded(1);
    let _ = sorted.0.try_send(Sorted::default());
    let queue = StepQueue { shares: Shares::new(waiting_max), steps, tickets };
    (queue, StepTaker { steps: arriving, tickets: ticketed, sorted })
}

impl<T> fmt::Debug for StepQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepQueue").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl<T> StepQueue<T> {
    /// Returns the number of waiting steps.
    pub(super) fn waiting(&self) -> usize {
        self.shares.held()
    }

    /// Returns the places of the waiting steps.
    pub(super) fn places(&self) -> Arc<Shares> {
        self.shares.clone()
    }

    pub(super) fn push(&self, owner: Owner, is_long: bool, step: T) -> Result<(), Full> {
        let share = self.shares.claim(owner)?;
        let waiting = Waiting { step, owner, is_long, _share: share };
        // Both channels have space for as many steps as there are places.
        self.steps.try_send(Box::new(waiting)).map_err(|_| Full::All)?;
        self.tickets.try_send(()).map_err(|_| Full::All)
    }
}

impl<T> StepTaker<T> {
    /// Waits for the next step. Returns `None` once the queue is empty and has no sender.
    pub(super) fn next(&self) -> Option<T> {
        loop {
            self.tickets.recv_blocking().ok()?;
            let mut sorted = self.sorted.1.recv_blocking().ok()?;
            while let Ok(arrived) = self.steps.try_recv() {
                sorted.add(arrived);
            }
            let next = sorted.next();
            let _ = self.sorted.0.try_send(sorted);
            // A step is sent before its ticket, so there is one for each ticket.
            if let Some(next) = next {
                return Some(next.step);
            }
        }
    }
}

/// Waiting steps in the order of their turns.
struct Sorted<T> {
    short: Round<T>,
    long: Round<T>,
    short_in_a_row: u32,
}

impl<T> Default for Sorted<T> {
    fn default() -> Sorted<T> {
        Sorted { short: Round::default(), long: Round::default(), short_in_a_row: 0 }
    }
}

impl<T> Sorted<T> {
    fn add(&mut self, waiting: Box<Waiting<T>>) {
        let round = if waiting.is_long { &mut self.long } else { &mut self.short };
        round.add(waiting);
    }

    fn next(&mut self) -> Option<Box<Waiting<T>>> {
        if self.short_in_a_row < SHORT_IN_A_ROW
            && let Some(short) = self.short.next()
        {
            self.short_in_a_row += 1;
            return Some(short);
        }
        self.short_in_a_row = 0;
        self.long.next().or_else(|| self.short.next())
    }
}

/// Steps whose owners take turns. Each owner's own steps remain in their order.
struct Round<T> {
    /// The owners that have steps.
    turns: VecDeque<Owner>,
    steps: HashMap<Owner, VecDeque<Box<Waiting<T>>>>,
}

impl<T> Default for Round<T> {
    fn default() -> Round<T> {
        Round { turns: VecDeque::new(), steps: HashMap::new() }
    }
}

impl<T> Round<T> {
    fn add(&mut self, waiting: Box<Waiting<T>>) {
        let owner = waiting.owner;
        let of_owner = self.steps.entry(owner).or_default();
        if of_owner.is_empty() {
            self.turns.push_back(owner);
        }
        of_owner.push_back(waiting);
    }

    fn next(&mut self) -> Option<Box<Waiting<T>>> {
        let owner = self.turns.pop_front()?;
        let of_owner = self.steps.get_mut(&owner)?;
        let next = of_owner.pop_front();
        if of_owner.is_empty() {
            self.steps.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Owner = Owner::Tenant(1);
    const B: Owner = Owner::Tenant(2);

    fn taken(steps: &[(Owner, bool, &'static str)]) -> Vec<&'static str> {
        let (queue, taker) = step_queue(100);
        for (owner, is_long, name) in steps {
            queue.push(*owner, *is_long, *name).unwrap();
        }
        assert_eq!(queue.waiting(), steps.len());
        drop(queue);
        std::iter::from_fn(|| taker.next()).collect()
    }

    #[test]
    fn owners_take_turns_and_keep_the_order_of_their_own_steps() {
        let steps = ["a1", "a2", "a3", "a4"].map(|name| (A, false, name));
        let taken = taken(&[&steps[..], &[(B, false, "b1"), (B, false, "b2")]].concat());
        assert_eq!(taken, ["a1", "b1", "a2", "b2", "a3", "a4"]);
    }

    #[test]
    fn short_steps_overtake_long_ones_of_any_owner_but_not_without_end() {
        let long = ["l1", "l2"].map(|name| (A, true, name));
        let short = ["s1", "s2", "s3", "s4", "s5"].map(|name| (B, false, name));
        let taken = taken(&[&long[..], &short[..]].concat());
        assert_eq!(taken, ["s1", "s2", "s3", "l1", "s4", "s5", "l2"]);
    }

    #[test]
    fn a_queue_that_one_owner_fills_has_room_for_another() {
        let (queue, taker) = step_queue(16);
        let mut filled = 0;
        while queue.push(A, false, "a").is_ok() {
            filled += 1;
        }
        assert_eq!((filled, queue.push(A, false, "a")), (12, Err(Full::Share)));
        assert_eq!(queue.push(B, false, "b"), Ok(()));
        assert_eq!((taker.next(), taker.next()), (Some("a"), Some("b")));
        assert_eq!(queue.waiting(), 11);
    }

    #[test]
    fn threads_of_one_queue_run_every_step_once() {
        let (queue, taker) = step_queue(1_000);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let taker = taker.clone();
                std::thread::spawn(move || std::iter::from_fn(|| taker.next()).collect::<Vec<u32>>())
            })
            .collect();
        (0..700).for_each(|number| queue.push(Owner::Tenant(u64::from(number % 7)), false, number).unwrap());
        drop(queue);
        let mut all: Vec<u32> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..700).collect::<Vec<_>>());
    }
}
