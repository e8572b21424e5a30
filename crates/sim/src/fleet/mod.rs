//! Several nodes on one store: what becomes of groups when nodes die, are cut off, paused, and come back.
//!
//! Each node runs the real `Reconciler`. Its gossip is a model of one ([`network`]): who gets no answer from a member, direct
//! or through others, calls it dead after a while of its own; so verdicts come at different times, some are wrong, and
//! some never come. Leases, the leader and its fence are etcd's. Processes start at once and are healthy.
//!
//! What must hold is in [`Rule`]; a run is its seed.

mod host;
mod judge;
mod network;
mod trouble;

pub use judge::Rule;

use crate::rng::Rng;
use crate::seam::Seam;
use crate::store::Store;
use crate::timeline::{BEGIN, Timeline};
use crate::wish::Wish;
use host::Host;
use network::Network;
use regrow_control::reconcile::{Command, Input, Ticket, Transaction};
use regrow_model::{Action, Revision, Time};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;
use trouble::Trouble;

/// Longest that a fleet may take to be whole when nothing goes wrong any more. The longest wait is that of deaths that
/// happened at once (ten minutes), behind which others may wait.
pub const WHOLE_MAX: Duration = Duration::from_secs(1_500);
/// How long things go wrong.
const TROUBLE: (u64, u64) = (60, 300);
/// How long a lease lives without a beat, as the runtime's.
const LEASE: Duration = Duration::from_secs(10);
/// Between two beats.
const BEAT: Duration = Duration::from_millis(3_333);
/// Between two looks of gossip.
const TICK: Duration = Duration::from_millis(200);
/// Between two runs of all checks of a node.
const CHECKS: Duration = Duration::from_millis(300);
/// Lines of a trace that are shown.
const TRACE_LINES: usize = 300;

/// What was broken, and how it came to it.
#[derive(Clone, Debug)]
pub struct Broken {
    /// The seed.
    pub seed: u64,
    /// Which rule.
    pub rule: Rule,
    /// What was seen.
    pub what: String,
    /// What happened before it, for people.
    pub trace: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace[self.trace.len().saturating_sub(TRACE_LINES)..] {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "rule `{:?}` is broken: {}", self.rule, self.what)?;
        write!(f, "replay: SEED={} cargo nextest run -p regrow-sim --test fleet one_seed --no-capture", self.seed)
    }
}

/// What a run was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Verdicts recorded.
    pub verdicts: u32,
    /// Nodes that were found dead by two sources.
    pub deaths: u32,
    /// Slots that were filled on another node.
    pub relocations: u32,
    /// Returns recorded.
    pub returns: u32,
    /// Processes stopped whose slot had its life elsewhere.
    pub superseded: u32,
    /// Times that something was held because too much looked dead.
    pub frozen: u32,
}

/// Something that is to happen.
#[derive(Debug)]
enum Step {
    Commit { host: usize, life: u64, ticket: Ticket, transaction: Transaction },
    Tell { host: usize, life: u64, input: Box<Input> },
    Deliver { host: usize, life: u64 },
    Wake { host: usize, life: u64 },
    Act { host: usize, life: u64, ticket: Ticket, action: Action },
    Check { host: usize, life: u64 },
    Beat { host: usize, life: u64 },
    Start { host: usize },
    Tick,
    Begin,
    End(Trouble),
}

/// See the module.
pub(crate) struct Fleet<'s> {
    timeline: Timeline<Step>,
    rng: Rng,
    store: Store,
    hosts: Vec<Host>,
    network: Network,
    /// Who leads, and its term.
    leader: Option<(usize, Revision)>,
    terms: i64,
    /// Keys that list members.
    listed: BTreeSet<String>,
    wish: Wish,
    size: u32,
    troubled: bool,
    tally: Tally,
    seam: &'s mut dyn Seam,
    broken: Option<(Rule, String)>,
    trace: Option<Vec<String>>,
}

/// Runs one seed. `seam`: makes the seam; called twice when the run fails, because it is then run again for its trace.
pub fn run<S: Seam>(seed: u64, seam: impl Fn() -> S) -> Result<Tally, Box<Broken>> {
    attempt(seed, &mut seam(), false).map_err(|_| {
        let again = attempt(seed, &mut seam(), true);
        Box::new(again.err().unwrap_or_else(|| {
            panic!("seed {seed} failed once and not twice: something in a run does not come from its seed")
        }))
    })
}

