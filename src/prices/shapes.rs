//! The shapes of price events, anomalies and decisions in requests and responses.

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::schema::texts::{Amount, CurrencyCode, Identifier};

/// An observed price of a product. Unknown members are ignored. A known member must not occur twice.
#[derive(Serialize, ToSchema)]
pub struct NewPriceEvent {
    /// 1 to 200 bytes without control characters. It identifies this observation of this product permanently. It may
    /// be omitted if `Idempotency-Key` or `webhook-id` supplies it.
    #[schema(required = false, value_type = Option<Identifier>)]
    pub event_id: Option<String>,
    #[schema(value_type = Amount)]
    pub price: String,
    /// An active ISO 4217 code.
    #[schema(value_type = CurrencyCode)]
    pub currency: String,
    /// RFC 3339 with an offset, at most a year ahead.
    #[schema(format = DateTime, example = "2026-03-01T12:00:00Z")]
    pub observed_at: String,
}

/// The response to a price event. Every retry gets the same response.
#[derive(Serialize, ToSchema)]
pub struct PriceRecorded {
    #[schema(example = "recorded")]
    pub status: String,
    /// The anomaly, or `null` if the price is not one.
    pub anomaly: Option<FoundAnomaly>,
}

/// A price event that is in the journal but not committed yet.
#[derive(Serialize, ToSchema)]
pub struct PriceAccepted {
    #[schema(example = "accepted")]
    pub status: String,
    pub event_id: String,
}

/// A price anomaly as it was detected.
#[derive(Serialize, ToSchema)]
pub struct FoundAnomaly {
    /// 32 hexadecimal digits.
    pub id: String,
    /// The difference between the price and the baseline in percent, rounded away from zero to two decimal places.
    /// `null` if the baseline is zero.
    #[schema(example = 50)]
    pub change_percent: Option<f64>,
    /// The accepted price that the price was compared with: the last one, or whichever of the two neighbours in time
    /// is nearer in value.
    #[schema(example = "10.00")]
    pub baseline: String,
    #[schema(example = 20)]
    pub threshold_percent: f64,
    pub reasons: Vec<AnomalyReason>,
    /// The score, or `null` if there are fewer than five accepted prices.
    pub score: Option<AnomalyScore>,
    /// Always `open`. Later decisions are in the list of anomalies.
    #[schema(example = "open")]
    pub status: String,
}

/// The test that the price failed: its change, its modified z-score, or both.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnomalyReason {
    Change,
    Score,
}

/// A price's modified z-score among the accepted prices around it: `0.6745 * |price - median| / MAD`. The MAD is at
/// least 2 % of the median.
#[derive(Serialize, ToSchema)]
pub struct AnomalyScore {
    #[schema(example = 16.862)]
    pub value: f64,
    #[schema(example = 3.5)]
    pub threshold: f64,
    #[schema(example = "10.00")]
    pub median: String,
    #[schema(example = "0.10")]
    pub mad: String,
    /// The number of prices that the score is computed from.
    #[schema(example = 20)]
    pub prices: u16,
}

/// A price anomaly and its review.
#[derive(Serialize, ToSchema)]
pub struct PriceAnomaly {
    pub id: String,
    pub product_id: String,
    pub event_id: String,
    #[schema(example = "15.00")]
    pub price: String,
    pub currency: String,
    #[schema(format = DateTime)]
    pub observed_at: String,
    /// When the event was received.
    #[schema(format = DateTime)]
    pub created_at: String,
    pub change_percent: Option<f64>,
    pub baseline: String,
    pub threshold_percent: f64,
    pub reasons: Vec<AnomalyReason>,
    pub score: Option<AnomalyScore>,
    pub status: AnomalyState,
    #[schema(format = DateTime)]
    pub reviewed_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnomalyState {
    Open,
    Approved,
    Rejected,
}

/// Anomalies, newest first.
#[derive(Serialize, ToSchema)]
pub struct PriceAnomalies {
    pub anomalies: Vec<PriceAnomaly>,
    /// The cursor for the next page, or `null` on the last page.
    pub next_cursor: Option<String>,
}

/// The review of an anomaly.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceReview {
    pub decision: PriceDecision,
}

/// `approve` accepts the price. `reject` excludes it permanently.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PriceDecision {
    Approve,
    Reject,
}
