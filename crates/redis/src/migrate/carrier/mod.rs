//! Carries commands to the masters of one side, with patience, and those that must not be repeated exactly once.
//!
//! A job is a few commands of one lane. A plain job may be repeated: it is sent until it is answered. A marked job is sent as
//! a transaction that writes a mark with it; when the fate of one is unknown, the mark tells it. What is no fault of the job
//! (`MOVED`, `ASK`, `TRYAGAIN`, `CLUSTERDOWN`, `LOADING`, `OOM`, a broken link, …) is waited for.
//!
//! A connection that broke may have left commands in the server's hands, which would still be carried out after we have read
//! the mark. So the old connection is killed on the server before the mark counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::address::Address;
use crate::connection::{Connection, Error};
use crate::resp::{Command, Value};

use super::board::Board;
use super::error::MigrateError;
use super::lane::{Lane, Lanes};
use super::place::Side;

mod confirm;
mod exchange;

pub(super) use confirm::Sign;
use exchange::{Attempt, Step, is_wait, lossy, send};

/// Deadline of one exchange: long enough for a server that takes in a big value.
const EXCHANGE: Duration = Duration::from_secs(30);
/// Pauses between attempts: the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A wait shorter than this is not worth telling.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// Commands of one lane.
#[derive(Debug, Clone)]
pub struct Job {
    /// The lane.
    pub lane: Lane,
    /// The commands, in order.
    pub commands: Vec<Command>,
    /// For a job that must not be repeated.
    pub mark: Option<Mark>,
}

/// The mark of a job.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Its key, in the lane.
    pub key: Bytes,
    /// What it holds after the job.
    pub value: Bytes,
    /// What it holds before the job. When another server than before serves the lane, and its mark is something else, the
    /// server has lost writes: the answer is [`Answer::Behind`]. `None`: it is not looked at.
    pub before: Option<Bytes>,
}

impl Job {
    /// A job that may be repeated.
    pub fn plain(lane: Lane, commands: Vec<Command>) -> Self {
        Self { lane, commands, mark: None }
    }
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Carried out; the answers of its commands, refusals of single ones among them.
    Values(Vec<Value>),
    /// Carried out, but the answers were lost with a connection.
    Done,
    /// Not carried out, because the server does not understand one of its commands.
    Rejected {
        /// Which.
        command: usize,
        /// The server's words.
        message: String,
    },
    /// Not carried out, because the server has lost what it had.
    Behind,
}

/// By what name the connections of a process are known to servers.
#[derive(Debug)]
pub struct Who {
    /// The same for every process of a migration.
    pub run: String,
    /// Of this process alone.
    pub process: String,
    /// Servers on which the connections of other processes were ended.
    cleared: Mutex<BTreeSet<String>>,
}

impl Who {
    /// A process of a migration.
    pub fn new(run: &str, process: &str) -> Self {
        Self { run: run.to_owned(), process: process.to_owned(), cleared: Mutex::default() }
    }

    fn name(&self) -> String {
        format!("regrow-migrate:{}:{}", self.run, self.process)
    }
}

#[derive(Debug)]
struct Link {
    connection: Connection,
    /// The name of the server's process.
    server: Arc<str>,
    client: i64,
}

/// Carries jobs. Each task has its own.
#[derive(Debug)]
pub struct Carrier {
    side: Side,
    lanes: Arc<Lanes>,
    who: Arc<Who>,
    board: Board,
    patience: Duration,
    links: BTreeMap<Address, Link>,
    /// Connections that broke: server process and client number.
    ghosts: BTreeMap<Address, Vec<(Arc<str>, i64)>>,
    routes: Vec<Option<Address>>,
    /// Which server process has last carried out a job of a lane.
    servers: Vec<Option<Arc<str>>>,
    /// Which one has last carried out a marked job of it: there its mark is known.
    marked: Vec<Option<Arc<str>>>,
    /// How often a lane was served by another server process than before.
    changes: u64,
    /// Servers that have carried something since it was last confirmed.
    unconfirmed: BTreeMap<Address, Arc<str>>,
    /// Server processes that have the last sign, or of which it is known what they have.
    signed: BTreeSet<Arc<str>>,
}

impl Carrier {
    /// A carrier for one side.
    pub fn new(side: Side, lanes: Arc<Lanes>, who: Arc<Who>, board: Board, patience: Duration) -> Self {
        let count = lanes.count();
        Self {
            side,
            lanes,
            who,
            board,
            patience,
            links: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            routes: vec![None; count],
            servers: vec![None; count],
            marked: vec![None; count],
            changes: 0,
            unconfirmed: BTreeMap::new(),
            signed: BTreeSet::new(),
        }
    }

