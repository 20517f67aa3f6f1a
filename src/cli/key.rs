//! `firehose key`: creates keys (shown once), lists and revokes them, with or without a running server.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Subcommand;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::{Value, json};

use super::FolderArgs;
use super::tenant::{Absent, with_store};
use crate::base::clock;
use crate::tenants::{KeyRow, KeyWish, NewKey, Scopes, Store, TenantsError};

/// The maximum length of a label, in characters.
const LABEL_CHARS_MAX: usize = 200;

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Creates a key and prints it once; only its hash is stored.
    ///
    /// Once the first key exists, every request needs a key, except to /health, /ready, /docs, /openapi.json,
    /// /receipts and the page at /.
    Create {
        #[command(flatten)]
        folder: FolderArgs,

        /// The tenant that the key is bound to. Default: every tenant.
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,

        /// The key's scopes: write (append clicks and events only; safe in a public page), manage (ingest orders;
        /// change order status, stock and prices), read, admin (everything). Separate several with commas, or repeat
        /// the flag.
        #[arg(long, value_name = "SCOPES", required = true)]
        scope: Vec<Scopes>,

        /// When the key expires: after a time (90d, 12h) or at a date (2027-01-31, RFC 3339). Default: never.
        #[arg(long, value_name = "DURATION|DATE", value_parser = time)]
        expires: Option<When>,

        /// A note about the purpose of the key.
        #[arg(long, value_name = "TEXT", default_value = "", value_parser = label)]
        label: String,
    },

    /// Lists the keys without their secrets: scopes, tenant, state, last use, and whether a public page may
    /// contain them.
    ///
    /// A key with the scope write that is older than the scope manage has both scopes, and must not be in a public
    /// page.
    List {
        #[command(flatten)]
        folder: FolderArgs,
    },

    /// Revokes a key: within two seconds, or later, so that the old and the new key overlap while clients change.
    Revoke {
        #[command(flatten)]
        folder: FolderArgs,

        /// The key's id: 16 hexadecimal digits, as shown by `list` and contained in the key.
        id: String,

        /// How long the key remains valid (24h), or when it ends.
        #[arg(long = "in", value_name = "DURATION|DATE", value_parser = time)]
        later: Option<When>,
    },
}

/// A future time, in microseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When(pub(super) i64);

pub(super) fn time(text: &str) -> Result<When, String> {
    moment(text, clock::unix_us()).ok_or_else(|| {
        "expected a time in the future: 90d, 12h, 2027-01-31 (its first moment, UTC) or \
         2027-01-31T12:00:00Z"
            .to_owned()
    })
}

/// Parses a duration from now, a date or a date-time. Returns the time if it is in the future.
fn moment(text: &str, now_us: i64) -> Option<When> {
    let at = match text.parse::<Span>() {
        Ok(span) => {
            let now = Timestamp::from_microsecond(now_us).ok()?.to_zoned(TimeZone::UTC);
            now.checked_add(span).ok()?.timestamp()
        }
        Err(_) => match text.parse::<Timestamp>() {
            Ok(time) => time,
            // A date-time without an offset is ambiguous.
            Err(_) if text.contains([':', 'T', 't']) => return None,
            Err(_) => text.parse::<jiff::civil::Date>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp(),
        },
    };
    Some(When(at.as_microsecond())).filter(|when| when.0 > now_us)
}

pub(super) fn label(text: &str) -> Result<String, String> {
    if text.chars().count() > LABEL_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(format!("expected at most {LABEL_CHARS_MAX} characters on one line"));
    }
    Ok(text.to_owned())
}

/// Runs one of the key commands.
#[must_use]
pub fn key(command: &KeyCommand) -> ExitCode {
    match command {
        KeyCommand::Create { folder, tenant, scope, expires, label } => {
            let scopes = scope.iter().copied().reduce(Scopes::and);
            let Some(scopes) = scopes else { return ExitCode::from(2) };
            with_store(folder, Absent::Make, |store| {
                let wish = KeyWish {
                    tenant_id: tenant.clone(),
                    scopes,
                    label: label.clone(),
                    expires_us: expires.map(|when| when.0),
                };
                let key = store.create_key(&wish, clock::unix_us())?;
                Ok(shown_once(folder, &wish, &key))
            })
        }
        KeyCommand::List { folder } => with_store(folder, Absent::Empty, |store| list(folder, store)),
        KeyCommand::Revoke { folder, id, later } => with_store(folder, Absent::Fail, |store| {
            let now_us = clock::unix_us();
            let at_us = store.revoke(id, later.map_or(now_us, |when| when.0), now_us)?;
            let at = clock::rfc3339(at_us);
            if folder.json {
                return Ok(format!("{}\n", json!({"id": id, "revoked_at": at})));
            }
            let verb = if at_us > now_us { "ends" } else { "ended" };
            Ok(format!("key {id} {verb} at {at}; a running server applies this within two seconds\n"))
        }),
    }
}

