//! `rebalance`.

use std::collections::BTreeMap;

use crate::plan;

use super::access::{Entry, find, must_be_whole};
use super::failure::{Exit, Failure};
use super::io::Io;
use super::moves::{How, offer};

/// Arguments of `rebalance`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A node of the cluster
    #[arg(value_name = "NODE")]
    cluster: Entry,
    /// A master's share beside that of others, which is 1; 0 empties it
    #[arg(long, value_name = "MASTER=N", value_delimiter = ',', value_parser = weight)]
    weight: Vec<(String, u32)>,
    /// Give slots to masters that have none, too
    #[arg(long)]
    include_empty: bool,
    /// Move nothing when no master is further than this from its share, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0)]
    threshold: f64,
    #[command(flatten)]
    how: How,
}

fn weight(text: &str) -> Result<(String, u32), String> {
    let (node, weight) = text.rsplit_once('=').ok_or("write MASTER=N")?;
    Ok((node.to_owned(), weight.parse().map_err(|_| "the weight is not a whole number")?))
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    let mut cluster = args.how.access.open(&args.cluster).await?;
    must_be_whole(&cluster)?;
    let mut weights = BTreeMap::new();
    for (text, weight) in &args.weight {
        weights.insert(find(&cluster, text)?.id.clone(), *weight);
    }
    let moves = plan::rebalance(cluster.picture(), &weights, args.include_empty, args.threshold)?;
    offer(&mut cluster, &moves, &args.how, io).await?;
    Ok(Exit::Done)
}
