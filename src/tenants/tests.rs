//! The file, the roster and the desk together: access, and the effect of changes to the file.

use std::fs;
use std::path::Path;

use super::*;
use crate::http::Credential;

const START_US: i64 = 1_700_000_000_000_000;
const MINUTE_US: i64 = 60_000_000;
const WRITE: Need = Need::Scope(Scope::Write);
const READ: Need = Need::Scope(Scope::Read);

fn at(us: i64) -> Now {
    Now { unix_us: START_US + us, monotonic_us: us.unsigned_abs() }
}

fn wish(tenant: Option<&str>, scopes: &str) -> KeyWish {
    KeyWish {
        tenant_id: tenant.map(str::to_owned),
        scopes: scopes.parse().unwrap(),
        label: String::new(),
        expires_us: None,
    }
}

fn limits(requests_per_s: u64, bytes_per_s: u64) -> Limits {
    Limits { requests_per_s: Some(requests_per_s), bytes_per_s: Some(bytes_per_s), burst_s: 1 }
}

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    keeper: Keeper,
    desk: Desk,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Keeper::open(dir.path(), 1, START_US).unwrap();
    assert!(!Store::path_in(dir.path()).exists(), "looking makes nothing");
    let desk = Desk::new(keeper.registry());
    let store = Store::create(dir.path()).unwrap();
    store.add_tenant("a", &Limits::default(), START_US).unwrap();
    store.add_tenant("b", &limits(10, 1_000), START_US).unwrap();
    Fixture { dir, store, keeper, desk }
}

impl Fixture {
    fn key(&mut self, tenant: Option<&str>, scopes: &str) -> NewKey {
        let key = self.store.create_key(&wish(tenant, scopes), START_US).unwrap();
        self.keeper.check(START_US);
        key
    }

    fn ask(&mut self, key: &str, need: Need, now: Now) -> Result<Principal, Denied> {
        self.desk.authorize(Credential::Key(key), need, now)
    }
}

#[test]
fn without_keys_everybody_may_do_everything_and_with_one_nobody_else() {
    let mut f = fixture();
    assert!(f.keeper.registry().is_open());
    assert_eq!(f.desk.authorize(Credential::Absent, WRITE, at(0)), Ok(Principal::ANYONE));
    assert_eq!(f.ask("nonsense", Need::AllTenants(Scope::Admin), at(0)), Ok(Principal::ANYONE));
    let key = f.key(None, "write");
    assert!(!f.keeper.registry().is_open() && f.keeper.registry().has_usable_key(START_US));
    assert_eq!(f.desk.authorize(Credential::Absent, WRITE, at(0)), Err(Denied::NoKey));
    assert_eq!(f.desk.authorize(Credential::Unusable, WRITE, at(0)), Err(Denied::UnusableKey));
    assert_eq!(f.desk.authorize(Credential::Absent, Need::Nothing, at(0)), Ok(Principal::ANYONE));
    assert_eq!(f.ask(&key.text, WRITE, at(0)).unwrap().key, Some(key.id));
    let other = NewKey::make().unwrap().text;
    let mixed = format!("{}{}", &key.text[..20], &other[20..]);
    for wrong in [&other, &mixed, "fh_", "x"] {
        assert_eq!(f.ask(wrong, WRITE, at(0)), Err(Denied::UnknownKey), "{wrong}");
    }
}

