//! The stores of all families, one each, in the order of the families.

use std::any::Any;
use std::collections::BTreeMap;

use rusqlite::Connection;

use super::change::{CHANGES, last_change};
use super::error::ShardError;
use super::family::Store;
use super::streams::Streams;

/// Runs a transaction outside of batches, and tells the store how it has ended.
pub fn committing<S: Store + ?Sized, T, E>(
    store: &mut S,
    work: impl FnOnce(&mut S) -> Result<T, E>,
) -> Result<T, E> {
    let done = work(store);
    if done.is_ok() {
        store.committed();
    } else {
        store.rolled_back();
    }
    done
}

/// A list of stores. A store is taken out of its slot while it works on the shard.
#[derive(Debug, Default)]
pub(super) struct Stores(Vec<Option<Box<dyn Store>>>);

impl Stores {
    pub(super) fn push(&mut self, store: Box<dyn Store>) {
        self.0.push(Some(store));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &dyn Store> {
        self.0.iter().flatten().map(|store| &**store)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Box<dyn Store>> {
        self.0.iter_mut().flatten()
    }

    pub(super) fn at(&mut self, family: usize) -> Option<&mut Box<dyn Store>> {
        self.0.get_mut(family)?.as_mut()
    }

    pub(super) fn take(&mut self, family: usize) -> Option<Box<dyn Store>> {
        self.0.get_mut(family)?.take()
    }

    pub(super) fn put_back(&mut self, family: usize, store: Box<dyn Store>) {
        if let Some(place) = self.0.get_mut(family) {
            *place = Some(store);
        }
    }

    pub(super) fn sealed(&mut self, family: usize) {
        if let Some(store) = self.at(family) {
            store.sealed();
        }
    }

    pub(super) fn get<T: Store>(&self) -> Option<&T> {
        self.iter().find_map(|store| (store as &dyn Any).downcast_ref())
    }

    pub(super) fn get_mut<T: Store>(&mut self) -> Option<&mut T> {
        self.iter_mut().find_map(|store| (&mut **store as &mut dyn Any).downcast_mut())
    }

    /// Returns the last number that the file has given out for each stream and ledger and for the feed of changes.
    pub(super) fn last_numbers(
        &self,
        connection: &Connection,
        streams: &Streams,
    ) -> Result<BTreeMap<String, i64>, ShardError> {
        let streams = streams.iter().filter_map(|state| {
            let last = state.open.as_ref()?.next_id - 1;
            Some((state.stream.name.to_owned(), last))
        });
        let ledgers = self.iter().flat_map(|store| store.last_ids());
        let ledgers = ledgers.map(|(ledger, last)| (ledger.to_owned(), last));
        let feed = [(CHANGES.to_owned(), last_change(connection)?)];
        Ok(streams.chain(ledgers).chain(feed).collect())
    }
}
