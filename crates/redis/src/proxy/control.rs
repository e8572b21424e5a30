//! The switch: pause, change the backend, go on.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use std::sync::RwLock;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::tls::Tls;
use crate::url::Url;

use super::limits::Limits;
use super::metrics::Metrics;
use super::open::{OpenError, Opened, open, refresh};
use super::worker::Order;

/// A change that was not made. Commands go on to the backend that they went to before.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The new backend cannot be used.
    #[error(transparent)]
    Backend(#[from] OpenError),
    /// Commands that were in flight have not been answered in time.
    #[error("commands in flight were not answered within {0:?}")]
    NotDrained(Duration),
    /// It is paused already, by somebody else.
    #[error("the proxy is paused already")]
    Paused,
    /// The pause is over: it ended by itself, or there was none.
    #[error("the proxy is not paused (any more): nothing was switched")]
    NotPaused,
    /// A thread of the proxy is gone.
    #[error("a thread of the proxy is gone")]
    Gone,
}

/// What a switch came to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Switched {
    /// Where commands go now, without its password.
    pub to: String,
    /// For how long commands were held, in microseconds; from before the first one waited until the last thread let them
    /// go on.
    pub paused_us: u64,
}

/// How a proxy is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// Where commands go, without its password.
    pub to: String,
    /// Whether that is a cluster.
    pub cluster: bool,
    /// Whether commands are held.
    pub paused: bool,
    /// Clients connected.
    pub clients: usize,
    /// Commands so far.
    pub commands: u64,
}

struct Pause {
    since: Instant,
    /// When it ends by itself.
    until: Instant,
}

/// The hands on all threads.
pub(crate) struct Control {
    orders: Vec<mpsc::Sender<Order>>,
    metrics: Vec<Arc<Metrics>>,
    limits: Arc<Limits>,
    tls: Option<Tls>,
    opened: RwLock<Arc<Opened>>,
    pause: Mutex<Option<Pause>>,
    paused: std::sync::atomic::AtomicBool,
}

impl Control {
    pub(crate) fn new(
        orders: Vec<mpsc::Sender<Order>>,
        metrics: Vec<Arc<Metrics>>,
        limits: Arc<Limits>,
        opened: Arc<Opened>,
        tls: Option<Tls>,
    ) -> Self {
        Self {
            orders,
            metrics,
            limits,
            tls,
            opened: RwLock::new(opened),
            pause: Mutex::new(None),
            paused: std::sync::atomic::AtomicBool::new(false),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Clients of all threads.
    pub(crate) fn clients(&self) -> usize {
        self.metrics.iter().map(|one| usize::try_from(one.clients.load(Relaxed)).unwrap_or(0)).sum()
    }

    /// A thread, in turn.
    pub(crate) fn thread(&self, turn: usize) -> (&mpsc::Sender<Order>, &Metrics) {
        let index = turn % self.orders.len();
        (&self.orders[index], &self.metrics[index])
    }

    fn opened(&self) -> Arc<Opened> {
        match self.opened.read() {
            Ok(opened) => Arc::clone(&opened),
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        }
    }

    pub(crate) fn status(&self) -> Status {
        let opened = self.opened();
        Status {
            to: opened.url.to_string(),
            cluster: opened.cluster,
            paused: self.paused.load(Relaxed),
            clients: self.clients(),
            commands: self.metrics.iter().map(|one| one.commands.load(Relaxed)).sum(),
        }
    }

    /// The counters of all threads together.
    pub(crate) fn metrics_text(&self) -> String {
        let all = Metrics::default();
        self.metrics.iter().for_each(|one| all.add(one));
        all.text(self.paused.load(Relaxed))
    }

    /// Whether the backend serves every slot; else what is wrong.
    pub(crate) async fn health(&self) -> Result<(), String> {
        let opened = self.opened();
        let known = opened.map.known().to_vec();
        let map = refresh(&opened.url, &opened.dialer, opened.cluster, &known, 0)
            .await
            .map_err(|error| crate::admin::chain(&error))?;
        if let Some(slot) = crate::slot::Slot::all().find(|slot| map.owner(*slot).is_none()) {
            return Err(format!("nobody serves slot {slot}"));
        }
        if !opened.cluster
            && let Some(address) = map.nodes().first()
        {
            opened
                .dialer
                .connect(address, super::wire::Proto::Two)
                .await
                .map_err(|error| crate::admin::chain(&error))?;
        }
        Ok(())
    }

    /// Holds new commands and waits until none is in flight. The pause ends by itself after `longest`, and at once if they
    /// are not answered within `drain`.
    pub(crate) async fn pause(self: &Arc<Self>, drain: Duration, longest: Duration) -> Result<Duration, ControlError> {
        let mut pause = self.pause.lock().await;
        if pause.is_some() {
            return Err(ControlError::Paused);
        }
        let since = Instant::now();
        let until = since + longest.min(self.limits.pause_max);
        self.paused.store(true, Relaxed);
        let mut waits = Vec::new();
        for orders in &self.orders {
            let (done, drained) = oneshot::channel();
            if orders.send(Order::Pause(done)).await.is_err() {
                self.let_go(since).await;
                return Err(ControlError::Gone);
            }
            waits.push(drained);
        }
        let drain = drain.min(until - since);
        for drained in waits {
            if !matches!(timeout_at(since + drain, drained).await, Ok(Ok(()))) {
                self.let_go(since).await;
                return Err(ControlError::NotDrained(drain));
            }
        }
        *pause = Some(Pause { since, until });
        let this = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            let mut pause = this.pause.lock().await;
            if pause.as_ref().is_some_and(|pause| pause.since == since) {
                *pause = None;
                this.let_go(since).await;
            }
        });
        Ok(since.elapsed())
    }

