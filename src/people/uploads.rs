//! Searches uploads for a person, and the data folder for copies of rows that prevent an erasure.

use std::fs;
use std::io;
use std::path::Path;

use super::matcher::PersonMatcher;
use crate::orders::OrderDecoder;
use crate::unpack::{Encoding, Limits, Next, Unpacker};
use crate::uploads::{State, Upload, UploadStore};

/// The number of body bytes searched at once.
const SLICE_BYTES: usize = 64 * 1024;

/// A person whose lines an upload may contain.
#[derive(Clone, Debug)]
pub(super) struct ErasedPerson {
    pub tenant_id: String,
    pub customer_id: String,
    pub matcher: PersonMatcher,
}

/// Returns the name of a file or folder in the data folder that has rows but is not maintained by the server: a copy
/// that an operator keeps. Nothing can be erased from it, so an erasure must not be reported as complete while it
/// exists.
///
/// # Errors
/// Returns file system errors.
pub(super) fn unmanaged_copy(data: &Path) -> io::Result<Option<String>> {
    for name in ["before-reshard", "reshard"] {
        if data.join(name).exists() {
            return Ok(Some(name.to_owned()));
        }
    }
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        let is_shard = entry.file_name().to_str().is_some_and(|name| name.starts_with("shard-"));
        for copy in ["shard.db.healed", "shard.db.healed-part"] {
            if is_shard && entry.path().join(copy).exists() {
                return Ok(Some(format!("{}/{copy}", entry.file_name().to_string_lossy())));
            }
        }
    }
    Ok(None)
}

/// Returns `true` if the upload must be deleted. This is the case if its body contains or may contain one of the
/// person's lines, or if its metadata, key or failure identifies the person. Reads the whole body, at 400 MB of lines
/// per second. An incomplete compressed body cannot be searched to its end, so it counts as a match.
///
/// # Errors
/// Returns file system errors.
pub(super) fn must_be_deleted(
    store: &UploadStore,
    upload: &Upload,
    person: &ErasedPerson,
) -> io::Result<bool> {
    // The reason for the failure may contain the name of a part of an archive.
    let reason = match &upload.state {
        State::Failed { detail, .. } => Some(detail.as_str()),
        _ => None,
    };
    let told = [Some(upload.metadata.as_str()), upload.key.as_deref(), reason];
    if told.into_iter().flatten().any(|text| person.matcher.may_match(text.as_bytes()))
        || in_metadata(upload, person)
    {
        return Ok(true);
    }
    if upload.state != State::Receiving {
        return Ok(false);
    }
    let body = match store.body(upload) {
        // The file was removed by hand. The upload can never be resumed, and must not prevent an erasure.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        body => body?,
    };
    let (mut unpacker, mut decoder) = (Unpacker::new(Limits::default()), OrderDecoder::new());
    let mut at = 0;
    loop {
        let is_last = at >= body.length();
        if is_last {
            unpacker.finish();
        } else {
            let bytes = body.read(at, SLICE_BYTES)?;
            at += bytes.len() as u64;
            unpacker.feed(bytes);
        }
        loop {
            match unpacker.next() {
                Ok(Next::Line(line)) if person.is_in(&mut decoder, line.bytes) || line.is_too_long => {
                    return Ok(true);
                }
                Ok(Next::Line(_)) => {}
                Ok(Next::Hungry | Next::End) => break,
                // The body is truncated or damaged.
                Err(_) => return Ok(true),
            }
        }
        if unpacker.encoding().is_some_and(|encoding| encoding != Encoding::Plain)
            && body.length() < upload.length
        {
            return Ok(true);
        }
        if is_last {
            return Ok(false);
        }
    }
}

