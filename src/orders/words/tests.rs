//! E1 for the word index: after the merge, no segment contains a word of a deleted entry, regardless of which
//! segments existed before.

use rusqlite::{Connection, params};

use super::merge::Structure;
use super::{WORDS_SQL, delete_words, make_words, merge_words, tenant_word, verify_entries, verify_words};
use crate::shard::{Families, VERSION};

static ONLY_ORDERS: Families =
    Families { list: &[&crate::orders::Orders], rejected_behind: 0, versions: &[""; VERSION as usize] };

/// A name. No other word has the same first letter, so the file stores the name without a shared prefix.
const SECRET: &str = "zaphodius";

struct Index {
    connection: Connection,
    next: i64,
}

impl Index {
    fn new() -> Index {
        let mut connection = Connection::open_in_memory().unwrap();
        crate::shard::migrate(&mut connection, &ONLY_ORDERS).unwrap();
        Index { connection, next: 1 }
    }

    /// Inserts `count` customers, and one with this name, in one transaction.
    fn insert(&mut self, count: i64, name: Option<&str>) -> i64 {
        self.connection.execute_batch("BEGIN").unwrap();
        for _ in 0..count {
            let number = self.next * 7_919 % 1_000_003;
            self.insert_one(&format!("w{number}"), &format!("w{number}@example.org"));
        }
        let last = name.map_or(0, |name| self.insert_one(name, ""));
        self.connection.execute_batch("COMMIT").unwrap();
        last
    }

    fn insert_one(&mut self, name: &str, email: &str) -> i64 {
        let (id, tenant) = (self.next, self.next % 3 + 1);
        self.next += 1;
        let sql = "INSERT INTO customer_row VALUES (?1, ?2, 'c', ?3, ?4, 0)";
        self.connection.execute(sql, params![id, tenant, name, email]).unwrap();
        if !name.is_empty() || !email.is_empty() {
            let values = params![id, name, email, tenant_word(tenant)];
            self.connection.execute(WORDS_SQL, values).unwrap();
        }
        id
    }

    fn delete(&self, customer: i64) -> bool {
        self.connection.execute_batch("BEGIN").unwrap();
        let had_one = delete_words(&self.connection, customer).unwrap();
        self.connection.execute("DELETE FROM customer_row WHERE id = ?1", [customer]).unwrap();
        self.connection.execute_batch("COMMIT").unwrap();
        had_one
    }

    fn optimize(&self) {
        self.connection.execute("INSERT INTO customer_text (customer_text) VALUES ('optimize')", []).unwrap();
    }

    /// Runs each merge step in its own transaction, and calls `meanwhile` between two steps. Returns the number of
    /// steps.
    fn merge(&mut self, mut meanwhile: impl FnMut(&mut Index, &mut Option<usize>)) -> usize {
        let mut level = None;
        for steps in 1..10_000 {
            self.connection.execute_batch("BEGIN").unwrap();
            let is_done = merge_words(&self.connection, &mut level).unwrap();
            self.connection.execute_batch("COMMIT").unwrap();
            if is_done {
                return steps;
            }
            meanwhile(self, &mut level);
        }
        panic!("it comes to no end: {:?}", Structure::read(&self.connection));
    }

    fn is_in_a_segment(&self, word: &str) -> bool {
        let mut statement = self.connection.prepare("SELECT block FROM customer_text_data").unwrap();
        let mut blocks = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        blocks.any(|block| memchr::memmem::find(&block.unwrap(), word.as_bytes()).is_some())
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        verify_entries(&self.connection, &mut problems).unwrap();
        verify_words(&self.connection, &mut problems).unwrap();
        self.connection
            .execute_batch("DROP TABLE expected_word; DROP TABLE customer_word; DROP TABLE expected_text")
            .unwrap();
        let check = "PRAGMA integrity_check";
        let said: String = self.connection.query_row(check, [], |row| row.get(0)).unwrap();
        problems.extend((said != "ok").then_some(said));
        problems
    }

    /// Builds an index with many levels whose segments are all on the first one.
    fn with_levels(&mut self) -> i64 {
        self.insert(2_000, None);
        for _ in 0..3 {
            self.insert(1, None);
            self.optimize();
        }
        self.insert(12_000, Some(SECRET))
    }
}

