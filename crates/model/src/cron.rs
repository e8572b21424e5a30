//! When a schedule is due: cron expressions in a time zone.
//!
//! Pure: the zones are those built in, not the machine's, so every node computes the same times. Source of the
//! expressions: cron(5); when both the day of the month and that of the week are restricted, either will do.
//!
//! **Summer time.** A time that the change leaves out is at the change; times that coincide there are one. A time that
//! comes twice is the first of the two, unless every hour is meant (the hour begins with `*`): then it is both.

use crate::Time;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use std::collections::BTreeSet;

/// Days looked ahead: the 29th of February may be eight years away, in 2096.
const DAYS_MAX: usize = 8 * 366;

/// Longest expression, bytes.
const CRON_BYTES_MAX: usize = 256;

/// A cron expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: BTreeSet<u8>,
    hours: BTreeSet<u8>,
    days: BTreeSet<u8>,
    months: BTreeSet<u8>,
    weekdays: BTreeSet<u8>,
    every_hour: bool,
    either_day: bool,
}

/// Why a text is no cron expression. The user's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five fields and no known word.
    #[error("a cron expression has five fields (minute hour day month weekday), this has {0}")]
    Fields(usize),
    /// A field that cannot be read.
    #[error("`{text}` is not a {field}: {low} to {high}")]
    Field {
        /// What was written.
        text: String,
        /// Which field.
        field: &'static str,
        /// Its smallest value.
        low: u8,
        /// Its largest value.
        high: u8,
    },
    /// No day that there is.
    #[error("there is no such day in any year")]
    Never,
    /// Beyond [`CRON_BYTES_MAX`].
    #[error("the expression is too long")]
    Long,
}

