//! Requests about prices: a price event's body, a decision, and the parameters of an anomaly list.

use std::borrow::Cow;

use super::read::{AnomalyFilter, AnomalyStatus};
use super::record::Decision;
use crate::api::members::{Fault, Member, Members, REPEATED};
use crate::base::limits::IDENTIFIER_BYTES_MAX;
use crate::base::money::{Currency, MoneyError, parse_decimal, parse_number};
use crate::event::{self, FieldError, parse_rfc3339};
use crate::query::{LAST_EVENT_ID, ParameterError, Parameters, Period};

/// The default number of anomalies in a response.
const LIMIT: usize = 100;
/// The maximum number of anomalies in a response.
pub(super) const ANOMALIES_MAX: usize = 1_000;
/// The maximum time by which a price may be ahead of the server's clock. Without this limit, a price with the wrong
/// year would remain the newest accepted price until that year, and every other price would be late.
const AHEAD_US: i64 = 366 * 86_400_000_000;

/// A price event as sent by a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PriceEvent<'b> {
    /// The event's id, or `None` if a header contains it.
    pub event_id: Option<Cow<'b, str>>,
    /// The price in minor units.
    pub price: i64,
    pub currency: Currency,
    pub observed_us: i64,
}

fn fault<T>(pointer: &'static str, code: &'static str, detail: &'static str) -> Result<T, Fault> {
    Err(Fault { pointer, code, detail })
}

