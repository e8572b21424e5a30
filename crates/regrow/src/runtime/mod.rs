//! Ties the reconciler to the store, the world, the doors and the clock.
//!
//! Bind first, start later: whatever can be refused is refused before anything runs.

mod access;
mod agent;
mod clock;
mod doors;
mod driver;
mod events;
mod folder;
mod follower;
pub(crate) mod gossip;
pub(crate) mod handlers;
pub(crate) mod jobs;
mod locksmith;
mod logging;
mod logs;
mod peers;
mod place;
mod revocation;
mod shelf;
mod stage;
mod tenure;

pub(crate) use agent::Handle;
pub(crate) use clock::{now, text as clock_text};
pub(crate) use place::SOCKET as STORE_SOCKET;

use access::{Access, Journal};

use crate::config::Settings;
use crate::exit::{Code, Failure};
use driver::{Driver, INBOX, Message, SEEN};
use locksmith::Locksmith;
use regrow_control::reconcile::{Input, Reconciler};
use regrow_effects::run::Runs;
use regrow_effects::{ShimCommand, World};
use regrow_model::observed::Node;
use regrow_serve::membership::Membership;
use regrow_store::Store;
use shelf::{Lease, Shelf};
use stage::Overlay;
use std::sync::Arc;
use std::time::Duration;
use tenure::{Tenure, TenureError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

/// Regrow's own program, also when its file was replaced by an upgrade meanwhile (proc(5)).
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Operations of one of our own transactions: a spec is applied whole, and it may have
/// [`regrow_model::limits::OBJECTS_MAX`] objects of each kind. Clients of the etcd door have etcd's limit.
const TXN_OPS_MAX: usize = 8 * regrow_model::limits::OBJECTS_MAX;

/// How often an agent that starts asks for a store that is not there.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How often an agent that hosts its store asks for a name that was taken before: for longer than such a claim lasts.
const CLAIM_LOOKS: u32 = 15;

/// Everything of one agent, started.
pub(crate) struct Runtime {
    handle: Handle,
    inbox: mpsc::Sender<Message>,
    driver: JoinHandle<Ending>,
    doors: doors::Doors,
    store: Arc<dyn Store>,
    journal: Journal,
    lease: Lease,
    club: Option<gossip::Club>,
    /// What looks after the keys; ends with it.
    keepers: JoinSet<()>,
    crew: jobs::Crew,
    drain: Duration,
    place: (regrow_model::Name, Node),
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
    pub(crate) async fn start(mut settings: Settings) -> Result<Runtime, Failure> {
        logging::start(settings.node.clone());
        let data = folder::open(&settings.data)?;
        let (switch, hosted) = place::find(&data, &mut settings.store, &settings.access).await?;
        let store: Arc<dyn Store> = Arc::new(switch.clone());
        let folder = folder::claim(&data)?;
        let (seen_sender, seen) = mpsc::channel(SEEN);
        let shim = ShimCommand { program: OWN_PROGRAM.into(), arguments: vec!["shim".into()] };
        let world = World::open(&data, shim, seen_sender).map_err(Failure::failed)?;
        let prepared = settings.gossip.clone().map(gossip::prepare).transpose()?;
        let gossip_at = prepared.as_ref().map(gossip::Prepared::address);
        let locksmith = settings.keys.clone().map(Locksmith::open).transpose()?;
        let keys = locksmith.as_ref().map(Locksmith::keys);
        let doors = doors::Doors::bind(&data, &settings, keys, gossip_at).await?;
        let (address, version) = (settings.address.to_string(), env!("CARGO_PKG_VERSION").to_owned());
        let record = Node { address, version, since: now(), away: false };
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let club = prepared.map(|prepared| prepared.start(settings.node.as_str(), &data)).transpose()?;
        let mut keepers = JoinSet::new();
        if let (Some(locksmith), Some(folder)) = (locksmith, settings.keys.clone()) {
            keepers.spawn(locksmith.run(club.clone()));
            keepers.spawn(revocation::run(folder, store.clone()));
        }
        let lease = Lease::default();
        let node = settings.node.clone();
        let mut tenure = Tenure::new(store.clone(), node.clone(), folder.id(), record.clone(), lease.clone());
        let (moved, led) = (switch.changes(), switch.changes());
        let lead = take_place(&mut tenure, settings.store.is_none()).await?;
        let mut reconciler = Reconciler::new(node.clone(), record.clone(), environment);
        let shelf = Shelf::new(store.clone(), lease.clone(), &node, switch.clone());
        shelf.recover().await.map_err(unavailable)?;
        // Before the loop looks at it: an agent that starts is to run things again.
        shelf.end_halt().await.map_err(unavailable)?;
        let (changes, revision, watch) = shelf.load().await.map_err(unavailable)?;
        let mut overlay = Overlay::default();
        let changes = overlay.read(changes);
        let known = changes.iter().map(|change| change.key.clone()).collect();
        reconciler.input(Input::Changed { changes, revision }, now());
        reconciler.input(Input::Led(lead), now());
        let found = world.adopt().await;
        let loaded = driver::kept_sets(&world, reconciler.view());
        let written = driver::placed_sets(&world, reconciler.view());
        reconciler.input(Input::Adopted { found, loaded, written }, now());
        let (inbox, messages) = mpsc::channel(INBOX);
        let handle = Handle::new(inbox.clone(), shelf.clone(), world.clone(), club.as_ref().map(gossip::Club::trail));
        let driver = Driver::new(reconciler, shelf, world, inbox.clone(), messages, known);
        driver.follow(overlay, watch, seen, moved);
        tokio::spawn(tenure.keep(inbox.clone(), led));
        hosted.open_socket(&settings.node, &mut keepers)?;
        if let Some(club) = &club {
            tokio::spawn(peers::follow(club.clone(), settings.member_prefix.clone(), inbox.clone()));
            tokio::spawn(peers::meet(club.clone(), handle.clone()));
        }
        let driver = tokio::spawn(async move {
            let _folder = folder;
            driver.run().await
        });
        let membership = club.clone().map(|club| Arc::new(club) as Arc<dyn Membership>);
        let journal = Journal::new(&data);
        let access = Access::open(&data, settings.keys.is_some(), store.clone(), &journal).await?;
        tokio::spawn(journal.clone().run());
        let queue = jobs::open(&settings.jobs.place, store.clone(), switch.changes());
        let queue = queue.await.map_err(|error| Failure::failed(format!("cannot open the queue of runs: {error}")))?;
        handle.knows_runs(queue.clone());
        let secrets = jobs::Secrets::new(Some(store.clone()));
        let drain = settings.jobs.drain;
        let worker = work(&data, &node, settings.jobs, secrets.clone()).await?;
        tokio::spawn(jobs::follow_hooks(handle.clone(), queue.clone(), inbox.clone()));
        let crew = jobs::Crew::start(&queue, Arc::new(handle.clone()), worker);
        let desk = Arc::new(jobs::Desk::new(handle.clone(), queue, secrets));
        let doors = doors.open(Arc::new(handle.clone()), store.clone(), membership, desk, access);
        let place = (node, record);
        Ok(Runtime { handle, inbox, driver, doors, store, journal, lease, club, keepers, crew, drain, place })
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
        let (mut driver, mut crew) = (self.driver, self.crew);
        let (mut asked, mut draining, mut worked) = (false, false, false);
        let mut ending = None;
        // What is stopped in order may want runs, so the worker goes on until it is; where everything is only left, the
        // worker ends first: what runs may ask for what the agent serves.
        while ending.is_none() || !worked {
            let mut signalled = false;
            tokio::select! {
                end = &mut driver, if ending.is_none() => {
                    ending = Some(end);
                    if !std::mem::replace(&mut draining, true) {
                        crew.drain();
                        jobs::tell_drain(&crew, self.drain);
                    }
                    continue;
                }
                () = crew.ended(), if !worked => worked = true,
                _ = interrupt.recv() => signalled = true,
                _ = terminate.recv() => signalled = true,
            }
            if signalled && halts && !std::mem::replace(&mut asked, true) {
                crate::exit::say("Stopping everything in order. Once more leaves what still runs running.");
                // A loop that takes no more messages is ending.
                let _ = self.inbox.send(Message::halt()).await;
            } else if signalled && !std::mem::replace(&mut draining, true) {
                crew.drain();
                jobs::tell_drain(&crew, self.drain);
            } else if signalled {
                crew.stop();
            }
            if worked && draining {
                let _ = self.inbox.send(Message::Leave).await;
            }
        }
        crew.close().await;
        let ending = ending.unwrap_or(Ok(Ending::Left));
        self.doors.close();
        drop(self.keepers);
        self.journal.close();
        match &ending {
            // Others would take what goes on here for dead.
            Ok(Ending::Left) if self.club.is_some() => {
                let (node, record) = self.place;
                Tenure::rest(&*self.store, &self.lease, node, record).await;
            }
            _ => Tenure::end(&*self.store, &self.lease).await,
        }
        if let Some(club) = &self.club {
            club.stop().await;
        }
        ending.map_err(|error| Failure::failed(format!("the agent's loop ended badly: {error}")))
    }
}

/// The worker of an agent that has one: what runs of an earlier life have left behind is ended first.
async fn work(
    data: &std::path::Path,
    node: &regrow_model::Name,
    settings: jobs::JobSettings,
    secrets: jobs::Secrets,
) -> Result<Option<(regrow_jobs::worker::Settings, Arc<jobs::Carrier>)>, Failure> {
    let runs = Runs::open(data.join("runs"), OWN_PROGRAM.into()).map_err(Failure::failed)?;
    runs.clean().await;
    let jobs::JobSettings { room, labels, drain, .. } = settings;
    if room == 0 {
        return Ok(None);
    }
    let settings = regrow_jobs::worker::Settings { node: node.clone(), labels, room, drain };
    Ok(Some((settings, Arc::new(jobs::Carrier::new(runs, secrets)))))
}

/// Takes the agent's place, as soon as the store is there. `hosted`: nobody else reaches the store yet, so whoever has the
/// name there, as in one restored from a copy, can only have left it; its claim ends soon.
async fn take_place(tenure: &mut Tenure, hosted: bool) -> Result<Option<regrow_model::Revision>, Failure> {
    let mut told = false;
    let mut claims = if hosted { CLAIM_LOOKS } else { 0 };
    loop {
        match tenure.begin().await {
            Ok(lead) => return Ok(lead),
            Err(TenureError::Store(error @ regrow_store::Error::Unavailable { .. })) => {
                if !told {
                    tracing::warn!("waiting for the store: {error}");
                }
                told = true;
                tokio::time::sleep(STORE_PAUSE).await;
            }
            Err(TenureError::Store(error)) => return Err(unavailable(error)),
            Err(TenureError::NameTaken(name)) if claims > 0 => {
                if claims == CLAIM_LOOKS {
                    tracing::warn!("waiting for an earlier claim to the name `{name}` in this store to end");
                }
                claims -= 1;
                tokio::time::sleep(STORE_PAUSE).await;
            }
            Err(error @ TenureError::NameTaken(_)) => return Err(Failure::new(Code::Refused, error)),
        }
    }
}

fn unavailable(error: regrow_store::Error) -> Failure {
    let code = if error.is_retryable() { Code::Unreachable } else { Code::Failed };
    Failure::new(code, format!("the store does not take what an agent writes when it starts: {error}"))
}
