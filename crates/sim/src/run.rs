//! One run: a seed and a weather.

use crate::cluster::Cluster;
use crate::faults::Weather;
use crate::properties::Violation;
use crate::rng::Rng;
use crate::seam::Seam;
use crate::timeline::BEGIN;
use std::fmt;
use std::time::Duration;

/// How long things go wrong.
const TROUBLE: (u64, u64) = (20, 150);
/// Longest that a cluster may take to come to what is wanted when nothing goes wrong any more. The longest waits that
/// may be under way then are an action without an outcome (a minute beyond its own time) and a template's wait before it
/// tries again (a minute); a few of them may follow one another.
pub const CONVERGE_MAX: Duration = Duration::from_secs(600);
/// What has converged stays so: looked at again after this.
const STAYS: Duration = Duration::from_secs(10);
/// Lines of a run's trace that are shown.
const TRACE_LINES: usize = 400;

/// What a run was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Things that happened.
    pub steps: u64,
    /// Virtual time from the first to the last.
    pub length: Duration,
    /// From the end of the trouble until everything was as it is to be.
    pub converged_in: Duration,
    /// Events recorded.
    pub events: usize,
}

/// A run that went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The weather.
    pub weather: Weather,
    /// What did not hold.
    pub violation: Violation,
    /// What happened before it, for people.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = self.trace.len().saturating_sub(TRACE_LINES);
        for line in &self.trace[skipped..] {
            writeln!(f, "{line}")?;
        }
        let at = self.violation.at.since(BEGIN);
        writeln!(f, "property `{}` does not hold after {at:?}: {}", self.violation.property, self.violation.what)?;
        write!(
            f,
            "replay: SEED={} WEATHER={:?} cargo nextest run -p regrow-sim --test seeds one_seed --no-capture",
            self.seed, self.weather
        )
    }
}

/// Runs one seed. `seam`: makes the seam; called twice when the run fails, because it is then run again for its trace.
pub fn run<S: Seam>(seed: u64, weather: Weather, seam: impl Fn() -> S) -> Result<Summary, Box<Failure>> {
    attempt(seed, weather, &mut seam(), false).map_err(|_| {
        let again = attempt(seed, weather, &mut seam(), true);
        Box::new(again.err().unwrap_or_else(|| {
            panic!("seed {seed} failed once and not twice: something in a run does not come from its seed")
        }))
    })
}

/// Runs one seed for its verdict only: no trace is made.
pub fn judge(seed: u64, weather: Weather, seam: &mut dyn Seam) -> Result<Summary, Violation> {
    attempt(seed, weather, seam, false).map_err(|failure| failure.violation)
}

fn attempt(seed: u64, weather: Weather, seam: &mut dyn Seam, traced: bool) -> Result<Summary, Failure> {
    let mut rng = Rng::new(seed);
    let faults = weather.faults(&mut rng.fork());
    let trouble = rng.millis(TROUBLE.0 * 1_000, TROUBLE.1 * 1_000);
    let mut cluster = Cluster::new(rng, faults, seam, traced);
    match through(&mut cluster, trouble) {
        Ok(summary) => Ok(summary),
        Err(violation) => Err(Failure { seed, weather, violation, trace: cluster.into_trace() }),
    }
}

fn through(cluster: &mut Cluster<'_>, trouble: Duration) -> Result<Summary, Violation> {
    cluster.until(BEGIN.after(trouble))?;
    cluster.clear_up();
    let (cleared, mut settled_since) = (cluster.now(), None);
    loop {
        cluster.until(cluster.now().after(Duration::from_secs(1)))?;
        match cluster.settled() {
            Ok(()) => {
                let since = *settled_since.get_or_insert(cluster.now());
                if cluster.now().since(since) >= STAYS {
                    return Ok(Summary {
                        steps: cluster.steps(),
                        length: cluster.now().since(BEGIN),
                        converged_in: since.since(cleared),
                        events: cluster.store().events().count(),
                    });
                }
            }
            Err(violation) if cluster.now().since(cleared) > CONVERGE_MAX => return Err(violation),
            Err(_) => settled_since = None,
        }
    }
}
