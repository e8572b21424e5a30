//! Running the checks of this node's endpoints.
//!
//! One task for each check of each endpoint, none of which has a thread. The first run is at once, because a new
//! endpoint waits for it; the second is moved by a share of the interval that the check's name gives, so that a hundred
//! checks that began together do not go on together. Every result is an [`Observation::Checked`].

use crate::http::{self, Target};
use crate::probe;
use regrow_model::plan::CheckTarget;
use regrow_model::spec::Check;
use regrow_model::{Digest, InstanceId, Name, Observation};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// An endpoint that has not been healthy yet is checked this often, or at its interval where that is shorter.
const STARTING_INTERVAL: Duration = Duration::from_millis(100);
/// Most connections that checks have open at a time: a slow network must not use up the agent's open files.
const CONNECTIONS_MAX: usize = 256;
/// Most scripts that run at a time: each is a process.
const SCRIPTS_MAX: usize = 16;

/// The running checks of one node.
#[derive(Debug)]
pub(crate) struct Checks {
    seen: mpsc::Sender<Observation>,
    running: Mutex<BTreeMap<Id, Running>>,
    room: Arc<Room>,
}

/// One check of one life of one endpoint.
type Id = (Name, InstanceId, u64, String);

#[derive(Debug)]
struct Running {
    what: What,
    pace: Arc<Pace>,
    task: JoinHandle<()>,
}

/// All that a check depends on but its pace.
#[derive(Clone, Debug, PartialEq)]
struct What {
    check: Check,
    address: String,
    port: u16,
    directory: String,
}

/// Whether the endpoint is starting, which makes its checks faster.
#[derive(Debug)]
struct Pace {
    starting: AtomicBool,
    changed: Notify,
}

#[derive(Debug)]
struct Room {
    connections: Semaphore,
    scripts: Semaphore,
}

impl Checks {
    pub(crate) fn new(seen: mpsc::Sender<Observation>) -> Checks {
        let room = Room { connections: Semaphore::new(CONNECTIONS_MAX), scripts: Semaphore::new(SCRIPTS_MAX) };
        Checks { seen, running: Mutex::default(), room: Arc::new(room) }
    }

    /// Runs the checks of these targets and no others. Those that have not changed keep their schedule.
    pub(crate) fn replace(&self, targets: Vec<CheckTarget>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = BTreeMap::new();
        for target in targets {
            for check in target.checks.iter().filter(|check| !check.process) {
                let id = (target.service.clone(), target.instance.clone(), target.incarnation, check.label());
                let what = What {
                    check: check.clone(),
                    address: target.address.clone(),
                    port: target.port,
                    directory: target.directory.clone(),
                };
                wanted.insert(id, (what, target.starting));
            }
        }
        running.retain(|id, known| {
            let keep = wanted.get(id).is_some_and(|(what, _)| *what == known.what);
            if !keep {
                known.task.abort();
            }
            keep
        });
        for (id, (what, starting)) in wanted {
            match running.get(&id) {
                Some(known) => known.pace.set(starting),
                None => {
                    running.insert(id.clone(), self.begin(id, what, starting));
                }
            }
        }
    }

    fn begin(&self, id: Id, what: What, starting: bool) -> Running {
        let pace = Arc::new(Pace { starting: AtomicBool::new(starting), changed: Notify::new() });
        let (seen, room) = (self.seen.clone(), self.room.clone());
        let task = tokio::spawn(run(id, what.clone(), pace.clone(), seen, room));
        Running { what, pace, task }
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        running.values().for_each(|known| known.task.abort());
    }
}

impl Pace {
    fn set(&self, starting: bool) {
        if self.starting.swap(starting, Ordering::Relaxed) != starting {
            self.changed.notify_one();
        }
    }

    fn interval(&self, check: &Check) -> Duration {
        let interval = check.interval.0.max(regrow_model::limits::CHECK_INTERVAL_MIN);
        if self.starting.load(Ordering::Relaxed) { interval.min(STARTING_INTERVAL) } else { interval }
    }

    /// Waits until the next run is due; gives when that is.
    async fn next(&self, check: &Check, last: Instant, moved: Duration) -> Instant {
        loop {
            let due = last + self.interval(check).saturating_sub(moved);
            let mut changed = std::pin::pin!(self.changed.notified());
            let mut over = std::pin::pin!(tokio::time::sleep_until(due));
            let is_due = std::future::poll_fn(|context| {
                if over.as_mut().poll(context).is_ready() {
                    return std::task::Poll::Ready(true);
                }
                changed.as_mut().poll(context).map(|()| false)
            });
            if is_due.await {
                // A run that took long is not made up for.
                return due.max(Instant::now() - self.interval(check));
            }
        }
    }
}

async fn run(id: Id, what: What, pace: Arc<Pace>, seen: mpsc::Sender<Observation>, room: Arc<Room>) {
    let (service, instance, incarnation, label) = id;
    let look = Look::of(&what, &instance);
    // A share of the interval from 0 to a half, always the same for the same check.
    let share = Digest::of_json(&(&service, &instance, &label)).number() % 512;
    let mut begun_at = Instant::now();
    let mut moved = pace.interval(&what.check).mul_f64(share as f64 / 1024.0);
    loop {
        let room = match look {
            Look::Script { .. } => &room.scripts,
            _ => &room.connections,
        };
        // The time that a check may take begins when it has room: a busy agent is no failing endpoint.
        let Ok(permit) = room.acquire().await else { return };
        let (passing, output) = look.once(&what).await;
        drop(permit);
        let observation = Observation::Checked {
            service: service.clone(),
            instance: instance.clone(),
            incarnation,
            check: label.clone(),
            passing,
            output,
        };
        if seen.send(observation).await.is_err() {
            return;
        }
        begun_at = pace.next(&what.check, begun_at, std::mem::take(&mut moved)).await;
    }
}

/// How one check looks, made ready.
enum Look {
    Http(Target),
    Tcp(String),
    Script {
        environment: [(&'static str, String); 3],
    },
    /// It can never pass.
    Never(String),
}

impl Look {
    fn of(what: &What, instance: &InstanceId) -> Look {
        let check = &what.check;
        match &check.http {
            Some(url) if url.contains("://") => Target::url(url).map_or_else(Look::Never, Look::Http),
            Some(path) => Target::endpoint(&what.address, what.port, path).map_or_else(Look::Never, Look::Http),
            None if check.tcp => Look::Tcp(http::authority(&what.address, what.port)),
            None => Look::Script {
                environment: [
                    ("ADDRESS", what.address.clone()),
                    ("PORT", what.port.to_string()),
                    ("INSTANCE", instance.to_string()),
                ],
            },
        }
    }

    async fn once(&self, what: &What) -> (bool, String) {
        let timeout = what.check.timeout.0.min(what.check.interval.0);
        match self {
            Look::Http(target) => probe::look_http(target, timeout).await,
            Look::Tcp(address) => probe::look_tcp(address, timeout).await,
            Look::Script { environment } => {
                probe::look_exec(&what.check.script, &what.directory, environment, timeout).await
            }
            Look::Never(why) => (false, why.clone()),
        }
    }
}
