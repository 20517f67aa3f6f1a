//! The list of all places that hold data of people. The steps of an erasure, the counts in its certificate, and the
//! export of a person's data follow from it.

use serde_json::{Map, Value};

use super::access::{
    AnswerReader, CustomerReader, EventReader, ExportReader, JournalReader, OrderReader, QuarantineReader,
    RejectedReader, UploadReader,
};
use super::exported::erase_exports;
use super::forget::erase_uploads;
use super::place::{Erase, Of, Place, Read};
use super::report::ErasureReport;
use super::rows::{
    erase_answers, erase_clicks, erase_customers, erase_events, erase_orders, erase_rejected, merge_words,
    scrub_pages,
};
use super::steps::{CLICKS, JOURNALS, PAGES, SHIPS, WAITING, WAL};
use crate::shard::WriterTask;

/// Every place, in the order in which it is erased.
pub(super) static PLACES: &[Place] = &[
    Place {
        name: "uploads",
        of: Of::Customers,
        erase: Erase::Files(erase_uploads),
        read: Read::Files(|| Box::new(UploadReader::default())),
        counts: &["uploads_removed"],
    },
    Place {
        name: "exports",
        of: Of::Everyone,
        erase: Erase::Files(erase_exports),
        read: Read::Copies(|| Box::new(ExportReader::default())),
        counts: &["exports_removed"],
    },
    Place {
        name: "orders",
        of: Of::Customers,
        erase: Erase::Slices("orders", erase_orders),
        read: Read::Rows(|| Box::new(OrderReader::default())),
        counts: &["orders", "items", "index_entries"],
    },
    Place {
        name: "customers",
        of: Of::Customers,
        erase: Erase::Slices("customers", erase_customers),
        read: Read::Rows(|| Box::new(CustomerReader)),
        counts: &["customers"],
    },
    Place {
        name: "words",
        of: Of::Customers,
        erase: Erase::Slices("words", merge_words),
        read: Read::Never("it is derived from the customers"),
        counts: &["words"],
    },
    Place {
        name: "events",
        of: Of::Customers,
        erase: Erase::Slices("events", erase_events),
        read: Read::Scan(|| Box::new(EventReader::default())),
        counts: &["events"],
    },
    Place {
        name: "clicks",
        of: Of::Users,
        erase: Erase::Slices(CLICKS, erase_clicks),
        read: Read::Never("clicks belong to no customer; GET /clicks?user_id= returns them"),
        counts: &["clicks"],
    },
    Place {
        name: "rejected_records",
        of: Of::Everyone,
        erase: Erase::Slices("rejected", erase_rejected),
        read: Read::Rows(|| Box::new(RejectedReader::default())),
        counts: &["rejected_records"],
    },
    Place {
        name: "ingest_answers",
        of: Of::Customers,
        erase: Erase::Slices("answers", erase_answers),
        read: Read::Rows(|| Box::new(AnswerReader::default())),
        counts: &["ingest_answers"],
    },
    Place {
        name: "journals",
        of: Of::Everyone,
        erase: Erase::Writer(JOURNALS, WriterTask::RotateJournals),
        read: Read::Files(|| Box::new(JournalReader::default())),
        counts: &["journals", "journal_bytes"],
    },
    Place {
        name: "quarantined_segments",
        of: Of::Everyone,
        erase: Erase::WithTheLast,
        read: Read::Files(|| Box::new(QuarantineReader::default())),
        counts: &["quarantined_segments"],
    },
    Place {
        name: "sinks",
        of: Of::Everyone,
        erase: Erase::Sinks(SHIPS),
        read: Read::Never(
            "copies that `firehose ship` has made of the same rows are in the targets' own databases",
        ),
        counts: &[],
    },
    Place {
        name: "unused_bytes",
        of: Of::Everyone,
        erase: Erase::Slices(PAGES, scrub_pages),
        read: Read::Never("unused bytes of pages are remains of rows that no longer exist"),
        counts: &["pages"],
    },
    Place {
        name: "wal",
        of: Of::Everyone,
        erase: Erase::Writer(WAL, WriterTask::TruncateWal),
        read: Read::Never("the write-ahead log contains pages of the same rows"),
        counts: &[],
    },
];

/// Returns the place that a shard's step erases, or `None` for [`WAITING`] and unknown steps.
pub(super) fn of_step(step: &str) -> Option<&'static Place> {
    PLACES.iter().find(|place| place.step() == Some(step))
}

