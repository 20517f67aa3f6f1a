//! The checker. The folder's log of a product is one serial order. The checker decides whether this order is legal
//! and whether it explains every response.

use std::collections::{BTreeMap, HashMap};

use super::{Change, Event, History, Log, Mode, Told};

/// The state of a product between two changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    quantity: i64,
    newest: Option<(i64, String)>,
}

/// Returns the state after a change, and whether the change was superseded. Fails if the change cannot be applied.
/// This implements the rules a second time, for the checker alone.
fn after(state: &State, change: &Change) -> Result<(State, bool), &'static str> {
    let key = |event: &Event| (event.at_s, event.id.clone());
    let newest = change.events.iter().map(key).max().ok_or("no event")?;
    let mut next = state.clone();
    let mut superseded = false;
    match change.mode {
        Mode::LastWriteWins => {
            superseded = state.newest.as_ref().is_some_and(|standing| *standing > newest);
            if !superseded {
                let winner = change.events.iter().find(|event| key(event) == newest).ok_or("no event")?;
                next.quantity = winner.number;
            }
        }
        Mode::Merge => next.quantity += change.events.iter().map(|event| event.number).sum::<i64>(),
        Mode::Reject => {
            let mut events: Vec<&Event> = change.events.iter().collect();
            events.sort_by_key(|event| key(event));
            for event in events {
                next.quantity = if event.is_delta { next.quantity + event.number } else { event.number };
            }
        }
    }
    if next.quantity < 0 {
        return Err("negative_stock");
    }
    next.newest = next.newest.max(Some(newest));
    Ok((next, superseded))
}

/// The history of one product.
struct Product<'h> {
    /// The state before the first change, after the first, and so on.
    states: Vec<State>,
    /// For each version, whether its change was superseded.
    superseded: Vec<bool>,
    /// For each version: the change, the moment when it was first sent, and the moment when a client first knew of
    /// it.
    changes: Vec<(usize, u64, u64)>,
    problems: &'h mut Vec<String>,
}

/// Returns everything that no serial order explains. The result is empty if everything is explained.
pub fn check(history: &History, log: &Log) -> Vec<String> {
    let mut problems = Vec::new();
    let by_ids: HashMap<(&str, Vec<&str>), usize> =
        history.changes.iter().enumerate().map(|(at, change)| (ids(change), at)).collect();
    let mut attempts: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, attempt) in history.attempts.iter().enumerate() {
        attempts.entry(&history.changes[attempt.change].product).or_default().push(at);
    }
    for name in log.keys().filter(|name| !attempts.contains_key(name.as_str())) {
        problems.push(format!("{name} is there and nobody sent it"));
    }
    for (name, attempts) in attempts {
        let entries = log.get(name).map_or(&[][..], Vec::as_slice);
        let mut product = Product {
            states: vec![State::default()],
            superseded: vec![false],
            changes: Vec::new(),
            problems: &mut problems,
        };
        if product.legal(history, name, entries, &by_ids, &attempts) {
            product.explains(history, name, &attempts);
        }
    }
    problems
}

fn ids(change: &Change) -> (&str, Vec<&str>) {
    let mut ids: Vec<&str> = change.events.iter().map(|event| event.id.as_str()).collect();
    ids.sort_unstable();
    (&change.product, ids)
}

