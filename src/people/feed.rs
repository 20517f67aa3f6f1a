//! Erasures as a sink's rows need them: whom a change of the kind `erasure` concerns, and how the person's events are
//! recognised in the target.
//!
//! # The effect of an erasure in a target
//!
//! The shard has already deleted its rows when it appends the change. The target repeats that, for the rows of the
//! same shard:
//!
//! | rows | [`ErasureMode::Erase`] | [`ErasureMode::Pseudonymise`] |
//! | --- | --- | --- |
//! | orders, items, statuses of [`FeedErasure::customer_ids`] | deleted | kept: [`FeedErasure::pseudonym`] becomes the customer's id, name and address become empty |
//! | events for which [`FeedErasure::event`] returns [`EventFate::Deleted`] | deleted | deleted |
//! | events for which it returns [`EventFate::Replaced`] | | kept with this payload |
//! | clicks of [`FeedErasure::user_id`] up to [`FeedErasure::clicks_upto`] | deleted | |
//! | copies of these rows that the target keeps elsewhere, such as refused rows | deleted | deleted |
//!
//! Candidates among the tenant's events are found by [`FeedErasure::needles`] in payloads and by
//! [`FeedErasure::name_needles`] in event ids, sources and types. Changes of the kind `erased` name deleted events by
//! their row ids. They also name events that an erasure deleted whose person is no longer known.

use rusqlite::{Connection, OptionalExtension as _};

use super::many::PeopleMatcher;
use super::matcher::{PersonMatcher, is_object};
use super::record::{ErasureRecord, Subject};
use super::rows::EventRefers;
use crate::shard::{ErasureMode, ShardError};

/// An erasure whose person is still known.
#[derive(Debug)]
pub struct FeedErasure {
    /// `erasure.number` in this shard.
    pub number: i64,
    /// The time at which the request began, in microseconds since 1970.
    pub began_us: i64,
    pub mode: ErasureMode,
    pub subject: Subject,
    /// The last click that was deleted if it was the user's. Clicks with greater row ids came later and remain. `None` if
    /// the user has no clicks that remain, and for a customer.
    pub clicks_upto: Option<i64>,
    person: PersonMatcher,
    /// The same person, as the shard searches its events.
    matcher: PeopleMatcher,
}

/// The effect of an erasure on one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventFate {
    /// The event does not refer to the person.
    Other,
    Deleted,
    /// The event remains with this payload, a JSON object that contains the pseudonym.
    Replaced(String),
}

/// Returns an erasure by its number in a shard. Returns `None` once the person is no longer known there, and for an
/// unknown number.
///
/// # Errors
/// The shard cannot be read, or the stored person is damaged.
pub fn erasure(connection: &Connection, number: i64) -> Result<Option<FeedErasure>, ShardError> {
    let sql =
        "SELECT began_us, mode, subject, clicks_upto FROM erasure WHERE number = ?1 AND subject IS NOT NULL";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    let found: Option<(i64, String, Vec<u8>, Option<i64>)> =
        connection.prepare_cached(sql)?.query_row([number], read).optional()?;
    let Some((began_us, mode, subject, clicks_upto)) = found else { return Ok(None) };
    let damaged = || ShardError::Corrupt(format!("erasure {number} cannot be read"));
    let mode = ErasureMode::parse(&mode).ok_or_else(damaged)?;
    let Some(ErasureRecord::Erase { subject, .. }) = ErasureRecord::decode(&subject) else {
        return Err(damaged());
    };
    Ok(Some(FeedErasure { clicks_upto, ..FeedErasure::new(number, began_us, mode, subject) }))
}

impl FeedErasure {
    fn new(number: i64, began_us: i64, mode: ErasureMode, subject: Subject) -> FeedErasure {
        let person = subject.matcher(mode);
        let matcher = PeopleMatcher::new(vec![person.clone()]);
        FeedErasure { number, began_us, mode, subject, clicks_upto: None, person, matcher }
    }

