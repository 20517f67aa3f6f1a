//! Tests that cannot run here say so, and may not where everything has to run.

/// Says why this test is skipped. Where `TEST_NOTHING_MAY_SKIP` is set, that is a failure.
#[track_caller]
pub fn skip(reason: &str) {
    eprintln!("SKIPPED: {reason}");
    let may_not = std::env::var_os("TEST_NOTHING_MAY_SKIP").is_some();
    assert!(!may_not, "nothing may be skipped here, and this was: {reason}");
}
