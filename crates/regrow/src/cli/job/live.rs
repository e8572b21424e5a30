//! A run as it goes on, from its server-sent events.

use super::line;
use crate::client::{Client, escaped};
use crate::exit::{Code, Failure, colours, print};
use crate::progress::Progress;
use regrow_model::RunId;
use regrow_model::run::{HostOutcome, Line, Play, Run, RunEvent, State, Stream, Task};
use regrow_serve::jobs::wire::{RunDetail, Stand};
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// How often the line at the bottom is written anew.
const TICK: Duration = Duration::from_millis(500);
/// How often a broken connection is made anew in a row.
const RECONNECTS_MAX: u32 = 30;
/// Time between two of these.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Follows a run to its end, through restarts of the agent, and tells how it ended. Quiet: nothing is shown.
pub(super) async fn follow(client: &Client, id: &RunId, quiet: bool) -> Result<Run, Failure> {
    let mut reconnects = Reconnects::default();
    let detail: RunDetail = loop {
        match client.get(&format!("/api/runs/{id}")).await {
            Ok(detail) => break detail,
            Err(failure) => reconnects.after(failure).await?,
        }
    };
    let live = RefCell::new(Live::new(&detail.run, quiet));
    let watch = async {
        loop {
            let path = live.borrow().path(id);
            let lines = client.lines(&path, |line| live.borrow_mut().take(line)).await;
            if let Some(run) = live.borrow_mut().ended.take() {
                return Ok(run);
            }
            if std::mem::take(&mut live.borrow_mut().heard) {
                reconnects = Reconnects::default();
            }
            live.borrow_mut().part = Part::default();
            let silent = || Failure::new(Code::Unreachable, format!("the agent does not tell how run {id} ends"));
            reconnects.after(lines.err().unwrap_or_else(silent)).await?;
        }
    };
    let tick = async {
        loop {
            live.borrow_mut().draw();
            tokio::time::sleep(TICK).await;
        }
    };
    let run = tokio::select! {
        run = watch => run?,
        () = tick => unreachable!("it goes on for ever"),
    };
    live.borrow_mut().progress.clear();
    if !quiet {
        print(&line::recap(&run.result.clone().unwrap_or_default(), colours()))?;
    }
    Ok(run)
}

/// The connections that were made anew since something was heard.
#[derive(Default)]
struct Reconnects(u32);

impl Reconnects {
    /// Waits before the next, or gives back a failure that no connection mends.
    async fn after(&mut self, failure: Failure) -> Result<(), Failure> {
        if failure.code != Code::Unreachable || self.0 >= RECONNECTS_MAX {
            return Err(failure);
        }
        self.0 += 1;
        tokio::time::sleep(RECONNECT_PAUSE).await;
        Ok(())
    }
}

/// What is known of the event that is being read.
#[derive(Default)]
struct Part {
    event: String,
    data: String,
    id: Option<String>,
    /// Lines of a piece that is not whole yet: they come again when the connection breaks.
    lines: Vec<Line>,
}

struct Live {
    quiet: bool,
    colours: bool,
    /// For each step, or the whole, whether it is a playbook: what that prints is told by its events.
    playbooks: Vec<(String, bool)>,
    in_playbook: bool,
    after: Option<String>,
    part: Part,
    heard: bool,
    progress: Progress,
    begun: Instant,
    state: State,
    counts: [u32; 5],
    task: String,
    ended: Option<Run>,
}

impl Live {
    fn new(run: &Run, quiet: bool) -> Live {
        let is_playbook = |task: &Task| match task {
            // What a single module prints is what was asked for.
            Task::Ansible(task) => !matches!(task.play, Play::Module { .. }),
            _ => false,
        };
        let playbooks = match &run.order.task {
            Task::Steps(steps) => steps.iter().map(|step| (step.name.to_string(), is_playbook(&step.task))).collect(),
            _ => Vec::new(),
        };
        Live {
            quiet,
            colours: colours(),
            playbooks,
            in_playbook: is_playbook(&run.order.task),
            after: None,
            part: Part::default(),
            heard: false,
            progress: Progress::new(),
            begun: Instant::now(),
            state: run.state,
            counts: [0; 5],
            task: String::new(),
            ended: None,
        }
    }

