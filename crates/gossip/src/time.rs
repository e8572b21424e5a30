//! Time as the state machine is handed it.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on the driver's monotonic clock.
///
/// Shape: microseconds since any fixed moment (start of the process, say). Milliseconds would do for
/// membership; network coordinates need the finer unit, since a round trip in one rack takes 0.1 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Time(u64);

impl Time {
    /// The fixed moment.
    pub const ZERO: Self = Self(0);

    /// So many microseconds after the fixed moment.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// So many milliseconds after the fixed moment.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// Microseconds since the fixed moment.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Milliseconds since the fixed moment, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1000
    }

    /// Time since `earlier`; zero when that is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Time> for Time {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}
