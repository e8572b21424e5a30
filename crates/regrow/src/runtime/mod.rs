//! Ties the reconciler to the store, the world, the doors and the clock.
//!
//! Bind first, start later: whatever can be refused is refused before anything runs.

mod agent;
mod clock;
mod doors;
mod driver;
mod events;
mod logging;
mod logs;
mod shelf;

pub(crate) use agent::Handle;
pub(crate) use clock::{now, text as clock_text};

use crate::config::Settings;
use crate::exit::{Code, Failure};
use driver::{Driver, INBOX, Message, SEEN};
use regrow_control::reconcile::{Input, Reconciler};
use regrow_effects::{ShimCommand, World};
use regrow_model::observed::Node;
use regrow_store::{Engine, Options, Store};
use shelf::Shelf;
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Regrow's own program, also when its file was replaced by an upgrade meanwhile (proc(5)).
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Operations of one of our own transactions: a spec is applied whole, and it may have
/// [`regrow_model::limits::OBJECTS_MAX`] objects of each kind. Clients of the etcd door have etcd's limit.
const TXN_OPS_MAX: usize = 8 * regrow_model::limits::OBJECTS_MAX;

/// Everything of one agent, started.
pub(crate) struct Runtime {
    handle: Handle,
    inbox: mpsc::Sender<Message>,
    driver: JoinHandle<Ending>,
    doors: doors::Doors,
}

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything was stopped, in order.
    Halted,
    /// Instances go on.
    Left,
}

impl Runtime {
    /// Starts an agent: opens its data folder, finds what still runs, binds its doors.
    pub(crate) async fn start(settings: Settings) -> Result<Runtime, Failure> {
        logging::start(settings.node.clone());
        let data = folder(&settings.data)?;
        let engine = Engine::open(data.join("store"), Options { txn_ops_max: TXN_OPS_MAX, ..Options::default() })
            .map_err(|error| opening(&data, &error))?;
        let store: Arc<dyn Store> = Arc::new(engine);
        let (seen_sender, seen) = mpsc::channel(SEEN);
        let shim = ShimCommand { program: OWN_PROGRAM.into(), arguments: vec!["shim".into()] };
        let world = World::open(&data, shim, seen_sender).map_err(Failure::failed)?;
        let doors = doors::Doors::bind(&data, &settings).await?;
        let record =
            Node { address: settings.address.to_string(), version: env!("CARGO_PKG_VERSION").to_owned(), since: now() };
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let mut reconciler = Reconciler::new(settings.node, record, environment);
        let shelf = Shelf::new(store.clone());
        // Before the loop looks at it: an agent that starts is to run things again.
        shelf.end_halt().await.map_err(Failure::failed)?;
        let (changes, watch) = shelf.load().await.map_err(Failure::failed)?;
        reconciler.input(changes, now());
        let found = world.adopt().await;
        let loaded = driver::kept_sets(&world, reconciler.view());
        let written = driver::placed_sets(&world, reconciler.view());
        reconciler.input(Input::Adopted { found, loaded, written }, now());
        let (inbox, messages) = mpsc::channel(INBOX);
        let handle = Handle::new(inbox.clone(), shelf.clone(), world.clone());
        let driver = Driver::new(reconciler, shelf, world, inbox.clone(), messages);
        driver.follow(watch, seen);
        let driver = tokio::spawn(driver.run());
        let doors = doors.open(Arc::new(handle.clone()), store);
        Ok(Runtime { handle, inbox, driver, doors })
    }

    /// What doors and commands speak to.
    pub(crate) fn agent(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until everything was halted, or until a signal. `halts`: the first signal stops everything in order and
    /// only the second leaves it; without it the first one leaves.
    pub(crate) async fn run(self, halts: bool) -> Result<Ending, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")));
        let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let mut driver = self.driver;
        let mut asked = false;
        let ending = loop {
            tokio::select! {
                ending = &mut driver => break ending,
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            let message = if halts && !asked {
                crate::exit::say("Stopping everything in order. Once more leaves what still runs running.");
                asked = true;
                Message::halt()
            } else {
                Message::Leave
            };
            if self.inbox.send(message).await.is_err() {
                break driver.await;
            }
        };
        self.doors.close();
        ending.map_err(|error| Failure::failed(format!("the agent's loop ended badly: {error}")))
    }
}

fn folder(data: &Path) -> Result<std::path::PathBuf, Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let refuse = |error: std::io::Error| {
        let hint = "name another with --data";
        Failure::failed(format!("cannot use the data folder {}: {error}\n  {hint}", data.display()))
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(refuse)?;
    data.canonicalize().map_err(refuse)
}

fn opening(data: &Path, error: &regrow_store::Error) -> Failure {
    let mut message = format!("cannot open the store in {}: {error}", data.display());
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    Failure::new(Code::Failed, message)
}
