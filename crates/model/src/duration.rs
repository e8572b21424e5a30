//! Durations as people write them: `500ms`, `1s`, `2m 30s`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A span of time in the spec and in records, written with its unit: `250ms`, `10s`, `2h`.
///
/// A bare number is refused: nobody remembers which unit it was in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl Span {
    /// A span of `ms` milliseconds.
    pub const fn millis(ms: u64) -> Span {
        Span(Duration::from_millis(ms))
    }

    /// A span of `s` seconds.
    pub const fn secs(s: u64) -> Span {
        Span(Duration::from_secs(s))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Span).map_err(|_| {
            de::Error::custom(format!("`{text}` is not a duration: write it with a unit, as 500ms, 10s or 2m"))
        })
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration with its unit: 500ms, 10s, 2m, 1h 30m.",
            "pattern": "^[0-9]+ ?(ns|us|ms|s|sec|m|min|h|hr|d|day|days)( ?[0-9]+ ?(ns|us|ms|s|sec|m|min|h|hr|d))*$"
        })
    }
}
