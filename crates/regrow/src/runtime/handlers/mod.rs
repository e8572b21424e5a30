//! Event handlers, exactly as Serf's: scripts that are run when members come and go, for user events and queries.
//!
//! Flow: gossip's disk thread hands each happening that a handler wants to [`Inbox::take`], which writes it to the
//! `journal` and puts it in line; the `pool` runs the scripts and says in the journal what is done.
//!
//! Guarantees: in order for each member and for user events; each is handled at least once, across restarts too;
//! queries have places of their own, so that a slow handler of members delays none. Nothing here can hold gossip up.
//!
//! Caveats: queries are not in the journal, whoever asked has gone by then. Beyond [`WAITING_MAX`] what comes is left
//! out, and counted in the log.

mod case;
mod journal;
mod pool;
mod script;

pub(crate) use script::Handler;

use super::gossip::Club;
use case::Case;
use journal::Journal;
use pool::{Job, Line};
use regrow_serve::membership::Happening;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Happenings waiting for their handlers.
const WAITING_MAX: usize = 4_096;

/// What the handlers share.
struct Shared {
    handlers: Vec<Handler>,
    journal: Mutex<Journal>,
    line: Line,
}

/// Where happenings go in.
#[derive(Clone)]
pub(super) struct Inbox(Arc<Shared>);

/// Opens the journal; what is in it waits already.
pub(super) fn open(data: &Path, handlers: Vec<Handler>) -> std::io::Result<Inbox> {
    let (journal, pending) = Journal::open(&data.join("handlers.journal"))?;
    let line = Line::default();
    for (id, case) in pending {
        line.push(Job { id: Some(id), case });
    }
    Ok(Inbox(Arc::new(Shared { handlers, journal: Mutex::new(journal), line })))
}

impl Inbox {
    /// Takes in what a handler wants. Blocks on the disk.
    pub(super) fn take(&self, happening: &Happening) {
        let shared = &self.0;
        if !shared.handlers.iter().any(|handler| handler.wants(&happening.event)) {
            return;
        }
        let Some(case) = Case::of(&happening.event) else { return };
        if !shared.line.has_room() {
            return tracing::warn!("{WAITING_MAX} happenings wait for their handlers: one more was left out");
        }
        let id = if case.is_kept() {
            let Ok(mut journal) = shared.journal.lock() else { return };
            match journal.add(&case) {
                Ok(id) => Some(id),
                Err(error) => {
                    // It is handled all the same, unless we end before.
                    tracing::error!("cannot write the handlers' journal: {error}");
                    None
                }
            }
        } else {
            None
        };
        for replaced in shared.line.push(Job { id, case }) {
            shared.done(replaced);
        }
    }

    /// Runs handlers for a membership from now on.
    pub(super) fn run(&self, club: Club) {
        tokio::spawn(pool::run(self.0.clone(), club));
    }
}

impl Shared {
    fn done(&self, id: u64) {
        let written = self.journal.lock().map(|mut journal| journal.done(id));
        if let Ok(Err(error)) = written {
            tracing::error!("cannot write the handlers' journal: {error}");
        }
    }
}
