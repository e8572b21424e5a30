use super::text::{at, columns};
use crate::client::Client;
use crate::exit::{Failure, print, print_json};
use crate::runtime::now;
use clap::Args;
use regrow_control::features::job::schedule::next_after;
use regrow_model::spec::Schedule as Spec;
use regrow_model::{Name, RunId, Time};
use regrow_serve::jobs::wire::ScheduleLine;
use serde::Serialize;

/// List schedules, and when each is due
///
/// Examples:
///   regrow job schedule
///   regrow job schedule nightly --next 10
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Schedule {
    /// Only this one
    #[arg(value_name = "SCHEDULE")]
    name: Option<Name>,
    /// The next N times of each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    next: Option<u16>,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Times {
    name: Name,
    times: Vec<Time>,
}

impl Schedule {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut all: Vec<ScheduleLine> = client.get("/api/schedules").await?;
        if let Some(name) = &self.name {
            all.retain(|line| line.name == *name);
            if all.is_empty() {
                let text = format!("there is no schedule `{name}`: `regrow job schedule` lists them");
                return Err(Failure::new(crate::exit::Code::NotFound, text));
            }
        }
        if let Some(count) = self.next {
            let times = |line: &ScheduleLine| Times {
                name: line.name.clone(),
                times: next(&line.schedule, now(), usize::from(count)),
            };
            let all: Vec<Times> = all.iter().map(times).collect();
            if self.json {
                return print_json(&all);
            }
            let rows = all.iter().flat_map(|of| of.times.iter().map(|time| vec![of.name.to_string(), at(*time)]));
            return print(&columns(&["SCHEDULE", "DUE"], &rows.collect::<Vec<_>>()));
        }
        if self.json { print_json(&all) } else { print(&table(&all)) }
    }
}

fn next(schedule: &Spec, now: Time, count: usize) -> Vec<Time> {
    std::iter::successors(next_after(schedule, now), |last| next_after(schedule, *last)).take(count).collect()
}

fn table(all: &[ScheduleLine]) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|line| {
            let when = match (&line.schedule.cron, line.schedule.every) {
                (Some(cron), _) => format!("{cron} {}", line.schedule.zone),
                (None, Some(every)) => format!("every {every}"),
                (None, None) => String::new(),
            };
            let due =
                if line.schedule.paused { "at rest".to_owned() } else { line.next.map_or("never".to_owned(), at) };
            let runs: Vec<&str> = line.runs.iter().map(RunId::as_str).collect();
            let last = line.last.map_or_else(String::new, at);
            vec![line.name.to_string(), line.schedule.job.to_string(), when, due, last, runs.join(",")]
        })
        .collect();
    columns(&["SCHEDULE", "JOB", "WHEN", "NEXT", "LAST", "RUNS"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next times are those of the schedule's zone, over a change to summer time.
    #[test]
    fn next_times() {
        let spec = serde_json::json!({"job": "x", "cron": "30 2 * * *", "zone": "Europe/Berlin"});
        let spec: Spec = serde_json::from_value(spec).expect("a schedule");
        // 2026-03-28T00:00:00Z; the clocks change on the 29th.
        let times: Vec<String> = next(&spec, Time(1_774_656_000_000), 3).into_iter().map(at).collect();
        assert_eq!(times, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    }
}
