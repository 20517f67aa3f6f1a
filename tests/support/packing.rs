//! Orders for a body, and the ways to pack a body.

use std::io::{Cursor, Write as _};

use super::Chance;
use super::oracle::Order;

pub fn orders(tenant: &str, count: u64) -> Vec<Order> {
    let mut chance = Chance::seeded(9);
    (0..count).map(|id| Order::random(&mut chance, tenant, id)).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(bytes).expect("memory takes it");
    packed.finish().expect("memory takes it")
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("it packs")
}

/// Returns an archive with these entries, alternately deflated and stored.
pub fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (at, (name, bytes)) in entries.iter().enumerate() {
        let method = [zip::CompressionMethod::Deflated, zip::CompressionMethod::Stored][at % 2];
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        archive.start_file(*name, options).expect("an entry");
        archive.write_all(bytes).expect("memory takes it");
    }
    archive.finish().expect("an archive").into_inner()
}