#[test]
fn scopes_and_tenants_are_kept_apart() {
    let mut f = fixture();
    let write_a = f.key(Some("a"), "write").text;
    let read_a = f.key(Some("a"), "read").text;
    let admin_a = f.key(Some("a"), "admin").text;
    let read_all = f.key(None, "read").text;
    assert_eq!(f.ask(&write_a, READ, at(0)), Err(Denied::Scope(Scope::Read)));
    assert_eq!(f.ask(&read_a, WRITE, at(0)), Err(Denied::Scope(Scope::Write)));
    assert_eq!(f.ask(&read_a, Need::AllTenants(Scope::Read), at(0)), Err(Denied::AllTenants));
    assert!(f.ask(&read_all, Need::AllTenants(Scope::Read), at(0)).is_ok());
    let principal = f.ask(&read_a, READ, at(0)).unwrap();
    assert_eq!(f.desk.authorize_tenant(&principal, "a", Scope::Read), Ok(()));
    assert_eq!(f.desk.authorize_tenant(&principal, "b", Scope::Read), Err(Denied::Tenant));
    assert_eq!(f.desk.authorize_tenant(&principal, "", Scope::Read), Err(Denied::Tenant));
    assert_eq!(f.desk.authorize_tenant(&principal, "a", Scope::Write), Err(Denied::Scope(Scope::Write)));
    let principal = f.ask(&admin_a, WRITE, at(0)).unwrap();
    assert_eq!(f.desk.authorize_tenant(&principal, "a", Scope::Read), Ok(()));
    let principal = f.ask(&read_all, READ, at(0)).unwrap();
    assert_eq!(f.desk.authorize_tenant(&principal, "never heard of", Scope::Read), Ok(()));
}

#[test]
fn keys_end_when_they_are_told_to_and_a_rotation_overlaps() {
    let mut f = fixture();
    let expiring = KeyWish { expires_us: Some(START_US + MINUTE_US), ..wish(None, "write") };
    let expiring = f.store.create_key(&expiring, START_US).unwrap();
    let old = f.key(None, "write");
    let new = f.key(None, "write");
    let ends_us = START_US + 2 * MINUTE_US;
    assert_eq!(f.store.revoke(&old.id.to_string(), ends_us, START_US).unwrap(), ends_us);
    f.keeper.check(START_US);
    let keys = f.store.keys().unwrap();
    let state = |key: &NewKey, us| {
        keys.iter().find(|row| row.key_id == key.id.to_string()).unwrap().state(START_US + us)
    };
    for (us, expiring_may, old_may) in [
        (0, Ok(()), Ok(())),
        (MINUTE_US - 1, Ok(()), Ok(())),
        (MINUTE_US, Err(Denied::Expired), Ok(())),
        (2 * MINUTE_US, Err(Denied::Expired), Err(Denied::Revoked)),
    ] {
        assert_eq!(f.ask(&expiring.text, WRITE, at(us)).map(drop), expiring_may, "{us}");
        assert_eq!(f.ask(&old.text, WRITE, at(us)).map(drop), old_may, "{us}");
        assert!(f.ask(&new.text, WRITE, at(us)).is_ok());
    }
    assert_eq!((state(&expiring, 0), state(&expiring, MINUTE_US)), ("active", "expired"));
    assert_eq!((state(&old, 0), state(&old, 2 * MINUTE_US)), ("revoking", "revoked"));
    // An earlier expiry can be set. A key that has already expired does not change.
    let sooner = f.store.revoke(&old.id.to_string(), START_US, START_US).unwrap();
    assert_eq!(f.store.revoke(&old.id.to_string(), ends_us, START_US + 1).unwrap(), sooner);
    assert!(matches!(f.store.revoke("0123456789abcdef", 0, 0), Err(TenantsError::NoKey(_))));
}

#[test]
fn once_there_were_keys_an_empty_or_missing_file_lets_nobody_in() {
    let mut f = fixture();
    let key = f.key(None, "write");
    f.store.revoke(&key.id.to_string(), START_US, START_US).unwrap();
    f.keeper.check(START_US);
    assert_eq!(f.ask(&key.text, WRITE, at(0)), Err(Denied::Revoked));
    assert!(!f.keeper.registry().has_usable_key(START_US));
    let path = Store::path_in(f.dir.path());
    fs::remove_file(&path).unwrap();
    f.keeper.check(START_US);
    assert_eq!(f.desk.authorize(Credential::Absent, WRITE, at(0)), Err(Denied::NoKey));
    let again = Store::create(f.dir.path()).unwrap();
    f.keeper.check(START_US);
    assert_eq!(f.desk.authorize(Credential::Absent, WRITE, at(0)), Err(Denied::NoKey));
    let new = again.create_key(&wish(None, "write"), START_US).unwrap();
    f.keeper.check(START_US);
    assert!(f.ask(&new.text, WRITE, at(0)).is_ok());
    assert_eq!(f.ask(&key.text, WRITE, at(0)), Err(Denied::UnknownKey));
    drop(again);
    fs::write(&path, b"not a database at all, whatever else it may be").unwrap();
    f.keeper.check(START_US);
    assert!(f.ask(&new.text, WRITE, at(0)).is_ok(), "what was known goes on counting");
    assert!(Keeper::open(f.dir.path(), 1, START_US).is_err(), "no start without the keys");
}

