//! All problems that clients can receive: status, stable name, and remedy.

mod failures;
mod refused;
mod unmet;
mod unreadable;

/// The problem types. The list is append-only: a slug never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    BadRequest,
    EmptyBody,
    NotJson,
    NotUtf8,
    BadEncoding,
    BadParameter,
    Unauthorized,
    Forbidden,
    ForeignOrigin,
    NotFound,
    NotAReceipt,
    MethodNotAllowed,
    RequestTimeout,
    PayloadTooLarge,
    TooManyEvents,
    UriTooLong,
    UnsupportedEncoding,
    ExpectationFailed,
    MisdirectedRequest,
    InvalidEvent,
    InvalidEvents,
    TooDeep,
    RateLimited,
    QueueFull,
    HeadTooLarge,
    Internal,
    UnsupportedTransferCoding,
    Overloaded,
    Draining,
    JournalUnsynced,
    OutcomeUnknown,
    ShardUnavailable,
    UnsupportedVersion,
    JournalFull,
    IdempotencyKeyMissing,
    IdempotencyKeyReused,
    NoOrders,
    IngestRunning,
    UnsupportedMediaType,
    DamagedUpload,
    NoSuchOrder,
    InvalidStatus,
    QueryTooLarge,
    SalesDropped,
    BadUploadHeader,
    NoSuchUpload,
    UploadGone,
    TusVersion,
    WrongUploadOffset,
    UploadLocked,
    ChecksumMismatch,
    NoRoomForUpload,
    NoSuchStock,
    TooManyUpdates,
    InvalidStockUpdate,
    NoSuchProduct,
    BadSignature,
    NoSuchAnomaly,
    PriceEventConflict,
    AlreadyReviewed,
    InvalidReview,
    InvalidExport,
    NoSuchExport,
    ExportGone,
    ExportFailed,
    PreconditionFailed,
    RangeNotSatisfiable,
    NoRoomForExport,
    NoSuchErasure,
    ErasureBlocked,
    InvalidErasure,
}

/// A problem's catalogue entry.
struct Entry {
    problem: Problem,
    status: u16,
    slug: &'static str,
    title: &'static str,
    explanation: &'static str,
}

const fn entry(
    problem: Problem,
    status: u16,
    slug: &'static str,
    title: &'static str,
    explanation: &'static str,
) -> Entry {
    Entry { problem, status, slug, title, explanation }
}

/// The entry of every problem, by its number. A missing or repeated entry is a compile error.
static CATALOGUE: [&Entry; Problem::ALL.len()] = {
    let groups = [unreadable::ENTRIES, refused::ENTRIES, unmet::ENTRIES, failures::ENTRIES];
    let mut table = [&groups[0][0]; Problem::ALL.len()];
    let mut entries = 0;
    let mut group = 0;
    while group < groups.len() {
        let mut at = 0;
        while at < groups[group].len() {
            table[groups[group][at].problem as usize] = &groups[group][at];
            entries += 1;
            at += 1;
        }
        group += 1;
    }
    assert!(entries == table.len());
    let mut at = 0;
    while at < table.len() {
        assert!(table[at].problem as usize == at);
        at += 1;
    }
    table
};

impl Problem {
    /// All problems, sorted by status.
    pub const ALL: &[Problem] = &[
        Problem::BadRequest,
        Problem::EmptyBody,
        Problem::NotJson,
        Problem::NotUtf8,
        Problem::BadEncoding,
        Problem::BadParameter,
        Problem::IdempotencyKeyMissing,
        Problem::DamagedUpload,
        Problem::BadUploadHeader,
        Problem::Unauthorized,
        Problem::BadSignature,
        Problem::Forbidden,
        Problem::ForeignOrigin,
        Problem::NotFound,
        Problem::NotAReceipt,
        Problem::NoSuchOrder,
        Problem::NoSuchUpload,
        Problem::NoSuchStock,
        Problem::NoSuchProduct,
        Problem::NoSuchAnomaly,
        Problem::NoSuchExport,
        Problem::NoSuchErasure,
        Problem::MethodNotAllowed,
        Problem::RequestTimeout,
        Problem::IngestRunning,
        Problem::WrongUploadOffset,
        Problem::PriceEventConflict,
        Problem::AlreadyReviewed,
        Problem::ExportFailed,
        Problem::ErasureBlocked,
        Problem::UploadGone,
        Problem::ExportGone,
        Problem::SalesDropped,
        Problem::TusVersion,
        Problem::PreconditionFailed,
        Problem::PayloadTooLarge,
        Problem::TooManyEvents,
        Problem::TooManyUpdates,
        Problem::UriTooLong,
        Problem::UnsupportedEncoding,
        Problem::UnsupportedMediaType,
        Problem::RangeNotSatisfiable,
        Problem::ExpectationFailed,
        Problem::MisdirectedRequest,
        Problem::InvalidEvent,
        Problem::InvalidEvents,
        Problem::TooDeep,
        Problem::IdempotencyKeyReused,
        Problem::NoOrders,
        Problem::InvalidStatus,
        Problem::InvalidReview,
        Problem::InvalidExport,
        Problem::InvalidErasure,
        Problem::QueryTooLarge,
        Problem::InvalidStockUpdate,
        Problem::UploadLocked,
        Problem::RateLimited,
        Problem::QueueFull,
        Problem::HeadTooLarge,
        Problem::ChecksumMismatch,
        Problem::Internal,
        Problem::UnsupportedTransferCoding,
        Problem::Overloaded,
        Problem::Draining,
        Problem::JournalUnsynced,
        Problem::OutcomeUnknown,
        Problem::ShardUnavailable,
        Problem::UnsupportedVersion,
        Problem::JournalFull,
        Problem::NoRoomForUpload,
        Problem::NoRoomForExport,
    ];

    /// Returns the problem's HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.entry().status
    }

    /// Returns the last segment of the problem's `type`. It never changes.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        self.entry().slug
    }

    /// Returns the problem's title: a few words for people, always the same.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.entry().title
    }

    /// Returns the problem's meaning, whose fault it is, and the remedy, as one paragraph of plain text.
    #[must_use]
    pub const fn explanation(self) -> &'static str {
        self.entry().explanation
    }

    /// Returns `true` if the same request may succeed later. This applies to exactly the statuses 408, 429, 502, 503,
    /// 504, 507.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(self.status(), 408 | 429 | 502 | 503 | 504 | 507)
    }

    const fn entry(self) -> &'static Entry {
        CATALOGUE[self as usize]
    }
}
