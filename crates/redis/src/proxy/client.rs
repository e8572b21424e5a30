//! A client's answers: put in the order of its commands, and written as fast as it takes them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::task::yield_now;

use super::merge::Gather;
use super::wire::{Proto, Writer};
use super::worker::Worker;

/// An answer that still has others before it, or has not come.
enum Pending {
    Waiting,
    /// A short answer, which most are, without memory of its own.
    Short(u8, [u8; SHORT_BYTES]),
    Ready(Bytes),
    Gather(Box<Gather>),
}

const SHORT_BYTES: usize = 30;
/// Window of a new client, and what a window grows or shrinks from.
const WINDOW_START: usize = 128;
/// A buffer that once was larger is given back.
const KEEP_BYTES: usize = 64 << 10;

/// Turns of all other tasks, and looks at all sockets, that few answers may wait for those that follow.
const TURNS: usize = 4;

struct Answers {
    /// Number of the command at the front of `pending`.
    first: u64,
    pending: VecDeque<Pending>,
    /// Commands or parts of them that have been sent on.
    in_flight: usize,
    /// Commands that wait to be sent again.
    held: usize,
    /// What goes out next.
    out: BytesMut,
    /// Bytes of answers here: in `out`, in `pending`, and being written.
    bytes: usize,
    /// Commands that may be in flight: fewer where answers are long.
    window: usize,
    /// Answers and their bytes since the window was last set.
    seen: (usize, usize),
}

/// A client, as those that have answers for it see it.
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) worker: Rc<Worker>,
    pub(crate) proto: Cell<Proto>,
    answers: RefCell<Answers>,
    closed: Cell<bool>,
    write_wake: Notify,
    told: Cell<bool>,
    /// Tells the reader that it may go on.
    progress: Notify,
    /// Tells the reader that the client is gone.
    gone: Notify,
}

impl Client {
    pub(crate) fn new(id: u64, worker: Rc<Worker>) -> Rc<Self> {
        Rc::new(Self {
            id,
            worker,
            proto: Cell::new(Proto::Two),
            answers: RefCell::new(Answers {
                first: 0,
                pending: VecDeque::new(),
                in_flight: 0,
                held: 0,
                out: BytesMut::new(),
                bytes: 0,
                window: WINDOW_START,
                seen: (0, 0),
            }),
            closed: Cell::new(false),
            write_wake: Notify::new(),
            told: Cell::new(false),
            progress: Notify::new(),
            gone: Notify::new(),
        })
    }

    /// A place for the answer of a command that is sent on: its number.
    pub(crate) fn expect(&self) -> u64 {
        self.worker.begin(1);
        let mut answers = self.answers.borrow_mut();
        answers.in_flight += 1;
        answers.pending.push_back(Pending::Waiting);
        answers.first + answers.pending.len() as u64 - 1
    }

    /// A place for the answer of a command that is sent on in parts: its number.
    pub(crate) fn expect_parts(&self, gather: Gather, parts: usize) -> u64 {
        self.worker.begin(parts);
        let mut answers = self.answers.borrow_mut();
        answers.in_flight += parts;
        answers.pending.push_back(Pending::Gather(Box::new(gather)));
        answers.first + answers.pending.len() as u64 - 1
    }

    /// An answer of our own, after all that are still to come.
    pub(crate) fn answer(&self, answer: &[u8]) {
        let mut answers = self.answers.borrow_mut();
        answers.bytes += answer.len();
        self.worker.buffer(answer.len(), 0);
        if answers.pending.is_empty() {
            answers.out.extend_from_slice(answer);
            answers.first += 1;
            drop(answers);
            self.tell();
        } else {
            answers.pending.push_back(ready(answer));
        }
    }

    /// A message that answers nothing, between two answers.
    pub(crate) fn push(&self, message: &[u8]) {
        if self.closed.get() {
            return;
        }
        let mut answers = self.answers.borrow_mut();
        answers.bytes += message.len();
        answers.out.extend_from_slice(message);
        drop(answers);
        self.worker.buffer(message.len(), 0);
        self.tell();
    }

    /// Takes the answer to a command, or to a part of one. This is the only end of a command that was sent on.
    pub(crate) fn deliver(&self, number: u64, part: u32, answer: &[u8]) {
        self.worker.end();
        let mut answers = self.answers.borrow_mut();
        let answers = &mut *answers;
        answers.in_flight = answers.in_flight.saturating_sub(1);
        if self.closed.get() {
            return;
        }
        if answers.bytes > self.worker.limits.output_bytes_max || (answers.bytes > KEEP_BYTES && self.worker.is_full())
        {
            self.worker.metrics.cut_off.fetch_add(1, Relaxed);
            self.closed.set(true);
            self.gone.notify_one();
            self.progress.notify_one();
            self.write_wake.notify_one();
            return;
        }
        let index = usize::try_from(number.saturating_sub(answers.first)).unwrap_or(usize::MAX);
        let merged;
        let answer = match answers.pending.get_mut(index) {
            None => return,
            Some(Pending::Gather(gather)) => {
                if !gather.put(part as usize, Bytes::copy_from_slice(answer)) {
                    return;
                }
                match mem::replace(&mut answers.pending[index], Pending::Waiting) {
                    Pending::Gather(gather) => merged = gather.merged(number as usize),
                    _ => return,
                }
                &merged[..]
            }
            Some(_) => answer,
        };
        answers.bytes += answer.len();
        self.worker.buffer(answer.len(), 0);
        answers.seen.0 += 1;
        answers.seen.1 += answer.len();
        if index > 0 {
            answers.pending[index] = ready(answer);
        } else {
            answers.out.extend_from_slice(answer);
            answers.pending.pop_front();
            answers.first += 1;
            loop {
                match answers.pending.front() {
                    Some(Pending::Short(length, bytes)) => {
                        answers.out.extend_from_slice(&bytes[..usize::from(*length)])
                    }
                    Some(Pending::Ready(bytes)) => answers.out.extend_from_slice(bytes),
                    _ => break,
                }
                answers.pending.pop_front();
                answers.first += 1;
            }
            self.tell();
        }
        if answers.seen.0 >= answers.window {
            answers.window = window(answers.window, answers.seen, &self.worker.limits);
            answers.seen = (0, 0);
        }
        self.progress.notify_one();
    }

