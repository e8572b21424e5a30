//! Texts that several verbs show.

use regrow_model::Time;
use std::time::{Duration, SystemTime};

/// Rows under their heads, each column as wide as it must be.
pub(super) fn columns(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(heads[column].len())
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut heads.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// A time as people read it: `2026-01-31T12:00:00Z`.
pub(super) fn at(time: Time) -> String {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_millis(time.0)).to_string()
}

/// Time between two moments, in whole seconds.
pub(super) fn between(from: Time, to: Time) -> String {
    humantime::format_duration(Duration::from_secs(to.0.saturating_sub(from.0) / 1_000)).to_string()
}

/// A text that came from elsewhere, without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns are aligned without blanks at the ends, and what a terminal obeys does not reach it.
    #[test]
    fn tables_and_texts() {
        let rows = [vec!["nightly".to_owned(), "1".to_owned()], vec!["x".to_owned(), String::new()]];
        assert_eq!(columns(&["JOB", "N"], &rows), "JOB      N\nnightly  1\nx\n");
        assert_eq!(plain("a\tb\x1b[2J\r\n"), "a\tb\u{fffd}[2J\u{fffd}\u{fffd}");
        assert_eq!(
            (at(Time(1_000)), between(Time(0), Time(61_999))),
            ("1970-01-01T00:00:01Z".to_owned(), "1m 1s".to_owned())
        );
    }
}
