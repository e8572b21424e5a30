use super::Target;
use crate::exit::{Code, Failure, print, print_json};
use clap::{Args, Subcommand};
use regrow_serve::membership::wire::{Rekey, Rekeyed};

/// Gossip's keys, on every member at once
#[derive(Args)]
pub(super) struct Gossip {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Keys(Keys),
}

/// List, install, use or remove the keys that seal gossip
///
/// To rotate: install the new key, use it, remove the old one. Each step is
/// asked of every member, and ends with code 1 unless all have done it.
///
/// Examples:
///   regrow gossip keys list
///   regrow gossip keys install "$(serf keygen)"
#[derive(Args)]
#[command(verbatim_doc_comment)]
struct Keys {
    #[command(subcommand)]
    verb: KeysVerb,
}

#[derive(Subcommand)]
enum KeysVerb {
    /// Show how many members have each key
    List {
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Make a key known to all, for opening
    Install {
        /// 16, 24 or 32 bytes in base64
        key: String,
    },
    /// Seal with an installed key from now on
    Use {
        /// The key in base64
        key: String,
    },
    /// Forget a key that does not seal
    Remove {
        /// The key in base64
        key: String,
    },
}

impl Gossip {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let Verb::Keys(Keys { verb }) = self.verb;
        let (op, key, json) = match verb {
            KeysVerb::List { json } => ("list", String::new(), json),
            KeysVerb::Install { key } => ("install", key, false),
            KeysVerb::Use { key } => ("use", key, false),
            KeysVerb::Remove { key } => ("remove", key, false),
        };
        let told: Rekeyed = target.client()?.post("/api/gossip/keys", &Rekey { op: op.to_owned(), key }).await?;
        if json {
            print_json(&told)?;
        } else if op == "list" {
            for (key, count) in &told.keys {
                let seals = told.primary.get(key).map(|count| format!(", sealing at {count}")).unwrap_or_default();
                print(&format!("{key}  at {count} of {} members{seals}\n", told.nodes))?;
            }
        }
        if told.errors == 0 && told.answers == told.nodes {
            return if op == "list" { Ok(()) } else { print(&format!("done at all {} members\n", told.nodes)) };
        }
        let mut text = format!("{} of {} members answered, {} of them no", told.answers, told.nodes, told.errors);
        told.messages.iter().for_each(|(member, message)| text.push_str(&format!("\n  {member}: {message}")));
        Err(Failure::new(Code::Failed, text))
    }
}