/// The zone of that IANA name; `None` when there is none.
pub fn zone(name: &str) -> Option<TimeZone> {
    if name == "UTC" { Some(TimeZone::UTC) } else { TimeZoneDatabase::bundled().get(name).ok() }
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Cron {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Cron, CronError> {
        if text.len() > CRON_BYTES_MAX {
            return Err(CronError::Long);
        }
        let text = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            text => text,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(CronError::Fields(fields.len()));
        };
        let mut weekdays = field(weekday, "weekday", 0, 7, &WEEKDAYS, 0)?;
        // Sunday has two numbers.
        if weekdays.remove(&7) {
            weekdays.insert(0);
        }
        let cron = Cron {
            minutes: field(minute, "minute", 0, 59, &[], 0)?,
            hours: field(hour, "hour", 0, 23, &[], 0)?,
            days: field(day, "day", 1, 31, &[], 0)?,
            months: field(month, "month", 1, 12, &MONTHS, 1)?,
            weekdays,
            every_hour: hour.starts_with('*'),
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        let longest = |month: &u8| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let most = cron.months.iter().map(longest).max().unwrap_or(0);
        if !cron.either_day && cron.days.first().is_none_or(|first| *first > most) {
            return Err(CronError::Never);
        }
        Ok(cron)
    }

    /// The first time after `after` in `zone`; `None` when there is none within eight years.
    pub fn next_after(&self, after: Time, zone: &TimeZone) -> Option<Time> {
        let after = Timestamp::from_millisecond(i64::try_from(after.0).ok()?).ok()?;
        // Behind a change at midnight the day before may have times to come.
        let mut date = zone.to_datetime(after).date().yesterday().ok()?;
        for _ in 0..DAYS_MAX {
            if self.has_day(date)
                && let Some(next) = self.times(date, zone).filter(|time| *time > after).min()
            {
                return u64::try_from(next.as_millisecond()).ok().map(Time);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let weekday = date.weekday().to_sunday_zero_offset().unsigned_abs();
        let day = self.days.contains(&date.day().unsigned_abs());
        let weekday = self.weekdays.contains(&weekday);
        let fits = if self.either_day { day || weekday } else { day && weekday };
        fits && self.months.contains(&date.month().unsigned_abs())
    }

    fn times<'a>(&'a self, date: Date, zone: &'a TimeZone) -> impl Iterator<Item = Timestamp> + 'a {
        let minutes = self.hours.iter().flat_map(|hour| self.minutes.iter().map(move |minute| (*hour, *minute)));
        minutes.flat_map(move |(hour, minute)| {
            let time = date.at(hour.cast_signed(), minute.cast_signed(), 0, 0);
            self.instants(time, zone).into_iter().flatten()
        })
    }

    /// When the clocks of a zone show a time: once, never, or twice.
    fn instants(&self, time: DateTime, zone: &TimeZone) -> [Option<Timestamp>; 2] {
        match zone.to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Unambiguous { offset } => [offset.to_timestamp(time).ok(), None],
            AmbiguousOffset::Gap { after, .. } => {
                let before = after.to_timestamp(time).ok();
                [before.and_then(|before| zone.following(before).next()).map(|change| change.timestamp()), None]
            }
            AmbiguousOffset::Fold { before, after } => {
                let second = self.every_hour.then(|| after.to_timestamp(time).ok()).flatten();
                [before.to_timestamp(time).ok(), second]
            }
        }
    }
}

/// Reads `*`, `5`, `1-5`, `*/10`, `0-30/5`, names, and lists of these.
fn field(
    text: &str,
    field: &'static str,
    low: u8,
    high: u8,
    names: &[&str],
    first: u8,
) -> Result<BTreeSet<u8>, CronError> {
    let wrong = || CronError::Field { text: text.to_owned(), field, low, high };
    let number = |text: &str| -> Option<u8> {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        match named {
            Some(index) => u8::try_from(index).ok().map(|index| index + first),
            None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            None => None,
        }
    };
    let mut values = BTreeSet::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|step| *step > 0).ok_or_else(wrong)?),
            None => (part, 1_u8),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((from, to)) => (number(from).ok_or_else(wrong)?, number(to).ok_or_else(wrong)?),
            None => {
                let from = number(range).ok_or_else(wrong)?;
                (from, if part.contains('/') { high } else { from })
            }
        };
        if from < low || to > high || from > to {
            return Err(wrong());
        }
        values.extend((from..=to).step_by(usize::from(step)));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        let time: Timestamp = text.parse().expect("a time");
        Time(u64::try_from(time.as_millisecond()).expect("after 1970"))
    }

    fn shown(time: Time) -> String {
        Timestamp::from_millisecond(i64::try_from(time.0).expect("small")).expect("in range").to_string()
    }

    /// The next `count` times.
    fn next(cron: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
        let (cron, zone) = (Cron::parse(cron).expect("cron"), zone(zone_name).expect("a zone"));
        let mut time = at(after);
        let mut times = Vec::new();
        for _ in 0..count {
            time = cron.next_after(time, &zone).expect("there is a next time");
            times.push(shown(time));
        }
        times
    }

    /// Shows each form of a field, lists and names, and either day.
    #[test]
    fn expressions() {
        let table: [(&str, &[&str]); 7] = [
            ("*/20 * * * *", &["2026-01-01T00:20:00Z", "2026-01-01T00:40:00Z", "2026-01-01T01:00:00Z"]),
            ("5,50-52 3 * * *", &["2026-01-01T03:05:00Z", "2026-01-01T03:50:00Z", "2026-01-01T03:51:00Z"]),
            ("0 12 * * mon-fri", &["2026-01-01T12:00:00Z", "2026-01-02T12:00:00Z", "2026-01-05T12:00:00Z"]),
            ("0 0 13 * 5", &["2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z", "2026-01-13T00:00:00Z"]),
            ("0 0 29 2 *", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
            ("30 4 1 JAN,jul *", &["2026-01-01T04:30:00Z", "2026-07-01T04:30:00Z"]),
            ("@weekly", &["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"]),
        ];
        for (cron, expected) in table {
            assert_eq!(next(cron, "UTC", "2026-01-01T00:00:00Z", expected.len()), expected, "{cron}");
        }
    }

    /// Shows that what is no expression is refused, with its field.
    #[test]
    fn refusals() {
        for wrong in ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "a * * * *"] {
            assert!(Cron::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["*/0 * * * *", "5-1 * * * *", "-1 * * * *", "+1 * * * *", "1,,2 * * * *", "0 0 30 2 *"] {
            assert!(Cron::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Cron::parse(&"1,".repeat(200)).is_err());
        assert!(zone("Mars/Phobos").is_none() && zone("../../etc/passwd").is_none());
    }

    /// Shows the changes to and from summer time in Berlin: 2026-03-29 02:00 → 03:00, 2026-10-25 03:00 → 02:00.
    #[test]
    fn summer_time() {
        let berlin = "Europe/Berlin";
        // 02:30 does not exist on the 29th: it is at the change, 01:00 UTC, and only once.
        let left_out = next("30 2 * * *", berlin, "2026-03-28T00:00:00Z", 3);
        assert_eq!(left_out, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        // What every ten minutes would do in the hour that is left out coincides with 03:00.
        let often = next("*/30 * * * *", berlin, "2026-03-29T00:00:00Z", 4);
        let plain = ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:00:00Z"];
        assert_eq!(often, plain);
        // 02:30 exists twice on the 25th: it is the first.
        let twice = next("30 2 * * *", berlin, "2026-10-24T12:00:00Z", 2);
        assert_eq!(twice, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        // Every hour is every hour.
        let hourly = next("0 * * * *", berlin, "2026-10-24T23:30:00Z", 4);
        let plain = ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"];
        assert_eq!(hourly, plain);
        // Lord Howe changes by half an hour: 02:00 → 02:30 on 2026-10-04.
        let half = next("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 1);
        assert_eq!(half, ["2026-10-03T15:30:00Z"]);
    }
}