#[test]
fn uses_are_written_back_once_a_minute() {
    let mut f = fixture();
    let key = f.key(None, "write");
    let last = |f: &Fixture| f.store.keys().unwrap()[0].last_used_us;
    f.ask(&key.text, WRITE, at(5_000_000)).unwrap();
    f.ask(&key.text, WRITE, at(5_900_000)).unwrap();
    f.keeper.check(START_US + MINUTE_US - 1);
    assert_eq!(last(&f), None);
    f.keeper.check(START_US + MINUTE_US);
    assert_eq!(last(&f), Some(START_US + 5_000_000));
    f.ask(&key.text, WRITE, at(70_000_000)).unwrap();
    // A request that is refused for lack of a scope is a use too, because its secret was right.
    assert!(f.ask(&key.text, READ, at(80_000_000)).is_err());
    f.keeper.write_back();
    assert_eq!(last(&f), Some(START_US + 80_000_000));
}

#[test]
fn a_tenant_spends_its_own_budget_and_a_change_of_it_counts_at_once() {
    let mut f = fixture();
    let (a, b) = (f.key(Some("a"), "write").text, f.key(Some("b"), "write").text);
    let (a, b) = (f.ask(&a, WRITE, at(0)).unwrap(), f.ask(&b, WRITE, at(0)).unwrap());
    for _ in 0..10 {
        assert_eq!(f.desk.charge(&b, 1, 30, at(0)), Ok(()));
    }
    let Err(Denied::Limited(limited)) = f.desk.charge(&b, 1, 10, at(0)) else { panic!("it is used up") };
    assert_eq!((limited.quota, limited.capacity, limited.window_s), (Quota::Requests, 10, 1));
    assert_eq!((limited.available, limited.wait_s()), (0, 1));
    let payer = f.desk.payer(&b, Some("a")).unwrap();
    let [requests, bytes] = f.desk.standing(payer, at(0)).map(Option::unwrap);
    assert_eq!((requests.quota, requests.capacity, requests.window_s), (Quota::Requests, 10, 1));
    assert_eq!((requests.available, requests.full_s), (0, 1));
    // 300 bytes are used. Bytes that this lane has leased count as available.
    assert_eq!((bytes.quota, bytes.available, bytes.full_s), (Quota::Bytes, 700, 1));
    let [requests, bytes] = f.desk.standing(payer, at(2_000_000)).map(Option::unwrap);
    assert_eq!((requests.available, requests.full_s, bytes.available, bytes.full_s), (10, 0, 1_000, 0));
    // The budget allows one more request by now. This one has too many bytes, so the allowance remains.
    assert_eq!(f.desk.charge(&b, 1, 950, at(100_000)).map_err(quota), Err(Some(Quota::Bytes)));
    assert_eq!(f.desk.charge(&b, 1, 10, at(100_000)), Ok(()));
    assert_eq!(f.desk.charge(&b, 1, 10, at(100_000)).map_err(quota), Err(Some(Quota::Requests)));
    for _ in 0..1_000 {
        assert_eq!(f.desk.charge(&a, 1, 1 << 20, at(100_000)), Ok(()), "another has no limit");
    }
    f.store.set_limits("b", &Limits::default()).unwrap();
    f.keeper.check(START_US);
    assert_eq!(f.desk.charge(&b, 1, 10, at(100_000)), Ok(()));
    f.store.set_limits("b", &limits(10, 1_000)).unwrap();
    f.keeper.check(START_US);
    assert!(f.desk.charge(&b, 1, 10, at(100_000)).is_err(), "what was spent stays spent");
}

