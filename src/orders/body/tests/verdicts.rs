//! Compares the decoder with serde_json and the rules in the contract, on valid orders, invalid orders and arbitrary
//! bytes.

use std::cell::Cell;
use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::value::RawValue;

use super::*;
use crate::base::limits::JSON_DEPTH_MAX;
use crate::event::{TimeError, is_deeper_than, parse_rfc3339};

type Faults = Vec<(String, &'static str)>;
type Fields<'b> = HashMap<String, &'b RawValue>;

/// An object's keys, in the order of the object.
struct Keys(Vec<String>);

impl<'de> serde::Deserialize<'de> for Keys {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Keys, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Keys;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Parses fields and records their errors.
struct Reader {
    faults: Faults,
}

impl Reader {
    fn fault<T>(&mut self, at: &str, name: &str, code: &'static str) -> Option<T> {
        self.faults.push((format!("{at}/{name}"), code));
        None
    }

    fn raw<'b>(&mut self, fields: &Fields<'b>, at: &str, name: &str) -> Option<&'b str> {
        match fields.get(name) {
            Some(raw) => Some(raw.get()),
            None => self.fault(at, name, "missing_field"),
        }
    }

    /// Returns the string, or `Err` if serde_json cannot parse it because of a lone surrogate.
    fn string(&mut self, fields: &Fields<'_>, at: &str, name: &str) -> Option<Result<String, ()>> {
        let raw = self.raw(fields, at, name)?;
        if !raw.starts_with('"') {
            return self.fault(at, name, "invalid_type");
        }
        Some(serde_json::from_str(raw).map_err(|_| ()))
    }

    fn text(&mut self, fields: &Fields<'_>, at: &str, name: &str, min: usize, max: usize) -> Option<String> {
        match self.string(fields, at, name)? {
            Err(()) => self.fault(at, name, "invalid_unicode"),
            Ok(text) if text.len() < min => self.fault(at, name, "empty"),
            Ok(text) if text.len() > max => self.fault(at, name, "too_long"),
            Ok(text) if text.chars().any(char::is_control) => self.fault(at, name, "control_character"),
            Ok(text) => Some(text),
        }
    }

    fn email(&mut self, fields: &Fields<'_>) -> Option<String> {
        let text = self.text(fields, "", "customer_email", 0, 320)?;
        let inner: String = text.chars().skip(1).take(text.chars().count().saturating_sub(2)).collect();
        if text.is_empty() || inner.contains('@') {
            Some(text)
        } else {
            self.fault("", "customer_email", "invalid_email")
        }
    }

    fn ordered_at(&mut self, fields: &Fields<'_>) -> Option<i64> {
        let text = self.string(fields, "", "ordered_at")?;
        match text.map(|text| parse_rfc3339(text.as_bytes())) {
            Ok(Ok(time)) => Some(time),
            Ok(Err(TimeError::OutOfRange)) => self.fault("", "ordered_at", "out_of_range"),
            _ => self.fault("", "ordered_at", "invalid_timestamp"),
        }
    }

    fn quantity(&mut self, fields: &Fields<'_>, at: &str) -> Option<i64> {
        let raw = self.raw(fields, at, "quantity")?;
        if !raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return self.fault(at, "quantity", "invalid_type");
        }
        if raw.contains(['.', 'e', 'E']) {
            return self.fault(at, "quantity", "not_an_integer");
        }
        match raw.parse() {
            Ok(quantity @ 1..=1_000_000_000) => Some(quantity),
            _ => self.fault(at, "quantity", "out_of_range"),
        }
    }

    fn price(&mut self, fields: &Fields<'_>, at: &str, digits: Option<u8>) -> Option<i128> {
        let raw = self.raw(fields, at, "unit_price")?;
        let text = if raw.starts_with('"') {
            match serde_json::from_str::<String>(raw) {
                Ok(text) if is_decimal(&text) => text,
                _ => return self.fault(at, "unit_price", "not_a_decimal"),
            }
        } else if raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            raw.to_owned()
        } else {
            return self.fault(at, "unit_price", "invalid_type");
        };
        if text.starts_with('-') {
            return self.fault(at, "unit_price", "negative");
        }
        match (minor_units(&text, digits.unwrap_or(4)), digits) {
            (Ok(minor), _) => Some(minor),
            (Err(_), None) => Some(0),
            (Err(code), Some(_)) => self.fault(at, "unit_price", code),
        }
    }

    /// Records the first repeated known key.
    fn repeated(&mut self, raw: &RawValue, at: &str, known: &[&str]) {
        let Ok(Keys(keys)) = serde_json::from_str(raw.get()) else { return };
        let is_repeated =
            |(place, key): &(usize, &String)| known.contains(&key.as_str()) && keys[..*place].contains(key);
        if let Some((_, key)) = keys.iter().enumerate().find(is_repeated) {
            self.faults.push((format!("{at}/{key}"), "repeated_key"));
        }
    }

    fn item(&mut self, raw: &RawValue, at: &str, digits: Option<u8>) -> Option<(String, String, i64, i128)> {
        if !raw.get().starts_with('{') {
            self.faults.push((at.to_owned(), "not_an_object"));
            return None;
        }
        let fields: Fields<'_> = serde_json::from_str(raw.get()).expect("keys are read before");
        let faults = self.faults.len();
        self.repeated(raw, at, &["product_id", "category", "quantity", "unit_price"]);
        let is_repeated = self.faults.len() > faults;
        let product = self.text(&fields, at, "product_id", 1, 200);
        let category = self.text(&fields, at, "category", 1, 100);
        let quantity = self.quantity(&fields, at);
        let price = self.price(&fields, at, digits);
        let item = (product?, category?, quantity?, price?);
        (!is_repeated).then_some(item)
    }
}

