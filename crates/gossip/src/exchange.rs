//! Streams: the exchange of whole states (push/pull), joins, and pings over TCP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::directory::Name;
use crate::event::{Event, Status};
use crate::gossip::Gossip;
use crate::io::{CommandError, Output, StreamEnd, StreamId};
use crate::leave::Phase;
use crate::limits::{SEEDS_MAX, STREAM_BYTES_TOTAL_MAX, STREAMS_MAX};
use crate::record::Record;
use crate::time::Time;
use crate::timers::Timer;
use crate::wire::{
    Ack, Dead, ErrorReply, Exchange, Feed, LeaveIntent, StateCode, StateRef, StreamBuffer, StreamMessage, Suspect,
    UserEvent, WireError, encode_state, is_unusable, push_pull_header, push_pull_node,
};

/// An exchange out of turn comes this long after news was dropped, so that most of what comes at once is in it, and at a
/// random time within [`CATCH_UP_SPREAD`] more.
const CATCH_UP_AFTER: Duration = Duration::from_secs(3);
const CATCH_UP_SPREAD: Duration = Duration::from_secs(6);

/// Exchanges out of turn after news was dropped last, as long as each brings news: where there is always some, they end, too.
const CATCH_UPS_MAX: u8 = 6;

/// Members up to which states are exchanged at the plain interval. Source: memberlist `pushPullScaleThreshold`.
const SCALE_FROM: f64 = 32.0;

/// A state of so many members, when it is the first that one hears, is not news to be told: a newcomer to 10,000
/// would send each of them 30 times. A smaller one is told all the same, for the sake of one that joins two clusters.
const UNTOLD_FROM: usize = 128;

/// What a stream is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The peer opened it.
    Accepted { from: SocketAddr },
    /// To exchange states with a member.
    PushPull { with: SocketAddr },
    /// To meet the cluster, as the caller asked.
    Join { at: SocketAddr, ignore_old_events: bool },
    /// To meet one that was lost.
    Reconnect { at: SocketAddr },
    /// A probe over TCP.
    Ping { seq: u32 },
    /// To see whether the connection is refused.
    Verify { name: Name, incarnation: u32 },
}

#[derive(Debug)]
struct Stream {
    purpose: Purpose,
    buffer: StreamBuffer,
}

/// Streams that are open, bounded in number and in bytes held.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    streams: BTreeMap<StreamId, Stream>,
    opened: u64,
    bytes: usize,
}

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Forgets all; gives their ids.
    pub(crate) fn clear(&mut self) -> Vec<StreamId> {
        self.bytes = 0;
        std::mem::take(&mut self.streams).into_keys().collect()
    }

    pub(crate) fn is_verifying(&self, wanted: &Name) -> bool {
        self.streams.values().any(|s| matches!(&s.purpose, Purpose::Verify { name, .. } if *name == *wanted))
    }

    fn is_meeting(&self, address: SocketAddr) -> bool {
        self.streams.values().any(|stream| match stream.purpose {
            Purpose::Join { at, .. } | Purpose::Reconnect { at } | Purpose::PushPull { with: at } => at == address,
            _ => false,
        })
    }

    fn remove(&mut self, id: StreamId) -> Option<Purpose> {
        let stream = self.streams.remove(&id)?;
        self.bytes -= stream.buffer.len();
        Some(stream.purpose)
    }
}

impl Gossip {
    /// Asks for a connection and sends a message on it. `None` when as many as may be are open.
    pub(crate) fn open_stream(
        &mut self,
        to: SocketAddr,
        message: &[u8],
        purpose: Purpose,
        deadline: Time,
    ) -> Option<StreamId> {
        if self.streams.len() >= STREAMS_MAX {
            return None;
        }
        self.streams.opened += 1;
        let stream = StreamId::opened(self.streams.opened);
        self.streams.streams.insert(stream, Stream { purpose, buffer: StreamBuffer::default() });
        let bytes = self.config.envelope.seal_stream(message, &mut self.rng);
        self.put(Output::Open { stream, to, bytes, deadline });
        self.timers.set(deadline, Timer::Stream(stream));
        Some(stream)
    }

    pub(crate) fn close_stream(&mut self, stream: StreamId) {
        if self.streams.remove(stream).is_some() {
            self.put(Output::Close { stream });
        }
    }

    pub(crate) fn on_stream_accepted(&mut self, stream: StreamId, from: SocketAddr) {
        if self.streams.len() >= STREAMS_MAX || self.streams.streams.contains_key(&stream) {
            self.drop_message(from, "too many streams");
            self.put(Output::Close { stream });
            return;
        }
        let accepted = Stream { purpose: Purpose::Accepted { from }, buffer: StreamBuffer::default() };
        self.streams.streams.insert(stream, accepted);
        self.timers.set(self.now + self.config.stream_timeout, Timer::Stream(stream));
    }

