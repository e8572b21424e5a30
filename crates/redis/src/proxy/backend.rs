//! What one thread of the proxy knows of the backend: who serves what, the connections to it, and the commands that have
//! to be sent again.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, interval, sleep, sleep_until};

use crate::address::Address;
use crate::admin::chain;
use crate::slot::Slot;
use crate::url::Place;

use super::limits::Limits;
use super::link::{Entry, Link};
use super::map::Map;
use super::metrics::Metrics;
use super::open::{Opened, refresh};
use super::verdict::{Next, Trouble, after_answer, again_after_break};
use super::wire::{Dialer, Proto, Wire, WireError};

/// What goes before a command that a slot's new owner is asked for once.
pub(crate) const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

/// Between two tries of a command that was not carried out.
pub(crate) const RETRY_EVERY: Duration = Duration::from_millis(20);
/// Between two looks at who serves what, when something is wrong.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two looks when nothing is.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);
/// Connections of their own that are kept for the next command, for each server.
const KEPT_MAX: usize = 16;

/// The backend, for one thread.
pub(crate) struct Backend {
    opened: Arc<Opened>,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
    map: RefCell<Map>,
    links: RefCell<HashMap<(Address, Proto), Rc<Link>>>,
    /// The links by the map's places, for the two protocols; rebuilt as they are asked for.
    quick: RefCell<Vec<[Option<Rc<Link>>; 2]>>,
    kept: RefCell<HashMap<(Address, Proto), Vec<Wire>>>,
    dedicated: Cell<usize>,
    again: RefCell<VecDeque<(Instant, Entry)>>,
    again_wake: Notify,
    look_wake: Notify,
    retired: Cell<bool>,
    retired_wake: Notify,
}

impl Backend {
    /// A backend and the tasks that look after it.
    pub(crate) fn start(opened: Arc<Opened>, limits: Arc<Limits>, metrics: Arc<Metrics>) -> Rc<Self> {
        let map = opened.map.clone();
        let backend = Rc::new(Self {
            opened,
            limits,
            metrics,
            map: RefCell::new(map),
            links: RefCell::default(),
            quick: RefCell::default(),
            kept: RefCell::default(),
            dedicated: Cell::new(0),
            again: RefCell::default(),
            again_wake: Notify::new(),
            look_wake: Notify::new(),
            retired: Cell::new(false),
            retired_wake: Notify::new(),
        });
        tokio::task::spawn_local(Rc::clone(&backend).send_again());
        tokio::task::spawn_local(Rc::clone(&backend).keep_looking());
        backend
    }