impl Product<'_> {
    /// Returns `true` if the log is a serial execution of whole changes that were sent, each once.
    fn legal(
        &mut self,
        history: &History,
        name: &str,
        entries: &[(Vec<String>, i64)],
        by_ids: &HashMap<(&str, Vec<&str>), usize>,
        attempts: &[usize],
    ) -> bool {
        // The moment when each change was first sent, and the moment when a client first knew that it is stored.
        let mut moments: HashMap<usize, (u64, u64)> = HashMap::new();
        for attempt in attempts.iter().map(|at| &history.attempts[*at]) {
            let known = match &attempt.answer {
                Some((at, told)) if matches!(told.result.as_str(), "applied" | "duplicate") => *at,
                _ => u64::MAX,
            };
            let moment = moments.entry(attempt.change).or_insert((u64::MAX, u64::MAX));
            *moment = (moment.0.min(attempt.sent), moment.1.min(known));
        }
        let mut known_before = 0;
        for (version, (ids, stock)) in (1..).zip(entries) {
            let mut sorted: Vec<&str> = ids.iter().map(String::as_str).collect();
            sorted.sort_unstable();
            let Some(at) = by_ids.get(&(name, sorted)).copied() else {
                self.problems.push(format!("{name} v{version}: {ids:?} was not sent as one change"));
                return false;
            };
            if self.changes.iter().any(|(known, ..)| *known == at) {
                self.problems.push(format!("{name} v{version}: {ids:?} is there twice"));
                return false;
            }
            let change = &history.changes[at];
            let Some(before) = self.states.last() else { return false };
            if change.mode == Mode::Reject && change.expected != version - 1 {
                self.problems.push(format!("{name} v{version}: expected {}", change.expected));
                return false;
            }
            match after(before, change) {
                Ok((next, superseded)) if next.quantity == *stock => {
                    self.states.push(next);
                    self.superseded.push(superseded);
                }
                other => {
                    self.problems.push(format!("{name} v{version}: the stock is {stock}, not {other:?}"));
                    return false;
                }
            }
            let (sent, known) = moments.get(&at).copied().unwrap_or((u64::MAX, u64::MAX));
            // Real time: a change that was known before this one was sent came first. If a later version was known
            // before an earlier one was sent, it would have overtaken it.
            self.changes.push((at, sent, known));
            known_before = known_before.max(sent);
            if known < known_before {
                self.problems.push(format!("{name} v{version}: it was known before an earlier one was sent"));
                return false;
            }
        }
        true
    }

    /// Checks that every response is the one that the serial order requires.
    fn explains(&mut self, history: &History, name: &str, attempts: &[usize]) {
        for attempt in attempts.iter().map(|at| &history.attempts[*at]) {
            let change = &history.changes[attempt.change];
            let version = self.changes.iter().position(|(at, ..)| *at == attempt.change).map(|at| at + 1);
            let Some((answered, told)) = &attempt.answer else { continue };
            let explained = match told.result.as_str() {
                "applied" | "duplicate" => self.stands(version, told),
                _ => self.refused(change, version, (attempt.sent, *answered), told),
            };
            if let Err(why) = explained {
                let ids = &ids(change).1;
                self.problems.push(format!("{name} {ids:?}: {told:?}: {why}"));
            }
        }
        // `applied` is returned once. Every other time, the change is a duplicate.
        for (at, ..) in &self.changes {
            let said = attempts.iter().filter(|known| {
                let attempt = &history.attempts[**known];
                let applied = attempt.answer.as_ref().is_some_and(|(_, told)| told.result == "applied");
                attempt.change == *at && applied
            });
            if said.count() > 1 {
                self.problems.push(format!("{name}: a change was applied twice"));
            }
        }
    }

    fn stands(&self, version: Option<usize>, told: &Told) -> Result<(), String> {
        let version = version.ok_or("it is not there")?;
        if told.version != version as i64 || told.quantity != self.states[version].quantity {
            return Err(format!("it is version {version} with {}", self.states[version].quantity));
        }
        let superseded = told.result == "applied" && self.superseded[version];
        let expected = if superseded { "superseded" } else { "" };
        if told.code == expected { Ok(()) } else { Err(format!("the code should be {expected:?}")) }
    }

    /// Checks a refusal. It must report a state that existed between the request and the response, and it must be
    /// right in that state.
    fn refused(
        &self,
        change: &Change,
        version: Option<usize>,
        (sent, answered): (u64, u64),
        told: &Told,
    ) -> Result<(), String> {
        let at = usize::try_from(told.version).map_err(|_| "no version")?;
        let state = self.states.get(at).ok_or("there never was that version")?;
        if state.quantity != told.quantity {
            return Err(format!("version {at} had {}", state.quantity));
        }
        // The change that made this version must have been sent before the response. The next change must not have
        // been known before the request was sent.
        if at > 0 && self.changes[at - 1].1 > answered {
            return Err("that version came later".to_owned());
        }
        if self.changes.get(at).is_some_and(|(_, _, known)| *known < sent) {
            return Err("that version was gone already".to_owned());
        }
        // A change that was refused and is stored nevertheless was stored later, by another attempt.
        if version.is_some_and(|version| version <= at) {
            return Err("it was there already".to_owned());
        }
        match (told.result.as_str(), told.code.as_str()) {
            ("conflict", "stale_version") if change.mode == Mode::Reject => {
                if change.expected == told.version {
                    Err("that is what it expected".to_owned())
                } else {
                    Ok(())
                }
            }
            ("rejected", "negative_stock") => match after(state, change) {
                Err("negative_stock") if change.mode != Mode::Reject || change.expected == told.version => {
                    Ok(())
                }
                other => Err(format!("it would have come to {other:?}")),
            },
            _ => Err("nothing of the kind was sent".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Attempt;
    use super::*;

    fn change(id: &str, mode: Mode, expected: i64, number: i64, is_delta: bool) -> Change {
        let event = Event { id: id.to_owned(), at_s: 1, number, is_delta };
        Change { product: "p".to_owned(), mode, expected, events: vec![event] }
    }

    fn told(result: &str, code: &str, quantity: i64, version: i64) -> Told {
        Told { result: result.to_owned(), code: code.to_owned(), quantity, version }
    }

    /// Returns three consecutive changes, a conflict, a rejection and a change without a response.
    fn sound() -> (History, Log) {
        let changes = vec![
            change("a", Mode::Merge, -1, 5, true),
            change("b", Mode::Reject, 1, 9, false),
            change("c", Mode::Reject, 1, 7, false),
            change("d", Mode::Merge, -1, -10, true),
            change("e", Mode::Merge, -1, 1, true),
        ];
        let attempt = |change, sent, answer: Option<(u64, Told)>| Attempt { change, sent, answer };
        let attempts = vec![
            attempt(0, 1, Some((2, told("applied", "", 5, 1)))),
            attempt(1, 3, Some((5, told("applied", "", 9, 2)))),
            attempt(2, 4, Some((6, told("conflict", "stale_version", 9, 2)))),
            attempt(3, 7, Some((8, told("rejected", "negative_stock", 9, 2)))),
            attempt(4, 9, None),
            attempt(0, 10, Some((11, told("duplicate", "", 5, 1)))),
        ];
        let entry = |id: &str, stock| (vec![id.to_owned()], stock);
        let log = Log::from([("p".to_owned(), vec![entry("a", 5), entry("b", 9), entry("e", 10)])]);
        (History { changes, attempts }, log)
    }

    #[test]
    fn a_sound_history_is_explained_whether_the_unanswered_came_or_not() {
        let (history, mut log) = sound();
        assert_eq!(check(&history, &log), Vec::<String>::new());
        log.get_mut("p").unwrap().pop();
        assert_eq!(check(&history, &log), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_lie_is_found() {
        type Spoil = fn(&mut History, &mut Log);
        fn lie(history: &mut History, at: usize, lie: Told) {
            history.attempts[at].answer.as_mut().unwrap().1 = lie;
        }
        let spoils: &[(&str, Spoil)] = &[
            ("a lost update", |_, log| drop(log.get_mut("p").unwrap().remove(1))),
            ("an update twice", |_, log| {
                let entries = log.get_mut("p").unwrap();
                entries.push((vec!["a".to_owned()], 15));
            }),
            ("another stock", |_, log| log.get_mut("p").unwrap()[0].1 = 6),
            ("nobody's update", |_, log| log.get_mut("p").unwrap().push((vec!["z".to_owned()], 1))),
            ("nobody's product", |_, log| drop(log.insert("q".to_owned(), Vec::new()))),
            ("a refused one applied", |_, log| log.get_mut("p").unwrap()[2] = (vec!["d".to_owned()], -1)),
            ("another quantity", |history, _| lie(history, 0, told("applied", "", 6, 1))),
            ("another version", |history, _| lie(history, 1, told("applied", "", 9, 3))),
            ("a duplicate of now", |history, _| lie(history, 5, told("duplicate", "", 9, 2))),
            ("applied twice", |history, _| lie(history, 5, told("applied", "", 5, 1))),
            ("a conflict with the right version", |history, _| {
                lie(history, 2, told("conflict", "stale_version", 5, 1));
            }),
            ("a conflict from the past", |history, _| {
                history.attempts[2].sent = 6;
                history.changes[2].expected = 7;
                lie(history, 2, told("conflict", "stale_version", 5, 1));
            }),
            ("a conflict from the future", |history, _| {
                lie(history, 2, told("conflict", "stale_version", 10, 3));
            }),
            ("a needless rejection", |history, _| history.changes[3].events[0].number = -9),
            ("a wrong code", |history, _| lie(history, 0, told("applied", "superseded", 5, 1))),
            ("an order that time forbids", |history, _| {
                history.attempts[0].sent = 6;
                history.attempts[0].answer.as_mut().unwrap().0 = 7;
            }),
        ];
        for (name, spoil) in spoils {
            let (mut history, mut log) = sound();
            spoil(&mut history, &mut log);
            assert!(!check(&history, &log).is_empty(), "{name} was not found");
        }
    }
}
