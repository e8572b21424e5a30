//! `migrate`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::migrate::MigrateError;
use crate::migrate::audit::{Audit, Master, Weight, audit, old_enough};
use crate::migrate::board::Status;
use crate::migrate::cut_over::{CutOver, CutOverReport};
use crate::migrate::options::Options;
use crate::migrate::run::{self, Hand, Migration, Sides, begun};
use crate::migrate::verify::{Extent, Verdict};
use crate::migrate::way_back::Crossing;
use crate::url::{BadUrl, Place, Url};

use tokio::sync::watch;

use super::access::{Access, Compare, Consent};
use super::failure::{Exit, Failure};
use super::io::Io;
use super::migrate_back;
use super::migrate_request::{self as request, Answer, Request};
use super::migrate_show::{Line, audit_shown, special_shown, verdict_shown};

/// Between two tries to reach a server.
const PAUSE: Duration = Duration::from_millis(500);

/// Arguments of `migrate`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where from: redis://, redis-sentinel:// or redis-cluster://; by TLS rediss://, …
    #[arg(long, value_name = "URL", value_parser = url)]
    pub(super) from: Url,
    /// Where to: redis://, redis-sentinel:// or redis-cluster://, empty; by TLS rediss://, …
    #[arg(long, value_name = "URL", value_parser = url)]
    pub(super) to: Url,
    /// How the source is read: by replication, or where that is refused by scan, which needs its notify-keyspace-events to be "AE"
    #[arg(long, value_enum, value_name = "WAY", default_value_t = By::Replication)]
    by: By,
    /// Copy, compare and stop; without it live writes are carried over until the cut-over
    #[arg(long)]
    once: bool,
    /// Compare both sides as they are, change nothing, and stop; exit 1 if they differ
    #[arg(long, group = "wish", conflicts_with = "once")]
    compare: bool,
    /// Pause the source's writers, bring the target in step, switch and end: in the process that migrates, or here once it is in step
    #[arg(long, group = "wish", conflicts_with = "once")]
    cut_over: bool,
    /// Shell command that switches the endpoint during the pause
    #[arg(long, value_name = "COMMAND", requires = "cut_over")]
    switch_with: Option<String>,
    /// Admin socket of the `regrow redis proxy` that clients use: it holds their commands during the pause, and is switched
    #[arg(long, value_name = "PATH", requires = "wish", conflicts_with = "switch_with")]
    proxy: Option<PathBuf>,
    /// After the cut-over, carry writes back to the source until --back or --confirm
    #[arg(long, requires = "cut_over", requires = "proxy")]
    way_back: bool,
    /// After a cut-over with a way back: bring clients back to the source
    #[arg(long, group = "wish", conflicts_with = "once", requires = "proxy")]
    pub(super) back: bool,
    /// After a cut-over with a way back: give the source up
    #[arg(long, group = "wish", conflicts_with = "once")]
    pub(super) confirm: bool,
    /// Milliseconds for which writers may be paused; beyond that the cut-over is given up
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pause_max: u64,
    /// Folder that remembers how far it is; the same command goes on from it
    #[arg(long, value_name = "DIR", default_value = "regrow-migrate")]
    pub(super) state: PathBuf,
    /// Where a database goes: FROM=TO; only 0=0 unless given
    #[arg(long, value_name = "FROM=TO", value_parser = database)]
    db: Vec<(u32, u32)>,
    /// A database that is left behind
    #[arg(long, value_name = "N")]
    leave_db: Vec<u32>,
    /// Keys of the snapshot a second, at most
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// MiB of live writes that may wait on disk
    #[arg(long, value_name = "MIB", default_value_t = 16_384, value_parser = clap::value_parser!(u64).range(64..))]
    spool_max: u64,
    /// Seconds for which a server may be unusable before it stops
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,
    /// What is compared: all, none, or one key in N as 1/N
    #[arg(long, value_name = "all|1/N|none", default_value = "all")]
    pub(super) verify: Compare,
    /// Milliseconds by which expiries may differ
    #[arg(long, value_name = "MS", default_value_t = 5)]
    pub(super) ttl_tolerance: u64,
    #[command(flatten)]
    pub(super) consent: Consent,
    #[command(flatten)]
    pub(super) access: Access,
}

/// How the source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    Replication,
    Scan,
}

