//! When a schedule comes due: a cron expression of five fields, read in a time zone.
//!
//! Minute, hour, day of month, month, day of week; names (`MON`, `JAN`), lists, ranges, steps, `L`, `W`, `#` and `@daily` and
//! its like are understood. There is no field for seconds: a minute is the least between two due times.
//!
//! Where clocks are changed, a schedule whose hour field is `*` goes on in real time: it neither pauses nor hurries. Any
//! other one means times of day: one that does not exist on that day comes due at the first moment that does, one that
//! exists twice comes due at its first.

use agentruntime_host_api::Timestamp;
use chrono::{DateTime, NaiveDateTime, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

/// The longest expression, in bytes: room for every field as a list.
pub(crate) const CRON_BYTES_MAX: usize = 200;

/// When something comes due.
#[derive(Clone, Debug)]
pub(crate) struct DueTimes {
    cron: Cron,
    zone: Tz,
    is_hourly: bool,
}

/// An expression or a time zone that is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DueError {
    /// The expression is not understood.
    #[error("{0}; a cron expression has five fields, `minute hour day month weekday`, such as `30 9 * * MON-FRI`")]
    Cron(String),
    /// It is understood, and no day is like that.
    #[error("no such day comes: that month has no such day, or never on that weekday; check day, month and weekday")]
    Never,
    /// The time zone is not known.
    #[error("`{0}` is no time zone; write a name like `Europe/Berlin`, or `UTC`")]
    Zone(String),
}

impl DueTimes {
    /// Reads an expression and the name of a time zone.
    pub(crate) fn parse(cron: &str, zone: &str) -> Result<Self, DueError> {
        let zone: Tz = zone.parse().map_err(|_| DueError::Zone(zone.to_owned()))?;
        if cron.len() > CRON_BYTES_MAX {
            return Err(DueError::Cron(format!("it is longer than {CRON_BYTES_MAX} bytes")));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parsed = parser.parse(cron).map_err(|_| DueError::Cron(what_is_wrong(&parser, cron)))?;
        let is_hourly = match cron.split_whitespace().nth(1) {
            Some(hour) => hour == "*",
            None => cron.trim().eq_ignore_ascii_case("@hourly"),
        };
        let due = Self { cron: parsed, zone, is_hourly };
        let some_day = Timestamp::from_micros(0);
        due.after(some_day).map(|_| due.clone()).ok_or(DueError::Never)
    }

    /// The next due time after a moment.
    pub(crate) fn after(&self, moment: Timestamp) -> Option<Timestamp> {
        let moment = DateTime::from_timestamp_micros(moment.as_micros())?;
        let next = match self.is_hourly {
            true => self.cron.find_next_occurrence(&moment.with_timezone(&self.zone), false).ok()?.to_utc(),
            false => self.time_of_day_after(moment)?,
        };
        Some(Timestamp::from_micros(next.timestamp_micros()))
    }

    /// Due times after a moment, in order.
    pub(crate) fn all_after(&self, moment: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.after(moment), |last| self.after(*last))
    }

    /// Walks over times of day as if every day had each of them once, and places each on the day that there is.
    fn time_of_day_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut time = moment.with_timezone(&self.zone).naive_local().and_utc();
        loop {
            time = self.cron.find_next_occurrence(&time, false).ok()?;
            match self.placed(time.naive_utc()) {
                Some(placed) if placed > moment => return Some(placed),
                // The first of two, and the second is now; or the same moment as another time that does not exist.
                Some(_) => {}
                None => return None,
            }
        }
    }

    fn placed(&self, time: NaiveDateTime) -> Option<DateTime<Utc>> {
        let there_is = self.zone.from_local_datetime(&time).earliest();
        let placed = there_is.or_else(|| GapInfo::new(&time, &self.zone)?.end)?;
        Some(placed.to_utc())
    }
}

/// The fields in their order, with what each may hold.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day", "1 to 31, `L` or a number with `W`"),
    ("month", "1 to 12, or JAN to DEC"),
    ("weekday", "0 to 7 (0 and 7 are Sunday), or SUN to SAT"),
];