/// Returns the step after this one for the same kind of subject, or the last one.
pub(super) fn next_step(step: &str, is_user: bool) -> &'static str {
    let mut steps = PLACES.iter().filter(|place| place.of.has(is_user)).filter_map(Place::step);
    if step != WAITING {
        steps.by_ref().find(|known| *known == step);
    }
    steps.next().unwrap_or(WAL)
}

/// Returns `true` if a shard knows who is erased during this step. In later steps, it may or may not.
pub(super) fn knows_subject(step: &str) -> bool {
    let at = |step| PLACES.iter().position(|place| place.step() == Some(step));
    step == WAITING || at(step).is_some_and(|place| Some(place) <= at(SHIPS))
}

/// Returns the counts of one shard, as in the certificate.
pub(super) fn counts(report: &ErasureReport) -> Map<String, Value> {
    let counted = serde_json::to_value(report).unwrap_or_default();
    let names = PLACES.iter().flat_map(|place| place.counts);
    names.filter_map(|name| Some(((*name).to_owned(), counted.get(*name)?.clone()))).collect()
}

/// Returns the places that are read for a customer, in the direction in which data moves: from uploads through
/// journals into rows, and from these into exports. A record that moves meanwhile is then read twice rather than not at all.
pub(super) fn readable() -> Vec<&'static Place> {
    let mut places: Vec<_> = PLACES.iter().filter(|place| !matches!(place.read, Read::Never(_))).collect();
    places.sort_by_key(|place| match place.read {
        Read::Files(_) | Read::Never(_) => 0,
        Read::Rows(_) | Read::Scan(_) => 1,
        Read::Copies(_) => 2,
    });
    places
}

/// Returns the places that are read for a customer, those first that take little time.
pub(super) fn countable() -> Vec<&'static Place> {
    let mut places = readable();
    places.sort_by_key(|place| match place.read {
        Read::Rows(_) => 0,
        Read::Files(_) => 1,
        Read::Copies(_) => 2,
        Read::Scan(_) | Read::Never(_) => 3,
    });
    places
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::steps::is_shared;
    use super::*;

    /// A count without a place, or a place without a count, is a place that only one of the two knows.
    #[test]
    fn e1_every_count_of_a_certificate_belongs_to_one_place() {
        let counted = serde_json::to_value(ErasureReport::default()).unwrap();
        let mut expected: BTreeSet<&str> = counted.as_object().unwrap().keys().map(String::as_str).collect();
        expected.extend(["uploads_removed", "exports_removed"]);
        let all: Vec<&str> = PLACES.iter().flat_map(|place| place.counts).copied().collect();
        assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), expected);
        assert_eq!(all.len(), expected.len(), "a count belongs to two places");
        assert_eq!(counts(&ErasureReport::default()).len(), counted.as_object().unwrap().len());
    }

    /// The names are in the shards of running erasures.
    #[test]
    fn e1_steps_follow_in_the_order_of_the_list() {
        let walk = |is_user| {
            let (mut steps, mut step) = (Vec::new(), WAITING);
            while steps.last() != Some(&WAL) {
                step = next_step(step, is_user);
                steps.push(step);
            }
            steps
        };
        let of_customers = [
            "orders",
            "customers",
            "words",
            "events",
            "rejected",
            "answers",
            "journals",
            "ships",
            "pages",
            "wal",
        ];
        assert_eq!(walk(false), of_customers);
        assert_eq!(walk(true), ["clicks", "rejected", "journals", "ships", "pages", "wal"]);
        for step in of_customers {
            assert_eq!(knows_subject(step), !["pages", "wal"].contains(&step), "{step}");
            assert_eq!(is_shared(step), ["pages", "wal"].contains(&step), "{step}");
        }
        assert!(knows_subject(WAITING) && !knows_subject("else"));
    }

    #[test]
    fn what_is_not_read_has_a_reason() {
        for place in PLACES {
            let Read::Never(reason) = place.read else { continue };
            assert!(!reason.is_empty() && !matches!(place.erase, Erase::Files(_)), "{}", place.name);
        }
        let names: Vec<&str> = readable().iter().map(|place| place.name).collect();
        let at = |name| names.iter().position(|known| *known == name).unwrap();
        assert!(at("uploads") < at("journals") && at("journals") < at("orders"));
        assert_eq!(names.last(), Some(&"exports"));
    }
}
