//! A queue in memory that keeps runs, and has them go on as a test says.

use regrow_control::features::job::OrderError;
use regrow_control::features::job::order::{Wish, due, order};
use regrow_control::features::job::schedule::next_after;
use regrow_model::key::Record;
use regrow_model::run::{Line, Run, RunResult, State, Worker};
use regrow_model::spec::{Job, Schedule};
use regrow_model::{CauseId, Name, Revision, RunId, Time, View, desired};
use regrow_serve::AgentError;
use regrow_serve::BoxFuture;
use regrow_serve::jobs::Jobs;
use regrow_serve::jobs::wire::{Again, LogPiece, RunsQuery, ScheduleLine};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

pub(crate) const NOW: Time = Time(1_700_000_000_000);
pub(crate) const SECRET: &str = "it's a secret to everybody";

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// The jobs of all tests.
fn spec() -> BTreeMap<Name, Job> {
    let env = json!({"choices": ["staging", "production"], "default": "staging"});
    let ansible = |limit: &str| json!({"playbook": "site.yml", "target": {"inventory": "hosts.ini", "limit": [limit]}});
    let jobs = json!({
        "nightly": {
            "parameters": {"day": {"type": "integer", "min": 1, "max": 31, "default": 1}, "note": {"default": ""}},
            "exec": {"command": ["/usr/bin/nightly", "${day}", "note=${note}"]},
        },
        "hooked": {
            "parameters": {"ref": {"default": ""}, "action": {"default": ""}},
            "exec": {"command": ["/usr/bin/build", "ref=${ref}"]},
            "webhook": {"env": "HOOK"},
        },
        "empty": {"steps": [], "webhook": {"env": "EMPTY"}},
        "broken": {"steps": [], "webhook": {"env": "BROKEN"}},
        "ansible-role": {
            "parameters": {"host": {"type": "host"}, "role": {"type": "list", "min": 1}, "env": env},
            "ansible": {"roles": ["${role}"], "target": {"inventory": "hosts.ini", "limit": ["${host}"]}},
        },
        "ansible-update-code": {
            "parameters": {"tags": {"type": "list"}, "env": env},
            "ansible": {"playbook": "code.yml", "tags": ["${tags}"], "target": {"inventory": "hosts.ini"}},
        },
        "ansible-adhoc": {
            "parameters": {"host": {"type": "host"}, "mod": {"type": "name"}, "args": {"default": ""}},
            "adhoc": {"module": "${mod}", "args": "${args}", "target": {"inventory": "hosts.ini", "limit": ["${host}"]}},
        },
        "ansible-set-eip": {
            "parameters": {"instance_id": {"type": "host"}, "role": {"type": "name"}, "env": env},
            "ansible": ansible("${instance_id}"),
        },
    });
    serde_json::from_value(jobs).expect("jobs")
}

/// What is kept.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) view: View,
    runs: BTreeMap<RunId, Run>,
    words: BTreeMap<String, RunId>,
    logs: BTreeMap<RunId, Vec<LogPiece>>,
    salt: u64,
    /// What everything is answered with.
    pub(crate) down: Option<AgentError>,
}

/// The queue.
#[derive(Default)]
pub(crate) struct Book {
    kept: Mutex<Kept>,
    stirred: Notify,
}

impl Book {
    pub(crate) fn new() -> Arc<Book> {
        let book = Book::default();
        let cause = CauseId::new(NOW, 1);
        for (job, spec) in spec() {
            let record = desired::Job { spec, root: "/srv".into(), cause: cause.clone() };
            book.kept().view.put(Record::DesiredJob(job, Box::new(record)), Revision(1));
        }
        Arc::new(book)
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the job of a name.
    pub(crate) fn without(&self, job: &str) {
        self.kept().view.jobs.remove(&name(job));
    }

    pub(crate) fn all(&self) -> Vec<Run> {
        self.kept().runs.values().cloned().collect()
    }

    pub(crate) fn one(&self, id: &RunId) -> Run {
        self.kept().runs[id].clone()
    }

    /// A run goes on.
    pub(crate) fn moves(&self, id: &RunId, state: State, result: Option<RunResult>) {
        let mut kept = self.kept();
        let run = kept.runs.get_mut(id).expect("a run");
        run.state = state;
        run.attempt = run.attempt.max(u32::from(state == State::Running));
        run.result = result;
        run.ended = state.is_final().then_some(NOW);
        drop(kept);
        self.stirred.notify_waiters();
    }

    /// A piece of the run's log comes.
    pub(crate) fn says(&self, id: &RunId, lines: &[Line]) {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line).expect("JSON");
            text.push(b'\n');
        }
        let mut kept = self.kept();
        let pieces = kept.logs.entry(id.clone()).or_default();
        pieces.push(LogPiece { cursor: format!("{:04}", pieces.len()), lines: text.into() });
        drop(kept);
        self.stirred.notify_waiters();
    }

    fn accept(&self, job: &Name, wish: &Wish, by: &str) -> Result<RunId, AgentError> {
        let mut kept = self.kept();
        if let Some(id) = wish.key.as_ref().and_then(|key| kept.words.get(key)) {
            return Ok(id.clone());
        }
        let order = order(&kept.view, job, wish, by, NOW).map_err(|error| match error {
            OrderError::NoJob(_) => AgentError::NotFound(error.to_string()),
            error => AgentError::Usage(error.to_string()),
        })?;
        kept.salt += 1;
        let id = RunId::new(NOW, kept.salt);
        let run = Run::waiting(id.clone(), order, due(wish, NOW), NOW);
        kept.runs.insert(id.clone(), run);
        if let Some(key) = &wish.key {
            kept.words.insert(key.clone(), id.clone());
        }
        Ok(id)
    }

    fn with<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Book) -> Result<T, AgentError>,
    ) -> BoxFuture<'static, Result<T, AgentError>> {
        let down = self.kept().down.clone();
        let answer = down.map_or_else(|| what(self), Err);
        Box::pin(async { answer })
    }
}

