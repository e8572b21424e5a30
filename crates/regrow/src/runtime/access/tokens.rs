//! Tokens, in the store.

use super::{Journal, record};
use crate::runtime::now;
use regrow_model::access::{Revoked, Seal, TOKENS, Token};
use regrow_model::limits::{TOKEN_NOTE_BYTES_MAX, TOKEN_PREFIX_BYTES_MAX, TOKEN_PREFIXES_MAX, TOKENS_MAX};
use regrow_model::{Name, Time};
use regrow_serve::access::{Guard, tokens::Registry};
use regrow_serve::wire::{AuditQuery, Made, TokenLine, TokenState, Wish};
use regrow_serve::{AgentError, BoxFuture, Lines};
use regrow_store::Pages;
use regrow_store::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, Error, Op, PutRequest, RangeRequest, Revision, Store,
    TxnRequest,
};
use std::sync::Arc;
use std::time::Duration;

/// How often a token is revoked again when its record changes meanwhile.
const TRIES_MAX: usize = 8;

/// The longest life of a token that is not for ever: 10 years.
const SECONDS_MAX: u64 = 10 * 365 * 24 * 3600;

pub(super) struct Tokens {
    store: Arc<dyn Store>,
    guard: Guard,
    journal: Journal,
}

/// A record by its name.
struct Kept {
    id: Name,
    token: Token,
}

impl Tokens {
    pub(super) fn new(store: Arc<dyn Store>, guard: Guard, journal: Journal) -> Tokens {
        Tokens { store, guard, journal }
    }

    async fn all(&self) -> Result<Vec<Kept>, Error> {
        let mut pages = Pages::of(&*self.store, TOKENS, Revision(0));
        let mut all = Vec::new();
        while let Some(kv) = pages.next().await? {
            if let Some((id, token)) = record(&kv.key, &kv.value)
                && let Ok(id) = Name::new(&id)
            {
                all.push(Kept { id, token });
            }
        }
        Ok(all)
    }

    async fn make(&self, wish: Wish, by: String) -> Result<Made, AgentError> {
        check(&wish)?;
        let all = self.all().await.map_err(unavailable)?;
        if all.len() >= TOKENS_MAX {
            self.make_room(&all).await?;
        }
        let created = now();
        let secret = crate::keys::token().map_err(|failure| AgentError::Unavailable(failure.message))?;
        let token = Token {
            seal: Seal::of(&secret),
            grant: wish.grant,
            note: wish.note,
            created,
            created_by: by,
            expires: wish.seconds.map(|seconds| created.after(Duration::from_secs(seconds))),
            revoked: None,
        };
        match self.write(&wish.id, &token, Revision(0)).await.map_err(unavailable)? {
            Some(_) => Ok(Made { token: secret, line: line(&wish.id, &token, created) }),
            None => Err(AgentError::Refused(format!(
                "there is a token `{}` already, or was: a name is used once, so that the audit log stays true",
                wish.id
            ))),
        }
    }

    /// Forgets the oldest token that is good no longer.
    async fn make_room(&self, all: &[Kept]) -> Result<(), AgentError> {
        let over = |kept: &&Kept| state(&kept.token, now()) != TokenState::Good && kept.id.as_str() != "admin";
        let Some(oldest) = all.iter().filter(over).min_by_key(|kept| kept.token.created) else {
            return Err(AgentError::Refused(format!(
                "there are {TOKENS_MAX} tokens that are good: revoke some with `regrow token revoke`"
            )));
        };
        let request = DeleteRangeRequest::key(key(&oldest.id));
        self.store.delete_range(request).await.map(drop).map_err(unavailable)
    }

    /// Writes a record over what was there at a revision (0: nothing); the revision that has it, or nothing if something
    /// else is there.
    async fn write(&self, id: &Name, token: &Token, was: Revision) -> Result<Option<Revision>, Error> {
        let value = serde_json::to_vec(token).expect("model types always serialise");
        let as_it_was = Compare::new(key(id), CompareOp::Equal, CompareTarget::ModRevision(was));
        let put = Op::Put(PutRequest::new(key(id), value));
        let request = TxnRequest { compare: vec![as_it_was], success: vec![put], failure: Vec::new() };
        let answer = self.store.txn(request).await?;
        if !answer.succeeded {
            return Ok(None);
        }
        // Whoever was answered can count on it at this agent's doors; the others follow the store.
        self.guard.know(id.as_str(), Some(token.clone()), answer.revision.0);
        Ok(Some(answer.revision))
    }

