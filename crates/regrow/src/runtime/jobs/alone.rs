//! A worker without an agent.

use super::{Carrier, Crew, JobSettings, Place, Secrets, open, told};
use crate::config::{Access, Endpoints};
use crate::exit::{Code, Failure, say};
use crate::runtime::{OWN_PROGRAM, folder, logging, place};
use regrow_effects::run::Runs;
use regrow_jobs::tend::Nothing;
use regrow_jobs::{Error, Queue, RedisQueue, worker};
use regrow_model::Name;
use regrow_store::Store;
use regrow_store::relocate::Switch;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Time between two tries to open the queue.
const QUEUE_PAUSE: Duration = Duration::from_secs(1);

/// What the folder of a worker is called in its data folder: an agent may have the same one.
const FOLDER: &str = "worker";

/// The settings of a worker without an agent.
pub(crate) struct Alone {
    /// Its name.
    pub(crate) node: Name,
    /// The data folder.
    pub(crate) data: PathBuf,
    /// A store: where the queue is, unless that is in a Redis, and where secrets that are keys are.
    pub(crate) store: Option<Endpoints>,
    /// What the store is shown.
    pub(crate) access: Access,
    /// The rest.
    pub(crate) jobs: JobSettings,
}

/// Works until SIGTERM or SIGINT, and then until what runs has ended or the drain is over; a second signal ends it at
/// once.
pub(crate) async fn work_alone(settings: Alone) -> Result<(), Failure> {
    logging::start(settings.node.clone());
    let data = folder::open(&settings.data.join(FOLDER))?;
    let _folder = folder::claim(&data)?;
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut store = settings.store;
    let switch = match store {
        Some(_) => Some(place::find(&data, &mut store, &settings.access).await?.0),
        None => None,
    };
    let moved = switch.as_ref().map_or_else(|| watch::channel(0).1, Switch::changes);
    let store = switch.map(|switch| Arc::new(switch) as Arc<dyn Store>);
    let runs = Runs::open(data.join("runs"), OWN_PROGRAM.into()).map_err(Failure::failed)?;
    runs.clean().await;
    let queue = tokio::select! {
        queue = queue(&settings.jobs.place, store.clone(), moved) => queue?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    let carrier = Arc::new(Carrier::new(runs, Secrets::new(store)));
    let JobSettings { room, labels, drain, .. } = settings.jobs;
    let worker = worker::Settings { node: settings.node, labels, room, drain };
    let mut crew = Crew::start(&queue, Arc::new(Nothing), Some((worker, carrier)));
    say(format!("Working on {room} runs at a time. Ctrl-C lets what runs end first."));
    let mut asked = false;
    loop {
        tokio::select! {
            () = crew.ended() => break,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if asked {
            crew.stop();
        } else {
            crew.drain();
            tell_drain(&crew, drain);
        }
        asked = true;
    }
    crew.close().await;
    say("The worker has ended.");
    Ok(())
}

/// Says what still runs.
pub(crate) fn tell_drain(crew: &Crew, drain: Duration) {
    let under_way = crew.under_way();
    if under_way.is_empty() {
        return;
    }
    let drain = regrow_model::duration::Span(drain);
    say(format!("These runs may go on for {drain}. Once more ends them now.\n  {}", under_way.join("\n  ")));
}

/// Opens the queue, as soon as the store is there.
async fn queue(
    place: &Place,
    store: Option<Arc<dyn Store>>,
    moved: watch::Receiver<u64>,
) -> Result<Arc<dyn Queue>, Failure> {
    // A queue on Redis connects when it is needed.
    if let Place::Redis(url) = place {
        let queue = RedisQueue::new(&url.0, super::clock());
        return queue.map(|queue| Arc::new(queue) as Arc<dyn Queue>).map_err(Failure::usage);
    }
    let Some(store) = store else {
        return Err(Failure::usage("where is the queue? Name a store with --store, or a Redis with --queue"));
    };
    let mut was_told = false;
    loop {
        match open(place, store.clone(), moved.clone()).await {
            Ok(queue) => return Ok(queue),
            Err(error) if error.is_retryable() => {
                if !was_told {
                    tracing::warn!("waiting for the queue: {}", told(&error));
                }
                was_told = true;
                tokio::time::sleep(QUEUE_PAUSE).await;
            }
            Err(error @ Error::Store(_)) => return Err(Failure::new(Code::Unreachable, told(&error))),
            Err(error) => return Err(Failure::failed(told(&error))),
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
}
