//! Valid and refused stock requests.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(body: &str) -> Result<StockRequest<'_>, StockBodyError> {
    StockRequest::read(Member::of(body.as_bytes()).unwrap())
}

fn row() -> Value {
    json!({"event_id": "e1", "product_id": "p1", "quantity": 5, "expected_version": 3,
           "occurred_at": "1970-01-01T00:00:01Z"})
}

fn read_one(mode: &str, change: impl FnOnce(&mut Value)) -> Result<String, Vec<(&'static str, Code)>> {
    let mut row = row();
    change(&mut row);
    let body = json!({"mode": mode, "updates": [row]}).to_string();
    let request = read(&body).unwrap();
    match &request.rows[0] {
        Ok(update) => Ok(format!("{:?} {:?}", update.amount, update.expected_version)),
        Err(fault) => Err(fault.errors.iter().map(|error| (error.pointer, error.code)).collect()),
    }
}

#[test]
fn every_mode_takes_what_it_can_use() {
    let delta = |number: Value| {
        move |row: &mut Value| {
            row["delta"] = number;
            row["quantity"] = Value::Null;
        }
    };
    assert_eq!(read_one("last_write_wins", |_| {}).unwrap(), "Quantity(5) None");
    assert_eq!(read_one("reject", |_| {}).unwrap(), "Quantity(5) Some(3)");
    assert_eq!(read_one("merge", delta(json!(-5))).unwrap(), "Delta(-5) None");
    assert_eq!(read_one("reject", delta(json!(7))).unwrap(), "Delta(7) Some(3)");
    let refused = |mode, change: &dyn Fn(&mut Value)| read_one(mode, change).unwrap_err();
    for (mode, name, value, code) in [
        ("merge", "quantity", json!(5), Code::NeedsDelta),
        ("reject", "quantity", json!(-1), Code::NegativeStock),
        ("reject", "quantity", json!(1.5), Code::NotAnInteger),
        ("reject", "quantity", json!("5"), Code::InvalidType),
        ("reject", "quantity", json!(1_u64 << 53), Code::OutOfRange),
        ("reject", "quantity", json!(u64::MAX), Code::OutOfRange),
        ("reject", "quantity", Value::Null, Code::MissingField),
        ("last_write_wins", "quantity", Value::Null, Code::MissingField),
        ("reject", "expected_version", Value::Null, Code::MissingField),
        ("reject", "expected_version", json!(-1), Code::OutOfRange),
        ("reject", "expected_version", json!("1"), Code::InvalidType),
        ("reject", "event_id", json!(""), Code::Empty),
        ("reject", "product_id", json!("x".repeat(201)), Code::TooLong),
        ("reject", "occurred_at", json!("2024-01-15T10:30:00"), Code::InvalidTimestamp),
        ("reject", "occurred_at", json!(7), Code::InvalidType),
    ] {
        let pointer = format!("/{name}");
        let errors = refused(mode, &|row: &mut Value| row[name] = value.clone());
        assert_eq!(errors, [(pointer.as_str(), code)], "{mode} {name} {value}");
    }
    let errors = refused("last_write_wins", &|row: &mut Value| delta(json!(1))(row));
    assert_eq!(errors, [("/delta", Code::NeedsQuantity)]);
    let errors = refused("reject", &|row: &mut Value| row["delta"] = json!(1));
    assert_eq!(errors, [("/delta", Code::QuantityAndDelta)]);
    let errors = refused("merge", &|row: &mut Value| *row = json!({}));
    assert_eq!(
        errors.iter().map(|(pointer, _)| *pointer).collect::<Vec<_>>(),
        ["/event_id", "/product_id", "/delta", "/occurred_at"]
    );
    assert_eq!(refused("merge", &|row: &mut Value| *row = json!([])), [("", Code::NotAnObject)]);
}

