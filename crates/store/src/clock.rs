//! The time that leases live by.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A clock that only goes forward.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;

    /// How long the engine's thread may sleep, in real time, to wake when the clock shows `deadline`; `None` if only
    /// the callback of [`Clock::on_change`] will tell.
    fn sleep_until(&self, deadline: Duration) -> Option<Duration>;

    /// Calls `wake` whenever the clock was set forward by hand.
    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>);
}

/// The machine's monotonic clock.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep_until(&self, deadline: Duration) -> Option<Duration> {
        Some(deadline.saturating_sub(self.now()))
    }

    fn on_change(&self, _wake: Box<dyn Fn() + Send + Sync>) {}
}

/// A clock that stands still until it is told to move; for tests and simulations.
#[derive(Clone, Default)]
pub struct ManualClock(Arc<Mutex<Manual>>);

#[derive(Default)]
struct Manual {
    now: Duration,
    wakers: Vec<Arc<dyn Fn() + Send + Sync>>,
}

impl ManualClock {
    /// Moves the clock forward and wakes whoever waits for it.
    pub fn advance(&self, by: Duration) {
        let wakers = {
            let mut manual = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            manual.now += by;
            manual.wakers.clone()
        };
        wakers.iter().for_each(|wake| wake());
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now
    }

    fn sleep_until(&self, _deadline: Duration) -> Option<Duration> {
        None
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).wakers.push(wake.into());
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}