fn shown_once(folder: &FolderArgs, wish: &KeyWish, key: &NewKey) -> String {
    if folder.json {
        let shown = json!({
            "id": key.id.to_string(),
            "key": key.text,
            "tenant": wish.tenant_id,
            "scopes": wish.scopes.to_string(),
            "public": wish.scopes.is_public(),
            "label": wish.label,
            "expires_at": wish.expires_us.map(clock::rfc3339),
        });
        return format!("{shown}\n");
    }
    // This text goes to stderr, so that `$(firehose key create ...)` expands to the key only.
    eprintln!(
        "This key is shown only once and is not stored. Send it as `Authorization: Bearer` or `X-API-Key`."
    );
    if !wish.scopes.is_public() {
        eprintln!("It is secret: only a key whose sole scope is write may be in a public page.");
    }
    format!("{}\n", key.text)
}

fn described(row: &KeyRow, now_us: i64) -> Value {
    json!({
        "id": row.key_id,
        "state": row.state(now_us),
        "scopes": row.scopes.map(|scopes| scopes.to_string()),
        "public": row.scopes.is_some_and(Scopes::is_public),
        "tenant": row.tenant_id,
        "label": row.label,
        "created_at": clock::rfc3339(row.created_us),
        "expires_at": row.expires_us.map(clock::rfc3339),
        "revoked_at": row.revoked_us.map(clock::rfc3339),
        "last_used_at": row.last_used_us.map(clock::rfc3339),
    })
}

fn list(folder: &FolderArgs, store: &Store) -> Result<String, TenantsError> {
    let (rows, now_us) = (store.keys()?, clock::unix_us());
    if folder.json {
        let rows: Vec<_> = rows.iter().map(|row| described(row, now_us)).collect();
        return Ok(format!("{}\n", Value::from(rows)));
    }
    let mut text = format!(
        "{:<16}  {:<10} {:<18} {:<12} {:<20} {:<20} {:<16} {}\n",
        "key", "state", "scopes", "public page", "last used", "ends", "tenant", "label"
    );
    for row in &rows {
        // Times are shown to the second, for people.
        let shown = |time: Option<i64>| time.map(|us| clock::rfc3339(us / 1_000_000 * 1_000_000));
        let ends = [row.expires_us, row.revoked_us].into_iter().flatten().min();
        _ = writeln!(
            text,
            "{:<16}  {:<10} {:<18} {:<12} {:<20} {:<20} {:<16} {}",
            row.key_id,
            row.state(now_us),
            row.scopes.map(|scopes| scopes.to_string()).unwrap_or_default(),
            if row.scopes.is_some_and(Scopes::is_public) { "allowed" } else { "forbidden" },
            shown(row.last_used_us).unwrap_or_else(|| "never".to_owned()),
            shown(ends).unwrap_or_else(|| "never".to_owned()),
            row.tenant_id.as_deref().unwrap_or("(all)"),
            row.label
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_from_now_or_a_date_to_come() {
        // 2024-01-15T10:30:00Z
        let now_us = 1_705_314_600_000_000;
        for (text, us) in [
            ("90d", now_us + 90 * 86_400_000_000),
            ("24h", now_us + 86_400_000_000),
            ("1h 30m", now_us + 5_400_000_000),
            ("2024-01-16", now_us + 48_600_000_000),
            ("2024-01-15T12:30:00+01:00", now_us + 3_600_000_000),
        ] {
            assert_eq!(moment(text, now_us), Some(When(us)), "{text}");
        }
        for text in
            ["", "90", "soon", "0s", "-1d", "2024-01-15", "2023-01-01", "2024-01-16T10:00:00", "999999999y"]
        {
            assert_eq!(moment(text, now_us), None, "{text}");
        }
    }
}
