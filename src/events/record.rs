//! The bytes of one idempotent event in a journal record: two times, four lengths, then the strings as received.

use crate::base::kinds::{Kind, KindRow, Placement};

/// One row of `POST /events` or `/events/bulk`.
pub const SERVICE_EVENT: Kind = Kind::new(2);

/// The record kinds of this family.
pub(super) const KINDS: &[KindRow] = &[KindRow {
    kind: SERVICE_EVENT,
    name: "service_event",
    placement: Placement::KeyShard,
    is_counted: true,
    rejection: "not an event",
}];

const HEADER_BYTES: usize = 20;

/// One event of the events service, borrowed from its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceEventRow<'a> {
    /// The client's time of the event, in microseconds since 1970 UTC.
    pub timestamp_us: i64,
    /// The time of acceptance.
    pub received_us: i64,
    /// This and the next three fields have 1 to 200 bytes.
    pub tenant_id: &'a str,
    pub event_id: &'a str,
    pub source: &'a str,
    pub event_type: &'a str,
    /// A JSON object, with exactly the bytes received.
    pub payload: &'a str,
}

impl ServiceEventRow<'_> {
    /// Returns `true` if both have the same content. The time of acceptance does not count.
    #[must_use]
    pub fn same_content(&self, other: &ServiceEventRow<'_>) -> bool {
        (self.timestamp_us, self.source, self.event_type, self.payload)
            == (other.timestamp_us, other.source, other.event_type, other.payload)
    }

    /// Appends the record's payload to `out`. Each of the four strings must have at most 255 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp_us.to_le_bytes());
        out.extend_from_slice(&self.received_us.to_le_bytes());
        let names = [self.tenant_id, self.event_id, self.source, self.event_type];
        for name in names {
            debug_assert!(name.len() <= 255);
            out.push(name.len() as u8);
        }
        for name in names {
            out.extend_from_slice(name.as_bytes());
        }
        out.extend_from_slice(self.payload.as_bytes());
    }
}

/// Decodes a payload. Returns `None` if it is not such a record.
#[inline]
#[must_use]
pub fn decode_service_event(payload: &[u8]) -> Option<ServiceEventRow<'_>> {
    let (header, rest) = payload.split_first_chunk::<HEADER_BYTES>()?;
    let (timestamp_us, header) = header.split_first_chunk::<8>()?;
    let (received_us, lengths) = header.split_first_chunk::<8>()?;
    let mut rest = std::str::from_utf8(rest).ok()?;
    let mut names = [""; 4];
    for (name, length) in names.iter_mut().zip(lengths) {
        (*name, rest) = rest.split_at_checked(usize::from(*length))?;
        if name.is_empty() {
            return None;
        }
    }
    let [tenant_id, event_id, source, event_type] = names;
    Some(ServiceEventRow {
        timestamp_us: i64::from_le_bytes(*timestamp_us),
        received_us: i64::from_le_bytes(*received_us),
        tenant_id,
        event_id,
        source,
        event_type,
        payload: rest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: ServiceEventRow<'_> = ServiceEventRow {
        timestamp_us: -1,
        received_us: i64::MAX,
        tenant_id: "tenant_1",
        event_id: "evt_ü",
        source: "web",
        event_type: "click",
        payload: "{\"a\": 1}",
    };

    #[test]
    fn an_event_reads_back_as_written() {
        let mut bytes = Vec::new();
        ROW.encode(&mut bytes);
        assert_eq!(decode_service_event(&bytes), Some(ROW));
        assert!(ROW.same_content(&ServiceEventRow { received_us: 0, ..ROW }));
        assert!(!ROW.same_content(&ServiceEventRow { payload: "{\"a\":1}", ..ROW }));
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let mut bytes = Vec::new();
        ROW.encode(&mut bytes);
        let names_end = bytes.len() - ROW.payload.len();
        for cut in 0..names_end {
            assert_eq!(decode_service_event(&bytes[..cut]), None, "{cut}");
        }
        let mut torn = bytes.clone();
        // With this length, the tenant ends inside the id, in the middle of a character.
        torn[16] += 5;
        assert_eq!(decode_service_event(&torn), None);
        let mut empty = bytes;
        empty[17] = 0;
        assert_eq!(decode_service_event(&empty), None);
    }
}
