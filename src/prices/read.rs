//! Price reads: the first answer to a price event, anomalies newest first, and changes by number.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};

use super::convert;
use super::detect::{Finding, Score};
use super::history::currency_of;
use super::record::AnomalyId;
use super::schema::PRICE_IDS;
use crate::base::keys::KeyHasher;
use crate::base::money::{Currency, write_decimal};
use crate::base::prices::PriceRules;
use crate::shard::read::{write_rfc3339, write_string};
use crate::shard::{CHANGES, Epoch, EpochReason, ShardError, epochs, ids, is_copy};

/// The content of the response to a price event. Once it is stored, it never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstAnswer {
    /// The JSON of the anomaly as it was found, or `null`.
    pub anomaly: String,
}

impl FirstAnswer {
    /// Returns the answer to an event without an anomaly.
    pub(super) fn in_line() -> FirstAnswer {
        FirstAnswer { anomaly: "null".to_owned() }
    }
}

/// The current decision on an anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnomalyStatus {
    Open,
    Approved,
    Rejected,
}

impl AnomalyStatus {
    pub const ALL: [AnomalyStatus; 3] =
        [AnomalyStatus::Open, AnomalyStatus::Approved, AnomalyStatus::Rejected];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AnomalyStatus::Open => "open",
            AnomalyStatus::Approved => "approved",
            AnomalyStatus::Rejected => "rejected",
        }
    }
}

/// A filter that selects anomalies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnomalyFilter {
    pub tenant_id: String,
    pub product_id: Option<String>,
    pub status: Option<AnomalyStatus>,
    /// Selects only anomalies whose event was received at this time or later.
    pub from_us: Option<i64>,
    /// Selects only anomalies whose event was received before this time.
    pub to_us: Option<i64>,
    /// Selects only anomalies after this one, in newest-first order.
    pub after: Option<(i64, String)>,
}

/// One rendered anomaly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnomalyLine {
    pub created_us: i64,
    pub anomaly_id: String,
    /// The anomaly as a JSON object.
    pub json: Vec<u8>,
}

/// One anomaly, found by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnomaly {
    pub product_id: String,
    pub json: Vec<u8>,
}

/// A position among a shard's changes, and the numbering that it belongs to. The default precedes every change in any
/// numbering.
///
/// The numbers survive if the process is killed. A power failure may undo commits that were not yet on the disk. The
/// shard repeats these commits from the journals, possibly in another order if several journals feed it. A client may
/// then miss a change if it received a change whose commit was undone, and reconnects after the shard has assigned
/// that change's number again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeMark {
    pub epoch: u32,
    pub change: u64,
    /// The numbering before this one, and the last number up to which both have the same changes. Set only in a shard's
    /// newest position, and only in a copied file.
    pub before: Option<(u32, u64)>,
}

impl ChangeMark {
    /// Returns `true` if this position does not exist in a shard whose newest position is `now`. In that case, the
    /// shard's file was replaced by another file or by an older copy of itself, and its next numbers belong to other
    /// changes. A position of zero is valid in any numbering.
    #[must_use]
    pub fn is_lost(self, now: ChangeMark) -> bool {
        let is_of = |(epoch, upto): (u32, u64)| self.epoch == epoch && self.change <= upto;
        self.change > 0 && !is_of((now.epoch, now.change)) && !now.before.is_some_and(is_of)
    }

    /// Returns a position that a stream holds.
    #[must_use]
    pub fn at(epoch: u32, change: u64) -> ChangeMark {
        ChangeMark { epoch, change, before: None }
    }
}

/// A new anomaly, or a decision on one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceChange {
    pub change: u64,
    pub at_us: i64,
    pub tenant_id: String,
    pub product_id: String,
    /// If true, the change is a decision. Otherwise, it is a new anomaly.
    pub is_review: bool,
    /// The anomaly as it was at the time of the change.
    pub json: Vec<u8>,
}

/// The columns of an anomaly, in the order that [`render`] expects.
const COLUMNS: &str = "a.anomaly_id, a.product_id, a.event_id, a.observed_at_us, a.price, a.currency, a.created_us, \
    a.baseline, a.change_bp, a.median, a.mad, a.score_milli, a.compared, a.change_bp_max, a.score_milli_max, \
    a.status, a.reviewed_us";

/// How an anomaly is rendered: as it is now, or as it was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AnomalyView {
    Now,
    Found,
}

fn text<'r>(row: &'r Row<'_>, at: usize) -> Result<&'r str, ShardError> {
    Ok(row.get_ref(at)?.as_str().map_err(rusqlite::Error::from)?)
}

