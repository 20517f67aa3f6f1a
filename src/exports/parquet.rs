//! Encodes rows as Parquet: one row group at a time, each built in memory, column by column.
//!
//! The footer lists all row groups, so it comes last. The metadata of each group is stored in a side file (`groups`)
//! as soon as the group is written. After a kill, the file continues after its last group. The footer is always built
//! from the stored metadata, even in an uninterrupted run, so the bytes are the same in both cases.
//!
//! The types are those that DuckDB, Arrow and Spark read alike: UTF-8 strings, INT64 counts, timestamps in
//! microseconds UTC, and money as DECIMAL(38, 4). No currency has units smaller than ten-thousandths, and the largest
//! stored amount fits easily. The column `currency` contains the currency of the amounts.

mod chunk;
mod column;
mod dictionary;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use parquet::basic::{Compression as Codec, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter,
    RowGroupMetaData,
};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::SchemaDescriptor;

use self::column::{ChunkColumn, ColumnEncoder};
use super::body::{Compression, ExportRows};
use super::columns::{Column, Kind};
use super::pack::ZSTD_LEVEL;
use super::source::Batch;

/// The number of rows at which a group ends. Readers assign about this many rows to one thread. The number is small
/// in a debug build, so that tests with few rows have several groups.
const GROUP_ROWS: u64 = if cfg!(debug_assertions) { 2_000 } else { 65_536 };
/// The number of bytes of strings and items at which a group ends early, because strings may be long and items many.
const GROUP_BYTES_MAX: usize = 16 << 20;
/// The number of digits after the decimal point.
const SCALE: u32 = 4;
const MAGIC: &[u8; 4] = b"PAR1";

fn failed(error: ParquetError) -> io::Error {
    io::Error::other(format!("parquet: {error}"))
}

/// An encoder for the parts of one file.
#[derive(Debug)]
pub(super) struct ParquetEncoder {
    rows: ExportRows,
    columns: Vec<Column>,
    schema: Arc<SchemaDescriptor>,
    codec: Codec,
    encoder: ColumnEncoder,
    group: Vec<Batch>,
    group_rows: u64,
    group_bytes: usize,
    /// The completed columns of the group.
    chunks: Vec<(Vec<u8>, ColumnChunkMetaData)>,
    /// The memory of a written group, for reuse by the next one. Memory that another thread frees remains with the
    /// process for a while.
    spare_batches: Vec<Batch>,
    spare_chunks: Vec<Vec<u8>>,
}