    fn path(&self, id: &RunId) -> String {
        let after = self.after.iter().map(|after| format!("?after={}", escaped(after)));
        format!("/api/runs/{id}/events{}", after.collect::<String>())
    }

    /// A line of the stream.
    fn take(&mut self, text: &str) -> Result<(), Failure> {
        let text = text.trim_end_matches('\r');
        if let Some(event) = text.strip_prefix("event: ") {
            self.part.event = event.to_owned();
        } else if let Some(data) = text.strip_prefix("data: ") {
            self.part.data.push_str(data);
        } else if let Some(id) = text.strip_prefix("id: ") {
            self.part.id = Some(id.to_owned());
        } else if text.is_empty() && !self.part.event.is_empty() {
            self.heard = true;
            let (event, data) = (std::mem::take(&mut self.part.event), std::mem::take(&mut self.part.data));
            return self.event(&event, &data);
        }
        Ok(())
    }

    fn event(&mut self, event: &str, data: &str) -> Result<(), Failure> {
        match event {
            "line" => {
                self.part.lines.push(read(data)?);
                if let Some(id) = self.part.id.take() {
                    self.after = Some(id);
                    self.flush()?;
                }
            }
            "state" => {
                self.state = read::<Stand>(data)?.state;
                self.draw();
            }
            "end" => {
                self.flush()?;
                self.ended = Some(read(data)?);
            }
            _ => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let mut text = String::new();
        for line in std::mem::take(&mut self.part.lines) {
            self.count(&line);
            if !(self.in_playbook && line.stream == Stream::Stdout) {
                text.push_str(&line::shown(&line, self.colours));
            }
        }
        if !self.quiet && !text.is_empty() {
            self.progress.clear();
            print(&text)?;
        }
        self.draw();
        Ok(())
    }

    fn count(&mut self, line: &Line) {
        match &line.event {
            Some(RunEvent::Try { .. }) => self.counts = [0; 5],
            Some(RunEvent::Step { step, .. }) => {
                self.in_playbook = self.playbooks.iter().any(|(name, is)| *is && name == step.as_str());
            }
            Some(RunEvent::Task { task }) => self.task = super::text::plain(task).chars().take(40).collect(),
            Some(RunEvent::Host { outcome, .. }) => {
                let at = match outcome {
                    HostOutcome::Ok | HostOutcome::Ignored => 0,
                    HostOutcome::Changed => 1,
                    HostOutcome::Failed => 2,
                    HostOutcome::Unreachable => 3,
                    HostOutcome::Skipped => 4,
                };
                self.counts[at] += 1;
            }
            _ => {}
        }
    }

    fn draw(&mut self) {
        if !self.quiet {
            let line = status(self.state, self.counts, &self.task, self.begun.elapsed());
            self.progress.at(0, 0, &line);
        }
    }
}

/// The line at the bottom.
fn status(state: State, counts: [u32; 5], task: &str, elapsed: Duration) -> String {
    let names = ["ok", "changed", "failed", "unreachable", "skipped"];
    let counts =
        names.iter().zip(counts).filter(|(_, count)| *count > 0).map(|(name, count)| format!(", {name} {count}"));
    let counts: String = counts.collect();
    let task = if task.is_empty() { String::new() } else { format!(", {task}") };
    format!("{state} {} s{counts}{task}", elapsed.as_secs())
}

fn read<T: DeserializeOwned>(data: &str) -> Result<T, Failure> {
    serde_json::from_str(data)
        .map_err(|error| Failure::failed(format!("the agent sent an event that does not fit: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line at the bottom says what there is to say.
    #[test]
    fn the_line_at_the_bottom() {
        let line = |counts, task| status(State::Running, counts, task, Duration::from_millis(61_900));
        assert_eq!(line([0; 5], ""), "running 61 s");
        assert_eq!(line([3, 1, 0, 0, 2], "install"), "running 61 s, ok 3, changed 1, skipped 2, install");
    }
}
