use super::text::{at, between, columns, plain};
use crate::client::Client;
use crate::exit::{Failure, print, print_json};
use crate::runtime::now;
use clap::Args;
use regrow_model::run::{Run, State, Worker};
use regrow_model::spec::Job;
use regrow_model::{Name, Time};
use std::collections::BTreeMap;

/// List jobs
///
/// Examples:
///   regrow job ls
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Ls {
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Ls {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let jobs: BTreeMap<Name, Job> = client.get("/api/jobs").await?;
        if self.json {
            return print_json(&jobs);
        }
        let rows: Vec<Vec<String>> = jobs
            .iter()
            .map(|(name, job)| {
                let parameters: Vec<&str> = job.parameters.keys().map(String::as_str).collect();
                let what = job.description.clone().unwrap_or_else(|| super::show::does(job));
                vec![name.to_string(), parameters.join(","), plain(&what)]
            })
            .collect();
        print(&columns(&["JOB", "PARAMETERS", "WHAT"], &rows))
    }
}

/// List runs, the newest first
///
/// Examples:
///   regrow job runs
///   regrow job runs deploy --state failed --limit 20
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Runs {
    /// Only of this job
    #[arg(value_name = "JOB")]
    job: Option<Name>,
    /// Only in this state: queued, parked, running, succeeded, failed, cancelled, timed-out, lost, expired or skipped
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

fn state(text: &str) -> Result<State, String> {
    serde_json::from_value(text.into()).map_err(|_| format!("`{text}` is not a state"))
}

impl Runs {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut path = format!("/api/runs?limit={}", self.limit);
        path.extend(self.job.iter().map(|job| format!("&job={job}")));
        path.extend(self.state.iter().map(|state| format!("&state={state}")));
        let runs: Vec<Run> = client.get(&path).await?;
        if self.json { print_json(&runs) } else { print(&table(&runs, now())) }
    }
}

fn table(runs: &[Run], now: Time) -> String {
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let took = run.started.map_or_else(String::new, |started| between(started, run.ended.unwrap_or(now)));
            let job = run.order.job.to_string();
            let by = plain(&run.order.by);
            vec![run.id.to_string(), job, run.state.to_string(), at(run.submitted), took, by, plain(&run.why)]
        })
        .collect();
    columns(&["RUN", "JOB", "STATE", "SUBMITTED", "TOOK", "BY", "WHY"], &rows)
}

/// List the workers that have a lease
///
/// Examples:
///   regrow job workers
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Workers {
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Workers {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let workers: Vec<Worker> = client.get("/api/workers").await?;
        if self.json {
            return print_json(&workers);
        }
        let rows: Vec<Vec<String>> = workers
            .iter()
            .map(|worker| {
                let labels: Vec<&str> = worker.labels.iter().map(Name::as_str).collect();
                let state = if worker.draining { "draining" } else { "working" };
                let room = worker.room.to_string();
                vec![
                    worker.id.to_string(),
                    worker.node.to_string(),
                    room,
                    state.to_owned(),
                    at(worker.since),
                    labels.join(","),
                ]
            })
            .collect();
        print(&columns(&["WORKER", "NODE", "ROOM", "STATE", "SINCE", "LABELS"], &rows))
    }
}
