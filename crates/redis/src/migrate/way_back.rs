//! The way back: after a cut-over, what clients write to the new side is carried back to the old one, until somebody confirms.
//!
//! It is a migration in the other direction, without a snapshot: at the moment of the cut-over both sides are the same. Three things
//! are needed for it. Its streams are attached before the pause ([`Shadow`]), because a master without replicas keeps no
//! history. Where they begin is on disk before the switch ([`Crossing`]), so that a kill at any moment leaves no doubt about
//! which side clients write to. And the old side's expiries are held like any target's, in time: a key that the old side
//! expires by its own clock while its renewal is still on its way would be lost. Those that were near when the pause began are copied
//! anew instead; the others are held long before they are near.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{OwnedRwLockWriteGuard, oneshot};

use crate::address::Address;
use crate::connection::{Connection, Dialer};
use crate::proxy::{Remote, RemoteError};
use crate::replication::{Begin, Feed, Position, attach, pipe};
use crate::resp::Command;
use crate::slot_set::SlotSet;
use crate::url::Url;

use super::carrier::Job;
use super::error::MigrateError;
use super::flow::Task;
use super::journal::{FeedJournal, FeedStage, Journal, State, save};
use super::lane::Lane;
use super::live::{KEPT_MAX, lanes_of, mark_name, mark_value};
use super::options::{Keys, NEAR_MS, Options, Shared, now_ms};
use super::place::Side;
use super::run::Hand;

/// The number of a way back's first marks.
const GENERATION: u64 = 1;
/// Lanes whose marks are written at once.
const MARKED_AT_ONCE: usize = 1000;

/// Follows the stream of a master and throws it away, until a position is asked for.
#[derive(Debug)]
struct Shadow {
    slots: SlotSet,
    address: Address,
    until: oneshot::Sender<u64>,
    task: Task<Result<Feed, MigrateError>>,
}

impl Shadow {
    /// One for each master of a side.
    async fn all(side: &Side) -> Result<Vec<Self>, MigrateError> {
        let mut shadows = Vec::new();
        for shard in side.shards().await? {
            let feed = begin(side, &shard.address).await?;
            let (until, asked) = oneshot::channel();
            let task = Task(tokio::spawn(follow(feed, asked)));
            shadows.push(Self { slots: shard.slots, address: shard.address, until, task });
        }
        Ok(shadows)
    }

    /// The feed, all up to the master's position of now behind it.
    async fn here(mut self, dialer: &Dialer) -> Result<(SlotSet, Feed), MigrateError> {
        let (_, offset) = here(&mut dialer.connect(&self.address).await?).await?;
        let _ = self.until.send(offset);
        match (&mut self.task.0).await {
            Ok(feed) => Ok((self.slots, feed?)),
            Err(error) => Err(MigrateError::refused(format!("a task ended early: {error}"), "try again")),
        }
    }
}

/// History and position of a master's stream.
async fn here(link: &mut Connection) -> Result<(String, u64), MigrateError> {
    let info = link.info().await?;
    let at = info.number("master_repl_offset").and_then(|at| u64::try_from(at).ok());
    match (info.text("master_replid"), at) {
        (Some(history), Some(at)) => Ok((history.to_owned(), at)),
        _ => Err(MigrateError::refused(
            format!("{} does not tell the position of its stream", link.address()),
            "see what its log says",
        )),
    }
}

/// Attaches to a master, from where it is if it keeps a history, else by a snapshot that is thrown away.
async fn begin(side: &Side, address: &Address) -> Result<Feed, MigrateError> {
    // Which database is chosen at a position is known in a cluster only: there is no other.
    let from = if side.cluster() {
        let (history, offset) = here(&mut side.dialer().connect(address).await?).await?;
        Some(Position { history, offset, db: 0 })
    } else {
        None
    };
    let (begin, mut feed) = attach(side.dialer(), address, from.as_ref()).await?;
    if begin == Begin::Full {
        let (writer, mut reader) = pipe();
        let drain = tokio::task::spawn_blocking(move || io::copy(&mut reader, &mut io::sink()));
        feed.snapshot(&writer).await?;
        drop(writer);
        let _ = drain.await;
    }
    Ok(feed)
}

async fn follow(mut feed: Feed, mut asked: oneshot::Receiver<u64>) -> Result<Feed, MigrateError> {
    let mut end: Option<u64> = None;
    while end.is_none_or(|end| feed.position().offset < end) {
        tokio::select! {
            entry = feed.next_entry() => drop(entry?),
            asked = &mut asked, if end.is_none() => match asked {
                Ok(at) => end = Some(at),
                Err(_) => return Err(MigrateError::Stopped),
            },
        }
    }
    Ok(feed)
}