    async fn take_back(&self, id: Name, by: String) -> Result<TokenLine, AgentError> {
        for _ in 0..TRIES_MAX {
            let found =
                self.store.range(RangeRequest::key(key(&id))).await.map_err(unavailable)?.kvs.into_iter().next();
            let kept = found.as_ref().and_then(|kv| Some((record(&kv.key, &kv.value)?.1, kv.mod_revision)));
            let Some((token, was)) = kept else {
                return Err(AgentError::NotFound(format!(
                    "there is no token `{id}`: `regrow token ls` lists what is there"
                )));
            };
            if token.revoked.is_some() {
                return Ok(line(&id, &token, now()));
            }
            let token = Token { revoked: Some(Revoked { at: now(), by: by.clone() }), ..token };
            if self.write(&id, &token, was).await.map_err(unavailable)?.is_some() {
                return Ok(line(&id, &token, now()));
            }
        }
        Err(AgentError::Unavailable(format!("the record of token `{id}` goes on changing: try again")))
    }
}

impl Registry for Tokens {
    fn list(&self) -> BoxFuture<'_, Result<Vec<TokenLine>, AgentError>> {
        Box::pin(async move {
            let at = now();
            let all = self.all().await.map_err(unavailable)?;
            Ok(all.iter().map(|kept| line(&kept.id, &kept.token, at)).collect())
        })
    }

    fn create(&self, wish: Wish, by: String) -> BoxFuture<'_, Result<Made, AgentError>> {
        Box::pin(self.make(wish, by))
    }

    fn revoke(&self, id: Name, by: String) -> BoxFuture<'_, Result<TokenLine, AgentError>> {
        Box::pin(self.take_back(id, by))
    }

    fn audit(&self, query: AuditQuery) -> BoxFuture<'_, Result<Lines, AgentError>> {
        Box::pin(self.journal.lines(query))
    }
}

fn check(wish: &Wish) -> Result<(), AgentError> {
    let refuse = |why: String| Err(AgentError::Refused(why));
    if wish.grant.prefixes.len() > TOKEN_PREFIXES_MAX {
        return refuse(format!("a token is narrowed to at most {TOKEN_PREFIXES_MAX} prefixes"));
    }
    if wish.grant.prefixes.iter().any(|prefix| prefix.is_empty() || prefix.len() > TOKEN_PREFIX_BYTES_MAX) {
        return refuse(format!("a prefix has 1 to {TOKEN_PREFIX_BYTES_MAX} bytes"));
    }
    if wish.note.len() > TOKEN_NOTE_BYTES_MAX {
        return refuse(format!("a note has at most {TOKEN_NOTE_BYTES_MAX} bytes"));
    }
    match wish.seconds {
        Some(seconds) if !(1..=SECONDS_MAX).contains(&seconds) => {
            refuse("a token lasts from one second to ten years, or, without a time, for ever".to_owned())
        }
        _ => Ok(()),
    }
}

fn key(id: &Name) -> String {
    format!("{TOKENS}{id}")
}

fn state(token: &Token, at: Time) -> TokenState {
    match token {
        Token { revoked: Some(_), .. } => TokenState::Revoked,
        Token { expires: Some(expires), .. } if at >= *expires => TokenState::Expired,
        _ => TokenState::Good,
    }
}

fn line(id: &Name, token: &Token, at: Time) -> TokenLine {
    TokenLine {
        id: id.clone(),
        state: state(token, at),
        grant: token.grant.clone(),
        note: token.note.clone(),
        created: token.created,
        created_by: token.created_by.clone(),
        expires: token.expires,
        revoked: token.revoked.as_ref().map(|revoked| revoked.at),
        revoked_by: token.revoked.as_ref().map(|revoked| revoked.by.clone()),
    }
}

fn unavailable(error: Error) -> AgentError {
    AgentError::Unavailable(format!("the store with the tokens: {error}"))
}
