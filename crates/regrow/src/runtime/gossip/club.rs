//! The way to the node for everybody else.

use super::address;
use super::disk::{self, Disk};
use super::node::{self, ASKS, Ask, Bound, Parts};
use super::settings::GossipSettings;
use super::trail::Trail;
use crate::exit::Failure;
use crate::runtime::handlers;
use regrow_gossip::{Config, Coordinate, Event, Gossip, Input, KeyOp, KeyReport, QueryRequest};
use regrow_serve::BoxFuture;
use regrow_serve::membership::{HAPPENINGS_KEPT, Happening, Joining, Membership, MembershipError, QueryAnswer, Roll};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Time between two attempts to meet the first other member.
const JOIN_INTERVAL: Duration = Duration::from_secs(2);

/// The membership of this agent. A cheap clone.
#[derive(Clone)]
pub(crate) struct Club {
    asks: mpsc::Sender<Ask>,
    happenings: broadcast::Sender<Arc<Happening>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    trail: Trail,
    /// Where its keys are, if it has some.
    key_file: Option<PathBuf>,
}

pub(super) fn start(name: &str, data: &Path, bound: Bound, settings: GossipSettings) -> Result<Club, Failure> {
    let refuse = |why: String| Failure::failed(format!("cannot start gossip: {why}"));
    let state = data.join("gossip.json");
    let snapshot = disk::read(&state);
    let mut config = Config::lan(name, address::advertised(bound.address, settings.advertise)?);
    config.tags = settings.tags;
    let (ring, key_file) = settings.keys.unzip();
    config.envelope.keyring = ring;
    let keys_from = key_file.clone();
    // Seeds that are addresses are the machine's own; names are looked up again each time.
    config.seeds = settings.join.iter().filter_map(|seed| seed.parse().ok()).collect();
    let (asks, asked) = mpsc::channel(ASKS);
    let (happenings, _) = broadcast::channel(HAPPENINGS_KEPT);
    let inbox = handlers::open(data, settings.handlers).map_err(|error| refuse(error.to_string()))?;
    let sink = inbox.clone();
    let disk = Disk::start(state, key_file, Box::new(move |happening| sink.take(happening)));
    let disk = disk.map_err(|error| refuse(error.to_string()))?;
    let parts = Parts { bound, config, snapshot, asks: asked, happenings: happenings.clone(), disk };
    let (ready, started) = std::sync::mpsc::sync_channel(1);
    // Subscribed before the thread begins, so that nothing is missed.
    tokio::spawn(log(happenings.subscribe()));
    let trail = Trail::default();
    tokio::spawn(trail.clone().follow(happenings.subscribe()));
    let thread = std::thread::Builder::new().name("gossip".to_owned()).spawn(move || node::run(parts, ready));
    let thread = thread.map_err(|error| refuse(error.to_string()))?;
    match started.recv() {
        Ok(Ok(())) => {}
        Ok(Err(why)) => return Err(refuse(why)),
        Err(_) => return Err(refuse("its thread has ended".to_owned())),
    }
    let club = Club { asks, happenings, thread: Arc::new(Mutex::new(Some(thread))), trail, key_file: keys_from };
    inbox.run(club.clone());
    if !settings.join.is_empty() {
        tokio::spawn(keep_joining(club.clone(), settings.join));
    }
    Ok(club)
}

impl Club {
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, MembershipError> {
        let ending = || MembershipError::Unavailable("gossip is ending".to_owned());
        let (sender, answer) = oneshot::channel();
        self.asks.send(ask(sender)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Gossip) -> T + Send + 'static,
    ) -> Result<T, MembershipError> {
        self.ask(|answer| Ask::Look(Box::new(move |gossip| drop(answer.send(look(gossip)))))).await
    }

    /// What became of each member, and why.
    pub(crate) fn trail(&self) -> Trail {
        self.trail.clone()
    }

    /// Takes the keys of its file, if they are others than before. `Err`: a sentence, and nothing has changed.
    pub(crate) async fn rekey(&self) -> Result<(), String> {
        let Some(file) = &self.key_file else { return Ok(()) };
        let ring = super::keys::read(file).map_err(|failure| failure.message)?;
        self.command(Input::SetKeys(ring)).await.map_err(|error| error.to_string())
    }

