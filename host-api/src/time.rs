//! Points in time. Nothing here reads a clock: whoever owns one says what time it is.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};

/// Microseconds since 1970-01-01T00:00:00Z, written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// The text is not a point in time.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an RFC 3339 time such as 2026-01-31T08:00:00Z")]
pub struct TimestampError(String);

impl Timestamp {
    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The point `duration` later; it stops at the end of time rather than wrap.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; nothing where it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let point = jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{point:.6}")
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        text.parse::<jiff::Timestamp>()
            .map(|point| Self(point.as_microsecond()))
            .map_err(|_| TimestampError(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_rfc_3339_and_read_back() {
        let point = Timestamp::from_micros(1_767_225_600_000_001);
        assert_eq!(point.to_string(), "2026-01-01T00:00:00.000001Z");
        assert_eq!("2026-01-01T01:00:00.000001+01:00".parse::<Timestamp>().unwrap(), point);
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn time_saturates_at_its_ends() {
        assert_eq!(Timestamp::from_micros(i64::MAX).plus(Duration::from_secs(1)), Timestamp::from_micros(i64::MAX));
        assert_eq!(Timestamp::from_micros(5).since(Timestamp::from_micros(9)), Duration::ZERO);
    }
}
