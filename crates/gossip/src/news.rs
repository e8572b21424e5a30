//! What is to be told, in a form that is small while it waits; encoded when it is sent.

use std::sync::Arc;

use crate::directory::{Name, Profile};
use crate::wire::{Dead, JoinIntent, LeaveIntent, Suspect, encode_alive};

/// A piece of news.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// A member lives.
    Alive(Arc<Profile>, u32),
    /// A member may be dead.
    Suspect { about: Name, from: Name, incarnation: u32, refused: bool },
    /// A member is dead, or has left when it says so itself.
    Dead { about: Name, from: Name, incarnation: u32 },
    /// A member means to be one, at this Lamport time.
    Join(Name, u64),
    /// A member means to leave, at this Lamport time; whether it is to be forgotten.
    Leave(Name, u64, bool),
    /// Any other message, type byte included.
    Plain(Box<[u8]>),
}

impl News {
    /// The number of the member whose older news this replaces.
    pub(crate) fn topic(&self) -> Option<u32> {
        match self {
            Self::Alive(profile, _) => Some(profile.name.id()),
            Self::Suspect { about, .. } | Self::Dead { about, .. } => Some(about.id()),
            Self::Join(..) | Self::Leave(..) | Self::Plain(_) => None,
        }
    }

    /// The message, type byte included.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let text = |name: &Name| name.as_str().to_owned();
        match self {
            Self::Alive(profile, incarnation) => encode_profile(profile, *incarnation),
            Self::Suspect { about, from, incarnation, refused } => {
                Suspect { incarnation: *incarnation, node: text(about), from: text(from), refused: *refused }.encode()
            }
            Self::Dead { about, from, incarnation } => {
                Dead { incarnation: *incarnation, node: text(about), from: text(from) }.encode()
            }
            Self::Join(name, ltime) => JoinIntent { ltime: *ltime, node: text(name) }.encode(),
            Self::Leave(name, ltime, prune) => LeaveIntent { ltime: *ltime, node: text(name), prune: *prune }.encode(),
            Self::Plain(bytes) => bytes.to_vec(),
        }
    }
}

/// The message that a member lives, with what it says of itself.
pub(crate) fn encode_profile(profile: &Profile, incarnation: u32) -> Vec<u8> {
    encode_alive(incarnation, profile.name.as_str(), profile.address, &profile.meta, &profile.versions)
}
