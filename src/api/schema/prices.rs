//! The shapes of price events, anomalies and decisions, as they are described in the OpenAPI document.

use serde::Serialize;
use utoipa::ToSchema;

use super::texts::{Amount, CurrencyCode, Identifier};

/// One observation of a product's price. Unknown members are ignored, none may be there twice.
#[derive(Serialize, ToSchema)]
pub struct NewPriceEvent {
    /// 1 to 200 bytes without control characters; names this observation of this product for ever. May be left out
    /// where `Idempotency-Key` or `webhook-id` stands for it.
    #[schema(required = false, value_type = Option<Identifier>)]
    pub event_id: Option<String>,
    #[schema(value_type = Amount)]
    pub price: String,
    /// An active code of ISO 4217.
    #[schema(value_type = CurrencyCode)]
    pub currency: String,
    /// RFC 3339 with an offset, at most a year ahead.
    #[schema(format = DateTime, example = "2026-03-01T12:00:00Z")]
    pub observed_at: String,
}

/// What a price event was answered with; the same at every repetition.
#[derive(Serialize, ToSchema)]
pub struct PriceRecorded {
    #[schema(example = "recorded")]
    pub status: String,
    /// `null`: the price is in line.
    pub anomaly: Option<FoundAnomaly>,
}

/// A price event that is journaled and not committed yet.
#[derive(Serialize, ToSchema)]
pub struct PriceAccepted {
    #[schema(example = "accepted")]
    pub status: String,
    pub event_id: String,
}

/// A price that is out of line, as it was found.
#[derive(Serialize, ToSchema)]
pub struct FoundAnomaly {
    /// 32 hexadecimal digits.
    pub id: String,
    /// How far the price is from the baseline, rounded away from zero to two digits; `null` from a baseline of zero.
    #[schema(example = 50)]
    pub change_percent: Option<f64>,
    /// The accepted price it was held against: the last one, or the nearer of the two neighbours of its own time.
    #[schema(example = "10.00")]
    pub baseline: String,
    #[schema(example = 20)]
    pub threshold_percent: f64,
    pub reasons: Vec<AnomalyReason>,
    /// `null`: fewer than five accepted prices.
    pub score: Option<AnomalyScore>,
    /// Always `open`: what people have said since is in the list.
    #[schema(example = "open")]
    pub status: String,
}

/// By what a price is out of line: its change, its modified z-score, or both.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnomalyReason {
    Change,
    Score,
}

/// Where a price stands among the accepted ones around it: `0.6745 * |price - median| / MAD`, the MAD being 2 % of
/// the median at the least.
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
    /// How many prices were looked at.
    #[schema(example = 20)]
    pub prices: u16,
}

/// A price that was out of line, with what people have said to it.
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
    /// `null`: there are no more.
    pub next_cursor: Option<String>,
}

/// What people say to an anomaly.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceReview {
    pub decision: PriceDecision,
}

/// `approve` makes the price an accepted one, `reject` leaves it out for good.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PriceDecision {
    Approve,
    Reject,
}
