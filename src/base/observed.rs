//! A number that was observed for a product at some time: the common part of the records of prices and stock.

/// The context of an observation: its times, tenant, product and event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed<'a> {
    pub at_us: i64,
    pub received_us: i64,
    /// The three ids have at most 255 bytes each.
    pub tenant_id: &'a str,
    pub product_id: &'a str,
    pub event_id: &'a str,
}

impl Observed<'_> {
    /// Appends a record's payload to `out`, with the number and a tag that depends on the kind of record.
    pub fn encode(&self, number: i64, tag: &[u8; 3], out: &mut Vec<u8>) {
        for number in [self.at_us, self.received_us, number] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(tag);
        out.push(self.tenant_id.len() as u8);
        out.push(self.product_id.len() as u8);
        for text in [self.tenant_id, self.product_id, self.event_id] {
            out.extend_from_slice(text.as_bytes());
        }
    }

    /// Returns the observation with the number and the tag, or `None` for an invalid payload.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<(Observed<'_>, i64, [u8; 3])> {
        let (numbers, rest) = payload.split_first_chunk::<24>()?;
        let ([a, b, c, tenant, product], texts) = rest.split_first_chunk::<5>()?;
        let texts = std::str::from_utf8(texts).ok()?;
        let (tenant_id, texts) = texts.split_at_checked(usize::from(*tenant))?;
        let (product_id, event_id) = texts.split_at_checked(usize::from(*product))?;
        let (words, _) = numbers.as_chunks::<8>();
        let [at_us, received_us, number] = [0, 1, 2].map(|at| i64::from_le_bytes(words[at]));
        let is_named = ![tenant_id, product_id, event_id].iter().any(|text| text.is_empty());
        let observed = Observed { at_us, received_us, tenant_id, product_id, event_id };
        is_named.then_some((observed, number, [*a, *b, *c]))
    }
}
