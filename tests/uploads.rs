//! Resumable uploads by tus 1.0.0: the protocol header by header, connections that are cut and servers that are killed
//! at any byte, and unmodified tus clients. At the end every order is stored once, and the summary matches the file.

#[path = "tus/mod.rs"]
mod tus;