    /// Ends the threads, without a leave; returns when all is on disk.
    pub(crate) async fn stop(&self) {
        let _ = self.asks.send(Ask::Stop).await;
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// Tries the seeds until one has let us in, or somebody has found us. The machine goes on with those that are addresses.
async fn keep_joining(club: Club, seeds: Vec<String>) {
    loop {
        match club.join(seeds.clone(), true).await {
            Ok(joining) if !joining.joined.is_empty() => return,
            Ok(joining) => {
                for (address, why) in joining.failed {
                    tracing::info!("no member was met at {address}: {why}");
                }
            }
            Err(_) => return,
        }
        tokio::time::sleep(JOIN_INTERVAL).await;
        match club.look(|gossip| gossip.stats().living).await {
            Ok(1) => {}
            _ => return,
        }
    }
}

impl Membership for Club {
    fn roll(&self) -> BoxFuture<'_, Result<Roll, MembershipError>> {
        Box::pin(self.look(|gossip| Roll {
            name: gossip.name().to_owned(),
            members: gossip.members().collect(),
            stats: gossip.stats(),
            encrypted: !gossip.keys().is_empty(),
        }))
    }

    fn coordinate(&self, name: String) -> BoxFuture<'_, Result<Option<Coordinate>, MembershipError>> {
        Box::pin(self.look(move |gossip| gossip.coordinate(&name)))
    }

    fn command(&self, input: Input) -> BoxFuture<'_, Result<(), MembershipError>> {
        Box::pin(async move { Ok(self.ask(|answer| Ask::Do(input, answer)).await??) })
    }

    fn join(&self, addresses: Vec<String>, ignore_old_events: bool) -> BoxFuture<'_, Result<Joining, MembershipError>> {
        Box::pin(async move {
            let (mut found, mut failed) = (Vec::new(), Vec::new());
            for address in addresses {
                match address::resolve(&address).await {
                    Ok(addresses) => found.extend(addresses),
                    Err(why) => failed.push((address, why)),
                }
            }
            let mut joining = self.ask(|answer| Ask::Join(found, ignore_old_events, answer)).await?;
            joining.failed.extend(failed);
            Ok(joining)
        })
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), MembershipError>> {
        Box::pin(async move { Ok(self.ask(Ask::Leave).await??) })
    }

    fn query(&self, request: QueryRequest) -> BoxFuture<'_, Result<mpsc::Receiver<QueryAnswer>, MembershipError>> {
        Box::pin(async move { Ok(self.ask(|answer| Ask::Query(request, answer)).await??) })
    }

    fn keys(&self, op: KeyOp, relay_factor: u8) -> BoxFuture<'_, Result<KeyReport, MembershipError>> {
        Box::pin(async move { Ok(self.ask(|answer| Ask::Keys(op, relay_factor, answer)).await??) })
    }

    fn happenings(&self) -> broadcast::Receiver<Arc<Happening>> {
        self.happenings.subscribe()
    }

    fn log(&self) -> broadcast::Receiver<Arc<(tracing::Level, String)>> {
        crate::runtime::logging::follow()
    }
}

/// Tells the log what happens. On the agent's threads: a log that blocks must not reach the failure detector.
async fn log(mut happenings: broadcast::Receiver<Arc<Happening>>) {
    loop {
        match happenings.recv().await {
            Ok(happening) => tell(&happening.event),
            Err(broadcast::error::RecvError::Lagged(count)) => {
                tracing::warn!("{count} happenings of gossip came faster than they could be told");
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn tell(event: &Event) {
    match event {
        Event::Member { change, member, by, .. } => {
            let by = by.as_ref().map(|by| format!(", says {by}")).unwrap_or_default();
            let what = change.as_str();
            tracing::info!(object = format!("member/{}", member.name), "{what}: {}{by}", member.address);
        }
        Event::Suspected { name, by, evidence } => {
            tracing::info!(object = format!("member/{name}"), "suspected by {by}: {}", super::trail::reason(*evidence));
        }
        Event::Refuted { name } => tracing::info!(object = format!("member/{name}"), "it has refuted: it lives"),
        Event::UdpBlocked { name } => {
            tracing::warn!(object = format!("member/{name}"), "UDP does not get through though TCP does");
        }
        Event::Quarantined { name, returns, .. } => {
            tracing::warn!(object = format!("member/{name}"), "in quarantine: it has come back {returns} times");
        }
        Event::NameClaimed { name, known, claimed } => {
            tracing::warn!(object = format!("member/{name}"), "its name is at {known} and at {claimed}");
        }
        Event::NameLost { other } => {
            tracing::error!("another node at {other} has this node's name: gossip has stopped; choose another --node");
        }
        Event::User { name, ltime, .. } => tracing::info!("user event {name} ({ltime})"),
        Event::Query { name, from, .. } => tracing::debug!("query {name} of {from}"),
        Event::Paused { millis } => tracing::warn!("this agent was held up for {millis} ms: nobody is blamed for it"),
        Event::Dropped { from, reason, count } => {
            tracing::debug!("{count} messages dropped, the last from {from}: {reason}")
        }
        Event::Left => tracing::info!("this node has left the cluster"),
        Event::KeyringChanged { keys } => tracing::info!("the gossip keys were changed: {} are installed", keys.len()),
        _ => {}
    }
}
