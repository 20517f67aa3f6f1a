//! Refusals of a request before its content is examined.

/// An error in the bytes on the wire. Each of them ends the connection, because the start of the next request is then
/// uncertain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("a line of the head ends with a bare LF instead of CR LF")]
    BareLineFeed,
    #[error("a header line is folded (it starts with white space)")]
    FoldedHeader,
    #[error("the request line or a header line is malformed")]
    MalformedHead,
    #[error(
        "the request target is not a path, a URL or `*`, or contains a `%` without two hexadecimal digits \
         after it"
    )]
    MalformedTarget,
    #[error("HTTP/1.1 requires exactly one Host header")]
    Host,
    #[error("Content-Length is not a single decimal number")]
    MalformedLength,
    #[error("Content-Length is repeated")]
    RepeatedLength,
    #[error("the request has both Content-Length and Transfer-Encoding")]
    LengthAndChunked,
    #[error("Transfer-Encoding does not end with chunked, or the request is HTTP/1.0")]
    MalformedTransferEncoding,
    #[error("a chunk of the body is malformed")]
    MalformedChunk,
    #[error("the only supported transfer coding is `chunked`")]
    UnknownTransferCoding,
    #[error("the supported versions are HTTP/1.0 and HTTP/1.1")]
    Version,
    #[error("the only supported expectation is `100-continue`")]
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
    #[error("the body ended before its Content-Length")]
    BodyIncomplete,
    #[error("the body exceeds the limit of this endpoint")]
    BodyTooLarge,
    #[error("the limit of memory for incomplete requests is reached")]
    BuffersFull,
    #[error("the limit of connections is reached")]
    ConnectionsFull,
}
