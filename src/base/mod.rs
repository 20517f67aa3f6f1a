//! The vocabulary of every other folder: identifiers, record kinds, limits, the clock, counters, money.
//!
//! In: nothing. Out: small types. Owns: the only calls of the system clocks. Never: I/O, allocation on a hot path, a
//! dependency on another folder. The one exception to "no I/O" is `durable`, which every folder with files shares.

pub mod bucket_size;
pub mod clock;
pub mod counters;
pub mod durable;
pub mod ids;
pub mod keys;
pub mod kinds;
pub mod limits;
pub mod money;
pub mod prices;
pub mod tokens;
