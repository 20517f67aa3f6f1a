//! Resumable uploads by tus 1.0.0: the protocol header by header, connections that are cut and servers that are
//! killed at any byte, stock clients; and in the end every order once and a summary that is the file's.

#[path = "tus/mod.rs"]
mod tus;
