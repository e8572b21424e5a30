//! The runtime's bounds.

use std::time::Duration;

/// How long beyond its own bounds an action may stay without an outcome before it is planned again.
pub const ACTION_TIME_MAX: Duration = Duration::from_secs(60);
/// First wait after an action that failed and changed no record, or a commit that the store could not take.
pub const RETRY_FIRST: Duration = Duration::from_millis(100);
/// Longest such wait.
pub const RETRY_MAX: Duration = Duration::from_secs(10);
/// Observations kept for one object while it is busy: the latest of each check, and one exit.
pub const OBSERVATIONS_WAITING_MAX: usize = 32;
/// Events removed in one transaction when there are too many: below etcd's 128 operations.
pub const EVENTS_PRUNED_AT_ONCE: usize = 100;
