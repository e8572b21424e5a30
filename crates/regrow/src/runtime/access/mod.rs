//! Who may enter: the tokens in the store, followed for the doors; and the log of what they let through.

mod follow;
mod journal;
mod tokens;

pub(super) use journal::Journal;

use super::now;
use crate::exit::Failure;
use crate::keys::ADMIN_TOKEN;
use regrow_model::access::{FIRST_TOKEN, Grant, Role, Seal, TOKENS, Token, is_token};
use regrow_serve::access::{Audit, Guard, tokens::Registry};
use regrow_store::{Compare, CompareOp, CompareTarget, Error, Op, PutRequest, Revision, Secret, Store, TxnRequest};
use std::path::Path;
use std::sync::Arc;

/// The guard of the doors, and where tokens are kept.
pub(super) struct Access {
    pub(super) guard: Guard,
    pub(super) registry: Arc<dyn Registry>,
}

impl Access {
    /// `keyed`: there are keys, so the doors ask for credentials. The tokens are known when this returns, and followed from
    /// then on.
    pub(super) async fn open(
        data: &Path,
        keyed: bool,
        store: Arc<dyn Store>,
        journal: &Journal,
    ) -> Result<Access, Failure> {
        let audit = Audit::into(journal.queue());
        let guard = if keyed { Guard::closed(rustix::process::geteuid().as_raw(), audit) } else { Guard::open(audit) };
        if keyed {
            let unavailable = |error: Error| Failure::failed(format!("cannot read the tokens in the store: {error}"));
            enter_first(data, &*store).await.map_err(unavailable)?;
            let follower = follow::Follower::begin(store.clone(), guard.clone()).await.map_err(unavailable)?;
            tokio::spawn(follower.run());
        }
        let registry = Arc::new(tokens::Tokens::new(store, guard.clone(), journal.clone()));
        Ok(Access { guard, registry })
    }
}

/// Enters the first administrator's token, which `regrow init` left in the data folder, unless there is a record of it:
/// one that was revoked stays so.
async fn enter_first(data: &Path, store: &dyn Store) -> Result<(), Error> {
    let path = data.join("keys").join(ADMIN_TOKEN);
    let secret = match Secret::read(&path) {
        Ok(secret) => secret,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            tracing::warn!("the first administrator's token in {} is passed over: {error}", path.display());
            return Ok(());
        }
    };
    if !is_token(secret.expose()) {
        tracing::warn!("what is in {} is no token, and passed over", path.display());
        return Ok(());
    }
    let token = Token {
        seal: Seal::of(secret.expose()),
        grant: Grant::whole(Role::Admin),
        note: "the first administrator's, made by regrow init".to_owned(),
        created: now(),
        created_by: "regrow init".to_owned(),
        expires: None,
        revoked: None,
    };
    let key = format!("{TOKENS}{FIRST_TOKEN}");
    let absent = Compare::new(key.clone(), CompareOp::Equal, CompareTarget::CreateRevision(Revision(0)));
    let put = Op::Put(PutRequest::new(key, serde_json::to_vec(&token).expect("model types always serialise")));
    store.txn(TxnRequest { compare: vec![absent], success: vec![put], failure: Vec::new() }).await.map(drop)
}

/// A token's id and record out of a key and its value; what is none is passed over, and said.
fn record(key: &[u8], value: &[u8]) -> Option<(String, Token)> {
    let id = std::str::from_utf8(key).ok()?.strip_prefix(TOKENS)?;
    match serde_json::from_slice(value) {
        Ok(token) => Some((id.to_owned(), token)),
        Err(error) => {
            tracing::warn!("the record of token/{id} is passed over: {error}");
            None
        }
    }
}
