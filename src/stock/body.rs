//! The updates in a stock request. The body is split, and each update is parsed separately, with its own errors.
//!
//! In: the decoded body of `PUT …/stock/bulk_update`. Out: its mode and every row in request order, each an update or
//! its errors. Never: uses memory that grows with anything but the number of rows, at most [`STOCK_UPDATES_MAX`].

use std::borrow::Cow;

use super::mode::{STOCK_MAX, StockMode};
use crate::api::members::Member;
use crate::base::limits::{IDENTIFIER_BYTES_MAX, STOCK_UPDATES_MAX};
use crate::event::{
    Code, FieldError, FieldErrors, TextRule, TimeRule, elements, field, members, repeated, text, text_rule,
    time, time_rule, unescape,
};

/// A stock request: its mode and its updates.
#[derive(Clone, Debug)]
pub(super) struct StockRequest<'b> {
    pub mode: StockMode,
    /// The rows in request order. There is at least one.
    pub rows: Vec<Result<StockUpdate<'b>, StockFault<'b>>>,
}

/// One update. A string is borrowed unless it has escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StockUpdate<'b> {
    /// 1 to 200 bytes, no control characters. The product's id has the same rules.
    pub event_id: Cow<'b, str>,
    pub product_id: Cow<'b, str>,
    pub amount: StockAmount,
    /// The version that the sender expects, in mode `reject` only. It is not negative.
    pub expected_version: Option<i64>,
    /// Microseconds since 1970 UTC.
    pub occurred_at_us: i64,
}

/// The amount of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StockAmount {
    /// The new stock: 0 to [`STOCK_MAX`].
    Quantity(i64),
    /// The change: at most [`STOCK_MAX`] in either direction.
    Delta(i64),
}

/// The errors in an update, and its product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StockFault<'b> {
    /// The product, or `None` if it is invalid too.
    pub product_id: Option<Cow<'b, str>>,
    /// The errors, with pointers relative to the update.
    pub errors: FieldErrors,
}

/// Why a body is not a stock request. The sender is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StockBodyError {
    /// 422: the body is JSON, but not a stock request.
    #[error("the JSON is not a valid stock request: {0}")]
    Fields(FieldErrors),
    /// 413: more rows than one request may have.
    #[error("more than {STOCK_UPDATES_MAX} updates in one request")]
    TooManyRows,
}

/// An object's members by name.
#[derive(Clone, Copy, Debug)]
struct Members<'b, const N: usize> {
    names: [&'static [u8]; N],
    values: [Option<&'b [u8]>; N],
    /// The names that are repeated.
    repeated: [bool; N],
}

impl<'b, const N: usize> Members<'b, N> {
    /// Finds the members. Returns `None` if the value is not an object. The value must be valid JSON.
    fn of(object: &'b [u8], names: [&'static [u8]; N]) -> Option<Members<'b, N>> {
        let mut found = Members { names, values: [None; N], repeated: [false; N] };
        members(object, |key, value| found.note(key, value)).then_some(found)
    }

    fn note(&mut self, key: &'b [u8], value: &'b [u8]) {
        let key = if key.contains(&b'\\') { unescape(key) } else { Cow::Borrowed(key) };
        if let Some(at) = self.names.iter().position(|name| *name == &*key) {
            self.repeated[at] |= self.values[at].replace(value).is_some();
        }
    }
}

