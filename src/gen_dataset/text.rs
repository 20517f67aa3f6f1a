//! Rows as text: JSON strings, numbers and times, written to reused buffers.

use super::row::{Customer, Order, PriceSample, Product, StockChange, StockEvent, Tenant};
use super::season::DAY_MS;

/// Appends a JSON string with its quotes. Control characters do not occur, but would be escaped.
fn push_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte < b' ' || *byte == b'"' || *byte == b'\\') {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Appends a number.
pub(super) fn push_number(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes times as `2026-03-01T12:34:56.789Z`. Caches the day, which rarely changes in sorted rows.
#[derive(Debug)]
pub(super) struct Clockface {
    day: i64,
    text: [u8; 24],
}

impl Clockface {
    pub(super) fn new() -> Clockface {
        Clockface { day: 0, text: *b"1970-01-01T00:00:00.000Z" }
    }

    /// Formats milliseconds since 1970 UTC.
    pub(super) fn text(&mut self, unix_ms: i64) -> &[u8; 24] {
        let day = unix_ms.div_euclid(DAY_MS);
        if day != self.day {
            self.day = day;
            self.text[..10].copy_from_slice(&date(day));
        }
        let ms = unix_ms.rem_euclid(DAY_MS) as u32;
        two_digits(ms / 3_600_000, &mut self.text[11..13]);
        two_digits(ms / 60_000 % 60, &mut self.text[14..16]);
        two_digits(ms / 1000 % 60, &mut self.text[17..19]);
        self.text[20] = b'0' + (ms / 100 % 10) as u8;
        two_digits(ms % 100, &mut self.text[21..23]);
        &self.text
    }
}

/// Formats days since 1970 as `2026-03-01`. Outside the years 0 to 9999, which the parameters exclude, the result is
/// the epoch.
pub(super) fn date(day: i64) -> [u8; 10] {
    let time = jiff::Timestamp::from_second(day.saturating_mul(86_400)).unwrap_or_default();
    let date = time.to_zoned(jiff::tz::TimeZone::UTC).date();
    let mut text = *b"1970-01-01";
    let year = u32::from(date.year().unsigned_abs());
    two_digits(year / 100, &mut text[..2]);
    two_digits(year % 100, &mut text[2..4]);
    two_digits(u32::from(date.month().unsigned_abs()), &mut text[5..7]);
    two_digits(u32::from(date.day().unsigned_abs()), &mut text[8..]);
    text
}

fn two_digits(value: u32, to: &mut [u8]) {
    to[0] = b'0' + (value / 10 % 10) as u8;
    to[1] = b'0' + (value % 10) as u8;
}

/// Appends an order as one line of NDJSON, about 510 bytes at 3 items.
pub(super) fn push_order(order: &Order<'_>, clock: &mut Clockface, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"order_id\":\"");
    out.extend_from_slice(order.order_id.as_bytes());
    out.extend_from_slice(b"\",\"tenant_id\":\"");
    out.extend_from_slice(order.tenant_id.as_bytes());
    out.extend_from_slice(b"\",\"customer_id\":\"");
    out.extend_from_slice(order.customer_id.as_bytes());
    out.extend_from_slice(b"\",\"customer_name\":");
    push_text(order.customer_name, out);
    out.extend_from_slice(b",\"customer_email\":");
    push_text(order.customer_email, out);
    out.extend_from_slice(b",\"status\":\"");
    out.extend_from_slice(order.status.as_str().as_bytes());
    out.extend_from_slice(b"\",\"currency\":\"");
    out.extend_from_slice(order.currency.code.as_bytes());
    out.extend_from_slice(b"\",\"ordered_at\":\"");
    out.extend_from_slice(clock.text(order.ordered_at_ms));
    out.extend_from_slice(b"\",\"items\":[");
    for (index, item) in order.items.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"product_id\":\"" } else { b",{\"product_id\":\"" });
        out.extend_from_slice(item.product_id.as_bytes());
        out.extend_from_slice(b"\",\"category\":");
        push_text(item.category, out);
        out.extend_from_slice(b",\"quantity\":");
        push_number(item.quantity, out);
        out.extend_from_slice(b",\"unit_price\":\"");
        order.currency.push(item.unit_price_minor, out);
        out.extend_from_slice(b"\"}");
    }
    out.extend_from_slice(b"]}\n");
}