/// Searches the values of tus metadata, which are base64-encoded.
fn in_metadata(upload: &Upload, person: &ErasedPerson) -> bool {
    use base64::Engine as _;
    let values = upload.metadata.split(',').filter_map(|pair| pair.trim().split_once(' '));
    let decoded =
        values.filter_map(|(_, value)| base64::engine::general_purpose::STANDARD.decode(value.trim()).ok());
    decoded.into_iter().any(|value| person.matcher.may_match(&value))
}

impl ErasedPerson {
    fn is_in(&self, decoder: &mut OrderDecoder, line: &[u8]) -> bool {
        if self.matcher.matches(line) {
            return true;
        }
        match decoder.order(line) {
            Ok(order) => order.tenant_id == self.tenant_id && order.customer_id == self.customer_id,
            // The last line may be incomplete.
            Err(_) => self.matcher.may_match(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::uploads::{NewUpload, UploadId};

    fn line(customer: &str) -> String {
        format!(
            r#"{{"order_id":"o","tenant_id":"t","customer_id":"{customer}","customer_name":"N","customer_email":"n@e.org","status":"paid","currency":"USD","ordered_at":"2026-03-01T12:00:00Z","items":[{{"product_id":"p","category":"x","quantity":1,"unit_price":"1.00"}}]}}"#
        ) + "\n"
    }

    #[test]
    fn an_upload_goes_where_it_has_a_line_of_the_person_or_may_have() {
        let data = tempfile::tempdir().unwrap();
        let store = UploadStore::open(data.path(), 1 << 20).unwrap();
        let person = ErasedPerson {
            tenant_id: "t".to_owned(),
            customer_id: "7".to_owned(),
            matcher: PersonMatcher::new(["7"], ["zaphod@heart.gold"], []),
        };
        let gzip = |text: &str| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(text.as_bytes()).unwrap();
            gzip.finish().unwrap()
        };
        let others = line("8").repeat(3);
        let with = format!("{others}{}", line("7"));
        let escaped = format!("{others}{}", line("\\u0037"));
        let half = format!("{others}{}", r#"{"customer_email":"zaphod@heart.gold","cust"#);
        for (body, length, metadata, expected) in [
            (others.clone().into_bytes(), 9_999, "", false),
            (with.clone().into_bytes(), 9_999, "", true),
            (escaped.into_bytes(), 9_999, "", true),
            (half.into_bytes(), 9_999, "", true),
            (gzip(&others), gzip(&others).len() as u64, "", false),
            (gzip(&with), gzip(&with).len() as u64, "", true),
            (gzip(&others)[..20].to_vec(), 9_999, "", true),
            (others.into_bytes(), 9_999, "filename emFwaG9kQGhlYXJ0LmdvbGQ=", true),
        ] {
            let wish = NewUpload { length, is_deferred: false, metadata: metadata.to_owned(), key: None };
            let mut upload = Upload::new(UploadId::random().unwrap(), None, wish, 1_000_000);
            store.create(&mut upload).unwrap();
            store.body(&upload).unwrap().append(&body).unwrap();
            assert_eq!(
                must_be_deleted(&store, &upload, &person).unwrap(),
                expected,
                "{}",
                String::from_utf8_lossy(&body)
            );
            // An upload without the file of its body must be deleted.
            fs::remove_file(data.path().join("uploads").join(upload.id.as_str()).join("body")).unwrap();
            assert!(must_be_deleted(&store, &upload, &person).unwrap());
        }
    }

    #[test]
    fn what_nobody_looks_after_is_told() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(unmanaged_copy(data.path()).unwrap(), None);
        fs::create_dir_all(data.path().join("shard-00")).unwrap();
        fs::write(data.path().join("shard-00/shard.db.healed"), "").unwrap();
        assert_eq!(unmanaged_copy(data.path()).unwrap().as_deref(), Some("shard-00/shard.db.healed"));
        fs::create_dir(data.path().join("before-reshard")).unwrap();
        assert_eq!(unmanaged_copy(data.path()).unwrap().as_deref(), Some("before-reshard"));
    }
}
