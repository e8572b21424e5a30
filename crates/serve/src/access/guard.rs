//! Whom the doors believe.
//!
//! **Flow.** Whoever follows the records of tokens in the store tells them to [`Guard::know`]; a door asks
//! [`Guard::caller`] who a request is from. What a caller may do is decided by [`regrow_control::access`].
//!
//! **Guarantees.** A token that is revoked, or whose record changes, is refused from the moment it is told, and what is open
//! under it ends. No token is kept: only its hash.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, PoisonError, RwLock},
};

use regrow_control::access::Identity;
use regrow_model::access::{Seal, Token, is_token};

use super::{Audit, Caller, Origin, Peer, shown::Shown};

/// The guard of all doors of one agent. Cheap to clone.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    /// `None`: there are no keys, and everybody may do everything.
    closed: Option<Closed>,
    anybody: Arc<Caller>,
    owning: Arc<Caller>,
    audit: Audit,
}

struct Closed {
    /// The user who runs the agent.
    owner: u32,
    anonymous: Arc<Caller>,
    tokens: RwLock<Tokens>,
}

#[derive(Default)]
struct Tokens {
    by_seal: BTreeMap<Seal, Held>,
    /// What is known of each id, and as of which revision of the store.
    ids: BTreeMap<String, (i64, Option<Seal>)>,
}

struct Held {
    token: Token,
    caller: Arc<Caller>,
}

impl Guard {
    /// Lets everybody do everything: for an agent without keys, whose doors are on loopback.
    pub fn open(audit: Audit) -> Guard {
        Guard::new(None, audit)
    }

    /// Asks for credentials. `owner`: the user who runs the agent, and may do everything by its socket.
    pub fn closed(owner: u32, audit: Audit) -> Guard {
        let closed = Closed { owner, anonymous: Caller::of(Identity::Anonymous), tokens: RwLock::default() };
        Guard::new(Some(closed), audit)
    }

    fn new(closed: Option<Closed>, audit: Audit) -> Guard {
        let (anybody, owning) = (Caller::of(Identity::Open), Caller::of(Identity::Owner));
        Guard(Arc::new(Inner { closed, anybody, owning, audit }))
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.0.closed.is_none()
    }

    /// Where what is done is written down.
    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Takes in the record of a token as it is since a revision; `None`: it is gone. What is known of a later one stays.
    pub fn know(&self, id: &str, token: Option<Token>, revision: i64) {
        let Some(closed) = &self.0.closed else { return };
        let mut tokens = closed.tokens.write().unwrap_or_else(PoisonError::into_inner);
        let Tokens { by_seal, ids } = &mut *tokens;
        let before = match ids.get(id) {
            Some((known, _)) if *known >= revision => return,
            Some((_, seal)) => *seal,
            None => None,
        };
        if let Some(held) = before.and_then(|seal| by_seal.remove(&seal)) {
            held.caller.end();
        }
        let mut seal = None;
        if let Some(token) = token {
            match by_seal.entry(token.seal) {
                // Two records of one secret would be two answers to who it is: the first one stays.
                Entry::Occupied(_) => {
                    tracing::warn!("the record of token/{id} is passed over: it has the secret of another");
                }
                Entry::Vacant(place) => {
                    let caller = Caller::token(id, &token);
                    if token.revoked.is_some() {
                        caller.end();
                    }
                    seal = Some(token.seal);
                    place.insert(Held { token, caller });
                }
            }
        }
        ids.insert(id.to_owned(), (revision, seal));
    }

    /// Takes in all records there are at a revision: whatever else is known from before it is gone.
    pub fn know_all(&self, all: Vec<(String, Token, i64)>, revision: i64) {
        let Some(closed) = &self.0.closed else { return };
        let gone: Vec<String> = {
            let tokens = closed.tokens.read().unwrap_or_else(PoisonError::into_inner);
            let is_there = |id: &String| all.iter().any(|(there, ..)| there == id);
            tokens.ids.keys().filter(|id| !is_there(id)).cloned().collect()
        };
        gone.iter().for_each(|id| self.know(id, None, revision));
        all.into_iter().for_each(|(id, token, revision)| self.know(&id, Some(token), revision));
    }

    /// Who a request is from. A token goes before a certificate: a wrong one is refused although there is a good
    /// certificate.
    pub(crate) fn caller(&self, peer: &Peer, shown: Shown<'_>) -> Arc<Caller> {
        match shown.token() {
            Some(token) if !self.is_open() => self.holder(&token),
            _ => self.connected(peer),
        }
    }

    /// Somebody who shows nothing.
    pub(crate) fn stranger(&self) -> Arc<Caller> {
        self.0.closed.as_ref().map_or(&self.0.anybody, |closed| &closed.anonymous).clone()
    }

    /// Who holds a token.
    pub(crate) fn holder(&self, token: &str) -> Arc<Caller> {
        let Some(closed) = &self.0.closed else { return self.0.anybody.clone() };
        if !is_token(token) {
            return Caller::not_believed(
                "what was shown is no token of Regrow's: `regrow token create` makes one".to_owned(),
            );
        }
        let seal = Seal::of(token);
        let tokens = closed.tokens.read().unwrap_or_else(PoisonError::into_inner);
        match tokens.by_seal.get(&seal) {
            Some(held) if held.token.seal.is(&seal) => match held.caller.lasts() {
                Ok(()) => held.caller.clone(),
                Err(why) => Caller::not_believed(why.to_string()),
            },
            _ => Caller::not_believed("there is no such token: it was never made here, or it is gone".to_owned()),
        }
    }