    /// Lets commands go on; how long they were held.
    pub(crate) async fn resume(&self) -> Result<Duration, ControlError> {
        let mut pause = self.pause.lock().await;
        let Some(Pause { since, .. }) = pause.take() else { return Err(ControlError::NotPaused) };
        Ok(self.let_go(since).await)
    }

    async fn let_go(&self, since: Instant) -> Duration {
        for orders in &self.orders {
            let _ = orders.send(Order::Resume).await;
        }
        self.paused.store(false, Relaxed);
        let held = since.elapsed();
        self.metrics[0].paused_ms.fetch_add(u64::try_from(held.as_millis()).unwrap_or(u64::MAX), Relaxed);
        held
    }

    /// Looks at a new backend, while commands still go to the old one.
    pub(crate) async fn look_at(&self, url: &Url) -> Result<Arc<Opened>, ControlError> {
        Ok(Arc::new(open(url, self.tls.as_ref(), &self.limits).await?))
    }

    /// Changes the backend during a pause; the pause goes on.
    pub(crate) async fn change(&self, opened: Arc<Opened>) -> Result<(), ControlError> {
        let pause = self.pause.lock().await;
        // The lock is held until all threads have changed, so the pause cannot end between two of them.
        if pause.as_ref().is_none_or(|pause| Instant::now() >= pause.until) {
            return Err(ControlError::NotPaused);
        }
        let mut waits = Vec::new();
        for orders in &self.orders {
            let (done, changed) = oneshot::channel();
            orders.send(Order::Switch(Arc::clone(&opened), done)).await.map_err(|_| ControlError::Gone)?;
            waits.push(changed);
        }
        for changed in waits {
            changed.await.map_err(|_| ControlError::Gone)?;
        }
        match self.opened.write() {
            Ok(mut current) => *current = opened,
            Err(poisoned) => *poisoned.into_inner() = opened,
        }
        self.metrics[0].switches.fetch_add(1, Relaxed);
        Ok(())
    }

    /// All at once: looks at the new backend, pauses, changes, goes on.
    pub(crate) async fn switch(self: &Arc<Self>, url: &Url, drain: Duration) -> Result<Switched, ControlError> {
        let opened = self.look_at(url).await?;
        self.pause(drain, self.limits.pause_max).await?;
        let changed = self.change(opened).await;
        let held = timeout(self.limits.pause_max, self.resume()).await.unwrap_or(Err(ControlError::Gone));
        changed?;
        Ok(Switched { to: url.to_string(), paused_us: u64::try_from(held?.as_micros()).unwrap_or(u64::MAX) })
    }
}
