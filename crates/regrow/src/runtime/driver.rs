//! The loop: feed the reconciler all that has arrived, poll it once, do what it says.

use super::follower::Follower;
use super::shelf::Shelf;
use super::stage::Overlay;
use super::{Ending, now};
use regrow_control::features::template;
use regrow_control::reconcile::{Answer, Command, CommandError, Input, Output, Reconciler, StoreChange, Ticket};
use regrow_effects::World;
use regrow_model::view::SetContents;
use regrow_model::{Name, Observation, Revision, View};
use regrow_store::Watch;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Messages waiting for the loop; a full inbox holds its senders up.
pub(super) const INBOX: usize = 4_096;
/// Observations waiting to be taken in.
pub(super) const SEEN: usize = 4_096;
/// Messages taken in before the reconciler is polled.
const BATCH: usize = 1_024;
/// Longest sleep: the clock may be set while we sleep.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// What the loop is told.
pub(super) enum Message {
    /// For the reconciler.
    Input(Input),
    /// The whole content of the store, after a time that nobody was told of.
    Reloaded(Vec<StoreChange>, Revision),
    /// A command, and who wants the answer.
    Ask(Box<Command>, oneshot::Sender<Result<Answer, CommandError>>),
    /// Look at the reconciler.
    Look(Box<dyn FnOnce(&Reconciler) + Send>),
    /// End, and leave what runs running.
    Leave,
}

impl Message {
    /// A halt that nobody waits for.
    pub(super) fn halt() -> Message {
        Message::Ask(Box::new(Command::Halt), oneshot::channel().0)
    }
}

/// The loop's state.
pub(super) struct Driver {
    reconciler: Reconciler,
    shelf: Shelf,
    world: World,
    inbox: mpsc::Sender<Message>,
    messages: mpsc::Receiver<Message>,
    asked: BTreeMap<Ticket, oneshot::Sender<Result<Answer, CommandError>>>,
    next_ask: u64,
    prefixes: tokio::sync::watch::Sender<Vec<String>>,
    /// Every key that the reconciler was told of and that was there then.
    known: BTreeSet<String>,
}

impl Driver {
    pub(super) fn new(
        reconciler: Reconciler,
        shelf: Shelf,
        world: World,
        inbox: mpsc::Sender<Message>,
        messages: mpsc::Receiver<Message>,
        known: BTreeSet<String>,
    ) -> Driver {
        let (prefixes, _) = tokio::sync::watch::channel(Vec::new());
        Driver { reconciler, shelf, world, inbox, messages, asked: BTreeMap::new(), next_ask: 0, prefixes, known }
    }

