//! Who runs next: a queue's runs as one process knows them, in the order in which they go.
//!
//! A run goes when it is due, has the highest priority of those, is the oldest of these, and all of its slots have a
//! place. A run that lacks one stands aside with the slot until a place of it is free, so that many waiting for one key
//! cost nothing.

use regrow_model::run::{Run, Slot, State, Worker, WorkerId};
use regrow_model::{Digest, RunId, Time};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Where a run stands in line.
type Turn = (Reverse<u8>, RunId);

/// A slot's name in keys: the name itself may be any text.
pub type SlotKey = String;

/// The key of a slot.
pub fn slot_key(slot: &Slot) -> SlotKey {
    Digest::of([slot.name.as_bytes()]).to_string()
}

/// Runs that have not ended, and who holds which place.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    live: BTreeMap<RunId, Arc<Run>>,
    ready: BTreeSet<Turn>,
    delayed: BTreeSet<(Time, RunId)>,
    /// By the slot that they lack a place of, with its limit.
    aside: BTreeMap<SlotKey, (u32, BTreeSet<Turn>)>,
    places: BTreeMap<SlotKey, BTreeMap<u32, RunId>>,
    running: BTreeMap<WorkerId, BTreeSet<RunId>>,
    deadlines: BTreeSet<(Time, RunId)>,
    /// Whether something was left to other workers.
    left: bool,
}

/// A run that may begin, with the places that it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Pick {
    /// The run as it waits.
    pub run: Arc<Run>,
    /// A free place of each of its slots.
    pub places: Vec<(SlotKey, u32)>,
}

/// A worker's part of the line among others that take from it as well: `index` of `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// 0 to `of` less 1.
    pub index: usize,
    /// Workers, 1 and up.
    pub of: usize,
    /// Whether it takes from the parts of others when its own is not enough.
    pub others: bool,
}

impl Queue {
    /// Takes in a run as it is now; `None`: it has ended, or is gone.
    pub fn put(&mut self, id: &RunId, run: Option<Arc<Run>>) {
        if let Some(old) = self.live.remove(id) {
            self.leave(&old);
        }
        let Some(run) = run.filter(|run| !run.state.is_final()) else { return };
        match run.state {
            State::Queued => {
                self.delayed.insert((run.due, id.clone()));
                if let Some(deadline) = run.order.deadline {
                    self.deadlines.insert((deadline, id.clone()));
                }
            }
            State::Running => {
                if let Some(worker) = &run.worker {
                    self.running.entry(worker.clone()).or_default().insert(id.clone());
                }
            }
            _ => {
                if let Some(deadline) = run.order.deadline {
                    self.deadlines.insert((deadline, id.clone()));
                }
            }
        }
        self.live.insert(id.clone(), run);
    }

    fn leave(&mut self, old: &Run) {
        let turn = turn(old);
        self.ready.remove(&turn);
        self.delayed.remove(&(old.due, old.id.clone()));
        if let Some(deadline) = old.order.deadline {
            self.deadlines.remove(&(deadline, old.id.clone()));
        }
        for slot in &old.order.slots {
            let key = slot_key(slot);
            if let Some((_, turns)) = self.aside.get_mut(&key) {
                turns.remove(&turn);
                if turns.is_empty() {
                    self.aside.remove(&key);
                }
            }
        }
        if let Some(worker) = &old.worker
            && let Some(runs) = self.running.get_mut(worker)
        {
            runs.remove(&old.id);
            if runs.is_empty() {
                self.running.remove(worker);
            }
        }
    }

    /// Takes in who holds a place; `None`: nobody.
    pub fn hold(&mut self, slot: &str, place: u32, holder: Option<RunId>) {
        match holder {
            Some(run) => drop(self.places.entry(slot.to_owned()).or_default().insert(place, run)),
            None => {
                if let Some(places) = self.places.get_mut(slot) {
                    places.remove(&place);
                    if places.is_empty() {
                        self.places.remove(slot);
                    }
                }
            }
        }
    }

