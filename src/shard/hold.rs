//! The rows of a shard that the registered sinks have, and those that they have had for long enough.
//!
//! A row may leave once every sink has confirmed it and a time (`keep`) has passed since. Until then, a target that is
//! set back to an earlier state gets it again. Confirmed places are noted per sink from time to time in
//! `DATA/ship/NAME/kept-XX.json`. The newest noted place that is old enough limits what may leave, so the time is at
//! least `keep` and at most about an eighth longer, also after a restart. If the file is lost, the time begins again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::epochs::epochs;
use super::error::ShardError;
use super::options::ShipOptions;
use super::sinks::{self, Confirmed, SINKS_FOLDER};

/// Places are noted every 1/`NOTE_SHARE` of the time to keep.
const NOTE_SHARE: u32 = 8;

/// Row ids by stream, and the number of a change under [`CHANGES`](super::change::CHANGES).
pub(super) type Places = BTreeMap<String, i64>;

/// The epochs of a file's row ids, oldest first, each with the last ids that it has from the one before.
#[derive(Clone, Debug, Default)]
pub(super) struct Lives(Vec<(String, Places)>);

impl Lives {
    pub(super) fn read(connection: &Connection) -> Result<Lives, ShardError> {
        Ok(Lives(epochs(connection)?.into_iter().map(|epoch| (epoch.id, epoch.starts)).collect()))
    }

    fn newest(&self) -> Option<&str> {
        self.0.last().map(|(id, _)| id.as_str())
    }

    /// Returns the places of the newest epoch that have the same rows as `places` of another one. An unknown epoch has
    /// none of them.
    pub(super) fn carried(&self, epoch: &str, mut places: Places) -> Places {
        let Some(at) = self.0.iter().position(|(id, _)| id == epoch) else { return Places::new() };
        for (_, starts) in &self.0[at + 1..] {
            places.iter_mut().for_each(|(stream, last)| {
                *last = (*last).min(starts.get(stream).copied().unwrap_or(0));
            });
        }
        places
    }
}

/// The places that a sink had confirmed at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Microseconds since 1970.
    at_us: i64,
    last: Places,
}

/// The places of a sink over time, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marks {
    /// The id of the registration.
    sink: String,
    epoch: String,
    marks: Vec<Mark>,
    #[serde(skip)]
    is_loaded: bool,
}

impl Marks {
    /// Notes confirmed places. Returns `true` if the marks have changed.
    fn note(&mut self, confirmed: &Places, noted_us: i64, now_us: i64, keep: Duration) -> bool {
        let before = self.clone();
        for mark in &mut self.marks {
            // The clock was set back. The time begins again, rather than to last until the clock gets there.
            mark.at_us = mark.at_us.min(now_us);
            // A target that was set back has these rows no longer.
            mark.last.iter_mut().for_each(|(stream, last)| {
                *last = (*last).min(confirmed.get(stream).copied().unwrap_or(0));
            });
        }
        let last = self.marks.last();
        let pause_us = (keep / NOTE_SHARE).as_micros() as i64;
        if last.is_none_or(|last| last.last != *confirmed && now_us.saturating_sub(last.at_us) >= pause_us) {
            let earliest_us = last.map_or(i64::MIN, |last| last.at_us);
            let at_us = noted_us.clamp(earliest_us.min(now_us), now_us);
            self.marks.push(Mark { at_us, last: confirmed.clone() });
        }
        // One mark that is old enough says all that the ones before it say.
        let old_us = now_us.saturating_sub(keep.as_micros() as i64);
        let old = self.marks.iter().take_while(|mark| mark.at_us <= old_us).count();
        self.marks.drain(..old.saturating_sub(1));
        *self != before
    }

    /// Returns the place up to which rows of a stream were confirmed long enough ago.
    fn kept(&self, stream: &str, now_us: i64, keep: Duration) -> i64 {
        let old_us = now_us.saturating_sub(keep.as_micros() as i64);
        let old = self.marks.iter().filter(|mark| mark.at_us <= old_us);
        old.filter_map(|mark| mark.last.get(stream)).copied().max().unwrap_or(0)
    }
}

/// The part of a stream, a ledger or the feed of changes that the sinks have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upto {
    /// The last row id that every sink has confirmed.
    pub confirmed: i64,
    /// The last row id that every sink has confirmed long enough ago. Rows up to it may leave.
    pub kept: i64,
}

impl Upto {
    /// No sink holds rows.
    pub const FREE: Upto = Upto { confirmed: i64::MAX, kept: i64::MAX };
    const HELD: Upto = Upto { confirmed: 0, kept: 0 };

    fn and(self, other: Upto) -> Upto {
        Upto { confirmed: self.confirmed.min(other.confirmed), kept: self.kept.min(other.kept) }
    }
}

/// The rows of a shard that the sinks have confirmed, as of one look at their notes.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    /// The limits of each stream. `None` if there is no sink.
    upto: Option<BTreeMap<String, Upto>>,
    /// The reason why a file of a sink could not be read. Such a sink has confirmed nothing.
    pub(super) problem: Option<String>,
}

impl Limits {
    fn unreadable(problem: String) -> Limits {
        Limits { upto: Some(BTreeMap::new()), problem: Some(problem) }
    }

    /// Returns `true` if there is a sink.
    pub(super) fn is_shipped(&self) -> bool {
        self.upto.is_some()
    }

    pub(super) fn of(&self, stream: &str) -> Upto {
        match &self.upto {
            None => Upto::FREE,
            Some(upto) => upto.get(stream).copied().unwrap_or(Upto::HELD),
        }
    }
}