/// Reads a finding from the columns baseline, change_bp, median, mad, score_milli and compared, which start at
/// `first`.
pub(super) fn finding(row: &Row<'_>, first: usize) -> Result<Finding, ShardError> {
    let score = match row.get::<_, Option<i64>>(first + 4)? {
        None => None,
        Some(milli) => Some(Score {
            median: row.get(first + 2)?,
            mad: row.get(first + 3)?,
            milli,
            count: row.get(first + 5)?,
        }),
    };
    Ok(Finding { baseline: row.get(first)?, change_bp: row.get(first + 1)?, score })
}

fn write_money(out: &mut Vec<u8>, minor: i64, currency: Currency) {
    out.push(b'"');
    write_decimal(minor, currency.digits(), out);
    out.push(b'"');
}

/// Writes a number with `digits` decimal places, without trailing zeros.
fn write_number(out: &mut Vec<u8>, number: i64, digits: u8) {
    write_decimal(number, digits, out);
    while out.last() == Some(&b'0') {
        out.pop();
    }
    if out.last() == Some(&b'.') {
        out.pop();
    }
}

/// Renders the part of an anomaly that the response to its event also contains: the comparison, and the rules that
/// the price violates.
fn render_finding(out: &mut Vec<u8>, row: &Row<'_>) -> Result<(), ShardError> {
    let finding = finding(row, 7)?;
    let rules = PriceRules { change_bp: row.get(13)?, score_milli: row.get(14)?, window: 0 };
    out.extend_from_slice(b",\"change_percent\":");
    match finding.change_bp {
        Some(change) => write_number(out, change, 2),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"baseline\":");
    write_money(out, finding.baseline, currency_of(row, 5)?);
    out.extend_from_slice(b",\"threshold_percent\":");
    write_number(out, i64::from(rules.change_bp), 2);
    out.extend_from_slice(b",\"reasons\":[");
    let reasons = [(finding.is_by_change(&rules), "\"change\""), (finding.is_by_score(&rules), "\"score\"")];
    let mut separator: &[u8] = b"";
    for (_, reason) in reasons.iter().filter(|(is_one, _)| *is_one) {
        out.extend_from_slice(separator);
        out.extend_from_slice(reason.as_bytes());
        separator = b",";
    }
    out.extend_from_slice(b"],\"score\":");
    match finding.score {
        None => out.extend_from_slice(b"null"),
        Some(score) => {
            out.extend_from_slice(b"{\"value\":");
            write_number(out, score.milli, 3);
            out.extend_from_slice(b",\"threshold\":");
            write_number(out, i64::from(rules.score_milli), 3);
            out.extend_from_slice(b",\"median\":");
            write_money(out, score.median, currency_of(row, 5)?);
            out.extend_from_slice(b",\"mad\":");
            write_money(out, score.mad, currency_of(row, 5)?);
            out.extend_from_slice(b",\"prices\":");
            out.extend_from_slice(itoa::Buffer::new().format(score.count).as_bytes());
            out.push(b'}');
        }
    }
    Ok(())
}

/// Renders the anomaly as a JSON object.
fn render(row: &Row<'_>, shown: AnomalyView) -> Result<Vec<u8>, ShardError> {
    let mut out = Vec::with_capacity(512);
    for (name, at) in [("{\"id\":", 0), (",\"product_id\":", 1), (",\"event_id\":", 2)] {
        out.extend_from_slice(name.as_bytes());
        write_string(&mut out, text(row, at)?.as_bytes());
    }
    out.extend_from_slice(b",\"price\":");
    write_money(&mut out, row.get(4)?, currency_of(row, 5)?);
    out.extend_from_slice(b",\"currency\":");
    write_string(&mut out, text(row, 5)?.as_bytes());
    for (name, at) in [(",\"observed_at\":\"", 3), (",\"created_at\":\"", 6)] {
        out.extend_from_slice(name.as_bytes());
        write_rfc3339(&mut out, row.get(at)?);
        out.push(b'"');
    }
    render_finding(&mut out, row)?;
    out.extend_from_slice(b",\"status\":");
    let status = if shown == AnomalyView::Found { "open" } else { text(row, 15)? };
    write_string(&mut out, status.as_bytes());
    out.extend_from_slice(b",\"reviewed_at\":");
    match row.get::<_, Option<i64>>(16)? {
        Some(at_us) if shown == AnomalyView::Now => {
            out.push(b'"');
            write_rfc3339(&mut out, at_us);
            out.push(b'"');
        }
        _ => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
    Ok(out)
}

/// Returns the first answer to a price event that is stored. An event without an anomaly is not read.
pub fn first_answer(
    connection: &Connection,
    keys: &KeyHasher,
    tenant_id: &str,
    product_id: &str,
    event_id: &str,
) -> Result<FirstAnswer, ShardError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM price_anomaly a WHERE a.anomaly_id = ?1 AND a.tenant = (SELECT id FROM tenant_row \
         WHERE tenant_id = ?2) AND a.product_id = ?3 AND a.event_id = ?4"
    );
    let name = AnomalyId::of(keys, tenant_id, product_id, event_id);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![name.to_string(), tenant_id, product_id, event_id])?;
    let Some(row) = rows.next()? else { return Ok(FirstAnswer::in_line()) };
    let mut out = b"{\"id\":".to_vec();
    write_string(&mut out, text(row, 0)?.as_bytes());
    render_finding(&mut out, row)?;
    out.extend_from_slice(b",\"status\":\"open\"}");
    let anomaly = String::from_utf8(out).map_err(|error| ShardError::Corrupt(error.to_string()))?;
    Ok(FirstAnswer { anomaly })
}

