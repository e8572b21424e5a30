//! Configuration, with the formulas that its numbers go into.

use std::net::SocketAddr;
use std::time::Duration;

use crate::directory::Directory;
use crate::limits::{LABEL_BYTES_MAX, META_BYTES_MAX, NAME_BYTES_MAX, USER_EVENT_BYTES_MAX};
use crate::wire::{Envelope, Tags, encode_tags, is_unusable};

/// Why a configuration is refused. The fault is the caller's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The name is empty or longer than 255 bytes.
    #[error("node name of {0} bytes, allowed are 1 to {NAME_BYTES_MAX}")]
    Name(usize),
    /// The address is none that others can reach.
    #[error("address {0} cannot be reached by others")]
    Address(SocketAddr),
    /// The label is longer than 255 bytes.
    #[error("label of {0} bytes, allowed are {LABEL_BYTES_MAX}")]
    Label(usize),
    /// The encoded tags are longer than 512 bytes.
    #[error("tags of {0} encoded bytes, allowed are {META_BYTES_MAX}")]
    Tags(usize),
    /// An interval or timeout is zero, or a count that has to be at least one.
    #[error("{0} must be more than zero")]
    Zero(&'static str),
    /// The limit of user events is over 9 KiB.
    #[error("user event limit of {0} bytes, allowed are {USER_EVENT_BYTES_MAX}")]
    UserEvents(usize),
}

/// Settings of one node. The defaults suit a local network; see [`Config::lan`].
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Name, unique in the cluster, 1 to 255 bytes.
    pub name: String,
    /// Where others reach us, UDP and TCP alike.
    pub address: SocketAddr,
    /// Tags at the start; at most 512 bytes encoded.
    pub tags: Tags,
    /// Label, keys, compression.
    pub envelope: Envelope,
    /// Incarnation to start with. A returning node has to beat what the others remember of it, so hand in
    /// `max(last persisted + 1, seconds since 1970)`. Default: 1, as Serf's, which has to be refuted first.
    pub incarnation: u32,
    /// Where names and what nodes say of themselves are kept. Machines of one process that are handed the same one
    /// share what is equal; otherwise it changes nothing. Default: one of its own.
    pub directory: Directory,
    /// Addresses that are tried for ever while no living member is there, as `--join` gave them.
    pub seeds: Vec<SocketAddr>,

    /// Time between two rounds; each probes the next member. Default: 500 ms (Serf: 1 s): a member is probed
    /// twice a second on average by somebody.
    pub probe_interval: Duration,
    /// Longest time for a direct ack before others are asked; measured round trips shorten it to
    /// `max(50 ms, 4 × median)`. Default: 300 ms (Serf: 500 ms, not shortened).
    pub probe_timeout: Duration,
    /// Time after which a probe has failed, scaled by local health: `probe_deadline × (score + 1)`.
    /// Default: 1 s, so that nacks of Serf peers, which come after 500 ms, are not missed.
    pub probe_deadline: Duration,
    /// Members asked to probe for us. Default: 3.
    pub indirect_checks: usize,
    /// Whether a failed probe is tried over TCP too. Default: yes.
    pub tcp_checks: bool,
    /// Neighbours (by order of names) that are pinged every `watch_interval` besides the rounds, so that each
    /// member has as many watchers. A missing ack starts a full probe, never a suspicion. Default: 2; 0 is off.
    pub watch_neighbours: usize,
    /// Time between two pings to each watched neighbour. Default: 400 ms.
    pub watch_interval: Duration,
    /// Whether round trips are measured and network coordinates learned from them. Default: yes. Off, each member
    /// takes 60 bytes less, and an ack is always given the whole `probe_timeout`. Source: Serf `disable_coordinates`.
    pub coordinates: bool,
    /// Highest factor of local health. Default: 8.
    pub awareness_max: u32,

    /// Shortest suspicion is `suspicion_mult × max(1, log10(n)) × probe_interval`. Default: 3 (Serf: 4):
    /// a suspect is probed all the while, so it has more chances to refute than with Serf in twice the time.
    pub suspicion_mult: u32,
    /// Longest suspicion is `suspicion_max_mult` times the shortest. With `c` of `confirmations` it lasts
    /// `max − (max − min) × log(c + 1) / log(confirmations + 1)`. Default: 6.
    pub suspicion_max_mult: u32,
    /// Independent suspicions that bring the time down to the shortest. Default: 2; none are waited for in a
    /// cluster too small to give them.
    pub confirmations: u32,
    /// Time between probes of a suspect by those that suspect or watch it. Default: 500 ms; each carries the
    /// suspicion, so a living suspect refutes it. Zero is off, as Serf has it.
    pub suspect_probe_interval: Duration,
    /// How long a suspect has left once two members had their TCP connection refused by it. Default: 100 ms.
    pub refused_grace: Duration,

    /// Time between two sendings of news. Default: 100 ms (Serf: 200 ms); nothing is sent without news.
    pub gossip_interval: Duration,
    /// Members that news is sent to each time. Default: 3.
    pub gossip_nodes: usize,
    /// How long the dead are told news, so that they can refute; also how long their death is told to others.
    /// Default: 30 s.
    pub gossip_to_the_dead: Duration,
    /// News is sent `retransmit_mult × ceil(log10(n + 1))` times by each. Default: 6 (Serf: 4): of 50 members
    /// one misses a piece of news once in 3,000 times instead of once in 60, and waits for an exchange of states.
    pub retransmit_mult: u32,

    /// Time between two exchanges of whole states. Over 32 members it is
    /// `push_pull_interval × (ceil(log2(n) − log2(32)) + 1)`. Default: 30 s.
    pub push_pull_interval: Duration,
    /// Longest time for a stream, connecting included. Default: 10 s.
    pub stream_timeout: Duration,

    /// Time between attempts to reach a failed, left or former member, or a seed. Each time with probability
    /// `candidates / alive`. Never given up. Default: 10 s (Serf: 30 s, for 24 h).
    pub reconnect_interval: Duration,
    /// Time between clean-ups. Default: 15 s.
    pub reap_interval: Duration,
    /// How long failed members are listed. Default: 24 h.
    pub failed_kept: Duration,
    /// How long left members are listed. Default: 24 h.
    pub left_kept: Duration,
    /// How long a failed member is listed whose address another has taken. Default: 5 min.
    pub superseded_kept: Duration,
    /// How long intents for names that are not members are kept. Default: 5 min.
    pub intents_kept: Duration,

    /// Returns after failure within `flap_window` that put a member in quarantine. Default: 3.
    pub flap_limit: u32,
    /// See `flap_limit`. Default: 10 min.
    pub flap_window: Duration,
    /// Quarantine lasts `flap_quarantine × 2^(returns − flap_limit)`, an hour at most. Default: 5 min.
    pub flap_quarantine: Duration,

    /// How long we wait for our leave to be sent out. Default: 5 s.
    pub broadcast_timeout: Duration,
    /// How long we stay after that, to answer probes while the news travels. Default: 1 s.
    pub leave_delay: Duration,
    /// Queries without a timeout run `gossip interval of Serf (200 ms) × query_timeout_mult × ceil(log10(n + 1))`.
    /// Default: 16.
    pub query_timeout_mult: u32,
    /// Largest query, encoded, in bytes. Default: 1024.
    pub query_bytes_max: usize,
    /// Largest query response, encoded, in bytes. Default: 1024.
    pub response_bytes_max: usize,
    /// Largest user event of ours, encoded, in bytes. Default: 512.
    pub user_event_bytes_max: usize,
}

