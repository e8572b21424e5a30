//! What the proxy counts, over all its threads.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Counters and gauges; written without locks.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) clients: AtomicI64,
    pub(crate) accepted: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) redirected: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) broken: AtomicU64,
    pub(crate) reshaped: AtomicU64,
    pub(crate) cut_off: AtomicU64,
    pub(crate) bad_requests: AtomicU64,
    pub(crate) bad_passwords: AtomicU64,
    pub(crate) in_flight: AtomicI64,
    pub(crate) buffered_bytes: AtomicI64,
    pub(crate) switches: AtomicU64,
    pub(crate) paused_ms: AtomicU64,
}

impl Metrics {
    pub(crate) fn redirected(&self) {
        self.redirected.fetch_add(1, Relaxed);
    }

    pub(crate) fn retried(&self) {
        self.retried.fetch_add(1, Relaxed);
    }

    pub(crate) fn broken(&self) {
        self.broken.fetch_add(1, Relaxed);
    }

    pub(crate) fn reshaped(&self) {
        self.reshaped.fetch_add(1, Relaxed);
    }

    /// Adds what another one has counted.
    pub(crate) fn add(&self, other: &Self) {
        for (mine, others) in [
            (&self.clients, &other.clients),
            (&self.in_flight, &other.in_flight),
            (&self.buffered_bytes, &other.buffered_bytes),
        ] {
            mine.fetch_add(others.load(Relaxed), Relaxed);
        }
        for (mine, others) in self.counters().into_iter().zip(other.counters()) {
            mine.fetch_add(others.load(Relaxed), Relaxed);
        }
    }

    fn counters(&self) -> [&AtomicU64; 13] {
        [
            &self.accepted,
            &self.turned_away,
            &self.commands,
            &self.refused,
            &self.redirected,
            &self.retried,
            &self.broken,
            &self.reshaped,
            &self.cut_off,
            &self.bad_requests,
            &self.bad_passwords,
            &self.switches,
            &self.paused_ms,
        ]
    }

    /// The text format of Prometheus. `paused`: whether commands are held now.
    pub(crate) fn text(&self, paused: bool) -> String {
        let mut out = String::new();
        let counter = |out: &mut String, name: &str, help: &str, value: u64| metric(out, name, help, "counter", value);
        let gauge = |out: &mut String, name: &str, help: &str, value: i64| {
            metric(out, name, help, "gauge", u64::try_from(value).unwrap_or(0));
        };
        gauge(&mut out, "clients", "Clients connected.", self.clients.load(Relaxed));
        counter(&mut out, "clients_accepted_total", "Clients that have come.", self.accepted.load(Relaxed));
        counter(&mut out, "clients_turned_away_total", "Clients beyond the limit.", self.turned_away.load(Relaxed));
        counter(
            &mut out,
            "clients_cut_off_total",
            "Clients that took too few of their answers.",
            self.cut_off.load(Relaxed),
        );
        counter(&mut out, "commands_total", "Commands of clients.", self.commands.load(Relaxed));
        counter(
            &mut out,
            "commands_refused_total",
            "Commands that the proxy does not carry.",
            self.refused.load(Relaxed),
        );
        counter(
            &mut out,
            "bad_requests_total",
            "Clients that did not speak the protocol.",
            self.bad_requests.load(Relaxed),
        );
        counter(&mut out, "bad_passwords_total", "Wrong passwords.", self.bad_passwords.load(Relaxed));
        gauge(&mut out, "commands_in_flight", "Commands sent on and not answered.", self.in_flight.load(Relaxed));
        gauge(
            &mut out,
            "buffered_bytes",
            "Bytes of half commands and waiting answers.",
            self.buffered_bytes.load(Relaxed),
        );
        counter(&mut out, "redirections_total", "MOVED and ASK followed.", self.redirected.load(Relaxed));
        counter(
            &mut out,
            "retries_total",
            "Commands sent again that were not carried out.",
            self.retried.load(Relaxed),
        );
        counter(
            &mut out,
            "connections_broken_total",
            "Connections to servers that broke or never stood.",
            self.broken.load(Relaxed),
        );
        counter(&mut out, "map_changes_total", "Changes of who serves what.", self.reshaped.load(Relaxed));
        counter(&mut out, "switches_total", "Changes of the backend.", self.switches.load(Relaxed));
        counter(
            &mut out,
            "pause_milliseconds_total",
            "Time for which commands were held.",
            self.paused_ms.load(Relaxed),
        );
        gauge(&mut out, "paused", "Whether commands are held now.", i64::from(paused));
        out
    }
}

fn metric(out: &mut String, name: &str, help: &str, kind: &str, value: u64) {
    let _ = writeln!(
        out,
        "# HELP regrow_redis_proxy_{name} {help}\n# TYPE regrow_redis_proxy_{name} {kind}\nregrow_redis_proxy_{name} {value}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        let metrics = Metrics::default();
        metrics.redirected();
        let both = Metrics::default();
        both.add(&metrics);
        let text = both.text(true);
        assert!(text.contains("\nregrow_redis_proxy_redirections_total 1\n"), "{text}");
        assert!(text.contains("# TYPE regrow_redis_proxy_paused gauge\nregrow_redis_proxy_paused 1\n"), "{text}");
    }
}