/// Runs one seed for its verdict only.
pub fn judge(seed: u64, seam: &mut dyn Seam) -> Result<Tally, Rule> {
    attempt(seed, seam, false).map_err(|broken| broken.rule)
}

fn attempt(seed: u64, seam: &mut dyn Seam, traced: bool) -> Result<Tally, Broken> {
    let mut rng = Rng::new(seed);
    let trouble = rng.millis(TROUBLE.0 * 1_000, TROUBLE.1 * 1_000);
    let mut fleet = Fleet::new(rng, seam, traced);
    match fleet.through(trouble) {
        Ok(()) => Ok(fleet.tally),
        Err((rule, what)) => Err(Broken { seed, rule, what, trace: fleet.trace.unwrap_or_default() }),
    }
}

impl<'s> Fleet<'s> {
    fn new(mut rng: Rng, seam: &'s mut dyn Seam, traced: bool) -> Fleet<'s> {
        let count = usize::try_from(rng.between(2, 6)).unwrap_or(3);
        let size = u32::try_from(rng.between(1, 8)).unwrap_or(3);
        let wish = Wish::fleet(&mut rng, size);
        let hosts = (0..count).map(Host::new).collect();
        let mut fleet = Fleet {
            timeline: Timeline::new(),
            network: Network::whole(count),
            rng,
            store: Store::default(),
            hosts,
            leader: None,
            terms: 0,
            listed: BTreeSet::new(),
            wish,
            size,
            troubled: true,
            tally: Tally::default(),
            seam,
            broken: None,
            trace: traced.then(Vec::new),
        };
        for host in 0..count {
            let after = fleet.rng.millis(0, 2_000);
            fleet.timeline.plan(after, Step::Start { host });
        }
        fleet.timeline.plan(TICK, Step::Tick);
        fleet.timeline.plan(Duration::from_secs(10), Step::Begin);
        fleet
    }

    fn through(&mut self, trouble: Duration) -> Result<(), (Rule, String)> {
        self.until(BEGIN.after(Duration::from_secs(5)))?;
        let first = self.hosts.iter().position(|host| host.agent.is_some()).unwrap_or(0);
        let life = self.hosts[first].life;
        let command = Box::new(Command::Apply(self.wish.resolved()));
        self.tell(first, life, Input::Asked { ticket: Ticket(1), command });
        self.until(BEGIN.after(trouble))?;
        self.clear_up();
        let cleared = self.timeline.now();
        let mut since: Option<Time> = None;
        loop {
            self.until(self.timeline.now().after(Duration::from_secs(1)))?;
            match self.is_whole() {
                Ok(()) => {
                    let since = *since.get_or_insert(self.timeline.now());
                    if self.timeline.now().since(since) >= Duration::from_secs(10) {
                        return Ok(());
                    }
                }
                Err(what) if self.timeline.now().since(cleared) > WHOLE_MAX => return Err((Rule::Whole, what)),
                Err(_) => since = None,
            }
        }
    }

    fn until(&mut self, last: Time) -> Result<(), (Rule, String)> {
        while let Some(step) = self.timeline.next(last) {
            self.step(step);
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
        }
        Ok(())
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit { host, life, ticket, transaction } => self.take_in(host, life, ticket, transaction),
            Step::Tick => self.tick(),
            Step::Begin => self.begin_trouble(),
            Step::End(trouble) => self.end_trouble(trouble),
            Step::Start { host } => self.start_agent(host),
            Step::Tell { host, .. }
            | Step::Deliver { host, .. }
            | Step::Wake { host, .. }
            | Step::Act { host, .. }
            | Step::Check { host, .. }
            | Step::Beat { host, .. }
                if self.hosts[host].paused =>
            {
                self.timeline.plan(TICK, step);
            }
            Step::Tell { host, life, input } => self.tell(host, life, *input),
            Step::Deliver { host, life } => self.deliver(host, life),
            Step::Wake { host, life } => self.wake(host, life),
            Step::Act { host, life, ticket, action } => self.act(host, life, ticket, &action),
            Step::Check { host, life } => self.check(host, life),
            Step::Beat { host, life } => self.beat(host, life),
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let at = self.timeline.now().since(BEGIN);
            trace.push(format!("{:>9.3}s  {}", at.as_secs_f64(), line()));
        }
    }

    fn breaks(&mut self, rule: Rule, what: String) {
        self.broken.get_or_insert((rule, what));
    }
}
