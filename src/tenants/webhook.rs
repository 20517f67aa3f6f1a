//! Requests that are signed by the scheme of Standard Webhooks: HMAC-SHA-256 (RFC 2104) over id, time and body.
//!
//! The signature covers `<webhook-id>.<webhook-timestamp>.<body>`, with the body byte for byte as sent. The header
//! `webhook-signature` has one or more signatures separated by spaces, each of the form `v1,<base64>`. One signature
//! that matches one of the tenant's secrets suffices, so that either side can rotate its secret first. The text form
//! of a secret is `whsec_<base64>`.
//!
//! The scheme does not sign the path: within [`TOLERANCE_S`] an intercepted request is valid for another product of the
//! same tenant too. It signs no other header either, so only `webhook-id` may name the event.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::error::TenantsError;
use super::roster::HeldSecret;

const PREFIX: &str = "whsec_";
/// The secret lengths that the scheme permits, in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Tolerance for the sender's clock, and the time within which an intercepted request can be replayed.
const TOLERANCE_S: i64 = 300;
/// Maximum number of signatures checked per request. A sender sends two during a rotation.
const SIGNATURES_MAX: usize = 16;

/// The key that signs a tenant's requests.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

impl WebhookSecret {
    /// Generates a secret from the operating system's random bytes.
    pub fn make() -> Result<WebhookSecret, TenantsError> {
        let mut bytes = vec![0; 32];
        getrandom::fill(&mut bytes).map_err(TenantsError::Random)?;
        Ok(WebhookSecret(bytes))
    }

    /// Parses a secret that the sender has generated.
    ///
    /// # Errors
    /// [`TenantsError::BadSecret`].
    pub fn parse(text: &str) -> Result<WebhookSecret, TenantsError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(TenantsError::BadSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| TenantsError::BadSecret)?;
        WebhookSecret::from_stored(&bytes).ok_or(TenantsError::BadSecret)
    }

    pub(super) fn from_stored(bytes: &[u8]) -> Option<WebhookSecret> {
        SECRET_BYTES.contains(&bytes.len()).then(|| WebhookSecret(bytes.to_vec()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the secret as text. It is shown to its owner once.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// Returns the value of `webhook-signature` for a request.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let mac = self.mac(id.as_bytes(), timestamp_s.to_string().as_bytes(), body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    fn mac(&self, id: &[u8], timestamp: &[u8], body: &[u8]) -> Hmac<Sha256> {
        // HMAC accepts keys of any length.
        let mut mac = match Hmac::<Sha256>::new_from_slice(&self.0) {
            Ok(mac) => mac,
            Err(error) => unreachable!("HMAC takes keys of any length: {error}"),
        };
        for part in [id, b".", timestamp, b".", body] {
            mac.update(part);
        }
        mac
    }
}

/// The signed parts of a request, and its signatures. `None` means that the header is missing or repeated.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    pub id: Option<&'a [u8]>,
    pub timestamp: Option<&'a [u8]>,
    pub signature: Option<&'a [u8]>,
    /// The body exactly as sent.
    pub body: &'a [u8],
}

/// The reason why a signature is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    #[error(
        "the tenant's price events must be signed: webhook-id, webhook-timestamp or webhook-signature is \
         missing or repeated"
    )]
    Missing,
    #[error("webhook-timestamp is not a whole number of seconds since 1970")]
    Timestamp,
    #[error("webhook-timestamp is more than five minutes old")]
    TooOld,
    #[error("webhook-timestamp is more than five minutes ahead")]
    TooNew,
    #[error("webhook-signature has no signature of the form v1,base64")]
    NoSignature,
    #[error(
        "no signature matches a valid secret of the tenant; the signature covers the body exactly as \
             sent"
    )]
    Mismatch,
}

