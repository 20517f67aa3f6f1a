//! The errors of a PostgreSQL server, by the help that they need.

use tokio_postgres::error::SqlState;

use crate::ship::sink::SinkError;

/// The reason why a statement failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// A row with the same key is in the table.
    Twice(String),
    /// A value is not accepted. Without the row, the batch succeeds.
    Data(String),
    Sink(SinkError),
}

impl Failure {
    /// Returns the error for the caller, where rows are not sorted out.
    pub(super) fn into_sink_error(self) -> SinkError {
        match self {
            Failure::Twice(reason) | Failure::Data(reason) => SinkError::Lasting(reason),
            Failure::Sink(error) => error,
        }
    }

    pub(super) fn lasting(reason: impl Into<String>) -> Failure {
        Failure::Sink(SinkError::Lasting(reason.into()))
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        let Some(server) = error.as_db_error() else {
            let reason = with_cause(&error);
            return Failure::Sink(match is_lasting_here(&error) {
                true => SinkError::Lasting(reason),
                false => SinkError::Passing(reason),
            });
        };
        // Neither the detail nor the place: both may contain values of the row.
        let code = server.code();
        let object = [server.table(), server.column(), server.constraint()];
        let object: Vec<&str> = object.into_iter().flatten().collect();
        let at = if object.is_empty() { String::new() } else { format!(" ({})", object.join(", ")) };
        let reason = format!("SQLSTATE {}: {}{at}", code.code(), message(server));
        match kind(code) {
            Kind::Twice => Failure::Twice(reason),
            Kind::Data => Failure::Data(reason),
            Kind::Passing => Failure::Sink(SinkError::Passing(reason)),
            Kind::Lasting => Failure::Sink(SinkError::Lasting(reason)),
        }
    }
}

/// Returns the server's message. That of a value which is not accepted may repeat the value, so it is left out.
fn message(server: &tokio_postgres::error::DbError) -> &str {
    match server.code().code().get(..2) {
        Some("22") => "a value is not accepted",
        Some("54") => "a value is too large",
        _ => server.message(),
    }
}

fn with_cause(error: &tokio_postgres::Error) -> String {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let text = next.to_string();
        if !reason.ends_with(&text) {
            reason = format!("{reason}: {text}");
        }
        cause = next.source();
    }
    reason
}

/// Returns `true` for errors of this side that a new attempt does not change: a certificate that is not accepted, a
/// server without TLS, a missing password.
fn is_lasting_here(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        if let Some(io) = next.downcast_ref::<std::io::Error>()
            && let Some(inner) = io.get_ref()
            && matches!(
                inner.downcast_ref::<rustls::Error>(),
                Some(rustls::Error::InvalidCertificate(_) | rustls::Error::UnsupportedNameType)
            )
        {
            return true;
        }
        cause = next.source();
    }
    let text = with_cause(error);
    ["server does not support TLS", "password missing"].iter().any(|known| text.contains(known))
}

enum Kind {
    Twice,
    Data,
    Passing,
    Lasting,
}

fn kind(code: &SqlState) -> Kind {
    if *code == SqlState::UNIQUE_VIOLATION {
        return Kind::Twice;
    }
    match code.code().get(..2).unwrap_or_default() {
        // Data, constraints, and values that exceed a limit, as the size of an index entry.
        "22" | "23" => Kind::Data,
        "54" if *code != SqlState::STATEMENT_TOO_COMPLEX => Kind::Data,
        // Connections, cancelled transactions, disks and memory, the operator, the system, an object that is in use.
        "08" | "40" | "53" | "57" | "58" | "55" | "XX" => Kind::Passing,
        // A standby, or a transaction that the server has ended.
        "25" => Kind::Passing,
        _ => Kind::Lasting,
    }
}
