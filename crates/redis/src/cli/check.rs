//! `check`.

use crate::topology::Problem;

use super::access::{Access, Entry};
use super::failure::{Exit, Failure};
use super::io::Io;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A node of the cluster
    #[arg(value_name = "NODE")]
    cluster: Entry,
    #[command(flatten)]
    access: Access,
}

#[derive(serde::Serialize)]
struct Report {
    whole: bool,
    nodes: usize,
    masters: usize,
    slots: usize,
    problems: Vec<Problem>,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    let cluster = args.access.open(&args.cluster).await?;
    let picture = cluster.picture();
    let problems = picture.problems();
    let report = Report {
        whole: problems.is_empty(),
        nodes: picture.views.len(),
        masters: picture.masters().count(),
        slots: picture.covered().len(),
        problems,
    };
    io.data(args.access.json, &report, || {
        let mut text: String = report.problems.iter().map(|problem| format!("problem: {problem}\n")).collect();
        let verdict = if report.whole { "whole" } else { "not whole" };
        text += &format!(
            "{verdict}: {} nodes, {} masters, {} of 16384 slots served\n",
            report.nodes, report.masters, report.slots
        );
        text
    })?;
    Ok(if report.whole { Exit::Done } else { Exit::Failed })
}
