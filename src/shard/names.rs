//! Numbers of texts that rows repeat: the tenants', and what families use to keep their own in memory.

use foldhash::HashMap;
use rusqlite::{Connection, OptionalExtension as _};

use super::error::ShardError;

/// Tenants that are kept; beyond it all are forgotten and read again.
const TENANTS_MAX: usize = 1 << 14;

/// Names that may have one place; the one that was met the longest ago makes way.
const WAYS: usize = 4;

/// What was met lately at each of so many places (a power of two), by a 128-bit keyed hash of which the lower bits
/// name the place and the upper 64 are kept. Allocated with the first: 64 bytes a place for one number, 96 for
/// three. Two texts with one hash would be taken for one; nobody can choose them, and a billion texts meet it once in
/// 10^20 folders.
pub struct RecentNumbers<const NUMBERS: usize, const PLACES: usize>(Vec<[(u64, [u32; NUMBERS]); WAYS]>);

impl<const NUMBERS: usize, const PLACES: usize> Default for RecentNumbers<NUMBERS, PLACES> {
    fn default() -> Self {
        RecentNumbers(Vec::new())
    }
}

impl<const NUMBERS: usize, const PLACES: usize> RecentNumbers<NUMBERS, PLACES> {
    #[inline]
    pub fn get(&mut self, hash: u128) -> Option<[i64; NUMBERS]> {
        let place = self.0.get_mut(hash as usize % PLACES)?;
        let tag = (hash >> 64) as u64;
        // Numbers begin with 1.
        let at = place.iter().position(|(known, numbers)| *known == tag && numbers.first() != Some(&0))?;
        place[..=at].rotate_right(1);
        Some(place[0].1.map(i64::from))
    }

    pub fn set(&mut self, hash: u128, numbers: [i64; NUMBERS]) {
        // Beyond 32 bits it is read from the table each time.
        if numbers.iter().any(|number| u32::try_from(*number).is_err()) {
            return;
        }
        if self.0.is_empty() {
            self.0.resize(PLACES, [(0, [0; NUMBERS]); WAYS]);
        }
        let place = &mut self.0[hash as usize % PLACES];
        place.rotate_right(1);
        place[0] = ((hash >> 64) as u64, numbers.map(|number| number as u32));
    }
}

/// The numbers of tenants, which most families store in place of the name.
#[derive(Default)]
pub struct TenantNumbers {
    known: HashMap<Box<str>, i64>,
    /// Some of it is not committed.
    is_dirty: bool,
}

impl std::fmt::Debug for TenantNumbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TenantNumbers").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

impl TenantNumbers {
    pub(super) fn committed(&mut self) {
        self.is_dirty = false;
    }

    pub(super) fn rolled_back(&mut self) {
        if self.is_dirty {
            *self = TenantNumbers::default();
        }
    }

    /// The tenant's number, given out if it is new.
    pub fn number(&mut self, connection: &Connection, tenant_id: &str) -> Result<i64, ShardError> {
        if let Some(tenant) = self.known.get(tenant_id) {
            return Ok(*tenant);
        }
        let tenant = match tenant_number(connection, tenant_id)? {
            Some(tenant) => tenant,
            None => {
                let insert = "INSERT INTO tenant_row (tenant_id) VALUES (?1)";
                self.is_dirty = true;
                connection.prepare_cached(insert)?.insert([tenant_id])?
            }
        };
        if self.known.len() >= TENANTS_MAX {
            self.known.clear();
        }
        self.known.insert(tenant_id.into(), tenant);
        Ok(tenant)
    }
}

/// Finds the number of a tenant; for looking at plans.
pub const TENANT_SQL: &str = "SELECT id FROM tenant_row WHERE tenant_id = ?1";

/// The number of a tenant, if it has rows here.
pub fn tenant_number(connection: &Connection, tenant_id: &str) -> Result<Option<i64>, ShardError> {
    Ok(connection.prepare_cached(TENANT_SQL)?.query_row([tenant_id], |row| row.get(0)).optional()?)
}