    /// Returns the tenant, or `None` for a user of the collector.
    #[must_use]
    pub fn tenant_id(&self) -> Option<&str> {
        match &self.subject {
            Subject::Customer { tenant_id, .. } => Some(tenant_id),
            Subject::User { .. } => None,
        }
    }

    /// Returns the user of the collector whose clicks are deleted, or `None` for a customer.
    #[must_use]
    pub fn user_id(&self) -> Option<i64> {
        match &self.subject {
            Subject::Customer { .. } => None,
            Subject::User { user_id } => Some(*user_id),
        }
    }

    /// Returns the ids under which the customer may have orders: the customer's own and, if orders are deleted, the
    /// pseudonym of an earlier erasure. Empty for a user of the collector.
    #[must_use]
    pub fn customer_ids(&self) -> Vec<&str> {
        match &self.subject {
            Subject::Customer { customer_id, token, .. } => match self.mode {
                ErasureMode::Erase => vec![customer_id, token],
                ErasureMode::Pseudonymise => vec![customer_id],
            },
            Subject::User { .. } => Vec::new(),
        }
    }

    /// Returns the id that replaces the customer's, or `None` if rows are deleted.
    #[must_use]
    pub fn pseudonym(&self) -> Option<&str> {
        match &self.subject {
            Subject::Customer { token, .. } if self.mode == ErasureMode::Pseudonymise => Some(token),
            _ => None,
        }
    }

    /// Returns texts of which at least one occurs in every payload to which [`FeedErasure::refers`] applies, if case is
    /// ignored for ASCII letters. This is true for a payload as it was received and as `jsonb` writes it: the last
    /// text is a backslash, because JSON escapes may hide any other text. Empty for a user of the collector.
    #[must_use]
    pub fn needles(&self) -> Vec<String> {
        let mut needles = self.person.text_patterns();
        if !needles.is_empty() {
            needles.push("\\".to_owned());
        }
        needles
    }

    /// Returns texts of which at least one occurs in every event id, source or type to which [`FeedErasure::refers`]
    /// applies, if case is ignored for ASCII letters. Empty for a user of the collector.
    #[must_use]
    pub fn name_needles(&self) -> Vec<String> {
        let mut needles = self.person.byte_patterns();
        if !needles.is_empty() {
            needles.push("\\".to_owned());
        }
        needles
    }

    /// Returns `true` if a payload, which is a JSON object, or an event's id, source or type refers to the customer.
    /// [`FeedErasure::event`] also returns the consequence.
    #[must_use]
    pub fn refers(&self, text: &str) -> bool {
        let person = &self.person;
        person.matches(text.as_bytes()) || person.matches_name(text) && !is_object(text)
    }

