//! The items of an order: their rules, their storage, and the iterator over them.

use super::OrderBuffers;
use super::error::OrderFaults;
use super::rules::{CATEGORY_BYTES_MAX, PRODUCT_BYTES_MAX};
use super::text::{Line, Text, Texts};
use super::walk::{Span, elements, members};
use crate::base::limits::ORDER_ITEMS_MAX;
use crate::base::money::{Currency, MoneyError, parse_decimal, parse_number};
use crate::event::{Code, FieldError, TextRule, field, repeated, skip_nested, text_rule, unescape};

/// One item of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'d> {
    /// 1 to 200 bytes, no control characters.
    pub product_id: &'d str,
    /// 1 to 100 bytes, no control characters.
    pub category: &'d str,
    /// 1 to 1,000,000,000.
    pub quantity: i64,
    /// Minor units of the order's currency, not negative.
    pub unit_price_minor: i64,
}

/// An iterator over an order's items. Each item takes about 3 ns.
#[derive(Clone, Debug)]
pub struct Items<'d> {
    texts: Texts<'d>,
    spans: std::slice::Iter<'d, ItemSpans>,
}

impl<'d> Items<'d> {
    pub(super) fn new(texts: Texts<'d>, spans: &'d [ItemSpans]) -> Items<'d> {
        Items { texts, spans: spans.iter() }
    }
}

impl<'d> Iterator for Items<'d> {
    type Item = Item<'d>;

    #[inline]
    fn next(&mut self) -> Option<Item<'d>> {
        let spans = self.spans.next()?;
        Some(Item {
            product_id: self.texts.get(spans.product_id),
            category: self.texts.get(spans.category),
            quantity: i64::from(spans.quantity),
            unit_price_minor: spans.unit_price_minor,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl ExactSizeIterator for Items<'_> {}

/// An item whose strings are stored as positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct ItemSpans {
    product_id: Text,
    category: Text,
    quantity: u32,
    unit_price_minor: i64,
}

const _: () = assert!(size_of::<ItemSpans>() == 32);

/// The raw values of an item's fields.
#[derive(Clone, Copy, Debug, Default)]
struct RawItem {
    product_id: Span,
    category: Span,
    quantity: Span,
    unit_price: Span,
    /// The first repeated key.
    repeated: Option<&'static FieldError>,
}

/// The maximum length of a key with escapes: every byte of `product_id` is written in the form `\u0000`.
const ESCAPED_KEY_BYTES_MAX: usize = 6 * "product_id".len();

impl RawItem {
    #[inline]
    fn note(&mut self, key: &[u8], value: Span) {
        if !self.note_known(key, value)
            && key.len() <= ESCAPED_KEY_BYTES_MAX
            && memchr::memchr(b'\\', key).is_some()
        {
            self.note_escaped(key, value);
        }
    }

    /// Stores the value if the key is an item's field. Returns `true` in that case.
    #[inline]
    fn note_known(&mut self, key: &[u8], value: Span) -> bool {
        let (slot, repeated) = match key {
            b"product_id" => (&mut self.product_id, &REPEATED[0]),
            b"category" => (&mut self.category, &REPEATED[1]),
            b"quantity" => (&mut self.quantity, &REPEATED[2]),
            b"unit_price" => (&mut self.unit_price, &REPEATED[3]),
            _ => return false,
        };
        if slot.start != 0 {
            self.repeated.get_or_insert(repeated);
        }
        *slot = value;
        true
    }

    #[cold]
    fn note_escaped(&mut self, key: &[u8], value: Span) {
        self.note_known(&unescape(key), value);
    }
}

/// The number of decimal digits that an order's prices may have. Without a currency, only form and sign are checked.
#[derive(Clone, Copy)]
pub(super) struct Digits {
    count: u8,
    is_known: bool,
}

impl Digits {
    #[inline]
    pub(super) fn of(currency: Option<Currency>) -> Digits {
        match currency {
            Some(currency) => Digits { count: currency.digits(), is_known: true },
            None => Digits { count: Currency::DIGITS_MAX, is_known: false },
        }
    }
}

impl OrderBuffers {
    /// Stores the items of the array whose opening bracket was the last character read from `structurals`. Returns
    /// their total, or `None` after an error.
    #[inline]
    pub(super) fn keep_items<I: Iterator<Item = (usize, u8)> + Clone>(
        &mut self,
        line: &Line<'_>,
        structurals: &mut I,
        digits: Digits,
        faults: &mut OrderFaults,
    ) -> Option<i64> {
        let mut total_minor = Some(0_i64);
        let mut count = 0_usize;
        elements(structurals, |first, structurals| {
            let index = count as u16;
            count += 1;
            if count > ORDER_ITEMS_MAX {
                return false;
            }
            if first != b'{' {
                if first == b'[' {
                    skip_nested(structurals);
                }
                faults.add(Some(index), &NOT_AN_OBJECT);
                return true;
            }
            let mut raw = RawItem::default();
            members(line.text.as_bytes(), structurals, |key, value, _| raw.note(key, value));
            if let Some(repeated) = raw.repeated {
                faults.add(Some(index), repeated);
            }
            let item = self.item(line, raw, digits, |fault| faults.add(Some(index), fault));
            if let Some(item) = item.filter(|_| raw.repeated.is_none()) {
                let price_minor = item.unit_price_minor.checked_mul(i64::from(item.quantity));
                total_minor =
                    total_minor.zip(price_minor).and_then(|(total, price)| total.checked_add(price));
                self.items.push(item);
            }
            true
        });
        if count == 0 {
            faults.right_or_add(Err(&EMPTY))
        } else if count > ORDER_ITEMS_MAX {
            faults.drop_items();
            faults.right_or_add(Err(&TOO_MANY))
        } else if self.items.len() < count || !digits.is_known {
            None
        } else {
            faults.right_or_add(total_minor.ok_or(&TOTAL))
        }
    }

    /// Applies every rule to an item's fields.
    #[inline]
    fn item(
        &mut self,
        line: &Line<'_>,
        raw: RawItem,
        digits: Digits,
        mut fault: impl FnMut(&'static FieldError),
    ) -> Option<ItemSpans> {
        let product_id = line.text(raw.product_id, &PRODUCT_ID, &mut self.unescaped);
        let category = line.text(raw.category, &CATEGORY, &mut self.unescaped);
        let quantity = quantity(raw.quantity.of(line.text));
        let price = unit_price(raw.unit_price.of(line.text), digits);
        if let (Ok(product_id), Ok(category), Ok(quantity), Ok(unit_price_minor)) =
            (product_id, category, quantity, price)
        {
            return Some(ItemSpans { product_id, category, quantity, unit_price_minor });
        }
        let errors = [product_id.err(), category.err(), quantity.err(), price.err()];
        errors.into_iter().flatten().for_each(&mut fault);
        None
    }
}

const QUANTITY_MAX: u32 = 1_000_000_000;

#[inline]
fn quantity(value: Option<&[u8]>) -> Result<u32, &'static FieldError> {
    let value = value.ok_or(&QUANTITY_MISSING)?;
    if !matches!(value, [b'-' | b'0'..=b'9', ..]) {
        return Err(&QUANTITY_TYPE);
    }
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let mut number = 0_u32;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(&QUANTITY_NOT_AN_INTEGER);
        }
        number = number.saturating_mul(10).saturating_add(u32::from(digit));
    }
    if digits.len() < value.len() || !(1..=QUANTITY_MAX).contains(&number) {
        return Err(&QUANTITY_RANGE);
    }
    Ok(number)
}