/// What is wrong with an expression, in our words: which field it is, shows when each stands alone.
fn what_is_wrong(parser: &CronParser, cron: &str) -> String {
    let shown = |text: &str| text.chars().filter(|character| !character.is_control()).collect::<String>();
    let fields: Vec<&str> = cron.split_whitespace().collect();
    match fields.as_slice() {
        [] => return "it is empty".to_owned(),
        [word] if word.starts_with('@') => {
            let known = "@hourly, @daily, @weekly, @monthly and @yearly";
            return format!("`{}` is not known: the words are {known}", shown(word));
        }
        five if five.len() == FIELDS.len() => {}
        other => return format!("it has {} fields and not {}", other.len(), FIELDS.len()),
    }
    let mut alone = ["*"; 5];
    for ((field, text), (name, holds)) in fields.iter().enumerate().zip(FIELDS) {
        alone[field] = text;
        let is_wrong = parser.parse(&alone.join(" ")).is_err();
        alone[field] = "*";
        if is_wrong {
            return format!(
                "`{}` is no {name}: write {holds}, `*` for every one, a list `1,5`, a range `1-5` or a step `*/5`",
                shown(text)
            );
        }
    }
    "its fields do not fit together".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_micros(DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
    }

    /// The next due times after a moment, in the schedule's time zone.
    fn check(cron: &str, zone: &str, after: &str, expected: &[&str]) {
        let due = DueTimes::parse(cron, zone).unwrap();
        let shown = |time: Timestamp| {
            let time = DateTime::from_timestamp_micros(time.as_micros()).unwrap().with_timezone(&due.zone);
            time.format("%m-%d %H:%M %Z").to_string()
        };
        let found: Vec<String> = due.all_after(at(after)).take(expected.len()).map(shown).collect();
        assert_eq!(found, expected, "{cron} {zone}");
    }

    #[test]
    fn five_fields_in_a_time_zone() {
        check("30 9 * * MON-FRI", "Europe/Berlin", "2026-01-02T09:00:00Z", &["01-05 09:30 CET", "01-06 09:30 CET"]);
        check(
            "*/20 * * * *",
            "UTC",
            "2026-01-01T00:05:00Z",
            &["01-01 00:20 UTC", "01-01 00:40 UTC", "01-01 01:00 UTC"],
        );
        check("0 0 L * *", "UTC", "2028-02-01T00:00:00Z", &["02-29 00:00 UTC", "03-31 00:00 UTC"]);
        check("@daily", "UTC", "2026-01-01T00:00:00Z", &["01-02 00:00 UTC"]);
        check("@hourly", "UTC", "2026-01-01T00:00:00Z", &["01-01 01:00 UTC"]);
    }

    #[test]
    fn a_time_that_does_not_exist_comes_due_at_the_first_that_does() {
        let berlin = "Europe/Berlin";
        check("30 2 * * *", berlin, "2026-03-28T12:00:00Z", &["03-29 03:00 CEST", "03-30 02:30 CEST"]);
        check("*/10 2 * * *", berlin, "2026-03-28T12:00:00Z", &["03-29 03:00 CEST", "03-30 02:00 CEST"]);
        check("0 2,3 * * *", berlin, "2026-03-28T12:00:00Z", &["03-29 03:00 CEST", "03-30 02:00 CEST"]);
        check(
            "0 */2 * * *",
            berlin,
            "2026-03-28T22:30:00Z",
            &["03-29 00:00 CET", "03-29 03:00 CEST", "03-29 04:00 CEST"],
        );
        check("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", &["03-08 03:00 EDT", "03-09 02:30 EDT"]);
    }

    #[test]
    fn a_time_that_exists_twice_comes_due_once() {
        let berlin = "Europe/Berlin";
        check("30 2 * * *", berlin, "2026-10-24T12:00:00Z", &["10-25 02:30 CEST", "10-26 02:30 CET"]);
        check("0 2,3 * * *", berlin, "2026-10-24T12:00:00Z", &["10-25 02:00 CEST", "10-25 03:00 CET"]);
        // Made in the second of the two hours.
        check("30 2 * * *", berlin, "2026-10-25T01:10:00Z", &["10-26 02:30 CET"]);
        check("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", &["11-01 01:30 EDT", "11-02 01:30 EST"]);
    }

    #[test]
    fn what_runs_every_hour_goes_on_in_real_time() {
        let spring = ["03-29 01:30 CET", "03-29 03:00 CEST", "03-29 03:30 CEST"];
        check("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", &spring);
        let autumn = ["10-25 02:30 CEST", "10-25 02:00 CET", "10-25 02:30 CET", "10-25 03:00 CET"];
        check("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", &autumn);
        let spring = ["03-08 01:00 EST", "03-08 03:00 EDT"];
        check("0 * * * *", "America/New_York", "2026-03-08T05:30:00Z", &spring);
        let autumn = ["11-01 01:00 EDT", "11-01 01:00 EST", "11-01 02:00 EST"];
        check("0 * * * *", "America/New_York", "2026-11-01T04:30:00Z", &autumn);
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        let refused = |cron: &str| DueTimes::parse(cron, "UTC").unwrap_err();
        for wrong in ["", "* * * *", "* * * * * *", "60 * * * *", "@reboot", "every day", &"*".repeat(300)] {
            assert!(matches!(refused(wrong), DueError::Cron(_)), "{wrong}");
        }
        assert!(matches!(refused("0 0 30 2 *"), DueError::Never));
        let told = |cron: &str| refused(cron).to_string();
        assert!(told("").starts_with("it is empty; a cron expression has five fields"));
        assert!(told("* * * *").starts_with("it has 4 fields and not 5;"));
        assert!(told("@often").starts_with("`@often` is not known: the words are @hourly"));
        assert!(told("0 24 * * *").starts_with("`24` is no hour: write 0 to 23"));
        assert!(told("0 0 * * MOO").starts_with("`MOO` is no weekday: write 0 to 7"));
        assert!(told("*/0 0 * * *").starts_with("`*/0` is no minute"));
        assert!(told("0 0 5-1 * *").starts_with("`5-1` is no day"));
        assert!(matches!(DueTimes::parse("* * * * *", "Mars/Olympus"), Err(DueError::Zone(_))));
    }
}