/// Returns `true` if the string matches `-?[0-9]+(\.[0-9]+)?`.
fn is_decimal(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    match text.split_once('.') {
        None => is_digits(text),
        Some((whole, fraction)) => is_digits(whole) && is_digits(fraction),
    }
}

/// Returns a non-negative decimal in minor units, by moving the point in its digits.
fn minor_units(text: &str, digits: u8) -> Result<i128, &'static str> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        None => (text, 0),
        // The exponent is clamped to 10,000 digits in either direction. No string here is that long.
        Some((mantissa, exponent)) => {
            let far = if exponent.starts_with('-') { -10_000 } else { 10_000 };
            (mantissa, exponent.parse::<i64>().unwrap_or(far).clamp(-10_000, 10_000))
        }
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut all = format!("{whole}{fraction}");
    let mut point = whole.len() as i64 + exponent + i64::from(digits);
    if all.bytes().all(|digit| digit == b'0') {
        return Ok(0);
    }
    while point < 0 {
        all.insert(0, '0');
        point += 1;
    }
    while (all.len() as i64) < point {
        all.push('0');
    }
    let (minor, rest) = all.split_at(point as usize);
    if rest.bytes().any(|digit| digit != b'0') {
        return Err("too_many_digits");
    }
    let minor = minor.trim_start_matches('0');
    match if minor.is_empty() { Ok(0) } else { minor.parse::<i64>() } {
        Ok(minor) => Ok(i128::from(minor)),
        Err(_) => Err("out_of_range"),
    }
}

