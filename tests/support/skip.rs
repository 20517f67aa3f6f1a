//! Tests that cannot run here report it. Where every test must run, this is a failure.

/// Reports why this test is skipped. If `TEST_NOTHING_MAY_SKIP` is set, this is a failure.
#[track_caller]
pub fn skip(reason: &str) {
    eprintln!("SKIPPED: {reason}");
    let may_not = std::env::var_os("TEST_NOTHING_MAY_SKIP").is_some();
    assert!(!may_not, "nothing may be skipped here, and this was: {reason}");
}