    /// Returns the effect on an event of the tenant, exactly as the shard decides it. `names` are the event's id, source
    /// and type.
    #[must_use]
    pub fn event(&self, names: [&str; 3], payload: &str) -> EventFate {
        let refers = EventRefers::find(names, payload.as_bytes(), &self.matcher);
        match self.pseudonym() {
            _ if refers.who.is_empty() => EventFate::Other,
            Some(token) if refers.is_kept(self.mode) => {
                EventFate::Replaced(self.person.replaced(payload, token))
            }
            _ => EventFate::Deleted,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn erasing(mode: ErasureMode, customer_id: &str) -> FeedErasure {
        let subject = Subject::Customer {
            tenant_id: "t".to_owned(),
            customer_id: customer_id.to_owned(),
            token: "anon-7f".to_owned(),
            names: vec!["Zaphod".to_owned()],
            emails: vec!["Zaphod@Heart.gold".to_owned()],
        };
        FeedErasure::new(1, 2, mode, subject)
    }

    #[test]
    fn a_target_deletes_and_replaces_what_the_shard_does() {
        let (erase, keep) = (ErasureMode::Erase, ErasureMode::Pseudonymise);
        let names = ["e-1", "web", "view"];
        for (payload, names, erased, kept) in [
            (r#"{"n":1}"#, names, EventFate::Other, EventFate::Other),
            (
                r#"{"of":"cust-77","n":"Zaphod"}"#,
                names,
                EventFate::Deleted,
                EventFate::Replaced(r#"{"of":"anon-7f","n":"anon-7f"}"#.to_owned()),
            ),
            (r#"{"n":1}"#, ["e-1", "cust-77", "view"], EventFate::Deleted, EventFate::Deleted),
            (r#"{"of":"anon-7f"}"#, names, EventFate::Deleted, EventFate::Other),
        ] {
            assert_eq!(erasing(erase, "cust-77").event(names, payload), erased, "{payload}");
            assert_eq!(erasing(keep, "cust-77").event(names, payload), kept, "{payload}");
        }
        assert_eq!(erasing(erase, "cust-77").customer_ids(), ["cust-77", "anon-7f"]);
        assert_eq!(erasing(keep, "cust-77").customer_ids(), ["cust-77"]);
        assert_eq!(erasing(erase, "cust-77").pseudonym(), None);
        assert_eq!(erasing(keep, "cust-77").pseudonym(), Some("anon-7f"));
    }

    #[test]
    fn a_short_id_is_a_whole_name_and_no_payload() {
        let of = |id: &str, text: &str| erasing(ErasureMode::Erase, id).refers(text);
        assert!(of("42", "42") && of("42", r#"{"c":"42"}"#));
        assert!(!of("42", "421") && !of("42", r#"{"c":42}"#));
        assert!(!of("{}", "{}") && of("{}", r#"{"c":"{}"}"#) && of("{", "{"));
    }

    #[test]
    fn a_user_of_the_collector_is_in_no_event() {
        let user = FeedErasure::new(1, 2, ErasureMode::Erase, Subject::User { user_id: 7 });
        assert_eq!((user.user_id(), user.tenant_id(), user.needles()), (Some(7), None, Vec::new()));
        assert!(user.customer_ids().is_empty() && user.name_needles().is_empty() && !user.refers("7"));
        assert_eq!(user.event(["7", "7", "7"], r#"{"user":"7"}"#), EventFate::Other);
    }

    fn word() -> impl Strategy<Value = String> {
        let of = |words: &'static [&'static str]| prop::sample::select(words).prop_map(str::to_owned);
        prop_oneof![
            of(&[
                "42",
                "4",
                "cust-77",
                "CUST-77",
                "a\"b",
                "\\",
                "\"",
                "ZAPHOD@heart.gold",
                "anon-7f",
                "J\u{f6}rg77"
            ]),
            of(&[" ", ".", "x", "\n", "\u{1}", "Zaphod", "{}"]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

        /// A search for the needles misses no event, however its JSON is written.
        #[test]
        fn every_event_that_refers_has_a_needle(
            id in word(),
            words in prop::collection::vec(word(), 0..4),
            escaped in any::<bool>(),
        ) {
            let erasing = erasing(ErasureMode::Erase, &id);
            let name = words.concat();
            let mut payload = serde_json::json!({ "k": name, (name.clone()): [1] }).to_string();
            if escaped {
                payload = payload.replace('7', "\\u0037").replace('o', "\\u006f").replace('\u{f6}', "\\u00f6");
            }
            let has = |text: &str, needles: &[String]| {
                let text = text.to_ascii_lowercase();
                needles.iter().any(|needle| text.contains(&needle.to_ascii_lowercase()))
            };
            prop_assert!(!erasing.refers(&payload) || has(&payload, &erasing.needles()), "{payload}");
            prop_assert!(!erasing.refers(&name) || has(&name, &erasing.name_needles()), "{name}");
            let names = [name.as_str(), "web", "view"];
            let is_other = erasing.event(names, &payload) == EventFate::Other;
            prop_assert_eq!(is_other, !erasing.refers(&name) && !erasing.refers(&payload), "{} {}", id, payload);
        }
    }
}
