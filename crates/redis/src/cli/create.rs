//! `create`.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::address::Address;
use crate::admin;
use crate::plan::{self, CreatePlan};

use super::access::{Access, Consent};
use super::failure::{Exit, Failure};
use super::io::Io;
use super::table::columns;

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The servers: empty, running, with cluster mode on
    #[arg(value_name = "HOST:PORT", required_unless_present = "launch", conflicts_with = "launch")]
    pub(super) servers: Vec<Address>,
    #[command(flatten)]
    pub(super) launch: Launch,
    /// Replicas for each master
    #[arg(long, value_name = "N", default_value_t = 0)]
    replicas: usize,
    #[command(flatten)]
    pub(super) consent: Consent,
    #[command(flatten)]
    pub(super) access: Access,
}

const EXAMPLES: &str = "\
Examples:
  Of servers that run already:
    regrow redis create --replicas 1 10.0.0.1:7001 10.0.0.2:7001 10.0.0.3:7001 10.0.0.1:7002 10.0.0.2:7002 10.0.0.3:7002
  Of servers that the agent here starts, and keeps from then on:
    regrow redis create --replicas 1 --launch 6 --spec shop/";

/// Servers that are started before the cluster is made, by whoever keeps groups of processes.
#[derive(Debug, Clone, clap::Args)]
pub struct Launch {
    /// Start so many servers first, as a group that the agent here keeps: written into the folder of its spec, and applied
    #[arg(id = "launch", long = "launch", value_name = "N", requires = "spec", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: Option<u16>,
    /// The folder of the agent's spec: the group goes into its file NAME.yaml
    #[arg(long, value_name = "FOLDER", requires = "launch")]
    pub spec: Option<PathBuf>,
    /// The group's name, and its service's
    #[arg(long, value_name = "NAME", default_value = "redis", requires = "launch")]
    pub group: String,
    /// Ports to draw from; each server also takes the port 10,000 above
    #[arg(long, value_name = "FIRST-LAST", default_value = "7000-7999", value_parser = ports, requires = "launch")]
    pub ports: RangeInclusive<u16>,
    /// The server's program
    #[arg(long, value_name = "PATH", default_value = "redis-server", requires = "launch")]
    pub program: PathBuf,
    /// A configuration file on every node that servers read first. Beyond loopback it has to set requirepass and masterauth
    #[arg(long, value_name = "PATH", requires = "launch")]
    pub config: Option<PathBuf>,
}

/// The distance between a server's port and that for the cluster.
const BUS: u16 = 10_000;

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let range = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    match range {
        Some((first, last)) if (1..=last).contains(&first) && last <= u16::MAX - BUS => Ok(first..=last),
        _ => Err(format!("write FIRST-LAST, two ports from 1 to {}", u16::MAX - BUS)),
    }
}

#[derive(serde::Serialize)]
struct Outcome<'a> {
    created: bool,
    plan: &'a CreatePlan,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    if args.launch.count.is_some() {
        return Err(Failure::Refused {
            why: "this program starts no servers".to_owned(),
            hint: "use `regrow redis create --launch`, with an agent that runs".to_owned(),
        });
    }
    let plan = plan::create(&args.servers, args.replicas)?;
    let dialer = args.access.dialer(false)?;
    admin::examine(&dialer, &args.servers).await?;
    let text = shown(&plan);
    if args.consent.dry_run {
        io.data(args.access.json, &Outcome { created: false, plan: &plan }, || text)?;
        return Ok(Exit::Done);
    }
    io.say(text.trim_end());
    if !args.consent.yes {
        io.confirm("Make this cluster?")?;
    }
    admin::create(&dialer, &plan, args.access.settle(), &mut |step| io.say(step)).await?;
    io.data(args.access.json, &Outcome { created: true, plan: &plan }, || {
        "created: all nodes agree, all slots are served".to_owned()
    })?;
    Ok(Exit::Done)
}

fn shown(plan: &CreatePlan) -> String {
    let mut rows = vec![["MASTER", "SLOTS", "REPLICAS"].map(str::to_owned).to_vec()];
    for master in &plan.masters {
        let replicas: Vec<_> = master.replicas.iter().map(Address::to_string).collect();
        rows.push(vec![
            master.address.to_string(),
            format!("{}-{}", master.slots.0, master.slots.1),
            if replicas.is_empty() { "-".to_owned() } else { replicas.join(", ") },
        ]);
    }
    let mut text = columns(&rows);
    if !plan.exposed.is_empty() {
        let exposed: Vec<_> = plan.exposed.iter().map(Address::to_string).collect();
        text += &format!(
            "warning: on the same host as their master, because the hosts allow nothing better: {}\n",
            exposed.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ports() {
        assert_eq!(ports("7000-7005"), Ok(7000..=7005));
        assert_eq!(ports("55535-55535"), Ok(55_535..=55_535));
        for bad in ["7000", "7005-7000", "0-5", "7000-55536", "a-b", "-"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }
}
