//! Why a request was refused before anybody looked at what it asks for.

/// What is wrong with the bytes on the wire. Every one of them ends the connection: after it nobody
/// can say for certain where the next request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("a line of the head ends in a bare LF, not CR LF")]
    BareLineFeed,
    #[error("a header line is folded (starts with white space)")]
    FoldedHeader,
    #[error("the request line or a header line is malformed")]
    MalformedHead,
    #[error(
        "the request target is not a path, a URL or `*`, or has a `%` without two hexadecimal digits behind it"
    )]
    MalformedTarget,
    #[error("HTTP/1.1 wants exactly one Host header")]
    Host,
    #[error("Content-Length is not one decimal number")]
    MalformedLength,
    #[error("Content-Length is given more than once")]
    RepeatedLength,
    #[error("both Content-Length and Transfer-Encoding are given")]
    LengthAndChunked,
    #[error("Transfer-Encoding does not end in chunked, or came with HTTP/1.0")]
    MalformedTransferEncoding,
    #[error("a chunk of the body is malformed")]
    MalformedChunk,
    #[error("only the transfer coding `chunked` is understood")]
    UnknownTransferCoding,
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
    #[error("only the expectation `100-continue` is understood")]
    UnknownExpectation,
    #[error("the request target is longer than 8192 bytes")]
    TargetTooLong,
    #[error("the head is longer than 32768 bytes")]
    HeadTooLarge,
    #[error("the head has more than 100 header lines")]
    TooManyHeaders,
    #[error("the head did not arrive in time")]
    HeadTimeout,
    #[error("the body did not arrive in time")]
    BodyTimeout,
    #[error("the body ended before its length")]
    BodyIncomplete,
    #[error("the body is larger than this endpoint takes")]
    BodyTooLarge,
    #[error("the process holds as many half-sent requests as it may")]
    BuffersFull,
    #[error("the process holds as many connections as it may")]
    ConnectionsFull,
}