/// Checks that one of the signatures matches one of the secrets that are valid at `now_us`. Compares in constant
/// time. Takes about 2 us, plus 1 us per KiB for each secret.
///
/// # Errors
/// The first check that fails.
pub fn verify(secrets: &[HeldSecret], signed: &Signed<'_>, now_us: i64) -> Result<(), SignatureFault> {
    let (Some(id), Some(timestamp), Some(signature)) = (signed.id, signed.timestamp, signed.signature) else {
        return Err(SignatureFault::Missing);
    };
    let is_number = !timestamp.is_empty() && timestamp.iter().all(u8::is_ascii_digit);
    let seconds = std::str::from_utf8(timestamp).ok().filter(|_| is_number);
    let seconds: i64 = seconds.and_then(|text| text.parse().ok()).ok_or(SignatureFault::Timestamp)?;
    let age_s = now_us.div_euclid(1_000_000).saturating_sub(seconds);
    if age_s > TOLERANCE_S {
        return Err(SignatureFault::TooOld);
    }
    if age_s < -TOLERANCE_S {
        return Err(SignatureFault::TooNew);
    }
    let signatures: Vec<Vec<u8>> = signature
        .split(|byte| *byte == b' ')
        .filter_map(|one| STANDARD.decode(one.strip_prefix(b"v1,")?).ok())
        .take(SIGNATURES_MAX)
        .collect();
    if signatures.is_empty() {
        return Err(SignatureFault::NoSignature);
    }
    let mut fits = false;
    for secret in secrets.iter().filter(|held| held.revoked_us > now_us) {
        let Some(secret) = &secret.secret else { continue };
        let mac = secret.mac(id, timestamp, signed.body);
        for signature in &signatures {
            fits |= mac.clone().verify_slice(signature).is_ok();
        }
    }
    if fits { Ok(()) } else { Err(SignatureFault::Mismatch) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_US: i64 = 1_614_265_330_000_000;

    fn held(secret: &WebhookSecret, revoked_us: i64) -> HeldSecret {
        HeldSecret { secret: Some(secret.clone()), revoked_us }
    }

    /// The example from the test suites of the scheme's own libraries.
    #[test]
    fn it_signs_as_the_scheme_says() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(WebhookSecret::parse(&secret.text()).unwrap(), secret);
        for text in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_%%"] {
            assert!(WebhookSecret::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn one_signature_of_one_secret_that_holds_is_enough() {
        let (old, new) = (WebhookSecret::make().unwrap(), WebhookSecret::make().unwrap());
        let body = b"{}";
        let ask = |secrets: &[HeldSecret], signature: &str, timestamp: &str, now_us| {
            let signed = Signed {
                id: Some(b"m"),
                timestamp: Some(timestamp.as_bytes()),
                signature: Some(signature.as_bytes()),
                body,
            };
            verify(secrets, &signed, now_us)
        };
        let (by_old, by_new) = (old.sign("m", 1_614_265_330, body), new.sign("m", 1_614_265_330, body));
        let both = [held(&old, NOW_US + 1), held(&new, i64::MAX)];
        let time = "1614265330";
        assert_eq!(ask(&both, &by_old, time, NOW_US), Ok(()));
        assert_eq!(ask(&both, &format!("v1,AAAA v2,x {by_new}"), time, NOW_US), Ok(()));
        // The old secret has expired by now.
        assert_eq!(ask(&both, &by_old, time, NOW_US + 1), Err(SignatureFault::Mismatch));
        assert_eq!(ask(&[], &by_old, time, NOW_US), Err(SignatureFault::Mismatch));
        for (late_s, fault) in [
            (300, None),
            (301, Some(SignatureFault::TooOld)),
            (-300, None),
            (-301, Some(SignatureFault::TooNew)),
        ] {
            let now_us = NOW_US + late_s * 1_000_000;
            assert_eq!(ask(&both[1..], &by_new, time, now_us).err(), fault, "{late_s}");
        }
        for timestamp in ["", "x", "+1614265330", "1614265330.0", "99999999999999999999"] {
            assert_eq!(ask(&both, &by_new, timestamp, NOW_US), Err(SignatureFault::Timestamp));
        }
        for signature in ["", "v1", "v1,", "v2,AAAA", "AAAA", "v1,%%%"] {
            let fault = ask(&both, signature, time, NOW_US).unwrap_err();
            let expected =
                if signature == "v1," { SignatureFault::Mismatch } else { SignatureFault::NoSignature };
            assert_eq!(fault, expected, "{signature:?}");
        }
        // A signature is not valid for another id, time or body.
        let other = |id: &'static [u8], timestamp: &'static [u8], body: &'static [u8]| {
            let signed =
                Signed { id: Some(id), timestamp: Some(timestamp), signature: Some(by_new.as_bytes()), body };
            verify(&both, &signed, NOW_US)
        };
        assert_eq!(other(b"m", b"1614265330", b"{}"), Ok(()));
        assert_eq!(other(b"n", b"1614265330", b"{}"), Err(SignatureFault::Mismatch));
        assert_eq!(other(b"m", b"1614265331", b"{}"), Err(SignatureFault::Mismatch));
        assert_eq!(other(b"m", b"1614265330", b"{ }"), Err(SignatureFault::Mismatch));
        let unsigned = Signed { id: None, timestamp: Some(b"1"), signature: Some(b"v1,AA"), body };
        assert_eq!(verify(&both, &unsigned, NOW_US), Err(SignatureFault::Missing));
    }
}
