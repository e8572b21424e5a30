//! A command on hosts: `regrow exec`, under the leash.

use super::limits::{MESSAGE_BYTES_MAX, NAME_BYTES_MAX, RECAP_HOSTS_MAX};
use super::process::{self, Program};
use super::sink::Sink;
use super::{Came, Try, failed_hosts, folder};
use crate::output::cut;
use regrow_control::exec::report::{Ending, HostResult};
use regrow_model::run::{HostOutcome, Line, Recap, RunEvent, SshTask, Stream};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Variables of the worker's own environment that `ssh` goes by.
const PASSED: [&str; 4] = ["SSH_AUTH_SOCK", "USER", "LOGNAME", "XDG_RUNTIME_DIR"];

/// A line of `regrow exec --json --stream`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Ended(HostResult),
    Line { host: String, stream: Stream, line: String },
}

impl Try<'_> {
    pub(super) async fn ssh(&self, task: &SshTask) -> Came {
        let hosts = self.folder.join("hosts");
        if let Err(error) = folder::write(&hosts, &(task.hosts.join("\n") + "\n")) {
            return Came::refused(error.text);
        }
        let mut environment = self.environment();
        environment.extend(PASSED.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))));
        let program = Program {
            command: self.command(task, &hosts),
            directory: Path::new(&self.run.order.root),
            environment,
            memory_mib: self.run.order.memory_mib,
            grace: self.run.order.grace.0,
        };
        let mut recap: BTreeMap<String, Recap> = BTreeMap::new();
        let mut tell = |line: &str| Some(told(line, self.sink, &mut recap));
        let ended = process::run(&self.runs.program, program, self.reins.clone(), self.sink, &mut tell).await;
        let why = failed_hosts(&recap);
        Came { ended, recap, status: None, why }
    }

    fn command(&self, task: &SshTask, hosts: &Path) -> Vec<String> {
        let mut command = vec![self.runs.program.display().to_string(), "exec".to_owned()];
        command.extend(["--json", "--stream", "--output-limit", "4096"].map(str::to_owned));
        let mut option = |name: &str, value: String| command.extend([name.to_owned(), value]);
        option("--fanout", task.parallel.to_string());
        option("--timeout", format!("{}ms", self.run.order.timeout.0.as_millis()));
        if let Some(user) = &task.user {
            option("--user", user.clone());
        }
        if let Some(port) = task.port {
            option("--port", port.to_string());
        }
        if let Some(config) = &task.config {
            option("--ssh-config", self.path(config).display().to_string());
        }
        command.extend([format!("@{}", hosts.display()), "--".to_owned()]);
        command.extend(task.command.iter().cloned());
        command
    }
}

fn told(line: &str, sink: &Sink, recap: &mut BTreeMap<String, Recap>) -> Line {
    match serde_json::from_str(line) {
        Err(_) => sink.text(Stream::Stdout, line),
        Ok(Said::Line { host, stream, line }) => Line { host: Some(host), ..sink.text(stream, &line) },
        Ok(Said::Ended(result)) => {
            let host = cut(result.host, NAME_BYTES_MAX);
            let (outcome, counts) = match &result.ending {
                Ending::Exited { exit: 0 } => (HostOutcome::Ok, Recap { ok: 1, ..Recap::default() }),
                Ending::Unreachable { .. } => (HostOutcome::Unreachable, Recap { unreachable: 1, ..Recap::default() }),
                _ => (HostOutcome::Failed, Recap { failures: 1, ..Recap::default() }),
            };
            if recap.len() < RECAP_HOSTS_MAX {
                recap.insert(host.clone(), counts);
            }
            let message = if outcome == HostOutcome::Ok { String::new() } else { result.ending.shown() };
            let message = cut(message, MESSAGE_BYTES_MAX);
            sink.event(RunEvent::Host { host, task: String::new(), outcome, message, diff: String::new() })
        }
    }
}
