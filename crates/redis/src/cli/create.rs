//! `create`.

use crate::address::Address;
use crate::admin;
use crate::plan::{self, CreatePlan};

use super::access::{Access, Consent};
use super::failure::{Exit, Failure};
use super::io::Io;
use super::table::columns;

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The servers: empty, running, with cluster mode on
    #[arg(value_name = "HOST:PORT", required = true)]
    servers: Vec<Address>,
    /// Replicas for each master
    #[arg(long, value_name = "N", default_value_t = 0)]
    replicas: usize,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    access: Access,
}

#[derive(serde::Serialize)]
struct Outcome<'a> {
    created: bool,
    plan: &'a CreatePlan,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
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