    /// The lanes of this side.
    pub fn lanes(&self) -> &Arc<Lanes> {
        &self.lanes
    }

    /// The side.
    pub fn side(&self) -> &Side {
        &self.side
    }

    /// How often a lane was found at another server process than before: a fail-over, a restart, or moved slots.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Carries jobs until each has an answer, all servers at once. Jobs of the same lane in one call are carried out in
    /// order only if nothing goes wrong: give one job a lane where order matters. The caller bounds their size.
    ///
    /// Errors: a refusal that waiting does not help; [`MigrateError::Patience`]; [`MigrateError::Stopped`].
    pub async fn carry(&mut self, jobs: Vec<Job>) -> Result<Vec<Answer>, MigrateError> {
        let mut answers: Vec<Option<Answer>> = vec![None; jobs.len()];
        let mut todo: Vec<Attempt> =
            jobs.into_iter().enumerate().map(|(index, job)| Attempt { index, job, ask: None, unsure: false }).collect();
        let (mut since, mut pause, mut told) = (Instant::now(), PAUSE_MIN, false);
        while !todo.is_empty() {
            let before = todo.len();
            let (left, why, at_once) = self.round(todo, &mut answers).await?;
            todo = left;
            if todo.len() < before {
                (since, pause) = (Instant::now(), PAUSE_MIN);
            }
            if todo.is_empty() || at_once {
                continue;
            }
            let why = why.unwrap_or_else(|| "nobody serves the slot".to_owned());
            if since.elapsed() >= self.patience {
                return Err(MigrateError::Patience { after: self.patience, why });
            }
            if since.elapsed() >= TELL_AFTER {
                self.board.waiting(Some(why));
                told = true;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.board.stopped() => return Err(MigrateError::Stopped),
            }
            pause = (pause * 2).min(PAUSE_MAX);
            self.refresh().await;
        }
        if told {
            self.board.waiting(None);
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// One job.
    pub async fn one(&mut self, job: Job) -> Result<Answer, MigrateError> {
        Ok(self.carry(vec![job]).await?.pop().unwrap_or(Answer::Done))
    }

    /// The answers of a plain job; the first refusal is an error.
    pub async fn values(&mut self, lane: Lane, commands: Vec<Command>) -> Result<Vec<Value>, MigrateError> {
        let name = commands.first().map_or("", Command::name);
        let Answer::Values(values) = self.one(Job::plain(lane, commands)).await? else { return Ok(Vec::new()) };
        match values.iter().find_map(|value| if let Value::Error(message) = value { Some(message) } else { None }) {
            Some(message) => Err(self.refused(lane, name, message)),
            None => Ok(values),
        }
    }

    /// The error for a refusal that waiting does not help.
    pub fn refused(&self, lane: Lane, command: &'static str, message: &[u8]) -> MigrateError {
        let address = self.routes[usize::from(lane)].clone().unwrap_or_else(|| Address::new("?", 0));
        Error::Reply { address, command, message: String::from_utf8_lossy(message).into_owned() }.into()
    }

    async fn round(
        &mut self,
        todo: Vec<Attempt>,
        answers: &mut [Option<Answer>],
    ) -> Result<(Vec<Attempt>, Option<String>, bool), MigrateError> {
        if todo.iter().any(|attempt| attempt.ask.is_none() && self.routes[usize::from(attempt.job.lane)].is_none()) {
            self.refresh().await;
        }
        let (mut left, mut why, mut redirected) = (Vec::new(), None, false);
        // A side has few masters.
        let mut groups: Vec<(Address, bool, Vec<Attempt>)> = Vec::new();
        for attempt in todo {
            let asking = attempt.ask.is_some();
            match attempt.ask.as_ref().or(self.routes[usize::from(attempt.job.lane)].as_ref()) {
                Some(place) => match groups.iter_mut().find(|(at, ask, _)| at == place && *ask == asking) {
                    Some((_, _, attempts)) => attempts.push(attempt),
                    None => groups.push((place.clone(), asking, vec![attempt])),
                },
                None => left.push(attempt),
            }
        }
        let mut sending = JoinSet::new();
        for (address, asking, attempts) in groups {
            let link = match self.links.remove(&address) {
                Some(link) => link,
                None => match self.connect(&address).await {
                    Ok(link) => link,
                    Err(error) if patient(&error) => {
                        why = Some(crate::admin::chain(&error));
                        left.extend(attempts.into_iter().map(|attempt| Attempt { ask: None, ..attempt }));
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            let check: Vec<bool> = attempts
                .iter()
                .map(|attempt| {
                    let other = self.marked[usize::from(attempt.job.lane)].as_ref() != Some(&link.server);
                    let mark = attempt.job.mark.as_ref();
                    !asking && mark.is_some_and(|mark| attempt.unsure || (other && mark.before.is_some()))
                })
                .collect();
            let server = self.unconfirmed.entry(address.clone()).or_insert_with(|| Arc::clone(&link.server));
            if *server != link.server {
                *server = Arc::clone(&link.server);
                self.changes += 1;
            }
            sending.spawn(async move { send(address, link, attempts, check, asking).await });
        }
        while let Some(sent) = sending.join_next().await {
            let Ok((address, link, attempts, steps)) = sent else { continue };
            match steps {
                Err(error) => {
                    self.ghosts.entry(address).or_default().push((link.server, link.client));
                    if !patient(&error) {
                        return Err(error.into());
                    }
                    why = Some(crate::admin::chain(&error));
                    left.extend(attempts.into_iter().map(|attempt| Attempt { ask: None, unsure: true, ..attempt }));
                }
                Ok(steps) => {
                    for (attempt, step) in attempts.into_iter().zip(steps) {
                        let lane = usize::from(attempt.job.lane);
                        let attempt = Attempt { ask: None, unsure: false, ..attempt };
                        match step {
                            Step::Done(answer) => {
                                if self.servers[lane].as_ref() != Some(&link.server) {
                                    self.changes += u64::from(self.servers[lane].is_some());
                                    self.servers[lane] = Some(Arc::clone(&link.server));
                                }
                                if attempt.job.mark.is_some() {
                                    self.marked[lane] = Some(Arc::clone(&link.server));
                                }
                                answers[attempt.index] = Some(answer);
                            }
                            Step::Moved(place) => {
                                redirected |= self.routes[lane].as_ref() != Some(&place);
                                self.routes[lane] = Some(place);
                                left.push(attempt);
                            }
                            Step::Ask(place) => {
                                redirected = true;
                                left.push(Attempt { ask: Some(place), ..attempt });
                            }
                            Step::Again(reason) => {
                                why = Some(format!("{address}: {reason}"));
                                left.push(attempt);
                            }
                        }
                    }
                    self.links.insert(address, link);
                }
            }
        }
        // The order of the caller, so that it is kept where nothing went wrong.
        left.sort_by_key(|attempt| attempt.index);
        Ok((left, why.clone(), redirected && why.is_none()))
    }

    /// Learns anew who serves what. Where nobody says, what was known stays.
    async fn refresh(&mut self) {
        let Ok(shards) = self.side.shards().await else { return };
        if !self.lanes.cluster() {
            self.routes[0] = shards.into_iter().next().map(|shard| shard.address);
            return;
        }
        for shard in shards {
            for slot in shard.slots.iter() {
                self.routes[usize::from(slot.number())] = Some(shard.address.clone());
            }
        }
    }

    async fn connect(&mut self, address: &Address) -> Result<Link, Error> {
        let mut connection = self.side.dialer().connect(address).await?;
        connection.ok(&Command::new("CLIENT SETNAME").arg(self.who.name())).await?;
        let client = connection.int(&Command::new("CLIENT ID")).await?;
        let info = connection.info().await?;
        let server: Arc<str> = info.text("run_id").unwrap_or_default().into();
        // A transaction that may not be begun would let its commands loose one by one.
        connection.ok(&Command::new("MULTI")).await?;
        connection.call(&Command::new("EXEC")).await?;
        for (there, ghost) in self.ghosts.remove(address).unwrap_or_default() {
            if there == server {
                kill(&mut connection, ghost).await?;
            }
        }
        let fresh = self.who.cleared.lock().unwrap_or_else(PoisonError::into_inner).insert(server.to_string());
        if fresh {
            let list = connection.text(&Command::new("CLIENT LIST")).await?;
            for ghost in others(&list, &self.who) {
                kill(&mut connection, ghost).await?;
            }
        }
        connection.set_timeout(EXCHANGE);
        Ok(Link { connection, server, client })
    }

    /// The same on every master; refusals are given back. It may be repeated.
    pub async fn everywhere(&mut self, commands: &[Command]) -> Result<Vec<(Address, Vec<Value>)>, MigrateError> {
        let since = Instant::now();
        loop {
            let why = match self.each_master(commands).await {
                Ok(answers) => {
                    let waits = |value: &Value| match value {
                        Value::Error(message) => is_wait(message),
                        _ => false,
                    };
                    match answers.iter().find(|(_, values)| values.iter().any(waits)) {
                        None => return Ok(answers),
                        Some((address, _)) => format!("{address} cannot take it now"),
                    }
                }
                Err(error) if patient(&error) => crate::admin::chain(&error),
                Err(error) => return Err(error.into()),
            };
            self.wait(since, why).await?;
        }
    }

    /// Commands that may be repeated, for one server. Waits for it as for any other; when it is no master any more, the error
    /// is [`MigrateError::Behind`].
    pub async fn at(&mut self, address: &Address, commands: &[Command]) -> Result<Vec<Value>, MigrateError> {
        let since = Instant::now();
        loop {
            let why = match self.try_at(address, commands).await {
                Ok(values) => match values.iter().find_map(|value| match value {
                    Value::Error(message) => Some(message.clone()),
                    _ => None,
                }) {
                    None => return Ok(values),
                    Some(message) if is_wait(&message) => lossy(&message),
                    Some(message) => {
                        let command = commands.first().map_or("", Command::name);
                        let message = lossy(&message);
                        return Err(Error::Reply { address: address.clone(), command, message }.into());
                    }
                },
                Err(error) if patient(&error) => crate::admin::chain(&error),
                Err(error) => return Err(error.into()),
            };
            if let Ok(shards) = self.side.shards().await
                && shards.iter().all(|shard| shard.address != *address)
            {
                return Err(MigrateError::Behind);
            }
            self.wait(since, why).await?;
        }
    }

    /// Before the next of several tries that began at `since`: a pause, and why is shown meanwhile.
    async fn wait(&self, since: Instant, why: String) -> Result<(), MigrateError> {
        if since.elapsed() >= self.patience {
            return Err(MigrateError::Patience { after: self.patience, why });
        }
        self.board.waiting(Some(why));
        tokio::select! {
            () = sleep(PAUSE_MAX) => {}
            () = self.board.stopped() => return Err(MigrateError::Stopped),
        }
        self.board.waiting(None);
        Ok(())
    }

    async fn try_at(&mut self, address: &Address, commands: &[Command]) -> Result<Vec<Value>, Error> {
        let mut link = match self.links.remove(address) {
            Some(link) => link,
            None => self.connect(address).await?,
        };
        match link.connection.pipeline(commands).await {
            Ok(values) => {
                self.links.insert(address.clone(), link);
                Ok(values)
            }
            Err(error) => {
                self.ghosts.entry(address.clone()).or_default().push((link.server, link.client));
                Err(error)
            }
        }
    }

    async fn each_master(&mut self, commands: &[Command]) -> Result<Vec<(Address, Vec<Value>)>, Error> {
        let mut answers = Vec::new();
        for shard in self.side.shards().await? {
            let mut link = match self.links.remove(&shard.address) {
                Some(link) => link,
                None => self.connect(&shard.address).await?,
            };
            match link.connection.pipeline(commands).await {
                Ok(values) => {
                    self.links.insert(shard.address.clone(), link);
                    answers.push((shard.address, values));
                }
                Err(error) => {
                    self.ghosts.entry(shard.address).or_default().push((link.server, link.client));
                    return Err(error);
                }
            }
        }
        Ok(answers)
    }
}

/// Whether waiting may help.
fn patient(error: &Error) -> bool {
    error.retryable() || matches!(error.code(), Some("READONLY" | "MISCONF" | "OOM" | "NOREPLICAS"))
}

/// Connections of other processes of the same migration, in a `CLIENT LIST`.
fn others(list: &str, who: &Who) -> Vec<i64> {
    let (run, own) = (format!("name=regrow-migrate:{}:", who.run), format!("name={}", who.name()));
    list.lines()
        .filter(|line| line.split(' ').any(|field| field.starts_with(&run) && field != own))
        .filter_map(|line| line.strip_prefix("id=")?.split(' ').next()?.parse().ok())
        .collect()
}

async fn kill(connection: &mut Connection, client: i64) -> Result<(), Error> {
    match connection.call(&Command::new("CLIENT KILL ID").number(client)).await {
        // It is gone already.
        Err(Error::Reply { message, .. }) if message.starts_with("ERR") => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ghosts() {
        let who = Who::new("r", "b");
        let list = "id=5 addr=1 name=regrow-migrate:r:a age=1\nid=6 addr=1 name=regrow-migrate:r:b age=1\nid=7 addr=1 name= age=1\n";
        assert_eq!(others(list, &who), [5]);
    }
}
