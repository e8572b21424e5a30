//! The connection to a server that clients share.
//!
//! Commands of all clients of a thread go out in the order they came, as many at a time as there are, and answers come
//! back in that order. It is made when there is something to send, and again after it broke.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, interval};

use crate::address::Address;
use crate::slot::Slot;

use super::backend::Backend;
use super::client::Client;
use super::frame::Scanner;
use super::wire::{Proto, READ_BYTES, Reader, Wire, WireError, Writer};

/// A command of a client on its way.
pub(crate) struct Entry {
    pub(crate) client: Rc<Client>,
    /// Which of the client's commands.
    pub(crate) number: u64,
    /// Which part of it, if it was split.
    pub(crate) part: u32,
    pub(crate) slot: Slot,
    pub(crate) proto: Proto,
    /// Whether it may be repeated when its fate is unknown.
    pub(crate) readonly: bool,
    pub(crate) redirections: u8,
    /// When its first trouble was.
    pub(crate) since: Option<Instant>,
    pub(crate) request: Bytes,
}

enum Waiting {
    Entry(Entry),
    /// The answer of our own `ASKING`.
    Nobody,
}

#[derive(Default)]
struct State {
    /// What goes out next.
    out: BytesMut,
    /// Who waits, in the order of the commands.
    queue: VecDeque<Waiting>,
    /// How many at the front of the queue have been given to the socket, wholly or in part.
    sent: usize,
}

/// A shared connection.
pub(crate) struct Link {
    pub(crate) address: Address,
    proto: Proto,
    state: RefCell<State>,
    wake: Notify,
    /// Whether `wake` has been told already.
    told: Cell<bool>,
    retired: Cell<bool>,
    /// Reads that brought something; the watchdog looks at it.
    reads: Cell<u64>,
}

/// Looks of the watchdog within the time that a server may be silent.
const LOOKS: u32 = 5;
/// A buffer that once was larger is given back.
const KEEP_BYTES: usize = 1 << 20;

impl Link {
    /// A link, and the task that serves it.
    pub(crate) fn start(address: Address, proto: Proto, backend: Rc<Backend>) -> Rc<Self> {
        let link = Rc::new(Self {
            address,
            proto,
            state: RefCell::default(),
            wake: Notify::new(),
            told: Cell::new(false),
            retired: Cell::new(false),
            reads: Cell::new(0),
        });
        tokio::task::spawn_local(Rc::clone(&link).run(backend));
        link
    }

    /// Sends a command.
    pub(crate) fn push(&self, entry: Entry) {
        let mut state = self.state.borrow_mut();
        state.out.extend_from_slice(&entry.request);
        state.queue.push_back(Waiting::Entry(entry));
        drop(state);
        self.tell();
    }

    /// Sends a command with `ASKING` before it.
    pub(crate) fn push_asking(&self, entry: Entry) {
        let mut state = self.state.borrow_mut();
        state.out.extend_from_slice(super::backend::ASKING);
        state.queue.push_back(Waiting::Nobody);
        drop(state);
        self.push(entry);
    }

    /// Ends it when all its commands have been answered.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        self.tell();
    }

    /// Whether nobody waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.state.borrow().queue.is_empty()
    }

    fn tell(&self) {
        if !self.told.replace(true) {
            self.wake.notify_one();
        }
    }

    async fn told(&self) {
        self.wake.notified().await;
        self.told.set(false);
    }

    fn is_over(&self) -> bool {
        self.retired.get() && self.is_idle()
    }

    async fn run(self: Rc<Self>, backend: Rc<Backend>) {
        loop {
            while self.is_idle() {
                if self.retired.get() {
                    return;
                }
                self.told().await;
            }
            let broken = match backend.dialer().connect(&self.address, self.proto).await {
                Err(error) => error,
                Ok(wire) => match self.serve(wire, &backend).await {
                    Err(error) => error,
                    Ok(()) => return,
                },
            };
            backend.metrics().broken();
            let state = mem::take(&mut *self.state.borrow_mut());
            for (index, waiting) in state.queue.into_iter().enumerate() {
                if let Waiting::Entry(entry) = waiting {
                    backend.broken(entry, index < state.sent, &broken);
                }
            }
        }
    }

    async fn serve(&self, wire: Wire, backend: &Rc<Backend>) -> Result<(), WireError> {
        let (reader, writer, input, scanner) = wire.into_parts();
        tokio::select! {
            done = self.write(writer) => done,
            done = self.read(reader, input, scanner, backend) => done,
            done = self.watch(backend) => done,
        }
    }

    async fn write(&self, mut writer: Writer) -> Result<(), WireError> {
        let lost = |source| WireError::Lost { address: self.address.clone(), source };
        let mut chunk = BytesMut::new();
        loop {
            // A server that is at work gets what all clients have sent meanwhile in one write, not in one for each.
            if self.state.borrow().sent > 0 {
                yield_now().await;
            }
            {
                let mut state = self.state.borrow_mut();
                mem::swap(&mut chunk, &mut state.out);
                state.sent = state.queue.len();
            }
            if chunk.is_empty() {
                if self.is_over() {
                    return Ok(());
                }
                self.told().await;
                continue;
            }
            writer.write_all(&chunk).await.map_err(lost)?;
            writer.flush().await.map_err(lost)?;
            if chunk.capacity() > KEEP_BYTES {
                chunk = BytesMut::new();
            }
            chunk.clear();
        }
    }

    async fn read(
        &self,
        mut reader: Reader,
        mut input: BytesMut,
        mut scanner: Scanner,
        backend: &Rc<Backend>,
    ) -> Result<(), WireError> {
        loop {
            input.reserve(READ_BYTES.max(input.len()));
            let count = reader
                .read_buf(&mut input)
                .await
                .map_err(|source| WireError::Lost { address: self.address.clone(), source })?;
            if count == 0 {
                return Err(WireError::Closed { address: self.address.clone() });
            }
            self.reads.set(self.reads.get() + 1);
            let mut at = 0;
            while let Some(length) = scanner
                .scan(&input[at..])
                .map_err(|source| WireError::Frame { address: self.address.clone(), source })?
            {
                let answer = &input[at..at + length];
                at += length;
                if answer.first() == Some(&b'>') {
                    continue;
                }
                let waiting = {
                    let mut state = self.state.borrow_mut();
                    state.sent = state.sent.saturating_sub(1);
                    state.queue.pop_front()
                };
                match waiting {
                    Some(Waiting::Entry(entry)) => backend.answered(entry, answer, &self.address),
                    Some(Waiting::Nobody) => {}
                    None => return Err(WireError::Closed { address: self.address.clone() }),
                }
            }
            input.advance(at);
            if input.is_empty() && input.capacity() > KEEP_BYTES {
                input = BytesMut::new();
            }
            if self.is_over() {
                return Ok(());
            }
        }
    }

    /// Gives up a server that leaves everything unanswered, and looks for another one before that.
    async fn watch(&self, backend: &Rc<Backend>) -> Result<(), WireError> {
        let after = backend.limits().answer_within;
        let mut beat = interval(after / LOOKS);
        let (mut seen, mut strikes) = (self.reads.get(), 0);
        loop {
            beat.tick().await;
            if self.state.borrow().sent == 0 || self.reads.get() != seen {
                (seen, strikes) = (self.reads.get(), 0);
                continue;
            }
            strikes += 1;
            backend.look();
            if strikes > LOOKS {
                return Err(WireError::Silent { address: self.address.clone(), after });
            }
        }
    }
}