impl ParquetEncoder {
    /// Creates an encoder.
    ///
    /// # Errors
    /// Returns the Parquet library's errors. None are expected for a schema with these columns.
    pub(super) fn new(
        tenant: &str,
        rows: ExportRows,
        columns: &[Column],
        compression: Compression,
    ) -> io::Result<ParquetEncoder> {
        let field = |column: &Column| {
            let name = column.name();
            match column.kind() {
                Kind::Text | Kind::Json => format!("REQUIRED BYTE_ARRAY {name} (STRING);"),
                Kind::Count => format!("REQUIRED INT64 {name};"),
                Kind::Money => format!("REQUIRED FIXED_LEN_BYTE_ARRAY (16) {name} (DECIMAL(38,{SCALE}));"),
                Kind::Time => format!("REQUIRED INT64 {name} (TIMESTAMP(MICROS,true));"),
            }
        };
        let fields: String = columns.iter().map(field).collect();
        // Items have the message name that they had before there were others.
        let name = if rows == ExportRows::Items { ExportRows::Orders } else { rows }.name();
        let schema = parse_message_type(&format!("message {name} {{ {fields} }}")).map_err(failed)?;
        let codec = match compression {
            Compression::None => Codec::UNCOMPRESSED,
            Compression::Gzip => Codec::GZIP(GzipLevel::default()),
            Compression::Zstd => Codec::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).map_err(failed)?),
        };
        Ok(ParquetEncoder {
            rows,
            columns: columns.to_vec(),
            schema: Arc::new(SchemaDescriptor::new(Arc::new(schema))),
            codec,
            encoder: ColumnEncoder::new(tenant, rows, compression),
            group: Vec::new(),
            group_rows: 0,
            group_bytes: 0,
            chunks: Vec::new(),
            spare_batches: Vec::new(),
            spare_chunks: Vec::new(),
        })
    }

    /// Appends the start of a file.
    pub(super) fn head(out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
    }

    /// Receives rows and leaves an empty batch in their place. Returns `true` if the group is full.
    pub(super) fn encode(&mut self, batch: &mut Batch) -> bool {
        let spare = self.spare_batches.pop().unwrap_or_else(|| batch.empty());
        let rows = std::mem::replace(batch, spare);
        match &rows {
            Batch::Orders(rows) => {
                self.group_rows += match self.rows {
                    ExportRows::Items => rows.items.len(),
                    _ => rows.orders.len(),
                } as u64;
                // The length of the text is not used, because it depends on how often reading was interrupted.
                self.group_bytes += rows.orders.iter().map(|order| rows.order_bytes(order)).sum::<usize>();
                self.group_bytes += rows.items.iter().map(|item| rows.item_bytes(item)).sum::<usize>();
            }
            Batch::Rows(rows) => {
                self.group_rows += rows.rows.len() as u64;
                self.group_bytes += rows.texts.as_str().len();
            }
        }
        self.group.push(rows);
        self.group_rows >= GROUP_ROWS || self.group_bytes >= GROUP_BYTES_MAX
    }

    pub(super) fn has_rows(&self) -> bool {
        self.group_rows > 0
    }

    /// Encodes the group's next column. Returns `true` if more columns remain. Each column takes some 10 ms.
    ///
    /// # Errors
    /// Returns the Parquet library's errors.
    pub(super) fn next_column(&mut self) -> io::Result<bool> {
        let at = self.chunks.len();
        if at == 0 {
            self.encoder.begin_group(&self.group);
        }
        let (column, description) = (self.columns[at], self.schema.column(at));
        let sink = self.spare_chunks.pop().unwrap_or_default();
        let of = ChunkColumn { column, description, codec: self.codec };
        self.chunks.push(self.encoder.encode(of, &self.group, sink)?);
        Ok(self.chunks.len() < self.columns.len())
    }

    /// Appends the group, once all its columns are encoded. Returns its number of rows and its metadata for the side
    /// file. `offset` is the group's position in the file.
    ///
    /// # Errors
    /// Returns the Parquet library's errors.
    pub(super) fn end_group(&mut self, offset: u64, out: &mut Vec<u8>) -> io::Result<(u64, Vec<u8>)> {
        let (start, mut chunks, mut uncompressed) = (out.len(), Vec::new(), 0);
        for (mut chunk, metadata) in self.chunks.drain(..) {
            let shift = (offset + (out.len() - start) as u64) as i64;
            uncompressed += metadata.uncompressed_size();
            let (data, dictionary) = (metadata.data_page_offset(), metadata.dictionary_page_offset());
            let metadata = metadata
                .into_builder()
                .set_data_page_offset(data + shift)
                .set_dictionary_page_offset(dictionary.map(|offset| offset + shift))
                .build();
            chunks.push(metadata.map_err(failed)?);
            out.extend_from_slice(&chunk);
            chunk.clear();
            self.spare_chunks.push(chunk);
        }
        let group = RowGroupMetaData::builder(self.schema.clone())
            .set_num_rows(self.group_rows as i64)
            .set_total_byte_size(uncompressed)
            .set_file_offset(offset as i64)
            .set_column_metadata(chunks)
            .build()
            .map_err(failed)?;
        let mut beside = Vec::new();
        let footer = self.footer(vec![group])?;
        beside.extend_from_slice(&(footer.len() as u32).to_le_bytes());
        beside.extend_from_slice(&footer);
        let rows = std::mem::take(&mut self.group_rows);
        for mut rows in self.group.drain(..) {
            rows.clear();
            self.spare_batches.push(rows);
        }
        self.group_bytes = 0;
        Ok((rows, beside))
    }

    /// Returns the stored metadata of a group, adjusted for a move of the group by `by` bytes towards the start of
    /// the file.
    ///
    /// # Errors
    /// Returns an error if the bytes are not from [`ParquetEncoder::end_group`].
    pub(super) fn moved(&self, beside: &[u8], by: u64) -> io::Result<Vec<u8>> {
        let by = by as i64;
        let mut moved = Vec::new();
        for group in groups_of(beside)? {
            let columns = group.columns().iter().map(|column| {
                let (data, dictionary) = (column.data_page_offset(), column.dictionary_page_offset());
                let column = column.clone().into_builder();
                let column = column.set_data_page_offset(data - by);
                column.set_dictionary_page_offset(dictionary.map(|offset| offset - by)).build()
            });
            let columns = columns.collect::<Result<Vec<_>, _>>().map_err(failed)?;
            let offset = group.file_offset().unwrap_or_default() - by;
            let group = group.into_builder().set_file_offset(offset).set_column_metadata(columns).build();
            let footer = self.footer(vec![group.map_err(failed)?])?;
            moved.extend_from_slice(&(footer.len() as u32).to_le_bytes());
            moved.extend_from_slice(&footer);
        }
        Ok(moved)
    }

    /// Returns the end of a file, built from the stored metadata of its groups.
    ///
    /// # Errors
    /// Returns an error if the bytes are not from [`ParquetEncoder::end_group`].
    pub(super) fn end(&self, beside: &[u8]) -> io::Result<Vec<u8>> {
        self.footer(groups_of(beside)?)
    }

    fn footer(&self, groups: Vec<RowGroupMetaData>) -> io::Result<Vec<u8>> {
        let rows = groups.iter().map(RowGroupMetaData::num_rows).sum();
        let created_by = Some(concat!("firehose ", env!("CARGO_PKG_VERSION")).to_owned());
        let of_file = FileMetaData::new(1, rows, created_by, None, self.schema.clone(), None);
        let mut footer = Vec::new();
        ParquetMetaDataWriter::new(&mut footer, &ParquetMetaData::new(of_file, groups))
            .finish()
            .map_err(failed)?;
        Ok(footer)
    }
}

/// Decodes the stored metadata of row groups.
fn groups_of(beside: &[u8]) -> io::Result<Vec<RowGroupMetaData>> {
    let cut = || io::Error::other("the stored row groups are truncated");
    let (mut groups, mut rest) = (Vec::new(), beside);
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk().ok_or_else(cut)?;
        let (footer, behind) =
            behind.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(cut)?;
        rest = behind;
        // The metadata precedes its length and the magic bytes.
        let thrift = footer.get(..footer.len().saturating_sub(8)).ok_or_else(cut)?;
        let metadata = ParquetMetaDataReader::decode_metadata(thrift).map_err(failed)?;
        groups.extend_from_slice(metadata.row_groups());
    }
    Ok(groups)
}
