//! The journal record formats of price events and of decisions on anomalies.
//!
//! ```text
//! event     form 1 | change limit 4 | score limit 4 | window 2 | the finding, in form 2 only | a price's record
//! decision  decision 1 | time of receipt 8 | anomaly 16 | tenant's length 1 | tenant | product, or nothing
//! ```
//! The number after a field is the field's length in bytes. The first field of an event is 0, 1 or 2. An event in
//! form 0 has not been judged yet. Events in forms 1 and 2 were judged in another shard and are carried from there.
//! An event in form 1 has no anomaly. An event in form 2 contains the finding, and the decision on it if there is
//! one. Numbers are little-endian.

use std::fmt;
use std::str::FromStr;

use super::detect::Finding;
use super::history::{PriceRow, decode_price};
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::kinds::{Kind, KindRow, Placement};
use crate::base::prices::PriceRules;

/// The record kind of a price that was loaded as history or is carried into another shard.
pub const PRICE: Kind = Kind::new(6);
/// The record kind of a price event with the limits by which it is judged.
pub const PRICE_EVENT: Kind = Kind::new(8);
/// The record kind of a decision on a price anomaly. A reshard carries the decision within its price event.
pub const PRICE_REVIEW: Kind = Kind::new(9);

/// The record kinds of this family.
pub(super) const KINDS: &[KindRow] = &[
    row(PRICE, "price", "not a price"),
    row(PRICE_EVENT, "price_event", "not a price event"),
    row(PRICE_REVIEW, "price_review", "not a decision on a price"),
];

const fn row(kind: Kind, name: &'static str, rejection: &'static str) -> KindRow {
    KindRow { kind, name, placement: Placement::KeyShard, is_counted: false, rejection }
}

/// An anomaly's id: 32 hexadecimal digits. It does not change during the life of a data folder, regardless of the
/// number of shards. The upper half is the upper half of the product's hash, which selects the shard. The lower half
/// is a hash of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnomalyId(u128);

impl AnomalyId {
    #[must_use]
    pub fn of(keys: &KeyHasher, tenant_id: &str, product_id: &str, event_id: &str) -> AnomalyId {
        let upper = keys.hash(tenant_id, product_id).0 >> 64 << 64;
        AnomalyId(upper | u128::from(keys.hash_all([tenant_id, product_id, event_id]).0 as u64))
    }

    /// Returns the hash that selects the product's shard.
    #[must_use]
    pub fn place(self) -> KeyHash {
        KeyHash(self.0)
    }
}

impl fmt::Display for AnomalyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The error for a string that is not an anomaly id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnAnomalyId;

impl FromStr for AnomalyId {
    type Err = NotAnAnomalyId;

    /// Parses 32 lower-case hexadecimal digits. An anomaly's id has no other spelling.
    fn from_str(text: &str) -> Result<AnomalyId, NotAnAnomalyId> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(is_hex) {
            return Err(NotAnAnomalyId);
        }
        u128::from_str_radix(text, 16).map(AnomalyId).map_err(|_| NotAnAnomalyId)
    }
}

/// A decision on an anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The price counts as accepted from now on.
    Approve,
    /// The price does not count as accepted.
    Reject,
}

impl Decision {
    #[must_use]
    pub fn parse(name: &str) -> Option<Decision> {
        match name {
            "approve" => Some(Decision::Approve),
            "reject" => Some(Decision::Reject),
            _ => None,
        }
    }

    /// Returns an anomaly's status after this decision.
    #[must_use]
    pub fn status(self) -> &'static str {
        match self {
            Decision::Approve => "approved",
            Decision::Reject => "rejected",
        }
    }

    /// Returns the code in a record, where 0 means no decision.
    fn code(self) -> u8 {
        match self {
            Decision::Approve => 1,
            Decision::Reject => 2,
        }
    }

    fn of_code(code: u8) -> Option<Decision> {
        [Decision::Approve, Decision::Reject].into_iter().find(|known| known.code() == code)
    }

    pub(super) fn of_status(status: &str) -> Option<Decision> {
        [Decision::Approve, Decision::Reject].into_iter().find(|known| known.status() == status)
    }
}

