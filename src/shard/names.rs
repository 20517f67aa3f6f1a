//! Numbers that replace repeated strings in rows: the numbers of tenants, and a cache for the numbers of a family's
//! strings.

use foldhash::HashMap;
use rusqlite::{Connection, OptionalExtension as _};

use super::error::ShardError;

/// The maximum number of tenants in memory. When it is reached, the map is cleared and filled again.
const TENANTS_MAX: usize = 1 << 14;

/// Entries per slot. A new entry replaces the least recently used one.
const WAYS: usize = 4;

/// A cache of the numbers of recently used strings, with `PLACES` slots (a power of two). The key is a 128-bit keyed
/// hash: the lower bits select the slot, and the upper 64 are stored. Memory is allocated with the first entry: 64
/// bytes per slot for one number or two, which is a line of the CPU's cache. Two strings that share the slot and the upper 64 bits would be
/// confused while one of them is in the cache. No one can choose such strings, and a billion lookups confuse two
/// strings in one of four billion folders.
pub struct RecentNumbers<const NUMBERS: usize, const PLACES: usize>(Vec<Slot<NUMBERS>>);

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Slot<const NUMBERS: usize>([(u64, [u32; NUMBERS]); WAYS]);

impl<const NUMBERS: usize, const PLACES: usize> Default for RecentNumbers<NUMBERS, PLACES> {
    fn default() -> Self {
        RecentNumbers(Vec::new())
    }
}

impl<const NUMBERS: usize, const PLACES: usize> RecentNumbers<NUMBERS, PLACES> {
    #[inline]
    pub fn get(&mut self, hash: u128) -> Option<[i64; NUMBERS]> {
        let Slot(place) = self.0.get_mut(hash as usize % PLACES)?;
        let tag = (hash >> 64) as u64;
        // 0 marks an empty entry, because numbers start at 1.
        let at = place.iter().position(|(known, numbers)| *known == tag && numbers.first() != Some(&0))?;
        if at > 0 {
            place[..=at].rotate_right(1);
        }
        Some(place[0].1.map(i64::from))
    }

    /// Reads the slots of some hashes into the CPU's cache. The reads do not depend on each other, so they run in
    /// parallel.
    #[inline]
    pub fn touch(&self, hashes: &[u128]) {
        let read =
            |sum: u64, hash: &u128| sum ^ self.0.get(*hash as usize % PLACES).map_or(0, |slot| slot.0[0].0);
        std::hint::black_box(hashes.iter().fold(0, read));
    }

    pub fn set(&mut self, hash: u128, numbers: [i64; NUMBERS]) {
        // A number of more than 32 bits is not cached. It is read from the table each time.
        if numbers.iter().any(|number| u32::try_from(*number).is_err()) {
            return;
        }
        if self.0.is_empty() {
            self.0.resize(PLACES, Slot([(0, [0; NUMBERS]); WAYS]));
        }
        let Slot(place) = &mut self.0[hash as usize % PLACES];
        place.rotate_right(1);
        place[0] = ((hash >> 64) as u64, numbers.map(|number| number as u32));
    }
}

/// The numbers of tenants, which most families store instead of the name.
#[derive(Default)]
pub struct TenantNumbers {
    known: HashMap<Box<str>, i64>,
    /// Whether `known` contains numbers that are not committed yet.
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

    /// Returns the tenant's number. Assigns one to a new tenant.
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

/// The SQL that finds a tenant's number. It is public so that its query plan can be checked.
pub const TENANT_SQL: &str = "SELECT id FROM tenant_row WHERE tenant_id = ?1";

/// Returns a tenant's number, if it has rows here.
pub fn tenant_number(connection: &Connection, tenant_id: &str) -> Result<Option<i64>, ShardError> {
    Ok(connection.prepare_cached(TENANT_SQL)?.query_row([tenant_id], |row| row.get(0)).optional()?)
}
