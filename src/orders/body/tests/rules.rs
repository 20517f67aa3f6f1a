//! Tables of valid and invalid orders.

use super::*;
use crate::event::Code;

/// An order's or item's field, as a name and a raw value.
type Field = (&'static str, &'static str);

const FIELDS: [Field; 8] = [
    ("order_id", "\"o-1\""),
    ("tenant_id", "\"t-1\""),
    ("customer_id", "\"c-1\""),
    ("customer_name", "\"Ada\""),
    ("customer_email", "\"a@b\""),
    ("status", "\"paid\""),
    ("currency", "\"USD\""),
    ("ordered_at", "\"2024-01-15T10:30:00Z\""),
];
const ITEM_FIELDS: [Field; 4] =
    [("product_id", "\"p-1\""), ("category", "\"books\""), ("quantity", "2"), ("unit_price", "\"19.99\"")];

/// Returns an object with these fields, one of them with another raw value. `None` omits that field.
fn object(fields: &[Field], name: &str, value: Option<&str>) -> String {
    let members: Vec<String> = fields
        .iter()
        .filter_map(|&(field, own)| if field == name { value } else { Some(own) }.map(|raw| (field, raw)))
        .map(|(field, raw)| format!("\"{field}\":{raw}"))
        .collect();
    members.join(",")
}

/// Returns an order with another value for one of its own fields.
fn with(name: &str, value: Option<&str>) -> String {
    let item = object(&ITEM_FIELDS, "", None);
    format!("{{{},\"items\":[{{{item}}}]}}", object(&FIELDS, name, value))
}

/// Returns an order with these raw items.
fn with_items(items: &str) -> String {
    format!("{{{},\"items\":{items}}}", object(&FIELDS, "", None))
}

/// Returns an order whose second item has another value for one field.
fn with_item(name: &str, value: Option<&str>) -> String {
    let (good, item) = (object(&ITEM_FIELDS, "", None), object(&ITEM_FIELDS, name, value));
    with_items(&format!("[{{{good}}},{{{item}}},{{{good}}}]"))
}

fn faults(line: &str) -> Vec<(String, &'static str)> {
    match order(line) {
        Err(error @ OrderError::Fields(_)) => told(&error),
        other => panic!("{other:?}: {line}"),
    }
}

fn assert_fault(line: &str, pointer: &str, code: &str) {
    assert_eq!(faults(line), [(pointer.to_owned(), code)], "{line}");
}

#[test]
fn the_seed_order_is_read_and_borrowed() {
    assert_eq!(SEED.len(), 520);
    let mut decoder = OrderDecoder::new();
    let order = decoder.order(SEED.as_bytes()).unwrap();
    let line = SEED.as_bytes().as_ptr_range();
    assert!(line.contains(&order.order_id.as_ptr()));
    assert!(order.items().all(|item| line.contains(&item.product_id.as_ptr())));
    let item = |product: &str, category: &str, quantity, price| {
        (product.to_owned(), category.to_owned(), quantity, price)
    };
    let expected = Kept {
        texts: ["ord_2024_000123", "tenant_7", "cust_004711", "Ada Lovelace", "ada@example.com"]
            .map(str::to_owned),
        status: OrderStatus::Paid,
        currency: Currency::parse("USD").unwrap(),
        ordered_at_us: 1_705_314_600_000_000,
        total_minor: 2 * 1999 + 24_900 + 12 * 50,
        items: vec![
            item("prod_001", "books", 2, 1999),
            item("prod_002", "electronics", 1, 24_900),
            item("prod_003", "gardening tools", 12, 50),
        ],
    };
    assert_eq!(Kept::from(order), expected);
}