/// Returns the expected order or errors. Returns `None` if serde_json cannot decide: the line is not JSON, has keys
/// that are not strings, or is nested too deeply.
fn expected(line: &[u8]) -> Option<Result<Kept, Faults>> {
    if is_deeper_than(line, JSON_DEPTH_MAX) {
        return None;
    }
    let value: &RawValue = serde_json::from_slice(line).ok()?;
    if !value.get().starts_with('{') {
        return Some(Err(vec![(String::new(), "not_an_object")]));
    }
    let fields: Fields<'_> = serde_json::from_slice(line).ok()?;
    let items: Option<Vec<&RawValue>> =
        fields.get("items").and_then(|raw| serde_json::from_str(raw.get()).ok());
    for item in items.iter().flatten().filter(|item| item.get().starts_with('{')) {
        serde_json::from_str::<Fields<'_>>(item.get()).ok()?;
    }

    let mut reader = Reader { faults: Vec::new() };
    reader.repeated(
        value,
        "",
        &[
            "order_id",
            "tenant_id",
            "customer_id",
            "customer_name",
            "customer_email",
            "status",
            "currency",
            "ordered_at",
            "items",
        ],
    );
    let order_id = reader.text(&fields, "", "order_id", 1, 200);
    let tenant_id = reader.text(&fields, "", "tenant_id", 1, 200);
    let customer_id = reader.text(&fields, "", "customer_id", 1, 200);
    let customer_name = reader.text(&fields, "", "customer_name", 0, 200);
    let customer_email = reader.email(&fields);
    let status = reader.string(&fields, "", "status").and_then(|name| {
        let status =
            name.ok().and_then(|name| OrderStatus::ALL.into_iter().find(|status| status.as_str() == name));
        status.or_else(|| reader.fault("", "status", "unknown_status"))
    });
    let currency = reader.string(&fields, "", "currency").and_then(|code| {
        let currency = code.ok().and_then(|code| Currency::all().find(|currency| currency.as_str() == code));
        currency.or_else(|| reader.fault("", "currency", "unknown_currency"))
    });
    let ordered_at_us = reader.ordered_at(&fields);
    let mut total = 0_i128;
    let mut kept = Vec::new();
    match (reader.raw(&fields, "", "items"), items) {
        (None, _) => {}
        (Some(_), None) => reader.fault("", "items", "invalid_type").unwrap_or_default(),
        (Some(_), Some(items)) if items.is_empty() => {
            reader.fault("", "items", "empty_items").unwrap_or_default()
        }
        (Some(_), Some(items)) => {
            let count = items.len();
            for (index, item) in items.into_iter().enumerate() {
                let at = format!("/items/{index}");
                if let Some((product, category, quantity, price)) =
                    reader.item(item, &at, currency.map(Currency::digits))
                {
                    total += i128::from(quantity) * price;
                    kept.push((product, category, quantity, price as i64));
                }
            }
            if kept.len() == count && currency.is_some() && total > i128::from(i64::MAX) {
                reader.fault("", "items", "total_too_large").unwrap_or_default()
            }
        }
    }
    if !reader.faults.is_empty() {
        return Some(Err(reader.faults));
    }
    Some(Ok(Kept {
        texts: [order_id?, tenant_id?, customer_id?, customer_name?, customer_email?],
        status: status?,
        currency: currency?,
        ordered_at_us: ordered_at_us?,
        total_minor: total as i64,
        items: kept,
    }))
}

/// Asserts that the decoder and the rules agree. Returns `true` if the line is an order.
fn assert_agrees(decoder: &mut OrderDecoder, line: &[u8]) -> bool {
    let verdict = decoder.order(line).map(Kept::from);
    let text = String::from_utf8_lossy(line);
    match (expected(line), &verdict) {
        (Some(Ok(kept)), _) => assert_eq!(verdict, Ok(kept), "{text}"),
        (Some(Err(mut faults)), Err(error @ OrderError::Fields(found))) => {
            assert_eq!(found.is_cut(), faults.len() > ORDER_FAULTS_MAX, "{text}");
            faults.truncate(ORDER_FAULTS_MAX);
            assert_eq!(told(error), faults, "{text}");
        }
        (Some(Err(faults)), _) => panic!("{verdict:?}, {faults:?}: {text}"),
        (None, Err(OrderError::Line(DecodeError::TooDeep))) => assert!(is_deeper_than(line, JSON_DEPTH_MAX)),
        (None, Err(OrderError::Line(_))) => {
            assert!(serde_json::from_slice::<&RawValue>(line).is_err(), "{text}")
        }
        (None, _) => assert!(serde_json::from_slice::<&RawValue>(line).is_ok(), "{text}"),
    }
    verdict.is_ok()
}

