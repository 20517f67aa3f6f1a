//! Retention of prices: which stay, the verdicts and numbers of changes after it, and the row ids of those that stay long.

use std::time::Duration;

use super::{KEYED, Lane, options, reopen};
use crate::base::ids::Sequence;
use crate::base::money::Currency;
use crate::base::observed::Observed;
use crate::base::prices::PriceRules;
use crate::families::FAMILIES;
use crate::prices::{PRICE_EVENT, PRICE_ROWS, PriceEventRow, PriceRow, dropped_changes};
use crate::shard::{Outcome, Shard, ShardOptions, open_reader, verify_aggregates};

/// Old prices leave, except for those that later ones are compared with. Numbers of changes continue. An event that was
/// deleted and comes again is a new one.
#[test]
fn old_prices_leave_and_verdicts_continue() {
    let dir = tempfile::tempdir().unwrap();
    let dropping =
        ShardOptions { ledger_retention: vec![(&PRICE_ROWS, Duration::from_secs(60))], ..options() };
    let mut shard = reopen(dir.path(), &dropping);
    let mut sequence = 0;
    let rules = PriceRules { change_bp: 3_000, score_milli: 6_000, window: 6 };
    let mut send = |shard: &mut Shard, id: &str, at_us: i64, price: i64, currency: &str, received_us: i64| {
        let observed = Observed { at_us, received_us, tenant_id: "t", product_id: "p", event_id: id };
        let row = PriceRow { observed, price, currency: Currency::parse(currency).unwrap() };
        let mut bytes = Vec::new();
        PriceEventRow::new(row, rules).encode(&mut bytes);
        sequence += 1;
        let (lane, mut said) = (Lane(vec![(Sequence(sequence), PRICE_EVENT.number(), bytes)]), Vec::new());
        shard.apply(&[(KEYED, &lane)], &mut |_, _, outcome| said.push(outcome)).unwrap();
        said[0]
    };
    for n in 0..30 {
        send(&mut shard, &format!("usd {n}"), n, 100 + n % 2, "USD", 7);
        send(&mut shard, &format!("jpy {n}"), n, 1_000, "JPY", 7);
        if n % 5 == 4 {
            assert_eq!(send(&mut shard, &format!("odd {n}"), n, 900, "USD", 7), Outcome::Flagged);
        }
    }
    let now_us = crate::base::clock::unix_us();
    send(&mut shard, "young", 3, 100, "USD", now_us);
    let number = |shard: &mut Shard, sql: &str| -> i64 {
        shard.connection().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(number(&mut shard, "SELECT max(seq) FROM change"), 6);
    for turn in 0..100 {
        shard.retain_now();
        shard.upkeep(Duration::ZERO).unwrap();
        let verified = verify_aggregates(shard.path(), &FAMILIES).unwrap();
        assert_eq!(verified.problems, Vec::<String>::new());
        if turn % 3 == 0 {
            shard.poison();
            shard = reopen(dir.path(), &dropping);
        }
        if turn % 3 == 2 {
            while shard.upkeep_due() {
                shard.upkeep(Duration::ZERO).unwrap();
            }
        }
    }
    let left = |currency: &str, accepted: i64| {
        format!("SELECT count(*) FROM price_row_all WHERE currency = '{currency}' AND accepted = {accepted}")
    };
    // The window of six, and the price that is not old.
    assert_eq!(number(&mut shard, &left("USD", 1)), 7);
    assert_eq!(number(&mut shard, &left("JPY", 1)), 6);
    assert_eq!(number(&mut shard, &left("USD", 0)), 1, "the anomaly with the newest change");
    assert_eq!(number(&mut shard, "SELECT count(*) FROM change"), 1);
    let oldest = "SELECT min(observed_at_us) FROM price_row WHERE event_id <> 'young'";
    assert_eq!(number(&mut shard, oldest), 24);
    let reader = open_reader(shard.path()).unwrap();
    assert_eq!(dropped_changes(&reader, "t").unwrap(), 5);
    assert_eq!(dropped_changes(&reader, "u").unwrap(), 0);
    let dropped = "SELECT rows FROM retention_dropped WHERE kind = 'price_row' AND reason = 'age'";
    assert_eq!(number(&mut shard, dropped), 24 + 24 + 5);

    assert_eq!(send(&mut shard, "usd 29", 29, 101, "USD", now_us), Outcome::Duplicate);
    assert_eq!(send(&mut shard, "usd 3", 3, 101, "USD", now_us), Outcome::Inserted, "its id has left");
    assert_eq!(send(&mut shard, "odd again", 40, 900, "USD", now_us), Outcome::Flagged);
    assert_eq!(number(&mut shard, "SELECT max(seq) FROM change"), 7);
    // The earlier anomaly no longer has the newest change.
    shard.retain_now();
    while shard.upkeep_due() {
        shard.upkeep(Duration::ZERO).unwrap();
    }
    assert_eq!(number(&mut shard, "SELECT min(seq) FROM change"), 7);
    assert_eq!(dropped_changes(&open_reader(shard.path()).unwrap(), "t").unwrap(), 6);

    // The prices in yen stay, and the ids after the oldest price are kept in memory. Once many others have arrived, the
    // prices in yen move to the end of the table.
    for turn in 0..8 {
        for n in 0..30 {
            send(&mut shard, &format!("more {turn} {n}"), 100 + turn * 30 + n, 100, "USD", 7);
        }
        shard.retain_now();
        while shard.upkeep_due() {
            shard.upkeep(Duration::ZERO).unwrap();
        }
        let verified = verify_aggregates(shard.path(), &FAMILIES).unwrap();
        assert_eq!(verified.problems, Vec::<String>::new());
        assert_eq!(number(&mut shard, &left("JPY", 1)), 6);
        if turn % 3 == 0 {
            shard.poison();
            shard = reopen(dir.path(), &dropping);
        }
    }
    let span = "SELECT max(last) - (SELECT min(id) FROM price_row) FROM price_series";
    assert!(number(&mut shard, span) < 200, "{}", number(&mut shard, span));
    // 309 prices were sent.
    assert!(number(&mut shard, "SELECT max(last) FROM price_series") > 309);
    let lose = "DELETE FROM price_id_recent; DELETE FROM price_id_run; DELETE FROM price_id_chunk";
    shard.connection().execute_batch(lose).unwrap();
    shard.poison();
    let mut shard = reopen(dir.path(), &dropping);
    assert_eq!(send(&mut shard, "jpy 29", 29, 1_000, "JPY", now_us), Outcome::Duplicate);
    assert_eq!(send(&mut shard, "jpy 28", 28, 1_001, "JPY", now_us), Outcome::Conflict);
    assert_eq!(send(&mut shard, "jpy 2", 2, 1_000, "JPY", now_us), Outcome::Inserted);
    let verified = verify_aggregates(shard.path(), &FAMILIES).unwrap();
    assert_eq!(verified.problems, Vec::<String>::new());
}
