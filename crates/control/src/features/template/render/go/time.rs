//! Times as Go writes them, in UTC. Source: Go's documentation of package `time`, layouts.

use regrow_model::Time;

/// Stands for `datetime.Format`.
pub(super) const FORMAT: &str = "datetime.Format";

/// Stands for `datetime.Unix`.
pub(super) const UNIX: &str = "datetime.Unix";

/// Stands for `datetime.UTC`.
pub(super) const UTC: &str = "datetime.UTC";

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// As Go prints a time: `2015-01-23 13:34:56.093 +0000 UTC`.
pub(super) fn display(time: Time) -> String {
    format(time, "2006-01-02 15:04:05.999 -0700 MST")
}

/// Go's `Time.Format`: the layout shows how the reference time, Mon Jan 2 15:04:05 MST 2006, would be written.
pub(super) fn format(time: Time, layout: &str) -> String {
    let parts = Parts::of(time);
    let mut out = String::with_capacity(layout.len() + 16);
    let mut rest = layout;
    'layout: while let Some(first) = rest.chars().next() {
        for (token, write) in TOKENS {
            if let Some(after) = rest.strip_prefix(token)
                && !(*token == "Jan" && after.starts_with(|c: char| c.is_ascii_lowercase()))
                && !(*token == "Mon" && after.starts_with(|c: char| c.is_ascii_lowercase()))
            {
                out.push_str(&write(&parts));
                rest = after;
                continue 'layout;
            }
        }
        if let Some((text, after)) = fraction(rest, parts.millisecond) {
            out.push_str(&text);
            rest = after;
            continue;
        }
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    out
}

/// `.000` keeps its zeros, `.999` does not; the digits must end there.
fn fraction(rest: &str, millisecond: u64) -> Option<(String, &str)> {
    let mark = rest.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let digit = rest[1..].chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let digits = rest[1..].chars().take_while(|c| *c == digit).count();
    let after = &rest[1 + digits..];
    if after.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let nine = format!("{millisecond:03}000000");
    let shown: String = nine.chars().chain(std::iter::repeat('0')).take(digits).collect();
    let shown = if digit == '9' { shown.trim_end_matches('0') } else { &shown };
    Some((if shown.is_empty() { String::new() } else { format!("{mark}{shown}") }, after))
}

type Write = fn(&Parts) -> String;

/// Longest first where one begins another.
const TOKENS: &[(&str, Write)] = &[
    ("January", |p| MONTHS[p.month - 1].to_owned()),
    ("Jan", |p| MONTHS[p.month - 1][..3].to_owned()),
    ("Monday", |p| DAYS[p.weekday].to_owned()),
    ("Mon", |p| DAYS[p.weekday][..3].to_owned()),
    ("MST", |_| "UTC".to_owned()),
    ("2006", |p| format!("{:04}", p.year)),
    ("002", |p| format!("{:03}", p.day_of_year)),
    ("__2", |p| format!("{:3}", p.day_of_year)),
    ("01", |p| format!("{:02}", p.month)),
    ("02", |p| format!("{:02}", p.day)),
    ("03", |p| format!("{:02}", p.hour12())),
    ("04", |p| format!("{:02}", p.minute)),
    ("05", |p| format!("{:02}", p.second)),
    ("06", |p| format!("{:02}", p.year % 100)),
    ("15", |p| format!("{:02}", p.hour)),
    ("-07:00:00", |_| "+00:00:00".to_owned()),
    ("-070000", |_| "+000000".to_owned()),
    ("-07:00", |_| "+00:00".to_owned()),
    ("-0700", |_| "+0000".to_owned()),
    ("-07", |_| "+00".to_owned()),
    ("Z07:00:00", |_| "Z".to_owned()),
    ("Z070000", |_| "Z".to_owned()),
    ("Z07:00", |_| "Z".to_owned()),
    ("Z0700", |_| "Z".to_owned()),
    ("Z07", |_| "Z".to_owned()),
    ("PM", |p| if p.hour < 12 { "AM" } else { "PM" }.to_owned()),
    ("pm", |p| if p.hour < 12 { "am" } else { "pm" }.to_owned()),
    ("_2006", |p| format!("_{:04}", p.year)),
    ("_2", |p| format!("{:2}", p.day)),
    ("1", |p| p.month.to_string()),
    ("2", |p| p.day.to_string()),
    ("3", |p| p.hour12().to_string()),
    ("4", |p| p.minute.to_string()),
    ("5", |p| p.second.to_string()),
];

/// A time taken apart, in UTC.
struct Parts {
    year: u64,
    month: usize,
    day: u64,
    day_of_year: u64,
    weekday: usize,
    hour: u64,
    minute: u64,
    second: u64,
    millisecond: u64,
}

impl Parts {
    /// Years up to 9999 only: later ones are shown as its end.
    fn of(time: Time) -> Parts {
        const END: u64 = 253_402_300_799_999;
        let ms = time.0.min(END);
        let days = ms / 86_400_000;
        let in_day = ms % 86_400_000 / 1_000;
        let (mut year, mut left) = (1970, days);
        while left >= days_in(year) {
            left -= days_in(year);
            year += 1;
        }
        let day_of_year = left + 1;
        let leap = days_in(year) == 366;
        let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 0;
        while left >= lengths[month] {
            left -= lengths[month];
            month += 1;
        }
        Parts {
            year,
            month: month + 1,
            day: left + 1,
            day_of_year,
            weekday: (days % 7) as usize,
            hour: in_day / 3_600,
            minute: in_day / 60 % 60,
            second: in_day % 60,
            millisecond: ms % 1_000,
        }
    }

    fn hour12(&self) -> u64 {
        match self.hour % 12 {
            0 => 12,
            hour => hour,
        }
    }
}

fn days_in(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if leap { 366 } else { 365 }
}
