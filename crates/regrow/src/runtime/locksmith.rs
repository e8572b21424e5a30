//! Keeps the keys of the doors as the files of `keys/` say, while the agent runs.
//!
//! **Flow.** The files are looked at each second, and at once on SIGHUP. When they have changed, what the doors show and
//! believe is put together anew and exchanged; gossip's keys too.
//!
//! **Guarantees.** Files that do not fit together, as between two writes of a rotation, change nothing: the keys before
//! stay in use, and that is said once. Connections go on, but for those whose certificate is good no more.

use super::gossip::Club;
use crate::exit::Failure;
use crate::keys::{Folder, NODE, Stamp, certificates, day, facts, now};
use regrow_serve::access::Keys;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long before its end the log warns of a certificate's end, each day.
const WARN_SECONDS: i64 = 30 * DAY_SECONDS;
const DAY_SECONDS: i64 = 86_400;

/// Looks after the keys.
pub(super) struct Locksmith {
    folder: Folder,
    keys: Keys,
    seen: Stamp,
    /// What was wrong with the files, as it was said.
    wrong: Option<String>,
    warned: i64,
}

impl Locksmith {
    /// Reads the files for the first time. From now on no other process of this user may look into this one: it holds
    /// keys.
    pub(super) fn open(folder: Folder) -> Result<Locksmith, Failure> {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|error| Failure::failed(format!("cannot keep this process's memory to itself: {error}")))?;
        // Before the files are read, so that a change meanwhile is seen.
        let seen = folder.stamp();
        let keys = Keys::new(folder.material()?);
        Ok(Locksmith { folder, keys, seen, wrong: None, warned: 0 })
    }

    /// The keys; they change by themselves.
    pub(super) fn keys(&self) -> Keys {
        self.keys.clone()
    }

    /// Looks after them for ever.
    pub(super) async fn run(mut self, club: Option<Club>) {
        let mut asked = match signal(SignalKind::hangup()) {
            Ok(asked) => Some(asked),
            Err(error) => {
                tracing::warn!("SIGHUP is not listened for: {error}");
                None
            }
        };
        loop {
            self.warn();
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                Some(()) = async { match &mut asked { Some(asked) => asked.recv().await, None => None } } => {
                    // Also when nothing seems to have changed.
                    self.seen.clear();
                }
            }
            let stamp = self.folder.stamp();
            if stamp == self.seen {
                continue;
            }
            let rekeyed = match &club {
                Some(club) => club.rekey().await,
                None => Ok(()),
            };
            let exchanged = self.folder.material().map(|material| self.keys.exchange(material));
            match exchanged.map_err(|failure| failure.message).and(rekeyed) {
                Ok(()) => {
                    (self.seen, self.wrong, self.warned) = (stamp, None, 0);
                    tracing::info!("the keys were read again: {}", self.folder.as_path().display());
                }
                // Said once: it is looked at again, as the other half of a change may be under way.
                Err(why) if self.wrong.as_ref() == Some(&why) => {}
                Err(why) => {
                    tracing::warn!("some keys stay as before: {why}");
                    self.wrong = Some(why);
                }
            }
        }
    }

    /// Tells of a certificate that ends soon, once a day.
    fn warn(&mut self) {
        if now() - self.warned < DAY_SECONDS {
            return;
        }
        self.warned = now();
        let Ok(chain) = certificates(&self.folder.path(NODE)) else { return };
        let Some(Ok(own)) = chain.first().map(facts) else { return };
        if own.until - now() < WARN_SECONDS {
            tracing::warn!("the certificate of this node ends {}: `regrow key rotate node`", day(own.until));
        }
    }
}
