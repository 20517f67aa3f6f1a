//! The bytes of one file, in pages that copies share.

use std::sync::Arc;

pub const PAGE_BYTES: u64 = 4096;

type Page = [u8; PAGE_BYTES as usize];

/// The bytes of a file. A copy costs one pointer for each page.
///
/// Bytes after the length are zero in the last page, and there are no pages after it.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pages: Vec<Option<Arc<Page>>>,
    length: u64,
}

/// One change of a file's bytes.
#[derive(Clone, Debug)]
pub enum Change {
    Write { offset: u64, bytes: Arc<[u8]> },
    Zero { offset: u64, length: u64 },
    Resize(u64),
}

impl Change {
    /// Returns the length of a file after this change.
    pub fn length_after(&self, before: u64) -> u64 {
        match self {
            Change::Write { offset, bytes } => before.max(offset + bytes.len() as u64),
            Change::Zero { .. } => before,
            Change::Resize(length) => *length,
        }
    }
}

impl Content {
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, bytes } => {
                self.resize(self.length.max(offset + bytes.len() as u64));
                self.write(*offset, bytes);
            }
            Change::Zero { offset, length } => {
                let end = (offset + length).min(self.length);
                let zeroes = vec![0; end.saturating_sub(*offset) as usize];
                self.write(*offset, &zeroes);
            }
            Change::Resize(length) => self.resize(*length),
        }
    }

    /// Writes bytes within the length.
    pub fn write(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (index, at) = ((offset / PAGE_BYTES) as usize, (offset % PAGE_BYTES) as usize);
            let count = bytes.len().min(PAGE_BYTES as usize - at);
            let page = self.pages[index].get_or_insert_with(|| Arc::new([0; PAGE_BYTES as usize]));
            Arc::make_mut(page)[at..at + count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            offset += count as u64;
        }
    }

    pub fn resize(&mut self, length: u64) {
        self.pages.resize(length.div_ceil(PAGE_BYTES) as usize, None);
        let used = (length % PAGE_BYTES) as usize;
        if length < self.length
            && used > 0
            && let Some(Some(page)) = self.pages.last_mut()
        {
            Arc::make_mut(page)[used..].fill(0);
        }
        self.length = length;
    }

    /// Returns at most `size` bytes, and fewer at the end of the file.
    pub fn read(&self, offset: u64, size: u64) -> Vec<u8> {
        let end = (offset + size).min(self.length);
        let mut bytes = vec![0; end.saturating_sub(offset) as usize];
        let mut done = 0;
        while done < bytes.len() {
            let from = offset + done as u64;
            let at = (from % PAGE_BYTES) as usize;
            let count = (bytes.len() - done).min(PAGE_BYTES as usize - at);
            if let Some(page) = &self.pages[(from / PAGE_BYTES) as usize] {
                bytes[done..done + count].copy_from_slice(&page[at..at + count]);
            }
            done += count;
        }
        bytes
    }

    /// Returns the pages that contain anything, each with its offset and cut at the length.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pages.iter().enumerate().filter_map(|(index, page)| {
            let offset = index as u64 * PAGE_BYTES;
            let used = (self.length - offset).min(PAGE_BYTES) as usize;
            page.as_ref().map(|page| (offset, &page[..used]))
        })
    }
}
