//! The node's clock.

use regrow_model::Time;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The time of day with milliseconds, UTC: `03:12:44.120`.
pub(crate) fn text(time: Time) -> String {
    let (ms, s) = (time.0 % 1000, time.0 / 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", s / 3600 % 24, s / 60 % 60, s % 60)
}
