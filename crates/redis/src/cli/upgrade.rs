//! `upgrade`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::admin::Cluster;
use crate::topology::NodeId;
use crate::upgrade::{Hand, Journal, State, StepReport, Told, Upgrade, UpgradeError, UpgradePlan, title};

use super::access::{Access, Consent, Entry, name};
use super::failure::{Exit, Failure};
use super::io::Io;

/// Arguments of `upgrade`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  regrow redis upgrade 10.0.0.1:7001 --expect 7.2.7 \\
    --with 'ssh \"$REGROW_NODE_HOST\" \"apt-get -y install redis-server && systemctl restart redis@$REGROW_NODE_PORT\"'
  regrow redis upgrade 10.0.0.1:7001 -- ./restart-node.sh       a program with arguments instead of a shell's line

The command learns which node is meant from REGROW_NODE_HOST, REGROW_NODE_PORT, REGROW_NODE_ID and REGROW_NODE_ROLE.")]
pub struct Args {
    /// A node of the cluster
    #[arg(value_name = "NODE")]
    cluster: Entry,
    /// Shell command that restarts one node, in its new version
    #[arg(long, value_name = "COMMAND", required_unless_present = "program")]
    with: Option<String>,
    /// A program that does it, with its arguments
    #[arg(last = true, value_name = "PROGRAM", conflicts_with = "with")]
    program: Vec<String>,
    /// End each server before (SHUTDOWN SAVE), so that the command only has to start it
    #[arg(long)]
    shutdown: bool,
    /// The version that each node must have afterwards; nodes that have it already are passed over
    #[arg(long, value_name = "VERSION")]
    expect: Option<String>,
    /// Give the role back to those that were masters at the beginning
    #[arg(long, value_name = "YES|NO", default_value = "yes", value_parser = yes_or_no(), action = clap::ArgAction::Set)]
    keep_masters: bool,
    /// Restart masters without a replica, too; what they serve is away meanwhile
    #[arg(long)]
    allow_downtime: bool,
    /// Seconds that the command may take for one node
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    command_timeout: u64,
    /// Seconds that a node may take to save, to load and to get its master's data
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    back_within: u64,
    /// Folder that remembers how far it is; the same command goes on from it
    #[arg(long, value_name = "DIR", default_value = "regrow-upgrade")]
    state: PathBuf,
    /// Forget an upgrade that is not over, and begin with all nodes
    #[arg(long)]
    anew: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    access: Access,
}

fn yes_or_no() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["yes", "no"]).map(|word| word == "yes")
}

#[derive(serde::Serialize)]
struct Outcome<'a> {
    done: bool,
    plan: &'a UpgradePlan,
    steps: &'a [StepReport],
    stopped: Option<String>,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    let hand = args.with.clone().map_or_else(|| Hand::Program(args.program.clone()), Hand::Shell);
    let upgrade = Upgrade {
        hand,
        shutdown: args.shutdown,
        expect: args.expect.clone(),
        keep_masters: args.keep_masters,
        allow_downtime: args.allow_downtime,
        settle: args.access.settle(),
        back_within: Duration::from_secs(args.back_within),
        command_within: Duration::from_secs(args.command_timeout),
    };
    let json = args.access.json;
    let mut cluster = args.access.open(&args.cluster).await?;
    // Looking leaves nothing behind.
    let state = if args.consent.dry_run && !args.state.exists() { None } else { Some(State::open(&args.state)?) };
    let journal = match &state {
        Some(state) if !args.anew => state.journal()?,
        _ => None,
    };
    let plan = upgrade.plan(&mut cluster, journal.as_ref()).await?;
    let text = shown(&cluster, &plan, journal.as_ref());
    let nothing = plan.steps.is_empty() && plan.away.is_none();
    let outcome = |done, steps, stopped| Outcome { done, plan: &plan, steps, stopped };
    if nothing || args.consent.dry_run {
        if let (true, Some(state), false) = (nothing, &state, args.consent.dry_run) {
            state.clear()?;
        }
        io.data(json, &outcome(nothing, &[], None), || text)?;
        return Ok(Exit::Done);
    }
    io.say(text.trim_end());
    if !args.consent.yes {
        io.confirm("Upgrade this cluster?")?;
    }
    let Some(state) = state else { return Ok(Exit::Done) };
    let mut reports = Vec::new();
    let ran = upgrade
        .run(&mut cluster, &state, journal, &mut reports, &mut |told| match told {
            Told::Step(text) => {
                io.over("");
                io.say(text);
            }
            Told::Wait(what) => io.over(&format!("   waiting {what}")),
        })
        .await;
    io.over("");
    match ran {
        Ok(()) => {
            io.data(json, &outcome(true, &reports, None), || summary(&reports))?;
            Ok(Exit::Done)
        }
        Err(error) => {
            for line in situation(&mut cluster, &state).await {
                io.say(&line);
            }
            if json {
                io.data(json, &outcome(false, &reports, Some(crate::admin::chain(&error))), String::new)?;
            }
            Err(error.into())
        }
    }
}

