//! Queries: questions to the cluster, and answers to those of others.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use regex::RegexBuilder;

use crate::event::{Event, Status};
use crate::gossip::Gossip;
use crate::io::{CommandError, QueryRequest};
use crate::keys::KeyCount;
use crate::limits::{FILTER_REGEX_BYTES_MAX, QUERIES_RUNNING_MAX, QUERIES_WAITING_MAX, QUERY_RESPONDERS_MAX};
use crate::news::News;
use crate::time::Time;
use crate::timers::Timer;
use crate::wire::{
    FLAG_ACK, FLAG_NO_BROADCAST, Filter, Query, QueryResponse, RelayHeader, StateCode, is_unusable, user_message,
};

/// What Serf's default timeout is computed from.
const SERF_GOSSIP_INTERVAL: Duration = Duration::from_millis(200);
/// Longest that a query of another keeps a place here.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Queries whose name starts so are answered here.
const INTERNAL: &str = "_serf_";

/// What a query of ours is for.
#[derive(Debug)]
pub(crate) enum Asker {
    /// The caller's, by token.
    Caller(u64),
    /// A change or listing of keys.
    Keys(KeyCount),
    /// Which of two nodes with our name is to stay.
    Name { other: SocketAddr, answers: usize, ours: usize },
}

/// A query of ours that runs.
#[derive(Debug)]
pub(crate) struct Running {
    id: u32,
    asker: Asker,
    acked: BTreeSet<String>,
    answered: BTreeSet<String>,
}

impl Running {
    /// Whether it asks about our own name.
    pub(crate) fn is_name_vote(&self) -> bool {
        matches!(self.asker, Asker::Name { .. })
    }
}

/// A query of another that waits for our reply.
#[derive(Debug)]
pub(crate) struct Waiting {
    query: Query,
    deadline: Time,
}

impl Waiting {
    pub(crate) fn deadline(&self) -> Time {
        self.deadline
    }
}

impl Gossip {
    /// `200 ms × query_timeout_mult × ceil(log10(n + 1))`. Source: Serf `DefaultQueryTimeout`.
    fn query_timeout(&self) -> Duration {
        let scale = ((self.members.living() + 1) as f64).log10().ceil().max(1.0);
        (SERF_GOSSIP_INTERVAL * self.config.query_timeout_mult).mul_f64(scale)
    }

    pub(crate) fn on_ask(&mut self, request: QueryRequest) {
        let asker = Asker::Caller(request.token);
        if let Err(error) = self.ask(request, asker) {
            self.reject(error);
        }
    }

    /// Starts a query. State is unchanged on error.
    pub(crate) fn ask(&mut self, request: QueryRequest, asker: Asker) -> Result<(), CommandError> {
        if !self.is_running() {
            return Err(CommandError::Left);
        }
        if self.running.len() >= QUERIES_RUNNING_MAX {
            return Err(CommandError::TooMany { what: "queries", limit: QUERIES_RUNNING_MAX });
        }
        let timeout = request.timeout.unwrap_or_else(|| self.query_timeout());
        let query = Query {
            ltime: self.query_clock.time(),
            id: (self.rng.next_u64() >> 33) as u32,
            source: self.config.address,
            source_node: self.config.name.clone(),
            filters: Some(request.filters),
            flags: if request.ack { FLAG_ACK } else { 0 },
            relay_factor: request.relay_factor,
            timeout,
            name: request.name,
            payload: request.payload,
        };
        let message = query.encode();
        let limit = self.config.query_bytes_max;
        if message.len() > limit {
            return Err(CommandError::TooLong { what: "query", length: message.len(), limit });
        }
        self.query_clock.tick();
        let running = Running { id: query.id, asker, acked: BTreeSet::new(), answered: BTreeSet::new() };
        self.running.insert(query.ltime, running);
        self.timers.set(self.now + timeout, Timer::QueryEnd(query.ltime));
        self.on_query(query);
        self.queries.push(News::Plain(message.into()));
        Ok(())
    }

    /// A query came, from another or from us. Says whether to pass it on.
    pub(crate) fn on_query(&mut self, query: Query) -> bool {
        self.query_clock.witness(query.ltime);
        if !self.recent_queries.take(self.query_clock, query.ltime, query.id) {
            return false;
        }
        self.changed();
        let pass_on = query.flags & FLAG_NO_BROADCAST == 0;
        if !self.is_asked(&query) || is_unusable(query.source) {
            return pass_on;
        }
        if query.flags & FLAG_ACK != 0 {
            self.respond(&query, FLAG_ACK, Vec::new());
        }
        if let Some(name) = query.name.strip_prefix(INTERNAL) {
            let name = name.to_owned();
            if let Some(payload) = self.answer_internal(&name, &query) {
                self.respond(&query, 0, payload);
            }
            return pass_on;
        }
        let now = self.now;
        if self.waiting.len() >= QUERIES_WAITING_MAX {
            self.waiting.retain(|_, waiting| waiting.deadline > now);
        }
        if self.waiting.len() >= QUERIES_WAITING_MAX {
            self.drop_message(query.source, "too many queries wait for a reply");
            return pass_on;
        }
        self.serial += 1;
        let (id, deadline) = (self.serial, now + query.timeout.min(TIMEOUT_MAX));
        self.emit(Event::Query {
            id,
            ltime: query.ltime,
            name: query.name.clone(),
            payload: query.payload.clone(),
            from: query.source_node.clone(),
            deadline,
        });
        self.waiting.insert(id, Waiting { query, deadline });
        pass_on
    }

