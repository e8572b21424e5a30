//! One thread of the proxy: its clients, its view of the backend, and the gate that a switch closes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::interval;

use super::backend::Backend;
use super::limits::Limits;
use super::metrics::Metrics;
use super::open::Opened;
use super::session;
use super::settings::Doorway;

/// What a thread is told.
pub(crate) enum Order {
    /// A client has come.
    Client(std::net::TcpStream),
    /// Hold new commands; say when none is in flight.
    Pause(oneshot::Sender<()>),
    /// Let commands go on.
    Resume,
    /// Go over to another backend; nothing is in flight.
    Switch(Arc<Opened>, oneshot::Sender<()>),
}

/// Between two updates of what is counted for others to see.
const PUBLISH_EVERY: Duration = Duration::from_millis(200);

/// One thread.
pub(crate) struct Worker {
    pub(crate) doorway: Arc<Doorway>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) metrics: Arc<Metrics>,
    /// Share of this thread in [`Limits::buffered_bytes_max`].
    pub(crate) buffered_bytes_max: usize,
    backend: RefCell<Rc<Backend>>,
    paused: Cell<bool>,
    pause_wake: Notify,
    resume_wake: Notify,
    in_flight: Cell<usize>,
    idle_wake: Notify,
    commands: Cell<u64>,
    buffered: Cell<usize>,
}

impl Worker {
    /// Serves until the other end of `orders` is gone.
    pub(crate) async fn run(
        doorway: Arc<Doorway>,
        limits: Arc<Limits>,
        metrics: Arc<Metrics>,
        threads: usize,
        opened: Arc<Opened>,
        mut orders: mpsc::Receiver<Order>,
    ) {
        let backend = Backend::start(opened, Arc::clone(&limits), Arc::clone(&metrics));
        let worker = Rc::new(Self {
            doorway,
            buffered_bytes_max: limits.buffered_bytes_max / threads,
            limits,
            metrics,
            backend: RefCell::new(backend),
            paused: Cell::new(false),
            pause_wake: Notify::new(),
            resume_wake: Notify::new(),
            in_flight: Cell::new(0),
            idle_wake: Notify::new(),
            commands: Cell::new(0),
            buffered: Cell::new(0),
        });
        let mut beat = interval(PUBLISH_EVERY);
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                _ = beat.tick() => {
                    worker.publish();
                    continue;
                }
            };
            match order {
                None => return,
                Some(Order::Client(stream)) => {
                    if let Ok(stream) = TcpStream::from_std(stream) {
                        tokio::task::spawn_local(session::serve(Rc::clone(&worker), stream));
                    } else {
                        worker.metrics.clients.fetch_sub(1, Relaxed);
                    }
                }
                Some(Order::Pause(done)) => {
                    worker.paused.set(true);
                    worker.pause_wake.notify_waiters();
                    tokio::task::spawn_local(Rc::clone(&worker).drained(done));
                }
                Some(Order::Resume) => worker.resume(),
                Some(Order::Switch(opened, done)) => {
                    let new = Backend::start(opened, Arc::clone(&worker.limits), Arc::clone(&worker.metrics));
                    worker.backend.replace(new).retire();
                    let _ = done.send(());
                }
            }
        }
    }

    fn resume(&self) {
        self.paused.set(false);
        self.resume_wake.notify_waiters();
    }

    /// Says when nothing is in flight, or nothing at all when commands go on before that.
    async fn drained(self: Rc<Self>, done: oneshot::Sender<()>) {
        loop {
            let idle = self.idle_wake.notified();
            if !self.paused.get() {
                return;
            }
            if self.in_flight.get() == 0 {
                let _ = done.send(());
                return;
            }
            tokio::select! {
                () = idle => {}
                () = self.open() => return,
            }
        }
    }

    fn publish(&self) {
        self.metrics.commands.fetch_add(self.commands.take(), Relaxed);
        self.metrics.in_flight.store(i64::try_from(self.in_flight.get()).unwrap_or(i64::MAX), Relaxed);
        self.metrics.buffered_bytes.store(i64::try_from(self.buffered.get()).unwrap_or(i64::MAX), Relaxed);
    }

    /// The backend as of now.
    pub(crate) fn backend(&self) -> Rc<Backend> {
        Rc::clone(&self.backend.borrow())
    }

    /// Whether new commands have to wait.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    /// Waits until commands may go on.
    pub(crate) async fn open(&self) {
        loop {
            let resumed = self.resume_wake.notified();
            if !self.paused.get() {
                return;
            }
            resumed.await;
        }
    }

    /// Waits until new commands have to wait.
    pub(crate) async fn closing(&self) {
        loop {
            let closing = self.pause_wake.notified();
            if self.paused.get() {
                return;
            }
            closing.await;
        }
    }

    /// Counts a command of a client.
    pub(crate) fn count(&self) {
        self.commands.set(self.commands.get() + 1);
    }

    /// Commands have been sent on.
    pub(crate) fn begin(&self, commands: usize) {
        self.in_flight.set(self.in_flight.get() + commands);
    }

    /// A command that was sent on has been answered.
    pub(crate) fn end(&self) {
        let left = self.in_flight.get().saturating_sub(1);
        self.in_flight.set(left);
        if left == 0 && self.paused.get() {
            self.idle_wake.notify_waiters();
        }
    }

    /// Takes bytes into account, or out of it.
    pub(crate) fn buffer(&self, more: usize, less: usize) {
        self.buffered.set((self.buffered.get() + more).saturating_sub(less));
    }

    /// Whether all clients together hold more than they may.
    pub(crate) fn is_full(&self) -> bool {
        self.buffered.get() > self.buffered_bytes_max
    }
}

/// A command that runs outside of the shared connections; counted as in flight until dropped.
pub(crate) struct Busy(Rc<Worker>);

impl Busy {
    pub(crate) fn new(worker: &Rc<Worker>) -> Self {
        worker.begin(1);
        Self(Rc::clone(worker))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.end();
    }
}
