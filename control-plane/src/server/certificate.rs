//! What will go wrong with a certificate that can be read: clients refuse it, now or soon.
//!
//! Told and not refused: a service that is restarted with an old certificate still serves those who do not look.

use rustls::pki_types::{CertificateDer, ServerName};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long before its end a certificate is told of: whoever renews by hand has two weeks.
pub(super) const NOTICE_DAYS: u64 = 14;

const DAY_SECONDS: u64 = 24 * 3600;

/// When a certificate begins and ends to be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    /// From this second on, since 1970.
    begins: i64,
    /// Up to this second, since 1970.
    ends: i64,
}

impl Validity {
    /// Reads it; nothing where the certificate cannot be read so far.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, read) = X509Certificate::from_der(certificate).ok()?;
        let validity = read.validity();
        Some(Self { begins: validity.not_before.timestamp(), ends: validity.not_after.timestamp() })
    }

    /// The end, in seconds since 1970.
    pub(super) fn ends(self) -> i64 {
        self.ends
    }

    /// What there is to say at this time.
    fn concern(self, now: SystemTime) -> Option<String> {
        let now = seconds(now);
        let notice = i64::try_from(NOTICE_DAYS * DAY_SECONDS).unwrap_or(i64::MAX);
        let days = |seconds: i64| seconds / DAY_SECONDS.cast_signed();
        match self {
            Self { begins, .. } if now < begins => Some(format!(
                "is good only from {} on: clients refuse it until then; is the clock right?",
                date(begins)
            )),
            Self { ends, .. } if now > ends => {
                Some(format!("has expired ({}): clients refuse it; renew it and send SIGHUP", date(ends)))
            }
            Self { ends, .. } if ends - now <= notice => {
                Some(format!("expires in {} days ({}); renew it and send SIGHUP", days(ends - now), date(ends)))
            }
            Self { .. } => None,
        }
    }
}

/// What clients will say of a server's certificate, as ends of sentences that begin with its file.
pub(super) fn concerns(certificate: &CertificateDer<'_>, host: Option<&str>, now: SystemTime) -> Vec<String> {
    let of_time = Validity::of(certificate).and_then(|validity| validity.concern(now));
    let of_name = host.filter(|host| !is_for(certificate, host)).map(|host| {
        format!("is not for {host}, where `public_url` says that clients come: they refuse it; get one with that name")
    });
    of_time.into_iter().chain(of_name).collect()
}

/// Whether a certificate names the host. One that cannot be read so far has been refused elsewhere.
fn is_for(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match (webpki::EndEntityCert::try_from(certificate), ServerName::try_from(host)) {
        (Ok(certificate), Ok(name)) => certificate.verify_is_valid_for_subject_name(&name).is_ok(),
        _ => true,
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    i64::try_from(since).unwrap_or(i64::MAX)
}

fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;

    /// For `agentruntime.example` and 192.0.2.1, from 2026-11-25 to 2027-03-05, 08:42:44.
    const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----\n\
        MIIBuDCCAV2gAwIBAgIUIFOVGU7pye8xUTSV13Cd7cHqiCkwCgYIKoZIzj0EAwIw\n\
        HzEdMBsGA1UEAwwUYWdlbnRydW50aW1lLmV4YW1wbGUwHhcNMjYxMTI1MDg0MjQ0\n\
        WhcNMjcwMzA1MDg0MjQ0WjAfMR0wGwYDVQQDDBRhZ2VudHJ1bnRpbWUuZXhhbXBs\n\
        ZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABI9EtXjm7tNqR+VEvEG/Kjz8uGAC\n\
        YfFKs0Zv35a9K/pND1II9VejaOGfF+7RB00/JLD+5l7zIGucQ3J04jfsG22jdzB1\n\
        MB0GA1UdDgQWBBRP3+8hs/8jAQjpjcsBH44Z+jNhQjAfBgNVHSMEGDAWgBRP3+8h\n\
        s/8jAQjpjcsBH44Z+jNhQjAlBgNVHREEHjAcghRhZ2VudHJ1bnRpbWUuZXhhbXBs\n\
        ZYcEwAACATAMBgNVHRMBAf8EAjAAMAoGCCqGSM49BAMCA0kAMEYCIQD3wY31/MOL\n\
        qrCGz/PjhIeutnqp9QqqkhFPr5Aq04fEUQIhAPaOfzhot2QWUtqxL2qg4wPfUV3s\n\
        4YysVt2Bvl4RcmNh\n\
        -----END CERTIFICATE-----";

    fn told(host: Option<&str>, at: &str) -> String {
        let now: jiff::Timestamp = at.parse().unwrap();
        concerns(&CertificateDer::from_pem_slice(PEM).unwrap(), host, now.into()).join("\n")
    }

    #[test]
    fn what_is_good_for_long_is_not_told_of() {
        assert_eq!(told(Some("agentruntime.example"), "2026-11-25T08:42:44Z"), "");
        assert_eq!(told(Some("192.0.2.1"), "2027-02-19T08:42:43Z"), "");
        assert_eq!(told(None, "2027-01-01T00:00:00Z"), "");
    }

    #[test]
    fn an_end_is_told_of_in_time() {
        assert!(told(None, "2027-02-19T08:42:44Z").contains("expires in 14 days (2027-03-05T08:42:44Z)"));
        assert!(told(None, "2027-03-05T08:42:44Z").contains("expires in 0 days"));
        assert!(told(None, "2027-03-05T08:42:45Z").contains("has expired (2027-03-05T08:42:44Z)"));
        assert!(told(None, "2026-11-25T08:42:43Z").contains("is good only from 2026-11-25T08:42:44Z on"));
    }

    #[test]
    fn another_name_is_told_of() {
        for other in ["example.com", "www.agentruntime.example", "192.0.2.2", "[2001:db8::1]"] {
            assert!(told(Some(other), "2027-01-01T00:00:00Z").contains("is not for"), "{other}");
        }
    }
}
