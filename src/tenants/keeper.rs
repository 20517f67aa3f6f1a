//! Follows the file while the server runs: a change becomes a new roster, and the times of key use are written back.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::addresses::Addresses;
use super::buckets::Buckets;
use super::error::TenantsError;
use super::key::KeyId;
use super::roster::Roster;
use super::store::Store;
use crate::shard::TenantKeeps;

/// Microseconds between two writes of the times at which keys were last used.
const WRITE_BACK_US: i64 = 60_000_000;

/// The newest roster, from which every lane's desk is created.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(super) roster: Arc<ArcSwap<Roster>>,
    pub(super) lanes: u64,
    pub(super) buckets: Arc<Buckets>,
    /// `None`: addresses have no limit.
    pub(super) addresses: Option<Arc<Addresses>>,
    keeps: TenantKeeps,
}

impl Registry {
    /// Limits the number of events per second that can be posted from one address.
    #[must_use]
    pub fn with_rate_per_address(self, per_s: Option<u64>) -> Registry {
        Registry { addresses: per_s.map(|per_s| Arc::new(Addresses::new(per_s))), ..self }
    }

    /// Returns how long rows of tenants are kept, for the shards. It follows the file.
    #[must_use]
    pub fn keeps(&self) -> TenantKeeps {
        self.keeps.clone()
    }

    /// Returns `true` if there is a valid key at this time.
    #[must_use]
    pub fn has_usable_key(&self, now_us: i64) -> bool {
        self.roster.load().has_usable_key(now_us)
    }

    /// Returns `true` if every request has full access, because there never was a key.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.roster.load().is_open
    }
}

/// The open file and its identity.
#[derive(Debug)]
struct Followed {
    store: Store,
    /// Device and inode. A replacement file has different ones.
    identity: (u64, u64),
    version: i64,
}

/// Follows `tenants.db`. Belongs to one thread that may wait for a disk.
#[derive(Debug)]
pub struct Keeper {
    data: PathBuf,
    registry: Registry,
    followed: Option<Followed>,
    /// The time of each key's last use, as written to the file.
    written: HashMap<KeyId, i64>,
    write_back_us: i64,
    /// Set if the last attempt failed and the failure was logged.
    failing: bool,
}

fn identity(path: &Path) -> std::io::Result<Option<(u64, u64)>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Keeper {
    /// Reads a data folder's `tenants.db`, if there is one; creates nothing. `lanes` is the future number of desks.
    ///
    /// # Errors
    /// The file exists and cannot be read. In that case, a server must not start, because it would admit every
    /// request.
    pub fn open(data: &Path, lanes: usize, now_us: i64) -> Result<Keeper, TenantsError> {
        let roster = Roster { is_open: true, ..Roster::default() };
        let registry = Registry {
            roster: Arc::new(ArcSwap::from_pointee(roster)),
            lanes: lanes as u64,
            buckets: Arc::default(),
            addresses: None,
            keeps: TenantKeeps::default(),
        };
        let mut keeper = Keeper {
            data: data.to_owned(),
            registry,
            followed: None,
            written: HashMap::new(),
            write_back_us: now_us + WRITE_BACK_US,
            failing: false,
        };
        keeper.follow()?;
        Ok(keeper)
    }

    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Loads the file if it has changed, and writes back the times of key use if that is due. Called about once a
    /// second. Failures are logged, and the earlier state remains valid.
    pub fn check(&mut self, now_us: i64) {
        let outcome = self.follow();
        if now_us >= self.write_back_us {
            self.write_back_us = now_us + WRITE_BACK_US;
            self.write_back();
        }
        match outcome {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!(%error, "tenants.db cannot be read; the keys read earlier remain valid");
            }
            Err(_) => {}
        }
    }

    fn follow(&mut self) -> Result<(), TenantsError> {
        let path = Store::path_in(&self.data);
        let now_there = identity(&path).map_err(|source| TenantsError::Io { path: path.clone(), source })?;
        match (&self.followed, now_there) {
            (None, None) => return Ok(()),
            (Some(_), None) => {
                let source = std::io::ErrorKind::NotFound.into();
                return Err(TenantsError::Io { path, source });
            }
            (Some(followed), Some(there)) if followed.identity == there => {}
            (_, Some(there)) => {
                // The file is not followed until it has been read, so that a failure is retried.
                self.followed = None;
                let Some(store) = Store::open(&self.data)? else { return Ok(()) };
                let version = store.data_version()?;
                self.take_over(&store)?;
                self.followed = Some(Followed { store, identity: there, version });
                return Ok(());
            }
        }
        let Some(followed) = &self.followed else { return Ok(()) };
        // The version is read before the rows, so a change between the two is seen at the next check.
        let version = followed.store.data_version()?;
        if version != followed.version {
            let Some(mut followed) = self.followed.take() else { return Ok(()) };
            let outcome = self.take_over(&followed.store);
            if outcome.is_ok() {
                followed.version = version;
            }
            self.followed = Some(followed);
            outcome?;
        }
        Ok(())
    }

    fn take_over(&mut self, store: &Store) -> Result<(), TenantsError> {
        let (tenants, keys) = (store.tenants()?, store.keys()?);
        let (limits, secrets) = (store.all_price_limits()?, store.secrets_with_bytes()?);
        let keeps = store.all_keeps()?;
        let before = self.registry.roster.load_full();
        let roster = before.next(&tenants, &keys).with_prices(limits, &secrets);
        tracing::info!(tenants = tenants.len(), keys = roster.keys.len(), "tenants and keys were read");
        if keys.is_empty() && !roster.is_open {
            tracing::error!(
                "tenants.db no longer has any keys; every request is refused until it has one \
                             or the server restarts"
            );
        }
        self.registry.roster.store(Arc::new(roster));
        self.registry.keeps.set(keeps);
        Ok(())
    }

    /// Writes back the times at which keys were last used, if they have changed. A failure is logged and retried.
    pub fn write_back(&mut self) {
        let Some(followed) = &mut self.followed else { return };
        let roster = self.registry.roster.load();
        let used: Vec<_> = roster
            .keys
            .iter()
            .map(|(id, key)| (*id, key.used.get()))
            .filter(|(id, used_us)| *used_us > self.written.get(id).copied().unwrap_or(0))
            .collect();
        if used.is_empty() {
            return;
        }
        match followed.store.note_used(&used) {
            Ok(()) => self.written.extend(used),
            Err(error) => tracing::warn!(%error, "the times of last use of keys could not be written"),
        }
    }
}
