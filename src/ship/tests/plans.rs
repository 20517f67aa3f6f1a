//! Every statement that reads a shard finds its rows by an index.

use super::rig::{Rig, click, event, order, price, stock};
use crate::orders::OrderStatus;
use crate::shard::open_reader;
use crate::ship::source::statements;

#[test]
fn every_statement_of_the_shipper_searches() {
    let mut rig = Rig::new();
    rig.store(&[click(1), event(1, "{}"), order(1, OrderStatus::Paid), stock(1), price(1, 100)]);
    let reader = open_reader(&rig.path()).unwrap();
    let mut plans = Vec::new();
    for sql in statements() {
        let mut explain = reader.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        for at in 1..=explain.parameter_count() {
            explain.raw_bind_parameter(at, 1).unwrap();
        }
        let mut lines = explain.raw_query();
        while let Some(line) = lines.next().unwrap() {
            let line: String = line.get(3).unwrap();
            plans.push(format!("{line}: {sql}"));
        }
    }
    assert!(plans.len() > 10, "{plans:?}");
    let slow: Vec<_> =
        plans.iter().filter(|plan| plan.starts_with("SCAN") || plan.contains("TEMP B-TREE")).collect();
    assert!(slow.is_empty(), "{slow:?}");
}
