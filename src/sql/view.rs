//! A view: its columns, and the SQL that reads them from one table of a shard.

use crate::shard::Stream;
use crate::shard::ids::IdsOf;

/// The name of the column with the number of the shard.
pub(super) const SHARD: &str = "shard";
/// The name of the column with the tenant.
pub(super) const TENANT: &str = "tenant_id";

/// One view over all shards.
pub(super) struct View {
    pub(super) name: &'static str,
    /// One sentence for `.schema`.
    pub(super) about: &'static str,
    pub(super) columns: &'static [Column],
    /// The columns that identify a row.
    pub(super) key: &'static str,
    pub(super) from: From,
    /// Tables with the names that rows refer to by number. A statement has only those that it needs.
    pub(super) joins: &'static [&'static str],
    /// The indexes of a shard, as columns of this view. Equalities use a prefix, and one range the column after it.
    pub(super) indexes: &'static [&'static [&'static str]],
    /// The column whose bounds a partition knows.
    pub(super) time: Option<&'static str>,
    /// The column with the row id of the stream, which selects the partition.
    pub(super) row: Option<&'static str>,
    /// The tenant and the id whose hash selects the shard.
    pub(super) route: Option<[&'static str; 2]>,
    /// The index of hashed ids, which finds the row of a routed id, and the condition that selects the row `{r}`.
    pub(super) lookup: Option<(&'static IdsOf, &'static str)>,
    /// If a row may be in several shards: expressions that equal rows have in common and by which a shard can sort.
    /// Empty: a row is in one shard only.
    pub(super) merged: &'static [&'static str],
    /// SQL for the approximate number of rows of a shard.
    pub(super) size: &'static str,
}

/// Where the rows of a view are. `{p}` is replaced by the name of a partition, `{items}` by that of its items.
pub(super) enum From {
    Table(&'static str),
    Partitions(&'static Stream, &'static str),
    /// A table and, for each partition of a stream, a query.
    Both(&'static str, &'static Stream, &'static str),
}

pub(super) struct Column {
    pub(super) name: &'static str,
    /// The expression. For a time, that of its microseconds.
    pub(super) sql: &'static str,
    pub(super) kind: Kind,
    /// The joins that the expression needs.
    pub(super) joins: &'static [usize],
    pub(super) test: Test,
}

/// The type of a column. The affinity is that of the same column in a shard's view, so that a comparison has the same
/// result here and there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A stored text.
    Text,
    /// A text that an expression returns.
    Label,
    /// A stored number.
    Integer,
    /// A number that an expression returns.
    Number,
    /// A time as RFC 3339, of a number of microseconds.
    Time,
    /// The number of the shard.
    Shard,
}

impl Kind {
    pub(super) fn declared(self) -> &'static str {
        match self {
            Kind::Text => " TEXT",
            Kind::Integer | Kind::Shard => " INTEGER",
            Kind::Label | Kind::Number | Kind::Time => "",
        }
    }

    pub(super) fn shown(self) -> &'static str {
        match self {
            Kind::Text | Kind::Label => "text",
            Kind::Integer | Kind::Shard => "integer",
            Kind::Number => "number",
            Kind::Time => "time",
        }
    }

    pub(super) fn is_text(self) -> bool {
        matches!(self, Kind::Text | Kind::Label)
    }
}

/// How a shard compares a column with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// By its expression.
    Plain,
    /// By the number of the tenant, in this column.
    Tenant(&'static str),
    /// By the rows of this table that the name has, if the tenant is known.
    Customer(&'static str),
    Product(&'static str),
    /// By the rows of the product, if the tenant is known. The column has their ids, which is 0 for those that a shard has
    /// yet to convert. The SQL selects the ids. Each `{p}` in it is the product, and follows a `?`, which is the tenant.
    History(&'static str, &'static str),
    /// An order's row, by the range of its items' ids.
    OrderRow(&'static str),
}

/// A column whose expression needs no join.
pub(super) const fn own(name: &'static str, sql: &'static str, kind: Kind) -> Column {
    Column { name, sql, kind, joins: &[], test: Test::Plain }
}

/// A column of a joined table.
pub(super) const fn joined(
    name: &'static str,
    sql: &'static str,
    kind: Kind,
    joins: &'static [usize],
    test: Test,
) -> Column {
    Column { name, sql, kind, joins, test }
}

/// The number of the shard, which no statement reads.
pub(super) const fn shard() -> Column {
    own(SHARD, "NULL", Kind::Shard)
}

impl View {
    /// Returns the index of a column.
    ///
    /// # Panics
    /// There is no such column, which a test of the list of views excludes.
    pub(super) fn column(&self, name: &str) -> usize {
        self.find(name).expect("the view has the column")
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Returns the SQL that declares the table to SQLite.
    pub(super) fn declaration(&self) -> String {
        let columns: Vec<String> =
            self.columns.iter().map(|column| format!("{}{}", column.name, column.kind.declared())).collect();
        format!("CREATE TABLE x({}, PRIMARY KEY ({})) WITHOUT ROWID", columns.join(", "), self.key)
    }

    pub(super) fn stream(&self) -> Option<&'static Stream> {
        match self.from {
            From::Table(_) => None,
            From::Partitions(stream, _) | From::Both(_, stream, _) => Some(stream),
        }
    }
}
