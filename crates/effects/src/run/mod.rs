//! Carrying runs out: commands here, playbooks, commands on hosts, requests, and steps of these.
//!
//! **Guarantees.** When [`Runs::run`] returns, or its future is dropped, or its worker is killed, nothing of the run is
//! left: everything but a request runs under a leash ([`crate::leash_main`]). A folder of the try's own holds what it
//! needs, its secrets too, and is gone afterwards. What a run prints is told line by line, with its secrets masked; who
//! prints faster than it is taken is held up. Files that it leaves in `REGROW_ARTEFACTS` are told too. Values of parameters are data everywhere: words of a command, variables that
//! Ansible does not template.

mod ansible;
mod artefacts;
mod exec;
mod folder;
mod http;
mod limits;
mod process;
mod sink;
mod ssh;
mod tls;

use folder::Folder;
use process::{Ended, Reins};
use regrow_control::features::job::policy::{End, Halt};
use regrow_model::Name;
use regrow_model::observed::WorldError;
use regrow_model::run::{Line, Recap, Run, RunEvent, RunResult, State, StepState, Task};
use regrow_model::spec::When;
use sink::Sink;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio::sync::{mpsc, watch};

/// What marks the processes of a try, with its folder: a variable of their environment.
const MARK: &str = "REGROW_TRY";

/// Carries runs out.
#[derive(Clone, Debug)]
pub struct Runs {
    folder: PathBuf,
    program: PathBuf,
}

/// One try of a run on its way.
struct Try<'a> {
    runs: &'a Runs,
    run: &'a Run,
    secrets: &'a BTreeMap<String, String>,
    folder: &'a Path,
    sink: &'a Sink,
    reins: Reins,
}

/// What came of a task.
struct Came {
    ended: Ended,
    recap: BTreeMap<String, Recap>,
    /// Of an `http` task.
    status: Option<i32>,
    /// Why it failed, where a code does not say it.
    why: Option<String>,
}

impl Came {
    fn refused(why: impl Into<String>) -> Came {
        Came { ended: Ended::Refused(why.into()), recap: BTreeMap::new(), status: None, why: None }
    }
}

impl Runs {
    /// `folder`: where each try has a folder of its own; it is made, for its owner alone. `program`: this program, which is
    /// also the leash (`PROGRAM leash …`) and runs `ssh` tasks (`PROGRAM exec …`); `/proc/self/exe`.
    ///
    /// Errors: the folder cannot be made.
    pub fn open(folder: PathBuf, program: PathBuf) -> Result<Runs, WorldError> {
        folder::make(&folder)?;
        // Programs of a run have their own working directory.
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        Ok(Runs { folder, program })
    }

    /// Ends processes that tries of an earlier life left behind, which happens only when their leash was killed too, and
    /// removes their folders. Before the first run: the folder is one worker's.
    pub async fn clean(&self) {
        let folder = self.folder.clone();
        let cleaned = crate::blocking(move || {
            for left in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = left.path();
                let ended = crate::leash::end_marked(&mark(&path));
                if ended > 0 {
                    tracing::warn!(folder = %path.display(), ended, "processes of an earlier life were left and are ended");
                }
                let _ = std::fs::remove_dir_all(path);
            }
        });
        let _ = cleaned.await;
    }

    /// Carries a run out, to its end or until `halt` says so: politely for a cancel, with SIGTERM and the order's grace,
    /// at once when the worker is lost. `secrets`: values by name. `done`: steps that earlier tries have done. `beat`:
    /// when the worker's last good beat began.
    pub async fn run(
        &self,
        run: &Run,
        secrets: &BTreeMap<String, String>,
        done: &BTreeSet<Name>,
        lines: mpsc::Sender<Line>,
        halt: watch::Receiver<Halt>,
        beat: watch::Receiver<Instant>,
    ) -> End {
        let until = tokio::time::Instant::now() + run.order.timeout.0.min(limits::FOR_EVER);
        let folder = match Folder::make(self.folder.join(format!("{}-{}", run.id, run.attempt))) {
            Ok(folder) => folder,
            Err(error) => return failed(error.text),
        };
        let sink = Sink::new(lines, secrets);
        let this =
            Try { runs: self, run, secrets, folder: folder.path(), sink: &sink, reins: Reins { halt, beat, until } };
        if let Err(error) = folder::make(&this.artefacts()) {
            return failed(error.text);
        }
        let end = match &run.order.task {
            Task::Steps(steps) => this.steps(steps, done).await,
            task => this.end(this.task(task).await),
        };
        if end.state != State::Lost {
            this.tell_artefacts().await;
        }
        End { why: sink.masked(end.why), ..end }
    }
}

fn mark(folder: &Path) -> String {
    format!("{MARK}={}", folder.display())
}

fn failed(why: String) -> End {
    End { state: State::Failed, why, result: RunResult::default() }
}

