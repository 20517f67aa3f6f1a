//! The errors of an order. All of them are the sender's fault. An error contains nothing from the line except the
//! order's id.

use std::fmt;
use std::ops::Deref;

use super::ORDER_FAULTS_MAX;
use crate::event::{Code, DecodeError, FieldError, field};

/// Why a line is not an order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The line is not a single JSON value in UTF-8, or is nested too deeply. The inner error is never
    /// [`DecodeError::Fields`].
    #[error(transparent)]
    Line(#[from] DecodeError),
    /// The line is JSON, but not an order. Every invalid field is listed.
    #[error("the JSON is not a valid order: {0}")]
    Fields(Box<OrderFaults>),
}

impl OrderError {
    /// Returns the error's code. If several fields are invalid, it is the code of the first one.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            OrderError::Line(error) => error.code(),
            OrderError::Fields(faults) => faults.first().map_or(Code::NotAnObject, |fault| fault.code),
        }
    }

    /// Returns the errors in the line's fields. The slice is empty if the line is not JSON.
    #[must_use]
    pub fn faults(&self) -> &[OrderFault] {
        match self {
            OrderError::Line(_) => &[],
            OrderError::Fields(faults) => faults,
        }
    }

    /// Returns the order's id, if it is valid.
    #[must_use]
    pub fn order_id(&self) -> Option<&str> {
        match self {
            OrderError::Line(_) => None,
            OrderError::Fields(faults) => faults.order_id.as_deref(),
        }
    }
}

/// The invalid fields of an order, at least one. The order's own fields come first, as `Order` declares them, then
/// the items' fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderFaults {
    faults: Vec<OrderFault>,
    is_cut: bool,
    order_id: Option<Box<str>>,
}

impl OrderFaults {
    /// Returns `true` if there were more errors than are listed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    #[cold]
    pub(super) fn add(&mut self, item: Option<u16>, error: &FieldError) {
        if self.faults.len() == ORDER_FAULTS_MAX {
            self.is_cut = true;
            return;
        }
        let FieldError { pointer, code, detail } = *error;
        self.faults.push(OrderFault { pointer: OrderPointer { item, within: pointer }, code, detail });
    }

    /// Returns a valid value, or adds the error to the list.
    #[inline]
    pub(super) fn right_or_add<T>(&mut self, result: Result<T, &'static FieldError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(None, error);
                None
            }
        }
    }

    /// Removes the items' errors.
    #[cold]
    pub(super) fn drop_items(&mut self) {
        self.faults.retain(|fault| fault.pointer.item.is_none());
        self.is_cut = false;
    }

    #[cold]
    pub(super) fn into_error(self, order_id: Option<&[u8]>) -> OrderError {
        let order_id = order_id.and_then(|id| std::str::from_utf8(id).ok()).map(Box::from);
        OrderError::Fields(Box::new(OrderFaults { order_id, ..self }))
    }
}

impl Deref for OrderFaults {
    type Target = [OrderFault];

    fn deref(&self) -> &[OrderFault] {
        &self.faults
    }
}

/// Writes all errors as one sentence. An error in an item is preceded by its pointer.
impl fmt::Display for OrderFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "; " })?;
            match fault.pointer.item {
                None => f.write_str(fault.detail)?,
                Some(_) => write!(f, "{}: {}", fault.pointer, fault.detail)?,
            }
        }
        f.write_str(if self.is_cut { "; and more" } else { "" })
    }
}

/// One invalid field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderFault {
    pub pointer: OrderPointer,
    pub code: Code,
    /// One sentence for people, without the position.
    pub detail: &'static str,
}

/// A JSON Pointer (RFC 6901) to an order's field, written by `Display`: `/currency`, `/items/3/unit_price`. It is
/// empty for the whole line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderPointer {
    item: Option<u16>,
    within: &'static str,
}

impl fmt::Display for OrderPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.item {
            None => f.write_str(self.within),
            Some(index) => write!(f, "/items/{index}{}", self.within),
        }
    }
}

const TOO_LONG: FieldError = field("", Code::TooLarge, "an order must be at most 2097152 bytes");
const NOT_AN_OBJECT: FieldError = field("", Code::NotAnObject, "an order must be a JSON object");

const _: () = assert!(super::ORDER_BYTES_MAX == 2_097_152);

#[cold]
pub(super) fn line_too_long() -> OrderError {
    of_line(&TOO_LONG)
}

#[cold]
pub(super) fn not_an_object() -> OrderError {
    of_line(&NOT_AN_OBJECT)
}

fn of_line(error: &FieldError) -> OrderError {
    let mut faults = OrderFaults::default();
    faults.add(None, error);
    faults.into_error(None)
}
