//! The bytes of one column in a row group: a dictionary page if there is one, and data pages, each compressed.

use std::io;

use bytes::Bytes;
use parquet::basic::{Encoding, PageType};
use parquet::column::page::{CompressedPage, Page, PageWriter as _};
use parquet::file::metadata::{ColumnChunkMetaData, PageEncodingStats};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::failed;
use crate::exports::body::Compression;
use crate::exports::pack::{ZSTD_LEVEL, pack};

/// A page of plain values ends at this many bytes. Readers unpack a page as a whole.
pub(super) const PAGE_BYTES: usize = 1 << 20;

/// Compresses pages, and keeps the memory of pages for the next ones.
pub(super) struct PagePacker {
    compression: Compression,
    /// One for each group, because a job that continues after a kill begins with a group.
    zstd: Option<zstd::bulk::Compressor<'static>>,
    spare: Vec<u8>,
}

impl std::fmt::Debug for PagePacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PagePacker").field("compression", &self.compression).finish_non_exhaustive()
    }
}

impl PagePacker {
    pub(super) fn new(compression: Compression) -> PagePacker {
        PagePacker { compression, zstd: None, spare: Vec::new() }
    }

    pub(super) fn begin_group(&mut self) {
        self.zstd = None;
    }

    /// Returns the page as it is stored. Without compression, this is its own memory.
    fn pack(&mut self, page: &mut Vec<u8>) -> io::Result<Vec<u8>> {
        if self.compression == Compression::None {
            return Ok(std::mem::take(page));
        }
        let mut packed = std::mem::take(&mut self.spare);
        packed.clear();
        if self.compression == Compression::Zstd {
            let zstd = match &mut self.zstd {
                Some(zstd) => zstd,
                none => none.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
            };
            packed.reserve(zstd::zstd_safe::compress_bound(page.len()));
            zstd.compress_to_buffer(page.as_slice(), &mut packed)?;
        } else {
            pack(self.compression, page, &mut packed)?;
        }
        Ok(packed)
    }

    /// Takes the memory of a written page back.
    fn give(&mut self, memory: Vec<u8>, page: &mut Vec<u8>) {
        let kept = if self.compression == Compression::None { &mut *page } else { &mut self.spare };
        *kept = memory;
        page.clear();
    }
}

/// A writer of one column's pages.
pub(super) struct ChunkWriter<'p> {
    packer: &'p mut PagePacker,
    sink: TrackedWrite<Vec<u8>>,
    has_dictionary: bool,
    data_offset: Option<u64>,
    data_encoding: Encoding,
    data_pages: i32,
    packed_bytes: usize,
    bytes: usize,
    values: u64,
}

impl<'p> ChunkWriter<'p> {
    /// Creates a writer that appends to `sink`, which is empty.
    pub(super) fn new(sink: Vec<u8>, packer: &'p mut PagePacker) -> ChunkWriter<'p> {
        ChunkWriter {
            packer,
            sink: TrackedWrite::new(sink),
            has_dictionary: false,
            data_offset: None,
            data_encoding: Encoding::PLAIN,
            data_pages: 0,
            packed_bytes: 0,
            bytes: 0,
            values: 0,
        }
    }

    /// Writes the page of a dictionary, before all others. Leaves `page` empty.
    pub(super) fn dictionary(&mut self, page: &mut Vec<u8>, entries: usize) -> io::Result<()> {
        self.has_dictionary = true;
        self.data_encoding = Encoding::RLE_DICTIONARY;
        let num_values = entries as u32;
        self.write(page, |buf| Page::DictionaryPage {
            buf,
            num_values,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        })?;
        Ok(())
    }

    /// Writes a page of indexes if there is a dictionary, otherwise of values. Leaves `page` empty.
    pub(super) fn data(&mut self, page: &mut Vec<u8>, values: usize) -> io::Result<()> {
        let (num_values, encoding) = (values as u32, self.data_encoding);
        let offset = self.write(page, |buf| Page::DataPage {
            buf,
            num_values,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        })?;
        self.data_offset.get_or_insert(offset);
        self.data_pages += 1;
        self.values += values as u64;
        Ok(())
    }

    fn write(&mut self, page: &mut Vec<u8>, of: impl FnOnce(Bytes) -> Page) -> io::Result<u64> {
        let bytes = page.len();
        let packed = Bytes::from(self.packer.pack(page)?);
        let compressed = CompressedPage::new(of(packed.clone()), bytes);
        let spec = SerializedPageWriter::new(&mut self.sink).write_page(compressed).map_err(failed)?;
        self.packer.give(packed.try_into_mut().map(Vec::from).unwrap_or_default(), page);
        self.packed_bytes += spec.compressed_size;
        self.bytes += spec.uncompressed_size;
        Ok(spec.offset)
    }

    /// Returns the bytes of the column and their description, whose offsets begin with these bytes. `text_bytes` are
    /// the bytes of the strings in all rows.
    pub(super) fn end(
        self,
        column: ColumnDescPtr,
        codec: parquet::basic::Compression,
        statistics: Statistics,
        text_bytes: Option<usize>,
    ) -> io::Result<(Vec<u8>, ColumnChunkMetaData)> {
        let (mut encodings, mut pages) = (vec![Encoding::PLAIN, Encoding::RLE], Vec::new());
        let mut count =
            |page_type, encoding, count| pages.push(PageEncodingStats { page_type, encoding, count });
        if self.has_dictionary {
            encodings.push(Encoding::RLE_DICTIONARY);
            count(PageType::DICTIONARY_PAGE, Encoding::PLAIN, 1);
        }
        count(PageType::DATA_PAGE, self.data_encoding, self.data_pages);
        let metadata = ColumnChunkMetaData::builder(column)
            .set_compression(codec)
            .set_encodings(encodings)
            .set_page_encoding_stats(pages)
            .set_num_values(self.values as i64)
            .set_total_compressed_size(self.packed_bytes as i64)
            .set_total_uncompressed_size(self.bytes as i64)
            .set_data_page_offset(self.data_offset.unwrap_or_default() as i64)
            .set_dictionary_page_offset(self.has_dictionary.then_some(0))
            .set_statistics(statistics)
            .set_unencoded_byte_array_data_bytes(text_bytes.map(|bytes| bytes as i64))
            .build()
            .map_err(failed)?;
        Ok((self.sink.into_inner().map_err(failed)?, metadata))
    }
}