#[test]
fn a_line_cut_anywhere_or_with_a_flipped_bit_gets_the_verdict_of_the_rules() {
    let mut decoder = OrderDecoder::new();
    let numbers =
        SEED.replace("\"19.99\"", "19.99").replace("\"249.00\"", "24900e-2").replace("Ada", r"\u0041d\n");
    let mut good = 0;
    for line in [SEED, &numbers] {
        for at in 0..line.len() {
            assert_agrees(&mut decoder, &line.as_bytes()[..at]);
            for bit in 0..8 {
                let mut line = line.as_bytes().to_vec();
                line[at] ^= 1 << bit;
                good += usize::from(assert_agrees(&mut decoder, &line));
            }
        }
    }
    assert!(good > 500, "{good}");
}

/// Returns a JSON string literal, plain or with every character escaped.
fn quoted(text: &str, is_escaped: bool) -> String {
    if is_escaped {
        format!("\"{}\"", text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>())
    } else {
        serde_json::to_string(text).expect("a string")
    }
}

/// Generates a value that is rarely valid for any field.
fn junk() -> impl Strategy<Value = String> {
    let texts = [
        "null",
        "true",
        "{}",
        "[]",
        "[[{\"a\":1}]]",
        "\"\"",
        "\"@\"",
        "7",
        "-1",
        "1.5",
        "1e999",
        "0",
        "\"\\ud83d\"",
        "\"a\\u0000\"",
        "\"-1\"",
        "\"1e2\"",
        "\" 1\"",
        "99999999999999999999",
        "\"0.00001\"",
        "{\"items\":[1]}",
    ];
    prop_oneof![
        prop::sample::select(texts.map(str::to_owned).to_vec()),
        (any::<String>(), any::<bool>()).prop_map(|(text, is_escaped)| quoted(&text, is_escaped)),
        ("[ -~]{90,330}", Just(false)).prop_map(|(text, is_escaped)| quoted(&text, is_escaped)),
    ]
}

fn text(pattern: &'static str) -> impl Strategy<Value = String> {
    (pattern, prop::bool::weighted(0.1)).prop_map(|(text, is_escaped)| quoted(&text, is_escaped))
}

/// Generates a member: its key, rarely with escapes, and a value that is rarely junk. The member is rarely missing or
/// repeated.
fn member(name: &'static str, value: impl Strategy<Value = String> + 'static) -> BoxedStrategy<Vec<String>> {
    let value = prop_oneof![60 => value, 1 => junk()];
    let key = prop::bool::weighted(0.03).prop_map(move |is_escaped| quoted(name, is_escaped));
    let one = (key, value, "[ \t\r\n]{0,2}", "[ \t\r\n]{0,2}")
        .prop_map(|(key, value, before, after)| format!("{before}{key}{after}:{before}{value}{after}"))
        .boxed();
    prop_oneof![
        1 => prop::collection::vec(one.clone(), 0),
        100 => prop::collection::vec(one.clone(), 1),
        3 => prop::collection::vec(one, 2),
    ]
    .boxed()
}

/// Generates an object with such members, in any order and mixed with unknown members.
fn any_object(members: Vec<BoxedStrategy<Vec<String>>>) -> impl Strategy<Value = String> {
    let others = prop::collection::vec(("[a-z]{0,3}", junk()), 0..2)
        .prop_map(|others| others.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect())
        .boxed();
    let members = members.into_iter().chain([others]).collect::<Vec<_>>();
    let flat = members.prop_map(|members| members.concat());
    flat.prop_shuffle().prop_map(|members| format!("{{{}}}", members.join(",")))
}