fn event_id(value: Option<Member<'_>>) -> Result<Option<Cow<'_, str>>, Fault> {
    let Some(value) = value else { return Ok(None) };
    let Some(text) = value.text() else {
        return fault("/event_id", "invalid_type", "event_id must be a string");
    };
    if !(1..=IDENTIFIER_BYTES_MAX).contains(&text.len()) || text.chars().any(char::is_control) {
        return fault(
            "/event_id",
            "invalid_text",
            "event_id must have 1 to 200 bytes without control characters",
        );
    }
    Ok(Some(text))
}

fn currency(value: Option<Member<'_>>) -> Result<Currency, Fault> {
    let Some(value) = value else { return fault("/currency", "missing_field", "currency is required") };
    match value.text().as_deref().and_then(Currency::parse) {
        Some(currency) => Ok(currency),
        None => {
            fault("/currency", "unknown_currency", "currency must be an active ISO 4217 code, in capitals")
        }
    }
}

/// Parses a price. `digits` is the number of decimal digits in the event's currency. If the currency is invalid,
/// `digits` is the maximum over all currencies.
fn price(value: Option<Member<'_>>, digits: u8) -> Result<i64, Fault> {
    let Some(value) = value else { return fault("/price", "missing_field", "price is required") };
    let parsed = match value.bytes() {
        [b'"', ..] => match value.text() {
            Some(text) => parse_decimal(text.as_bytes(), digits),
            None => Err(MoneyError::NotADecimal),
        },
        number @ [b'-' | b'0'..=b'9', ..] => parse_number(number, digits),
        _ => return fault("/price", "invalid_type", "price must be a decimal string or a number"),
    };
    parsed.or_else(|error| match error {
        MoneyError::NotADecimal => fault(
            "/price",
            "not_a_decimal",
            "price must be a decimal number such as \
                                                                     19.99",
        ),
        MoneyError::Negative => fault("/price", "out_of_range", "price must not be negative"),
        MoneyError::TooManyDigits => fault(
            "/price",
            "too_many_digits",
            "price must not have more digits after the point than its \
                                                currency has",
        ),
        MoneyError::TooLarge => {
            fault("/price", "out_of_range", "price must be at most 9223372036854775807 minor units")
        }
    })
}

fn observed(value: Option<Member<'_>>, now_us: i64) -> Result<i64, Fault> {
    const POINTER: &str = "/observed_at";
    let Some(value) = value else { return fault(POINTER, "missing_field", "observed_at is required") };
    let at = value.text().and_then(|text| parse_rfc3339(text.as_bytes()).ok());
    match at {
        None => fault(
            POINTER,
            "invalid_timestamp",
            "observed_at must be RFC 3339 with an offset, such as 2024-01-15T10:30:00Z",
        ),
        Some(at) if at > now_us.saturating_add(AHEAD_US) => {
            fault(POINTER, "out_of_range", "observed_at must be at most a year ahead")
        }
        Some(at) => Ok(at),
    }
}

impl<'b> PriceEvent<'b> {
    /// Parses the body of `…/price-event`. Unknown members are ignored.
    ///
    /// # Errors
    /// Returns every invalid member.
    pub(super) fn read(body: Member<'b>, now_us: i64) -> Result<PriceEvent<'b>, Vec<Fault>> {
        let Some(mut members) = body.members() else {
            let detail = "the body must be a JSON object";
            return Err(vec![Fault { pointer: "", code: "not_an_object", detail }]);
        };
        let repeated = repeated(&members);
        if !repeated.is_empty() {
            return Err(repeated);
        }
        let mut member = |pointer: &'static str| members.take(&pointer[1..], pointer, &mut |_, _, _| {});
        let currency = currency(member("/currency"));
        let digits = currency.map_or(Currency::DIGITS_MAX, Currency::digits);
        let read = (
            event_id(member("/event_id")),
            price(member("/price"), digits),
            currency,
            observed(member("/observed_at"), now_us),
        );
        match read {
            (Ok(event_id), Ok(price), Ok(currency), Ok(observed_us)) => {
                Ok(PriceEvent { event_id, price, currency, observed_us })
            }
            (event_id, price, currency, observed) => {
                let faults = [event_id.err(), price.err(), currency.err(), observed.err()];
                Err(faults.into_iter().flatten().collect())
            }
        }
    }
}

/// Returns the error for each known member that is repeated.
fn repeated(members: &Members<'_>) -> Vec<Fault> {
    let known = ["/event_id", "/price", "/currency", "/observed_at"].map(event::repeated);
    let repeated = known.iter().filter(|error| members.has_repeated(&error.pointer[1..]));
    let fault = |error: &FieldError| Fault {
        pointer: error.pointer,
        code: error.code.as_str(),
        detail: error.detail,
    };
    repeated.map(fault).collect()
}

/// Returns the decision in a review's body.
///
/// # Errors
/// Returns every error in the body.
pub(super) fn read_decision(body: Member<'_>) -> Result<Decision, Vec<Fault>> {
    const DECISION: &str = "/decision";
    let Some(mut members) = body.members() else {
        let detail = "the body must be a JSON object with a decision: approve or reject";
        return Err(vec![Fault { pointer: "", code: "not_an_object", detail }]);
    };
    if members.has_repeated("decision") {
        return Err(vec![Fault {
            pointer: DECISION,
            code: REPEATED.0,
            detail: "the body has more than one decision",
        }]);
    }
    let decision = match members.take("decision", DECISION, &mut |_, _, _| {}) {
        None => fault(DECISION, "missing_field", "decision is required: approve or reject"),
        Some(decision) => match decision.text().as_deref().and_then(Decision::parse) {
            None => fault(DECISION, "unknown_value", "decision must be approve or reject"),
            Some(decision) => Ok(decision),
        },
    };
    let unknown = "unknown members; the only known member is decision";
    let rest = if members.is_empty() { Ok(()) } else { fault("", "unknown_member", unknown) };
    match (decision, rest) {
        (Ok(decision), Ok(())) => Ok(decision),
        (decision, rest) => Err(decision.err().into_iter().chain(rest.err()).collect()),
    }
}

/// A request for a list of anomalies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AnomaliesPlan {
    pub of: AnomalyFilter,
    pub limit: usize,
    pub cursor: Option<String>,
}

impl AnomaliesPlan {
    /// Parses the query string of `…/price-anomalies`.
    pub(super) fn new(
        tenant_id: &str,
        product_id: Option<&str>,
        query: Option<&str>,
    ) -> Result<AnomaliesPlan, Vec<ParameterError>> {
        let mut parameters = Parameters::with_period(query, &["status", "since", "limit", "cursor"]);
        let status = parameters.value("status").and_then(|name| {
            let known = AnomalyStatus::ALL.into_iter().find(|status| status.as_str() == name);
            if known.is_none() {
                parameters.wrong("status", "unknown_value", "status must be open, approved or rejected");
            }
            known
        });
        let Period { from_us, to_us, .. } = Period::read(&mut parameters);
        let limit = parameters.number("limit", 1, ANOMALIES_MAX).unwrap_or(LIMIT);
        let cursor = parameters.value("cursor");
        let of = AnomalyFilter {
            tenant_id: tenant_id.to_owned(),
            product_id: product_id.map(str::to_owned),
            status,
            from_us,
            to_us,
            after: None,
        };
        parameters.done(AnomaliesPlan { of, limit, cursor })
    }
}

/// Returns the position from which a stream of changes continues, if the query contains one.
pub(super) fn last_event_id(query: Option<&str>) -> Result<Option<String>, Vec<ParameterError>> {
    let mut parameters = Parameters::read(query, &[LAST_EVENT_ID]);
    let id = parameters.value(LAST_EVENT_ID);
    parameters.done(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::JSON_DEPTH_MAX;

    const NOW_US: i64 = 1_705_314_600_000_000;

    fn read(body: &str) -> Result<PriceEvent<'_>, Vec<Fault>> {
        PriceEvent::read(Member::of(body.as_bytes()).unwrap(), NOW_US)
    }

    #[test]
    fn a_price_is_a_string_or_a_number_of_its_currency() {
        for (price, currency, minor) in [
            ("\"19.99\"", "USD", 1999),
            ("19.99", "USD", 1999),
            ("2e1", "USD", 2000),
            ("\"0\"", "USD", 0),
            ("1500", "JPY", 1500),
            ("\"1.234\"", "KWD", 1234),
            ("\"\\u0031\"", "USD", 100),
        ] {
            let body = format!(
                r#"{{"event_id":"e","price":{price},"currency":"{currency}","observed_at":"2024-01-15T10:30:00Z","x":1}}"#
            );
            let event = read(&body).unwrap();
            assert_eq!((event.price, event.event_id.as_deref()), (minor, Some("e")), "{price}");
            assert_eq!(event.observed_us, NOW_US);
        }
        assert_eq!(
            read(r#"{"price":1,"currency":"USD","observed_at":"2024-01-15T10:30:00Z"}"#).unwrap().event_id,
            None
        );
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let faults = |body: &str| -> Vec<(&str, &str)> {
            read(body).unwrap_err().iter().map(|fault| (fault.pointer, fault.code)).collect()
        };
        assert_eq!(
            faults("{}"),
            [("/price", "missing_field"), ("/currency", "missing_field"), ("/observed_at", "missing_field")]
        );
        assert_eq!(
            faults(r#"{"event_id":7,"price":true,"currency":"usd","observed_at":"2024-01-15"}"#),
            [
                ("/event_id", "invalid_type"),
                ("/price", "invalid_type"),
                ("/currency", "unknown_currency"),
                ("/observed_at", "invalid_timestamp")
            ]
        );
        let of_price = |price: &str, currency: &str| {
            faults(&format!(
                r#"{{"price":{price},"currency":"{currency}","observed_at":"2024-01-15T10:30:00Z"}}"#
            ))
        };
        assert_eq!(of_price("1.999", "USD"), [("/price", "too_many_digits")]);
        assert_eq!(of_price("1.5", "JPY"), [("/price", "too_many_digits")]);
        assert_eq!(of_price("-1", "USD"), [("/price", "out_of_range")]);
        assert_eq!(of_price("\"1e2\"", "USD"), [("/price", "not_a_decimal")]);
        assert_eq!(of_price("1e99", "USD"), [("/price", "out_of_range")]);
        let ahead = r#"{"price":1,"currency":"USD","observed_at":"2025-02-15T10:30:00Z"}"#;
        assert_eq!(faults(ahead), [("/observed_at", "out_of_range")]);
        assert_eq!(faults("[1]"), [("", "not_an_object")]);
        assert_eq!(faults(r#"["e",1,"USD","2024-01-15T10:30:00Z"]"#), [("", "not_an_object")]);
        assert_eq!(faults(r#"{"price":1,"price":2}"#), [("/price", "repeated_key")]);
        assert_eq!(
            faults(
                r#"{"event_id":"a","event\u005fid":"a","price":1,"x":1,"x":2,"observed_at":1,"observed_at":2}"#
            ),
            [("/event_id", "repeated_key"), ("/observed_at", "repeated_key")]
        );
        let nested =
            |levels: usize| format!(r#"{{"x":{}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert_eq!(faults(&nested(JSON_DEPTH_MAX)).len(), 3);
        let lone = r#"{"\ud800":1,"event_id":"\udc00","price":1,"currency":"USD","observed_at":"2024-01-15T10:30Z"}"#;
        assert_eq!(faults(lone), [("/event_id", "invalid_type"), ("/observed_at", "invalid_timestamp")]);
        let long = format!(r#"{{"event_id":"{}","price":1}}"#, "x".repeat(201));
        assert_eq!(faults(&long)[0], ("/event_id", "invalid_text"));
    }

    #[test]
    fn a_decision_is_one_of_two() {
        let read = |body: &'static str| read_decision(Member::of(body.as_bytes()).unwrap());
        assert_eq!(read(r#"{"decision":"approve"}"#), Ok(Decision::Approve));
        assert_eq!(read(r#"{"decision":"r\u0065ject"}"#), Ok(Decision::Reject));
        for (body, expected) in [
            ("{}", &[("/decision", "missing_field")][..]),
            (r#"{"decision":null}"#, &[("/decision", "missing_field")]),
            (r#"{"decision":"maybe"}"#, &[("/decision", "unknown_value")]),
            (r#"{"decision":"\ud800"}"#, &[("/decision", "unknown_value")]),
            (r#"{"decision":"reject","x":1}"#, &[("", "unknown_member")]),
            (r#"{"x":1}"#, &[("/decision", "missing_field"), ("", "unknown_member")]),
            (r#"["reject"]"#, &[("", "not_an_object")]),
            (r#"{"decision":"approve","decisi\u006fn":"approve"}"#, &[("/decision", "repeated")]),
        ] {
            let faults = read(body).unwrap_err();
            let found: Vec<_> = faults.iter().map(|fault| (fault.pointer, fault.code)).collect();
            assert_eq!(found, expected, "{body}");
        }
    }

    #[test]
    fn the_last_event_id_is_known_in_every_usual_spelling() {
        for name in [
            "last_event_id",
            "lastEventId",
            "lastEventID",
            "Last-Event-ID",
            "last-event-id",
            "evs_last_event_id",
        ] {
            assert_eq!(last_event_id(Some(&format!("{name}=a%2Bb"))), Ok(Some("a+b".to_owned())), "{name}");
            let empty = last_event_id(Some(&format!("{name}="))).unwrap_err();
            assert_eq!((&*empty[0].name, empty[0].code), ("last_event_id", "empty_value"), "{name}");
        }
        assert_eq!(last_event_id(None), Ok(None));
        assert_eq!(last_event_id(Some("lastEventId=1&Last-Event-ID=2")).unwrap_err()[0].code, "repeated");
        assert_eq!(last_event_id(Some("last=1")).unwrap_err()[0].code, "unknown_parameter");
    }

    #[test]
    fn a_list_says_what_has_no_meaning() {
        let query = "status=open&since=2024-01-15T10:30:00Z&limit=7&cursor=x";
        let plan = AnomaliesPlan::new("t", Some("p"), Some(query)).unwrap();
        assert_eq!(
            (plan.limit, plan.of.status, plan.of.from_us),
            (7, Some(AnomalyStatus::Open), Some(NOW_US))
        );
        let errors = AnomaliesPlan::new("t", None, Some("status=new&since=x&limit=0&q=1")).unwrap_err();
        let names: Vec<_> = errors.iter().map(|error| &*error.name).collect();
        assert_eq!(names, ["q", "status", "since", "limit"]);
    }
}