/// What is known under the pause, before the switch.
#[derive(Debug)]
pub(super) struct AtSwitch {
    /// Keys of the target whose expiries are near; `None`: too many.
    pub near: Option<Keys>,
    /// When expiries began to be released, in milliseconds since 1970: what is not in `near` expires [`NEAR_MS`] after it or later.
    pub released_from: u64,
    /// Keeps late writes to the source from the target.
    pub still: OwnedRwLockWriteGuard<()>,
}

/// A cut-over with a way back, as it is remembered.
#[derive(Debug)]
pub struct Crossing {
    folder: PathBuf,
    journal: Journal,
    word: String,
    shadows: Vec<Shadow>,
    feeds: Vec<Feed>,
    still: Option<OwnedRwLockWriteGuard<()>>,
}

/// The folder of the way back in that of a migration.
pub fn folder(state: &Path) -> PathBuf {
    state.join("back")
}

impl Crossing {
    /// For the migration of a state folder. `word`: one that no other migration has.
    pub(super) fn new(folder: PathBuf, journal: Journal, word: &str) -> Self {
        Self { folder, journal, word: word.to_owned(), shadows: Vec::new(), feeds: Vec::new(), still: None }
    }

    /// Before the pause: sees that there can be a way back, and attaches to the target.
    pub(super) async fn prepare(&mut self, shared: &Shared) -> Result<(), MigrateError> {
        let options = &shared.options;
        if options.databases.values().collect::<BTreeSet<_>>().len() < options.databases.len() {
            return Err(MigrateError::refused(
                "two databases of the source go to one of the target: nothing would tell them apart on the way back",
                "cut over without --way-back",
            ));
        }
        let old = versions(&shared.source).await?.into_iter().min().unwrap_or_default();
        let new = versions(&shared.target).await?.into_iter().max().unwrap_or_default();
        if old < new {
            let shown = |(major, minor): (u32, u32)| format!("{major}.{minor}");
            return Err(MigrateError::refused(
                format!(
                    "the target is of version {} and the source of {}, which may not understand its values",
                    shown(new),
                    shown(old)
                ),
                "cut over without --way-back",
            ));
        }
        self.shadows = Shadow::all(&shared.target).await?;
        Ok(())
    }

    /// Under the pause, when both sides are the same: notes where the way back begins, and that the proxy at this socket is about to
    /// switch.
    pub(super) async fn begin(&mut self, shared: &Shared, at: AtSwitch, proxy: &Path) -> Result<(), MigrateError> {
        let mut begun = Vec::new();
        for shadow in std::mem::take(&mut self.shadows) {
            begun.push(shadow.here(shared.target.dialer()).await?);
        }
        let databases: BTreeMap<u32, u32> = shared.options.databases.iter().map(|(from, to)| (*to, *from)).collect();
        let state = State::open(&folder(&self.folder))?;
        let slots = begun.iter().map(|(slots, _)| slots.to_string()).collect();
        let options = Options { databases, ..Options::default() };
        let mut journal = state.begin(&self.word, &self.journal.to, &self.journal.from, slots, &options)?;
        journal.hold_before_ms = Some(at.released_from.saturating_add(NEAR_MS));
        let near: Option<BTreeSet<_>> = at.near.map(|near| near.into_iter().collect());
        for (index, (slots, feed)) in begun.iter().enumerate() {
            first_journal(slots, feed.position(), near.as_ref()).save(&state.feed(index))?;
        }
        state.save(&journal)?;
        self.journal.crossing = Some(proxy.to_owned());
        save(&self.folder, &self.journal)?;
        self.feeds = begun.into_iter().map(|(_, feed)| feed).collect();
        self.still = Some(at.still);
        Ok(())
    }

    /// After the switch, or when it was not made.
    pub(super) fn end(&mut self, crossed: bool) -> Result<(), MigrateError> {
        self.journal.crossed = crossed;
        if !crossed {
            (self.journal.crossing, self.still) = (None, None);
            self.feeds.clear();
        }
        save(&self.folder, &self.journal)
    }

    /// The feeds of the way back, each at the position where it begins. Empty if nothing was switched. Call it when the feeds of the
    /// migration are stopped: from then on late writes to the source are kept from the target by nothing else.
    pub fn into_feeds(self) -> Vec<Feed> {
        self.feeds
    }
}

/// What a feed of the way back remembers first: it is in step, but for the keys whose expiries are near. With too many of these
/// it begins with a snapshot.
fn first_journal(slots: &SlotSet, at: Position, near: Option<&BTreeSet<(u32, bytes::Bytes)>>) -> FeedJournal {
    let mut journal = FeedJournal { base: at.offset, generation: GENERATION, ..FeedJournal::default() };
    let Some(near) = near else { return FeedJournal { dirty: true, ..journal } };
    let ours = near.iter().filter(|(_, key)| slots.contains(crate::slot::Slot::of_key(key)));
    journal.note_anew(ours.map(|(db, key)| (*db, key)));
    if journal.anew.len() > KEPT_MAX / 2 {
        return FeedJournal { dirty: true, anew: BTreeSet::new(), ..journal };
    }
    FeedJournal { stage: FeedStage::Live, snapshot: Some(at), ..journal }
}

