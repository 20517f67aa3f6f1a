//! A disk whose power can be cut: a file system in this process that knows what was synced.
//!
//! ```text
//! program ─► kernel ─► device ─► state ─┬─ as programs see it
//!            (FUSE)                     ├─ as the disk has it
//!                                       └─ the operations between ──► image: one state after the cut
//! ```
//!
//! The kernel caches no unwritten data: every write is an operation, in order. Only pages that are mapped and shared
//! arrive later, at an msync or when the mapping ends.
//!
//! **This process must not map a file of its own disk**, so it opens no database there. A page fault holds the memory
//! that the device needs to answer it, which is a deadlock. Images are plain folders, and servers are other processes.
#![allow(unreachable_pub, reason = "a test file includes it as a module of its own")]

mod content;
mod device;
mod image;
mod mount;
mod names;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use image::Policy;
pub use names::Order;
use state::State;

#[expect(clippy::disallowed_types, reason = "the kernel's requests and the test meet here")]
type Guarded<T> = std::sync::Mutex<T>;

fn locked<T>(guarded: &Guarded<T>) -> std::sync::MutexGuard<'_, T> {
    guarded.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A mounted disk. It is unmounted on drop, also after a panic.
pub struct PowerDisk {
    at: PathBuf,
    state: Arc<Guarded<State>>,
    session: Option<fuser::BackgroundSession>,
}

impl PowerDisk {
    /// Mounts a disk. Returns `None` if the test may not mount, which is reported, or if it has already run
    /// elsewhere.
    #[track_caller]
    pub fn mount(at: PathBuf) -> Option<PowerDisk> {
        if !mount::may_mount() {
            return None;
        }
        let state = Arc::new(Guarded::new(State::new()));
        let session = mount::mount(&at, device::Device::new(state.clone()))?;
        Some(PowerDisk { at, state, session: Some(session) })
    }

    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Makes everything written so far durable, without a sync.
    pub fn settle(&self) {
        locked(&self.state).settle();
    }

    /// Returns the number of operations that changed or synced anything.
    pub fn operations(&self) -> u64 {
        locked(&self.state).sequence
    }

    /// Cuts the power. Every later operation fails, and nothing more reaches the disk.
    pub fn cut(&self) {
        locked(&self.state).is_cut = true;
    }

    /// Cuts the power by itself after this number of [`PowerDisk::operations`].
    pub fn cut_after(&self, operations: u64) {
        locked(&self.state).cut_after = Some(operations);
    }

    pub fn is_cut(&self) -> bool {
        locked(&self.state).is_cut
    }

    /// Sets how long a sync takes. Its data is durable at its end, not before.
    pub fn syncs_take(&self, time: Duration) {
        locked(&self.state).sync_time = time;
    }

    /// The control: from now on, a sync reports success and makes nothing durable.
    pub fn forget_syncs(&self) {
        locked(&self.state).forgets_syncs = true;
    }

    /// Returns how often a file or folder was synced, by its path on this disk.
    #[track_caller]
    pub fn syncs_of(&self, path: &Path) -> u64 {
        let state = locked(&self.state);
        let inside = path.strip_prefix(&self.at).expect("a path on this disk");
        let number = inside.iter().try_fold(names::ROOT, |folder, name| state.lookup(folder, name));
        number.map_or(0, |number| state.nodes[&number].syncs)
    }

    /// Writes one state that the disk may have after a cut into a new plain folder.
    pub fn image(&self, order: Order, policy: Policy, seed: u64, to: &Path) {
        image::write(&locked(&self.state), order, policy, seed, to);
    }
}

impl Drop for PowerDisk {
    fn drop(&mut self) {
        // Programs that still run on the disk get errors. Their end is not awaited.
        self.cut();
        mount::unmount(&self.at);
        drop(self.session.take());
    }
}