    /// Feeds the loop with the store's changes and what is seen in the world.
    pub(super) fn follow(
        &self,
        overlay: Overlay,
        watch: Watch,
        mut seen: mpsc::Receiver<Observation>,
        moved: tokio::sync::watch::Receiver<u64>,
    ) {
        let follower = Follower {
            shelf: self.shelf.clone(),
            overlay,
            inbox: self.inbox.clone(),
            prefixes: self.prefixes.subscribe(),
            moved,
            node: self.reconciler.node().clone(),
            next: Revision(self.reconciler.view().revision.0 + 1),
        };
        tokio::spawn(follower.run(watch));
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            while let Some(observation) = seen.recv().await {
                if inbox.send(Message::Input(Input::Seen(observation))).await.is_err() {
                    return;
                }
            }
        });
    }

    pub(super) async fn run(mut self) -> Ending {
        loop {
            for output in self.reconciler.poll(now()) {
                self.carry_out(output);
            }
            self.read_new_prefixes().await;
            // Whoever asked for the halt hears of it, also when there was nothing to stop.
            if self.reconciler.is_halted() && self.asked.is_empty() {
                return Ending::Halted;
            }
            let sleep = self.reconciler.wake_at().map_or(SLEEP_MAX, |at| at.since(now()).min(SLEEP_MAX));
            let first = tokio::select! {
                message = self.messages.recv() => message,
                () = tokio::time::sleep(sleep) => continue,
            };
            let Some(first) = first else { return Ending::Left };
            let mut message = Some(first);
            for _ in 0..BATCH {
                match message {
                    Some(Message::Leave) => return Ending::Left,
                    Some(message) => self.take_in(message),
                    None => break,
                }
                message = self.messages.try_recv().ok();
            }
            if let Some(message) = message {
                if matches!(message, Message::Leave) {
                    return Ending::Left;
                }
                self.take_in(message);
            }
        }
    }

    fn take_in(&mut self, message: Message) {
        match message {
            Message::Input(input) => {
                if let Input::Changed { changes, .. } = &input {
                    self.remember(changes);
                }
                self.reconciler.input(input, now());
            }
            Message::Reloaded(changes, revision) => self.reload(changes, revision),
            Message::Look(look) => look(&self.reconciler),
            Message::Ask(command, answer) => {
                self.next_ask += 1;
                let ticket = Ticket(self.next_ask);
                self.asked.insert(ticket, answer);
                self.reconciler.input(Input::Asked { ticket, command }, now());
            }
            Message::Leave => {}
        }
    }

    fn remember(&mut self, changes: &[StoreChange]) {
        for change in changes {
            match change.value {
                Some(_) => drop(self.known.insert(change.key.clone())),
                None => drop(self.known.remove(&change.key)),
            }
        }
    }

    /// Takes in everything that is there, and that the rest is not. The users' own keys are read again.
    fn reload(&mut self, mut changes: Vec<StoreChange>, revision: Revision) {
        let present: BTreeSet<&str> = changes.iter().map(|change| change.key.as_str()).collect();
        let gone = self.known.iter().filter(|key| !present.contains(key.as_str())).cloned();
        let gone: Vec<StoreChange> = gone.map(|key| StoreChange { key, value: None, revision }).collect();
        changes.splice(0..0, gone);
        self.remember(&changes);
        self.reconciler.input(Input::Changed { changes, revision }, now());
        self.prefixes.send_replace(Vec::new());
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Commit { ticket, transaction } => {
                let (shelf, inbox) = (self.shelf.clone(), self.inbox.clone());
                tokio::spawn(async move {
                    let result = shelf.commit(transaction).await;
                    if let Err(regrow_control::reconcile::CommitError::Unavailable(error)) = &result {
                        tracing::warn!("the store cannot take writes: {error}");
                    }
                    let _ = inbox.send(Message::Input(Input::Committed { ticket, result })).await;
                });
            }
            Output::Act { ticket, action, cause } => {
                let (world, inbox) = (self.world.clone(), self.inbox.clone());
                tokio::spawn(async move {
                    let outcome = world.act(&action).await;
                    if let regrow_model::Outcome::Failed { error, .. } = &outcome {
                        let object = action.target().map(|object| object.to_string()).unwrap_or_default();
                        tracing::debug!(%cause, object, "{} failed: {error}", action.verb());
                    }
                    let _ = inbox.send(Message::Input(Input::Ended { ticket, outcome })).await;
                });
            }
            Output::Check(targets) => self.world.check(targets),
            Output::Answer { ticket, result } => {
                if let Some(answer) = self.asked.remove(&ticket) {
                    let _ = answer.send(result);
                }
            }
            Output::BadRecord(error) => tracing::warn!("passed over a record: {error}"),
        }
    }

    /// Templates name the users' own keys that they read; what is new among them is read once, then watched.
    async fn read_new_prefixes(&mut self) {
        let templates = self.reconciler.view().templates.values();
        let wanted: BTreeSet<String> = templates.flat_map(|template| template::watched(&template.spec)).collect();
        if self.prefixes.borrow().iter().eq(&wanted) {
            return;
        }
        let wanted: Vec<String> = wanted.into_iter().collect();
        self.prefixes.send_replace(wanted.clone());
        for prefix in wanted {
            match self.shelf.read(&prefix).await {
                Ok((changes, _)) => {
                    // The view's revision stands where the watch stands, not where this read does.
                    let revision = self.reconciler.view().revision;
                    self.remember(&changes);
                    self.reconciler.input(Input::Changed { changes, revision }, now());
                }
                Err(error) => tracing::warn!("cannot read the keys under {prefix}: {error}"),
            }
        }
        for output in self.reconciler.poll(now()) {
            self.carry_out(output);
        }
    }
}

/// The contents of the sets that templates have loaded, from disk.
pub(super) fn kept_sets(world: &World, view: &View) -> BTreeMap<Name, SetContents> {
    let mut sets = BTreeMap::new();
    for ((name, _), status) in &view.template_status {
        let Some(loaded) = &status.loaded else { continue };
        if let Some(contents) = world.kept_set(name, &loaded.digest) {
            sets.insert(name.clone(), SetContents { digest: loaded.digest, contents });
        }
    }
    sets
}

/// The sets that are in place, from disk.
pub(super) fn placed_sets(world: &World, view: &View) -> BTreeMap<Name, SetContents> {
    let names = view.template_status.keys().map(|(name, _)| name);
    let placed = names.filter_map(|name| {
        let (digest, contents) = world.placed_set(name)?;
        Some((name.clone(), SetContents { digest, contents }))
    });
    placed.collect()
}
