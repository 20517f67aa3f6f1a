//! The values of `IN`, which SQLite passes all at once.

use rusqlite::types::{Value, ValueRef};

use super::view::Kind;
use crate::shard::read::write_string;

/// Values that a shard compares a column with. The shards do not get a longer list, because each statement has a copy
/// of it. SQLite compares the rows with the list anyway.
pub(super) const VALUES_MAX: usize = 100_000;

/// The values of a condition, as SQLite passes them.
pub(super) enum Given {
    One(Value),
    /// A list with up to [`VALUES_MAX`] values. `None` if it has more.
    List(Option<Vec<Value>>),
}

/// A list of values that are all of a column's type.
pub(super) enum List {
    Texts(Vec<String>),
    Integers(Vec<i64>),
}

impl List {
    /// Returns the values that a column of this type may equal. `None` if a shard could compare one of them differently
    /// from the query.
    pub(super) fn of(kind: Kind, values: &[Value]) -> Option<List> {
        let values = values.iter().filter(|value| **value != Value::Null);
        if kind.is_text() {
            // SQLite reads a zero character in JSON differently from one in a value.
            let text = |value: &Value| match value {
                Value::Text(text) if !text.contains('\0') => Some(text.clone()),
                _ => None,
            };
            return values.map(text).collect::<Option<_>>().map(List::Texts);
        }
        let number = |value: &Value| match value {
            Value::Integer(number) => Some(*number),
            _ => None,
        };
        values.map(number).collect::<Option<_>>().map(List::Integers)
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            List::Texts(texts) => texts.is_empty(),
            List::Integers(numbers) => numbers.is_empty(),
        }
    }

    /// Returns the list as a JSON array, which a statement reads with `json_each`.
    pub(super) fn json(&self) -> Value {
        match self {
            List::Texts(texts) => json(texts, |text, out| write_string(out, text.as_bytes())),
            List::Integers(numbers) => json_of(numbers),
        }
    }
}

/// Returns integers as a JSON array.
pub(super) fn json_of(numbers: &[i64]) -> Value {
    json(numbers, |number, out| out.extend_from_slice(number.to_string().as_bytes()))
}

fn json<T>(values: &[T], write: impl Fn(&T, &mut Vec<u8>)) -> Value {
    let mut out = vec![b'['];
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(value, &mut out);
    }
    out.push(b']');
    // Every value is UTF-8.
    Value::Text(String::from_utf8_lossy(&out).into_owned())
}

/// Copies a value. Names are valid UTF-8; other bytes would be a blob.
pub(super) fn copy(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Blob(text.to_vec()),
        },
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}
