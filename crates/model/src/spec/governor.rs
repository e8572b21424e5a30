//! `governor:` — the bounds on everything that changes the world.

use crate::duration::Span;
use crate::limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The safety governor's settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Governor {
    /// How many disruptive changes may happen in a window.
    #[serde(default)]
    pub budget: Budget,
    /// When so much looks dead that it is more likely a partition than a death.
    #[serde(default)]
    pub freeze: Freeze,
}

/// A budget of planned changes that take something out of service (stops, drains, rolling replacements).
/// Replacing what has died by itself is not counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Changes in any window of `per`. 1 to 10,000; default 120: a rolling replace of a hundred goes through at once,
    /// a planner that loops does not.
    #[schemars(range(min = 1, max = limits::BUDGET_CHANGES_MAX))]
    pub changes: u32,
    /// The window. Default 1 m.
    pub per: Span,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { changes: 120, per: Span::secs(60) }
    }
}

/// When to stop destroying: a large share failing its checks at once is a fault of the checker or the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Freeze {
    /// Share of endpoints whose process lives but whose checks fail, above which nothing alive is destroyed; and share of
    /// nodes that look dead at once, above which nothing is taken out of the catalog, replaced or stopped.
    /// 0 to 1; default 0.5.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
    /// Below this many endpoints their share says nothing. Default 4.
    pub at_least: u32,
}

impl Default for Freeze {
    fn default() -> Freeze {
        Freeze { share: 0.5, at_least: 4 }
    }
}
