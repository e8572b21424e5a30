//! `reshard`.

use crate::plan;

use super::access::{Entry, find, must_be_whole};
use super::failure::{Exit, Failure};
use super::io::Io;
use super::moves::{How, offer};

/// Arguments of `reshard`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A node of the cluster
    #[arg(value_name = "NODE")]
    cluster: Entry,
    /// The master that gets the slots: its address or the start of its name
    #[arg(long, value_name = "MASTER")]
    to: String,
    /// How many slots
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16_384))]
    slots: u16,
    /// Masters that give them; all others where none is named
    #[arg(long, value_name = "MASTER", value_delimiter = ',')]
    from: Vec<String>,
    #[command(flatten)]
    how: How,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    let mut cluster = args.how.access.open(&args.cluster).await?;
    must_be_whole(&cluster)?;
    let to = find(&cluster, &args.to)?.id.clone();
    let from =
        args.from.iter().map(|text| find(&cluster, text).map(|node| node.id.clone())).collect::<Result<Vec<_>, _>>()?;
    let moves = plan::reshard(cluster.picture(), &from, &to, usize::from(args.slots))?;
    offer(&mut cluster, &moves, &args.how, io).await?;
    Ok(Exit::Done)
}
