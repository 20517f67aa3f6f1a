//! Uploads that are kept in memory between two requests. Otherwise, every piece of a compressed upload would require
//! unpacking from the start of the upload.

use super::super::record::UploadId;
use crate::orders::endpoints::RowIntake;
use crate::unpack::{Encoding, Unpacker};

/// The maximum number of kept uploads per core. Each uses the memory for unpacking: 100 to 200 KiB and the current
/// line.
const KEPT_MAX: usize = 16;
/// The maximum number of kept uploads that are compressed with zstd, whose windows take up to 8 MiB each.
const ZSTD_MAX: usize = 4;
const KEPT_US: u64 = 60_000_000;

/// An upload that is being converted to rows.
pub(super) struct KeptState {
    pub(super) unpacker: Unpacker,
    pub(super) intaking: RowIntake,
}

struct Entry {
    id: UploadId,
    /// The version of the upload's info to which `live` belongs. Another core may have continued the upload since
    /// then.
    version: u64,
    since_us: u64,
    live: KeptState,
}

impl Entry {
    fn is_zstd(&self) -> bool {
        self.live.unpacker.encoding() == Some(Encoding::Zstd)
    }
}

/// The kept uploads, oldest first.
#[derive(Default)]
pub(super) struct KeptUploads(Vec<Entry>);

impl KeptUploads {
    pub(super) fn put(&mut self, id: UploadId, version: u64, now_us: u64, live: KeptState) {
        self.0.retain(|entry| entry.id != id);
        let entry = Entry { id, version, since_us: now_us, live };
        if entry.is_zstd()
            && self.0.iter().filter(|entry| entry.is_zstd()).count() >= ZSTD_MAX
            && let Some(oldest) = self.0.iter().position(Entry::is_zstd)
        {
            self.0.remove(oldest);
        }
        if self.0.len() >= KEPT_MAX {
            self.0.remove(0);
        }
        self.0.push(entry);
    }

    /// Drops the oldest upload. Returns `true` if there was one.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let is_any = !self.0.is_empty();
        if is_any {
            self.0.remove(0);
        }
        is_any
    }

    /// Removes and returns an upload. Returns `None` if this core does not keep the upload, or if the kept state is
    /// older than the upload's info.
    pub(super) fn take(&mut self, id: &UploadId, version: u64) -> Option<KeptState> {
        let at = self.0.iter().position(|entry| entry.id == *id)?;
        let entry = self.0.remove(at);
        (entry.version == version).then_some(entry.live)
    }

    /// Drops the uploads that no request has continued for [`KEPT_US`].
    pub(super) fn expire(&mut self, now_us: u64) {
        self.0.retain(|entry| entry.since_us + KEPT_US > now_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders::OrderIngest;
    use crate::unpack::Limits;

    fn live(first: &'static [u8]) -> KeptState {
        let mut unpacker = Unpacker::new(Limits::default());
        unpacker.feed(bytes::Bytes::from_static(first));
        while let Ok(crate::unpack::Next::Line(_)) = unpacker.next() {}
        KeptState { unpacker, intaking: RowIntake::new(OrderIngest::new(1, None, 0, 1), false) }
    }

    fn ids(count: usize) -> Vec<UploadId> {
        (0..count).map(|number| UploadId::parse(&format!("{number:032x}")).unwrap()).collect()
    }

    #[test]
    fn the_newest_are_kept_and_only_as_new_as_their_info() {
        let (mut kept, ids) = (KeptUploads::default(), ids(KEPT_MAX + 1));
        for id in &ids {
            kept.put(id.clone(), 5, 100, live(b"{}\n{}\n"));
        }
        assert!(kept.take(&ids[0], 5).is_none(), "the oldest made room");
        assert!(kept.take(&ids[1], 5).is_some() && kept.take(&ids[1], 5).is_none());
        assert!(kept.take(&ids[2], 6).is_none(), "another core went on");
        assert!(kept.take(&ids[2], 5).is_none(), "and this one forgot");
        kept.expire(100 + KEPT_US - 1);
        assert_eq!(kept.0.len(), KEPT_MAX - 2);
        kept.expire(100 + KEPT_US);
        assert!(kept.0.is_empty());
    }

    #[test]
    fn few_windows_are_kept() {
        const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
        let (mut kept, ids) = (KeptUploads::default(), ids(ZSTD_MAX + 2));
        kept.put(ids[0].clone(), 1, 0, live(b"{}\n{}\n"));
        for id in &ids[1..] {
            kept.put(id.clone(), 1, 0, live(ZSTD));
        }
        assert_eq!(kept.0.iter().filter(|entry| entry.is_zstd()).count(), ZSTD_MAX);
        assert!(kept.take(&ids[0], 1).is_some() && kept.take(&ids[1], 1).is_none());
    }
}
