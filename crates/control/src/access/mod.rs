//! Who may do what: one function, [`decide`], for every door.
//!
//! **Flow.** A door proves who is there ([`Identity`]), says what is asked ([`Asked`]), and does it only if the answer
//! is a [`Sight`].
//!
//! **Guarantees.** What no rule allows is refused. Credentials (`/regrow/access/`) are for administrators who are not
//! narrowed, for nodes, and for the owner of the agent, over any door: a range that has them among others is shown
//! without them, or refused.
//!
//! Why so: `docs/design/0051-access.md`.

mod refusal;
mod span;
#[cfg(test)]
mod tests;

pub use refusal::Refusal;
pub use span::Span;

use regrow_model::Kind;
use regrow_model::access::{Grant, Role};
use regrow_model::key::{ACCESS, DECIDED, ROOT, STAGED};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Somebody who shows nothing.
    Anonymous,
    /// Anybody at an agent without keys, whose doors are open to whoever can reach them.
    Open,
    /// The user who runs the agent, or root, by the agent's Unix socket.
    Owner,
    /// An agent, by its node's certificate.
    Node {
        /// The node.
        name: String,
    },
    /// A person or a program, by a certificate.
    Client {
        /// The certificate's subject.
        name: String,
        /// The role signed into it; `None`: a word that is no role.
        role: Option<Role>,
    },
    /// Whoever holds a token.
    Token {
        /// The token's id.
        id: String,
        /// What it lets its holder do.
        grant: Grant,
    },
    /// Whoever knows the key of Serf's RPC (`--rpc-auth`), which is one for all.
    RpcKey,
}

/// Read or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Looked at.
    Read,
    /// Changed.
    Write,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// How the door and what is behind it are, in a word; nothing of what is in there.
    Health,
    /// What a request may do by the signature that it bears, and that whoever answers it checks.
    Signed,
    /// Keys of the store.
    Keys(Access, Span<'a>),
    /// Leases that nothing is attached to yet, or the ids of leases.
    Leases(Access),
    /// How the store is: revisions, sizes, members.
    Store,
    /// The care of the whole store: compaction, snapshots, checksums, alarms.
    Care(&'static str),
    /// Objects of a kind.
    Objects(Access, Kind),
    /// Something about the members that cannot be taken back, or the keys of gossip.
    Members(&'static str),
    /// Tokens, and the log of who did what.
    Credentials(Access),
}

/// How much of what is asked may be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// All of it.
    Whole,
    /// All but the keys under [`ACCESS`].
    WithoutCredentials,
}

/// Keys that only those who may do everything write: what is staged becomes any key of Regrow's own.
const GUARDED: [&str; 3] = [ACCESS, STAGED, DECIDED];

/// Whether it may be done, and how much of it be seen.
pub fn decide(identity: &Identity, asked: &Asked<'_>) -> Result<Sight, Refusal> {
    let narrowed;
    let grant = match (identity, asked) {
        (_, Asked::Health | Asked::Signed) | (Identity::Open | Identity::Owner | Identity::Node { .. }, _) => {
            return Ok(Sight::Whole);
        }
        (Identity::Anonymous, _) => return Err(Refusal::unknown(asked)),
        (Identity::Client { role: None, .. }, _) => return Err(Refusal::denied(identity, asked, None)),
        (Identity::Client { role: Some(role), .. }, _) => {
            narrowed = Grant::whole(*role);
            &narrowed
        }
        // It opens one door only, which asks for nothing else.
        (Identity::RpcKey, Asked::Objects(_, Kind::Node) | Asked::Members(_)) => return Ok(Sight::Whole),
        (Identity::RpcKey, _) => return Err(Refusal::denied(identity, asked, None)),
        (Identity::Token { grant, .. }, _) => grant,
    };
    let (needed, within) = match *asked {
        Asked::Health | Asked::Signed => (Role::Reader, true),
        Asked::Keys(access, span) => {
            return keys(grant, access, span).map_err(|needed| Refusal::denied(identity, asked, needed));
        }
        Asked::Leases(Access::Read) => (Role::Reader, reaches_keys(grant)),
        Asked::Leases(Access::Write) => (Role::Operator, reaches_keys(grant)),
        Asked::Store => (Role::Reader, true),
        Asked::Objects(Access::Read, kind) => (Role::Reader, reaches(grant, kind)),
        Asked::Objects(Access::Write, kind) => (Role::Operator, reaches(grant, kind)),
        Asked::Care(_) | Asked::Credentials(_) => (Role::Admin, !grant.is_narrowed()),
        Asked::Members(_) => (Role::Admin, reaches(grant, Kind::Node)),
    };
    if grant.role < needed {
        return Err(Refusal::denied(identity, asked, Some(needed)));
    }
    if within { Ok(Sight::Whole) } else { Err(Refusal::denied(identity, asked, None)) }
}

/// The error is the role that it takes, or nothing where no role would do.
fn keys(grant: &Grant, access: Access, span: Span<'_>) -> Result<Sight, Option<Role>> {
    let all = grant.role == Role::Admin && !grant.is_narrowed();
    let within = !grant.is_narrowed() || grant.prefixes.iter().any(|prefix| span.is_within(prefix.as_bytes()));
    if !within {
        return Err(None);
    }
    match access {
        _ if all => Ok(Sight::Whole),
        Access::Read if span.is_within(ACCESS.as_bytes()) => Err(Some(Role::Admin)),
        Access::Read if span.meets(ACCESS.as_bytes()) => Ok(Sight::WithoutCredentials),
        Access::Read => Ok(Sight::Whole),
        Access::Write if grant.role < Role::Operator => Err(Some(Role::Operator)),
        Access::Write if GUARDED.iter().any(|guarded| span.meets(guarded.as_bytes())) => Err(Some(Role::Admin)),
        Access::Write if grant.role < Role::Admin && span.meets(ROOT.as_bytes()) => Err(Some(Role::Admin)),
        Access::Write => Ok(Sight::Whole),
    }
}

fn reaches_keys(grant: &Grant) -> bool {
    !grant.is_narrowed() || !grant.prefixes.is_empty()
}

/// A group's instances go with it.
fn reaches(grant: &Grant, kind: Kind) -> bool {
    let group = kind == Kind::Instance && grant.kinds.contains(&Kind::Group);
    !grant.is_narrowed() || group || grant.kinds.contains(&kind)
}

impl Identity {
    /// Whether it may do everything there is.
    pub fn is_above_all(&self) -> bool {
        match self {
            Identity::Open | Identity::Owner | Identity::Node { .. } => true,
            Identity::Client { role, .. } => *role == Some(Role::Admin),
            Identity::Token { grant, .. } => grant.role == Role::Admin && !grant.is_narrowed(),
            Identity::Anonymous | Identity::RpcKey => false,
        }
    }
}
