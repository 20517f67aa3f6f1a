//! `docs/sql.md`: each question has the answer that the page shows. `UPDATE_ANSWERS=1` rewrites the answers.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::post;
use crate::support::{Folder, command};

/// The flags of the page's dataset, as the page states them.
const DATASET: &str = "--preset small";

const TEXT: &str = "```text\n";

/// Generates the page's folder.
fn example() -> Folder {
    let folder = Folder::new();
    let output = command()
        .args(["gen-dataset", "--shards", "2", "--load"])
        .arg(folder.data())
        .args(DATASET.split(' '))
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    let server = folder.serve(&[]);
    let mut client = server.client();
    let minute =
        |number: u64| format!("2025-03-0{}T{:02}:{:02}:00Z", 1 + number / 100, number / 10 % 24, number % 60);
    let event = |number: u64| {
        let kind = ["view", "view", "view", "cart", "checkout"][number as usize % 5];
        json!({
            "event_id": format!("e-{number}"), "tenant_id": "tenant_1", "source": "web", "event_type": kind,
            "timestamp": minute(number), "payload": {"session": number / 3},
        })
    };
    let events: Vec<Value> = (0..300).map(event).collect();
    post(&mut client, "/events/bulk", &json!({"events": events}));
    for number in 0..60 {
        let path = ["/", "/cart", "/help"][number as usize % 3];
        post(
            &mut client,
            "/event",
            &json!({"user_id": number % 7, "timestamp": minute(number), "metadata": {"path": path}}),
        );
    }
    for (number, price) in ["10.00", "10.50", "31.00", "10.20", "2.00"].iter().enumerate() {
        let event = json!({
            "event_id": format!("p-{number}"), "price": price, "currency": "USD",
            "observed_at": format!("2025-03-0{}T12:00:00Z", number + 1),
        });
        post(&mut client, "/api/v1/tenants/tenant_1/products/lamp/price-event", &event);
    }
    server.wait_until_stored();
    server.stop();
    folder
}

#[test]
fn every_answer_of_the_page_is_that_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sql.md");
    let page = fs::read_to_string(&path).expect("the page is there");
    assert!(page.contains(DATASET), "the page states the flags of its dataset");
    let folder = example();
    let (mut renewed, mut questions, mut rest) = (String::new(), 0, page.as_str());
    while let Some((before, after)) = rest.split_once("```sql\n") {
        let (sql, after) = after.split_once("\n```\n").expect("the statement ends");
        renewed.push_str(&format!("{before}```sql\n{sql}\n```\n"));
        rest = after;
        let Some(after) = after.strip_prefix(&format!("\n{TEXT}")) else { continue };
        let (_, after) = after.split_once("```\n").expect("the answer ends");
        let output = command()
            .args(["sql", "--format", "table", "-c", sql, "--data"])
            .arg(folder.data())
            .output()
            .expect("the program runs");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        let answer = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(!answer.contains("(0 rows)"), "{sql} has no answer");
        renewed.push_str(&format!("\n{TEXT}{answer}```\n"));
        rest = after;
        questions += 1;
    }
    renewed.push_str(rest);
    assert!(questions >= 20, "{questions} questions");
    if std::env::vars_os().any(|(name, _)| name == "UPDATE_ANSWERS") {
        fs::write(&path, renewed).expect("the page is written");
    } else if renewed != page {
        let differs = |(one, other): &(&str, &str)| one != other;
        let line = renewed.lines().zip(page.lines()).find(differs);
        panic!("an answer differs (UPDATE_ANSWERS=1 renews the page): {line:?}");
    }
}
