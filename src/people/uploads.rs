//! Searches uploads for people, and the data folder for copies of rows that prevent an erasure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::many::PeopleMatcher;
use super::matcher::PersonMatcher;
use super::record::Subject;
use crate::orders::OrderDecoder;
use crate::shard::ErasureMode;
use crate::unpack::{Encoding, Limits, Next, Unpacker};
use crate::uploads::{Body, State, Upload, UploadStore};

/// The number of body bytes searched at once.
const SLICE_BYTES: usize = 64 * 1024;

/// The bytes of found lines after which a step ends.
const FOUND_BYTES_MAX: usize = 256 * 1024;

/// The people of one request, whose lines an upload may contain.
#[derive(Debug)]
pub(super) struct ErasedPeople {
    pub(super) tenant_id: String,
    pub(super) mode: ErasureMode,
    pub(super) customer_ids: Vec<String>,
    /// Finds the people by their positions in `customer_ids`.
    pub(super) matcher: PeopleMatcher,
    /// The ids under which the people have orders, each with its person. An erasure also deletes orders under an
    /// earlier pseudonym.
    pub(super) owners: Vec<(String, usize)>,
    by_id: HashMap<String, usize>,
}

impl ErasedPeople {
    /// Creates the list from each customer's id and matcher.
    pub(super) fn new(
        tenant_id: String,
        mode: ErasureMode,
        people: Vec<(String, PersonMatcher)>,
    ) -> ErasedPeople {
        let (customer_ids, matchers): (Vec<String>, Vec<PersonMatcher>) = people.into_iter().unzip();
        let owners: Vec<_> = customer_ids.iter().cloned().zip(0..).collect();
        let by_id = owners.iter().cloned().collect();
        let matcher = PeopleMatcher::new(matchers);
        ErasedPeople { tenant_id, mode, customer_ids, matcher, owners, by_id }
    }

    /// Creates the list from the customers of a request, who all have the same tenant. Returns `None` without one, and
    /// if one is not a customer.
    pub(super) fn of<'s>(
        mode: ErasureMode,
        subjects: impl IntoIterator<Item = &'s Subject>,
    ) -> Option<ErasedPeople> {
        let (mut tenant, mut people, mut pseudonyms) = (None, Vec::new(), Vec::new());
        for subject in subjects {
            let Subject::Customer { tenant_id, customer_id, token, .. } = subject else { return None };
            tenant = Some(tenant_id);
            pseudonyms.push((token.clone(), people.len()));
            people.push((customer_id.clone(), subject.matcher(mode)));
        }
        let mut people = ErasedPeople::new(tenant?.clone(), mode, people);
        if mode == ErasureMode::Erase {
            people.owners.extend(pseudonyms);
        }
        Some(people)
    }

    /// Returns `true` if the upload may contain orders of the tenant.
    pub(super) fn may_be_in(&self, upload: &Upload) -> bool {
        upload.tenant.as_ref().is_none_or(|tenant| *tenant == self.tenant_id)
    }

    /// Returns everyone, for data that may be anyone's.
    fn everyone(&self) -> Vec<usize> {
        (0..self.customer_ids.len()).collect()
    }

    /// Returns the people to whom a line of an upload refers, or may refer if it is not an order.
    fn who_in(&self, decoder: &mut OrderDecoder, line: &[u8]) -> Vec<usize> {
        let mut who = self.matcher.who(line);
        match decoder.order(line) {
            Ok(order) if order.tenant_id == self.tenant_id => {
                who.extend(self.by_id.get(order.customer_id));
            }
            Ok(_) => {}
            // The last line may be incomplete.
            Err(_) => who.extend(self.matcher.who_may(line)),
        }
        who.sort_unstable();
        who.dedup();
        who
    }
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
        if !is_shard || !entry.path().is_dir() {
            continue;
        }
        for file in fs::read_dir(entry.path())? {
            let name = file?.file_name();
            let is_copy = name.to_str().is_some_and(|name| COPIES.iter().any(|copy| name.starts_with(copy)));
            if is_copy {
                let (shard, name) = (entry.file_name(), name.to_string_lossy());
                return Ok(Some(format!("{}/{name}", shard.to_string_lossy())));
            }
        }
    }
    Ok(None)
}

