//! A reply as hyper sends it: the head with the fields of every response, and the body.

use std::borrow::Cow;
use std::cell::RefCell;

use bytes::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::AnswerBody;
use super::call::{Reply, RequestHead};
use super::state::Lane;
use crate::base::clock;
use crate::cores::stop::Stage;
use crate::http::Answer;

/// The number of fields of most responses.
const FIELDS: usize = 8;
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ACK: HeaderName = HeaderName::from_static("firehose-ack");
const RECEIPT: HeaderName = HeaderName::from_static("firehose-receipt");

/// The value of `Date`, formatted once a second.
#[derive(Debug, Default)]
pub(super) struct Date(RefCell<Option<(i64, HeaderValue)>>);

impl Date {
    fn at(&self, unix_us: i64) -> Result<HeaderValue, hyper::http::Error> {
        let second = unix_us.div_euclid(1_000_000);
        if let Some((_, date)) = self.0.borrow().as_ref().filter(|(known, _)| *known == second) {
            return Ok(date.clone());
        }
        let date = HeaderValue::from_bytes(&clock::http_date(unix_us))?;
        *self.0.borrow_mut() = Some((second, date.clone()));
        Ok(date)
    }
}

/// Returns a name as hyper sends it. Those of accepted events need no search.
fn named(name: &'static str) -> Result<HeaderName, hyper::http::Error> {
    Ok(match name {
        "Firehose-Ack" => ACK,
        "Firehose-Receipt" => RECEIPT,
        _ => HeaderName::from_bytes(name.as_bytes())?,
    })
}

fn head(answer: &mut Answer, lane: &Lane, request: &RequestHead) -> Result<HeaderMap, hyper::http::Error> {
    let mut fields = HeaderMap::with_capacity(FIELDS);
    fields.append(DATE, lane.date.at(clock::unix_us())?);
    fields.append(X_REQUEST_ID, HeaderValue::from_str(&request.id)?);
    for (name, value) in request.cors(lane).lines() {
        fields.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_bytes(value)?);
    }
    if answer.close || lane.vitals.stop.stage() >= Stage::Draining || request.is_last() {
        fields.append(CONNECTION, HeaderValue::from_static("close"));
    }
    if !answer.content_type.is_empty() {
        fields.append(CONTENT_TYPE, value(Cow::Borrowed(answer.content_type))?);
    }
    for (name, text) in answer.headers.drain(..) {
        fields.append(named(name)?, value(text)?);
    }
    Ok(fields)
}

/// Returns a value, without a copy.
fn value(text: Cow<'static, str>) -> Result<HeaderValue, hyper::http::Error> {
    let bytes = match text {
        Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    };
    Ok(HeaderValue::from_maybe_shared(bytes)?)
}

impl Reply {
    pub(super) fn response(self, lane: &Lane, request: &RequestHead) -> Response<AnswerBody> {
        let Reply { mut answer, body } = self;
        let head = head(&mut answer, lane, request)
            .and_then(|fields| Ok((StatusCode::from_u16(answer.status)?, fields)));
        let (status, fields) = match head {
            Ok(head) => head,
            Err(error) => {
                // Only a header value with control characters can cause this, and the server writes no such value.
                tracing::error!(%error, "a response could not be built");
                let mut empty = Response::new(AnswerBody::empty());
                *empty.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                return empty;
            }
        };
        let mut response =
            Response::new(body.unwrap_or_else(|| AnswerBody::whole(AnswerBody::taken(&mut answer))));
        *response.status_mut() = status;
        *response.headers_mut() = fields;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_formatted_once_a_second() {
        let date = Date::default();
        let at = |unix_us| date.at(unix_us).unwrap();
        let first = at(784_111_777_000_000);
        assert_eq!(first, "Sun, 06 Nov 1994 08:49:37 GMT");
        let second = at(784_111_777_999_999);
        assert_eq!(
            (second.as_ref(), second.as_bytes().as_ptr()),
            (first.as_bytes(), at(784_111_777_000_001).as_bytes().as_ptr())
        );
        assert_eq!(at(784_111_778_000_000), "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(at(784_111_777_000_000), "Sun, 06 Nov 1994 08:49:37 GMT", "the clock was set back");
        assert_eq!(at(-1), "Wed, 31 Dec 1969 23:59:59 GMT");
    }

    #[test]
    fn a_known_name_is_the_one_that_a_search_finds() {
        for name in ["Firehose-Ack", "Firehose-Receipt", "Idempotent-Replayed", "Retry-After"] {
            assert_eq!(named(name).unwrap(), HeaderName::from_bytes(name.as_bytes()).unwrap());
        }
        assert_eq!(value(Cow::Borrowed("a")).unwrap(), value(Cow::Owned("a".to_owned())).unwrap());
        assert!(value(Cow::Borrowed("a\nb")).is_err());
    }
}