/// A price event as journaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceEventRow<'a> {
    pub row: PriceRow<'a>,
    /// The limits in force when the event arrived.
    pub rules: PriceRules,
    /// The verdict of another shard, or `None` if the writer still has to judge the event.
    pub(super) judged: Option<Judged>,
}

/// The verdict of another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    /// The finding and the decision on it, or `None` if the price is not an anomaly.
    pub(super) anomaly: Option<(Finding, Option<Review>)>,
}

/// A decision on an anomaly, with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Review {
    pub(super) decision: Decision,
    pub(super) at_us: i64,
}

/// The value that means "none" among a finding's numbers. No valid number is that low.
const NOTHING: i64 = i64::MIN;

impl<'a> PriceEventRow<'a> {
    /// Creates an event that has not been judged yet.
    #[must_use]
    pub fn new(row: PriceRow<'a>, rules: PriceRules) -> PriceEventRow<'a> {
        PriceEventRow { row, rules, judged: None }
    }

    /// Appends the record's payload to `out`. The three names must have at most 255 bytes each.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.judged {
            None => 0,
            Some(Judged { anomaly: None }) => 1,
            Some(Judged { anomaly: Some(_) }) => 2,
        });
        out.extend_from_slice(&self.rules.change_bp.to_le_bytes());
        out.extend_from_slice(&self.rules.score_milli.to_le_bytes());
        out.extend_from_slice(&self.rules.window.to_le_bytes());
        if let Some(Judged { anomaly: Some((finding, review)) }) = &self.judged {
            let score = finding.score;
            for number in [
                finding.baseline,
                finding.change_bp.unwrap_or(NOTHING),
                score.map_or(0, |score| score.median),
                score.map_or(0, |score| score.mad),
                score.map_or(NOTHING, |score| score.milli),
                review.map_or(NOTHING, |review| review.at_us),
            ] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&score.map_or(0, |score| score.count).to_le_bytes());
            out.push(review.map_or(0, |review| review.decision.code()));
        }
        self.row.encode(out);
    }
}

fn number(bytes: &mut &[u8]) -> Option<i64> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(i64::from_le_bytes(*number))
}

fn judged(bytes: &mut &[u8]) -> Option<Judged> {
    use super::detect::Score;
    let some = |number: i64| (number != NOTHING).then_some(number);
    let baseline = number(bytes)?;
    let change_bp = some(number(bytes)?);
    let (median, mad) = (number(bytes)?, number(bytes)?);
    let (milli, at_us) = (some(number(bytes)?), some(number(bytes)?));
    let (count, rest) = bytes.split_first_chunk::<2>()?;
    let (decision, rest) = rest.split_first()?;
    *bytes = rest;
    let review = match *decision {
        0 => None,
        code => Some(Review { decision: Decision::of_code(code)?, at_us: at_us? }),
    };
    let score = milli.map(|milli| Score { median, mad, milli, count: u16::from_le_bytes(*count) });
    Some(Judged { anomaly: Some((Finding { baseline, change_bp, score }, review)) })
}

/// Decodes a payload. Returns `None` if it is not a price event.
#[must_use]
pub fn decode_price_event(payload: &[u8]) -> Option<PriceEventRow<'_>> {
    let (form, rest) = payload.split_first()?;
    let (change_bp, rest) = rest.split_first_chunk()?;
    let (score_milli, rest) = rest.split_first_chunk()?;
    let (window, mut rest) = rest.split_first_chunk()?;
    let rules = PriceRules {
        change_bp: u32::from_le_bytes(*change_bp),
        score_milli: u32::from_le_bytes(*score_milli),
        window: u16::from_le_bytes(*window),
    };
    let judged = match form {
        0 => None,
        1 => Some(Judged { anomaly: None }),
        2 => Some(judged(&mut rest)?),
        _ => return None,
    };
    Some(PriceEventRow { row: decode_price(rest)?, rules, judged })
}

/// A decision on an anomaly, as journaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceReviewRow<'a> {
    pub decision: Decision,
    pub received_us: i64,
    pub anomaly: AnomalyId,
    pub tenant_id: &'a str,
    /// The product that the anomaly must belong to. If it is empty, the anomaly may belong to any product.
    pub product_id: &'a str,
}

