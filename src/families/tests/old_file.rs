//! Tests that files of earlier versions (in `tests/fixtures/`) can be opened and have every row.

use std::fs;
use std::path::Path;

use super::{HOT, KEYED, clicks, folder, open, sound, users};
use crate::base::ids::Sequence;
use crate::clicks::CLICKS;

#[test]
fn a_file_of_schema_version_1_opens_and_keeps_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/shard-v1.db");
    fs::create_dir_all(folder(dir.path()).dir()).unwrap();
    fs::copy(fixture, folder(dir.path()).database()).unwrap();
    let mut shard = open(dir.path());
    assert_eq!(shard.positions(), [(HOT, Sequence(7)), (KEYED, Sequence(2))]);
    assert_eq!((shard.stored(&CLICKS), shard.rejected()), (8, 1));
    assert_eq!(users(shard.path()), [1, 2, 3, 4, 5, 6, 1, 2]);
    assert_eq!(sound(shard.path()), 8);
    assert_eq!(shard.apply(&[(HOT, &clicks(5..=9))], &mut |_, _, _| {}).unwrap().stored(&CLICKS), 2);
    assert_eq!(sound(shard.path()), 10);
}