#[test]
fn a_text_has_as_many_bytes_as_it_may_and_no_control_character() {
    let own =
        [("order_id", 1, 200), ("tenant_id", 1, 200), ("customer_id", 1, 200), ("customer_name", 0, 200)];
    let of_items = [("product_id", 1, 200), ("category", 1, 100)];
    for (name, bytes_min, bytes_max, in_item) in own
        .map(|(name, min, max)| (name, min, max, false))
        .into_iter()
        .chain(of_items.map(|(name, min, max)| (name, min, max, true)))
    {
        let line = |value: Option<&str>| if in_item { with_item(name, value) } else { with(name, value) };
        let pointer = if in_item { format!("/items/1/{name}") } else { format!("/{name}") };
        let long = ["a".repeat(bytes_max), "\u{e9}".repeat(bytes_max / 2), r"\u0061".repeat(bytes_max)];
        let short = ["a", " ", "\u{a0}", "\u{1f600}", r"\u00e9", r"x\ud83d\ude00y", r#"\\\"\/"#];
        for text in short.into_iter().chain(long.iter().map(String::as_str)) {
            let value = format!("\"{text}\"");
            let kept = order(&line(Some(&value))).unwrap();
            let expected: String = serde_json::from_str(&value).unwrap();
            let read = match (name, kept) {
                ("product_id", kept) => kept.items[1].0.clone(),
                ("category", kept) => kept.items[1].1.clone(),
                (name, kept) => {
                    kept.texts[own.iter().position(|(field, ..)| *field == name).unwrap()].clone()
                }
            };
            assert_eq!(read, expected, "{name}");
        }
        for text in [
            "a".repeat(bytes_max + 1),
            "\u{e9}".repeat(bytes_max / 2) + "a",
            r"\u0061".repeat(bytes_max + 1),
            r"\u00e9".repeat(bytes_max / 2 + 1),
            "a".repeat(100_000),
        ] {
            assert_fault(&line(Some(&format!("\"{text}\""))), &pointer, "too_long");
        }
        match bytes_min {
            0 => assert!(order(&line(Some("\"\""))).is_ok()),
            _ => assert_fault(&line(Some("\"\"")), &pointer, "empty"),
        }
        for (value, code) in [
            (None, "missing_field"),
            (Some("null"), "invalid_type"),
            (Some("7"), "invalid_type"),
            (Some("[\"a\"]"), "invalid_type"),
            (Some("{}"), "invalid_type"),
            (Some(r#""\u0000""#), "control_character"),
            (Some(r#""a\n""#), "control_character"),
            (Some("\"\u{7f}\""), "control_character"),
            (Some("\"\u{80}\""), "control_character"),
            (Some(r#""\u0085""#), "control_character"),
            (Some(r#""\ud83d""#), "invalid_unicode"),
            (Some(r#""a\ude00""#), "invalid_unicode"),
            (Some(r#""\ud83d\u0061""#), "invalid_unicode"),
        ] {
            assert_fault(&line(value), &pointer, code);
        }
    }
}

#[test]
fn an_email_is_empty_or_has_an_at_sign_within() {
    let long = format!("{}@{}", "a".repeat(64), "b".repeat(255));
    for text in ["", "a@b", "a@b@", "@a@b", "a b@\u{e9}", r"a\u0040b", &long] {
        assert!(order(&with("customer_email", Some(&format!("\"{text}\"")))).is_ok(), "{text}");
    }
    for text in ["a", "@", "@@", "@a", "a@", "ab", r"\u0040a", r"a\u0040"] {
        let line = with("customer_email", Some(&format!("\"{text}\"")));
        assert_fault(&line, "/customer_email", "invalid_email");
    }
    for (value, code) in [
        (None, "missing_field"),
        (Some("null"), "invalid_type"),
        (Some(r#""a@\n""#), "control_character"),
        (Some(r#""a@\ud83d""#), "invalid_unicode"),
        (Some(&*format!("\"{long}b\"")), "too_long"),
    ] {
        assert_fault(&with("customer_email", value), "/customer_email", code);
    }
}

#[test]
fn names_are_those_of_the_lists_and_times_have_an_offset() {
    for status in OrderStatus::ALL {
        let line = with("status", Some(&format!("\"{}\"", status.as_str())));
        assert_eq!(order(&line).unwrap().status, status);
    }
    assert_eq!(order(&with("status", Some(r#""p\u0061id""#))).unwrap().status, OrderStatus::Paid);
    assert_eq!(order(&with("currency", Some(r#""\u0055SD""#))).unwrap().currency.as_str(), "USD");
    let leap = order(&with("ordered_at", Some("\"2016-12-31T23:59:60Z\""))).unwrap();
    assert_eq!(leap.ordered_at_us, 1_483_228_799_999_999);
    let shifted = order(&with("ordered_at", Some(r#""2024-01-15t11:30:00.000001\u002b01:00""#))).unwrap();
    assert_eq!(shifted.ordered_at_us, 1_705_314_600_000_001);
    for (name, value, code) in [
        ("status", None, "missing_field"),
        ("status", Some("1"), "invalid_type"),
        ("status", Some("\"\""), "unknown_status"),
        ("status", Some("\"Paid\""), "unknown_status"),
        ("status", Some(r#""\ud83d""#), "unknown_status"),
        ("currency", None, "missing_field"),
        ("currency", Some("840"), "invalid_type"),
        ("currency", Some("\"usd\""), "unknown_currency"),
        ("currency", Some("\"USDT\""), "unknown_currency"),
        ("currency", Some("\"XXX\""), "unknown_currency"),
        ("currency", Some(r#""US\ud83d""#), "unknown_currency"),
        ("ordered_at", None, "missing_field"),
        ("ordered_at", Some("1705314600"), "invalid_type"),
        ("ordered_at", Some("\"\""), "invalid_timestamp"),
        ("ordered_at", Some("\"2024-01-15T10:30:00\""), "invalid_timestamp"),
        ("ordered_at", Some("\"2024-02-30T10:30:00Z\""), "invalid_timestamp"),
        ("ordered_at", Some("\"9999-12-31T23:59:59Z\""), "out_of_range"),
    ] {
        assert_fault(&with(name, value), &format!("/{name}"), code);
    }
    let naive = order(&with("ordered_at", Some("\"2024-01-15T10:30:00\""))).unwrap_err();
    assert!(naive.to_string().contains("ordered_at must have an offset from UTC"));
}

#[test]
fn a_quantity_is_an_integer_from_one_to_a_milliard() {
    for (value, quantity) in [("1", 1), ("1000000000", 1_000_000_000)] {
        assert_eq!(order(&with_item("quantity", Some(value))).unwrap().items[1].2, quantity);
    }
    for (value, code) in [
        (None, "missing_field"),
        (Some("\"1\""), "invalid_type"),
        (Some("true"), "invalid_type"),
        (Some("null"), "invalid_type"),
        (Some("[1]"), "invalid_type"),
        (Some("1.0"), "not_an_integer"),
        (Some("1e3"), "not_an_integer"),
        (Some("-1E3"), "not_an_integer"),
        (Some("1e999"), "not_an_integer"),
        (Some("0"), "out_of_range"),
        (Some("-0"), "out_of_range"),
        (Some("-5"), "out_of_range"),
        (Some("1000000001"), "out_of_range"),
        (Some("4294967297"), "out_of_range"),
        (Some("18446744073709551617"), "out_of_range"),
        (Some("1234567890123456789012345678901234567890"), "out_of_range"),
    ] {
        assert_fault(&with_item("quantity", value), "/items/1/quantity", code);
    }
}

#[test]
fn a_price_has_no_more_digits_than_its_currency() {
    for (value, minor) in [
        ("\"19.99\"", 1999),
        ("19.99", 1999),
        ("\"5\"", 500),
        ("5", 500),
        ("\"0.5\"", 50),
        ("0", 0),
        ("\"19.9900\"", 1999),
        ("19.9900", 1999),
        ("1e2", 10_000),
        ("1999E-2", 1999),
        (r#""19\u002e99""#, 1999),
        ("0.00000000000000000000000000001e30", 1000),
        ("0e999", 0),
    ] {
        assert_eq!(order(&with_item("unit_price", Some(value))).unwrap().items[1].3, minor, "{value}");
    }
    for (value, code) in [
        (None, "missing_field"),
        (Some("null"), "invalid_type"),
        (Some("true"), "invalid_type"),
        (Some("{\"amount\":1}"), "invalid_type"),
        (Some("\"\""), "not_a_decimal"),
        (Some("\"NaN\""), "not_a_decimal"),
        (Some("\"+5\""), "not_a_decimal"),
        (Some("\" 5\""), "not_a_decimal"),
        (Some("\"1,000\""), "not_a_decimal"),
        (Some("\"1e2\""), "not_a_decimal"),
        (Some(r#""\ud83d""#), "not_a_decimal"),
        (Some("\"-5\""), "negative"),
        (Some("-0.01"), "negative"),
        (Some("\"19.999\""), "too_many_digits"),
        (Some("19.999"), "too_many_digits"),
        (Some("1e-3"), "too_many_digits"),
        (Some("92233720368547758.08"), "out_of_range"),
        (Some("1e999"), "out_of_range"),
    ] {
        assert_fault(&with_item("unit_price", value), "/items/1/unit_price", code);
    }
    for (currency, price, minor) in [
        ("JPY", "\"500\"", Some(500)),
        ("JPY", "1.5", None),
        ("KWD", "1.234", Some(1234)),
        ("CLF", "0.0001", Some(1)),
    ] {
        let item = object(&ITEM_FIELDS, "unit_price", Some(price));
        // The currency comes last and still counts.
        let head = object(&FIELDS, "currency", None);
        let line = format!("{{\"items\":[{{{item}}}],{head},\"currency\":\"{currency}\"}}");
        match minor {
            Some(minor) => assert_eq!(order(&line).unwrap().items[0].3, minor),
            None => assert_fault(&line, "/items/0/unit_price", "too_many_digits"),
        }
    }
    // Without a currency, the form of a price can be checked, but its number of digits cannot.
    let unknown = |price| with_item("unit_price", Some(price)).replace("USD", "???");
    for price in ["\"19.99999\"", "1e999", "92233720368547758.07"] {
        assert_fault(&unknown(price), "/currency", "unknown_currency");
    }
    for (price, code) in [("\"x\"", "not_a_decimal"), ("-1", "negative")] {
        let expected =
            [("/currency".to_owned(), "unknown_currency"), ("/items/1/unit_price".to_owned(), code)];
        assert_eq!(faults(&unknown(price)), expected);
    }
}

#[test]
fn the_total_is_exact_or_refused() {
    let item = |quantity: i64, price: &str| {
        format!(
            "{{\"product_id\":\"p\",\"category\":\"c\",\"quantity\":{quantity},\"unit_price\":\"{price}\"}}"
        )
    };
    let most = with_items(&format!("[{},{}]", item(1, "92233720368547758.06"), item(1, "0.01")));
    assert_eq!(order(&most).unwrap().total_minor, i64::MAX);
    let milliard = with_items(&format!("[{}]", item(1_000_000_000, "92233720.36")));
    assert_eq!(order(&milliard).unwrap().total_minor, 9_223_372_036_000_000_000);
    for items in [
        format!("[{},{}]", item(1, "92233720368547758.07"), item(1, "0.01")),
        format!("[{}]", item(1_000_000_000, "92233720.37")),
        format!("[{}]", item(1_000_000_000, "92233720368547758.07")),
    ] {
        assert_fault(&with_items(&items), "/items", "total_too_large");
    }
}

#[test]
fn an_order_has_one_to_a_thousand_items() {
    let item = format!("{{{}}}", object(&ITEM_FIELDS, "", None));
    let items = |count: usize| with_items(&format!("[ {} ]", vec![&*item; count].join(" , ")));
    let kept = order(&items(ORDER_ITEMS_MAX)).unwrap();
    assert_eq!((kept.items.len(), kept.total_minor), (1000, 1000 * 2 * 1999));
    assert_fault(&items(ORDER_ITEMS_MAX + 1), "/items", "too_many_items");
    assert_fault(&items(20_000), "/items", "too_many_items");
    // If there are too many items, only the errors in the order's own fields are listed, not those in the items.
    let broken = with_items(&format!("[{}1]", "1,".repeat(2000))).replace("\"paid\"", "\"?\"");
    let expected = [("/status".to_owned(), "unknown_status"), ("/items".to_owned(), "too_many_items")];
    assert_eq!(faults(&broken), expected);
    for (value, code) in [
        ("[]", "empty_items"),
        ("[ \n ]", "empty_items"),
        ("{}", "invalid_type"),
        ("null", "invalid_type"),
        ("\"[]\"", "invalid_type"),
    ] {
        assert_fault(&with_items(value), "/items", code);
    }
    assert_fault(&format!("{{{}}}", object(&FIELDS, "", None)), "/items", "missing_field");
    let mixed = with_items(&format!("[1,[{item},[]],{item},null,\"{{}}\",{{}},{item}]"));
    let not_an_object = [0, 1, 3, 4].map(|index| (format!("/items/{index}"), "not_an_object"));
    let missing = ["product_id", "category", "quantity", "unit_price"]
        .map(|name| (format!("/items/5/{name}"), "missing_field"));
    assert_eq!(faults(&mixed), [&not_an_object[..], &missing[..]].concat());
}

#[test]
fn every_broken_field_is_told_up_to_twenty() {
    let expected: Vec<_> = FIELDS.iter().map(|(name, _)| (format!("/{name}"), "missing_field")).collect();
    assert_eq!(faults("{}")[..8], expected);
    assert_eq!(faults("{}")[8], ("/items".to_owned(), "missing_field"));
    for line in ["[]", "7", "\"{}\"", "null", " 1e999 ", r#""\ud83d""#] {
        assert_fault(line, "", "not_an_object");
    }
    for (count, is_cut) in [(20, false), (21, true), (1000, true)] {
        let line = with_items(&format!("[{}]", vec!["0"; count].join(",")));
        let Err(OrderError::Fields(faults)) = order(&line) else { panic!("{line}") };
        assert_eq!((faults.len(), faults.is_cut()), (20, is_cut));
        assert_eq!(faults[19].pointer.to_string(), "/items/19");
        assert_eq!(faults.to_string().ends_with("; and more"), is_cut);
    }
    let error = order(&with_item("quantity", Some("0")).replace("\"paid\"", "1")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the JSON is not a valid order: status must be a string; \
         /items/1/quantity: quantity must be from 1 to 1000000000"
    );
    assert_eq!(error.code(), Code::InvalidType);
}

#[test]
fn an_error_has_the_id_of_the_order_and_no_other_text() {
    for (value, id) in [
        ("\"o-7\"", Some("o-7")),
        (r#""\u006f-7""#, Some("o-7")),
        ("\"\"", None),
        ("7", None),
        ("\"\\n\"", None),
    ] {
        let line = with("order_id", Some(value)).replace("\"paid\"", "\"secret\"");
        let error = order(&line).unwrap_err();
        assert_eq!(error.order_id(), id);
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
    for line in ["{\"order_id\":\"o-7\"", "7"] {
        assert_eq!(order(line).unwrap_err().order_id(), None);
    }
    let line = with_item("category", Some("[\"secret\"]")).replace("Ada", "secret").replace("t-1", "secret");
    assert!(!format!("{:?}", order(&line).unwrap_err()).contains("secret"));
}

#[test]
fn a_known_key_that_comes_twice_is_a_fault_however_it_is_spelled() {
    // Unknown keys may be repeated. A known key may occur again in a nested object.
    let line = SEED.replacen('{', r#"{"items ":7,"items ":1,"other":[{"order_id":"x"}],"#, 1);
    assert!(order(&line).is_ok());
    for (line, pointer) in [
        (SEED.replacen('{', r#"{"order_id":"x","#, 1), "/order_id"),
        (SEED.replacen('{', r#"{"\u006frder_id":"x","#, 1), "/order_id"),
        (SEED.replacen("\"paid\"", r#""x","st\u0061tus":"shipped""#, 1), "/status"),
        (SEED.replacen("]}", r#"],"\u0069tems":[]}"#, 1), "/items"),
        (SEED.replacen("]}", "],\"items\":null}", 1), "/items"),
        (
            SEED.replacen("\"quantity\": 2", r#""quantity":{"a":[]},"qu\u0061ntity":3"#, 1),
            "/items/0/quantity",
        ),
        (SEED.replacen("\"quantity\": 2", r#""quantity":2,"unit_price":"1""#, 1), "/items/0/unit_price"),
    ] {
        let error = order(&line).unwrap_err();
        let first = &error.faults()[0];
        assert_eq!(
            (first.pointer.to_string().as_str(), first.code.as_str()),
            (pointer, "repeated_key"),
            "{line}"
        );
    }
}

#[test]
fn what_is_no_json_or_too_deep_is_told_as_such() {
    let code = |line: &[u8]| match OrderDecoder::new().order(line) {
        Err(OrderError::Line(error)) => error.code().as_str(),
        other => panic!("{other:?}"),
    };
    assert_eq!(code(b""), "empty");
    assert_eq!(code(b"  "), "not_json");
    assert_eq!(code(SEED.replace("12,", "012,").as_bytes()), "not_json");
    assert_eq!(code(format!("{SEED}{SEED}").as_bytes()), "not_json");
    assert_eq!(code(b"{\"order_id\":\"\xff\"}"), "not_utf8");
    let deep = |depth: usize| {
        SEED.replacen('{', &format!("{{\"ignored\":{}{},", "[".repeat(depth), "]".repeat(depth)), 1)
    };
    assert!(order(&deep(127)).is_ok());
    assert_eq!(code(deep(128).as_bytes()), "too_deep");
    let in_item = with_item("category", Some(&format!("{}{}", "[".repeat(125), "]".repeat(125))));
    assert_fault(&in_item, "/items/1/category", "invalid_type");
    assert_eq!(code(format!("{{\"items\":{}", "[{\"a\":".repeat(100_000)).as_bytes()), "too_deep");
}

#[test]
fn a_line_has_at_most_two_mebibytes() {
    let padded = |bytes: usize| SEED.replacen('{', &format!("{{{}", " ".repeat(bytes - SEED.len())), 1);
    assert_eq!(order(&padded(ORDER_BYTES_MAX)), order(SEED));
    assert_fault(&padded(ORDER_BYTES_MAX + 1), "", "too_large");
    // The largest possible order is valid.
    let text = |bytes: usize| r"\u0061".repeat(bytes);
    let item = format!(
        "{{\"product_id\":\"{}\",\"category\":\"{}\",\"quantity\":1,\"unit_price\":\"1\"}}",
        text(200),
        text(100)
    );
    let line = with_items(&format!("[{}]", vec![&*item; ORDER_ITEMS_MAX].join(",")));
    assert!(line.len() < ORDER_BYTES_MAX);
    let mut decoder = OrderDecoder::new();
    let order = decoder.order(line.as_bytes()).unwrap();
    assert!(order.items().all(|item| item.product_id == "a".repeat(200) && item.category == "a".repeat(100)));
    assert!(decoder.order.unescaped.capacity() >= 300_000);
    decoder.order(SEED.as_bytes()).unwrap();
    assert!(decoder.order.unescaped.capacity() <= BYTES_KEPT);
}

#[test]
fn the_buffers_of_one_order_serve_the_next() {
    let line = SEED.replace("books", r"b\u00f6oks").replace("Ada", r"\u0041da");
    let mut decoder = OrderDecoder::new();
    let places = |decoder: &OrderDecoder| (decoder.order.items.as_ptr(), decoder.order.unescaped.as_ptr());
    let expected = Kept::from(decoder.order(line.as_bytes()).unwrap());
    let before = places(&decoder);
    for _ in 0..100 {
        assert_eq!(Kept::from(decoder.order(line.as_bytes()).unwrap()), expected);
        assert!(decoder.order(b"{\"order_id\":\"\\u0041\",\"items\":[{\"category\":\"\\u0041\"}]}").is_err());
    }
    assert_eq!(places(&decoder), before);
    // A line that makes the parser's buffers large is still parsed, and the buffers are freed.
    let large = line.replacen('{', &format!("{{\"ignored\":[{}0],", "0,".repeat(100_000)), 1);
    assert_eq!(Kept::from(decoder.order(large.as_bytes()).unwrap()), expected);
    assert!(decoder.decoder.bytes_kept() < BYTES_KEPT);
}
