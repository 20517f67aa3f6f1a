//! Aligned columns for people.

use rusqlite::types::ValueRef;
use unicode_width::UnicodeWidthStr as _;

use super::values::write_plain;

/// Rows that are kept to find the widths of the columns. Later rows are aligned to these widths.
const ROWS_KEPT: usize = 500;
/// Bytes of them.
const BYTES_KEPT: usize = 1 << 20;
/// The maximum width to which a column is aligned. A longer value is written whole and moves the rest of its line.
const WIDTH_MAX: usize = 60;

struct Cell {
    text: String,
    is_number: bool,
}

pub(in crate::sql) struct Table {
    columns: Vec<String>,
    kept: Vec<Vec<Cell>>,
    kept_bytes: usize,
    /// Empty until the first line is written.
    widths: Vec<usize>,
    rows: u64,
    has_header: bool,
    /// For a query plan: the ids of the steps, with their depths.
    plan: Option<Vec<(i64, usize)>>,
}

impl Table {
    pub(super) fn new(columns: Vec<String>, is_plan: bool, has_header: bool) -> Table {
        let columns = columns.iter().map(|column| escaped(column)).collect();
        let plan = is_plan.then(Vec::new);
        Table { columns, kept: Vec::new(), kept_bytes: 0, widths: Vec::new(), rows: 0, has_header, plan }
    }

    pub(super) fn row(&mut self, values: &[ValueRef<'_>], out: &mut Vec<u8>) {
        if let Some(steps) = &mut self.plan {
            return write_step(steps, values, out);
        }
        self.rows += 1;
        let cells: Vec<Cell> = values.iter().map(|value| cell(*value)).collect();
        if !self.widths.is_empty() {
            return self.line(&cells, out);
        }
        self.kept_bytes += cells.iter().map(|cell| cell.text.len()).sum::<usize>();
        self.kept.push(cells);
        if self.kept.len() >= ROWS_KEPT || self.kept_bytes >= BYTES_KEPT {
            self.settle(out);
        }
    }

    /// Writes the head and the kept rows.
    fn settle(&mut self, out: &mut Vec<u8>) {
        let kept = std::mem::take(&mut self.kept);
        let width = |(index, column): (usize, &String)| {
            let cells = kept.iter().map(|cells| cells[index].text.width());
            cells.chain([column.width()]).max().unwrap_or(0).min(WIDTH_MAX)
        };
        self.widths = self.columns.iter().enumerate().map(width).collect();
        if self.has_header {
            let head: Vec<Cell> =
                self.columns.iter().map(|text| Cell { text: text.clone(), is_number: false }).collect();
            self.line(&head, out);
            let rule: Vec<String> = self.widths.iter().map(|width| "-".repeat(width + 2)).collect();
            let rule = rule.join("+");
            out.extend_from_slice(rule.get(1..rule.len().saturating_sub(1)).unwrap_or_default().as_bytes());
            out.push(b'\n');
        }
        kept.iter().for_each(|cells| self.line(cells, out));
    }

    fn line(&self, cells: &[Cell], out: &mut Vec<u8>) {
        for (index, (cell, width)) in cells.iter().zip(&self.widths).enumerate() {
            if index > 0 {
                out.extend_from_slice(b" | ");
            }
            let missing = " ".repeat(width.saturating_sub(cell.text.width()));
            let is_last = index + 1 == cells.len();
            let (before, after) =
                if cell.is_number { (missing.as_str(), "") } else { ("", missing.as_str()) };
            out.extend_from_slice(before.as_bytes());
            out.extend_from_slice(cell.text.as_bytes());
            if !is_last {
                out.extend_from_slice(after.as_bytes());
            }
        }
        out.push(b'\n');
    }

    pub(super) fn end(mut self, out: &mut Vec<u8>) {
        if self.plan.is_some() {
            return;
        }
        if self.widths.is_empty() {
            self.settle(out);
        }
        let plural = if self.rows == 1 { "" } else { "s" };
        out.extend_from_slice(format!("({} row{plural})\n", self.rows).as_bytes());
    }
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell { text: "NULL".to_owned(), is_number: false },
        ValueRef::Text(b"NULL") => Cell { text: "'NULL'".to_owned(), is_number: false },
        ValueRef::Text(bytes) => Cell { text: escaped(&String::from_utf8_lossy(bytes)), is_number: false },
        value => {
            let mut text = Vec::new();
            write_plain(value, &mut text);
            let is_number = !matches!(value, ValueRef::Blob(_));
            Cell { text: String::from_utf8_lossy(&text).into_owned(), is_number }
        }
    }
}

/// Replaces control characters, which a terminal would obey, and marks that reverse the direction of the text.
fn escaped(text: &str) -> String {
    let is_plain = |sign: char| {
        !sign.is_control()
            && !('\u{202a}'..='\u{202e}').contains(&sign)
            && !('\u{2066}'..='\u{2069}').contains(&sign)
    };
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 8), |mut out, sign| {
        match is_plain(sign) {
            true => out.push(sign),
            false => out.extend(sign.escape_default()),
        }
        out
    })
}

/// Writes a step of a query plan, indented below the step that it belongs to.
fn write_step(steps: &mut Vec<(i64, usize)>, values: &[ValueRef<'_>], out: &mut Vec<u8>) {
    let number = |at: usize| match values.get(at) {
        Some(ValueRef::Integer(number)) => *number,
        _ => 0,
    };
    let depth = steps.iter().find(|(id, _)| *id == number(1)).map_or(0, |(_, depth)| depth + 1);
    steps.push((number(0), depth));
    out.extend(std::iter::repeat_n(b' ', depth * 2));
    if let Some(ValueRef::Text(text)) = values.last() {
        out.extend_from_slice(text);
    }
    out.push(b'\n');
}