const EXAMPLES: &str = "\
Examples:
  See what would be done, and what speaks against it:
    regrow redis migrate --from redis://10.0.0.9 --to redis-cluster://10.0.0.1:7001 --dry-run
  Copy once, compare all keys, stop:
    regrow redis migrate --from redis://10.0.0.9 --to redis-cluster://10.0.0.1:7001 --once
  From a server that refuses replication, as hosted ones do:
    regrow redis migrate --by scan --from rediss://cache.example.com --to redis-cluster://10.0.0.1:7001
  Follow live writes, and later, from another terminal in the same folder, cut over:
    regrow redis migrate --from redis://10.0.0.9 --to redis-cluster://10.0.0.1:7001
    regrow redis migrate --from redis://10.0.0.9 --to redis-cluster://10.0.0.1:7001 --cut-over --switch-with ./switch.sh
  Cut over by the proxy that clients use, with a way back, and take it, or give it up:
    regrow redis migrate --from redis://10.0.0.9 --to redis-cluster://10.0.0.1:7001 --cut-over --proxy proxy.sock --way-back
    regrow redis migrate --from redis://10.0.0.9 --to redis-cluster://10.0.0.1:7001 --back --proxy proxy.sock
    regrow redis migrate --from redis://10.0.0.9 --to redis-cluster://10.0.0.1:7001 --confirm";

fn url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error: BadUrl| error.to_string())?;
    if let Place::Server { db, .. } | Place::Sentinel { db, .. } = &url.place
        && *db != 0
    {
        return Err("take the database off the URL, and say with --db FROM=TO where it goes".to_owned());
    }
    Ok(url)
}

fn database(text: &str) -> Result<(u32, u32), String> {
    let pair = text.split_once('=').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    pair.ok_or_else(|| "write FROM=TO, two numbers".to_owned())
}

#[derive(serde::Serialize)]
struct Outcome<'a> {
    done: bool,
    audit: &'a Audit,
    keys: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_over: Option<CutOverReport>,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    if args.way_back && args.by == By::Scan {
        return Err(Failure::Refused {
            why: "there is no way back from a migration by scan: it needs expiries that were held".to_owned(),
            hint: "cut over without --way-back, or migrate by replication".to_owned(),
        });
    }
    let (from, to) = (args.access.secured(&args.from), args.access.secured(&args.to));
    let dialer = args.access.dialer(from.tls || to.tls)?;
    if let Some(exit) = hand_over(&args, io).await? {
        return Ok(exit);
    }
    let resumed = begun(&args.state, &from.to_string(), &to.to_string())?;
    let options = Options {
        databases: if args.db.is_empty() { BTreeMap::from([(0, 0)]) } else { args.db.iter().copied().collect() },
        left: args.leave_db.clone(),
        rate: args.rate,
        spool_bytes_max: args.spool_max << 20,
        patience: Duration::from_secs(args.patience),
        by_scan: args.by == By::Scan,
        ..Options::default()
    };
    let again = resumed.is_some() && !args.compare && !args.consent.dry_run;
    let wait = if again { options.patience } else { Duration::ZERO };
    let sides = patiently(wait, io, async || Sides::open(&from, &to, &dialer).await).await?;
    if args.compare {
        return only_compare(&args, sides, options, io).await;
    }
    if resumed.as_ref().is_some_and(|journal| journal.crossing.is_some()) {
        let mut migration = Migration::open(sides.clone(), &args.state, options.clone(), &word()).await?;
        if migration.crossed().await? {
            if args.consent.dry_run {
                io.say(&format!("would go on with the way back in {}", args.state.display()));
                return Ok(Exit::Done);
            }
            io.say(&format!("going on with the way back in {}", args.state.display()));
            return migrate_back::run(&args, migration, sides, options, Vec::new(), io).await;
        }
    }
    if args.back || args.confirm {
        return Err(Failure::Refused {
            why: format!("{} holds no way back: nothing was cut over with one", args.state.display()),
            hint: "give the --state, --from and --to of the migration".to_owned(),
        });
    }
    forward(&args, sides, options, resumed.is_some(), io).await
}

