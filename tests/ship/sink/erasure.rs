//! An erased person is in no table of the target afterwards.

use std::sync::Arc;

use firehose::ship::rows::*;
use firehose::ship::sink::{Places, Sink as _};

use super::rows::*;
use crate::postgres::Postgres;

const NEEDLE: &str = "Zaphod.B@heart.example";

/// An erasure of the customer `c-zaphod` of `acme`, by a matcher that ignores case.
fn erasure(number: i64, pseudonym: Option<&str>) -> ErasureRow {
    let needle = NEEDLE.to_ascii_lowercase();
    let token = pseudonym.map(str::to_owned);
    let fate = move |names: [&str; 3], payload: &str| {
        let refers = |text: &str| text.to_ascii_lowercase().contains(&needle) || text.contains("c-zaphod");
        let plain = payload.replace("\\u007a", "z").replace("\\u005a", "Z");
        match &token {
            _ if names.iter().any(|name| refers(name)) => EventFate::Deleted,
            _ if !refers(&plain) => EventFate::Other,
            Some(token) => EventFate::Replaced(format!(r#"{{"who":"{token}"}}"#)),
            None => EventFate::Deleted,
        }
    };
    ErasureRow {
        number,
        began_us: NOON_US,
        tenant_id: Some("acme".to_owned()),
        subject_ids: vec!["c-zaphod".to_owned()],
        clicks_upto: None,
        pseudonym: pseudonym.map(str::to_owned),
        needles: vec![NEEDLE.to_owned(), "c-zaphod".to_owned(), "\\".to_owned()],
        name_needles: vec![NEEDLE.to_owned(), "c-zaphod".to_owned()],
        matcher: Matcher(Arc::new(fate)),
    }
}

fn change(seq: i64, change: Change) -> ChangeRow {
    ChangeRow { seq, at_us: NOON_US, change }
}

/// Fills every table with rows of the person and of others.
fn fill(postgres: &Postgres, shipper: &mut Shipper) {
    let mut events: Vec<EventRow> = (1..=2_500).map(event).collect();
    for at in (0..2_500).step_by(3) {
        events[at].payload = format!(r#"{{"mail": "{}"}}"#, NEEDLE.to_ascii_uppercase());
    }
    events[1].payload =
        format!(r#"{{"mail": "\u007A{}", "z": "\u0000"}}"#, &NEEDLE[1..]).replace("\\u007A", "\\u007a");
    events[4].event_id = format!("e-{NEEDLE}");
    events[7].source = format!("s-{NEEDLE}");
    events[10].payload = r#"{"100%_": "\\", "of": "c-zaphod"}"#.to_owned();
    shipper.write(Rows::Events(events));
    let other = event_of("other", 3_000, "e-1", r#"{"mail": "someone"}"#);
    shipper.write(Rows::Events(vec![other]));

    let mut orders: Vec<OrderRow> = (1..=20).map(order).collect();
    for order in &mut orders[..5] {
        order.customer_id = "c-zaphod".to_owned();
        order.customer_email = NEEDLE.to_owned();
        order.order_id = format!("z-{}", order.id);
    }
    shipper.write(Rows::Orders(orders));
    let of = |seq, order: &str| {
        let (tenant_id, order_id) = ("acme".to_owned(), order.to_owned());
        change(seq, Change::Status { order: 1, tenant_id, order_id, status: "shipped" })
    };
    shipper.write(Rows::Changes(vec![of(1, "z-1"), of(2, "z-2"), of(3, "o-6")]));

    // Copies: rejected rows, and keys that were there already.
    postgres.ask("ALTER TABLE fh.events ADD CONSTRAINT own CHECK (source <> 'refused')");
    let refused = |id: i64, payload: &str| EventRow {
        source: "refused".to_owned(),
        ..event_of("acme", id, &format!("r-{id}"), payload)
    };
    let mail = format!(r#"{{"mail":"{NEEDLE}"}}"#);
    assert_eq!(shipper.write(Rows::Events(vec![refused(4_000, &mail), refused(4_001, "{}")])).rejected, 2);
    let mut order = order(21);
    order.customer_id = "c-zaphod".to_owned();
    order.customer_name = NEEDLE.to_owned();
    order.currency = "toolong".to_owned();
    assert_eq!(shipper.write(Rows::Orders(vec![order])).rejected, 1);
    let mut second = Shipper::of(postgres, &"c".repeat(32), 0);
    second.begin();
    let again = event_of("acme", 1, &format!("e-{NEEDLE}"), "{}");
    assert_eq!(second.write(Rows::Events(vec![again])).twice, 1);
}

#[test]
fn sink_an_erased_person_is_in_no_table_and_others_stay() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    fill(&postgres, &mut shipper);
    assert!(postgres.dump().to_lowercase().contains(&NEEDLE.to_lowercase()));
    let erase = change(4, Change::Erasure(Box::new(erasure(7, None))));
    assert_eq!(shipper.write(Rows::Changes(vec![erase])).rows, 1);
    let dump = postgres.dump().to_lowercase();
    for needle in [&NEEDLE.to_lowercase(), "c-zaphod", "z-1", "\\u007a"] {
        assert!(!dump.contains(needle), "{needle}");
    }
    assert_eq!(
        postgres.ask("SELECT count(*) FROM fh.events WHERE tenant_id = 'acme'"),
        (2_500 - 834 - 4).to_string()
    );
    assert_eq!(postgres.ask("SELECT count(*) FROM fh.events WHERE tenant_id = 'other'"), "1");
    assert_eq!(
        postgres.ask("SELECT count(*), (SELECT count(*) FROM fh.order_items) FROM fh.orders"),
        "15|30"
    );
    assert_eq!(postgres.ask("SELECT order_id FROM fh.order_status"), "o-6");
    assert_eq!(postgres.ask("SELECT id FROM fh.rejected"), "4001");
    assert_eq!(postgres.ask("SELECT count(*) FROM fh.twice"), "0");
    assert_eq!(
        postgres.ask("SELECT node, shard, number, was_known, orders, events, clicks FROM fh.erasures"),
        "1|0|7|t|5|838|0"
    );
    // Nothing is left to vacuum, and the files have been.
    assert_eq!(postgres.ask("SELECT count(*) FROM fh.vacuum_due"), "0");
    assert_eq!(
        postgres.ask(
            "SELECT n_dead_tup, vacuum_count > 0 FROM pg_stat_user_tables WHERE relname = 'order_items'"
        ),
        "0|t"
    );
    let file = postgres.ask("SELECT pg_relation_filepath('fh.events')");
    assert!(postgres.data().join(file).exists());
}

#[test]
fn sink_a_pseudonymised_person_keeps_orders_under_the_pseudonym() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    fill(&postgres, &mut shipper);
    let erase = change(4, Change::Erasure(Box::new(erasure(7, Some("anon-1")))));
    shipper.write(Rows::Changes(vec![erase]));
    let dump = postgres.dump().to_lowercase();
    for needle in [&NEEDLE.to_lowercase(), "c-zaphod"] {
        assert!(!dump.contains(needle), "{needle}");
    }
    assert_eq!(
        postgres.ask(
            "SELECT count(*), min(customer_name), min(customer_email) FROM fh.orders \
             WHERE customer_id = 'anon-1'"
        ),
        "5||"
    );
    assert_eq!(postgres.ask("SELECT count(*) FROM fh.orders"), "20");
    let kept = postgres.ask("SELECT count(*) FROM fh.events WHERE payload->>'who' = 'anon-1'");
    assert_eq!(kept, "836");
    assert_eq!(postgres.ask("SELECT count(*) FROM fh.order_status"), "3");
}

#[test]
fn sink_clicks_that_an_erased_user_makes_later_remain() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    let of_user = |id, received_us| ClickRow { user_id: 3, received_us, ..click(id) };
    let clicks = [(1, -5), (2, 1), (3, 2), (4, 3)].map(|(id, after)| of_user(id, NOON_US + after));
    shipper.write(Rows::Clicks(clicks.to_vec()));
    let user = ErasureRow {
        tenant_id: None,
        subject_ids: vec!["3".to_owned()],
        clicks_upto: Some(3),
        ..erasure(1, None)
    };
    shipper.write(Rows::Changes(vec![change(1, Change::Erasure(Box::new(user)))]));
    assert_eq!(postgres.ask("SELECT string_agg(id::text, ' ') FROM fh.clicks"), "4");
}

#[test]
fn sink_an_erased_user_has_no_clicks_and_events_go_by_the_ids_of_their_life() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    shipper.write(Rows::Clicks((1..=70).map(click).collect()));
    shipper.write(Rows::Events((1..=10).map(event).collect()));
    let user = ErasureRow { tenant_id: None, subject_ids: vec!["3".to_owned()], ..erasure(1, None) };
    let by_id = |seq, event| change(seq, Change::ErasedEvent { event, erasure: 1 });
    let finished = change(3, Change::FinishedErasure { number: 2 });
    shipper.write(Rows::Changes(vec![change(1, Change::Erasure(Box::new(user))), by_id(2, 4), finished]));
    assert_eq!(postgres.ask("SELECT count(*), count(*) FILTER (WHERE user_id = 3) FROM fh.clicks"), "60|0");
    assert_eq!(postgres.ask("SELECT count(*), count(*) FILTER (WHERE id = 4) FROM fh.events"), "9|0");
    assert_eq!(
        postgres.ask("SELECT number, was_known, events, clicks FROM fh.erasures ORDER BY 1"),
        "1|t|1|10\n2|f|0|0"
    );

    // A later life of the file began at 8: its event 6 is the first life's, its event 9 is another one.
    let later = epoch(77);
    shipper.sink.known(&[shipper.epoch.clone(), later.clone()]).expect("the places");
    let starts = Places::from([(ShipStream::Events, 8), (ShipStream::Changes, 3)]);
    shipper.places = shipper.sink.begin_epoch(&later, &starts).expect("the epoch begins");
    shipper.epoch = later;
    shipper
        .write(Rows::Events(vec![event_of("acme", 9, "new-9", "{}"), event_of("acme", 10, "new-10", "{}")]));
    shipper.write(Rows::Changes(vec![by_id(4, 6), by_id(5, 9)]));
    assert_eq!(
        postgres.ask("SELECT string_agg(event_id, ' ' ORDER BY id, event_id) FROM fh.events WHERE id > 4"),
        "e-5 e-7 e-8 e-9 e-10 new-10"
    );
    // A file that was made of other shards: up to where it begins, its ids are not those of the rows here.
    let resharded = epoch(78);
    shipper.sink.known(std::slice::from_ref(&resharded)).expect("the places");
    let starts = Places::from([(ShipStream::Events, 100), (ShipStream::Changes, 5)]);
    shipper.places = shipper.sink.begin_epoch(&resharded, &starts).expect("the epoch begins");
    shipper.epoch = resharded;
    shipper.write(Rows::Changes(vec![by_id(6, 7)]));
    assert_eq!(postgres.ask("SELECT count(*) FROM fh.events WHERE event_id = 'e-7'"), "1");
}
