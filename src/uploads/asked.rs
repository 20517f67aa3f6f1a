//! Parses the request headers of a resumable upload.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;

use super::answer::{PIECE, UploadRefused, VERSION};
use super::checksum::Checksum;
use super::record::NewUpload;
use crate::api::request::idempotency_key;
use crate::api::write::WriteRefused;

/// The name of the metadata entry that may contain the idempotency key, for clients that cannot send headers.
const KEY_METADATA: &str = "idempotency_key";

/// Returns the value of one header. A repeated header counts as unreadable.
fn text<'h>(
    headers: &'h HeaderMap,
    name: &str,
    wrong: &'static str,
) -> Result<Option<&'h str>, UploadRefused> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(|value| value.to_str()), values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(text)), None) => Ok(Some(text.trim())),
        _ => Err(UploadRefused::Header(wrong)),
    }
}

fn number(headers: &HeaderMap, name: &str, wrong: &'static str) -> Result<Option<u64>, UploadRefused> {
    let Some(text) = text(headers, name, wrong)? else { return Ok(None) };
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten().map(Some).ok_or(UploadRefused::Header(wrong))
}

/// Checks that the client uses this version of tus. Every request must declare the version, except OPTIONS, which tus
/// exempts, and GET, which tus does not define.
pub(super) fn version(headers: &HeaderMap) -> Result<(), UploadRefused> {
    let mut versions = headers.get_all("tus-resumable").iter();
    match (versions.next().map(|version| version.as_bytes()), versions.next()) {
        (Some(version), None) if version == VERSION.as_bytes() => Ok(()),
        _ => Err(UploadRefused::Version),
    }
}

/// Parses the headers of a POST.
pub(super) fn wish(headers: &HeaderMap, length_max: u64) -> Result<NewUpload, UploadRefused> {
    const METADATA: &str = "Upload-Metadata must be pairs of a key and a base64 value, separated by commas, with no key \
         repeated";
    if headers.contains_key("upload-concat") {
        return Err(UploadRefused::Header("uploads cannot be concatenated"));
    }
    let length = length(headers, length_max)?;
    let is_deferred = is_deferred(headers)?;
    if length.is_some() == is_deferred {
        return Err(UploadRefused::Header(LENGTH));
    }
    let length = length.unwrap_or(length_max);
    let metadata = text(headers, "upload-metadata", METADATA)?.unwrap_or_default();
    let named = metadata_key(metadata).ok_or(UploadRefused::Header(METADATA))?;
    let key = match headers.contains_key("idempotency-key") {
        true => Some(idempotency_key(headers)?),
        false => named.map(|key| as_key(&key)).transpose()?,
    };
    Ok(NewUpload { length, is_deferred, metadata: metadata.to_owned(), key })
}

const LENGTH: &str = "Upload-Length must be the number of bytes of the upload; or send Upload-Defer-Length: \
                      1 and the length later";

/// Returns the upload's length, if the client declares it.
pub(super) fn length(headers: &HeaderMap, length_max: u64) -> Result<Option<u64>, UploadRefused> {
    match number(headers, "upload-length", LENGTH)? {
        Some(length) if length > length_max => Err(UploadRefused::TooLong { bytes_max: length_max }),
        length => Ok(length),
    }
}

fn is_deferred(headers: &HeaderMap) -> Result<bool, UploadRefused> {
    match text(headers, "upload-defer-length", LENGTH)? {
        None => Ok(false),
        Some("1") => Ok(true),
        Some(_) => Err(UploadRefused::Header(LENGTH)),
    }
}

/// Validates a key from the metadata by the rules of the header.
fn as_key(key: &[u8]) -> Result<String, UploadRefused> {
    let mut headers = HeaderMap::new();
    let value = hyper::header::HeaderValue::from_bytes(key);
    headers.insert("idempotency-key", value.map_err(|_| WriteRefused::KeyMalformed)?);
    Ok(idempotency_key(&headers)?)
}

/// Validates `key base64,key base64,key` and finds the idempotency key in it. Returns `None` if the metadata is
/// malformed.
fn metadata_key(metadata: &str) -> Option<Option<Vec<u8>>> {
    let (mut seen, mut found) = (Vec::new(), None);
    if metadata.is_empty() {
        return Some(None);
    }
    for pair in metadata.split(',') {
        let (key, value) = pair.trim().split_once(' ').unwrap_or((pair.trim(), ""));
        let value = STANDARD.decode(value.trim()).ok()?;
        if key.is_empty() || seen.contains(&key) {
            return None;
        }
        seen.push(key);
        if key == KEY_METADATA {
            found = Some(value);
        }
    }
    Some(found)
}