/// The names with which copies of a shard begin that a repair left next to it.
const COPIES: [&str; 2] = ["shard.db.healed", "shard.db.damaged-"];

/// What the search of an upload has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The metadata, the key or the reason for the failure refers to the people.
    Info(Vec<usize>),
    /// A line that refers, or may refer, to the people: its number and its bytes.
    Line(Vec<usize>, u64, Vec<u8>),
    /// The rest of the body cannot be searched, for this reason. It may contain anyone.
    Unsearchable(Vec<usize>, &'static str),
}

impl Finding {
    /// Returns the people, by their positions.
    pub(super) fn who(&self) -> &[usize] {
        match self {
            Finding::Info(who) | Finding::Line(who, ..) | Finding::Unsearchable(who, _) => who,
        }
    }
}

/// A search of one upload, at 400 MB of lines per second, in steps of a few milliseconds. An upload with a finding is
/// deleted when these people are erased.
pub(super) struct UploadSearch {
    upload: Upload,
    /// The open body, once the info has been searched. `None` if there is no body to search.
    body: Option<Body>,
    unpacker: Unpacker,
    decoder: OrderDecoder,
    at: u64,
    is_begun: bool,
    /// Set while the unpacker still has lines of the last slice.
    has_lines: bool,
    /// Set once the unpacker has the whole body.
    is_ended: bool,
}

impl UploadSearch {
    pub(super) fn new(upload: Upload) -> UploadSearch {
        let (unpacker, decoder) = (Unpacker::new(Limits::default()), OrderDecoder::new());
        UploadSearch {
            upload,
            body: None,
            unpacker,
            decoder,
            at: 0,
            is_begun: false,
            has_lines: false,
            is_ended: false,
        }
    }

    pub(super) fn upload(&self) -> &Upload {
        &self.upload
    }

    /// Searches the info, or the next part of the body. Returns `true` at the end.
    ///
    /// # Errors
    /// Returns file system errors.
    pub(super) fn step(
        &mut self,
        store: &UploadStore,
        people: &ErasedPeople,
        found: &mut Vec<Finding>,
    ) -> io::Result<bool> {
        if !self.is_begun {
            self.is_begun = true;
            return self.begin(store, people, found);
        }
        let Some(body) = &self.body else { return Ok(true) };
        if self.has_lines {
            // The lines of the last slice have not all been read.
        } else if self.at >= body.length() {
            self.unpacker.finish();
            self.is_ended = true;
        } else {
            let bytes = body.read(self.at, SLICE_BYTES)?;
            self.at += bytes.len() as u64;
            self.unpacker.feed(bytes);
        }
        let mut found_bytes = 0;
        self.has_lines = false;
        let unsearchable = loop {
            // A small part of a packed body may contain any number of lines.
            if found_bytes >= FOUND_BYTES_MAX {
                self.has_lines = true;
                return Ok(false);
            }
            match self.unpacker.next() {
                Ok(Next::Line(line)) if line.is_too_long => break Some("a line is too long"),
                Ok(Next::Line(line)) => {
                    let who = people.who_in(&mut self.decoder, line.bytes);
                    if !who.is_empty() {
                        found_bytes += line.bytes.len();
                        found.push(Finding::Line(who, line.number, line.bytes.to_vec()));
                    }
                }
                Ok(Next::Hungry | Next::End) => break None,
                Err(_) => break Some("the body is truncated or damaged"),
            }
        };
        let is_packed = self.unpacker.encoding().is_some_and(|encoding| encoding != Encoding::Plain);
        let is_partial = is_packed && body.length() < self.upload.length;
        let unsearchable = unsearchable.or(is_partial.then_some("the body is packed and incomplete"));
        if let Some(reason) = unsearchable {
            found.push(Finding::Unsearchable(people.everyone(), reason));
        }
        Ok(self.is_ended || unsearchable.is_some())
    }

