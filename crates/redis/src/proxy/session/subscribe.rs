//! Pub/sub: each subscriber has connections of its own.
//!
//! One for channels and patterns, to the server that publishes for everybody, and one for each slot of sharded channels.
//! When such a connection breaks, its slot moves, or the backend is switched, everything is subscribed again on a new one;
//! messages published meanwhile are lost, as they are for any subscriber whose connection broke. A subscriber that does not
//! take its messages holds up its own connection only, until the server cuts that; then it is cut off, too.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::proxy::backend::{Dedicated, RETRY_EVERY};
use crate::proxy::client::Client;
use crate::proxy::frame::{elements, text};
use crate::proxy::keys::Words;
use crate::proxy::verdict::{Next, Trouble, after_answer};
use crate::proxy::wire::{Proto, WireError};
use crate::proxy::worker::{Busy, Worker};
use crate::slot::Slot;

use super::local::{command, confirmation};
use super::{ANY, Session};

/// What is subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Channel,
    Pattern,
    Shard,
}

impl Family {
    const ALL: [Self; 3] = [Self::Channel, Self::Pattern, Self::Shard];

    /// The commands, which are also the kinds of their confirmations.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Channel => ("subscribe", "unsubscribe"),
            Self::Pattern => ("psubscribe", "punsubscribe"),
            Self::Shard => ("ssubscribe", "sunsubscribe"),
        }
    }
}

type Wanted = BTreeSet<(Family, Bytes)>;

/// A change that the server has to confirm.
struct Order {
    request: Bytes,
    confirmations: usize,
    done: oneshot::Sender<Result<(), Bytes>>,
}

struct Ear {
    wanted: Rc<RefCell<Wanted>>,
    orders: mpsc::Sender<Order>,
}

/// All that a client has subscribed to.
pub(super) struct Subscriptions {
    client: Rc<Client>,
    wanted: Wanted,
    ears: BTreeMap<(bool, Slot), Ear>,
}

