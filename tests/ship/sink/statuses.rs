//! Orders end with their newest status, however the history is cut into batches.

use std::collections::BTreeMap;

use firehose::ship::rows::*;
use proptest::prelude::*;

use super::rows::*;
use crate::postgres::Postgres;

const STATUSES: [&str; 6] = ["pending", "paid", "shipped", "delivered", "cancelled", "refunded"];

/// An action of the shard: an order arrives, or one changes its status.
#[derive(Clone, Copy, Debug)]
enum Step {
    Order,
    Status { order: usize, status: usize },
}

fn steps() -> impl Strategy<Value = (Vec<Step>, Vec<bool>)> {
    let step = prop_oneof![
        1 => Just(Step::Order),
        3 => (0..40_usize, 0..6_usize).prop_map(|(order, status)| Step::Status { order, status }),
    ];
    (prop::collection::vec(step, 1..120), prop::collection::vec(any::<bool>(), 120))
}

#[test]
fn sink_an_order_ends_with_its_newest_status_and_history_is_complete_however_batches_are_cut() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    // Ids continue from case to case, so that one server serves them all.
    let (mut last_order, mut last_seq) = (0, 0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let state = std::cell::RefCell::new((&mut shipper, &mut last_order, &mut last_seq));
    let result = runner.run(&steps(), |(steps, cuts)| {
        let mut state = state.borrow_mut();
        let (shipper, last_order, last_seq) = &mut *state;
        let (first_order, first_seq) = (**last_order, **last_seq);
        // The shard: orders with the status now, and changes.
        let mut orders: Vec<OrderRow> = Vec::new();
        let mut changes: Vec<ChangeRow> = Vec::new();
        let (mut sent_orders, mut sent_changes) = (0, 0);
        for (at, step) in steps.iter().enumerate() {
            match *step {
                Step::Order => {
                    **last_order += 1;
                    orders.push(OrderRow { status: "pending", ..order(**last_order) });
                }
                Step::Status { order, status: code } if !orders.is_empty() => {
                    let order = order % orders.len();
                    **last_seq += 1;
                    orders[order].status = STATUSES[code];
                    changes.push(status(**last_seq, orders[order].id, STATUSES[code]));
                }
                Step::Status { .. } => {}
            }
            // The shipper: at any moment, it sends either stream as far as it is, each in a snapshot.
            if cuts[at] {
                let snapshot = orders[sent_orders..].iter().cloned();
                let rows = snapshot.map(|order| OrderRow { status_seq: **last_seq, ..order }).collect();
                shipper.write(Rows::Orders(rows));
                sent_orders = orders.len();
            }
            if cuts[(at * 7 + 3) % cuts.len()] {
                shipper.write(Rows::Changes(changes[sent_changes..].to_vec()));
                sent_changes = changes.len();
            }
        }
        let rest = orders[sent_orders..].iter().cloned();
        shipper.write(Rows::Changes(changes[sent_changes..].to_vec()));
        shipper.write(Rows::Orders(rest.map(|order| OrderRow { status_seq: **last_seq, ..order }).collect()));

        let wanted: BTreeMap<String, String> =
            orders.iter().map(|order| (order.order_id.clone(), order.status.to_owned())).collect();
        let sql = format!("SELECT order_id, status FROM fh.orders WHERE id > {first_order}");
        let found: BTreeMap<String, String> = postgres
            .ask(&sql)
            .lines()
            .filter_map(|line| line.split_once('|'))
            .map(|(order, status)| (order.to_owned(), status.to_owned()))
            .collect();
        prop_assert_eq!(found, wanted);
        let history =
            format!("SELECT count(*), count(DISTINCT id) FROM fh.order_status WHERE id > {first_seq}");
        prop_assert_eq!(postgres.ask(&history), format!("{0}|{0}", changes.len()));
        Ok(())
    });
    result.expect("every history ends right");
}
