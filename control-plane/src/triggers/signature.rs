//! Whether a delivery was signed by who knows the secret, and when. Decided over the raw bytes, before anything is parsed.
//!
//! Two families of headers are understood; of each that is present, the signature has to be right:
//!
//! | family | headers | signed text |
//! |---|---|---|
//! | ours | `X-Agentruntime-Signature: sha256=<hex>`, `X-Agentruntime-Timestamp` (optional) | `{timestamp}.{body}`, or `{body}` |
//! | Standard Webhooks | `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,<base64> …` | `{id}.{timestamp}.{body}` |
//!
//! A time that is not part of what was signed counts for nothing.
//!
//! `{timestamp}.5` and a body `1767225600.5` are one text, so that what was signed as the one could be sent as the other.
//! Only a body that is a bare number can be mistaken so; with our signature there is none, see [`is_number`].

use super::secret::SigningSecret;
use agentruntime_host_api::Timestamp;
use axum::http::HeaderMap;
use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::time::Duration;
use subtle::{Choice, ConstantTimeEq};

/// How far a signed time may be from now, either way.
pub(crate) const SKEW_MAX: Duration = Duration::from_secs(300);
/// Signatures in one `webhook-signature`: senders list one for each secret that they rotate through.
const SIGNATURES_MAX: usize = 8;
/// Digits of a Unix time in seconds: enough for thirty thousand years.
const TIMESTAMP_DIGITS_MAX: usize = 12;

const SIGNATURE: &str = "x-agentruntime-signature";
const TIMESTAMP: &str = "x-agentruntime-timestamp";
const STANDARD_ID: &str = "webhook-id";
const STANDARD_TIMESTAMP: &str = "webhook-timestamp";
const STANDARD_SIGNATURE: &str = "webhook-signature";

/// A signature that is missing, wrong or stale. Which of them is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotSigned;

/// What right signatures say, each family for itself: whoever sends a delivery again may leave one of them out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signed {
    /// Ours, if it is there.
    pub(crate) ours: Option<Ours>,
    /// The signed id of the delivery, by Standard Webhooks; with it a time is signed.
    pub(crate) id: Option<String>,
}

/// What our signature says beside the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ours {
    /// The signed time, as it was written.
    pub(crate) at: Option<String>,
}

impl Signed {
    /// Whether a time was signed.
    pub(crate) fn is_timed(&self) -> bool {
        self.id.is_some() || self.ours.as_ref().is_some_and(|ours| ours.at.is_some())
    }
}

/// The secrets of a subscription that are valid now: the current one, and the one before while it is.
pub(crate) struct Secrets<'s> {
    /// The current one.
    pub(crate) current: &'s SigningSecret,
    /// The one before.
    pub(crate) previous: Option<&'s SigningSecret>,
}

/// One family's claim: what was signed, the time in it, and the signatures that are said to fit.
struct Claim<'h> {
    family: Family,
    id: Option<&'h str>,
    at: Option<&'h str>,
    signatures: Vec<Vec<u8>>,
}

#[derive(Clone, Copy)]
enum Family {
    Ours,
    Standard,
}

/// Checks a delivery against the secrets and the clock.
pub(crate) fn verify(
    secrets: &Secrets<'_>,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<Signed, NotSigned> {
    let claims: Vec<Claim<'_>> = match (ours(headers)?, standard(headers)?) {
        // The work is done all the same, so that time does not tell what is missing.
        (None, None) => vec![Claim { family: Family::Ours, id: None, at: None, signatures: vec![vec![0; 32]] }],
        (ours, standard) => ours.into_iter().chain(standard).collect(),
    };
    let mut is_right = Choice::from(1);
    let mut signed = Signed::default();
    for claim in &claims {
        is_right &= claim.is_right(secrets, body);
        is_right &= Choice::from(u8::from(claim.at.is_none_or(|at| is_near(at, now))));
        match claim.family {
            Family::Ours => signed.ours = Some(Ours { at: claim.at.map(str::to_owned) }),
            Family::Standard => signed.id = claim.id.map(str::to_owned),
        }
    }
    if is_right.into() { Ok(signed) } else { Err(NotSigned) }
}

fn ours(headers: &HeaderMap) -> Result<Option<Claim<'_>>, NotSigned> {
    let Some(value) = only(headers, SIGNATURE)? else { return Ok(None) };
    let signature = value.strip_prefix("sha256=").and_then(unhex).ok_or(NotSigned)?;
    let at = only(headers, TIMESTAMP)?;
    Ok(Some(Claim { family: Family::Ours, id: None, at, signatures: vec![signature] }))
}

fn standard(headers: &HeaderMap) -> Result<Option<Claim<'_>>, NotSigned> {
    let Some(value) = only(headers, STANDARD_SIGNATURE)? else { return Ok(None) };
    let (id, at) = (only(headers, STANDARD_ID)?, only(headers, STANDARD_TIMESTAMP)?);
    let (Some(id), Some(at)) = (id, at) else { return Err(NotSigned) };
    // The full stop parts what is signed; in an id it would let it be parted otherwise.
    if id.contains('.') {
        return Err(NotSigned);
    }
    // Other versions of signatures may stand beside ours.
    let listed = value.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
    let signatures = listed.take(SIGNATURES_MAX).filter_map(|text| BASE64_STANDARD.decode(text).ok()).collect();
    Ok(Some(Claim { family: Family::Standard, id: Some(id), at: Some(at), signatures }))
}

/// The one value of a header; several make the request ambiguous.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, NotSigned> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(NotSigned);
    }
    first.map(|value| value.to_str().map_err(|_| NotSigned)).transpose()
}

impl Claim<'_> {
    /// Whether one of the signatures is by one of the secrets; takes as long for a right as for a wrong one.
    fn is_right(&self, secrets: &Secrets<'_>, body: &[u8]) -> Choice {
        let mut found = Choice::from(0);
        for secret in std::iter::once(secrets.current).chain(secrets.previous) {
            let expected = self.signature(secret, body);
            for signature in &self.signatures {
                found |= expected.ct_eq(signature);
            }
        }
        found
    }

    fn signature(&self, secret: &SigningSecret, body: &[u8]) -> [u8; 32] {
        let mut mac = match self.family {
            Family::Ours => mac(secret.shown_bytes()),
            Family::Standard => mac(&secret.decoded_bytes()),
        };
        for part in self.id.iter().chain(&self.at) {
            mac.update(part.as_bytes());
            mac.update(b".");
        }
        mac.update(body);
        mac.finalize().into_bytes().into()
    }
}

/// Whether a body is a bare number, if it is JSON at all.
pub(crate) fn is_number(body: &[u8]) -> bool {
    body.trim_ascii_start().first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-')
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// Whether a signed time is near enough to now.
fn is_near(at: &str, now: Timestamp) -> bool {
    let is_plain = !at.is_empty() && at.len() <= TIMESTAMP_DIGITS_MAX && at.bytes().all(|byte| byte.is_ascii_digit());
    let Some(seconds) = at.parse::<i64>().ok().filter(|_| is_plain) else { return false };
    let distance = Duration::from_micros((seconds * 1_000_000).abs_diff(now.as_micros()));
    distance <= SKEW_MAX
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some((digit(pair[0])? * 16 + digit(*pair.get(1)?)?) as u8)).collect()
}

#[cfg(test)]
mod tests;