impl Subscriptions {
    pub(super) fn new(client: Rc<Client>) -> Self {
        Self { client, wanted: Wanted::new(), ears: BTreeMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether the client may say what subscribers may say only.
    pub(super) fn binds(&self, proto: Proto) -> bool {
        proto == Proto::Two && !self.wanted.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.wanted.clear();
        self.ears.clear();
    }

    fn count(&self, family: Family) -> usize {
        let sharded = family == Family::Shard;
        self.wanted.iter().filter(|(one, _)| (*one == Family::Shard) == sharded).count()
    }

    /// Tells the connection for some names of a change, and waits until the server has confirmed it.
    async fn change(&mut self, worker: &Rc<Worker>, family: Family, names: &[Bytes], on: bool) -> Result<(), Bytes> {
        let mut groups: BTreeMap<(bool, Slot), Vec<&Bytes>> = BTreeMap::new();
        for name in names {
            let sharded = family == Family::Shard;
            let slot = if sharded && worker.backend().opened().cluster { Slot::of_key(name) } else { ANY };
            groups.entry((sharded, slot)).or_default().push(name);
        }
        for (key, names) in groups {
            let client = &self.client;
            let ear = self.ears.entry(key).or_insert_with(|| Ear::start(key.1, Rc::clone(client), Rc::clone(worker)));
            for name in &names {
                let entry = (family, Bytes::clone(name));
                if on {
                    ear.wanted.borrow_mut().insert(entry);
                } else {
                    ear.wanted.borrow_mut().remove(&entry);
                }
            }
            let word = if on { family.names().0 } else { family.names().1 };
            let request = command(word, names.iter().map(|name| &name[..]));
            let (done, confirmed) = oneshot::channel();
            let order = Order { request, confirmations: names.len(), done };
            let gone = || Bytes::from_static(b"-ERR regrow: the connection for subscriptions is gone\r\n");
            ear.orders.send(order).await.map_err(|_| gone())?;
            let result = confirmed.await.map_err(|_| gone())?;
            if result.is_err() && on {
                names.iter().for_each(|name| {
                    ear.wanted.borrow_mut().remove(&(family, Bytes::clone(name)));
                });
            }
            if ear.wanted.borrow().is_empty() {
                self.ears.remove(&key);
            }
            result?;
        }
        Ok(())
    }
}

impl Session {
    pub(super) async fn subscribe(&mut self, family: Family, words: Words<'_>) {
        let names: Vec<Bytes> = words.from(1).map(Bytes::copy_from_slice).collect();
        if self.subscriptions.len() + names.len() > self.worker.limits.subscriptions_max {
            self.client.answer(b"-ERR regrow: more subscriptions than the proxy takes for one client\r\n");
            return;
        }
        let _busy = Busy::new(&self.worker);
        let worker = self.worker();
        // The confirmation goes first: a message may be here before its subscription is confirmed by the last server.
        let mut answer = BytesMut::new();
        let before = self.subscriptions.wanted.clone();
        for name in &names {
            self.subscriptions.wanted.insert((family, name.clone()));
            let count = self.subscriptions.count(family);
            answer.put_slice(&confirmation(self.is_three(), family.names().0, Some(name), count));
        }
        match self.subscriptions.change(&worker, family, &names, true).await {
            Ok(()) => self.client.answer(&answer),
            Err(error) => {
                self.subscriptions.wanted = before;
                self.client.answer(&error);
            }
        }
    }

    pub(super) async fn unsubscribe(&mut self, family: Family, words: Words<'_>) {
        let mut names: Vec<Bytes> = words.from(1).map(Bytes::copy_from_slice).collect();
        if names.is_empty() {
            names = self
                .subscriptions
                .wanted
                .iter()
                .filter(|(one, _)| *one == family)
                .map(|(_, name)| name.clone())
                .collect();
        }
        let three = self.is_three();
        if names.is_empty() {
            let count = self.subscriptions.count(family);
            self.client.answer(&confirmation(three, family.names().1, None, count));
            return;
        }
        let _busy = Busy::new(&self.worker);
        let worker = self.worker();
        let known: Vec<Bytes> = names
            .iter()
            .filter(|name| self.subscriptions.wanted.contains(&(family, Bytes::clone(name))))
            .cloned()
            .collect();
        // A connection that is gone has unsubscribed, too.
        let _ = self.subscriptions.change(&worker, family, &known, false).await;
        let mut answer = BytesMut::new();
        for name in &names {
            self.subscriptions.wanted.remove(&(family, name.clone()));
            let count = self.subscriptions.count(family);
            answer.put_slice(&confirmation(three, family.names().1, Some(name), count));
        }
        self.client.answer(&answer);
    }
}

/// Why a connection for subscriptions is left.
enum Left {
    /// Nobody wants it any more.
    Over,
    /// It broke, or its slot or the backend changed.
    Broken,
}

impl Ear {
    fn start(slot: Slot, client: Rc<Client>, worker: Rc<Worker>) -> Self {
        let wanted: Rc<RefCell<Wanted>> = Rc::default();
        let (orders, receiver) = mpsc::channel(1);
        tokio::task::spawn_local(listen(slot, client, worker, Rc::clone(&wanted), receiver));
        Self { wanted, orders }
    }
}

/// Keeps a connection for subscriptions until nobody wants it, or the client is gone.
async fn listen(
    slot: Slot,
    client: Rc<Client>,
    worker: Rc<Worker>,
    wanted: Rc<RefCell<Wanted>>,
    mut orders: mpsc::Receiver<Order>,
) {
    let mut since: Option<Instant> = None;
    let mut open: Option<Order> = None;
    while !client.is_closed() {
        let backend = worker.backend();
        let reached = tokio::select! {
            reached = backend.dedicated(slot, None, client.proto.get()) => reached,
            () = client.gone() => return,
        };
        if let Ok(Some(mut dedicated)) = reached {
            match hear(&client, &mut dedicated, slot, &wanted, &mut orders, &mut open, &mut since).await {
                Left::Over => return,
                Left::Broken if client.is_slow() => {
                    client.close();
                    return;
                }
                Left::Broken => {}
            }
        }
        backend.look();
        let since = *since.get_or_insert_with(Instant::now);
        if since.elapsed() >= worker.limits.retry_for {
            client.close();
            return;
        }
        sleep(RETRY_EVERY).await;
    }
}

async fn hear(
    client: &Rc<Client>,
    dedicated: &mut Dedicated,
    slot: Slot,
    wanted: &Rc<RefCell<Wanted>>,
    orders: &mut mpsc::Receiver<Order>,
    open: &mut Option<Order>,
    since: &mut Option<Instant>,
) -> Left {
    let backend = Rc::clone(dedicated.backend());
    // Everything wanted, with what an order that broke off wanted; that order is thereby done.
    for family in Family::ALL {
        let names: Vec<Bytes> =
            wanted.borrow().iter().filter(|(one, _)| *one == family).map(|(_, name)| name.clone()).collect();
        if names.is_empty() {
            continue;
        }
        let request = command(family.names().0, names.iter().map(|name| &name[..]));
        match confirm(client, dedicated, slot, &request, names.len()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                if let Some(order) = open.take() {
                    let _ = order.done.send(Err(error));
                }
                return Left::Broken;
            }
            Err(_) => return Left::Broken,
        }
    }
    if let Some(order) = open.take() {
        let _ = order.done.send(Ok(()));
    }
    *since = None;
    loop {
        let Ok(wire) = dedicated.wire() else { return Left::Broken };
        tokio::select! {
            order = orders.recv() => {
                let Some(order) = order else { return Left::Over };
                let (request, count) = (order.request.clone(), order.confirmations);
                *open = Some(order);
                match confirm(client, dedicated, slot, &request, count).await {
                    Ok(result) => {
                        if let Some(order) = open.take() {
                            let _ = order.done.send(result);
                        }
                    }
                    Err(_) => return Left::Broken,
                }
            }
            message = wire.next() => {
                let Ok(message) = message else { return Left::Broken };
                if !forward(client, &message) {
                    return Left::Broken;
                }
                client.caught_up().await;
            }
            () = backend.retired() => return Left::Broken,
            () = client.gone() => return Left::Over,
        }
    }
}

/// Sends a change and takes its confirmations, within the time that a server may be silent.
async fn confirm(
    client: &Rc<Client>,
    dedicated: &mut Dedicated,
    slot: Slot,
    request: &[u8],
    count: usize,
) -> Result<Result<(), Bytes>, WireError> {
    let after = dedicated.backend().limits().answer_within;
    let address = dedicated.wire()?.address.clone();
    match timeout(after, confirmed(client, dedicated, slot, request, count)).await {
        Ok(done) => done,
        Err(_) => Err(WireError::Silent { address, after }),
    }
}

/// Messages between confirmations are passed on. The inner error: the server's refusal.
async fn confirmed(
    client: &Rc<Client>,
    dedicated: &mut Dedicated,
    slot: Slot,
    request: &[u8],
    count: usize,
) -> Result<Result<(), Bytes>, WireError> {
    let backend = Rc::clone(dedicated.backend());
    let wire = dedicated.wire()?;
    wire.send(request).await?;
    let mut left = count;
    while left > 0 {
        let message = wire.next().await?;
        if message.first() == Some(&b'-') {
            let next = after_answer(&message, &wire.address, Trouble::default(), backend.limits());
            return match next {
                Next::Deliver => Ok(Err(message)),
                Next::Moved(to) => {
                    backend.moved(slot, &to);
                    Err(WireError::Closed { address: to })
                }
                Next::Ask(_) | Next::Later | Next::Lookup => Err(WireError::Closed { address: wire.address.clone() }),
            };
        }
        if !forward(client, &message) {
            left -= 1;
        }
    }
    Ok(Ok(()))
}

/// Passes on a message; false for a confirmation, which the client gets from the proxy.
fn forward(client: &Client, message: &[u8]) -> bool {
    let kind = elements(message).and_then(|parts| parts.first().and_then(|kind| text(kind).map(<[u8]>::to_vec)));
    let passes = matches!(kind.as_deref(), Some(b"message" | b"pmessage" | b"smessage"));
    if passes {
        client.push(message);
    }
    passes
}