impl Config {
    /// Defaults for a local network.
    pub fn lan(name: &str, address: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            address,
            tags: Tags::new(),
            envelope: Envelope::default(),
            incarnation: 1,
            directory: Directory::new(),
            seeds: Vec::new(),
            probe_interval: Duration::from_millis(500),
            probe_timeout: Duration::from_millis(300),
            probe_deadline: Duration::from_secs(1),
            indirect_checks: 3,
            tcp_checks: true,
            watch_neighbours: 2,
            watch_interval: Duration::from_millis(400),
            coordinates: true,
            awareness_max: 8,
            suspicion_mult: 3,
            suspicion_max_mult: 6,
            confirmations: 2,
            suspect_probe_interval: Duration::from_millis(500),
            refused_grace: Duration::from_millis(100),
            gossip_interval: Duration::from_millis(100),
            gossip_nodes: 3,
            gossip_to_the_dead: Duration::from_secs(30),
            retransmit_mult: 6,
            push_pull_interval: Duration::from_secs(30),
            stream_timeout: Duration::from_secs(10),
            reconnect_interval: Duration::from_secs(10),
            reap_interval: Duration::from_secs(15),
            failed_kept: Duration::from_secs(24 * 3600),
            left_kept: Duration::from_secs(24 * 3600),
            superseded_kept: Duration::from_secs(300),
            intents_kept: Duration::from_secs(300),
            flap_limit: 3,
            flap_window: Duration::from_secs(600),
            flap_quarantine: Duration::from_secs(300),
            broadcast_timeout: Duration::from_secs(5),
            leave_delay: Duration::from_secs(1),
            query_timeout_mult: 16,
            query_bytes_max: 1024,
            response_bytes_max: 1024,
            user_event_bytes_max: 512,
        }
    }

    /// Checks the settings.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if !(1..=NAME_BYTES_MAX).contains(&self.name.len()) {
            return Err(ConfigError::Name(self.name.len()));
        }
        if is_unusable(self.address) {
            return Err(ConfigError::Address(self.address));
        }
        if self.envelope.label.len() > LABEL_BYTES_MAX {
            return Err(ConfigError::Label(self.envelope.label.len()));
        }
        check_tags(&self.tags).map_err(ConfigError::Tags)?;
        if self.user_event_bytes_max > USER_EVENT_BYTES_MAX {
            return Err(ConfigError::UserEvents(self.user_event_bytes_max));
        }
        let needed = [
            ("probe_interval", self.probe_interval),
            ("probe_timeout", self.probe_timeout),
            ("probe_deadline", self.probe_deadline),
            ("watch_interval", self.watch_interval),
            ("gossip_interval", self.gossip_interval),
            ("push_pull_interval", self.push_pull_interval),
            ("stream_timeout", self.stream_timeout),
            ("reconnect_interval", self.reconnect_interval),
            ("reap_interval", self.reap_interval),
        ];
        match needed.iter().find(|(_, value)| value.is_zero()) {
            Some((field, _)) => Err(ConfigError::Zero(field)),
            None if self.awareness_max == 0 => Err(ConfigError::Zero("awareness_max")),
            None => Ok(()),
        }
    }
}

/// Whether tags fit; the error is their encoded length.
pub(crate) fn check_tags(tags: &Tags) -> Result<(), usize> {
    let length = encode_tags(tags).len();
    if length > META_BYTES_MAX { Err(length) } else { Ok(()) }
}
