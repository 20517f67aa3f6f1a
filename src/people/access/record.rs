//! Records as JSON, as far as they can be decoded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::reader::{Sought, WITHHELD};
use crate::base::clock;
use crate::base::kinds::Kind;
use crate::base::money::write_decimal;
use crate::events::{SERVICE_EVENT, ServiceEventRow, decode_service_event};
use crate::orders::{INGEST, IngestRow, ORDER, OrderRow, decode_ingest, decode_order};

/// A decoded record that may refer to a customer.
pub(super) enum PersonalRecord<'r> {
    Order(OrderRow<'r>),
    Event(ServiceEventRow<'r>),
    Ingest(IngestRow<'r>),
    /// The bytes are not a record of their kind.
    Undecodable,
}

impl PersonalRecord<'_> {
    /// Decodes a record. Returns `None` for a kind that contains no data of customers.
    pub(super) fn decode(kind: u8, payload: &[u8]) -> Option<PersonalRecord<'_>> {
        let decoded = match Kind::new(kind) {
            ORDER => decode_order(payload).map(PersonalRecord::Order),
            SERVICE_EVENT => decode_service_event(payload).map(PersonalRecord::Event),
            INGEST => decode_ingest(payload).map(PersonalRecord::Ingest),
            _ => return None,
        };
        Some(decoded.unwrap_or(PersonalRecord::Undecodable))
    }

    fn name(&self) -> &'static str {
        match self {
            PersonalRecord::Order(_) => "order",
            PersonalRecord::Event(_) => "service_event",
            PersonalRecord::Ingest(_) => "ingest",
            PersonalRecord::Undecodable => "unknown",
        }
    }

    /// Returns the tenant, or `None` if the record has none or several.
    fn tenant_id(&self) -> Option<&str> {
        match self {
            PersonalRecord::Order(order) => Some(order.tenant_id),
            PersonalRecord::Event(event) => Some(event.tenant_id),
            PersonalRecord::Ingest(ingest) => Some(ingest.scope).filter(|scope| *scope != "*"),
            PersonalRecord::Undecodable => None,
        }
    }

    fn json(&self, payload: &[u8]) -> Value {
        match self {
            PersonalRecord::Order(order) => order_json(order),
            PersonalRecord::Event(event) => json_or_text(&String::from_utf8_lossy(&event_json(event))),
            PersonalRecord::Ingest(ingest) => json!({
                "idempotency_key": ingest.key,
                "finished_at": clock::rfc3339(ingest.finished_us),
                "response": json_or_text(ingest.response),
            }),
            PersonalRecord::Undecodable => json!({"base64": STANDARD.encode(payload)}),
        }
    }
}

/// Returns a record with its kind and a reason, and with its content if the client may see it. Bytes that cannot be
/// decoded are in base64.
pub(super) fn record_json(sought: &Sought, kind: u8, payload: &[u8], reason: &str) -> Value {
    let record = PersonalRecord::decode(kind, payload).unwrap_or(PersonalRecord::Undecodable);
    let mut line = json!({"kind": record.name(), "kind_number": kind});
    match sought.may_show(record.tenant_id()) {
        true => line["record"] = record.json(payload),
        false => line["withheld"] = json!(WITHHELD),
    }
    if !reason.is_empty() {
        line["reason"] = json!(reason);
    }
    line
}

fn order_json(order: &OrderRow<'_>) -> Value {
    let digits = order.currency.digits();
    let price = |minor: i64| {
        let mut text = Vec::new();
        write_decimal(minor, digits, &mut text);
        String::from_utf8(text).unwrap_or_default()
    };
    let items: Vec<Value> = order
        .items()
        .map(|item| {
            json!({
                "product_id": item.product_id, "category": item.category, "quantity": item.quantity,
                "unit_price": price(item.unit_price),
            })
        })
        .collect();
    json!({
        "order_id": order.order_id, "tenant_id": order.tenant_id, "customer_id": order.customer_id,
        "customer_name": order.customer_name, "customer_email": order.customer_email,
        "status": order.status.as_str(), "currency": order.currency.as_str(),
        "ordered_at": clock::rfc3339(order.ordered_at_us), "received_at": clock::rfc3339(order.received_us),
        "total": price(order.total), "units": order.units, "items": items,
    })
}

/// Returns an event as one line of JSON. The payload has exactly the bytes received, except for line ends between its
/// tokens, which become spaces.
pub(super) fn event_json(event: &ServiceEventRow<'_>) -> Vec<u8> {
    let head = json!({
        "event_id": event.event_id, "tenant_id": event.tenant_id, "source": event.source,
        "event_type": event.event_type, "timestamp": clock::rfc3339(event.timestamp_us),
        "received_at": clock::rfc3339(event.received_us),
    });
    let mut line = head.to_string().into_bytes();
    line.pop();
    line.extend_from_slice(b",\"payload\":");
    let one_line = |byte: u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte };
    line.extend(event.payload.bytes().map(one_line));
    line.push(b'}');
    line
}

/// Returns the JSON value, or the text itself if it is not JSON.
pub(super) fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, OnceLock};

    use super::super::super::uploads::ErasedPeople;
    use super::*;
    use crate::base::keys::KeyHasher;
    use crate::shard::ErasureMode;

    #[test]
    fn a_payload_keeps_its_bytes_on_one_line() {
        let event = ServiceEventRow {
            timestamp_us: 0,
            received_us: 1,
            tenant_id: "t",
            event_id: "e\"",
            source: "s",
            event_type: "y",
            payload: "{\n \"a\": 1.50,\r\n \"a\": \"\\ud800\"}",
        };
        let line = String::from_utf8(event_json(&event)).unwrap();
        assert!(line.ends_with(r#","payload":{  "a": 1.50,   "a": "\ud800"}}"#), "{line}");
        assert!(line.contains(r#""event_id":"e\"""#) && !line.contains('\n'), "{line}");
    }

    fn sought(sees_all: bool) -> Sought {
        let people = ErasedPeople::new("t".to_owned(), ErasureMode::Erase, Vec::new());
        let keys = KeyHasher::new(&[0; 16]);
        Sought {
            people: Arc::new(people),
            keys,
            orders: Vec::new(),
            events: OnceLock::new(),
            shards: Vec::new(),
            sees_all,
        }
    }

    #[test]
    fn bytes_that_are_no_record_are_returned_as_they_are() {
        let line = record_json(&sought(true), ORDER.number(), b"\xff\0", "not an order");
        assert_eq!(line["record"]["base64"], "/wA=");
        assert_eq!((&line["kind"], &line["reason"]), (&json!("unknown"), &json!("not an order")));
    }

    #[test]
    fn r2_what_may_be_another_tenants_is_not_shown() {
        let event = |tenant_id| {
            let mut bytes = Vec::new();
            let (event_id, source, event_type) = ("e", "s", "y");
            ServiceEventRow {
                timestamp_us: 0,
                received_us: 1,
                tenant_id,
                event_id,
                source,
                event_type,
                payload: "{}",
            }
            .encode(&mut bytes);
            bytes
        };
        let bound = sought(false);
        for (kind, payload, is_shown) in [
            (SERVICE_EVENT, event("t"), true),
            (SERVICE_EVENT, event("other"), false),
            (ORDER, b"\xff\0".to_vec(), false),
        ] {
            let line = record_json(&bound, kind.number(), &payload, "");
            assert_eq!(
                (line["record"].is_object(), line["withheld"].is_string()),
                (is_shown, !is_shown),
                "{line}"
            );
            assert!(record_json(&sought(true), kind.number(), &payload, "")["record"].is_object());
        }
    }
}