    pub(crate) fn on_stream_data(&mut self, id: StreamId, bytes: &[u8]) {
        let Some(stream) = self.streams.streams.get_mut(&id) else { return };
        let before = stream.buffer.len();
        let fed = if self.streams.bytes + bytes.len() > STREAM_BYTES_TOTAL_MAX {
            Err(WireError::Limit { what: "all streams", limit: STREAM_BYTES_TOTAL_MAX })
        } else {
            stream.buffer.feed(bytes, &self.config.envelope)
        };
        self.streams.bytes += stream.buffer.len() - before;
        match fed {
            Ok(Feed::More) => {}
            Ok(Feed::Message(message)) => {
                if let Some(purpose) = self.streams.remove(id) {
                    self.on_stream_message(id, purpose, message);
                    self.put(Output::Close { stream: id });
                }
            }
            Err(error) => {
                let Some(purpose) = self.streams.remove(id) else { return };
                if let Purpose::Accepted { from } = purpose {
                    // As memberlist does: the other end logs why.
                    let reply = ErrorReply { error: error.to_string() }.encode();
                    let bytes = self.config.envelope.seal_stream(&reply, &mut self.rng);
                    self.put(Output::Write { stream: id, bytes });
                    self.drop_message(from, error);
                } else {
                    self.on_stream_failed(purpose, StreamEnd::Failed, &error.to_string());
                }
                self.put(Output::Close { stream: id });
            }
        }
    }

    pub(crate) fn on_stream_ended(&mut self, stream: StreamId, end: StreamEnd) {
        if let Some(purpose) = self.streams.remove(stream) {
            let reason = match end {
                StreamEnd::Closed => "connection closed",
                StreamEnd::Refused => "connection refused",
                StreamEnd::Failed => "connection failed",
            };
            self.on_stream_failed(purpose, end, reason);
        }
    }

    pub(crate) fn on_stream_timeout(&mut self, stream: StreamId) {
        if let Some(purpose) = self.streams.remove(stream) {
            self.put(Output::Close { stream });
            self.on_stream_failed(purpose, StreamEnd::Failed, "timed out");
        }
    }

    fn on_stream_failed(&mut self, purpose: Purpose, end: StreamEnd, reason: &str) {
        match purpose {
            Purpose::Accepted { .. } => {}
            Purpose::PushPull { with } => {
                if end == StreamEnd::Refused {
                    self.on_port_unreachable(with);
                }
            }
            Purpose::Join { at, .. } => {
                self.seeds.tried(at, false, self.config.reconnect_interval, self.now);
                self.emit(Event::JoinFailed { address: at, reason: reason.to_owned() });
            }
            Purpose::Reconnect { at } => self.seeds.tried(at, false, self.config.reconnect_interval, self.now),
            Purpose::Ping { seq } => {
                if end == StreamEnd::Refused {
                    self.on_tcp_ping_refused(seq);
                }
            }
            Purpose::Verify { name, incarnation } => {
                if end == StreamEnd::Refused {
                    let from = self.config.name.clone();
                    self.on_suspect(Suspect { incarnation, node: name.as_str().to_owned(), from, refused: true });
                }
            }
        }
    }

    fn on_stream_message(&mut self, id: StreamId, purpose: Purpose, message: StreamMessage) {
        match (purpose, message) {
            (Purpose::Accepted { from }, StreamMessage::Ping(ping)) => {
                if !ping.node.is_empty() && !self.is_me(&ping.node) {
                    self.drop_message(from, "ping for another node");
                    return;
                }
                let ack = Ack { seq: ping.seq, payload: Vec::new() }.encode();
                let bytes = self.config.envelope.seal_stream(&ack, &mut self.rng);
                self.put(Output::Write { stream: id, bytes });
            }
            (Purpose::Accepted { .. }, StreamMessage::PushPull(state)) => {
                let ours = self.local_state(state.join);
                let bytes = self.config.envelope.seal_stream(&ours, &mut self.rng);
                self.put(Output::Write { stream: id, bytes });
                self.merge(&state, false);
            }
            (Purpose::Accepted { from }, StreamMessage::User(message)) => {
                if let Err(error) = self.on_user_message(&message) {
                    self.drop_message(from, error);
                }
            }
            (Purpose::PushPull { .. }, StreamMessage::PushPull(state)) => self.merge(&state, false),
            (Purpose::Reconnect { at }, StreamMessage::PushPull(state)) => {
                self.seeds.tried(at, true, self.config.reconnect_interval, self.now);
                self.merge(&state, false);
            }
            (Purpose::Join { at, ignore_old_events }, StreamMessage::PushPull(state)) => {
                self.seeds.tried(at, true, self.config.reconnect_interval, self.now);
                self.merge(&state, ignore_old_events);
                self.announce_join();
                self.emit(Event::Joined { address: at });
            }
            (Purpose::Ping { seq }, StreamMessage::Ack(ack)) if ack.seq == seq => self.on_tcp_ping_answered(seq),
            (Purpose::Verify { .. }, StreamMessage::Ack(_)) => {}
            (purpose, StreamMessage::Error(error)) => {
                self.on_stream_failed(purpose, StreamEnd::Failed, &error.error);
            }
            (purpose, _) => self.on_stream_failed(purpose, StreamEnd::Failed, "unexpected message"),
        }
    }

