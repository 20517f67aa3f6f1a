//! One place that holds data of people: its name, whose data it holds, how it is erased, and how it is read.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use super::access::reader::{FileReader, RowReader};
use super::active::ActiveErasure;
use super::refused::PeopleRefused;
use super::uploads::ErasedPeople;
use crate::lane::Lane;
use crate::shard::{Shard, ShardError, WriterTask};

/// A place that holds data of people.
pub(super) struct Place {
    /// The name in an export of a person's data.
    pub(super) name: &'static str,
    pub(super) of: Of,
    pub(super) erase: Erase,
    pub(super) read: Read,
    /// The members of the certificate that count what was erased here. The first counts the same as an export does.
    pub(super) counts: &'static [&'static str],
}

/// Whose data a place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Customers,
    /// Users of the collector.
    Users,
    Everyone,
}

impl Of {
    pub(super) fn has(self, is_user: bool) -> bool {
        match self {
            Of::Customers => !is_user,
            Of::Users => is_user,
            Of::Everyone => true,
        }
    }
}

/// Runs one slice of a step until this time. Returns `true` once the step is done.
pub(super) type Slice = fn(&mut Shard, &mut ActiveErasure, u64) -> Result<bool, ShardError>;

/// The number of affected files for each person.
pub(super) type ErasedFiles<'l> = Pin<Box<dyn Future<Output = Result<Vec<u64>, PeopleRefused>> + 'l>>;

/// Erases people from files.
pub(super) type EraseFiles = for<'l> fn(&'l Rc<Lane>, &'l Arc<ErasedPeople>) -> ErasedFiles<'l>;

/// How a place is erased.
pub(super) enum Erase {
    /// By the request, before the shards start.
    Files(EraseFiles),
    /// By each shard, in a step of this name, in slices of upkeep.
    Slices(&'static str, Slice),
    /// By each shard's writer, in a step of this name.
    Writer(&'static str, WriterTask),
    /// By the sinks, for which each shard waits in a step of this name.
    Sinks(&'static str),
    /// Together with the place before it.
    WithTheLast,
}

/// How a place is read for a person.
pub(super) enum Read {
    /// From the rows of each shard, which an index finds, or of which there are few.
    Rows(fn() -> Box<dyn RowReader>),
    /// From the rows of each shard, with a search of everyone's.
    Scan(fn() -> Box<dyn RowReader>),
    /// From files.
    Files(fn() -> Box<dyn FileReader>),
    /// From files that contain copies of rows, and know them by their ids. If there are copies of events, everyone's
    /// are searched first.
    Copies(fn() -> Box<dyn FileReader>),
    /// Not at all, for this reason.
    Never(&'static str),
}

impl Place {
    /// Returns the name of the step that erases this place in a shard.
    pub(super) fn step(&self) -> Option<&'static str> {
        match self.erase {
            Erase::Slices(step, _) | Erase::Writer(step, _) | Erase::Sinks(step) => Some(step),
            Erase::Files(_) | Erase::WithTheLast => None,
        }
    }
}