/// A migration that was begun outlasts a server that is away, also when it is started meanwhile.
async fn patiently<T>(
    patience: Duration,
    io: &mut Io,
    attempt: impl AsyncFn() -> Result<T, MigrateError>,
) -> Result<T, MigrateError> {
    let (since, mut told) = (Instant::now(), false);
    loop {
        match attempt().await {
            Err(MigrateError::Server(error)) if error.retryable() && since.elapsed() < patience => {
                if !told {
                    io.say(&format!("waiting: {}", crate::admin::chain(&error)));
                    told = true;
                }
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

/// From the source to the target.
async fn forward(args: &Args, sides: Sides, options: Options, resumed: bool, io: &mut Io) -> Result<Exit, Failure> {
    let (from, to) = (sides.from.clone(), sides.to.clone());
    let wait = if resumed && !args.consent.dry_run { options.patience } else { Duration::ZERO };
    let look = async || Ok(audit(&sides.source, &sides.target, &options, resumed).await?);
    let found = patiently(wait, io, look).await?;
    let keys = found.source.iter().map(keys_of).sum();
    if args.consent.dry_run {
        let outcome = Outcome { done: false, audit: &found, keys, status: None, verdict: None, cut_over: None };
        io.data(args.access.json, &outcome, || audit_shown(&found, &from, &to))?;
        return Ok(if found.blocked() { Exit::Refused } else { Exit::Done });
    }
    io.say(audit_shown(&found, &from, &to).trim_end());
    if found.blocked() {
        let first = found.findings.iter().find(|finding| finding.weight == Weight::Blocker);
        return Err(Failure::Refused {
            why: first.map_or_else(String::new, |finding| finding.text.clone()),
            hint: "put right what is marked as a blocker, then try again; nothing was changed".to_owned(),
        });
    }
    if resumed {
        io.say(&format!("going on with the migration in {}", args.state.display()));
    } else if !args.consent.yes {
        io.confirm("Migrate?")?;
    }
    let mut migration = Migration::open(sides.clone(), &args.state, options.clone(), &word()).await?;
    migration.start();
    let (hand, crossing) = (migration.hand(), migration.crossing(&word()));
    let board = migration.board().clone();
    let work = work(args, hand, crossing, io);
    let worked = tokio::select! {
        worked = migration.beside(work) => worked.map_err(Failure::from),
        _ = tokio::signal::ctrl_c() => Err(Failure::from(MigrateError::Stopped)),
    };
    io.end_line();
    let status = board.status();
    let mut done = match worked {
        Ok(done) => done,
        Err(error) => {
            migration.stop().await;
            kept(args, io);
            return Err(error);
        }
    };
    if let Some(crossing) = done.crossing.take() {
        migration.halt().await;
        io.say(cut_over_shown(done.cut_over.as_ref()).trim_end());
        let feeds = crossing.into_feeds();
        match migration.crossed().await {
            Ok(true) => return migrate_back::run(args, migration, sides, options, feeds, io).await,
            Ok(false) => {}
            Err(error) => {
                kept(args, io);
                return Err(error.into());
            }
        }
    }
    migration.stop().await;
    let equal = done.verdict.as_ref().is_none_or(Verdict::equal);
    if equal {
        migration.finish().await?;
    }
    let outcome = Outcome {
        done: equal,
        audit: &found,
        keys,
        status: Some(status),
        verdict: done.verdict,
        cut_over: done.cut_over,
    };
    io.data(args.access.json, &outcome, || {
        let mut text = outcome.status.as_ref().map_or_else(String::new, special_shown);
        text += &outcome.verdict.as_ref().map_or_else(String::new, verdict_shown);
        match &outcome.cut_over {
            Some(report) => text += &cut_over_shown(Some(report)),
            None if equal => text += "done: the target has what the source has\n",
            None => text += "not done: the two sides differ; nothing was removed, the same command compares again\n",
        }
        text
    })?;
    Ok(if equal { Exit::Done } else { Exit::Failed })
}

/// Says how to go on with what was broken off.
pub(super) fn kept(args: &Args, io: &mut Io) {
    io.say(&format!("how far it is, is remembered in {}: the same command goes on from there", args.state.display()));
}

fn cut_over_shown(report: Option<&CutOverReport>) -> String {
    report.map_or_else(String::new, |report| {
        format!(
            "cut over: writers were paused for {} ms; {} late write(s) carried over\n",
            report.paused_ms, report.late_writes
        )
    })
}

fn keys_of(master: &Master) -> u64 {
    master.keys.values().sum()
}

struct Done {
    verdict: Option<Verdict>,
    cut_over: Option<CutOverReport>,
    crossing: Option<Crossing>,
}

/// All that is done while the feeds run.
async fn work(args: &Args, hand: Hand, crossing: Crossing, io: &mut Io) -> Result<Done, MigrateError> {
    let mut line = Line::new();
    watch(&hand, io, &mut line, hand.caught_up()).await?;
    let asked = if args.once {
        None
    } else if args.cut_over {
        Some(plan(args))
    } else {
        io.say("in step: live writes are carried over as they come; cut over with --cut-over, stop with Ctrl-C");
        loop {
            match watch(&hand, io, &mut line, request::wait(&args.state)).await? {
                Request::CutOver(plan) => break Some(plan),
                Request::Back(_) | Request::Confirm => {
                    request::answer(&args.state, &Answer::refused("nothing was cut over yet"))?;
                }
            }
        }
    };
    let verdict = match args.verify.0 {
        None => None,
        Some(extent) => Some(compare(&hand, extent, args.ttl_tolerance, io).await?),
    };
    let bad = verdict.as_ref().is_some_and(|verdict| !verdict.equal());
    let mut crossing = asked.as_ref().is_some_and(|plan| plan.way_back).then_some(crossing);
    let done = match asked {
        None => Ok(Done { verdict, cut_over: None, crossing: None }),
        Some(_) if bad => Ok(Done { verdict, cut_over: None, crossing: None }),
        Some(plan) => hand
            .cut_over(&plan, args.ttl_tolerance, crossing.as_mut(), &mut |step| io.say(step))
            .await
            .map(|report| Done { verdict, cut_over: Some(report), crossing }),
    };
    if !args.once && !args.cut_over {
        let said = done.as_ref().map_err(|error| crate::admin::chain(error));
        let said = said.map(|done| (done.cut_over.as_ref(), done.verdict.as_ref()));
        request::answer(&args.state, &Answer::of("cut over", said))?;
    }
    done
}

/// How a cut-over in either direction is to go about it.
pub(super) fn plan(args: &Args) -> CutOver {
    CutOver {
        pause_max_ms: args.pause_max,
        switch_with: args.switch_with.clone(),
        proxy: args.proxy.clone(),
        way_back: args.way_back,
        linger_ms: 2000,
    }
}

/// Hands what is wished to the process that migrates, if there is one.
async fn hand_over(args: &Args, io: &mut Io) -> Result<Option<Exit>, Failure> {
    let (ask, question) = if args.cut_over {
        (Request::CutOver(plan(args)), "Pause the source's writers and cut over?")
    } else if args.back {
        (Request::Back(plan(args)), "Pause the target's writers and go back to the source?")
    } else if args.confirm {
        (Request::Confirm, "Give the source up?")
    } else {
        return Ok(None);
    };
    if args.consent.dry_run {
        return Ok(None);
    }
    if !args.consent.yes && request::running(&args.state)? {
        io.confirm(question)?;
    }
    let Some(answer) = request::hand_over(&args.state, &ask).await? else { return Ok(None) };
    io.data(args.access.json, &answer, || answer.text.clone())?;
    Ok(Some(if answer.done { Exit::Done } else { Exit::Failed }))
}

/// Shows progress while something goes on.
pub(super) async fn watch<T>(
    hand: &Hand,
    io: &mut Io,
    line: &mut Line,
    work: impl Future<Output = Result<T, MigrateError>>,
) -> Result<T, MigrateError> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                line.show(&hand.status(), io, true);
                io.end_line();
                return done;
            }
            () = tokio::time::sleep(Line::EVERY) => line.show(&hand.status(), io, false),
        }
    }
}