    pub(crate) fn on_join(&mut self, addresses: Vec<SocketAddr>, ignore_old_events: bool) {
        if !self.is_running() {
            return self.reject(CommandError::Left);
        }
        for at in addresses.into_iter().take(SEEDS_MAX) {
            if is_unusable(at) {
                self.emit(Event::JoinFailed { address: at, reason: "address cannot be reached".to_owned() });
                continue;
            }
            self.seeds.insert_fixed(at, &mut self.rng);
            if !self.meet(at, Purpose::Join { at, ignore_old_events }) {
                self.emit(Event::JoinFailed { address: at, reason: "too many streams".to_owned() });
            }
        }
        self.changed();
    }

    fn meet(&mut self, at: SocketAddr, purpose: Purpose) -> bool {
        let join = !matches!(purpose, Purpose::PushPull { .. });
        let state = self.local_state(join);
        self.open_stream(at, &state, purpose, self.now + self.config.stream_timeout).is_some()
    }

    pub(crate) fn on_push_pull_due(&mut self) {
        // `interval × (ceil(log2(n) − log2(32)) + 1)` over 32 members. Source: memberlist `pushPullScale`.
        let members = self.members.living() as f64;
        let scale = if members <= SCALE_FROM { 1.0 } else { (members / SCALE_FROM).log2().ceil() + 1.0 };
        let interval = self.config.push_pull_interval.mul_f64(scale);
        self.timers.set(self.now + interval, Timer::PushPull);
        self.exchange_with_one();
    }

    /// Sets the time of an exchange out of turn when queues had no room for news. In a cluster of thousands that starts within
    /// seconds each node drops a part of it, and the next exchange in turn is minutes away.
    pub(crate) fn arm_catching_up(&mut self) {
        if !self.catching_up && self.take_overflows() {
            self.catch_ups_left = CATCH_UPS_MAX;
            self.set_catch_up();
        }
    }

    fn set_catch_up(&mut self) {
        self.catching_up = true;
        let at = self.now + CATCH_UP_AFTER + self.rng.within(CATCH_UP_SPREAD);
        self.timers.set(at, Timer::CatchUp);
    }

    /// Whether news that an exchange would carry was dropped.
    fn take_overflows(&mut self) -> bool {
        [&mut self.news, &mut self.intents, &mut self.events]
            .into_iter()
            .fold(false, |lost, queue| queue.take_overflow() | lost)
    }

    pub(crate) fn on_catch_up(&mut self) {
        self.catching_up = false;
        self.catch_ups_left = self.catch_ups_left.saturating_sub(1);
        // What was dropped up to now is in the exchange.
        self.take_overflows();
        self.exchange_with_one();
    }

    fn exchange_with_one(&mut self) {
        let chosen = self.members.pick(1, &mut self.rng, |record| record.state == StateCode::Alive);
        if let Some(with) = chosen.first().map(|record| record.address()) {
            self.meet(with, Purpose::PushPull { with });
        }
    }

    /// Tries one that was lost: a failed or left member, or a seed where nobody lives that we know of.
    ///
    /// Each node does so with probability `candidates / living` each interval, so that the cluster tries each
    /// candidate about once an interval, however large it is. Serf stops when it has forgotten them all.
    pub(crate) fn on_reconnect(&mut self) {
        let jitter = self.rng.within(self.config.reconnect_interval / 4);
        self.timers.set(self.now + self.config.reconnect_interval + jitter, Timer::Reconnect);
        if !self.is_running() {
            return;
        }
        let (ours, members, streams) = (self.config.address, &self.members, &self.streams);
        let lost = |at: SocketAddr| {
            at != ours && !members.at_address(at).is_some_and(|m| m.is_living()) && !streams.is_meeting(at)
        };
        let wanted = self.seeds.count(lost);
        let mut due = self.seeds.due(self.now, lost);
        let mut failed: Vec<SocketAddr> =
            members.gone().filter(|m| m.status == Status::Failed && lost(m.address())).map(|m| m.address()).collect();
        failed.sort_unstable();
        due.extend(failed.into_iter().filter(|at| !self.seeds.contains(*at)));
        let others = members.living() - 1;
        if due.is_empty() || self.rng.below(others) >= wanted.max(due.len()) {
            return;
        }
        let at = due[self.rng.below(due.len())];
        self.reconnect_to(at);
    }