#[inline]
fn unit_price(value: Option<&[u8]>, digits: Digits) -> Result<i64, &'static FieldError> {
    let value = value.ok_or(&PRICE_MISSING)?;
    let price = match value {
        [b'"', raw @ .., b'"'] => match parse_decimal(raw, digits.count) {
            Err(MoneyError::NotADecimal) if memchr::memchr(b'\\', raw).is_some() => {
                parse_decimal(&unescape(raw), digits.count)
            }
            price => price,
        },
        [b'-' | b'0'..=b'9', ..] => parse_number(value, digits.count),
        _ => return Err(&PRICE_TYPE),
    };
    match price {
        Ok(minor) => Ok(minor),
        Err(MoneyError::NotADecimal) => Err(&PRICE_NOT_A_DECIMAL),
        Err(MoneyError::Negative) => Err(&PRICE_NEGATIVE),
        // If the currency is unknown, the number of digits cannot be checked.
        Err(_) if !digits.is_known => Ok(0),
        Err(MoneyError::TooManyDigits) => Err(&PRICE_DIGITS),
        Err(MoneyError::TooLarge) => Err(&PRICE_RANGE),
    }
}

static PRODUCT_ID: TextRule = text_rule!("product_id", PRODUCT_BYTES_MAX, "200");
static CATEGORY: TextRule = text_rule!("category", CATEGORY_BYTES_MAX, "100");

static REPEATED: [FieldError; 4] =
    [repeated("/product_id"), repeated("/category"), repeated("/quantity"), repeated("/unit_price")];
static NOT_AN_OBJECT: FieldError = field("", Code::NotAnObject, "an item must be a JSON object");
static EMPTY: FieldError = field("/items", Code::EmptyItems, "an order must have at least one item");
static TOO_MANY: FieldError = field("/items", Code::TooManyItems, "an order must have at most 1000 items");
static TOTAL: FieldError = field(
    "/items",
    Code::TotalTooLarge,
    "the total must be at most 9223372036854775807 minor units of the currency",
);
static QUANTITY_MISSING: FieldError = field("/quantity", Code::MissingField, "quantity is required");
static QUANTITY_TYPE: FieldError = field("/quantity", Code::InvalidType, "quantity must be a number");
static QUANTITY_NOT_AN_INTEGER: FieldError =
    field("/quantity", Code::NotAnInteger, "quantity must be an integer, without fraction or exponent");
static QUANTITY_RANGE: FieldError =
    field("/quantity", Code::OutOfRange, "quantity must be from 1 to 1000000000");
static PRICE_MISSING: FieldError = field("/unit_price", Code::MissingField, "unit_price is required");
static PRICE_TYPE: FieldError = field(
    "/unit_price",
    Code::InvalidType,
    "unit_price must be a string that contains a decimal number, or a number",
);
static PRICE_NOT_A_DECIMAL: FieldError = field(
    "/unit_price",
    Code::NotADecimal,
    "unit_price must be a decimal number such as 19.99, without spaces, separators or an exponent",
);
static PRICE_NEGATIVE: FieldError = field("/unit_price", Code::Negative, "unit_price must not be negative");
static PRICE_DIGITS: FieldError = field(
    "/unit_price",
    Code::TooManyDigits,
    "unit_price must not have more digits after the point than its currency has",
);
static PRICE_RANGE: FieldError = field(
    "/unit_price",
    Code::OutOfRange,
    "unit_price must be at most 9223372036854775807 minor units of the currency",
);

const _: () = assert!(PRODUCT_BYTES_MAX == 200 && CATEGORY_BYTES_MAX == 100 && ORDER_ITEMS_MAX == 1000);
