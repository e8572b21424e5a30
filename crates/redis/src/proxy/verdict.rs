//! What to do after a server's refusal, or after a connection that broke. Pure.

use std::time::Duration;

use crate::address::Address;

use super::limits::Limits;

/// What is known about a command that got no good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Trouble {
    /// Redirections so far.
    pub(crate) redirections: u8,
    /// Since its first trouble.
    pub(crate) since: Duration,
    /// Whether it may be repeated when its fate is unknown.
    pub(crate) readonly: bool,
    /// Whether there is nobody else to ask: one server, which its URL names.
    pub(crate) fixed: bool,
}

/// What is next for a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// The client gets the answer as it is.
    Deliver,
    /// Its slot has another master from now on: send it there.
    Moved(Address),
    /// Send it there, after `ASKING`, this once.
    Ask(Address),
    /// It was not carried out: send it again a little later, to whoever is its slot's master then.
    Later,
    /// It was not carried out, and this server is no master any more: look for the new one, then as `Later`.
    Lookup,
}

/// Refusals by which a server says that it has not carried out a command, and might later.
const LATER: [&[u8]; 3] = [b"-TRYAGAIN ", b"-LOADING ", b"-BUSYLOADING "];
/// Refusals by which a server says that it is not, or not any more, the one to ask.
const LOOKUP: [&[u8]; 4] = [b"-CLUSTERDOWN ", b"-MASTERDOWN ", b"-READONLY ", b"-UNBLOCKED "];

/// What an answer means. `from`: who gave it.
pub(crate) fn after_answer(answer: &[u8], from: &Address, trouble: Trouble, limits: &Limits) -> Next {
    if answer.first() != Some(&b'-') {
        return Next::Deliver;
    }
    let begins = |words: &[&[u8]]| words.iter().any(|word| answer.starts_with(word));
    if answer.starts_with(b"-MOVED ") || answer.starts_with(b"-ASK ") {
        if trouble.redirections >= limits.redirections_max {
            return Next::Deliver;
        }
        return redirection(answer, from).unwrap_or(Next::Deliver);
    }
    if trouble.since >= limits.retry_for {
        return Next::Deliver;
    }
    match () {
        () if begins(&LATER) => Next::Later,
        () if begins(&LOOKUP) && !trouble.fixed => Next::Lookup,
        () => Next::Deliver,
    }
}

/// `-MOVED slot host:port`; without a host it is the host that said so.
fn redirection(answer: &[u8], from: &Address) -> Option<Next> {
    let mut words = std::str::from_utf8(answer).ok()?.trim_end().split(' ');
    let kind = words.next()?;
    let (host, port) = words.nth(1)?.rsplit_once(':')?;
    let host = match host {
        "" | "?" => from.host.as_str(),
        host => host,
    };
    let place = Address::new(host, port.parse().ok().filter(|port| *port > 0)?);
    Some(if kind == "-MOVED" { Next::Moved(place) } else { Next::Ask(place) })
}

/// Whether a command may be sent again after its connection broke. `sent`: part of it may have reached the server.
pub(crate) fn again_after_break(sent: bool, trouble: Trouble, limits: &Limits) -> bool {
    (!sent || trouble.readonly) && trouble.since < limits.retry_for
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let from = Address::new("h", 1);
        let limits = Limits::default();
        let fresh = Trouble::default();
        let check = |answer: &str, trouble, wanted| {
            assert_eq!(after_answer(answer.as_bytes(), &from, trouble, &limits), wanted, "{answer}");
        };
        check("+OK\r\n", fresh, Next::Deliver);
        check("-ERR no\r\n", fresh, Next::Deliver);
        check("-WRONGTYPE x\r\n", fresh, Next::Deliver);
        check("-MOVED 5 10.0.0.1:7\r\n", fresh, Next::Moved(Address::new("10.0.0.1", 7)));
        check("-MOVED 5 :7\r\n", fresh, Next::Moved(Address::new("h", 7)));
        check("-MOVED 5 ?:7\r\n", fresh, Next::Moved(Address::new("h", 7)));
        check("-MOVED 5 ::1:7\r\n", fresh, Next::Moved(Address::new("::1", 7)));
        check("-MOVED 5\r\n", fresh, Next::Deliver);
        check("-MOVED 5 a:0\r\n", fresh, Next::Deliver);
        check("-ASK 5 a:7\r\n", fresh, Next::Ask(Address::new("a", 7)));
        check("-ASK 5 a:7\r\n", Trouble { redirections: 16, ..fresh }, Next::Deliver);
        check("-TRYAGAIN x\r\n", fresh, Next::Later);
        check("-CLUSTERDOWN x\r\n", fresh, Next::Lookup);
        check("-READONLY x\r\n", fresh, Next::Lookup);
        check("-READONLY x\r\n", Trouble { fixed: true, ..fresh }, Next::Deliver);
        check("-CLUSTERDOWN x\r\n", Trouble { since: limits.retry_for, ..fresh }, Next::Deliver);
    }

    /// A write that may have reached the server is never sent twice.
    #[test]
    fn breaks() {
        let limits = Limits::default();
        let (write, read) = (Trouble::default(), Trouble { readonly: true, ..Trouble::default() });
        assert!(again_after_break(false, write, &limits) && again_after_break(true, read, &limits));
        assert!(!again_after_break(true, write, &limits));
        assert!(!again_after_break(false, Trouble { since: limits.retry_for, ..write }, &limits));
    }
}