    /// Who is at the other end of a connection, by what it shows itself.
    pub(crate) fn connected(&self, peer: &Peer) -> Arc<Caller> {
        match (&self.0.closed, &peer.certificate, peer.origin) {
            (Some(_), Some(certificate), _) => Caller::certificate(certificate),
            // The socket's mode lets in its owner and root only; the kernel says who it is where it can.
            (None, _, Origin::Unix { .. }) => self.0.owning.clone(),
            (Some(closed), _, Origin::Unix { uid }) if uid.is_none_or(|uid| uid == 0 || uid == closed.owner) => {
                self.0.owning.clone()
            }
            (Some(closed), ..) => closed.anonymous.clone(),
            (None, ..) => self.0.anybody.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use regrow_control::access::{Access, Asked, Span};
    use regrow_model::Time;
    use regrow_model::access::{Grant, Revoked, Role};
    use std::net::SocketAddr;

    use super::super::caller::{Refused, now};

    const TOKEN: &str = "rgw_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn tcp() -> Peer {
        Peer { origin: Origin::Tcp { remote: SocketAddr::from(([10, 0, 0, 9], 4242)), tls: true }, certificate: None }
    }

    fn token(role: Role) -> Token {
        Token {
            seal: Seal::of(TOKEN),
            grant: Grant::whole(role),
            note: String::new(),
            created: Time(0),
            created_by: "a test".into(),
            expires: None,
            revoked: None,
        }
    }

    fn headers(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("token", token.parse().expect("a value"));
        headers
    }

    fn may_read(guard: &Guard, peer: &Peer, token: &str) -> Result<(), Refused> {
        let headers = headers(token);
        guard.caller(peer, Shown::of(&headers)).may(&Asked::Keys(Access::Read, Span::key(b"a"))).map(drop)
    }

    /// Known, changed, revoked, expired, gone: each from the moment that it is told; what is told late changes nothing.
    #[test]
    fn tokens_come_and_go() {
        let guard = Guard::closed(1000, Audit::off());
        let credentials = |result: Result<(), Refused>| match result {
            Ok(()) => "in",
            Err(Refused::Credentials(_)) => "not believed",
            Err(Refused::Anonymous(_)) => "anonymous",
            Err(Refused::Denied(_)) => "denied",
        };
        let now_is = |guard: &Guard| credentials(may_read(guard, &tcp(), TOKEN));
        assert_eq!(now_is(&guard), "not believed");
        assert_eq!(credentials(may_read(&guard, &tcp(), "")), "anonymous");
        guard.know("t", Some(token(Role::Reader)), 1);
        assert_eq!(now_is(&guard), "in");
        let shown = headers(TOKEN);
        let held = guard.caller(&tcp(), Shown::of(&shown));
        guard.know("t", Some(token(Role::Reader)), 1);
        assert!(held.lasts().is_ok(), "what is known already changes nothing");
        guard.know("t", Some(token(Role::Admin)), 2);
        assert!(held.lasts().is_err(), "a record that changed ends what was open under it");
        assert_eq!(now_is(&guard), "in");
        let revoked = Token { revoked: Some(Revoked { at: Time(1), by: "x".into() }), ..token(Role::Admin) };
        guard.know("t", Some(revoked), 4);
        guard.know("t", Some(token(Role::Admin)), 3);
        assert_eq!(now_is(&guard), "not believed");
        guard.know("t", Some(Token { expires: Some(Time(now().0 - 1)), ..token(Role::Admin) }), 5);
        assert_eq!(now_is(&guard), "not believed");
        guard.know("t", Some(Token { expires: Some(Time(now().0 + 600_000)), ..token(Role::Admin) }), 6);
        assert_eq!(now_is(&guard), "in");
        guard.know("u", Some(token(Role::Reader)), 7);
        let shown = headers(TOKEN);
        assert_eq!(
            guard.caller(&tcp(), Shown::of(&shown)).name(),
            "token/t",
            "a second record of one secret is passed over"
        );
        guard.know_all(vec![("u".to_owned(), token(Role::Reader), 7)], 8);
        assert_eq!(now_is(&guard), "not believed");
    }

    /// What the connection itself shows; a wrong token is not mended by it.
    #[test]
    fn connections_show_who_they_are() {
        let guard = Guard::closed(1000, Audit::off());
        let unix = |uid| Peer { origin: Origin::Unix { uid }, certificate: None };
        let none = HeaderMap::new();
        let name = |guard: &Guard, peer: &Peer| guard.caller(peer, Shown::of(&none)).name().to_owned();
        for (uid, expect) in [(None, "owner"), (Some(0), "owner"), (Some(1000), "owner"), (Some(1001), "anonymous")] {
            assert_eq!(name(&guard, &unix(uid)), expect, "{uid:?}");
        }
        assert_eq!(name(&guard, &tcp()), "anonymous");
        let wrong = headers("rgw_wrong");
        assert!(guard.caller(&unix(None), Shown::of(&wrong)).identity().is_none());
        let open = Guard::open(Audit::off());
        assert_eq!(open.caller(&tcp(), Shown::of(&wrong)).name(), "anybody");
    }

    /// What waits for the end of credentials is told, also if it began to wait only just before.
    #[tokio::test]
    async fn the_end_is_told() {
        let guard = Guard::closed(1000, Audit::off());
        guard.know("t", Some(token(Role::Reader)), 1);
        let headers = headers(TOKEN);
        let caller = guard.caller(&tcp(), Shown::of(&headers));
        let waiting = tokio::spawn({
            let caller = caller.clone();
            async move { caller.ended().await }
        });
        tokio::task::yield_now().await;
        guard.know("t", None, 2);
        assert!(matches!(waiting.await, Ok(Refused::Credentials(_))));
        assert!(matches!(caller.ended().await, Refused::Credentials(_)));
    }
}
