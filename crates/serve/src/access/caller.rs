//! Who asks, for as long as the credentials are good.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use regrow_control::access::{Asked, Identity, Refusal, Sight, decide};
use regrow_model::{
    Time,
    access::{Role, Token},
};
use tokio::{sync::Notify, time::sleep};

use super::{Certificate, CertificateKind};

/// Longest sleep until credentials expire: the clock may be set while we sleep.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Why somebody may not do what was asked. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing was shown that says who asks.
    #[error("{0}")]
    Anonymous(String),
    /// What was shown is wrong, expired or revoked.
    #[error("{0}")]
    Credentials(String),
    /// Whoever asks may not.
    #[error("{0}")]
    Denied(String),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        match refusal {
            Refusal::Unknown(why) => Refused::Anonymous(why),
            Refusal::Denied(why) => Refused::Denied(why),
        }
    }
}

impl From<Refused> for regrow_store::Error {
    fn from(refused: Refused) -> regrow_store::Error {
        match refused {
            Refused::Anonymous(reason) => regrow_store::Error::Anonymous { reason },
            Refused::Credentials(reason) => regrow_store::Error::Unauthenticated { reason },
            Refused::Denied(reason) => regrow_store::Error::Denied { reason },
        }
    }
}

/// Somebody, by what was shown.
#[derive(Debug)]
pub struct Caller {
    /// The error is why what was shown is not believed.
    who: Result<Identity, String>,
    /// As the audit log has it: `token/ci`, `certificate/ann`, `node/db1`, `owner`, `anonymous`.
    name: String,
    expires: Option<Time>,
    revoked: AtomicBool,
    told: Notify,
}

impl Caller {
    fn new(who: Result<Identity, String>, name: String, expires: Option<Time>) -> Arc<Caller> {
        Arc::new(Caller { who, name, expires, revoked: AtomicBool::new(false), told: Notify::new() })
    }

    /// Somebody whose credentials do not end by themselves.
    pub fn of(identity: Identity) -> Arc<Caller> {
        let name = match &identity {
            Identity::Anonymous => "anonymous".to_owned(),
            Identity::Open => "anybody".to_owned(),
            Identity::Owner => "owner".to_owned(),
            Identity::Node { name } => format!("node/{name}"),
            Identity::Client { name, .. } => format!("certificate/{name}"),
            Identity::Token { id, .. } => format!("token/{id}"),
            Identity::RpcKey => "rpc-key".to_owned(),
        };
        Caller::new(Ok(identity), name, None)
    }

    /// The holder of a token.
    pub(super) fn token(id: &str, token: &Token) -> Arc<Caller> {
        let identity = Identity::Token { id: id.to_owned(), grant: token.grant.clone() };
        Caller::new(Ok(identity), format!("token/{id}"), token.expires)
    }

    /// Whom a certificate names. A connection whose certificate is taken back is cut by who accepted it.
    pub(super) fn certificate(certificate: &Certificate) -> Arc<Caller> {
        let name = certificate.subject.clone();
        Caller::of(match &certificate.kind {
            CertificateKind::Node => Identity::Node { name },
            CertificateKind::Client { role } => Identity::Client { name, role: role.parse::<Role>().ok() },
        })
    }

    /// Somebody who shows what is not believed.
    pub(super) fn not_believed(why: String) -> Arc<Caller> {
        Caller::new(Err(why), "anonymous".to_owned(), None)
    }

    /// As the audit log has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who it is; nothing for somebody who is not believed.
    pub fn identity(&self) -> Option<&Identity> {
        self.who.as_ref().ok()
    }

    /// Whether it may do everything there is, so that nothing has to be looked at closer.
    pub fn is_above_all(&self) -> bool {
        self.who.as_ref().is_ok_and(Identity::is_above_all)
    }

    /// Whether it is narrowed to some keys or kinds.
    pub(crate) fn is_narrowed(&self) -> bool {
        matches!(&self.who, Ok(Identity::Token { grant, .. }) if grant.is_narrowed())
    }

    /// Whether this may be done, and how much of it be seen.
    pub fn may(&self, asked: &Asked<'_>) -> Result<Sight, Refused> {
        let identity = match &self.who {
            // What anybody may do takes no credentials, so wrong ones do no harm.
            Err(why) if *asked != Asked::Health => return Err(Refused::Credentials(why.clone())),
            Err(_) => return Ok(Sight::Whole),
            Ok(identity) => identity,
        };
        self.lasts()?;
        Ok(decide(identity, asked)?)
    }

    /// Whether the credentials are still good.
    pub fn lasts(&self) -> Result<(), Refused> {
        if self.revoked.load(Ordering::Acquire) {
            return Err(Refused::Credentials(format!("{} was revoked or changed", self.name)));
        }
        match self.expires {
            Some(expires) if now() >= expires => Err(Refused::Credentials(format!("{} has expired", self.name))),
            _ => Ok(()),
        }
    }

    /// The credentials are good no longer; whoever waits for that is told.
    pub(super) fn end(&self) {
        self.revoked.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Ends when the credentials do; says why.
    pub async fn ended(&self) -> Refused {
        loop {
            // It is told of what happens from here on, polled or not.
            let told = self.told.notified();
            let left = match (self.lasts(), self.expires) {
                (Err(why), _) => return why,
                (Ok(()), Some(expires)) => Some(expires.since(now()).clamp(Duration::from_millis(1), SLEEP_MAX)),
                (Ok(()), None) => None,
            };
            match left {
                None => told.await,
                Some(left) => tokio::select! {
                    () = told => {}
                    () = sleep(left) => {}
                },
            }
        }
    }
}

/// The node's clock.
pub(super) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