    pub(crate) fn opened(&self) -> &Opened {
        &self.opened
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.opened.dialer
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// One slot of each master.
    pub(crate) fn shards(&self) -> Vec<Slot> {
        self.map.borrow().shards()
    }

    /// Sends a command to its slot's master.
    pub(crate) fn send(self: &Rc<Self>, entry: Entry) {
        let index = self.map.borrow().owner_index(entry.slot);
        let proto = usize::from(entry.proto == Proto::Three);
        if let Some(links) = self.quick.borrow().get(index)
            && let Some(link) = &links[proto]
        {
            link.push(entry);
            return;
        }
        let owner = self.map.borrow().owner(entry.slot).cloned();
        let Some(owner) = owner else {
            let text = format!("-CLUSTERDOWN regrow: nobody serves slot {}\r\n", entry.slot);
            self.later(entry, true, text.as_bytes());
            return;
        };
        let link = self.link(&owner, entry.proto);
        let mut quick = self.quick.borrow_mut();
        if quick.len() <= index {
            quick.resize_with(index + 1, Default::default);
        }
        quick[index][proto] = Some(Rc::clone(&link));
        drop(quick);
        link.push(entry);
    }

    fn link(self: &Rc<Self>, address: &Address, proto: Proto) -> Rc<Link> {
        let mut links = self.links.borrow_mut();
        let link = links
            .entry((address.clone(), proto))
            .or_insert_with(|| Link::start(address.clone(), proto, Rc::clone(self)));
        Rc::clone(link)
    }

    /// Takes an answer to a command of a client.
    pub(crate) fn answered(self: &Rc<Self>, mut entry: Entry, answer: &[u8], from: &Address) {
        if answer.first() != Some(&b'-') {
            entry.client.deliver(entry.number, entry.part, answer);
            return;
        }
        match after_answer(answer, from, self.trouble(&entry), &self.limits) {
            Next::Deliver => entry.client.deliver(entry.number, entry.part, answer),
            Next::Moved(to) => {
                self.metrics.redirected();
                self.moved(entry.slot, &to);
                entry.redirections += 1;
                self.send(entry);
            }
            Next::Ask(to) => {
                self.metrics.redirected();
                entry.redirections += 1;
                self.link(&to, entry.proto).push_asking(entry);
            }
            Next::Later => self.later(entry, false, answer),
            Next::Lookup => self.later(entry, true, answer),
        }
    }

    fn trouble(&self, entry: &Entry) -> Trouble {
        Trouble {
            redirections: entry.redirections,
            since: entry.since.map_or(Duration::ZERO, |since| since.elapsed()),
            readonly: entry.readonly,
            fixed: self.is_fixed(),
        }
    }

    /// Whether one server is all there is, whatever becomes of it.
    pub(crate) fn is_fixed(&self) -> bool {
        !self.opened.cluster && !matches!(self.opened.url.place, Place::Sentinel { .. })
    }

    /// Takes a command whose connection broke.
    pub(crate) fn broken(self: &Rc<Self>, entry: Entry, sent: bool, why: &WireError) {
        self.look();
        let text = broken_text(sent, why);
        if again_after_break(sent, self.trouble(&entry), &self.limits) {
            self.later(entry, true, text.as_bytes());
        } else {
            entry.client.deliver(entry.number, entry.part, text.as_bytes());
        }
    }

    /// Takes in a redirection.
    pub(crate) fn moved(&self, slot: Slot, to: &Address) {
        self.map.borrow_mut().moved(slot, to);
    }

    /// Sends a command again in a moment, or gives its client the last answer when it has been tried for long enough.
    fn later(&self, mut entry: Entry, look: bool, answer: &[u8]) {
        let now = Instant::now();
        let since = *entry.since.get_or_insert(now);
        if now - since >= self.limits.retry_for || self.retired.get() {
            entry.client.deliver(entry.number, entry.part, answer);
            return;
        }
        self.metrics.retried();
        if look {
            self.look();
        }
        entry.client.held(true);
        self.again.borrow_mut().push_back((now + RETRY_EVERY, entry));
        self.again_wake.notify_one();
    }

    async fn send_again(self: Rc<Self>) {
        loop {
            let due = self.again.borrow().front().map(|(due, _)| *due);
            let Some(due) = due else {
                tokio::select! {
                    () = self.again_wake.notified() => {}
                    () = self.retired() => return,
                }
                continue;
            };
            sleep_until(due).await;
            let now = Instant::now();
            loop {
                let next = {
                    let mut again = self.again.borrow_mut();
                    if again.front().is_some_and(|(due, _)| *due <= now) { again.pop_front() } else { None }
                };
                let Some((_, entry)) = next else { break };
                entry.client.held(false);
                self.send(entry);
            }
        }
    }

    /// Asks for a look at who serves what.
    pub(crate) fn look(&self) {
        self.look_wake.notify_one();
    }

    async fn keep_looking(self: Rc<Self>) {
        let mut turn = 0usize;
        let mut beat = interval(LOOK_ANYWAY);
        beat.tick().await;
        loop {
            tokio::select! {
                _ = beat.tick(), if self.opened.cluster => {}
                () = self.look_wake.notified() => {}
                () = self.retired() => return,
            }
            let known = self.map.borrow().known().to_vec();
            turn = turn.wrapping_add(1);
            let looked = tokio::select! {
                looked = refresh(&self.opened.url, self.dialer(), self.opened.cluster, &known, turn) => looked,
                () = self.retired() => return,
            };
            if let Ok(map) = looked {
                self.adopt(map);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn adopt(&self, map: Map) {
        if map == *self.map.borrow() {
            return;
        }
        self.metrics.reshaped();
        let mut links = self.links.borrow_mut();
        links.retain(|(address, _), link| {
            let stays = map.nodes().contains(address) || !link.is_idle();
            if !stays {
                link.retire();
            }
            stays
        });
        self.kept.borrow_mut().retain(|(address, _), _| map.nodes().contains(address));
        *self.map.borrow_mut() = map;
        self.quick.borrow_mut().clear();
    }

    /// A connection of its own to a slot's master. `asked`: to this server instead.
    pub(crate) async fn dedicated(
        self: &Rc<Self>,
        slot: Slot,
        asked: Option<&Address>,
        proto: Proto,
    ) -> Result<Option<Dedicated>, WireError> {
        let owner = asked.cloned().or_else(|| self.map.borrow().owner(slot).cloned());
        let Some(address) = owner else { return Ok(None) };
        loop {
            let kept = self.kept.borrow_mut().get_mut(&(address.clone(), proto)).and_then(Vec::pop);
            let Some(mut wire) = kept else { break };
            if wire.is_quiet().await {
                return Ok(Some(Dedicated::new(self, wire, proto)));
            }
        }
        if self.dedicated.get() >= self.limits.dedicated_max {
            let message = format!("more than {} connections of their own are in use", self.limits.dedicated_max);
            return Err(WireError::Refused { address, message });
        }
        let wire = self.dialer().connect(&address, proto).await?;
        Ok(Some(Dedicated::new(self, wire, proto)))
    }

    /// Whether it has been replaced by another.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// Waits until it is replaced by another.
    pub(crate) async fn retired(&self) {
        loop {
            let told = self.retired_wake.notified();
            if self.retired.get() {
                return;
            }
            told.await;
        }
    }

    /// Ends it: nothing is in flight any more.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        self.retired_wake.notify_waiters();
        self.links.borrow_mut().drain().for_each(|(_, link)| link.retire());
        self.quick.borrow_mut().clear();
        self.kept.borrow_mut().clear();
        let left: Vec<_> = self.again.borrow_mut().drain(..).collect();
        for (_, entry) in left {
            entry.client.held(false);
            entry.client.deliver(entry.number, entry.part, b"-ERR regrow: the backend was replaced\r\n");
        }
    }

    /// The answer for a command that ran into trouble on a connection of its own.
    pub(crate) fn broken_answer(sent: bool, why: &WireError) -> Bytes {
        Bytes::from(broken_text(sent, why))
    }
}

/// A connection that is used by one client for a while. Dropped without [`Self::give_back`], it is closed.
pub(crate) struct Dedicated {
    wire: Option<Wire>,
    proto: Proto,
    backend: Rc<Backend>,
}

impl Dedicated {
    fn new(backend: &Rc<Backend>, wire: Wire, proto: Proto) -> Self {
        backend.dedicated.set(backend.dedicated.get() + 1);
        Self { wire: Some(wire), proto, backend: Rc::clone(backend) }
    }

    pub(crate) fn wire(&mut self) -> Result<&mut Wire, WireError> {
        self.wire.as_mut().ok_or_else(|| WireError::Closed { address: Address::new("?", 0) })
    }

    pub(crate) fn backend(&self) -> &Rc<Backend> {
        &self.backend
    }

    /// For the next one: all its commands have been answered, and it is as it was made.
    pub(crate) fn give_back(mut self) {
        if let Some(wire) = self.wire.take()
            && !self.backend.retired.get()
        {
            let mut kept = self.backend.kept.borrow_mut();
            let kept = kept.entry((wire.address.clone(), self.proto)).or_default();
            if kept.len() < KEPT_MAX {
                kept.push(wire);
            }
        }
    }
}

impl Drop for Dedicated {
    fn drop(&mut self) {
        self.backend.dedicated.set(self.backend.dedicated.get().saturating_sub(1));
    }
}

fn broken_text(sent: bool, why: &WireError) -> String {
    let why = chain(why).replace(['\r', '\n'], " ");
    if sent {
        format!("-ERR regrow: {why}; whether the command was carried out is unknown\r\n")
    } else {
        format!("-ERR regrow: {why}; the command was not carried out\r\n")
    }
}