fn quota(denied: Denied) -> Option<Quota> {
    match denied {
        Denied::Limited(limited) => Some(limited.quota),
        _ => None,
    }
}

#[test]
fn a_tenant_in_the_path_is_charged_once() {
    let mut f = fixture();
    let bound = f.key(Some("b"), "write").text;
    let bound = f.ask(&bound, WRITE, at(0)).unwrap();
    for _ in 0..20 {
        assert_eq!(f.desk.charge_tenant(&bound, "b", 1, at(0)), Ok(()), "its key was charged");
    }
    let all = Principal::ANYONE;
    let granted = (0..20).filter(|_| f.desk.charge_tenant(&all, "b", 1, at(0)).is_ok()).count();
    assert_eq!(granted, 10);
    assert_eq!(f.desk.charge_tenant(&all, "unlisted", 1, at(0)), Ok(()));
    let payers = [(&bound, None), (&bound, Some("a")), (&all, Some("b"))]
        .map(|(who, tenant)| f.desk.payer(who, tenant));
    assert!(payers[0].is_some() && payers.iter().all(|payer| *payer == payers[0]));
    assert_eq!((f.desk.payer(&all, None), f.desk.payer(&all, Some("unlisted"))), (None, None));
    let unlimited = f.desk.payer(&all, Some("a")).unwrap();
    assert_eq!(f.desk.standing(unlimited, at(0)), [None; 2]);
}

#[test]
fn names_and_files_that_are_not_ours_are_refused() {
    let f = fixture();
    assert!(matches!(f.store.add_tenant("a", &Limits::default(), 0), Err(TenantsError::TenantExists(_))));
    for name in ["", "a\nb", &"x".repeat(201)] {
        assert!(matches!(f.store.add_tenant(name, &Limits::default(), 0), Err(TenantsError::Name)));
    }
    assert!(matches!(f.store.create_key(&wish(Some("c"), "read"), 0), Err(TenantsError::NoTenant(_))));
    assert!(matches!(f.store.set_limits("c", &Limits::default()), Err(TenantsError::NoTenant(_))));
    let copy = tempfile::tempdir().unwrap();
    f.store.copy_to(copy.path()).unwrap();
    let copied = Store::open(copy.path()).unwrap().unwrap();
    assert_eq!(copied.tenants().unwrap(), f.store.tenants().unwrap());
    copied.connection().execute_batch("PRAGMA user_version = 5").unwrap();
    assert!(matches!(Store::open(copy.path()), Err(TenantsError::TooNew { found: 5, .. })));
    copied.connection().execute_batch("PRAGMA application_id = 7").unwrap();
    assert!(matches!(Store::open(copy.path()), Err(TenantsError::Foreign(_))));
}

#[test]
fn an_edited_row_lets_nobody_in_and_is_shown_as_such() {
    let mut f = fixture();
    let (key, good) = (f.key(None, "write"), f.key(None, "write"));
    f.store
        .connection()
        .execute("UPDATE api_key SET scopes = 'everything' WHERE key_id = ?1", [key.id.to_string()])
        .unwrap();
    f.keeper.check(START_US);
    assert_eq!(f.ask(&key.text, WRITE, at(0)), Err(Denied::UnknownKey));
    assert!(f.ask(&good.text, WRITE, at(0)).is_ok());
    let states: Vec<_> = f.store.keys().unwrap().iter().map(|row| row.state(START_US)).collect();
    assert!(states.contains(&"unreadable") && states.contains(&"active"), "{states:?}");
}