fn any_item() -> impl Strategy<Value = String> {
    let price = prop_oneof![
        "[0-9]{1,6}(\\.[0-9]{1,2}0{0,3})?".prop_map(|text| format!("\"{text}\"")),
        "(0|[1-9][0-9]{0,5})(\\.[0-9]{1,2}0{0,3})?",
        "(0|[1-9][0-9]{0,3})(\\.[0-9])?[eE](\\+?[0-4]|-1)",
        "(0|[1-9][0-9]{0,18})",
        "[0-9]{1,20}(\\.[0-9]{1,5})?".prop_map(|text| format!("\"{text}\"")),
    ];
    let quantity =
        prop_oneof![9 => 1..1000_i64, 1 => 0..=1_000_000_001_i64].prop_map(|count| count.to_string());
    let object = any_object(vec![
        member("product_id", text("[ -~\u{e9}\u{1f600}]{1,20}")),
        member("category", text("[a-z\u{e9}]{1,20}")),
        member("quantity", quantity),
        member("unit_price", price),
    ]);
    prop_oneof![60 => object, 1 => junk()]
}

fn any_order() -> impl Strategy<Value = String> {
    let items = prop::collection::vec(any_item(), 0..6).prop_map(|items| format!("[{}]", items.join(" , ")));
    let currencies = ["USD", "EUR", "USD", "JPY", "KWD", "CLF", "usd"].map(|code| quoted(code, false));
    let statuses: Vec<String> =
        OrderStatus::ALL.iter().map(|status| quoted(status.as_str(), false)).collect();
    any_object(vec![
        member("order_id", text("[ -~\u{e9}\u{1f600}]{1,20}")),
        member("tenant_id", text("[a-z0-9]{1,20}")),
        member("customer_id", text("[a-z0-9]{1,20}")),
        member("customer_name", text("[ -~\u{e9}\u{1f600}]{0,20}")),
        member("customer_email", text("([a-z\u{e9}]{1,5}@[a-z]{1,5})?")),
        member("status", prop::sample::select(statuses)),
        member("currency", prop::sample::select(currencies.to_vec())),
        member("ordered_at", text("20[0-9]{2}-0[1-9]-[01][1-9]T[01][0-9]:[0-5][0-9]:[0-5][0-9](Z|\\+02:00)")),
        member("items", items),
    ])
}

#[test]
fn any_order_gets_the_verdict_of_the_rules() {
    let (good, bad) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(1000));
    let verdict = runner.run(&any_order(), |line| {
        let count = if assert_agrees(&mut OrderDecoder::new(), line.as_bytes()) { &good } else { &bad };
        count.set(count.get() + 1);
        Ok(())
    });
    assert_eq!(verdict, Ok(()));
    let (good, bad) = (good.get(), bad.get());
    assert!(good > 100 && bad > 100, "{good} orders, {bad} others");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn mutated_orders_get_the_verdict_of_the_rules(
        line in prop_oneof![Just(SEED.to_owned()), any_order()],
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            any::<u8>(), prop::sample::select(b"{}[]\":,\\u0-.eE tn\n".to_vec())
        ]), 1..5),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut line = line.into_bytes();
        for (at, byte) in edits {
            let at = at.index(line.len());
            line[at] = byte;
        }
        if let Some(cut) = cut {
            line.truncate(cut.index(line.len()));
        }
        assert_agrees(&mut OrderDecoder::new(), &line);
    }

    #[test]
    fn both_ways_find_the_same_order(line in any_order()) {
        let mut decoder = OrderDecoder::new();
        let first = decoder.order(line.as_bytes()).map(Kept::from);
        // A value that simd-json refuses and that no rule reads.
        let comma = if line == "{}" { "" } else { "," };
        let line = line.replacen('{', &format!("{{\"ignored\":1e999{comma}"), 1);
        prop_assert_eq!(decoder.order(line.as_bytes()).map(Kept::from), first);
    }
}
