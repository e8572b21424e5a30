//! What is to be told, in a form that is small while it waits; encoded when it is sent.

use std::sync::Arc;

use crate::directory::{Name, Profile};
use crate::wire::{Accusation, IntentRef, Writer, encode_alive, swim_type, write_alive};

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

    /// Writes the message, type byte included.
    pub(crate) fn write(&self, writer: &mut Writer) {
        match self {
            Self::Alive(profile, incarnation) => {
                let name = profile.name.as_str();
                write_alive(writer, *incarnation, name, profile.address, &profile.meta, &profile.versions);
            }
            Self::Suspect { about, from, incarnation, refused } => {
                let (node, from) = (about.as_str(), from.as_str());
                let accusation = Accusation { incarnation: *incarnation, node, from, refused: *refused };
                accusation.write(swim_type::SUSPECT, writer);
            }
            Self::Dead { about, from, incarnation } => {
                let (node, from) = (about.as_str(), from.as_str());
                let accusation = Accusation { incarnation: *incarnation, node, from, refused: false };
                accusation.write(swim_type::DEAD, writer);
            }
            Self::Join(name, ltime) => {
                IntentRef { ltime: *ltime, node: name.as_str(), prune: false }.write_join(writer);
            }
            Self::Leave(name, ltime, prune) => {
                IntentRef { ltime: *ltime, node: name.as_str(), prune: *prune }.write_leave(writer);
            }
            Self::Plain(bytes) => writer.plain(bytes),
        }
    }

    /// The message, type byte included.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        self.write(&mut writer);
        writer.finish()
    }
}

/// The message that a member lives, with what it says of itself.
pub(crate) fn encode_profile(profile: &Profile, incarnation: u32) -> Vec<u8> {
    encode_alive(incarnation, profile.name.as_str(), profile.address, &profile.meta, &profile.versions)
}
