//! Order tests: measurements, and properties of every order.

use super::*;
use crate::base::clock::monotonic_us;

mod rules;
mod verdicts;

/// A typical line: 520 bytes, 3 items.
const SEED: &str = r#"{"order_id": "ord_2024_000123", "tenant_id": "tenant_7", "customer_id": "cust_004711", "customer_name": "Ada Lovelace", "customer_email": "ada@example.com", "status": "paid", "currency": "USD", "ordered_at": "2024-01-15T10:30:00Z", "items": [{"product_id": "prod_001", "category": "books", "quantity": 2, "unit_price": "19.99"}, {"product_id": "prod_002", "category": "electronics", "quantity": 1, "unit_price": "249.00"}, {"product_id": "prod_003", "category": "gardening tools", "quantity": 12, "unit_price": "0.50"}]}"#;

/// An owned copy of a borrowed order.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    /// In the order of `Order`'s fields.
    texts: [String; 5],
    status: OrderStatus,
    currency: Currency,
    ordered_at_us: i64,
    total_minor: i64,
    /// Product, category, quantity, price.
    items: Vec<(String, String, i64, i64)>,
}

impl From<Order<'_>> for Kept {
    fn from(order: Order<'_>) -> Kept {
        let texts =
            [order.order_id, order.tenant_id, order.customer_id, order.customer_name, order.customer_email];
        let items = order.items();
        assert_eq!(items.len(), items.clone().count());
        Kept {
            texts: texts.map(str::to_owned),
            status: order.status,
            currency: order.currency,
            ordered_at_us: order.ordered_at_us,
            total_minor: order.total_minor,
            items: items
                .map(|item| {
                    (
                        item.product_id.to_owned(),
                        item.category.to_owned(),
                        item.quantity,
                        item.unit_price_minor,
                    )
                })
                .collect(),
        }
    }
}

fn order(line: &str) -> Result<Kept, OrderError> {
    OrderDecoder::new().order(line.as_bytes()).map(Kept::from)
}

/// Returns the errors' pointers and codes, in the order of the list.
fn told(error: &OrderError) -> Vec<(String, &'static str)> {
    error.faults().iter().map(|fault| (fault.pointer.to_string(), fault.code.as_str())).collect()
}

/// Prints the nanoseconds per order: the best of several rounds over lines that all differ.
fn measured(name: &str, seed: &str) {
    let lines: Vec<String> = (0..2000_u64)
        .map(|index| {
            let text = format!("{:06}", index.wrapping_mul(7_919_111) % 1_000_000);
            seed.replace("000123", &text)
                .replace("4711", &text[2..])
                .replace("prod_0", &text[..index as usize % 6])
        })
        .collect();
    let bytes: usize = lines.iter().map(String::len).sum();
    let mut decoder = OrderDecoder::new();
    let mut best_us = u64::MAX;
    for _ in 0..50 {
        let start_us = monotonic_us();
        for line in &lines {
            let order = decoder.order(std::hint::black_box(line.as_bytes())).expect("an order");
            assert!(std::hint::black_box(order.items().map(|item| item.quantity).sum::<i64>()) > 0);
        }
        best_us = best_us.min(monotonic_us() - start_us);
    }
    let count = lines.len() as u64;
    println!("{name}: {} ns an order of {} bytes", best_us * 1000 / count, bytes as u64 / count);
}

#[test]
#[ignore = "a measurement: cargo test --release --lib event::order -- --ignored --nocapture"]
fn measure() {
    measured("typical", SEED);
    measured("without spaces", &SEED.replace(": ", ":").replace(", ", ","));
    measured("name not ASCII", &SEED.replace("Ada", "Ad\u{e9}"));
    measured("name with escapes", &SEED.replace("Ada", r"Ad\u00e9"));
    measured("prices as numbers", &SEED.replace("\"19.99\"", "19.99").replace("\"249.00\"", "249.00"));
    measured("second look", &SEED.replacen('{', r#"{"ignored": 1e999, "#, 1));
    let item = r#"{"product_id": "prod_003", "category": "garden", "quantity": 12, "unit_price": "0.50"}"#;
    let items = vec![item; 100].join(", ");
    measured("100 items", &SEED.replace("\"items\": [", &format!("\"items\": [{items}, ")));
}
