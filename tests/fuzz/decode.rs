//! The event decoder compared with serde_json. Both must agree on which bytes are JSON and on the fields of an event.
//! The decoder may refuse nesting beyond the limit before it has seen the rest.

use std::cell::RefCell;
use std::collections::HashMap;

use firehose::event::{DecodeError, Decoder, parse_iso8601_lenient};
use serde_json::value::RawValue;

thread_local! {
    // One decoder for the whole run: the bytes that a body leaves in the buffers must not affect the next body.
    static DECODER: RefCell<Decoder> = RefCell::new(Decoder::new());
}

pub(crate) fn check(body: &[u8]) {
    let is_json = serde_json::from_slice::<&RawValue>(body).is_ok();
    let verdict = DECODER.with_borrow_mut(|decoder| decoder.click(body));
    match verdict {
        Ok(click) => {
            assert!(is_json);
            // Keys with lone surrogates are valid JSON, but not valid Rust strings.
            let Ok(fields) = serde_json::from_slice::<HashMap<String, &RawValue>>(body) else { return };
            assert_eq!(fields["user_id"].get().parse(), Ok(click.user_id));
            assert_eq!(fields["metadata"].get().as_bytes(), click.metadata);
            if let Ok(text) = serde_json::from_str::<String>(fields["timestamp"].get()) {
                assert_eq!(parse_iso8601_lenient(text.as_bytes()), Ok(click.timestamp_us));
            }
        }
        Err(DecodeError::Fields(errors)) => {
            assert!(is_json);
            assert!((1..=3).contains(&errors.len()));
        }
        Err(DecodeError::Empty) => assert!(body.is_empty()),
        Err(DecodeError::NotUtf8) => assert!(std::str::from_utf8(body).is_err()),
        Err(DecodeError::TooDeep) => {
            assert!(body.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() > 128);
        }
        Err(DecodeError::NotJson { offset }) => {
            assert!(!is_json);
            assert!(offset <= body.len());
        }
    }
}