impl<'b> StockRequest<'b> {
    /// Parses a body. Takes about a microsecond per row.
    ///
    /// # Errors
    /// Returns an error if the rows cannot be separated, or if the mode is unknown.
    pub(super) fn read(body: Member<'b>) -> Result<StockRequest<'b>, StockBodyError> {
        let Some(found) = Members::of(body.bytes(), [b"mode", b"updates"]) else {
            return Err(fields(vec![NOT_AN_OBJECT]));
        };
        if found.repeated.contains(&true) {
            return Err(fields(chosen(&BODY_REPEATED, found.repeated).collect()));
        }
        let [mode, updates] = found.values;
        let mode = match mode {
            None => Err(MODE_MISSING),
            Some([b'"', name @ .., b'"']) => {
                std::str::from_utf8(&unescape(name)).ok().and_then(StockMode::parse).ok_or(MODE_UNKNOWN)
            }
            Some(_) => Err(MODE_TYPE),
        };
        let updates = match updates {
            None => Err(UPDATES_MISSING),
            Some(value) => match elements(value).map(rows).transpose()? {
                None => Err(UPDATES_TYPE),
                Some(rows) if rows.is_empty() => Err(UPDATES_EMPTY),
                Some(rows) => Ok(rows),
            },
        };
        match (mode, updates) {
            (Ok(mode), Ok(rows)) => {
                Ok(StockRequest { mode, rows: rows.into_iter().map(|row| update(row, mode)).collect() })
            }
            (mode, updates) => Err(fields(mode.err().into_iter().chain(updates.err()).collect())),
        }
    }
}

fn fields(errors: Vec<FieldError>) -> StockBodyError {
    StockBodyError::Fields(FieldErrors::new(errors))
}

/// Returns the errors whose places are chosen.
fn chosen<const N: usize>(
    errors: &[FieldError; N],
    is_chosen: [bool; N],
) -> impl Iterator<Item = FieldError> {
    errors.iter().zip(is_chosen).filter_map(|(error, is_chosen)| is_chosen.then_some(*error))
}

/// Collects the updates, unless there are too many.
fn rows<'b>(updates: impl Iterator<Item = &'b [u8]>) -> Result<Vec<&'b [u8]>, StockBodyError> {
    let found: Vec<_> = updates.take(STOCK_UPDATES_MAX + 1).collect();
    if found.len() > STOCK_UPDATES_MAX { Err(StockBodyError::TooManyRows) } else { Ok(found) }
}

const NAMES: [&[u8]; 6] =
    [b"event_id", b"product_id", b"quantity", b"delta", b"expected_version", b"occurred_at"];

/// Parses an update and applies every rule to every field.
fn update(row: &[u8], mode: StockMode) -> Result<StockUpdate<'_>, StockFault<'_>> {
    let Some(found) = Members::of(row, NAMES) else {
        return Err(StockFault { product_id: None, errors: FieldErrors::new(vec![ROW_NOT_AN_OBJECT]) });
    };
    // A null member counts as absent.
    let [event_id, product_id, quantity, delta, expected_version, occurred_at] =
        found.values.map(|value| value.filter(|value| *value != b"null"));
    let event_id = text(event_id, &EVENT_ID);
    let product_id = text(product_id, &PRODUCT_ID);
    let amount = amount(quantity, delta, mode);
    let expected_version = match (mode, expected_version) {
        (StockMode::Reject, None) => Err(VERSION_MISSING),
        (StockMode::Reject, Some(value)) => match integer(value) {
            Ok(version) if version >= 0 => Ok(Some(version)),
            Ok(_) => Err(VERSION_RANGE),
            Err(code) => Err(FieldError { code, ..VERSION_TYPE }),
        },
        // The other modes ignore the expected version.
        _ => Ok(None),
    };
    let occurred_at_us = time(occurred_at, &OCCURRED_AT).map_err(|error| *error);
    match (event_id, product_id, amount, expected_version, occurred_at_us) {
        (Ok(event_id), Ok(product_id), Ok(amount), Ok(expected_version), Ok(occurred_at_us))
            if !found.repeated.contains(&true) =>
        {
            Ok(StockUpdate { event_id, product_id, amount, expected_version, occurred_at_us })
        }
        (event_id, product_id, amount, expected_version, occurred_at_us) => {
            let errors = [
                event_id.err(),
                product_id.as_ref().err().copied(),
                amount.err(),
                expected_version.err(),
                occurred_at_us.err(),
            ];
            let repeated = chosen(&ROW_REPEATED, found.repeated);
            let errors = FieldErrors::new(repeated.chain(errors.into_iter().flatten()).collect());
            // A row with two product ids belongs to neither product.
            let [_, has_two_products, ..] = found.repeated;
            Err(StockFault { product_id: product_id.ok().filter(|_| !has_two_products), errors })
        }
    }
}

fn amount(quantity: Option<&[u8]>, delta: Option<&[u8]>, mode: StockMode) -> Result<StockAmount, FieldError> {
    match (quantity, delta, mode) {
        (Some(_), Some(_), _) => Err(BOTH),
        (None, None, StockMode::LastWriteWins) => Err(QUANTITY_MISSING),
        (None, None, StockMode::Merge) => Err(DELTA_MISSING),
        (None, None, StockMode::Reject) => Err(NEITHER),
        (Some(_), None, StockMode::Merge) => Err(NEEDS_DELTA),
        (None, Some(_), StockMode::LastWriteWins) => Err(NEEDS_QUANTITY),
        (Some(value), None, _) => match integer(value) {
            Ok(quantity) if quantity < 0 => Err(NEGATIVE),
            Ok(quantity) if quantity > STOCK_MAX => Err(QUANTITY_RANGE),
            Ok(quantity) => Ok(StockAmount::Quantity(quantity)),
            Err(code) => Err(FieldError { code, ..QUANTITY_TYPE }),
        },
        (None, Some(value), _) => match integer(value) {
            Ok(delta) if delta.unsigned_abs() > STOCK_MAX as u64 => Err(DELTA_RANGE),
            Ok(delta) => Ok(StockAmount::Delta(delta)),
            Err(code) => Err(FieldError { code, ..DELTA_TYPE }),
        },
    }
}

