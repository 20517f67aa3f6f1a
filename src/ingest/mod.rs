//! The life of an event between the socket and the database.
//!
//! admit → decode → route → journal → acknowledge, on the listener; journal → commit → release, on the
//! shard's writer ([`write`](mod@write)).

pub mod write;
