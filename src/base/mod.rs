//! The vocabulary of every other folder: identifiers, record kinds, limits, the clock, counters, money.
//!
//! In: nothing. Out: small types. Owns: the only calls to the system clocks. Never: does I/O, allocates on a hot
//! path, depends on another folder. The one exception to "no I/O" is `durable`, which every folder with files shares.

pub mod bucket_size;
pub mod clock;
pub mod counters;
pub mod durable;
pub mod ids;
pub mod keys;
pub mod kinds;
pub mod limits;
pub mod money;
pub mod observed;
pub mod prices;
pub mod tokens;