impl Try<'_> {
    async fn task(&self, task: &Task) -> Came {
        let came = match task {
            Task::Exec(task) => self.exec(task).await,
            Task::Ansible(task) => self.ansible(task).await,
            Task::Ssh(task) => self.ssh(task).await,
            Task::Http(task) => self.http(task).await,
            // The model has no steps within steps.
            Task::Steps(_) => Came::refused("steps within steps"),
        };
        if came.ended != Ended::Unleashed {
            return came;
        }
        let mark = mark(self.folder);
        let _ = crate::blocking(move || crate::leash::end_marked(&mark)).await;
        came
    }

    /// One after the other, each where its condition holds.
    async fn steps(&self, steps: &[regrow_model::run::StepTask], done: &BTreeSet<Name>) -> End {
        let mut end = End { state: State::Succeeded, why: String::new(), result: RunResult::default() };
        for step in steps {
            if done.contains(&step.name) {
                continue;
            }
            let runs = match step.when {
                When::Success => end.state == State::Succeeded,
                When::Failure => end.state != State::Succeeded,
                When::Always => true,
            };
            if !runs {
                self.tell_step(&step.name, StepState::Skipped).await;
                continue;
            }
            self.tell_step(&step.name, StepState::Begun).await;
            let came = self.end(self.task(&step.task).await);
            let ok = came.state == State::Succeeded;
            self.tell_step(&step.name, if ok { StepState::Succeeded } else { StepState::Failed }).await;
            for (host, more) in came.result.recap {
                add(end.result.recap.entry(host).or_default(), more);
            }
            if end.state == State::Succeeded {
                end.result.code = came.result.code.or(end.result.code);
            }
            if !ok && end.state == State::Succeeded {
                end.why = format!("step {}: {}", step.name, came.why);
                end.state = came.state;
            }
            if matches!(came.state, State::Cancelled | State::TimedOut | State::Lost) {
                end.state = came.state;
                break;
            }
        }
        end
    }

    async fn tell_step(&self, step: &Name, state: StepState) {
        self.sink.send(self.sink.event(RunEvent::Step { step: step.clone(), state })).await;
    }

    fn end(&self, came: Came) -> End {
        let (state, why, code) = match came.ended {
            Ended::Exited { code: 0, .. } if came.why.is_none() => (State::Succeeded, String::new(), Some(0)),
            Ended::Exited { code, said } => {
                let why = came.why.unwrap_or_else(|| match said.is_empty() {
                    true => format!("exited with code {code}"),
                    false => format!("exited with code {code}: {said}"),
                });
                (State::Failed, why, Some(code))
            }
            Ended::Refused(why) => (State::Failed, why, None),
            Ended::Unleashed => (State::Failed, "somebody killed what it ran under".to_owned(), None),
            Ended::Cancelled(by) => (State::Cancelled, format!("cancelled by {by}"), None),
            Ended::TimedOut => {
                (State::TimedOut, format!("it had not ended within {} and was stopped", self.run.order.timeout), None)
            }
            Ended::Lost => (State::Lost, "the worker lost its lease".to_owned(), None),
        };
        let mut recap = came.recap;
        while recap.len() > limits::RECAP_HOSTS_MAX {
            recap.pop_last();
        }
        End { state, why, result: RunResult { code: came.status.or(code), recap } }
    }

    /// The environment of every program of the try.
    fn environment(&self) -> BTreeMap<String, String> {
        let base = crate::exec::base_environment().into_iter().map(|(name, value)| (name.to_owned(), value));
        let mut all: BTreeMap<String, String> = base.collect();
        all.insert(MARK.to_owned(), self.folder.display().to_string());
        all.insert("REGROW_ARTEFACTS".to_owned(), self.artefacts().display().to_string());
        all.insert("REGROW_RUN".to_owned(), self.run.id.to_string());
        all.insert("REGROW_ATTEMPT".to_owned(), self.run.attempt.to_string());
        all.insert("REGROW_JOB".to_owned(), self.run.order.job.to_string());
        all
    }

    /// A path of the order, from its root.
    fn path(&self, path: &str) -> PathBuf {
        Path::new(&self.run.order.root).join(path)
    }
}

fn add(to: &mut Recap, more: Recap) {
    to.ok += more.ok;
    to.changed += more.changed;
    to.unreachable += more.unreachable;
    to.failures += more.failures;
    to.skipped += more.skipped;
}

/// The hosts on which something failed, for people.
fn failed_hosts(recap: &BTreeMap<String, Recap>) -> Option<String> {
    let named = |is: fn(&Recap) -> bool| {
        let hosts: Vec<&str> = recap.iter().filter(|(_, recap)| is(recap)).map(|(host, _)| host.as_str()).collect();
        let shown = hosts.iter().take(limits::HOSTS_NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
        match hosts.len() {
            0 => None,
            count if count > limits::HOSTS_NAMED_MAX => {
                Some(format!("{shown} and {} more", count - limits::HOSTS_NAMED_MAX))
            }
            _ => Some(shown),
        }
    };
    let failed = named(|recap| recap.failures > 0).map(|hosts| format!("failed on {hosts}"));
    let unreachable = named(|recap| recap.unreachable > 0).map(|hosts| format!("{hosts} unreachable"));
    let both: Vec<String> = [failed, unreachable].into_iter().flatten().collect();
    (!both.is_empty()).then(|| both.join("; "))
}
