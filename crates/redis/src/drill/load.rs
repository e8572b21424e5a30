//! Clients that write, read, and keep the ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::address::Address;
use crate::connection::Dialer;
use crate::resp::{Command, Value};
use crate::router::Router;
use crate::slot::Slot;

use super::ledger::{Ledger, Write};

/// How much is written during a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadPlan {
    /// Clients, at least one. Every second one asks with `WAIT 1` whether a replica has its write.
    pub clients: u32,
    /// Writes a second of all clients together, at least one.
    pub writes_per_second: u32,
}

/// How long a client waits for an answer, and for a replica with `WAIT`.
const PATIENCE: Duration = Duration::from_millis(250);
/// Keys of a drill that breaks off go by themselves after a day.
const KEY_SECONDS: i64 = 86_400;
/// Writes in one drill; the ledger holds all, at about 64 bytes each.
const WRITES_MAX: u64 = 4_000_000;

/// Clients at work.
pub(super) struct Load {
    start: Instant,
    stop: watch::Sender<bool>,
    clients: JoinSet<Ledger>,
    acknowledged: Arc<AtomicU64>,
}

/// The key of a write.
pub(super) fn key(run: &str, number: u64) -> String {
    format!("regrow:drill:{run}:{number}")
}

impl Load {
    /// Starts the clients. `run`: a word that no other drill has.
    pub(super) fn start(dialer: &Dialer, seeds: &[Address], run: &str, plan: LoadPlan) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (start, numbers, acknowledged) = (Instant::now(), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let every = Duration::from_secs(1) * plan.clients / plan.writes_per_second;
        let mut clients = JoinSet::new();
        for index in 0..plan.clients {
            let mut dialer = dialer.clone();
            dialer.timeout = PATIENCE * 2;
            let client = Client {
                router: Router::new(dialer, seeds.to_vec()),
                run: run.to_owned(),
                waits: index % 2 == 1,
                start,
                numbers: Arc::clone(&numbers),
                acknowledged: Arc::clone(&acknowledged),
            };
            clients.spawn(client.work(every, stopped.clone()));
        }
        Self { start, stop, clients, acknowledged }
    }

    /// Time since the start, on the ledger's clock.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Writes acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Stops the clients and takes their ledgers.
    pub(super) async fn stop(mut self) -> Ledger {
        self.stop.send_replace(true);
        let mut all = Ledger::default();
        while let Some(done) = self.clients.join_next().await {
            if let Ok(one) = done {
                all.writes.extend(one.writes);
                all.reads += one.reads;
                all.reads_failed += one.reads_failed;
            }
        }
        all
    }
}

struct Client {
    router: Router,
    run: String,
    waits: bool,
    start: Instant,
    numbers: Arc<AtomicU64>,
    acknowledged: Arc<AtomicU64>,
}

impl Client {
    async fn work(mut self, every: Duration, stopped: watch::Receiver<bool>) -> Ledger {
        let mut ledger = Ledger::default();
        let mut beat = interval(every);
        // After an outage the clients go on at their pace; a burst of what was missed would measure itself.
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = None;
        while !*stopped.borrow() {
            beat.tick().await;
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            if number >= WRITES_MAX {
                break;
            }
            let write = self.write(number).await;
            if let Some(number) = last {
                ledger.reads += 1;
                ledger.reads_failed += u64::from(!self.read(number).await);
            }
            if write.acknowledged {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                last = Some(number);
            }
            ledger.writes.push(write);
        }
        ledger
    }

    async fn write(&mut self, number: u64) -> Write {
        let key = key(&self.run, number);
        let slot = Slot::of_key(key.as_bytes());
        let mut commands = vec![Command::new("SET").arg(&key).number(number).arg("EX").number(KEY_SECONDS)];
        if self.waits {
            commands.push(Command::new("WAIT").number(1).number(PATIENCE.as_millis() as i64));
        }
        let answers = self.router.call(slot, &commands).await.unwrap_or_default();
        let acknowledged = answers.first().is_some_and(Value::is_ok);
        let replicas = answers.get(1).and_then(Value::int).and_then(|count| u64::try_from(count).ok());
        Write { number, slot, done: self.start.elapsed(), acknowledged, replicas }
    }

    /// Whether a read is answered, whatever the answer.
    async fn read(&mut self, number: u64) -> bool {
        let key = key(&self.run, number);
        let answers =
            self.router.call(Slot::of_key(key.as_bytes()), &[Command::new("GET").arg(&key)]).await.unwrap_or_default();
        answers.first().is_some_and(|answer| !matches!(answer, Value::Error(_)))
    }
}
