//! The lives of a shard's row ids, and where the shipping of a new life begins.

use std::collections::BTreeSet;

use super::rows::ShipStream;
use super::sink::{EpochId, Known, Places};
use crate::shard::{Epoch, EpochReason};

/// Where the newest epoch of a shard is, in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The target knows the epoch, with these places.
    Known(EpochId, Places),
    /// The target does not know the epoch. It begins at these places.
    Begin(EpochId, Places),
}

/// Returns where the newest of the epochs (oldest first) is or begins, or `None` if there is no epoch.
///
/// An epoch that the target does not know begins where its file and the target agree: of the path from it to the newest
/// epoch that the target knows, each epoch has kept rows up to its start, and of the known one the target has rows up to
/// its places. If the target knows none of them, everything is sent. The rows of a resharded file are the exception:
/// they were sent from the shards before, unless `whole` names the file's first epoch or the target has nothing of this
/// folder.
#[must_use]
pub(super) fn start(epochs: &[Epoch], known: &Known, whole: &BTreeSet<String>) -> Option<Start> {
    let newest = EpochId(epochs.last()?.id.clone());
    if let Some(places) = known.epochs.get(&newest) {
        return Some(Start::Known(newest, places.clone()));
    }
    let mut path = Vec::new();
    let mut confirmed = None;
    for epoch in epochs.iter().rev() {
        if let Some(places) = known.epochs.get(&EpochId(epoch.id.clone())) {
            confirmed = Some(places);
            break;
        }
        path.push(epoch);
    }
    let place = |stream: ShipStream| {
        let kept = |epoch: &&Epoch| epoch.starts.get(stream.as_str()).copied().unwrap_or_default();
        let least = path.iter().map(kept).min().unwrap_or_default();
        match confirmed {
            Some(places) => least.min(places.get(&stream).copied().unwrap_or_default()),
            None => match path.last() {
                Some(first) if is_sent(first, known, whole) => least,
                _ => 0,
            },
        }
    };
    let places = ShipStream::ALL.into_iter().map(|stream| (stream, place(stream)));
    Some(Start::Begin(newest, places.filter(|(_, place)| *place > 0).collect()))
}

/// Returns `true` if the rows up to the start of a file's first epoch were sent from the shards before.
fn is_sent(first: &Epoch, known: &Known, whole: &BTreeSet<String>) -> bool {
    first.reason == EpochReason::Resharded && known.knows_node && !whole.contains(&first.id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn epoch(number: i64, reason: EpochReason, clicks: i64, changes: i64) -> Epoch {
        let starts = [("click", clicks), ("change", changes)];
        let starts = starts.into_iter().map(|(stream, last)| (stream.to_owned(), last)).collect();
        Epoch { number, id: format!("{number:032x}"), reason, starts }
    }

    fn id(number: i64) -> EpochId {
        EpochId(format!("{number:032x}"))
    }

    fn places(clicks: i64, changes: i64) -> Places {
        let all = [(ShipStream::Clicks, clicks), (ShipStream::Changes, changes)];
        all.into_iter().filter(|(_, place)| *place > 0).collect()
    }

    fn known(epochs: &[(i64, Places)], knows_node: bool) -> Known {
        let epochs = epochs.iter().map(|(number, places)| (id(*number), places.clone())).collect();
        Known { epochs, knows_node }
    }

    fn begun(epochs: &[Epoch], known: &Known) -> Places {
        match start(epochs, known, &BTreeSet::new()) {
            Some(Start::Begin(_, places)) => places,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_known_epoch_continues_at_its_place() {
        let epochs = [epoch(1, EpochReason::Made, 0, 0)];
        let found = start(&epochs, &known(&[(1, places(7, 3))], true), &BTreeSet::new());
        assert_eq!(found, Some(Start::Known(id(1), places(7, 3))));
        assert_eq!(start(&[], &known(&[], true), &BTreeSet::new()), None);
    }

    #[test]
    fn a_copy_begins_where_file_and_target_agree() {
        let epochs = [epoch(1, EpochReason::Made, 0, 0), epoch(2, EpochReason::Copied, 50, 20)];
        // The target went further than the copy, then less far.
        assert_eq!(begun(&epochs, &known(&[(1, places(100, 10))], true)), places(50, 10));
        assert_eq!(begun(&epochs, &known(&[(1, places(30, 40))], true)), places(30, 20));
        // The first life was never shipped.
        assert_eq!(begun(&epochs, &known(&[], true)), places(0, 0));
    }

    #[test]
    fn a_copy_of_a_copy_begins_at_the_least_of_all_forks() {
        let epochs = [
            epoch(1, EpochReason::Migrated, 0, 0),
            epoch(2, EpochReason::Copied, 50, 5),
            epoch(3, EpochReason::Copied, 80, 2),
        ];
        assert_eq!(begun(&epochs, &known(&[(1, places(100, 100))], true)), places(50, 2));
        assert_eq!(begun(&epochs, &known(&[(1, places(100, 100)), (2, places(60, 3))], true)), places(60, 2));
    }

    #[test]
    fn a_resharded_file_begins_behind_what_the_shards_before_have_sent() {
        let epochs = [epoch(1, EpochReason::Resharded, 50, 9)];
        assert_eq!(begun(&epochs, &known(&[], true)), places(50, 9));
        // Nothing of the folder was ever sent to this target.
        assert_eq!(begun(&epochs, &known(&[], false)), places(0, 0));
        // Another shard of the folder has begun, after nothing was known.
        let whole = BTreeSet::from([id(1).0]);
        let found = start(&epochs, &known(&[], true), &whole);
        assert_eq!(found, Some(Start::Begin(id(1), BTreeMap::new())));
        // A copy of a resharded file.
        let copied = [epochs[0].clone(), epoch(2, EpochReason::Copied, 40, 20)];
        assert_eq!(begun(&copied, &known(&[], true)), places(40, 9));
    }
}
