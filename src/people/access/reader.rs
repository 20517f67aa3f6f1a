//! What reads a place for a person, and what it reads from.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rusqlite::Connection;

use super::super::uploads::ErasedPeople;
use super::page::Page;
use crate::base::ids::{LaneId, Sequence, ShardId};
use crate::base::keys::KeyHasher;
use crate::exports::ExportStore;
use crate::journal::JournalError;
use crate::shard::ShardError;
use crate::uploads::UploadStore;

/// A shard's files next to its rows.
#[derive(Debug)]
pub(in super::super) struct ShardFiles {
    pub(in super::super) shard: ShardId,
    pub(in super::super) folder: PathBuf,
    /// The last record of each lane that the shard has stored.
    pub(in super::super) positions: Vec<(LaneId, Sequence)>,
}

/// The person whose data is read, and where it may be.
#[derive(Debug)]
pub(in super::super) struct Sought {
    /// The list of this one person, as an erasure searches for it.
    pub(in super::super) people: Arc<ErasedPeople>,
    pub(in super::super) keys: KeyHasher,
    /// The sorted ids of the person's orders in each shard, as an erasure of several people lists them.
    pub(in super::super) orders: Vec<Vec<(i64, usize)>>,
    /// The sorted ids of the events that refer to the person in each shard, once they have been searched for.
    pub(in super::super) events: OnceLock<Vec<Vec<(i64, usize)>>>,
    pub(in super::super) shards: Vec<ShardFiles>,
    /// Set if the client may also see the data of other tenants.
    pub(in super::super) sees_all: bool,
}

/// The reason why a row is listed without its content. An erasure removes what may be anyone's, but no tenant reads
/// another's data (R2).
pub(super) const WITHHELD: &str = "it may be another tenant's; a key for all tenants shows the content";

impl Sought {
    pub(super) fn tenant_id(&self) -> &str {
        &self.people.tenant_id
    }

    /// Returns `true` if the client may see data of this tenant. `None` is data whose tenant is unknown.
    pub(super) fn may_show(&self, tenant_id: Option<&str>) -> bool {
        self.sees_all || tenant_id == Some(self.tenant_id())
    }

    pub(super) fn customer_id(&self) -> &str {
        self.people.customer_ids.first().map_or("", String::as_str)
    }
}

/// Reads one place in one shard. A step ends soon after its page is full.
pub(in super::super) trait RowReader: Send {
    /// Reads the next rows in a snapshot. Returns `true` at the end.
    fn step(
        &mut self,
        connection: &Connection,
        shard: ShardId,
        sought: &Sought,
        page: &mut Page,
    ) -> Result<bool, ShardError>;
}

/// The stores of files next to the shards.
#[derive(Clone, Debug)]
pub(in super::super) struct Files {
    pub(in super::super) uploads: Arc<UploadStore>,
    pub(in super::super) exports: Arc<ExportStore>,
}

/// Reads one place that consists of files. A step ends soon after its page is full.
pub(in super::super) trait FileReader: Send {
    /// Reads the next data. Returns `true` at the end.
    fn step(&mut self, files: &Files, sought: &Sought, page: &mut Page) -> io::Result<bool>;
}

/// Converts the error of a journal.
pub(super) fn failed(error: JournalError) -> io::Error {
    io::Error::other(error.to_string())
}