    /// Searches the info, and opens the body.
    fn begin(
        &mut self,
        store: &UploadStore,
        people: &ErasedPeople,
        found: &mut Vec<Finding>,
    ) -> io::Result<bool> {
        let who = in_info(&self.upload, people);
        if !who.is_empty() {
            found.push(Finding::Info(who));
        }
        if self.upload.state != State::Receiving {
            return Ok(true);
        }
        self.body = match store.body(&self.upload) {
            // The file was removed by hand. The upload can never be resumed, and must not prevent an erasure.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                found.push(Finding::Unsearchable(people.everyone(), "the body is missing"));
                return Ok(true);
            }
            body => Some(body?),
        };
        Ok(false)
    }
}

/// Returns the people because of whom the upload must be deleted. An incomplete compressed body cannot be searched to
/// its end, so it counts for everyone.
///
/// # Errors
/// Returns file system errors.
pub(super) fn who_is_in(
    store: &UploadStore,
    upload: Upload,
    people: &ErasedPeople,
) -> io::Result<Vec<usize>> {
    let mut search = UploadSearch::new(upload);
    let (mut who, mut found) = (Vec::new(), Vec::new());
    loop {
        let is_done = search.step(store, people, &mut found)?;
        for finding in found.drain(..) {
            who.extend_from_slice(finding.who());
        }
        who.sort_unstable();
        who.dedup();
        if is_done || who.len() == people.customer_ids.len() {
            return Ok(who);
        }
    }
}

