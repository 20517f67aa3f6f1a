//! The schema is made once, compared at every connection, and left to its users.

use std::thread;

use firehose::ship::postgres::schema_sql;
use firehose::ship::rows::*;
use firehose::ship::sink::{Sink as _, SinkError};

use super::rows::*;
use crate::postgres::Postgres;

#[track_caller]
fn refusal(postgres: &Postgres) -> String {
    let mut shipper = Shipper::of(postgres, FOLDER, 0);
    match shipper.sink.known(&[]) {
        Err(SinkError::Lasting(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sink_shards_that_connect_at_once_make_one_schema_and_one_node() {
    let Some(postgres) = Postgres::start() else { return };
    thread::scope(|threads| {
        for shard in 0..8 {
            let postgres = &postgres;
            threads.spawn(move || {
                let mut shipper = Shipper::of(postgres, FOLDER, shard);
                shipper.begin();
                shipper.write(Rows::Clicks(vec![click(1)]));
            });
        }
    });
    assert_eq!(postgres.ask("SELECT count(*) FROM fh.node"), "1");
    assert_eq!(postgres.ask("SELECT count(*), count(DISTINCT shard) FROM fh.epoch"), "8|8");
    assert_eq!(postgres.ask("SELECT count(DISTINCT shard) FROM fh.clicks"), "8");
}

#[test]
fn sink_columns_are_compared_and_the_users_own_are_kept() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    postgres.ask(
        "ALTER TABLE fh.events ADD COLUMN seen timestamptz NOT NULL DEFAULT now(), ADD COLUMN note text; \
         CREATE INDEX own ON fh.events ((payload->>'x')); CREATE VIEW fh.mine AS SELECT * FROM fh.events",
    );
    let mut again = Shipper::of(&postgres, FOLDER, 0);
    again.begin();
    again.write(Rows::Events(vec![event(1)]));
    assert_eq!(postgres.ask("SELECT count(seen), count(note) FROM fh.events"), "1|0");
    postgres.ask("DROP VIEW fh.mine");

    postgres.ask("ALTER TABLE fh.events ADD COLUMN must int");
    postgres.ask("UPDATE fh.events SET must = 1; ALTER TABLE fh.events ALTER COLUMN must SET NOT NULL");
    assert!(refusal(&postgres).contains("fh.events.must is NOT NULL and has no default"));
    postgres.ask("ALTER TABLE fh.events DROP COLUMN must");

    postgres.ask("ALTER TABLE fh.stock_events ALTER COLUMN number TYPE numeric");
    let reason = refusal(&postgres);
    assert!(
        reason.contains("fh.stock_events.number has the type numeric") && reason.contains("sends bigint"),
        "{reason}"
    );
    postgres.ask("ALTER TABLE fh.stock_events ALTER COLUMN number TYPE bigint");
    postgres.ask("ALTER TABLE fh.twice DROP COLUMN differs");
    assert!(refusal(&postgres).contains("fh.twice has no column differs of type boolean"));
    postgres.ask("ALTER TABLE fh.twice ADD COLUMN differs boolean NOT NULL");

    postgres.ask("UPDATE fh.meta SET version = 99");
    assert!(refusal(&postgres).contains("version 99, which is newer"));
    postgres.ask("UPDATE fh.meta SET version = 1");

    // A table that is dropped while the sink is connected needs a person, and so does a permission.
    postgres.ask("CREATE ROLE ann LOGIN");
    let url = postgres.url().replace("user=postgres", "user=ann");
    let options = firehose::ship::postgres::PostgresOptions::parse(&url).expect("a URL");
    let sink = firehose::ship::postgres::PostgresSink::new(
        options,
        FOLDER.to_owned(),
        firehose::base::ids::ShardId(0),
        Default::default(),
    );
    let refused = sink.expect("a sink").known(&[]);
    assert!(matches!(&refused, Err(SinkError::Lasting(reason)) if reason.contains("42501")), "{refused:?}");
    shipper.begin();
    postgres.ask("DROP TABLE fh.events CASCADE");
    let refused = shipper.try_write(Rows::Events(vec![event(2)]));
    assert!(
        matches!(&refused, Err(SinkError::Lasting(reason)) if reason.contains("fh.events")),
        "{refused:?}"
    );
    assert!(refusal(&postgres).contains("fh.events has no column"));
}

#[test]
fn sink_the_printed_schema_is_the_one_that_is_made_and_citus_gets_keys_with_the_tenant() {
    let Some(postgres) = Postgres::start() else { return };
    // Stand-ins that record the calls, and refuse a unique key without the column, as Citus does.
    postgres.ask(
        "CREATE TABLE public.calls (name regclass, by text, together text); \
         CREATE FUNCTION public.create_distributed_table(name regclass, by text, colocate_with text DEFAULT 'default') \
         RETURNS void LANGUAGE plpgsql AS $$ BEGIN \
           IF EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = name AND i.indisunique AND NOT EXISTS ( \
             SELECT 1 FROM pg_attribute a WHERE a.attrelid = name AND a.attname = by \
               AND a.attnum = ANY (i.indkey))) THEN RAISE EXCEPTION '% is not in a key of %', by, name; END IF; \
           INSERT INTO public.calls VALUES (name, by, colocate_with); END $$",
    );
    let sql = schema_sql(true);
    assert!(sql.starts_with(&schema_sql(false)));
    postgres.ask(&sql);
    assert_eq!(
        postgres.ask(
            "SELECT by, count(*), count(*) FILTER (WHERE together = 'fh.events') FROM calls \
             GROUP BY 1 ORDER BY 1"
        ),
        "tenant_id|9|8\nuser_id|1|0"
    );
    let mut shipper = Shipper::new(&postgres);
    shipper.write(Rows::Orders(vec![order(1)]));
    assert_eq!(postgres.ask("SELECT count(*) FROM fh.orders"), "1");
}

#[test]
fn sink_clicks_have_a_partition_a_day_and_rows_of_a_day_that_was_late_move_there() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    shipper.write(Rows::Clicks(vec![click(1)]));
    assert_eq!(postgres.ask("SELECT tableoid::regclass FROM fh.clicks"), "fh.clicks_20261130");
    let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'fh.clicks'::regclass";
    // The default, today with the week ahead, and the day of the row unless it is one of these.
    let made: u32 = postgres.ask(days).parse().expect("a number");
    assert!((9..=10).contains(&made), "{made}");

    // While another session holds a lock, a day cannot be made: its rows wait in the default partition.
    let late = |id| ClickRow { received_us: NOON_US - 10 * 86_400_000_000, ..click(id) };
    let mut holder = postgres.session("BEGIN; LOCK TABLE fh.clicks_default IN SHARE UPDATE EXCLUSIVE MODE");
    shipper.write(Rows::Clicks(vec![late(2)]));
    assert_eq!(postgres.ask("SELECT id FROM fh.clicks_default"), "2");
    holder.kill().expect("the session ends");
    holder.wait().expect("the session has ended");
    let free = "SELECT count(*) FROM pg_locks WHERE mode = 'ShareUpdateExclusiveLock'";
    postgres.wait_until(|| postgres.ask(free) == "0");
    // The next attempt moves them.
    let mut shipper = Shipper::of(&postgres, FOLDER, 0);
    shipper.begin();
    shipper.write(Rows::Clicks(vec![late(3)]));
    assert_eq!(postgres.ask("SELECT count(*) FROM fh.clicks_default"), "0");
    assert_eq!(postgres.ask("SELECT count(*) FROM fh.clicks_20261120"), "2");
    // A clock that is far off.
    let odd = ClickRow { received_us: NOON_US * 2, ..click(4) };
    shipper.write(Rows::Clicks(vec![odd]));
    assert_eq!(postgres.ask("SELECT id FROM fh.clicks_default"), "4");
}