#[test]
fn keys_made_before_manage_was_a_scope_keep_what_they_could() {
    // The program wrote this fixture with schema version 2. Its keys are used nowhere else.
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tenants-v2.db");
    let dir = tempfile::tempdir().unwrap();
    fs::copy(fixture, Store::path_in(dir.path())).unwrap();
    let keeper = Keeper::open(dir.path(), 1, START_US).unwrap();
    let mut desk = Desk::new(keeper.registry());
    for (key, scopes) in [
        ("fh_af09534f26714fcf_DMt47v2wdBoZg-BGtYzdihP5ZqMSdE7YWcmaZ70MDno", "write,manage"),
        ("fh_b8cdaae1450970bd_8y0T-ZvPKQgZjDna2P9LPwF0q0vkLayzN4kFbQoXsbA", "write,manage"),
        ("fh_8c7e985bbc7c6c18_fslnGJAHSQ-k3oauqpW_qpquMu7029NQN87H6uvORaE", "write,manage,read"),
        ("fh_2f2a1f711fecceaf_ml_MvNZinmqg54dn7LksyPEX-ybJTFaNNfryoFoFGgw", "read"),
        ("fh_5bfd281a924b5bcf_sp_DoiYxORmA8uyHpBchGIztgMmhOhmM0QCpp94cylw", "admin"),
    ] {
        let scopes: Scopes = scopes.parse().unwrap();
        for scope in Scope::ALL {
            let asked = desk.authorize(Credential::Key(key), Need::Scope(scope), at(0));
            assert_eq!(asked.is_ok(), scopes.allows(scope), "{scopes} {scope:?}");
        }
        let either = desk.authorize(Credential::Key(key), Need::Either(Scope::Manage, Scope::Read), at(0));
        assert!(either.is_ok(), "{scopes}");
    }
    let store = Store::open(dir.path()).unwrap().unwrap();
    let listed: Vec<_> = store.keys().unwrap().iter().map(|row| row.scopes.unwrap()).collect();
    assert!(listed.len() == 5 && !listed.iter().any(|scopes| scopes.is_public()), "{listed:?}");
    // A new key has exactly the scopes it was created with, even after a restart.
    let key = store.create_key(&wish(None, "write"), START_US).unwrap();
    drop((store, keeper));
    let keeper = Keeper::open(dir.path(), 1, START_US).unwrap();
    let mut desk = Desk::new(keeper.registry());
    let mut ask = |need| desk.authorize(Credential::Key(&key.text), need, at(0));
    assert!(ask(WRITE).is_ok());
    assert_eq!(ask(Need::Scope(Scope::Manage)), Err(Denied::Scope(Scope::Manage)));
    assert_eq!(
        ask(Need::Either(Scope::Manage, Scope::Read)),
        Err(Denied::EitherScope(Scope::Manage, Scope::Read))
    );
}

#[test]
fn a_file_without_ages_gets_their_table_and_keeps_its_tenants() {
    let f = fixture();
    f.store.add_tenant("old", &Limits::default(), 0).unwrap();
    // The file of schema version 3.
    f.store.connection().execute_batch("DROP TABLE retention; PRAGMA user_version = 3").unwrap();
    let store = Store::open(f.dir.path()).unwrap().unwrap();
    assert_eq!(store.retention("old").unwrap(), Retention::default());
    let day = std::time::Duration::from_secs(86_400);
    let retention = Retention { events: Some(day * 30), stock: Some(day), ..Retention::default() };
    assert!(matches!(store.set_retention("nobody", &retention), Err(TenantsError::NoTenant(_))));
    store.set_retention("old", &retention).unwrap();
    assert_eq!(store.retention("old").unwrap(), retention);
    // An age that an edited row makes too short is the shortest one.
    store.connection().execute_batch("UPDATE retention SET stock_us = 1").unwrap();
    let keeps = store.all_keeps().unwrap();
    let keeps: Vec<_> = keeps.iter().map(|keep| (&*keep.tenant_id, keep.setting, keep.keep)).collect();
    assert_eq!(keeps, [("old", "events", day * 30), ("old", "stock", day / 1_440)]);
    // Changes that fail together change nothing.
    let failed = store.together(|store| {
        store.add_tenant("new", &Limits::default(), 0)?;
        store.set_retention("nobody", &retention)
    });
    assert!(failed.is_err() && store.tenant("new").is_err());
}