    /// A command has to wait before it is sent again, or need not any more. Until then later ones do not overtake it.
    pub(crate) fn held(&self, held: bool) {
        let mut answers = self.answers.borrow_mut();
        answers.held = if held { answers.held + 1 } else { answers.held.saturating_sub(1) };
        drop(answers);
        self.progress.notify_one();
    }

    /// Whether one more command may be sent on.
    pub(crate) fn has_room(&self) -> bool {
        let answers = self.answers.borrow();
        answers.in_flight < answers.window && answers.held == 0 && answers.bytes <= self.worker.limits.output_bytes_soft
    }

    /// Waits until one more command may be sent on, or the client is gone.
    pub(crate) async fn room(&self) {
        while !self.closed.get() && !self.has_room() {
            self.progress.notified().await;
        }
    }

    /// Waits until every command has been answered, or the client is gone.
    pub(crate) async fn drained(&self) {
        while !self.closed.get() && !self.answers.borrow().pending.is_empty() {
            self.progress.notified().await;
        }
    }

    /// Whether its answers wait for it.
    pub(crate) fn is_slow(&self) -> bool {
        self.answers.borrow().bytes > self.worker.limits.output_bytes_soft
    }

    /// Waits until it has taken its answers, or is gone.
    pub(crate) async fn caught_up(&self) {
        while !self.closed.get() && self.is_slow() {
            self.progress.notified().await;
        }
    }

    /// Whether it is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Waits until it is gone.
    pub(crate) async fn gone(&self) {
        while !self.closed.get() {
            self.gone.notified().await;
        }
    }

    /// Ends it; what is still to come is dropped.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        let mut answers = self.answers.borrow_mut();
        self.worker.buffer(0, mem::take(&mut answers.bytes));
        answers.pending.clear();
        answers.out = BytesMut::new();
        drop(answers);
        self.gone.notify_one();
        self.write_wake.notify_one();
        self.progress.notify_one();
    }

    fn tell(&self) {
        if !self.told.replace(true) {
            self.write_wake.notify_one();
        }
    }

    /// Writes answers until the client is gone, or, after `last`, until all are written.
    pub(crate) async fn write(&self, mut writer: Writer, last: Rc<Cell<bool>>) {
        let mut chunk = BytesMut::new();
        loop {
            for _ in 0..TURNS {
                if !self.has_more_soon() {
                    break;
                }
                yield_now().await;
            }
            mem::swap(&mut chunk, &mut self.answers.borrow_mut().out);
            if chunk.is_empty() {
                if self.closed.get() || last.get() {
                    let _ = writer.shutdown().await;
                    return;
                }
                self.write_wake.notified().await;
                self.told.set(false);
                continue;
            }
            let written = tokio::select! {
                written = async { writer.write_all(&chunk).await.and(writer.flush().await) } => written,
                () = self.gone_for_writer() => return,
            };
            if written.is_err() {
                self.close();
                return;
            }
            {
                let mut answers = self.answers.borrow_mut();
                let written = chunk.len().min(answers.bytes);
                answers.bytes -= written;
                self.worker.buffer(0, written);
            }
            self.progress.notify_one();
            if chunk.capacity() > KEEP_BYTES {
                chunk = BytesMut::new();
            }
            chunk.clear();
        }
    }

    /// Whether a few answers are here, and the next ones are on their way from other servers: one write for all of them costs
    /// less than one for each.
    fn has_more_soon(&self) -> bool {
        let answers = self.answers.borrow();
        !answers.out.is_empty() && answers.out.len() < KEEP_BYTES / 4 && !answers.pending.is_empty()
    }

    async fn gone_for_writer(&self) {
        while !self.closed.get() {
            self.write_wake.notified().await;
            // Answers that came meanwhile are found when this chunk is written.
            self.told.set(false);
        }
    }

    /// Tells the writer to look whether it may end.
    pub(crate) fn finish(&self) {
        self.write_wake.notify_one();
    }
}

fn ready(answer: &[u8]) -> Pending {
    if answer.len() > SHORT_BYTES {
        return Pending::Ready(Bytes::copy_from_slice(answer));
    }
    let mut bytes = [0; SHORT_BYTES];
    bytes[..answer.len()].copy_from_slice(answer);
    Pending::Short(answer.len() as u8, bytes)
}

/// The next window: what fits the soft limit of bytes at the size that answers have, changed by a factor of two at most.
fn window(window: usize, (answers, bytes): (usize, usize), limits: &super::limits::Limits) -> usize {
    let fits = limits.output_bytes_soft / (bytes / answers.max(1)).max(1);
    fits.clamp(window / 2, window * 2).clamp(1, limits.in_flight_max)
}

#[cfg(test)]
mod tests {
    use super::super::limits::Limits;

    /// Short answers widen the window up to the limit, long ones narrow it to one.
    #[test]
    fn windows() {
        let limits = Limits::default();
        let mut window = super::WINDOW_START;
        for _ in 0..10 {
            window = super::window(window, (window, window * 10), &limits);
        }
        assert_eq!(window, limits.in_flight_max);
        for _ in 0..20 {
            window = super::window(window, (window, window << 20), &limits);
        }
        assert_eq!(window, 1);
    }
}