/// The SQL that compares the id of the price event with a row id.
const EVENT_SQL: &str = "SELECT EXISTS (SELECT 1 FROM price_row r CROSS JOIN price_series s ON s.id = r.series \
    CROSS JOIN tenant_row t ON t.id = s.tenant WHERE r.id = ?1 AND r.event_id = ?4 AND r.window_max IS NOT NULL \
    AND s.product_id = ?3 AND t.tenant_id = ?2)";

/// Returns `true` if a price event is stored. Scans the newest ids, which takes up to a quarter of a millisecond.
pub fn has_event(
    connection: &Connection,
    keys: &KeyHasher,
    tenant_id: &str,
    product_id: &str,
    event_id: &str,
) -> Result<bool, ShardError> {
    let hash = keys.hash_all([tenant_id, product_id, event_id]);
    for id in ids::find(connection, &PRICE_IDS, hash)? {
        let values = params![id, tenant_id, product_id, event_id];
        if connection.prepare_cached(EVENT_SQL)?.query_row(values, |row| row.get(0))? {
            return Ok(true);
        }
    }
    convert::has_event(connection, tenant_id, product_id, event_id)
}

/// Returns one of a tenant's anomalies by its id.
pub fn anomaly(
    connection: &Connection,
    tenant_id: &str,
    name: AnomalyId,
) -> Result<Option<StoredAnomaly>, ShardError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM price_anomaly a WHERE a.anomaly_id = ?1 \
         AND a.tenant = (SELECT id FROM tenant_row WHERE tenant_id = ?2) ORDER BY a.id LIMIT 1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![name.to_string(), tenant_id])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(StoredAnomaly { product_id: text(row, 1)?.to_owned(), json: render(row, AnomalyView::Now)? }))
}

/// Returns at most `limit` of a shard's anomalies, newest first. An index provides this order. If the filter has both
/// a product and a status, the query scans all of the product's anomalies.
pub fn anomalies(
    connection: &Connection,
    of: &AnomalyFilter,
    limit: usize,
) -> Result<Vec<AnomalyLine>, ShardError> {
    let find = "SELECT id FROM tenant_row WHERE tenant_id = ?1";
    let found = connection.prepare_cached(find)?.query_row([&of.tenant_id], |row| row.get(0)).optional()?;
    let Some(tenant): Option<i64> = found else { return Ok(Vec::new()) };
    let mut wanted = String::from("a.tenant = ?");
    let mut values: Vec<Value> = vec![tenant.into()];
    let mut also = |text: &str, value: Value| {
        wanted.push_str(" AND ");
        wanted.push_str(text);
        values.push(value);
    };
    let index = match (&of.product_id, of.status) {
        (Some(_), _) => "price_anomaly_product",
        (None, Some(_)) => "price_anomaly_status",
        (None, None) => "price_anomaly_time",
    };
    if let Some(product_id) = &of.product_id {
        also("a.product_id = ?", product_id.clone().into());
    }
    if let Some(status) = of.status {
        also("a.status = ?", status.as_str().to_owned().into());
    }
    if let Some(from_us) = of.from_us {
        also("a.created_us >= ?", from_us.into());
    }
    if let Some(to_us) = of.to_us {
        also("a.created_us < ?", to_us.into());
    }
    if let Some((created_us, anomaly_id)) = &of.after {
        also("(a.created_us, a.anomaly_id) < (?,", (*created_us).into());
        wanted.push_str("?)");
        values.push(anomaly_id.clone().into());
    }
    values.push((limit as i64).into());
    let sql = format!(
        "SELECT {COLUMNS} FROM price_anomaly a INDEXED BY {index} WHERE {wanted} \
         ORDER BY a.created_us DESC, a.anomaly_id DESC LIMIT ?"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        let (created_us, anomaly_id) = (row.get(6)?, text(row, 0)?.to_owned());
        lines.push(AnomalyLine { created_us, anomaly_id, json: render(row, AnomalyView::Now)? });
    }
    Ok(lines)
}

