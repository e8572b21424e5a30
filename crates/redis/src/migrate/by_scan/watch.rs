//! Looks after what tells no event: commands for whole databases, libraries of functions, streams with groups; and whether the servers
//! of the target are still the same.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::connection::{Connection, Error};
use crate::info::Info;
use crate::resp::{Command, Value};

use super::super::error::MigrateError;
use super::super::options::Shared;
use super::super::sign::Signer;
use super::super::telling::Telling;
use super::{Ask, Ended};

/// How often it is looked, when nobody asks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the source may take to answer: others may have it dump a big value.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long a replica of the target may take to confirm.
const CONFIRM_WITHIN: Duration = Duration::from_millis(200);
/// Commands that change keys and tell no event of them.
const SILENT: [&str; 3] = ["flushall", "flushdb", "swapdb"];

/// Watches over one feed.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Shared,
    feed: usize,
    link: Connection,
    /// How often such commands have been called.
    silent: u64,
    signer: Signer,
    /// What was copied last.
    functions: Option<Value>,
}

impl Watch {
    /// From now on. `link`: to the master of the source.
    pub(super) async fn new(shared: &Shared, feed: usize, mut link: Connection) -> Result<Self, Ended> {
        link.set_timeout(ANSWER_WITHIN);
        let silent = silent(&mut link).await?;
        let mut signer = Signer::new(shared, feed, 0);
        signer.kept().await?;
        let mut watch = Self { shared: shared.clone(), feed, link, silent, signer, functions: None };
        watch.functions().await?;
        Ok(watch)
    }

    /// Watches until all has to be read again, and answers those who ask for a position: by `pings`, after it has looked.
    pub(super) async fn run(
        &mut self,
        asked: &mut mpsc::Receiver<Ask>,
        pings: mpsc::Sender<oneshot::Sender<u64>>,
    ) -> Result<Infallible, Ended> {
        let mut look_at = Instant::now() + LOOK_EVERY;
        loop {
            let ask = tokio::select! {
                ask = asked.recv() => ask,
                () = sleep_until(look_at) => None,
            };
            let thorough = ask.as_ref().is_none_or(|ask| ask.thorough);
            if silent(&mut self.link).await? != self.silent {
                let what = "a database of the source was emptied or exchanged, which tells no event of its keys";
                return Err(Ended::Again(what.to_owned()));
            }
            if thorough {
                self.functions().await?;
                self.signer.next(CONFIRM_WITHIN).await;
                if self.signer.moved() {
                    return Err(Ended::Again("a server of the target is another than before".to_owned()));
                }
                look_at = Instant::now() + LOOK_EVERY;
            }
            let Some(ask) = ask else { continue };
            if let (true, Some(changes)) = (thorough, self.shared.scans.get(self.feed)) {
                let streams: Vec<_> = changes.streams().keys().cloned().collect();
                changes.touch(streams);
            }
            if pings.send(ask.reply).await.is_err() {
                return Err(Ended::Again("the link of the events is gone".to_owned()));
            }
        }
    }

    /// Copies libraries of functions, if they are others than before. A cluster has the same on each master, so one feed does it.
    async fn functions(&mut self) -> Result<(), Ended> {
        if self.feed != 0 || self.shared.source.telling() == Telling::Relative {
            return Ok(());
        }
        let dump = match self.link.call(&Command::new("FUNCTION DUMP")).await {
            Ok(dump) => dump,
            Err(error) if error.code() == Some("NOPERM") => {
                return Err(MigrateError::refused(
                    format!("whether the source has libraries of functions is not told: {error}"),
                    "give the user there the right to FUNCTION DUMP",
                )
                .into());
            }
            // A server without the command has none.
            Err(Error::Reply { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if self.functions.as_ref() == Some(&dump) {
            return Ok(());
        }
        if let Some(bytes) = dump.bytes() {
            let restore = Command::new("FUNCTION RESTORE").arg(bytes).arg("REPLACE");
            for (address, values) in self.signer.carrier.everywhere(&[restore]).await? {
                if let Some(Value::Error(message)) = values.first() {
                    let message = String::from_utf8_lossy(message);
                    return Err(MigrateError::refused(
                        format!("{address} does not take the libraries of functions: {message}"),
                        "remove the library on the source, or use a target that takes it",
                    )
                    .into());
                }
            }
        }
        self.functions = Some(dump);
        Ok(())
    }
}

/// How often commands were called that tell no event. That it is another number says that there were such, or that the numbers
/// were reset.
async fn silent(link: &mut Connection) -> Result<u64, Error> {
    let info = Info::parse(&link.text(&Command::new("INFO").arg("commandstats")).await?);
    let calls = |name: &&str| info.text(&format!("cmdstat_{name}")).and_then(super::super::audit::calls).unwrap_or(0);
    Ok(SILENT.iter().map(calls).sum())
}