impl Jobs for Book {
    fn jobs(&self) -> BoxFuture<'_, Result<BTreeMap<Name, Job>, AgentError>> {
        self.with(|book| Ok(book.kept().view.jobs.iter().map(|(name, job)| (name.clone(), job.spec.clone())).collect()))
    }

    fn schedules(&self) -> BoxFuture<'_, Result<Vec<ScheduleLine>, AgentError>> {
        self.with(|_| {
            let schedule: Schedule =
                serde_json::from_value(json!({"job": "nightly", "cron": "30 2 * * *"})).expect("one");
            let next = next_after(&schedule, NOW);
            Ok(vec![ScheduleLine { name: name("night"), schedule, next, last: None, runs: Vec::new() }])
        })
    }

    fn submit(&self, job: Name, wish: Wish, by: String) -> BoxFuture<'_, Result<RunId, AgentError>> {
        self.with(|book| book.accept(&job, &wish, &by))
    }

    fn again(&self, id: RunId, again: Again, by: String) -> BoxFuture<'_, Result<RunId, AgentError>> {
        self.with(|book| {
            let run = book.kept().runs.get(&id).cloned();
            let run = run.ok_or_else(|| AgentError::NotFound(format!("there is no run {id}")))?;
            if !run.state.is_final() {
                return Err(AgentError::Refused(format!("run {id} has not ended")));
            }
            let failed = run.result.iter().flat_map(RunResult::failed_hosts).map(str::to_owned).collect();
            let parameters = run.order.answers.clone().into_iter().collect();
            let limit = if again.failed_hosts { failed } else { Vec::new() };
            book.accept(&run.order.job, &Wish { parameters, limit, ..Wish::default() }, &by)
        })
    }

    fn run(&self, id: RunId) -> BoxFuture<'_, Result<Option<Run>, AgentError>> {
        self.with(|book| Ok(book.kept().runs.get(&id).cloned()))
    }

    fn runs(&self, query: RunsQuery) -> BoxFuture<'_, Result<Vec<Run>, AgentError>> {
        self.with(|book| {
            let fits = |run: &&Run| {
                query.job.as_ref().is_none_or(|job| run.order.job == *job)
                    && query.state.is_none_or(|state| run.state == state)
                    && (query.ended || !run.state.is_final())
            };
            Ok(book.kept().runs.values().rev().filter(fits).take(query.limit).cloned().collect())
        })
    }

    fn waits(&self, id: RunId) -> BoxFuture<'_, Result<Vec<String>, AgentError>> {
        self.with(|_| Ok(vec![format!("no worker has room for run {id}")]))
    }

    fn cancel(&self, id: RunId, by: String) -> BoxFuture<'_, Result<bool, AgentError>> {
        self.with(|book| {
            let mut kept = book.kept();
            let none = || AgentError::NotFound(format!("there is no run {id}"));
            let run = kept.runs.get_mut(&id).ok_or_else(none)?;
            let is_ended = run.state.is_final();
            if !is_ended {
                run.state = State::Cancelled;
                run.why = format!("cancelled by {by}");
            }
            Ok(!is_ended)
        })
    }

    fn log(&self, id: RunId, after: Option<String>) -> BoxFuture<'_, Result<Vec<LogPiece>, AgentError>> {
        self.with(|book| {
            let kept = book.kept();
            let pieces = kept.logs.get(&id).into_iter().flatten();
            let behind = pieces.filter(|piece| after.as_ref().is_none_or(|after| piece.cursor > *after));
            // One at a time, so that what comes in several is asked for several times.
            Ok(behind.take(1).cloned().collect())
        })
    }

    fn stirred(&self, _: RunId) -> BoxFuture<'_, ()> {
        let notified = self.stirred.notified();
        Box::pin(async move {
            tokio::select! {
                () = notified => {}
                () = tokio::time::sleep(regrow_serve::jobs::STIR) => {}
            }
        })
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>, AgentError>> {
        let worker: Value =
            json!({"id": "n1-0123456789abcdef", "node": "n1", "room": 8, "since": NOW, "draining": false});
        self.with(|_| Ok(vec![serde_json::from_value(worker).expect("a worker")]))
    }

    fn webhook(&self, job: Name) -> BoxFuture<'_, Result<Option<Vec<u8>>, AgentError>> {
        self.with(|_| match job.as_str() {
            "hooked" => Ok(Some(SECRET.into())),
            "empty" => Ok(Some(Vec::new())),
            "broken" => Err(AgentError::Refused("the variable BROKEN is not set".to_owned())),
            _ => Ok(None),
        })
    }
}