#[test]
fn e1_a_deleted_word_is_in_no_segment_where_levels_are_left_over() {
    let mut index = Index::new();
    let customer = index.with_levels();
    assert!(index.delete(customer));
    // The control: FTS5's own command keeps the word, even the second time.
    index.connection.execute_batch("BEGIN").unwrap();
    (0..2).for_each(|_| index.optimize());
    assert!(index.is_in_a_segment(SECRET), "if it does not any more, there is less to do");
    index.connection.execute_batch("ROLLBACK").unwrap();

    assert!(index.merge(|_, _| ()) > 1);
    assert!(!index.is_in_a_segment(SECRET));
    assert_eq!(index.problems(), [""; 0]);
}

/// An unsuccessful merge leaves a single segment, which FTS5 does not merge again.
#[test]
fn e1_a_deleted_word_is_in_no_segment_where_there_is_only_one() {
    let mut index = Index::new();
    let customer = index.with_levels();
    assert!(index.delete(customer));
    index.optimize();
    assert!(index.is_in_a_segment(SECRET));
    index.merge(|_, _| ());
    assert!(!index.is_in_a_segment(SECRET));
    assert_eq!(index.problems(), [""; 0]);
}

#[test]
fn e1_a_deleted_word_is_in_no_segment_whatever_comes_meanwhile() {
    for count in [0, 40, 900] {
        for forget in [0, 3] {
            let mut index = Index::new();
            let customer = index.with_levels();
            assert!(index.delete(customer));
            let mut steps = 0;
            index.merge(|index, level| {
                steps += 1;
                index.insert(count, None);
                // After a crash, the level is unknown.
                if steps <= forget {
                    *level = None;
                }
            });
            assert!(!index.is_in_a_segment(SECRET), "{count} {forget}");
            assert_eq!(index.problems(), [""; 0]);
        }
    }
}

/// A series of erasures does not accumulate levels, in a small index or in one that grows.
#[test]
fn e1_many_erasures_leave_a_sound_index() {
    let mut index = Index::new();
    for round in 0..150 {
        let secret = format!("{SECRET}{round}");
        let customer = index.insert(round * 4, Some(&secret));
        assert!(index.delete(customer));
        index.merge(|_, _| ());
        assert!(!index.is_in_a_segment(SECRET), "{round} {:?}", Structure::read(&index.connection));
    }
    assert_eq!(index.problems(), [""; 0]);
}

#[test]
fn an_entry_that_is_not_there_is_not_deleted() {
    let mut index = Index::new();
    let nobody = index.insert_one("", "");
    let customer = index.insert(3, Some("Änne O'Neil-Smith"));
    assert!(!delete_words(&index.connection, nobody).unwrap());
    assert!(!delete_words(&index.connection, 999).unwrap());
    assert!(delete_words(&index.connection, customer).unwrap());
    assert!(!delete_words(&index.connection, customer).unwrap(), "a second time");
    index.connection.execute("UPDATE customer_row SET name = '' WHERE id = ?1", [customer]).unwrap();
    assert_eq!(index.problems(), [""; 0]);
}

#[test]
fn an_index_of_other_words_is_found() {
    let mut index = Index::new();
    let customer = index.insert(3, Some("Ann Smith"));
    // A wrong tenant word is an error, and so is a wrong name.
    for change in ["name = 'Ann Smyth'", "tenant = tenant + 1"] {
        let sql = format!("UPDATE customer_row SET {change} WHERE id = ?1");
        index.connection.execute_batch("BEGIN").unwrap();
        index.connection.execute(&sql, [customer]).unwrap();
        assert!(index.problems()[0].contains(&format!("a word of customer {customer}")), "{change}");
        index.connection.execute_batch("ROLLBACK").unwrap();
    }
    index.connection.execute("DELETE FROM customer_row WHERE id = ?1", [customer]).unwrap();
    assert!(index.problems()[0].contains(&format!("customer {customer}")));
    // After a rebuild from the rows, the index is correct.
    make_words(&index.connection).unwrap();
    assert_eq!(index.problems(), [""; 0]);
}