/// Returns the offset of a PATCH.
pub(super) fn offset(headers: &HeaderMap) -> Result<u64, UploadRefused> {
    const OFFSET: &str = "Upload-Offset must be the number of bytes received";
    number(headers, "upload-offset", OFFSET)?.ok_or(UploadRefused::Header(OFFSET))
}

/// Checks that the body has the media type of a PATCH and no content coding.
pub(super) fn is_piece(headers: &HeaderMap) -> Result<(), UploadRefused> {
    // Offsets count the bytes of the upload. If a piece were compressed separately, its offsets would differ.
    let codings = headers.get_all("content-encoding").iter();
    if codings.into_iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(UploadRefused::ContentCoding);
    }
    let content_type = headers.get("content-type").and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(PIECE).then_some(()).ok_or(UploadRefused::ContentType)
}

/// Returns the body's checksum, if the client sends it.
pub(super) fn checksum(headers: &HeaderMap) -> Result<Option<Checksum>, UploadRefused> {
    const CHECKSUM: &str = "Upload-Checksum must not be repeated";
    let text = text(headers, "upload-checksum", CHECKSUM)?;
    Ok(text.map(Checksum::parse).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn wished(pairs: &[(&'static str, &str)]) -> Result<NewUpload, UploadRefused> {
        wish(&headers(pairs), 1_000)
    }

    #[test]
    fn a_wish_has_a_length_and_may_have_metadata_and_a_key() {
        let length = ("upload-length", "1000");
        let plain = wished(&[length]).unwrap();
        assert_eq!(
            plain,
            NewUpload { length: 1_000, is_deferred: false, metadata: String::new(), key: None }
        );
        let deferred = wished(&[("upload-defer-length", "1")]).unwrap();
        assert_eq!((deferred.length, deferred.is_deferred), (1_000, true));
        let metadata = "filename d29ybGQ=,is_confidential,idempotency_key YS0x";
        let named = wished(&[length, ("upload-metadata", metadata)]).unwrap();
        assert_eq!((named.metadata.as_str(), named.key.as_deref()), (metadata, Some("a-1")));
        let both = wished(&[length, ("upload-metadata", metadata), ("idempotency-key", "\"b\"")]).unwrap();
        assert_eq!(both.key.as_deref(), Some("b"));
    }

    #[test]
    fn a_wish_that_cannot_be_met_is_refused() {
        assert!(matches!(wished(&[("upload-length", "1001")]), Err(UploadRefused::TooLong { .. })));
        for length in ["", "-1", "+1", "1.0", "0x1", "99999999999999999999"] {
            let refused = wished(&[("upload-length", length)]);
            assert!(matches!(refused, Err(UploadRefused::Header(_))), "{length:?}");
        }
        let length = ("upload-length", "1");
        for more in [
            ("upload-length", "1"),
            ("upload-defer-length", "1"),
            ("upload-defer-length", "0"),
            ("upload-concat", "partial"),
            ("upload-metadata", "a YQ==,a YQ=="),
            ("upload-metadata", "a YQ==,,b"),
            ("upload-metadata", "a !"),
            ("upload-metadata", "a YQ== YQ=="),
        ] {
            assert!(matches!(wished(&[length, more]), Err(UploadRefused::Header(_))), "{more:?}");
        }
        // A key that consists of the byte 0x07, and an empty key.
        for more in [("upload-metadata", "idempotency_key Bw=="), ("upload-metadata", "idempotency_key")] {
            let refused = wished(&[length, more]);
            let is_it = matches!(refused, Err(UploadRefused::Ingest(WriteRefused::KeyMalformed)));
            assert!(is_it, "{more:?}");
        }
    }

    #[test]
    fn a_piece_says_what_it_is_and_where_it_goes() {
        assert_eq!(offset(&headers(&[("upload-offset", "70")])).unwrap(), 70);
        assert!(offset(&headers(&[])).is_err() && offset(&headers(&[("upload-offset", "x")])).is_err());
        assert!(is_piece(&headers(&[("content-type", "Application/Offset+octet-stream")])).is_ok());
        assert!(is_piece(&headers(&[])).is_err());
        assert!(is_piece(&headers(&[("content-type", "application/octet-stream")])).is_err());
        let packed = [("content-type", PIECE), ("content-encoding", "gzip")];
        assert!(matches!(is_piece(&headers(&packed)), Err(UploadRefused::ContentCoding)));
        assert!(version(&headers(&[("tus-resumable", "1.0.0")])).is_ok());
        assert!(version(&headers(&[("tus-resumable", "0.2.2")])).is_err() && version(&headers(&[])).is_err());
        assert_eq!(checksum(&headers(&[])).unwrap(), None);
        assert!(checksum(&headers(&[("upload-checksum", "crc32 AAAA")])).is_err());
    }
}