impl PriceReviewRow<'_> {
    /// Appends the record's payload to `out`. The tenant must have at most 255 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.decision.code());
        out.extend_from_slice(&self.received_us.to_le_bytes());
        out.extend_from_slice(&self.anomaly.0.to_le_bytes());
        out.push(self.tenant_id.len() as u8);
        out.extend_from_slice(self.tenant_id.as_bytes());
        out.extend_from_slice(self.product_id.as_bytes());
    }
}

/// Decodes a payload. Returns `None` if it is not a decision on an anomaly.
#[must_use]
pub fn decode_price_review(payload: &[u8]) -> Option<PriceReviewRow<'_>> {
    let (decision, rest) = payload.split_first()?;
    let decision = Decision::of_code(*decision)?;
    let (received_us, rest) = rest.split_first_chunk()?;
    let (anomaly, rest) = rest.split_first_chunk()?;
    let (length, texts) = rest.split_first()?;
    let (tenant_id, product_id) = std::str::from_utf8(texts).ok()?.split_at_checked(usize::from(*length))?;
    if tenant_id.is_empty() {
        return None;
    }
    let (received_us, anomaly) = (i64::from_le_bytes(*received_us), AnomalyId(u128::from_le_bytes(*anomaly)));
    Some(PriceReviewRow { decision, received_us, anomaly, tenant_id, product_id })
}

#[cfg(test)]
mod tests {
    use super::super::detect::Score;
    use super::*;
    use crate::base::money::Currency;
    use crate::base::observed::Observed;

    #[test]
    fn both_records_read_back_as_written_and_nothing_shorter_does() {
        let observed =
            Observed { at_us: -1, received_us: 2, tenant_id: "t", product_id: "pü", event_id: "e" };
        let row = PriceRow { observed, price: 1999, currency: Currency::parse("USD").unwrap() };
        let rules = PriceRules { change_bp: 2_000, score_milli: 3_500, window: 20 };
        let finding = Finding {
            baseline: 7,
            change_bp: None,
            score: Some(Score { median: 3, mad: 0, milli: 9, count: 5 }),
        };
        let plain = Finding { change_bp: Some(-12), score: None, ..finding };
        let review = Review { decision: Decision::Reject, at_us: 99 };
        for judged in [
            None,
            Some(Judged { anomaly: None }),
            Some(Judged { anomaly: Some((finding, None)) }),
            Some(Judged { anomaly: Some((plain, Some(review))) }),
        ] {
            let event = PriceEventRow { row, rules, judged };
            let mut bytes = Vec::new();
            event.encode(&mut bytes);
            assert_eq!(decode_price_event(&bytes), Some(event));
            assert!((0..bytes.len()).all(|cut| decode_price_event(&bytes[..cut]).is_none()));
        }
        let keys = KeyHasher::new(&[3; 16]);
        let anomaly = AnomalyId::of(&keys, "t", "p", "e");
        let review = PriceReviewRow {
            decision: Decision::Approve,
            received_us: 5,
            anomaly,
            tenant_id: "t",
            product_id: "p",
        };
        let mut bytes = Vec::new();
        review.encode(&mut bytes);
        assert_eq!(decode_price_review(&bytes), Some(review));
        assert!((0..bytes.len() - 1).all(|cut| decode_price_review(&bytes[..cut]).is_none()));
    }

    #[test]
    fn an_anomaly_is_found_where_its_product_is_and_has_one_spelling() {
        let keys = KeyHasher::new(&[3; 16]);
        for product in 0..200 {
            let product = product.to_string();
            let id = AnomalyId::of(&keys, "t", &product, "e");
            for shards in [1, 2, 3, 8, 256] {
                assert_eq!(id.place().shard(shards), keys.hash("t", &product).shard(shards));
            }
            let text = id.to_string();
            assert_eq!(text.parse(), Ok(id));
            assert_eq!(text.to_uppercase().parse::<AnomalyId>().is_ok(), text == text.to_uppercase());
        }
        for text in ["", "0", "+123456789012345678901234567890ab", "123456789012345678901234567890abc"] {
            assert_eq!(text.parse::<AnomalyId>(), Err(NotAnAnomalyId), "{text:?}");
        }
    }
}
