//! The sink against a real server.

mod arrives;
mod erasure;
mod json;
mod outage;
mod poison;
mod rows;
mod schema;
mod statuses;
mod tls;
mod twice;
mod verify;
