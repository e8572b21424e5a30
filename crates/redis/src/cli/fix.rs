//! `fix`.

use crate::plan::{FixPlan, Repair};
use crate::topology::{NodeId, Picture, Problem};

use super::access::{Access, Consent, Entry, name};
use super::failure::{Exit, Failure};
use super::io::Io;
use super::moves::Pace;

/// Arguments of `fix`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A node of the cluster
    #[arg(value_name = "NODE")]
    cluster: Entry,
    #[command(flatten)]
    pace: Pace,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    access: Access,
}

#[derive(serde::Serialize)]
struct Outcome {
    done: bool,
    plan: FixPlan,
    /// Keys left where nobody serves them, because the owner of their slot has keys of the same name.
    stray_keys: u64,
    problems: Vec<Problem>,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    let mut cluster = args.access.open(&args.cluster).await?;
    let plan = cluster.plan_fix().await?;
    let text = shown(cluster.picture(), &plan);
    let json = args.access.json;
    if plan.repairs.is_empty() || args.consent.dry_run {
        let problems = cluster.picture().problems();
        let done = problems.is_empty();
        io.data(json, &Outcome { done, plan, stray_keys: 0, problems }, || {
            if done { "nothing to mend".to_owned() } else { text }
        })?;
        return Ok(if done || args.consent.dry_run { Exit::Done } else { Exit::Failed });
    }
    io.say(text.trim_end());
    if !args.consent.yes {
        io.confirm("Do this?")?;
    }
    let mut stray_keys = 0;
    for (index, repair) in plan.repairs.iter().enumerate() {
        stray_keys += cluster.mend(repair, args.pace.limits()).await?;
        io.over(&format!("{} of {} repairs", index + 1, plan.repairs.len()));
    }
    io.end_line();
    // What is left alone will not settle, however long we wait.
    let problems = if plan.left.is_empty() {
        cluster.settle(args.access.settle(), |_| true).await?;
        Vec::new()
    } else {
        cluster.refresh().await?;
        cluster.picture().problems()
    };
    let done = problems.is_empty();
    let outcome = Outcome { done, plan, stray_keys, problems };
    io.data(json, &outcome, || {
        let mut text: String = outcome.problems.iter().map(|problem| format!("problem: {problem}\n")).collect();
        text += &format!(
            "{} repairs done, {} problem(s) left, {stray_keys} stray key(s) left\n",
            outcome.plan.repairs.len(),
            outcome.problems.len()
        );
        text
    })?;
    Ok(if done { Exit::Done } else { Exit::Failed })
}

fn shown(picture: &Picture, plan: &FixPlan) -> String {
    let node = |id: &NodeId| picture.node(id).map_or_else(|| id.to_string(), name);
    let line = |repair: &Repair| match repair {
        Repair::Meet { node: to, peer } => format!("introduce {} to {}", node(peer), node(to)),
        Repair::Assign { slots, to } => {
            format!("give {} slots that nobody serves to {}: {slots}", slots.len(), node(to))
        }
        Repair::Gather { slot, from, to } => {
            format!("bring keys of slot {slot} from {} to its owner {}", node(from), node(to))
        }
        Repair::Settle { slot, owner, others } => {
            let others: Vec<_> = others.iter().map(&node).collect();
            format!("let {} keep slot {slot}, and {} give it up", node(owner), others.join(", "))
        }
        Repair::Finish { slot, from, to } => format!("finish moving slot {slot} from {} to {}", node(from), node(to)),
        Repair::Close { slot, node: at } => format!("close slot {slot} on {}", node(at)),
    };
    let mut text: String = plan.repairs.iter().map(|repair| line(repair) + "\n").collect();
    for left in &plan.left {
        let slots = if left.slots.is_empty() { String::new() } else { format!(" (slots {})", left.slots) };
        text += &format!("left alone: {}{slots}\n", left.why);
    }
    text
}