#[test]
fn a_repeated_member_is_refused_with_its_name_however_it_is_written() {
    let errors_of = |body: &str| {
        let errors = |errors: &FieldErrors| errors.iter().map(|error| (error.pointer, error.code)).collect();
        match read(body) {
            Err(StockBodyError::Fields(found)) => (None, errors(&found)),
            Ok(request) => match &request.rows[0] {
                Err(fault) => (fault.product_id.as_deref().map(str::to_owned), errors(&fault.errors)),
                Ok(update) => panic!("{update:?}"),
            },
            Err(other) => panic!("{other:?}"),
        }
    };
    let refused = |body: &str, product: Option<&str>, pointers: &[&'static str]| {
        let errors: Vec<_> = pointers.iter().map(|pointer| (*pointer, Code::RepeatedKey)).collect();
        assert_eq!(errors_of(body), (product.map(str::to_owned), errors), "{body}");
    };
    let rows = format!("[{}]", row());
    refused(&format!(r#"{{"mode":"merge","mode":"reject","updates":{rows}}}"#), None, &["/mode"]);
    refused(&format!(r#"{{"updates":[],"mode":"reject","up\u0064ates":{rows}}}"#), None, &["/updates"]);
    let with = |members: &str| {
        let row = row().to_string().replacen('{', &format!("{{{members},"), 1);
        format!(r#"{{"mode":"reject","updates":[{row}]}}"#)
    };
    refused(&with(r#""quantity":5"#), Some("p1"), &["/quantity"]);
    refused(&with(r#""quantity":null"#), Some("p1"), &["/quantity"]);
    refused(&with(r#""event\u005fid":"e2""#), Some("p1"), &["/event_id"]);
    refused(
        &with(r#""occurred_at":1,"expected_version":4"#),
        Some("p1"),
        &["/expected_version", "/occurred_at"],
    );
    // Two products are none.
    refused(&with(r#""event_id":"e1","product_id":"p2""#), None, &["/event_id", "/product_id"]);
    // A member that a row does not have may occur twice.
    assert!(read(&with(r#""note":1,"note":2"#)).unwrap().rows[0].is_ok());
}

#[test]
fn a_body_is_a_mode_and_some_updates() {
    let rows_of = |body: &str| read(body).map(|request| request.rows.len());
    let codes = |body: &str| match rows_of(body) {
        Err(StockBodyError::Fields(errors)) => {
            errors.iter().map(|error| (error.pointer, error.code)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(rows_of(" {\"x\":[1,{}],\"\\u006dode\":\"merge\",\"updates\":[ 1 , [],{} ]} "), Ok(3));
    assert_eq!(codes("[]"), [("", Code::NotAnObject)]);
    assert_eq!(codes("{}"), [("/mode", Code::MissingField), ("/updates", Code::MissingField)]);
    assert_eq!(
        codes("{\"mode\":\"x\",\"updates\":[]}"),
        [("/mode", Code::UnknownMode), ("/updates", Code::Empty)]
    );
    assert_eq!(
        codes("{\"mode\":1,\"updates\":{}}"),
        [("/mode", Code::InvalidType), ("/updates", Code::InvalidType)]
    );
    let rows = |count: usize| format!("{{\"updates\":[{}],\"mode\":\"merge\"}}", vec!["0"; count].join(","));
    assert_eq!(rows_of(&rows(STOCK_UPDATES_MAX)), Ok(STOCK_UPDATES_MAX));
    assert_eq!(rows_of(&rows(STOCK_UPDATES_MAX + 1)), Err(StockBodyError::TooManyRows));
}

proptest! {
    #[test]
    fn a_row_is_one_whatever_stands_around_it(
        id in "[a-z\"\\\\ü]{1,8}", quantity in 0..1000_i64, space in "[ \n\t]{0,3}", other in any::<String>(),
    ) {
        let row = json!({"event_id": id, "product_id": id, "quantity": quantity,
            "occurred_at": "1970-01-01T00:00:01Z", "note": other, "nested": [{"quantity": 1, "x": other}]});
        let body = format!("{{\"updates\":[{space}{row}{space},{space}{row}],\"note\":[\"]\"],\
            \"mode\":\"last_write_wins\"}}");
        let request = read(&body).unwrap();
        prop_assert_eq!(request.rows.len(), 2);
        for row in request.rows {
            let row = row.unwrap();
            prop_assert_eq!((&*row.event_id, &*row.product_id), (id.as_str(), id.as_str()));
            prop_assert_eq!((row.amount, row.occurred_at_us), (StockAmount::Quantity(quantity), 1_000_000));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Member::of(&body).map(|document| StockRequest::read(document).is_ok());
    }

    #[test]
    fn damage_never_panics(at in 0..200_usize, byte in any::<u8>(), cut in 0..240_usize) {
        let mut body = json!({"mode": "reject", "updates": [row(), row()]}).to_string().into_bytes();
        let at = at % body.len();
        body[at] = byte;
        body.truncate(cut);
        let _ = Member::of(&body).map(|document| StockRequest::read(document).is_ok());
    }
}
