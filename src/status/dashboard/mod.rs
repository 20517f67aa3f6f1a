//! The dashboard: its files, all from the binary, and the data that they load once a second.
//!
//! The page loads `/dashboard/state` ([`state()`]) with the key that the user entered, or `/health` if the server
//! refuses that request. It loads nothing from other hosts and needs no inline script or style, as its policy
//! requires. The operators' listener does not serve it, because browsers send more header fields than that listener
//! accepts (`ops/listen.rs`).

mod files;
mod state;

pub use state::state;

use crate::api::docs::NO_PAGE;
use crate::api::{Asked, Problem};
use crate::http::Answer;

/// Answers `/` with the page if the client accepts HTML, and redirects other clients to the docs.
#[must_use]
pub fn root(asked: &Asked<'_>) -> Answer {
    match asked.wants.html {
        true => files::index(&asked.wants),
        false => Answer::new(303, "", &b""[..]).with("Location", "/docs").with("Vary", "Accept"),
    }
}

/// Answers with the page or one of its files, or with 404 if there is none.
#[must_use]
pub fn file(asked: &Asked<'_>) -> Answer {
    let found = files::file(asked.path, &asked.wants);
    found.unwrap_or_else(|| asked.not_found(Problem::NotFound, NO_PAGE))
}

/// Answers with the icon of all pages.
#[must_use]
pub fn favicon(asked: &Asked<'_>) -> Answer {
    files::favicon(&asked.wants)
}
