//! What a proxy holds at most, and how long it waits.

use std::time::Duration;

/// Limits of a proxy. Each bounds memory or time that somebody else could take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Clients connected at the same time. Default 10,000, as in Redis. The next one is told so and closed.
    pub clients_max: usize,
    /// Bytes of one command. Default 512 MiB and 64 KiB: the largest value that Redis takes by itself, with its key.
    pub request_bytes_max: usize,
    /// Arguments of one command. Default 1 Mi, as in Redis.
    pub request_words_max: usize,
    /// Commands of one client that have been sent on and not answered. Default 1,024; more wait in its socket.
    pub in_flight_max: usize,
    /// Bytes of answers that wait for one client, from which on no more commands of it are read. Default 256 KiB.
    pub output_bytes_soft: usize,
    /// Bytes of answers that wait for one client, beyond which it is closed. One answer may go beyond. Default 256 MiB.
    pub output_bytes_max: usize,
    /// Bytes of half commands and waiting answers of all clients together; who asks for more is closed. Default 2 GiB.
    pub buffered_bytes_max: usize,
    /// Bytes of one answer of a server. Default 1 GiB.
    pub answer_bytes_max: usize,
    /// Commands between `MULTI` and `EXEC`. Default 65,536, and at most `request_bytes_max` bytes.
    pub transaction_max: usize,
    /// Channels and patterns of one client. Default 10,000.
    pub subscriptions_max: usize,
    /// Connections to one server for commands that need one of their own, for each thread. Default 10,000.
    pub dedicated_max: usize,
    /// How long a client may say nothing. `None`, the default: for ever, as in Redis. Not for subscribers.
    pub idle: Option<Duration>,
    /// How long a client may take to say the password. Default 10 s.
    pub login: Duration,
    /// How long a command that was certainly not carried out is tried again: no server, slot without owner, fail-over.
    /// Default 30 s, which is longer than a fail-over with the default node timeout.
    pub retry_for: Duration,
    /// Redirections of one command. Default 16; a settled cluster needs one.
    pub redirections_max: u8,
    /// How long a server may leave all its commands unanswered. Default 15 s. Blocking commands do not count.
    pub answer_within: Duration,
    /// How long connecting to a server may take. Default 2 s.
    pub connect_within: Duration,
    /// How long commands may be held by a switch. Default 30 s; then they go on to the old backend.
    pub pause_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients_max: 10_000,
            request_bytes_max: (512 << 20) + (64 << 10),
            request_words_max: 1 << 20,
            in_flight_max: 1024,
            output_bytes_soft: 256 << 10,
            output_bytes_max: 256 << 20,
            buffered_bytes_max: 2 << 30,
            answer_bytes_max: 1 << 30,
            transaction_max: 65_536,
            subscriptions_max: 10_000,
            dedicated_max: 10_000,
            idle: None,
            login: Duration::from_secs(10),
            retry_for: Duration::from_secs(30),
            redirections_max: 16,
            answer_within: Duration::from_secs(15),
            connect_within: Duration::from_secs(2),
            pause_max: Duration::from_secs(30),
        }
    }
}