/// Whether clients have been switched, as far as the journal and the proxy know: yes, no.
pub(super) async fn crossed(journal: &Journal) -> Result<bool, MigrateError> {
    let Some(proxy) = &journal.crossing else { return Ok(false) };
    if journal.crossed {
        return Ok(true);
    }
    let unknown = |why: String| {
        MigrateError::refused(
            format!("it is not known whether the proxy was switched when the last process ended: {why}"),
            "see that the proxy runs as it did then, and run the same command again",
        )
    };
    match Remote::new(proxy).status().await {
        Ok(status) if same(&status.to, &journal.to) => Ok(true),
        Ok(status) if same(&status.to, &journal.from) => Ok(false),
        Ok(status) => Err(unknown(format!("it goes to {}", status.to))),
        Err(error) => Err(unknown(crate::admin::chain(&error))),
    }
}

/// Whether two URLs name the same place, whoever goes there.
fn same(one: &str, other: &str) -> bool {
    let place = |text: &str| Some(text.parse::<Url>().ok()?.place);
    place(one).is_some_and(|one| place(other) == Some(one))
}

/// What came of a switch.
#[derive(Debug)]
pub(super) enum Switched {
    Yes,
    No(RemoteError),
    /// Nobody answers.
    Unknown(RemoteError),
}

/// Switches a paused proxy to a side.
pub(super) async fn switch(proxy: &Remote, to: &Side) -> Switched {
    let Err(error) = proxy.switch_paused(to.url()).await else { return Switched::Yes };
    if matches!(error, RemoteError::Refused(_)) {
        return Switched::No(error);
    }
    match proxy.status().await {
        Ok(status) if same(&status.to, &to.url().to_string()) => Switched::Yes,
        Ok(_) => Switched::No(error),
        Err(_) => Switched::Unknown(error),
    }
}

impl Hand {
    /// Writes the first marks of a way back, where there are none.
    pub(super) async fn mark(&self, feeds: &[FeedJournal]) -> Result<(), MigrateError> {
        let who = Arc::new(self.shared.to_target("begin"));
        let mut carrier = self.shared.carrier(&who);
        for (index, (slots, journal)) in self.slots.iter().zip(feeds).enumerate() {
            if journal.stage != FeedStage::Live {
                continue;
            }
            let value = mark_value(journal.generation, journal.base);
            let mark = |lane: &Lane| {
                let key = self.shared.lanes.key(*lane, &mark_name(index));
                Job::plain(*lane, vec![Command::new("SET").arg(key).arg(&value).arg("NX")])
            };
            for lanes in lanes_of(&self.shared, slots).chunks(MARKED_AT_ONCE) {
                carrier.carry(lanes.iter().map(mark).collect()).await?;
            }
        }
        Ok(())
    }
}

/// Whether expiries that were held now were held in time.
pub(super) fn in_time(journal: &Journal) -> bool {
    journal.hold_before_ms.is_none_or(|before| now_ms() < before)
}

/// Ends the connections of clients: those that did not come by the proxy would write to the side that is left.
pub(super) async fn send_away(links: &mut [Connection]) -> Result<(), MigrateError> {
    for link in links {
        link.call(&Command::new("CLIENT KILL").args(["TYPE", "normal", "SKIPME", "yes"])).await?;
    }
    Ok(())
}

async fn versions(side: &Side) -> Result<Vec<(u32, u32)>, MigrateError> {
    let mut versions = Vec::new();
    for mut link in side.links().await? {
        let (major, minor, _) = link.info().await?.version();
        versions.push((major, minor));
    }
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Near keys are noted with the feed of their slot; too many of them make a snapshot.
    #[test]
    fn first_journals() {
        let at = Position { history: "h".repeat(40), offset: 70, db: 0 };
        let key = bytes::Bytes::from_static(b"k");
        let near = BTreeSet::from([(0, key.clone())]);
        let journal = first_journal(&SlotSet::full(), at.clone(), Some(&near));
        assert_eq!((journal.stage.clone(), journal.base, journal.anew()), (FeedStage::Live, 70, near.clone()));
        let elsewhere = first_journal(&SlotSet::new(), at.clone(), Some(&near));
        assert_eq!((elsewhere.stage.clone(), elsewhere.anew().len()), (FeedStage::Live, 0));
        let many: BTreeSet<_> = (0..=KEPT_MAX / 2).map(|n| (0, bytes::Bytes::from(n.to_string()))).collect();
        for near in [None, Some(&many)] {
            let journal = first_journal(&SlotSet::full(), at.clone(), near);
            assert_eq!((journal.stage.clone(), journal.dirty, journal.anew().len()), (FeedStage::Taking, true, 0));
        }
    }
}