/// Returns the position of the newest change of prices. Other changes do not move it.
pub fn change_mark(connection: &Connection) -> Result<ChangeMark, ShardError> {
    let read = |row: &Row<'_>| Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?));
    let (made, change) = connection.prepare_cached(MARK_SQL)?.query_row([], read)?;
    let now = ChangeMark::at(made, change.unsigned_abs());
    if !is_copy(connection)? {
        return Ok(now);
    }
    let epochs = epochs(connection)?;
    let Some((newest, before)) = epochs.split_last() else { return Ok(now) };
    let before = match before.last() {
        None => None,
        Some(before) => {
            let upto = newest.starts.get(CHANGES).copied().unwrap_or_default();
            Some((epoch_of(before, made)?, upto.unsigned_abs()))
        }
    };
    Ok(ChangeMark { epoch: epoch_of(newest, made)?, before, ..now })
}

const MARK_SQL: &str = "SELECT epoch, coalesce((SELECT max(seq) FROM change INDEXED BY change_price \
    WHERE kind IN ('anomaly', 'review')), 0) FROM price_change_epoch";

/// Returns the number of the numbering of an epoch: the start of its id, or, of the file's first one, what was drawn when
/// the file was made.
fn epoch_of(epoch: &Epoch, made: u32) -> Result<u32, ShardError> {
    if matches!(epoch.reason, EpochReason::Made | EpochReason::Migrated) {
        return Ok(made);
    }
    let start = epoch.id.get(..8).and_then(|start| u32::from_str_radix(start, 16).ok());
    start.ok_or_else(|| ShardError::Corrupt(format!("the id of an epoch is {:?}", epoch.id)))
}

/// Returns the greatest number of a tenant's changes that retention has deleted, or 0.
pub fn dropped_changes(connection: &Connection, tenant_id: &str) -> Result<u64, ShardError> {
    let change: Option<i64> =
        connection.prepare_cached(DROPPED_SQL)?.query_row([tenant_id], |row| row.get(0)).optional()?;
    Ok(change.unwrap_or_default().unsigned_abs())
}

const DROPPED_SQL: &str = "SELECT d.change FROM tenant_row t JOIN price_change_dropped d ON d.tenant = t.id \
                           WHERE t.tenant_id = ?1";

/// Returns at most `limit` changes with numbers above `after` and up to `upto`, in ascending order, for one tenant or
/// for all.
pub fn changes(
    connection: &Connection,
    tenant_id: Option<&str>,
    (after, upto): (u64, u64),
    limit: usize,
) -> Result<Vec<PriceChange>, ShardError> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut values: Vec<Value> = vec![number(after).into(), number(upto).into(), (limit as i64).into()];
    values.extend(tenant_id.map(|tenant_id| tenant_id.to_owned().into()));
    let mut statement = connection.prepare_cached(&changes_sql(tenant_id.is_some()))?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let is_review: bool = row.get(18)?;
        found.push(PriceChange {
            change: row.get::<_, i64>(17)?.unsigned_abs(),
            at_us: row.get(19)?,
            tenant_id: text(row, 20)?.to_owned(),
            product_id: text(row, 1)?.to_owned(),
            is_review,
            json: render(row, if is_review { AnomalyView::Now } else { AnomalyView::Found })?,
        });
    }
    Ok(found)
}

/// Returns the SQL that reads changes of one tenant or of all. Changes of other kinds are not among the entries of the
/// indexes.
fn changes_sql(is_of_tenant: bool) -> String {
    let (index, whose) = match is_of_tenant {
        false => ("change_price", ""),
        true => ("change_price_tenant", "AND c.tenant = (SELECT id FROM tenant_row WHERE tenant_id = ?4)"),
    };
    format!(
        "SELECT {COLUMNS}, c.seq, c.kind = 'review', c.at_us, t.tenant_id FROM change c INDEXED BY {index} \
         CROSS JOIN price_anomaly a ON a.id = c.ref CROSS JOIN tenant_row t ON t.id = c.tenant \
         WHERE c.kind IN ('anomaly', 'review') AND c.seq > ?1 AND c.seq <= ?2 {whose} ORDER BY c.seq LIMIT ?3"
    )
}

/// Returns the statements of streams of changes, for checking query plans.
pub(super) fn statements() -> Vec<(String, String)> {
    vec![
        ("changes of prices of all tenants".to_owned(), changes_sql(false)),
        ("changes of prices of a tenant".to_owned(), changes_sql(true)),
    ]
}
