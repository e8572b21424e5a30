use super::text::{at, between, plain};
use super::{line, run};
use crate::client::Client;
use crate::exit::{Code, Failure, colours, print, print_json, say};
use crate::runtime::now;
use clap::Args;
use regrow_model::run::{Line, Run, RunEvent};
use regrow_model::{RunId, Time};
use regrow_serve::jobs::wire::{Accepted, Again, Cancelled, RunDetail};

/// Show a run: where it stands, why it waits, how it ended on each host
///
/// Examples:
///   regrow job status 00j3k9qa2m4x7t1z
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Status {
    /// The run
    #[arg(value_name = "RUN")]
    run: RunId,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let detail: RunDetail = client.get(&format!("/api/runs/{}", self.run)).await?;
        if self.json { print_json(&detail) } else { print(&whole(&detail, now(), colours())) }
    }
}

fn whole(detail: &RunDetail, now: Time, colours: bool) -> String {
    let Run { order, .. } = &detail.run;
    let run = &detail.run;
    let mut text = format!("run/{}: {}, {}\n", run.id, order.job, run.state);
    let mut row = |name: &str, value: String| text.push_str(&format!("  {name:<9}  {value}\n"));
    if !run.why.is_empty() {
        row("why", plain(&run.why));
    }
    detail.waits.iter().for_each(|why| row("waits", plain(why)));
    row("accepted", format!("{} by {}", at(run.submitted), plain(&order.by)));
    if run.due > run.submitted {
        row("due", at(run.due));
    }
    if let Some(deadline) = order.deadline {
        row("deadline", at(deadline));
    }
    if let Some(started) = run.started {
        row("started", format!("{}, {} ago", at(started), between(started, now)));
    }
    if let Some(ended) = run.ended {
        let took = run.started.map_or_else(String::new, |started| format!(" after {}", between(started, ended)));
        row("ended", at(ended) + &took);
    }
    if let Some(worker) = &run.worker {
        row("worker", plain(worker));
    }
    if run.attempt > 0 {
        let dead = if run.dead { ", and no more will be made" } else { "" };
        row(
            "tries",
            format!("{} of {}, {} failed{dead}", run.attempt, order.retry.times.saturating_add(1), run.failures),
        );
    }
    if let Some(code) = run.result.as_ref().and_then(|result| result.code) {
        row("code", code.to_string());
    }
    for (name, value) in &order.answers {
        row("given", format!("{name}={}", plain(&value.to_string())));
    }
    text.push_str(&run.result.as_ref().map_or_else(String::new, |result| line::recap(result, colours)));
    text
}

/// Show a run's log
///
/// Examples:
///   regrow job logs 00j3k9qa2m4x7t1z
///   regrow job logs -f 00j3k9qa2m4x7t1z
///   regrow job logs 00j3k9qa2m4x7t1z --json | jq -r 'select(.host == "web1").line'
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Logs {
    /// The run
    #[arg(value_name = "RUN")]
    run: RunId,
    /// Go on until the run has ended
    #[arg(long, short)]
    follow: bool,
    /// A JSON object a line instead of text, with events of playbooks
    #[arg(long)]
    json: bool,
}

impl Logs {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let path = format!("/api/runs/{}/log?follow={}", self.run, self.follow);
        let (json, colours) = (self.json, colours());
        let show = |text: &str| {
            if json {
                return print(&format!("{text}\n"));
            }
            let line: Line = serde_json::from_str(text)
                .map_err(|error| Failure::failed(format!("the agent sent a line that does not fit: {error}")))?;
            let text = if is_told_by_output(&line) { String::new() } else { line::shown(&line, colours) };
            print(&text)
        };
        tokio::select! {
            result = client.lines(&path, show) => result,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    }
}

/// Whether it is an event of a playbook, whose output says the same.
fn is_told_by_output(line: &Line) -> bool {
    match &line.event {
        Some(RunEvent::Play { .. } | RunEvent::Task { .. }) => true,
        Some(RunEvent::Host { task, .. }) => !task.is_empty(),
        _ => false,
    }
}

/// End a run: at once if nobody runs it, else by a signal to all of its processes and SIGKILL after its grace
///
/// Examples:
///   regrow job cancel 00j3k9qa2m4x7t1z
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Cancel {
    /// The run
    #[arg(value_name = "RUN")]
    run: RunId,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Cancel {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let told: Cancelled = client.post(&format!("/api/runs/{}/cancel", self.run), &serde_json::json!({})).await?;
        if self.json {
            print_json(&told)?;
        }
        if !told.cancelled {
            return Err(Failure::new(Code::Refused, format!("run {} had ended before", self.run)));
        }
        if !self.json {
            say(format!("run {} is told to end", self.run));
        }
        Ok(())
    }
}

/// Run again what an ended run was given, and show it until it has ended
///
/// Ends as `regrow job run` does.
///
/// Examples:
///   regrow job retry 00j3k9qa2m4x7t1z
///   regrow job retry 00j3k9qa2m4x7t1z --failed-hosts --detach
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Retry {
    /// The run that has ended
    #[arg(value_name = "RUN")]
    run: RunId,
    /// Only on the hosts on which something failed, or that could not be reached
    #[arg(long)]
    failed_hosts: bool,
    /// Print the new run's id, and do not wait for its end
    #[arg(long)]
    detach: bool,
    /// JSON instead of text: the run as it ended, or with --detach its id
    #[arg(long)]
    json: bool,
}

impl Retry {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let again = Again { failed_hosts: self.failed_hosts };
        let Accepted { id } = client.post(&format!("/api/runs/{}/retry", self.run), &again).await?;
        if self.detach {
            return if self.json { print_json(&Accepted { id }) } else { print(&format!("{id}\n")) };
        }
        if !self.json {
            say(format!("run {id} is accepted"));
        }
        run::wait(client, &id, self.json).await
    }
}