async fn only_compare(args: &Args, sides: Sides, options: Options, io: &mut Io) -> Result<Exit, Failure> {
    old_enough(&sides.source, &sides.target).await?;
    let (mut tell, counts) = counter();
    let extent = args.verify.0.unwrap_or(Extent::All);
    let work = run::compare(sides, options, extent, args.ttl_tolerance, &mut tell);
    let verdict = counted(io, counts, work).await?;
    io.data(args.access.json, &verdict, || verdict_shown(&verdict))?;
    Ok(if verdict.equal() { Exit::Done } else { Exit::Failed })
}

pub(super) async fn compare(
    hand: &Hand,
    extent: Extent,
    tolerance_ms: u64,
    io: &mut Io,
) -> Result<Verdict, MigrateError> {
    let (mut tell, counts) = counter();
    counted(io, counts, hand.verify(extent, tolerance_ms, &mut tell)).await
}

fn counter() -> (impl FnMut(u64) + Send, watch::Receiver<u64>) {
    let (sender, counts) = watch::channel(0);
    let tell = move |count| {
        let _ = sender.send(count);
    };
    (tell, counts)
}

/// Shows how many keys have been compared while a comparison goes on.
async fn counted(
    io: &mut Io,
    mut counts: watch::Receiver<u64>,
    work: impl Future<Output = Result<Verdict, MigrateError>>,
) -> Result<Verdict, MigrateError> {
    io.say("comparing both sides");
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                io.end_line();
                return done;
            }
            () = tokio::time::sleep(Line::EVERY) => {
                let count = *counts.borrow_and_update();
                io.over(&format!("{count} keys compared"));
            }
        }
    }
}

/// A word that no other migration has: the time, and the process.
pub(super) fn word() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}{:x}", now.as_nanos(), std::process::id())
}
