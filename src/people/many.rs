//! Finds out which of many people a text refers to, with one search of the text.
//!
//! An automaton finds the people whose ids or addresses occur in the text at all. Only these are then compared as
//! [`PersonMatcher`] compares them. A search for one person needs no automaton.

use std::collections::HashMap;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind};

use super::matcher::{PersonMatcher, unescaped};

/// The people of one search. They are returned by their positions in the list that the matcher was created from.
#[derive(Debug, Default)]
pub(super) struct PeopleMatcher {
    people: Vec<PersonMatcher>,
    /// Finds ids and addresses in texts. `None` for one person, or if the automaton could not be built.
    in_text: Option<Automaton>,
    /// Finds ids and addresses in any bytes. Few bytes are searched so, and often none.
    in_bytes: OnceLock<Option<Automaton>>,
    /// The people with each id.
    by_id: HashMap<String, Vec<usize>>,
}

/// Finds the patterns of all people.
#[derive(Debug)]
struct Automaton {
    patterns: AhoCorasick,
    /// The person whose pattern it is, by the number of the pattern.
    owners: Vec<usize>,
}

impl Automaton {
    /// Builds the automaton, or returns `None` for one person, for whom a plain search is faster.
    fn new(people: &[PersonMatcher], patterns: impl Fn(&PersonMatcher) -> Vec<String>) -> Option<Automaton> {
        if people.len() < 2 {
            return None;
        }
        let (mut all, mut owners) = (Vec::new(), Vec::new());
        for (owner, person) in people.iter().enumerate() {
            for pattern in patterns(person) {
                all.push(pattern);
                owners.push(owner);
            }
        }
        // Candidates may be found in any case, because their exact comparison follows.
        let mut builder = AhoCorasickBuilder::new();
        builder.ascii_case_insensitive(true).kind(Some(AhoCorasickKind::ContiguousNFA));
        let patterns = builder.build(&all).ok()?;
        Some(Automaton { patterns, owners })
    }

    fn candidates(&self, text: &[u8], found: &mut Vec<usize>) {
        found
            .extend(self.patterns.find_overlapping_iter(text).map(|at| self.owners[at.pattern().as_usize()]));
    }
}

impl PeopleMatcher {
    #[must_use]
    pub(super) fn new(people: Vec<PersonMatcher>) -> PeopleMatcher {
        let mut by_id: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, person) in people.iter().enumerate() {
            for id in person.ids() {
                by_id.entry(id.clone()).or_default().push(at);
            }
        }
        let in_text = Automaton::new(&people, PersonMatcher::text_patterns);
        PeopleMatcher { people, in_text, in_bytes: OnceLock::new(), by_id }
    }

    /// Returns one person's matcher.
    #[must_use]
    pub(super) fn person(&self, at: usize) -> Option<&PersonMatcher> {
        self.people.get(at)
    }

    /// Returns the people to whom the text refers. See [`PersonMatcher::matches`].
    #[must_use]
    pub(super) fn who(&self, text: &[u8]) -> Vec<usize> {
        self.confirmed(candidates(self.in_text.as_ref(), text), |person| person.matches(text))
    }

    /// Returns the people to whom an identifier refers. See [`PersonMatcher::matches_name`].
    #[must_use]
    pub(super) fn who_named(&self, name: &str) -> Vec<usize> {
        let found = self.in_text.as_ref().map(|automaton| {
            let mut found = self.by_id.get(name).cloned().unwrap_or_default();
            automaton.candidates(name.as_bytes(), &mut found);
            found
        });
        self.confirmed(found, |person| person.matches_name(name))
    }

    /// Returns the people whom bytes that cannot be parsed may contain. See [`PersonMatcher::may_match`].
    #[must_use]
    pub(super) fn who_may(&self, bytes: &[u8]) -> Vec<usize> {
        let automaton =
            self.in_bytes.get_or_init(|| Automaton::new(&self.people, PersonMatcher::byte_patterns));
        self.confirmed(candidates(automaton.as_ref(), bytes), |person| person.may_match(bytes))
    }

    /// Returns the candidates for whom `is_it` returns `true`, each once. Without candidates, everyone is one.
    fn confirmed(&self, found: Option<Vec<usize>>, is_it: impl Fn(&PersonMatcher) -> bool) -> Vec<usize> {
        let is_it = |at: &usize| self.people.get(*at).is_some_and(&is_it);
        let Some(mut found) = found else { return (0..self.people.len()).filter(is_it).collect() };
        found.sort_unstable();
        found.dedup();
        found.retain(is_it);
        found
    }
}

/// Returns the people whose patterns occur in the text as written, or with its JSON escapes resolved.
fn candidates(automaton: Option<&Automaton>, text: &[u8]) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    let automaton = automaton?;
    automaton.candidates(text, &mut found);
    if memchr::memchr(b'\\', text).is_some() {
        automaton.candidates(&unescaped(text), &mut found);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![
            prop::sample::select(vec![
                "1",
                "11",
                "c-1",
                "c-11",
                "cust-77",
                "77-77-77",
                "a@heart.gold",
                "A@heart.gold",
                "ab@heart.gold",
                "\\u0063-1",
                "\"",
                "\\",
                "\"c-1\"",
                "\"11\"",
                "{\"a\":\"cust-77\"}",
                " ",
                ".",
                "\u{f6}",
            ])
            .prop_map(str::to_owned),
            "[c1\\\\\" -]{0,6}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

        /// A search for many finds whom a search for each would find.
        #[test]
        fn many_are_found_as_each_alone(
            ids in prop::collection::vec("[c1-]{1,4}|cust-77|77-77-77", 2..6),
            text in prop::collection::vec(word(), 0..8).prop_map(|words| words.concat()),
        ) {
            let one = |id: &String| {
                let address = if id.contains('7') { "a@heart.gold" } else { "b@heart.gold" };
                PersonMatcher::new([id.as_str()], [address], [])
            };
            let people: Vec<PersonMatcher> = ids.iter().map(one).collect();
            let each = |is_it: &dyn Fn(&PersonMatcher) -> bool| -> Vec<usize> {
                (0..people.len()).filter(|at| is_it(&people[*at])).collect()
            };
            let many = PeopleMatcher::new(people.clone());
            prop_assert!(many.in_text.is_some());
            prop_assert_eq!(many.who(text.as_bytes()), each(&|person| person.matches(text.as_bytes())));
            prop_assert_eq!(many.who_named(&text), each(&|person| person.matches_name(&text)));
            prop_assert_eq!(many.who_may(text.as_bytes()), each(&|person| person.may_match(text.as_bytes())));
        }
    }

    #[test]
    fn a_thousand_people_fit_into_some_megabytes() {
        let person = |number: usize| {
            let (id, address) =
                (format!("customer-{number}-{}", number * 7_919), format!("p{number}@mail.example"));
            PersonMatcher::new([id.as_str()], [address.as_str()], [])
        };
        let many = PeopleMatcher::new((0..1_000).map(person).collect());
        let automaton = many.in_text.as_ref().unwrap();
        assert!(automaton.patterns.memory_usage() < 8 << 20, "{}", automaton.patterns.memory_usage());
        assert_eq!(many.who(br#"{"to":["P999@mail.example","customer-0-0"]}"#), [0, 999]);
    }
}
