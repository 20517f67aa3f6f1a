//! W1: cuts while upkeep makes columns of orders from their rows, and while statuses in them change. Afterwards, exact
//! figures, which are read from the columns, are those of the orders.

use std::collections::BTreeMap;

use super::orders::{TENANT, orders, statuses, stored_orders};
use super::{After, Rig, verify_databases};
use crate::disk::Policy;
use crate::support::commerce::{NDJSON, ingest, sales};
use crate::support::oracle::body;
use crate::support::{Chance, rows_of, wait_until};

const CUTS: u64 = 2;
/// Changes of the disk before a cut, at most. An ingest and what upkeep does after it are about a hundred.
const CHANGES: u64 = 2_500;
/// Ingests before the first moment of a cut. After them, each of the two shards has a full partition.
const INGESTS_BEFORE: usize = 3;
/// Orders of an ingest: a partition and a part of the next one.
const ROWS: usize = 60;

#[test]
fn w1_a_cut_while_columns_of_orders_are_made_costs_no_order_and_no_sale() {
    let mut chance = Chance::new();
    let policies =
        [Policy::Synced, Policy::Nameless, Policy::Prefix, Policy::Pages, Policy::Sectors, Policy::Files];
    let segments = std::cell::Cell::new(0);
    for _ in 0..CUTS {
        let Some(rig) = Rig::new() else { return };
        let flags = ["--ack=disk", "--order-partition-rows-max=50", "--checkpoint-interval=20ms"];
        let server = rig.serve(&flags);
        rig.settle();
        let (mut client, mut acked, mut changed) = (server.client(), 0, BTreeMap::new());
        for number in 0.. {
            if number == INGESTS_BEFORE {
                rig.disk.cut_after(rig.disk.operations() + chance.below(CHANGES));
            }
            let sent = body(&orders(number * ROWS..(number + 1) * ROWS));
            let answer = ingest(server.address, &format!("k-{number}"), NDJSON, &sent);
            if !answer.is_ok_and(|answer| answer.status == 200) {
                break;
            }
            acked = (number + 1) * ROWS;
            // More than a hundredth of a partition, so that its columns are made again.
            let order = &orders(number * ROWS..number * ROWS + 1)[0].id;
            let target = format!("/api/v1/tenants/{TENANT}/orders/{order}");
            match client.ask("PATCH", &target, r#"{"status":"cancelled"}"#) {
                Ok(answer) if answer.status == 200 => changed.insert(order.clone(), "cancelled"),
                _ => break,
            };
        }
        assert!(rig.disk.is_cut(), "the orders end with the power");
        server.kill();
        let images = rig.after_cut_by(&policies, 1, |image| {
            let data = image.join("data");
            let after = After { server: rig.serve_on(&data, &flags), data };
            after.server.wait_until_stored();
            let found = stored_orders(&after);
            let missing: Vec<_> =
                orders(0..acked).into_iter().map(|order| order.id).filter(|id| !found.contains(id)).collect();
            assert!(missing.is_empty(), "of {acked} acked, {missing:?} are missing");
            let now = statuses(&after.server);
            for (order, status) in &changed {
                assert_eq!(now.get(order).map(String::as_str), Some(*status), "{order}");
            }
            let paid = now.values().filter(|status| *status == "paid").count();
            for by in ["hour", "product"] {
                let groups =
                    sales(&after.server, TENANT, &format!("group_by={by}&precision=exact"))["groups"].clone();
                let sum = |group: &serde_json::Value| group["orders"].as_u64().expect("a number");
                assert_eq!(
                    groups.as_array().expect("groups").iter().map(sum).sum::<u64>(),
                    paid as u64,
                    "by {by}"
                );
            }
            wait_until("upkeep has nothing to do", || {
                let health = after.server.health();
                let shards = health["shards"].as_array().expect("a list of shards");
                shards.iter().all(|shard| shard["upkeep_pending"] == false)
            });
            after.server.stop();
            let count = "SELECT count(*) FROM sales_segment WHERE id % 16 = 0";
            let made: i64 = rows_of(&after.data, count, |row| row.get::<_, i64>(0)).iter().sum();
            segments.set(segments.get() + made);
            verify_databases(&after.data);
        });
        images.assert_sound();
    }
    assert!(segments.get() > 0, "no columns were made");
}