/// Appends the start of an object with these strings.
fn push_texts(members: &[(&str, &str)], out: &mut Vec<u8>) {
    for (index, (name, text)) in members.iter().enumerate() {
        out.push(if index == 0 { b'{' } else { b',' });
        push_text(name, out);
        out.push(b':');
        push_text(text, out);
    }
}

pub(super) fn push_tenant(row: &Tenant<'_>, out: &mut Vec<u8>) {
    let of = row.currency;
    let members = [
        ("tenant_id", row.tenant_id),
        ("name", row.name),
        ("currency", of.code),
        ("country", of.country),
        ("time_zone", of.time_zone),
    ];
    push_texts(&members, out);
    out.extend_from_slice(b"}\n");
}

pub(super) fn push_customer(row: &Customer<'_>, out: &mut Vec<u8>) {
    let members = [
        ("customer_id", row.customer_id.as_str()),
        ("tenant_id", row.tenant_id),
        ("name", row.name),
        ("email", row.email),
        ("country", row.country),
    ];
    push_texts(&members, out);
    out.extend_from_slice(b"}\n");
}

pub(super) fn push_product(row: &Product<'_>, out: &mut Vec<u8>) {
    let members = [
        ("product_id", row.product_id.as_str()),
        ("tenant_id", row.tenant_id),
        ("name", row.name),
        ("category", row.category),
    ];
    push_texts(&members, out);
    out.extend_from_slice(b",\"unit_price\":\"");
    row.currency.push(row.unit_price_minor, out);
    out.extend_from_slice(b"\",\"currency\":\"");
    out.extend_from_slice(row.currency.code.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

pub(super) fn push_price_sample(row: &PriceSample<'_>, clock: &mut Clockface, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"event_id\":\"");
    out.extend_from_slice(row.event_id.as_bytes());
    out.extend_from_slice(b"\",\"tenant_id\":\"");
    out.extend_from_slice(row.tenant_id.as_bytes());
    out.extend_from_slice(b"\",\"product_id\":\"");
    out.extend_from_slice(row.product_id.as_bytes());
    out.extend_from_slice(b"\",\"price\":\"");
    row.currency.push(row.price_minor, out);
    out.extend_from_slice(b"\",\"currency\":\"");
    out.extend_from_slice(row.currency.code.as_bytes());
    out.extend_from_slice(b"\",\"observed_at\":\"");
    out.extend_from_slice(clock.text(row.observed_at_ms));
    out.extend_from_slice(b"\"}\n");
}

pub(super) fn push_stock_event(row: &StockEvent<'_>, clock: &mut Clockface, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"event_id\":\"");
    out.extend_from_slice(row.event_id.as_bytes());
    out.extend_from_slice(b"\",\"tenant_id\":\"");
    out.extend_from_slice(row.tenant_id.as_bytes());
    out.extend_from_slice(b"\",\"product_id\":\"");
    out.extend_from_slice(row.product_id.as_bytes());
    match row.change {
        StockChange::Delta(delta) => {
            out.extend_from_slice(b"\",\"delta\":");
            push_number(delta, out);
        }
        StockChange::Quantity(quantity) => {
            out.extend_from_slice(b"\",\"quantity\":");
            push_number(quantity, out);
        }
    }
    out.extend_from_slice(b",\"occurred_at\":\"");
    out.extend_from_slice(clock.text(row.occurred_at_ms));
    out.extend_from_slice(b"\"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_from_a_json_reader() {
        for text in ["", "plain", "a \"b\" c", "\\", "Zoë, 美咲", "tab\tnull\0end"] {
            let mut out = Vec::new();
            push_text(text, &mut out);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn times_are_written_as_others_read_them() {
        let mut clock = Clockface::new();
        for ms in [0, 1, 951_826_154_987, 1_772_368_496_789, 1_772_368_496_790, 4_102_444_799_999] {
            let text = std::str::from_utf8(clock.text(ms)).unwrap().to_owned();
            let read: jiff::Timestamp = text.parse().unwrap();
            assert_eq!(read.as_millisecond(), ms, "{text}");
        }
        assert_eq!(clock.text(1_772_368_496_789), b"2026-03-01T12:34:56.789Z");
        assert_eq!(&date(0), b"1970-01-01");
    }
}