    pub(crate) fn reconnect_to(&mut self, at: SocketAddr) {
        self.meet(at, Purpose::Reconnect { at });
    }

    /// One that we think is gone speaks to us: we missed news. Half of the streams are kept for others.
    pub(crate) fn on_ping_from_lost(&mut self, at: SocketAddr) {
        if self.streams.len() < STREAMS_MAX / 2 && !self.streams.is_meeting(at) && self.is_running() {
            self.reconnect_to(at);
        }
    }

    /// All that we know, for another: a push/pull message.
    fn local_state(&self, join: bool) -> Vec<u8> {
        let (config, now) = (&self.config, self.now);
        let leaving = matches!(self.phase, Phase::Departing { .. } | Phase::Lingering);
        let all: Vec<&Record> = self.members.iter().collect();
        let left: Vec<&str> = all.iter().filter(|r| r.status == Status::Left).map(|r| r.name()).collect();
        let clocks = [self.clock.time(), self.event_clock.time(), self.query_clock.time()];
        let times = all.iter().map(|record| (record.name(), record.status_ltime));
        let user_state = encode_state(clocks, times, left.into_iter(), &self.recent_events.slots());
        let told = |record: &&&Record| !record.is_forgotten(config, now);
        let mut writer = push_pull_header(join, all.iter().filter(told).count(), user_state.len());
        for record in all.iter().filter(told) {
            let state = if leaving && self.is_me(record.name()) { StateCode::Left } else { record.state };
            push_pull_node(&mut writer, record.to_alive(), state);
        }
        writer.plain(&user_state);
        writer.finish()
    }

    /// Takes another's state in, as memberlist and Serf do.
    fn merge(&mut self, state: &Exchange, ignore_old_events: bool) {
        // Whoever is alone has nobody to pass it on to but those that it came from.
        self.untold = self.members.living() == 1 && state.count >= UNTOLD_FROM;
        let known = self.news.queued_ever();
        self.merge_nodes(state);
        self.untold = false;
        // Where one has brought what was missed, there may be more.
        if self.catch_ups_left > 0 && !self.catching_up && self.news.queued_ever() != known {
            self.set_catch_up();
        }
        match StateRef::decode(state.user_state()) {
            Ok(serf) => self.merge_serf(serf, ignore_old_events),
            // Plain memberlist without Serf sends nothing here.
            Err(_) if state.user_state().is_empty() => {}
            Err(error) => self.drop_message(self.config.address, error),
        }
    }

    fn merge_nodes(&mut self, state: &Exchange) {
        for (alive, state) in state.nodes() {
            let (incarnation, node) = (alive.incarnation, alive.node);
            match state {
                StateCode::Alive => self.on_alive(alive),
                StateCode::Left => {
                    self.on_dead(Dead { incarnation, node: node.to_owned(), from: node.to_owned() }, None);
                }
                // Another's word of a death is a suspicion to us, so that the living can refute.
                StateCode::Dead | StateCode::Suspect => {
                    let from = self.config.name.clone();
                    self.on_suspect(Suspect { incarnation, node: node.to_owned(), from, refused: false });
                }
            }
        }
    }

    fn merge_serf(&mut self, mut serf: StateRef<'_>, ignore_old_events: bool) {
        let [ltime, event_ltime, query_ltime] = serf.clocks;
        // No message of that time was sent yet.
        self.clock.witness(ltime.saturating_sub(1));
        self.event_clock.witness(event_ltime.saturating_sub(1));
        self.query_clock.witness(query_ltime.saturating_sub(1));
        if !serf.left.is_empty() {
            serf.status_ltimes.sort_unstable();
        }
        for node in serf.left {
            // The leave was later than the join whose time is told.
            let told = serf.status_ltimes.binary_search_by(|(name, _)| (*name).cmp(node));
            let ltime = told.map_or(0, |at| std::mem::take(&mut serf.status_ltimes[at].1)) + 1;
            self.on_leave_intent(&LeaveIntent { ltime, node: node.to_owned(), prune: false });
        }
        for (node, ltime) in serf.status_ltimes {
            self.on_join_intent(node, ltime);
        }
        if ignore_old_events {
            self.recent_events.min_ltime = self.recent_events.min_ltime.max(event_ltime);
        }
        for slot in serf.events {
            for event in slot.events {
                self.on_user_event(UserEvent {
                    ltime: slot.ltime,
                    name: event.name,
                    payload: event.payload,
                    coalesce: false,
                });
            }
        }
    }
}