/// Returns the people to whom the metadata, the key or the reason for a failure refers. Values of tus metadata are
/// base64-encoded.
fn in_info(upload: &Upload, people: &ErasedPeople) -> Vec<usize> {
    // The reason for the failure may contain the name of a part of an archive.
    let reason = match &upload.state {
        State::Failed { detail, .. } => Some(detail.as_str()),
        _ => None,
    };
    let mut texts: Vec<Cow<'_, [u8]>> =
        [upload.key.as_deref(), reason].into_iter().flatten().map(|text| text.as_bytes().into()).collect();
    for pair in upload.metadata.split(',') {
        let (name, value) = pair.trim().split_once(' ').unwrap_or((pair, ""));
        let decoded = STANDARD.decode(value.trim());
        texts.push(name.as_bytes().into());
        texts.push(decoded.map_or_else(|_| value.as_bytes().into(), Cow::from));
    }
    let mut who: Vec<usize> = texts.iter().flat_map(|text| people.matcher.who_may(text)).collect();
    who.sort_unstable();
    who.dedup();
    who
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
        let person = |id: &str, address| (id.to_owned(), PersonMatcher::new([id], [address], []));
        let alone =
            ErasedPeople::new("t".to_owned(), ErasureMode::Erase, vec![person("7", "zaphod@heart.gold")]);
        let two = ErasedPeople::new(
            "t".to_owned(),
            ErasureMode::Erase,
            vec![person("9", "ford@heart.gold"), person("7", "zaphod@heart.gold")],
        );
        let gzip = |text: &str| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(text.as_bytes()).unwrap();
            gzip.finish().unwrap()
        };
        let others = line("8").repeat(3);
        let with = format!("{others}{}", line("7"));
        let escaped = format!("{others}{}", line("\\u0037"));
        let half = format!("{others}{}", r#"{"customer_email":"zaphod@heart.gold","cust"#);
        for (body, length, metadata, expected, may_be_anyone) in [
            (others.clone().into_bytes(), 9_999, "", false, false),
            (with.clone().into_bytes(), 9_999, "", true, false),
            (escaped.into_bytes(), 9_999, "", true, false),
            (half.into_bytes(), 9_999, "", true, false),
            (gzip(&others), gzip(&others).len() as u64, "", false, false),
            (gzip(&with), gzip(&with).len() as u64, "", true, false),
            (gzip(&others)[..20].to_vec(), 9_999, "", true, true),
            (others.into_bytes(), 9_999, "filename emFwaG9kQGhlYXJ0LmdvbGQ=", true, false),
        ] {
            let wish = NewUpload { length, is_deferred: false, metadata: metadata.to_owned(), key: None };
            let mut upload = Upload::new(UploadId::random().unwrap(), None, wish, 1_000_000);
            store.create(&mut upload).unwrap();
            store.body(&upload).unwrap().append(&body).unwrap();
            let who = |people| who_is_in(&store, upload.clone(), people).unwrap();
            let text = String::from_utf8_lossy(&body);
            assert_eq!(who(&alone), if expected { vec![0] } else { vec![] }, "{text}");
            let of_two = if may_be_anyone { vec![0, 1] } else { vec![1] };
            assert_eq!(who(&two), if expected { of_two } else { vec![] }, "{text}");
            // An upload without the file of its body must be deleted.
            fs::remove_file(data.path().join("uploads").join(upload.id.as_str()).join("body")).unwrap();
            assert_eq!(who(&two).len(), 2);
        }
    }

    /// A packed slice of a body may contain any number of lines.
    #[test]
    fn a_step_returns_few_lines_and_no_line_is_missed() {
        let data = tempfile::tempdir().unwrap();
        let store = UploadStore::open(data.path(), 1 << 20).unwrap();
        let people = vec![("7".to_owned(), PersonMatcher::new(["7"], [], []))];
        let people = ErasedPeople::new("t".to_owned(), ErasureMode::Erase, people);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        // The last line has no end.
        gzip.write_all(line("7").repeat(5_000).trim_end().as_bytes()).unwrap();
        let body = gzip.finish().unwrap();
        let (length, metadata) = (body.len() as u64, String::new());
        let wish = NewUpload { length, is_deferred: false, metadata, key: None };
        let mut upload = Upload::new(UploadId::random().unwrap(), None, wish, 1_000_000);
        store.create(&mut upload).unwrap();
        store.body(&upload).unwrap().append(&body).unwrap();
        let mut search = UploadSearch::new(upload);
        let (mut numbers, mut is_done) = (Vec::new(), false);
        while !is_done {
            let mut found = Vec::new();
            is_done = search.step(&store, &people, &mut found).unwrap();
            assert!(found.len() < 2 * FOUND_BYTES_MAX / line("7").len(), "{}", found.len());
            for finding in found {
                let Finding::Line(who, number, _) = finding else { panic!("{finding:?}") };
                assert_eq!(who, [0]);
                numbers.push(number);
            }
        }
        assert_eq!(numbers, (1..=5_000).collect::<Vec<u64>>());
    }

    #[test]
    fn what_nobody_looks_after_is_told() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(unmanaged_copy(data.path()).unwrap(), None);
        fs::create_dir_all(data.path().join("shard-00")).unwrap();
        fs::write(data.path().join("shard-00/shard.db.healed"), "").unwrap();
        assert_eq!(unmanaged_copy(data.path()).unwrap().as_deref(), Some("shard-00/shard.db.healed"));
        fs::remove_file(data.path().join("shard-00/shard.db.healed")).unwrap();
        fs::write(data.path().join("shard-00/shard.db"), "").unwrap();
        assert_eq!(unmanaged_copy(data.path()).unwrap(), None);
        fs::write(data.path().join("shard-00/shard.db.damaged-0a-wal"), "").unwrap();
        assert_eq!(unmanaged_copy(data.path()).unwrap().as_deref(), Some("shard-00/shard.db.damaged-0a-wal"));
        fs::create_dir(data.path().join("before-reshard")).unwrap();
        assert_eq!(unmanaged_copy(data.path()).unwrap().as_deref(), Some("before-reshard"));
    }
}
