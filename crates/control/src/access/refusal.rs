//! Why somebody may not do what was asked, and what it would take.

use super::{Access, Asked, Identity};
use regrow_model::access::Role;
use std::fmt::Write;

/// A refusal. Nothing was changed, and nothing is told of what is there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody knows who asks.
    #[error("{0}")]
    Unknown(String),
    /// Whoever asks may not.
    #[error("{0}")]
    Denied(String),
}

impl Refusal {
    pub(super) fn unknown(asked: &Asked<'_>) -> Refusal {
        Refusal::Unknown(format!(
            "credentials are needed to {}: show a token (`regrow token create` makes one) or a certificate of this cluster",
            words(asked)
        ))
    }

    /// `needed`: the role that it takes; nothing where it is not a matter of the role alone.
    pub(super) fn denied(identity: &Identity, asked: &Asked<'_>, needed: Option<Role>) -> Refusal {
        let mut text = format!("{identity} may not {}", words(asked));
        let needs = match (identity, asked, needed) {
            (Identity::Client { role: None, .. }, ..) => {
                "its certificate has no role: have one made by `regrow key client`".to_owned()
            }
            (Identity::RpcKey, ..) => "the key of Serf's RPC is for members and events".to_owned(),
            (_, Asked::Care(_) | Asked::Credentials(_), _) => "it takes the role admin, not narrowed".to_owned(),
            (_, Asked::Keys(..), Some(Role::Admin)) => {
                "keys of Regrow's own take the role admin, and credentials one that is not narrowed".to_owned()
            }
            (_, _, Some(role)) => format!("it takes the role {role}"),
            (_, Asked::Keys(..), None) => "it is narrowed to other keys".to_owned(),
            (_, Asked::Leases(_), None) => "it is narrowed to objects, and leases are for keys".to_owned(),
            (_, Asked::Objects(..) | Asked::Members(_), None) => "it is narrowed to other things".to_owned(),
            (_, Asked::Health | Asked::Signed | Asked::Store, None) => "no rule allows it".to_owned(),
        };
        // Writing to a text does not fail.
        let _ = write!(text, ": {needs}");
        Refusal::Denied(text)
    }
}

fn words(asked: &Asked<'_>) -> String {
    let verb = |access| match access {
        Access::Read => "read",
        Access::Write => "change",
    };
    match asked {
        Asked::Health => "ask how this door is".to_owned(),
        Asked::Signed => "send what is signed".to_owned(),
        Asked::Keys(Access::Read, span) => format!("read {span}"),
        Asked::Keys(Access::Write, span) => format!("write {span}"),
        Asked::Leases(access) => format!("{} leases", verb(*access)),
        Asked::Store => "ask how the store is".to_owned(),
        Asked::Care(what) | Asked::Members(what) => (*what).to_owned(),
        Asked::Objects(access, kind) => format!("{} what is of the kind {}", verb(*access), kind.as_str()),
        Asked::Credentials(access) => format!("{} credentials and the audit log", verb(*access)),
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Identity::Anonymous => f.write_str("somebody without credentials"),
            Identity::Open => f.write_str("somebody on this machine"),
            Identity::Owner => f.write_str("the owner of the agent"),
            Identity::Node { name } => write!(f, "node/{name}"),
            Identity::Client { name, role: Some(role) } => write!(f, "certificate/{name} ({role})"),
            Identity::Client { name, role: None } => write!(f, "certificate/{name}"),
            Identity::Token { id, grant } => write!(f, "token/{id} ({grant})"),
            Identity::RpcKey => f.write_str("a holder of the RPC key"),
        }
    }
}
