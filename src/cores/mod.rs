//! Pinned threads, their executors and their communication.
//!
//! In: nothing but the machine. Out: threads that remain on their CPU, sockets and timers of one runtime, mailboxes.
//! Owns: every use of the runtime crates, epoll and eventfd. Never: knows what a request is.

pub mod epoll;
pub mod executor;
pub mod mailbox;
pub mod pin;
pub mod preflight;
pub mod socket;
pub mod stop;
pub mod wake;