/// Parses an integer.
fn integer(value: &[u8]) -> Result<i64, Code> {
    match value {
        [b'-' | b'0'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Code::OutOfRange)
        }
        [b'-' | b'0'..=b'9', ..] => Err(Code::NotAnInteger),
        _ => Err(Code::InvalidType),
    }
}

static EVENT_ID: TextRule = text_rule!("event_id", IDENTIFIER_BYTES_MAX, "200");
static PRODUCT_ID: TextRule = text_rule!("product_id", IDENTIFIER_BYTES_MAX, "200");
static OCCURRED_AT: TimeRule = time_rule!("occurred_at");

const _: () = assert!(IDENTIFIER_BYTES_MAX == 200 && STOCK_MAX == 9_007_199_254_740_991);

const BODY_REPEATED: [FieldError; 2] = [repeated("/mode"), repeated("/updates")];
const ROW_REPEATED: [FieldError; NAMES.len()] = [
    repeated("/event_id"),
    repeated("/product_id"),
    repeated("/quantity"),
    repeated("/delta"),
    repeated("/expected_version"),
    repeated("/occurred_at"),
];
const NOT_AN_OBJECT: FieldError =
    field("", Code::NotAnObject, "the body must be a JSON object with mode and updates");
const MODE_MISSING: FieldError = field("/mode", Code::MissingField, "mode is required");
const MODE_TYPE: FieldError = field("/mode", Code::InvalidType, "mode must be a string");
const MODE_UNKNOWN: FieldError =
    field("/mode", Code::UnknownMode, "mode must be one of last_write_wins, merge, reject");
const UPDATES_MISSING: FieldError = field("/updates", Code::MissingField, "updates is required");
const UPDATES_TYPE: FieldError = field("/updates", Code::InvalidType, "updates must be an array");
const UPDATES_EMPTY: FieldError = field("/updates", Code::Empty, "updates must contain at least one update");
const ROW_NOT_AN_OBJECT: FieldError = field("", Code::NotAnObject, "an update must be a JSON object");
const BOTH: FieldError = field(
    "/delta",
    Code::QuantityAndDelta,
    "an update must have a quantity (the new stock) or a delta (the change), not both",
);
const NEITHER: FieldError = field(
    "/quantity",
    Code::MissingField,
    "an update must have a quantity or a \
                                                                    delta",
);
const QUANTITY_MISSING: FieldError = field("/quantity", Code::MissingField, "quantity is required");
const DELTA_MISSING: FieldError = field("/delta", Code::MissingField, "delta is required");
const NEEDS_QUANTITY: FieldError =
    field("/delta", Code::NeedsQuantity, "mode last_write_wins requires a quantity, not a delta");
const NEEDS_DELTA: FieldError =
    field("/quantity", Code::NeedsDelta, "mode merge requires a delta; use another mode for quantities");
const NEGATIVE: FieldError = field("/quantity", Code::NegativeStock, "quantity must not be negative");
const QUANTITY_RANGE: FieldError =
    field("/quantity", Code::OutOfRange, "quantity must be at most 9007199254740991");
const QUANTITY_TYPE: FieldError =
    field("/quantity", Code::InvalidType, "quantity must be an integer from 0 to 9007199254740991");
const DELTA_RANGE: FieldError =
    field("/delta", Code::OutOfRange, "delta must be from -9007199254740991 to 9007199254740991");
const DELTA_TYPE: FieldError =
    field("/delta", Code::InvalidType, "delta must be an integer from -9007199254740991 to 9007199254740991");
const VERSION_MISSING: FieldError =
    field("/expected_version", Code::MissingField, "expected_version is required in mode reject");
const VERSION_RANGE: FieldError =
    field("/expected_version", Code::OutOfRange, "expected_version must not be negative");
const VERSION_TYPE: FieldError =
    field("/expected_version", Code::InvalidType, "expected_version must be an integer, 0 or more");

#[cfg(test)]
mod tests;
