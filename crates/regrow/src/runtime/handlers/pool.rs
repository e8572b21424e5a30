//! Runs handlers: some at a time, in order where order is owed.

use super::case::Case;
use super::{Shared, WAITING_MAX};
use crate::runtime::gossip::Club;
use regrow_effects::{Script, handle};
use regrow_gossip::Input;
use regrow_serve::membership::Membership;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Handlers of members and user events that run at a time, and the same of queries.
const RUNNING_MAX: usize = 4;
/// Longest that a handler may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Output kept of a handler. Source: Serf `maxBufSize`.
const OUTPUT_BYTES_MAX: usize = 8 << 10;
/// A handler that takes longer is told. Source: Serf `warnSlow`.
const SLOW: Duration = Duration::from_secs(1);
/// Variables of ours that are not for scripts.
const HIDDEN: [&str; 1] = ["REGROW_RPC_AUTH"];

/// One case to be handled, with its number in the journal.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: Option<u64>,
    pub(super) case: Case,
}

impl Job {
    fn is_query(&self) -> bool {
        matches!(self.case, Case::Query { .. })
    }
}

/// Jobs in line.
#[derive(Default)]
pub(super) struct Line {
    jobs: Mutex<VecDeque<Job>>,
    came: Notify,
}

impl Line {
    pub(super) fn has_room(&self) -> bool {
        self.jobs.lock().is_ok_and(|jobs| jobs.len() < WAITING_MAX)
    }

    /// Puts a job in line. A user event that may be coalesced replaces those of its name that still wait; their
    /// numbers are given back.
    pub(super) fn push(&self, job: Job) -> Vec<u64> {
        let Ok(mut jobs) = self.jobs.lock() else { return Vec::new() };
        let mut replaced = Vec::new();
        if let Case::User { name, coalesce: true, .. } = &job.case {
            jobs.retain(|other| {
                let same = matches!(&other.case, Case::User { name: known, coalesce: true, .. } if known == name);
                if same {
                    replaced.extend(other.id);
                }
                !same
            });
        }
        jobs.push_back(job);
        drop(jobs);
        self.came.notify_one();
        replaced
    }

    /// Takes the first job that may run now.
    fn next(&self, busy: &BTreeSet<String>, members: bool, queries: bool) -> Option<Job> {
        let mut jobs = self.jobs.lock().ok()?;
        // One that waits for its turn holds back those of the same order behind it.
        let mut held: BTreeSet<String> = busy.clone();
        let at = jobs.iter().position(|job| {
            let order = job.case.order();
            let free = !held.contains(&order) && if job.is_query() { queries } else { members };
            if !free {
                held.insert(order);
            }
            free
        })?;
        jobs.remove(at)
    }
}

pub(super) async fn run(shared: Arc<Shared>, club: Club) {
    let mut running: JoinSet<Job> = JoinSet::new();
    let mut busy: BTreeSet<String> = BTreeSet::new();
    let (mut members, mut queries) = (0, 0);
    loop {
        while let Some(job) = shared.line.next(&busy, members < RUNNING_MAX, queries < RUNNING_MAX) {
            busy.insert(job.case.order());
            *(if job.is_query() { &mut queries } else { &mut members }) += 1;
            let (shared, club) = (shared.clone(), club.clone());
            running.spawn(async move {
                handle_one(&shared, &club, &job.case).await;
                job
            });
        }
        tokio::select! {
            Some(ended) = running.join_next() => {
                let Ok(job) = ended else { continue };
                busy.remove(&job.case.order());
                *(if job.is_query() { &mut queries } else { &mut members }) -= 1;
                if let Some(id) = job.id {
                    shared.done(id);
                }
            }
            () = shared.line.came.notified() => {}
        }
    }
}

/// Runs every handler that wants the case, one after the other.
async fn handle_one(shared: &Shared, club: &Club, case: &Case) {
    let (own, tags) = match club.roll().await {
        Ok(roll) => {
            let own = roll.name.clone();
            let me = roll.members.into_iter().find(|member| member.name == own);
            (own, me.map(|me| me.tags).unwrap_or_default())
        }
        Err(_) => (String::new(), BTreeMap::new()),
    };
    let (environment, input) = (case.environment(&own, &tags), case.input());
    for handler in shared.handlers.iter().filter(|handler| handler.wants_kind(case.kind())) {
        let line = handler.line.as_str();
        let script = Script {
            line,
            environment: &environment,
            hidden: &HIDDEN,
            input: &input,
            timeout: TIMEOUT,
            output_max: OUTPUT_BYTES_MAX,
        };
        let began = Instant::now();
        let handled = handle(script).await;
        let took = began.elapsed();
        if took > SLOW {
            tracing::warn!("handler `{line}` is slow: it took {took:?}");
        }
        let handled = match handled {
            Ok(handled) => handled,
            Err(error) => {
                tracing::error!("{}", error.text);
                continue;
            }
        };
        if handled.said > OUTPUT_BYTES_MAX as u64 {
            tracing::warn!("handler `{line}` said {} bytes: the last {OUTPUT_BYTES_MAX} were kept", handled.said);
        }
        if let Case::Query { id, name, .. } = case
            && !handled.output.is_empty()
            && let Err(error) = club.command(Input::Reply { id: *id, payload: handled.output }).await
        {
            tracing::error!("cannot answer query {name}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, kind: &str) -> Job {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        Job { id: None, case: Case::Member { kind, name, address: String::new(), tags: BTreeMap::new() } }
    }

    fn query(id: u64) -> Job {
        Job { id: None, case: Case::Query { id, name: String::new(), ltime: 1, payload: Vec::new() } }
    }

    /// Shows that one member's happenings keep their order, that others go past them, and that queries have places.
    #[test]
    fn order() {
        let line = Line::default();
        for job in [member("a", "member-join"), member("a", "member-failed"), member("b", "member-join"), query(1)] {
            line.push(job);
        }
        let mut busy = BTreeSet::new();
        let mut next = |line: &Line, members| {
            let job = line.next(&busy, members, true)?;
            busy.insert(job.case.order());
            Some(format!("{} {}", job.case.order(), job.case.kind().0))
        };
        assert_eq!(next(&line, true).as_deref(), Some("member a member-join"));
        assert_eq!(next(&line, true).as_deref(), Some("member b member-join"));
        assert_eq!(next(&line, false).as_deref(), Some("query 1 query"));
        assert_eq!(next(&line, true), None, "the second of a waits for the first");
        busy.clear();
        assert_eq!(
            line.next(&busy, true, true).map(|job| job.case.kind().0.to_owned()).as_deref(),
            Some("member-failed")
        );
    }

    /// Shows that of user events that may be coalesced the newest of a name stays.
    #[test]
    fn coalesced() {
        let line = Line::default();
        let user = |id, name: &str, coalesce| Job {
            id: Some(id),
            case: Case::User { name: name.to_owned(), ltime: id, payload: Vec::new(), coalesce },
        };
        assert_eq!(line.push(user(1, "a", true)), Vec::<u64>::new());
        assert_eq!(line.push(user(2, "b", true)), Vec::<u64>::new());
        assert_eq!(line.push(user(3, "a", false)), Vec::<u64>::new());
        assert_eq!(line.push(user(4, "a", true)), vec![1u64]);
    }
}