/// Looks at the notes of all sinks. Without any sink it makes one system call.
pub(super) struct Look<'l> {
    pub(super) options: &'l ShipOptions,
    pub(super) now_us: i64,
    /// `false` while the clock is not trusted: no time has passed.
    pub(super) is_clock_trusted: bool,
}

impl Look<'_> {
    /// Returns the limits, and updates and stores the marks of each sink.
    pub(super) fn update(
        &self,
        connection: &Connection,
        marks: &mut BTreeMap<String, Marks>,
    ) -> Result<Limits, ShardError> {
        let Found { lives, notes, problem } = match self.find(connection)? {
            Ok(found) => found,
            Err(limits) => {
                if !limits.is_shipped() {
                    marks.clear();
                }
                return Ok(limits);
            }
        };
        marks.retain(|name, _| notes.contains_key(name));
        for (name, note) in &notes {
            let of = marks.entry(name.clone()).or_default();
            if !of.is_loaded || of.sink != note.sink || Some(of.epoch.as_str()) != lives.newest() {
                *of = self.load(name, note, &lives);
            }
            if let Some((at_us, places)) = &note.confirmed
                && of.note(places, *at_us, self.now_us, self.options.keep)
            {
                self.store(name, of);
            }
        }
        Ok(self.limits(&notes, marks, problem))
    }

    /// Returns the limits of this moment. A sink without marks has confirmed nothing long enough ago.
    pub(super) fn again(
        &self,
        connection: &Connection,
        marks: &BTreeMap<String, Marks>,
    ) -> Result<Limits, ShardError> {
        Ok(match self.find(connection)? {
            Ok(Found { notes, problem, .. }) => self.limits(&notes, marks, problem),
            Err(limits) => limits,
        })
    }

    fn find(&self, connection: &Connection) -> Result<Result<Found, Limits>, ShardError> {
        let (data, shard) = (&self.options.data, self.options.shard);
        let sinks = match sinks::sinks(data) {
            Ok(sinks) if sinks.is_empty() => return Ok(Err(Limits::default())),
            Ok(sinks) => sinks,
            Err(error) => return Ok(Err(Limits::unreadable(error.to_string()))),
        };
        let lives = Lives::read(connection)?;
        let (mut notes, mut problem) = (BTreeMap::new(), None);
        for (name, sink) in sinks {
            let confirmed = match sinks::confirmed_by(data, (&name, &sink), shard) {
                Ok(note) => note.map(|note| {
                    let Confirmed { epoch, last, at_us, .. } = note;
                    (at_us, lives.carried(&epoch, last))
                }),
                Err(error) => {
                    problem = Some(error.to_string());
                    None
                }
            };
            notes.insert(name, Note { sink: sink.id, confirmed });
        }
        Ok(Ok(Found { lives, notes, problem }))
    }

    fn limits(
        &self,
        notes: &BTreeMap<String, Note>,
        marks: &BTreeMap<String, Marks>,
        problem: Option<String>,
    ) -> Limits {
        let mut upto: Option<BTreeMap<String, Upto>> = None;
        for (name, note) in notes {
            let marks = marks.get(name).filter(|marks| marks.sink == note.sink);
            let places = note.confirmed.iter().flat_map(|(_, places)| places);
            let of: BTreeMap<String, Upto> = places
                .map(|(stream, last)| {
                    let kept = match marks {
                        Some(marks) if self.is_clock_trusted => {
                            marks.kept(stream, self.now_us, self.options.keep)
                        }
                        _ => 0,
                    };
                    (stream.clone(), Upto { confirmed: *last, kept: kept.min(*last) })
                })
                .collect();
            upto = Some(match upto {
                None => of,
                // A stream that one of them has not noted is held.
                Some(all) => {
                    let both = all.into_iter().filter_map(|(stream, upto)| {
                        let other = of.get(&stream)?;
                        Some((stream, upto.and(*other)))
                    });
                    both.collect()
                }
            });
        }
        Limits { upto, problem }
    }

    fn path(&self, name: &str) -> PathBuf {
        let file = format!("kept-{}", self.options.shard.folder().trim_start_matches("shard-"));
        self.options.data.join(SINKS_FOLDER).join(name).join(format!("{file}.json"))
    }

    /// Reads the marks of a sink. A file that is missing, damaged or about another registration or file has none.
    fn load(&self, name: &str, note: &Note, lives: &Lives) -> Marks {
        let stored =
            fs::read(self.path(name)).ok().and_then(|text| serde_json::from_slice::<Marks>(&text).ok());
        let marks = match stored.filter(|stored| stored.sink == note.sink) {
            None => Vec::new(),
            Some(Marks { epoch, marks, .. }) => {
                let carried = marks.into_iter();
                carried.map(|mark| Mark { last: lives.carried(&epoch, mark.last), ..mark }).collect()
            }
        };
        let epoch = lives.newest().unwrap_or_default().to_owned();
        Marks { sink: note.sink.clone(), epoch, marks, is_loaded: true }
    }

    /// Stores the marks of a sink. If that fails, only a restart notices: rows then stay longer.
    fn store(&self, name: &str, marks: &Marks) {
        let path = self.path(name);
        match sinks::write(&path, marks) {
            // The sink was removed in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(
                path = %path.display(),
                %error,
                "the confirmed places of a sink could not be noted: after a restart, ship_keep begins again"
            ),
            Ok(()) => {}
        }
    }
}

/// The note of a sink about a shard.
struct Note {
    sink: String,
    /// The time of the note, and its places in the newest epoch.
    confirmed: Option<(i64, Places)>,
}

struct Found {
    lives: Lives,
    notes: BTreeMap<String, Note>,
    problem: Option<String>,
}
