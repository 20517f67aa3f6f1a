//! The rules for an order's own fields. All of them are applied before any error is returned.

use super::super::status::OrderStatus;
use super::error::{OrderError, OrderFaults, not_an_object};
use super::items::Digits;
use super::text::Line;
use super::walk::{Span, members};
use super::{Head, OrderBuffers};
use crate::base::limits::{IDENTIFIER_BYTES_MAX, NAME_BYTES_MAX};
use crate::base::money::Currency;
use crate::event::{
    Code, FieldError, TextRule, TimeRule, field, repeated, text_rule, time, time_rule, unescape,
};

pub(super) const PRODUCT_BYTES_MAX: usize = IDENTIFIER_BYTES_MAX;
pub(super) const CATEGORY_BYTES_MAX: usize = NAME_BYTES_MAX;

/// A name is only displayed and searched, so the limit for identifiers suffices.
const CUSTOMER_NAME_BYTES_MAX: usize = 200;

/// RFC 5321 §4.5.3.1: 64 before the at sign, 255 after it.
const EMAIL_BYTES_MAX: usize = 64 + 1 + 255;

/// The raw values of an order's fields, and the structural characters after the one that opens `items`.
struct RawOrder<I> {
    order_id: Span,
    tenant_id: Span,
    customer_id: Span,
    customer_name: Span,
    customer_email: Span,
    status: Span,
    currency: Span,
    ordered_at: Span,
    items: Span,
    in_items: Option<I>,
    /// The first repeated key. Parsers disagree on which of the two values counts.
    repeated: Option<&'static FieldError>,
}

/// The maximum length of a key with escapes: every byte of `customer_email` is written in the form `\u0000`.
const ESCAPED_KEY_BYTES_MAX: usize = 6 * "customer_email".len();

impl<I: Clone> RawOrder<I> {
    fn new() -> RawOrder<I> {
        let none = Span::default();
        RawOrder {
            order_id: none,
            tenant_id: none,
            customer_id: none,
            customer_name: none,
            customer_email: none,
            status: none,
            currency: none,
            ordered_at: none,
            items: none,
            in_items: None,
            repeated: None,
        }
    }

    #[inline]
    fn note(&mut self, key: &[u8], value: Span, inside: &I) {
        if !self.note_known(key, value, inside)
            && key.len() <= ESCAPED_KEY_BYTES_MAX
            && memchr::memchr(b'\\', key).is_some()
        {
            self.note_escaped(key, value, inside);
        }
    }

    /// Stores the value if the key is an order's field. Returns `true` in that case.
    #[inline]
    fn note_known(&mut self, key: &[u8], value: Span, inside: &I) -> bool {
        let (slot, repeated) = match key {
            b"order_id" => (&mut self.order_id, &REPEATED[0]),
            b"tenant_id" => (&mut self.tenant_id, &REPEATED[1]),
            b"customer_id" => (&mut self.customer_id, &REPEATED[2]),
            b"customer_name" => (&mut self.customer_name, &REPEATED[3]),
            b"customer_email" => (&mut self.customer_email, &REPEATED[4]),
            b"status" => (&mut self.status, &REPEATED[5]),
            b"currency" => (&mut self.currency, &REPEATED[6]),
            b"ordered_at" => (&mut self.ordered_at, &REPEATED[7]),
            b"items" => {
                self.in_items = Some(inside.clone());
                (&mut self.items, &REPEATED[8])
            }
            _ => return false,
        };
        // A member's value never starts at 0.
        if slot.start != 0 {
            self.repeated.get_or_insert(repeated);
        }
        *slot = value;
        true
    }

    #[cold]
    fn note_escaped(&mut self, key: &[u8], value: Span, inside: &I) {
        self.note_known(&unescape(key), value, inside);
    }
}