fn shown(cluster: &Cluster, plan: &UpgradePlan, journal: Option<&Journal>) -> String {
    let mut text = String::new();
    if let Some(journal) = journal {
        let done = journal.done.len();
        text +=
            &format!("going on with an upgrade that is not over: {done} node(s) are done ({})\n", ago(journal.began_s));
    }
    let passed = |id: &NodeId| cluster.picture().node(id).map_or_else(|| id.to_string(), name);
    for (id, version) in &plan.done {
        text += &format!("passed over: {}, version {version}\n", passed(id));
    }
    if let Some(away) = &plan.away {
        text += &format!("first: bring {away} back, which is away; then plan the rest\n");
    }
    for (index, step) in plan.steps.iter().enumerate() {
        text += &format!("{}. {}\n", index + 1, title(cluster.picture(), step));
    }
    if plan.steps.is_empty() && plan.away.is_none() {
        text += "nothing to do: no node needs a restart, and the roles are as they should be\n";
    }
    text
}

fn ago(began_s: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = now.saturating_sub(began_s);
    match seconds {
        0..120 => format!("begun {seconds} s ago"),
        120..7200 => format!("begun {} minutes ago", seconds / 60),
        7200..172_800 => format!("begun {} hours ago", seconds / 3600),
        _ => format!("begun {} days ago", seconds / 86_400),
    }
}

fn summary(reports: &[StepReport]) -> String {
    let restarted = reports.iter().filter(|report| report.version.is_some()).count();
    let seconds = reports.iter().map(|report| report.took_ms).sum::<u64>() as f64 / 1000.0;
    let waited = reports.iter().filter_map(|report| report.writes_waited_ms).max();
    let waited = waited.map(|ms| format!("; no write waited longer than {ms} ms for a master")).unwrap_or_default();
    format!("done: {restarted} node(s) restarted in {seconds:.1} s{waited}; all nodes agree, all replicas are in step")
}

/// What is so after a stop.
async fn situation(cluster: &mut Cluster, state: &State) -> Vec<String> {
    let mut lines = Vec::new();
    let journal: Result<Option<Journal>, UpgradeError> = state.journal();
    let looked = cluster.refresh().await;
    let picture = cluster.picture();
    if let Ok(Some(journal)) = journal {
        let nodes = picture.views.len() + picture.unheard.len();
        lines.push(format!("now: {} of {nodes} nodes are done", journal.done.len()));
        if let Some(current) = &journal.current {
            let answers = picture.node(&current.node).is_some();
            let how = if answers { "answers" } else { "does not answer" };
            lines.push(format!("now: {} is in hand, and {how}", current.address));
        }
        for node in picture.nodes().filter(|node| journal.masters.contains(&node.id) && !node.flags.master) {
            let master = node.master.as_ref().and_then(|id| picture.node(id));
            if let Some(master) = master {
                lines.push(format!("now: {} is the master in the place of {}", master.address, node.address));
            }
        }
    }
    match looked {
        Err(error) => lines.push(format!("now: {}", crate::admin::chain(&error))),
        Ok(()) => match picture.problems().as_slice() {
            [] => lines.push("now: the cluster is whole and serves".to_owned()),
            problems => lines.extend(problems.iter().map(|problem| format!("now: {problem}"))),
        },
    }
    lines
}
