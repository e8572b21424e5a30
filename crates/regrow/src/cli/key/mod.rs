//! `regrow key`: certificates, and who signs them.

mod ls;
mod revoke;
mod rotate;
mod sign;

use super::Target;
use crate::exit::Failure;
use clap::builder::RangedI64ValueParser;
use clap::{Args, Subcommand};

/// Days that a certificate is good for when nothing else is said.
pub(super) const DAYS: u32 = 365;
/// The most: what an authority is good for.
const DAYS_MAX: i64 = 3650;

/// Reads a number of days.
pub(super) fn days() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=DAYS_MAX)
}

/// Sign, list, exchange and revoke certificates of nodes and clients
///
/// `regrow init` has made the authority that signs. Its key never leaves that
/// machine: these commands run there, on its data folder.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Key {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Node(sign::Node),
    Client(sign::Client),
    Ls(ls::Ls),
    Rotate(rotate::Rotate),
    Revoke(revoke::Revoke),
}

impl Key {
    pub(super) fn run(self, target: &Target) -> Result<(), Failure> {
        match self.verb {
            Verb::Node(verb) => verb.run(target),
            Verb::Client(verb) => verb.run(target),
            Verb::Ls(verb) => verb.run(target),
            Verb::Rotate(verb) => verb.run(target),
            Verb::Revoke(verb) => verb.run(target),
        }
    }
}

/// The keys of the data folder.
fn folder(target: &Target) -> Result<crate::keys::Folder, Failure> {
    let data = crate::config::data_folder(target.data.as_deref(), false);
    crate::keys::Folder::found(&data).ok_or_else(|| {
        let path = crate::keys::Folder::of(&data).path(crate::keys::CA);
        let hint = "`regrow init` makes keys, and --data names another data folder";
        Failure::new(crate::exit::Code::NotFound, format!("there are no keys: no {}\n  {hint}", path.display()))
    })
}
