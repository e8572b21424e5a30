//! `drill`.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::admin::Cluster;
use crate::drill::{Drill, DrillReport, Fault, Hands, Limits, LoadPlan, html};
use crate::slot::Slot;
use crate::topology::{Node, NodeId};

use super::access::{Access, Entry, find, must_be_whole, name};
use super::failure::{Exit, Failure};
use super::io::Io;
use super::table::columns;

/// Arguments of `drill`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A node of the cluster
    #[arg(value_name = "NODE")]
    cluster: Entry,
    /// What to do to the node; several are done one after the other
    #[arg(long, value_name = "FAULT", value_delimiter = ',', default_value = "pause")]
    fault: Vec<Fault>,
    /// The node: its address or the start of its name; the master of the first slot where none is named
    #[arg(long, value_name = "NODE", conflicts_with = "each_master")]
    node: Option<String>,
    /// Do it to every master, one after the other
    #[arg(long)]
    each_master: bool,
    /// Shell command that kills a node's process; {host}, {port} and {pid} are filled in
    #[arg(long, value_name = "COMMAND")]
    kill_with: Option<String>,
    /// Shell command that makes it stand still
    #[arg(long, value_name = "COMMAND")]
    pause_with: Option<String>,
    /// Shell command that lets it go on
    #[arg(long, value_name = "COMMAND")]
    resume_with: Option<String>,
    /// Shell command that starts it again; needed for stop and kill
    #[arg(long, value_name = "COMMAND")]
    start_with: Option<String>,
    /// Clients that write and read; every second one uses WAIT
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clients: u32,
    /// Writes a second of all clients together
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Fail if no write is acknowledged for longer than this
    #[arg(long, value_name = "MS")]
    max_unavailable_ms: Option<u64>,
    /// Fail if more acknowledged writes than this are lost
    #[arg(long, value_name = "N")]
    max_lost: Option<u64>,
    /// Write the report as a page, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    access: Access,
}

#[derive(serde::Serialize)]
struct Outcome {
    drills: Vec<DrillReport>,
    exceeded: Vec<String>,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    let mut cluster = args.access.open(&args.cluster).await?;
    must_be_whole(&cluster)?;
    let dialer = args.access.dialer_for(&args.cluster)?;
    let targets = targets(&args, &cluster)?;
    let faults: Vec<String> = args.fault.iter().map(|fault| format!("{fault:?}").to_lowercase()).collect();
    for target in &targets {
        let title = match target {
            Target::Node(_) => name(target.now(&cluster)?),
            Target::MasterOf(slot) => format!("the master of slot {slot}, now {}", name(target.now(&cluster)?)),
        };
        io.say(&format!("{title}: {}, under {} writes a second", faults.join(", then "), args.rate));
    }
    if !args.yes {
        io.confirm("Break this cluster on purpose?")?;
    }
    let limits = Limits { unavailable_ms_max: args.max_unavailable_ms, lost_max: args.max_lost };
    let hands =
        Hands { kill: args.kill_with, pause: args.pause_with, resume: args.resume_with, start: args.start_with };
    let load = LoadPlan { clients: args.clients.min(args.rate), writes_per_second: args.rate };
    let mut outcome = Outcome { drills: Vec::new(), exceeded: Vec::new() };
    for target in &targets {
        for fault in &args.fault {
            cluster.refresh().await?;
            let node = target.now(&cluster)?.id.clone();
            let drill =
                Drill { node, fault: *fault, hands: hands.clone(), load, run: word(), within: args.access.settle() };
            let report = drill.run(&mut cluster, &dialer, &mut |step| io.say(step)).await?;
            outcome.exceeded.extend(limits.exceeded(&report));
            outcome.drills.push(report);
        }
    }
    if let Some(path) = &args.html {
        std::fs::write(path, html(&outcome.drills, &limits))?;
    }
    io.data(args.access.json, &outcome, || {
        let mut text = String::new();
        for report in &outcome.drills {
            let rows: Vec<Vec<String>> =
                report.lines().into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
            text += &columns(&rows);
            text.push('\n');
        }
        text += &outcome.exceeded.iter().map(|found| format!("beyond the limits: {found}\n")).collect::<String>();
        text
    })?;
    Ok(if outcome.exceeded.is_empty() { Exit::Done } else { Exit::Failed })
}

/// What is broken: a node whatever it is, or whoever is the master of a slot when its turn comes. One drill makes another
/// the master, so a list of today's masters would not do.
enum Target {
    Node(NodeId),
    MasterOf(Slot),
}

impl Target {
    fn now<'a>(&self, cluster: &'a Cluster) -> Result<&'a Node, Failure> {
        let found = match self {
            Self::Node(id) => cluster.picture().node(id),
            Self::MasterOf(slot) => cluster.picture().owners(*slot).next(),
        };
        found.ok_or_else(|| Failure::Refused {
            why: "the node to be broken next did not answer".to_owned(),
            hint: "see `check`, then run `fix`".to_owned(),
        })
    }
}

fn targets(args: &Args, cluster: &Cluster) -> Result<Vec<Target>, Failure> {
    if let Some(text) = &args.node {
        return Ok(vec![Target::Node(find(cluster, text)?.id.clone())]);
    }
    let mut slots: Vec<Slot> = cluster.picture().masters().filter_map(|node| node.slots.iter().next()).collect();
    slots.sort_unstable();
    slots.truncate(if args.each_master { usize::MAX } else { 1 });
    Ok(slots.into_iter().map(Target::MasterOf).collect())
}

/// A word that no other drill has: the time, and the process.
fn word() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", now.as_nanos(), std::process::id())
}