impl OrderBuffers {
    /// Applies every rule to every field of a line that is valid JSON, and stores its items.
    #[inline]
    pub(super) fn check<I: Iterator<Item = (usize, u8)> + Clone>(
        &mut self,
        text: &str,
        mut structurals: I,
    ) -> Result<Head, OrderError> {
        let Some((_, b'{')) = structurals.next() else { return Err(not_an_object()) };
        let mut raw = RawOrder::new();
        members(text.as_bytes(), &mut structurals, |key, value, inside| raw.note(key, value, inside));

        let line = Line::new(text);
        let unescaped = &mut self.unescaped;
        let mut faults = OrderFaults::default();
        if let Some(repeated) = raw.repeated {
            faults.add(None, repeated);
        }
        let order_id = faults.right_or_add(line.text(raw.order_id, &ORDER_ID, unescaped));
        let tenant_id = faults.right_or_add(line.text(raw.tenant_id, &TENANT_ID, unescaped));
        let customer_id = faults.right_or_add(line.text(raw.customer_id, &CUSTOMER_ID, unescaped));
        let customer_name =
            faults.right_or_add(line.text_or_empty(raw.customer_name, &CUSTOMER_NAME, unescaped));
        let customer_email = line.text_or_empty(raw.customer_email, &CUSTOMER_EMAIL, unescaped);
        let customer_email = faults.right_or_add(customer_email.and_then(|email| {
            if is_email(line.bytes(email, unescaped)) { Ok(email) } else { Err(&EMAIL_INVALID) }
        }));
        let status = faults.right_or_add(named(raw.status.of(text), &STATUS, OrderStatus::parse));
        let currency = faults.right_or_add(named(raw.currency.of(text), &CURRENCY, Currency::parse));
        let ordered_at_us = faults.right_or_add(time(raw.ordered_at.of(text), &ORDERED_AT));

        let total_minor = match (raw.items.of(text), raw.in_items) {
            (Some([b'[', ..]), Some(mut inside)) => {
                self.keep_items(&line, &mut inside, Digits::of(currency), &mut faults)
            }
            (Some(_), _) => faults.right_or_add(Err(&ITEMS_TYPE)),
            (None, _) => faults.right_or_add(Err(&ITEMS_MISSING)),
        };
        match (
            order_id,
            tenant_id,
            customer_id,
            customer_name,
            customer_email,
            status,
            currency,
            ordered_at_us,
            total_minor,
        ) {
            (
                Some(order_id),
                Some(tenant_id),
                Some(customer_id),
                Some(customer_name),
                Some(customer_email),
                Some(status),
                Some(currency),
                Some(ordered_at_us),
                Some(total_minor),
            ) if raw.repeated.is_none() => Ok(Head {
                order_id,
                tenant_id,
                customer_id,
                customer_name,
                customer_email,
                status,
                currency,
                ordered_at_us,
                total_minor,
            }),
            _ => Err(faults.into_error(order_id.map(|id| line.bytes(id, &self.unescaped)))),
        }
    }
}

/// Returns `true` if the string could be an e-mail address. The check is lenient, because only delivery shows whether
/// an address exists.
#[inline]
fn is_email(text: &[u8]) -> bool {
    match text {
        [] => true,
        [_, inner @ .., _] => memchr::memchr(b'@', inner).is_some(),
        [_] => false,
    }
}

/// The rule for a field whose value is one of a list of names.
struct NameRule {
    missing: FieldError,
    not_a_string: FieldError,
    unknown: FieldError,
}

#[inline]
fn named<T>(
    value: Option<&[u8]>,
    rule: &'static NameRule,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, &'static FieldError> {
    let value = value.ok_or(&rule.missing)?;
    let [b'"', raw @ .., b'"'] = value else { return Err(&rule.not_a_string) };
    let parse = |text: &[u8]| parse(std::str::from_utf8(text).ok()?);
    match parse(raw) {
        None if memchr::memchr(b'\\', raw).is_some() => parse(&unescape(raw)),
        found => found,
    }
    .ok_or(&rule.unknown)
}

const _: () =
    assert!(IDENTIFIER_BYTES_MAX == 200 && CUSTOMER_NAME_BYTES_MAX == 200 && EMAIL_BYTES_MAX == 320);

static ORDER_ID: TextRule = text_rule!("order_id", IDENTIFIER_BYTES_MAX, "200");
static TENANT_ID: TextRule = text_rule!("tenant_id", IDENTIFIER_BYTES_MAX, "200");
static CUSTOMER_ID: TextRule = text_rule!("customer_id", IDENTIFIER_BYTES_MAX, "200");
static CUSTOMER_NAME: TextRule = text_rule!("customer_name", CUSTOMER_NAME_BYTES_MAX, "200");
static CUSTOMER_EMAIL: TextRule = text_rule!("customer_email", EMAIL_BYTES_MAX, "320");

static EMAIL_INVALID: FieldError = field(
    "/customer_email",
    Code::InvalidEmail,
    "customer_email must be empty, or contain an @ with characters on both sides",
);
static STATUS: NameRule = NameRule {
    missing: field("/status", Code::MissingField, "status is required"),
    not_a_string: field("/status", Code::InvalidType, "status must be a string"),
    unknown: field(
        "/status",
        Code::UnknownStatus,
        "status must be one of pending, paid, shipped, delivered, cancelled, refunded",
    ),
};
static CURRENCY: NameRule = NameRule {
    missing: field("/currency", Code::MissingField, "currency is required"),
    not_a_string: field("/currency", Code::InvalidType, "currency must be a string"),
    unknown: field(
        "/currency",
        Code::UnknownCurrency,
        "currency must be an active ISO 4217 code such as USD, in capitals",
    ),
};
static ORDERED_AT: TimeRule = time_rule!("ordered_at");
static REPEATED: [FieldError; 9] = [
    repeated("/order_id"),
    repeated("/tenant_id"),
    repeated("/customer_id"),
    repeated("/customer_name"),
    repeated("/customer_email"),
    repeated("/status"),
    repeated("/currency"),
    repeated("/ordered_at"),
    repeated("/items"),
];
static ITEMS_MISSING: FieldError = field("/items", Code::MissingField, "items is required");
static ITEMS_TYPE: FieldError = field("/items", Code::InvalidType, "items must be an array");