    /// Whether the filters choose us. One that is not understood chooses nobody.
    fn is_asked(&self, query: &Query) -> bool {
        let Some(filters) = &query.filters else { return false };
        filters.iter().all(|filter| match filter {
            Filter::Nodes(names) => names.contains(&self.config.name),
            Filter::Tag { tag, expr } => RegexBuilder::new(expr)
                .size_limit(FILTER_REGEX_BYTES_MAX)
                .dfa_size_limit(FILTER_REGEX_BYTES_MAX)
                .build()
                .is_ok_and(|regex| regex.is_match(self.config.tags.get(tag).map_or("", String::as_str))),
        })
    }

    fn answer_internal(&mut self, name: &str, query: &Query) -> Option<Vec<u8>> {
        match name {
            "conflict" => self.answer_conflict(&query.payload),
            // The ack, if one is wanted, is the answer.
            "ping" => None,
            _ => self.answer_keys(name, query),
        }
    }

    /// Sends an ack or answer, straight and through others as the query asks.
    fn respond(&mut self, query: &Query, flags: u32, payload: Vec<u8>) {
        let from = self.config.name.clone();
        let response = QueryResponse { ltime: query.ltime, id: query.id, from, flags, payload };
        if self.is_me(&query.source_node) && query.source == self.config.address {
            return self.on_query_response(response);
        }
        let message = response.encode();
        if query.relay_factor > 0 && self.members.len() > usize::from(query.relay_factor) {
            let relayed = RelayHeader { address: query.source, node: query.source_node.clone() }.encode(&message);
            if relayed.len() <= self.config.response_bytes_max {
                let through: Vec<SocketAddr> = self
                    .members
                    .pick(query.relay_factor.into(), &mut self.rng, |r| {
                        r.state == StateCode::Alive && r.takes_checksums()
                    })
                    .into_iter()
                    .map(|record| record.address())
                    .collect();
                for to in through {
                    self.send_plain(to, user_message(&relayed));
                }
            }
        }
        self.send_plain(query.source, user_message(&message));
    }

    pub(crate) fn on_reply(&mut self, id: u64, payload: Vec<u8>) {
        let now = self.now;
        let Some(Waiting { query, .. }) = self.waiting.remove(&id).filter(|waiting| waiting.deadline > now) else {
            return self.reject(CommandError::UnknownQuery(id));
        };
        let length = self.response_length(&query, &payload);
        let limit = self.config.response_bytes_max;
        if length > limit {
            self.reject(CommandError::TooLong { what: "query response", length, limit });
        } else {
            self.respond(&query, 0, payload);
        }
    }

    /// Encoded length of an answer.
    pub(crate) fn response_length(&self, query: &Query, payload: &[u8]) -> usize {
        let from = self.config.name.clone();
        QueryResponse { ltime: query.ltime, id: query.id, from, flags: 0, payload: payload.to_vec() }.encode().len()
    }

    /// An ack or answer to a query of ours. Each member counts once.
    pub(crate) fn on_query_response(&mut self, response: QueryResponse) {
        let Some(running) = self.running.get_mut(&response.ltime).filter(|r| r.id == response.id) else { return };
        let ack = response.flags & FLAG_ACK != 0;
        let known = if ack { &mut running.acked } else { &mut running.answered };
        if known.len() >= QUERY_RESPONDERS_MAX || !known.insert(response.from.clone()) {
            return;
        }
        let from = response.from;
        match &mut running.asker {
            Asker::Caller(token) => {
                let token = *token;
                self.emit(if ack {
                    Event::QueryAck { token, from }
                } else {
                    Event::QueryReply { token, from, payload: response.payload }
                });
            }
            Asker::Keys(count) if !ack => {
                if count.add(from, &response.payload) {
                    self.on_query_end(response.ltime);
                }
            }
            Asker::Name { answers, ours, .. } if !ack => {
                if let Ok(named) = crate::wire::ConflictMember::decode_address(&response.payload) {
                    *answers += 1;
                    *ours += usize::from(named == Some(self.config.address));
                }
            }
            Asker::Keys(_) | Asker::Name { .. } => {}
        }
    }

    /// A query of ours is over: its time, or all have answered.
    pub(crate) fn on_query_end(&mut self, ltime: u64) {
        let Some(running) = self.running.remove(&ltime) else { return };
        match running.asker {
            Asker::Caller(token) => self.emit(Event::QueryDone { token }),
            Asker::Keys(count) => self.emit(Event::KeysDone { token: count.token, report: count.report }),
            Asker::Name { other, answers, ours } => self.on_name_vote(other, answers, ours),
        }
    }

    /// Living members by Serf's count.
    pub(crate) fn alive_count(&self) -> usize {
        self.members.iter().filter(|record| record.is_living() && record.status != Status::Left).count()
    }
}
