//! Finds the customers whose names or e-mail addresses contain given words, or who have a given id.

use rusqlite::Connection;

use super::super::erase::customers_of;
use super::super::words::tenant_word;
use super::filter::OrderFilter;
use crate::shard::ShardError;

/// The maximum number of customers whose lists are merged. If there are more, the orders are read from the time
/// index.
pub(in crate::orders) const CUSTOMER_LISTS_MAX: usize = 64;

/// A set of one shard's customers, as a bitmap over their numbers: one bit for each of the shard's customers.
#[derive(Debug, Default)]
pub(in crate::orders) struct CustomerSet {
    bits: Vec<u64>,
    count: usize,
    /// The first [`CUSTOMER_LISTS_MAX`] customers.
    few: Vec<i64>,
}

impl CustomerSet {
    fn add(&mut self, customer: i64) {
        let Ok(at) = usize::try_from(customer) else { return };
        if self.bits.len() <= at / 64 {
            self.bits.resize(at / 64 + 1, 0);
        }
        if self.has(customer) {
            return;
        }
        self.bits[at / 64] |= 1 << (at % 64);
        self.count += 1;
        if self.few.len() < CUSTOMER_LISTS_MAX {
            self.few.push(customer);
        }
    }

    pub(super) fn has(&self, customer: i64) -> bool {
        let at = customer.unsigned_abs() as usize;
        self.bits.get(at / 64).is_some_and(|bits| bits & 1 << (at % 64) != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns all customers if there are at most [`CUSTOMER_LISTS_MAX`].
    pub(super) fn few(&self) -> Option<&[i64]> {
        (self.count <= CUSTOMER_LISTS_MAX).then_some(&self.few)
    }
}

/// Returns the customers that the filter selects: those that match its words and have its customer id.
pub(super) fn selected(
    connection: &Connection,
    tenant: i64,
    of: &OrderFilter,
) -> Result<CustomerSet, ShardError> {
    let words = (!of.words.is_empty()).then(|| search(connection, tenant, &of.words)).transpose()?;
    let Some(customer) = &of.customer else { return Ok(words.unwrap_or_default()) };
    let key = (customer.customer_id.as_str(), customer.key.0 as i64);
    let (_, numbers) = customers_of(connection, &of.tenant_id, key)?.unwrap_or_default();
    let mut found = CustomerSet::default();
    for number in numbers {
        if words.as_ref().is_none_or(|words| words.has(number)) {
            found.add(number);
        }
    }
    Ok(found)
}

pub(super) const SQL: &str = "SELECT rowid FROM customer_text WHERE customer_text MATCH ?1";

/// Returns the customers that match all words. Takes about 1 us for each customer found.
fn search(connection: &Connection, tenant: i64, words: &[String]) -> Result<CustomerSet, ShardError> {
    let mut statement = connection.prepare_cached(SQL)?;
    let mut rows = statement.query([expression(tenant, words)])?;
    let mut found = CustomerSet::default();
    while let Some(row) = rows.next()? {
        found.add(row.get(0)?);
    }
    Ok(found)
}

/// Returns the FTS5 expression for the words. Every word is quoted, so that it cannot contain syntax.
fn expression(tenant: i64, words: &[String]) -> String {
    let mut expression = format!("{{tenant}} : \"{}\"", tenant_word(tenant));
    for word in words {
        let (word, star) = match word.strip_suffix('*') {
            Some(word) => (word, "*"),
            None => (word.as_str(), ""),
        };
        expression.push_str(&format!(" AND {{name email}} : \"{}\"{star}", word.replace('"', "\"\"")));
    }
    expression
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_never_syntax() {
        let words = ["ann*".to_owned(), "o\"ne".to_owned(), "NOT".to_owned()];
        assert_eq!(
            expression(5, &words),
            "{tenant} : \"tenant5\" AND {name email} : \"ann\"* AND {name email} : \"o\"\"ne\" \
             AND {name email} : \"NOT\""
        );
    }

    #[test]
    fn a_set_has_what_was_added() {
        let mut set = CustomerSet::default();
        for customer in [3, 64, 64, 1_000] {
            set.add(customer);
        }
        assert!(set.has(3) && set.has(64) && set.has(1_000));
        assert!(!set.has(4) && !set.has(100_000));
        assert_eq!(set.few(), Some(&[3, 64, 1_000][..]));
        (2_000..2_100).for_each(|customer| set.add(customer));
        assert_eq!(set.few(), None);
    }
}