    /// Which runs `worker` may begin now, at most `room`, in their order. What is given back is not taken out: that
    /// happens when it is [`put`](Queue::put) as running. `taken`: runs that are being claimed already.
    pub fn next(
        &mut self,
        worker: &Worker,
        share: Share,
        room: usize,
        now: Time,
        taken: &BTreeSet<RunId>,
    ) -> Vec<Pick> {
        while let Some((due, id)) = self.delayed.first()
            && *due <= now
        {
            let id = id.clone();
            if let Some(run) = self.live.get(&id) {
                self.ready.insert(turn(run));
            }
            self.delayed.pop_first();
        }
        self.look_again();
        let mut used: BTreeSet<(SlotKey, u32)> = BTreeSet::new();
        let mut aside: Vec<(SlotKey, u32, Turn)> = Vec::new();
        let mut own: Vec<Pick> = Vec::new();
        let mut others: Vec<Pick> = Vec::new();
        let (mut class, mut left) = (None, 0);
        for turn in &self.ready {
            // What is left to others goes before all that is of less priority.
            if own.len() >= room || (class != Some(turn.0) && (left > 0 || own.len() + others.len() >= room)) {
                break;
            }
            if own.len() + others.len() + left >= room.saturating_mul(share.of) {
                break;
            }
            class = Some(turn.0);
            let Some(run) = self.live.get(&turn.1) else { continue };
            let late = run.order.deadline.is_some_and(|deadline| deadline < now);
            if late || taken.contains(&run.id) || !worker.has_labels(&run.order.labels) {
                continue;
            }
            if !share.others && !is_of(&run.id, share) {
                left += 1;
                continue;
            }
            match self.free_places(run, &used) {
                Ok(places) => {
                    used.extend(places.iter().cloned());
                    let pick = Pick { run: run.clone(), places };
                    if is_of(&run.id, share) { own.push(pick) } else { others.push(pick) }
                }
                // One that another of this very call takes away may still be free afterwards.
                Err((slot, limit)) if self.is_full(&slot, limit) => aside.push((slot, limit, turn.clone())),
                Err(_) => {}
            }
        }
        self.left = left > 0;
        for (slot, limit, turn) in aside {
            self.ready.remove(&turn);
            self.aside.entry(slot).or_insert((limit, BTreeSet::new())).1.insert(turn);
        }
        own.append(&mut others);
        own.truncate(room);
        own
    }

    /// Lets those at a slot with a free place look again: not all, only so many that one will take it.
    fn look_again(&mut self) {
        let free = |slot: &SlotKey, limit: u32| self.places.get(slot).is_none_or(|held| held.len() < limit as usize);
        for (slot, (limit, turns)) in &mut self.aside {
            if free(slot, *limit) {
                for _ in 0..LOOK_AGAIN {
                    self.ready.extend(turns.pop_first());
                }
            }
        }
        self.aside.retain(|_, (_, turns)| !turns.is_empty());
    }

    fn free_places(&self, run: &Run, used: &BTreeSet<(SlotKey, u32)>) -> Result<Vec<(SlotKey, u32)>, (SlotKey, u32)> {
        let mut places = Vec::with_capacity(run.order.slots.len());
        for slot in &run.order.slots {
            let key = slot_key(slot);
            let held = self.places.get(&key);
            let free = (0..slot.limit).find(|place| {
                held.is_none_or(|held| !held.contains_key(place)) && !used.contains(&(key.clone(), *place))
            });
            match free {
                Some(place) => places.push((key, place)),
                None => return Err((key, slot.limit)),
            }
        }
        Ok(places)
    }

    fn is_full(&self, slot: &SlotKey, limit: u32) -> bool {
        self.places.get(slot).is_some_and(|held| held.len() >= limit as usize)
    }

    /// When [`next`](Queue::next) may give more without anything having changed.
    pub fn wake_at(&self) -> Option<Time> {
        self.delayed.first().map(|(due, _)| *due)
    }

    /// Whether [`next`](Queue::next) left something to other workers the last time.
    pub fn left(&self) -> bool {
        self.left
    }

    /// A run that has not ended.
    pub fn get(&self, id: &RunId) -> Option<&Arc<Run>> {
        self.live.get(id)
    }

    /// All runs that have not ended, oldest first.
    pub fn live(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.live.values()
    }

    /// The places that a run holds.
    pub fn held_by(&self, run: &Run) -> Vec<(SlotKey, u32)> {
        let keys = run.order.slots.iter().map(slot_key);
        let held = keys.filter_map(|key| {
            let place = self.places.get(&key)?.iter().find(|(_, holder)| **holder == run.id)?.0;
            Some((key, *place))
        });
        held.collect()
    }

    /// Workers that run something, and what.
    pub fn running(&self) -> impl Iterator<Item = (&WorkerId, &BTreeSet<RunId>)> {
        self.running.iter()
    }

    /// Runs that have not started by their deadline.
    pub fn late(&self, now: Time) -> Vec<Arc<Run>> {
        let late = self.deadlines.iter().take_while(|(deadline, _)| *deadline < now);
        late.filter_map(|(_, id)| self.live.get(id).cloned()).collect()
    }

    /// Runs that wait for hosts to come back.
    pub fn parked(&self) -> Vec<Arc<Run>> {
        self.live.values().filter(|run| run.state == State::Parked).cloned().collect()
    }
}

/// Runs that look again when a place is free: one takes it, and the others are spared a wait when it cannot.
const LOOK_AGAIN: usize = 4;

fn turn(run: &Run) -> Turn {
    (Reverse(run.order.priority), run.id.clone())
}

/// The last letter of an id is random, so it deals evenly.
fn is_of(id: &RunId, share: Share) -> bool {
    let sum: usize = id.as_str().bytes().rev().take(4).map(usize::from).sum();
    sum % share.of.max(1) == share.index
}
