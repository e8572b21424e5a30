//! The cases that every implementation of [`Queue`] must pass.
//!
//! A case has labels and names of its own, so cases may follow each other on one queue. Each runs alone on its queue
//! while it runs: nobody else may claim.

use crate::limits::LEASE;
use crate::queue::{BoxFuture, Claim, Clock, Post, Queue, Submission};
use crate::worker::fresh_id;
use crate::{Error, tend};
use bytes::Bytes;
use regrow_control::features::job::policy::{self, End};
use regrow_control::features::job::schedule::Fired;
use regrow_model::duration::Span;
use regrow_model::run::{Order, Run, RunResult, Slot, State, Task, Worker};
use regrow_model::spec::{Down, OnLoss, Retry};
use regrow_model::{Name, RunId, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A clock that is set by hand.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl Default for ManualClock {
    fn default() -> ManualClock {
        ManualClock(Arc::new(AtomicU64::new(1_800_000_000_000)))
    }
}

impl ManualClock {
    /// The clock, as a queue wants it.
    pub fn clock(&self) -> Clock {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }

    fn now(&self) -> Time {
        Time(self.0.load(Ordering::SeqCst))
    }

    fn pass(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_millis()).unwrap_or(0), Ordering::SeqCst);
    }
}

/// Longest wait for something that must come.
const LONG: Duration = Duration::from_secs(60);
/// How long something is watched that must not come.
const SHORT: Duration = Duration::from_millis(300);

/// Runs all cases, one after the other; panics at the first that fails.
pub async fn run(queue: Arc<dyn Queue>, clock: ManualClock) {
    for (name, case) in CASES {
        tracing::info!(case = name, "runs");
        let label = Name::new(name).expect("a case's name");
        case(Trial { queue: queue.clone(), clock: clock.clone(), label }).await;
    }
}

type Case = fn(Trial) -> BoxFuture<'static, ()>;

const CASES: &[(&str, Case)] = &[
    ("a-run-goes-through", |trial| Box::pin(a_run_goes_through(trial))),
    ("priority-before-age", |trial| Box::pin(priority_before_age(trial))),
    ("slots-are-kept", |trial| Box::pin(slots_are_kept(trial))),
    ("a-word-stands-for-one-run", |trial| Box::pin(a_word_stands_for_one_run(trial))),
    ("cancels", |trial| Box::pin(cancels(trial))),
    ("times", |trial| Box::pin(times(trial))),
    ("parked", |trial| Box::pin(parked(trial))),
    ("retries", |trial| Box::pin(retries(trial))),
    ("a-lost-worker-changes-nothing", |trial| Box::pin(a_lost_worker_changes_nothing(trial))),
    ("labels", |trial| Box::pin(labels(trial))),
    ("logs", |trial| Box::pin(logs(trial))),
    ("schedules-fire-once", |trial| Box::pin(schedules_fire_once(trial))),
    ("many-workers", |trial| Box::pin(many_workers(trial))),
    ("forgotten", |trial| Box::pin(forgotten(trial))),
];

struct Trial {
    queue: Arc<dyn Queue>,
    clock: ManualClock,
    label: Name,
}

impl Trial {
    fn run(&self, change: impl FnOnce(&mut Order)) -> Run {
        let mut order = Order {
            job: Name::new("empty").expect("a name"),
            by: "suite".into(),
            answers: Default::default(),
            task: Task::Steps(Vec::new()),
            root: "/".into(),
            secrets: BTreeMap::new(),
            priority: 5,
            slots: Vec::new(),
            labels: vec![self.label.clone()],
            timeout: Span::secs(10),
            grace: Span::secs(1),
            retention: Span::secs(5_000),
            deadline: None,
            retry: Retry::default(),
            on_loss: OnLoss::Fail,
            down: Down::Run,
            hosts: Vec::new(),
            output_mib: 1,
            memory_mib: 4096,
        };
        change(&mut order);
        let now = self.clock.now();
        tend::waiting(order, now, now, &BTreeSet::new())
    }

    async fn submit(&self, run: &Run) -> RunId {
        let submitted = self.queue.submit(vec![Submission { run: run.clone(), key: None }]).await;
        submitted.expect("submitted").pop().expect("one id")
    }

    async fn worker(&self) -> Arc<dyn Post> {
        let worker = Worker {
            id: format!("w-{}", fresh_id()).into(),
            node: Name::new("n").expect("a name"),
            labels: vec![self.label.clone()],
            room: 10,
            since: self.clock.now(),
            draining: false,
        };
        self.queue.enlist(worker).await.expect("enlisted")
    }

    async fn get(&self, id: &RunId) -> Run {
        self.queue.get(id.clone()).await.expect("read").expect("it is known")
    }

    async fn settle(&self, post: &Arc<dyn Post>, claim: Claim, state: State) -> (bool, Run) {
        let end = End { state, why: "said so".into(), result: RunResult::default() };
        let next = policy::ended(&claim.run, end, self.clock.now());
        let done = post.settle(vec![(claim, next.clone())]).await.expect("answered");
        (done[0], next)
    }

    /// Tends until a run is as described; beats for those who live meanwhile.
    async fn tended(&self, id: &RunId, alive: &[&Arc<dyn Post>], holds: impl Fn(&Run) -> bool) -> Run {
        let end = Instant::now() + LONG;
        loop {
            for post in alive {
                post.beat().await.expect("alive");
            }
            self.queue.tend(Some(BTreeSet::new())).await.expect("tended");
            let run = self.get(id).await;
            if holds(&run) {
                return run;
            }
            assert!(Instant::now() < end, "never so: {run:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn claim(post: &Arc<dyn Post>, room: usize) -> Vec<Claim> {
    tokio::time::timeout(LONG, post.claim(room)).await.expect("there is something").expect("claimed")
}

async fn nothing(post: &Arc<dyn Post>) {
    let claimed = tokio::time::timeout(SHORT, post.claim(10)).await;
    assert!(claimed.is_err(), "{:?}", claimed.map(|claims| claims.map(|claims| claims.len())));
}

/// Shows a run from its submission to its end, known at each moment, claimed once.
async fn a_run_goes_through(trial: Trial) {
    let post = trial.worker().await;
    let run = trial.run(|_| {});
    let id = trial.submit(&run).await;
    assert_eq!(id, run.id);
    assert_eq!(trial.get(&id).await, run);
    let claims = claim(&post, 10).await;
    assert_eq!(claims.len(), 1);
    let seen = trial.get(&id).await;
    assert_eq!((seen.state, seen.attempt, seen.worker.as_ref()), (State::Running, 1, Some(&post.worker().id)));
    nothing(&post).await;
    let (done, wanted) = trial.settle(&post, claims[0].clone(), State::Succeeded).await;
    assert!(done);
    assert_eq!(trial.get(&id).await, wanted);
    let (again, _) = trial.settle(&post, claims[0].clone(), State::Failed).await;
    assert!(!again, "a run ends once");
    assert_eq!(trial.get(&id).await.state, State::Succeeded);
    // The very same submission, repeated because its answer was lost, is no second run.
    assert_eq!(trial.submit(&run).await, id);
    nothing(&post).await;
    let listed = trial.queue.list(true, 10_000).await.expect("listed");
    assert_eq!(listed.iter().filter(|run| run.id == id).count(), 1);
    assert!(trial.queue.workers().await.expect("listed").iter().any(|worker| worker.id == post.worker().id));
    post.leave().await.expect("left");
}

async fn priority_before_age(trial: Trial) {
    let runs: Vec<Run> = [1, 9, 5, 9].into_iter().map(|p| trial.run(|order| order.priority = p)).collect();
    for run in &runs {
        trial.submit(run).await;
    }
    let post = trial.worker().await;
    for _ in 0..2 {
        let claims = claim(&post, 1).await;
        assert_eq!(claims[0].run.order.priority, 9);
        trial.settle(&post, claims[0].clone(), State::Succeeded).await;
    }
    let claims = claim(&post, 10).await;
    let priorities: Vec<u8> = claims.iter().map(|claim| claim.run.order.priority).collect();
    assert_eq!(priorities, [5, 1]);
    for claim in claims {
        trial.settle(&post, claim, State::Succeeded).await;
    }
    post.leave().await.expect("left");
}

/// Shows that never more run at a time than a slot has places, whoever claims, and that all run in the end.
async fn slots_are_kept(trial: Trial) {
    let slot = Slot { name: format!("key/{}", trial.label), limit: 2 };
    let other = Slot { name: format!("key/{}-other", trial.label), limit: 1 };
    for number in 0..10 {
        let run = trial.run(|order| {
            order.slots.push(slot.clone());
            if number % 2 == 0 {
                order.slots.push(other.clone());
            }
        });
        trial.submit(&run).await;
    }
    let (one, two) = (trial.worker().await, trial.worker().await);
    let mut held: Vec<(Arc<dyn Post>, Claim)> = Vec::new();
    let mut ended = 0;
    let end = Instant::now() + LONG;
    while ended < 10 {
        assert!(Instant::now() < end, "{ended} of 10 have ended");
        for post in [&one, &two] {
            post.beat().await.expect("alive");
            if let Ok(claims) = tokio::time::timeout(Duration::from_millis(50), post.claim(10)).await {
                held.extend(claims.expect("claimed").into_iter().map(|claim| (post.clone(), claim)));
            }
        }
        assert!(held.len() <= 2, "{} run at a time", held.len());
        let others = held.iter().filter(|(_, claim)| claim.run.order.slots.len() == 2).count();
        assert!(others <= 1, "{others} hold a slot of one place");
        if let Some((post, claim)) = held.pop() {
            trial.settle(&post, claim, State::Succeeded).await;
            ended += 1;
        }
        trial.queue.tend(Some(BTreeSet::new())).await.expect("tended");
    }
    one.leave().await.expect("left");
    two.leave().await.expect("left");
}

async fn a_word_stands_for_one_run(trial: Trial) {
    let key = Some(format!("order {}", fresh_id()));
    let (first, second) = (trial.run(|_| {}), trial.run(|_| {}));
    let one = trial.queue.submit(vec![Submission { run: first.clone(), key: key.clone() }]).await.expect("accepted");
    let two = trial.queue.submit(vec![Submission { run: second.clone(), key }]).await.expect("accepted");
    assert_eq!((&one[0], &two[0]), (&first.id, &first.id));
    assert!(trial.queue.get(second.id).await.expect("read").is_none());
    assert!(trial.queue.cancel(first.id, "suite".into()).await.expect("cancelled"));
}

async fn cancels(trial: Trial) {
    let waiting = trial.submit(&trial.run(|_| {})).await;
    assert!(trial.queue.cancel(waiting.clone(), "anna".into()).await.expect("cancelled"));
    let ended = trial.get(&waiting).await;
    assert_eq!((ended.state, ended.why.as_str()), (State::Cancelled, "cancelled by anna"));
    assert!(!trial.queue.cancel(waiting, "anna".into()).await.expect("known"), "it had ended");
    let unknown = fresh_id();
    assert!(matches!(trial.queue.cancel(unknown.clone(), "anna".into()).await, Err(Error::NoRun(id)) if id == unknown));
    let post = trial.worker().await;
    let under_way = trial.submit(&trial.run(|_| {})).await;
    let claims = claim(&post, 1).await;
    assert!(trial.queue.cancel(under_way.clone(), "bert".into()).await.expect("asked"));
    let told = tokio::time::timeout(LONG, post.cancelled()).await.expect("told").expect("told");
    assert_eq!(told, [(under_way.clone(), "bert".to_owned())]);
    let (done, _) = trial.settle(&post, claims[0].clone(), State::Cancelled).await;
    assert!(done);
    assert_eq!(trial.get(&under_way).await.state, State::Cancelled);
    post.leave().await.expect("left");
}

/// Shows that nothing begins before its time, or after its deadline.
async fn times(trial: Trial) {
    let post = trial.worker().await;
    let now = trial.clock.now();
    let mut delayed = trial.run(|_| {});
    delayed.due = now.after(Duration::from_secs(100));
    let late = trial.run(|order| {
        order.deadline = Some(now.after(Duration::from_secs(50)));
        order.labels = vec![Name::new("nobody-has-it").expect("a name")];
    });
    trial.submit(&delayed).await;
    trial.submit(&late).await;
    nothing(&post).await;
    trial.queue.tend(Some(BTreeSet::new())).await.expect("tended");
    assert_eq!(trial.get(&late.id).await.state, State::Queued);
    trial.clock.pass(Duration::from_secs(100));
    let claims = claim(&post, 10).await;
    assert_eq!(claims.iter().map(|claim| &claim.run.id).collect::<Vec<_>>(), [&delayed.id]);
    trial.settle(&post, claims[0].clone(), State::Succeeded).await;
    trial.tended(&late.id, &[&post], |run| run.state == State::Expired).await;
    post.leave().await.expect("left");
}

async fn parked(trial: Trial) {
    let post = trial.worker().await;
    let dead = BTreeSet::from(["db-1".to_owned()]);
    let run = trial.run(|order| {
        order.down = Down::Park;
        order.hosts = vec!["db-1".into()];
    });
    let run = policy::accepted(run, &dead, trial.clock.now());
    assert_eq!(run.state, State::Parked);
    trial.submit(&run).await;
    trial.queue.tend(Some(dead)).await.expect("tended");
    // Who does not know which hosts are dead lets nothing go.
    trial.queue.tend(None).await.expect("tended");
    nothing(&post).await;
    assert_eq!(trial.get(&run.id).await.why, "waits for db-1");
    trial.queue.tend(Some(BTreeSet::new())).await.expect("tended");
    let claims = claim(&post, 1).await;
    assert_eq!(claims[0].run.id, run.id);
    trial.settle(&post, claims[0].clone(), State::Succeeded).await;
    post.leave().await.expect("left");
}

async fn retries(trial: Trial) {
    let post = trial.worker().await;
    let run = trial.run(|order| order.retry = Retry { times: 1, delay: Span::secs(30), ..Retry::default() });
    trial.submit(&run).await;
    let first = claim(&post, 1).await.remove(0);
    assert!(trial.settle(&post, first, State::Failed).await.0);
    assert_eq!(trial.get(&run.id).await.state, State::Queued);
    nothing(&post).await;
    trial.clock.pass(Duration::from_secs(30));
    let second = claim(&post, 1).await.remove(0);
    assert_eq!(second.run.attempt, 2);
    assert!(trial.settle(&post, second, State::Failed).await.0);
    let ended = trial.get(&run.id).await;
    assert_eq!((ended.state, ended.dead), (State::Failed, true));
    post.leave().await.expect("left");
}

/// Shows that the runs of a worker that is lost go where their policy says, in time, and that it changes nothing when it
/// comes back.
async fn a_lost_worker_changes_nothing(trial: Trial) {
    let gone = trial.worker().await;
    let slot = Slot { name: format!("key/{}", trial.label), limit: 1 };
    let retried = trial.run(|order| {
        order.on_loss = OnLoss::Retry;
        order.slots = vec![slot];
    });
    let failed = trial.run(|_| {});
    trial.submit(&retried).await;
    trial.submit(&failed).await;
    let mut claims = Vec::new();
    while claims.len() < 2 {
        claims.extend(claim(&gone, 10).await);
    }
    let since = Instant::now();
    let post = trial.worker().await;
    trial.tended(&failed.id, &[&post], |run| run.state == State::Lost).await;
    trial.tended(&retried.id, &[&post], |run| run.state == State::Queued).await;
    assert!(since.elapsed() >= LEASE - Duration::from_secs(1), "its lease must have ended first");
    let again = claim(&post, 10).await;
    assert_eq!(again.iter().map(|claim| (&claim.run.id, claim.run.attempt)).collect::<Vec<_>>(), [(&retried.id, 2)]);
    for claim in claims {
        let (done, _) = trial.settle(&gone, claim, State::Succeeded).await;
        assert!(!done, "it is not the lost worker's any more");
    }
    assert!(matches!(gone.beat().await, Err(Error::Lost)));
    assert!(trial.settle(&post, again[0].clone(), State::Succeeded).await.0);
    assert_eq!(trial.get(&retried.id).await.state, State::Succeeded);
    post.leave().await.expect("left");
}

async fn labels(trial: Trial) {
    let post = trial.worker().await;
    let other = trial.run(|order| order.labels.push(Name::new("gpu").expect("a name")));
    trial.submit(&other).await;
    nothing(&post).await;
    let worker = Worker {
        id: format!("w-{}", fresh_id()).into(),
        labels: vec![trial.label.clone(), Name::new("gpu").expect("a name")],
        ..post.worker().clone()
    };
    let able = trial.queue.enlist(worker).await.expect("enlisted");
    let claims = claim(&able, 1).await;
    assert_eq!(claims[0].run.id, other.id);
    trial.settle(&able, claims[0].clone(), State::Succeeded).await;
    able.leave().await.expect("left");
    post.leave().await.expect("left");
}

async fn logs(trial: Trial) {
    let post = trial.worker().await;
    let id = trial.submit(&trial.run(|_| {})).await;
    let claims = claim(&post, 1).await;
    for number in 0..3_u32 {
        post.tell(&claims[0], number, Bytes::from(format!("{{\"n\":{number}}}\n"))).await.expect("told");
    }
    let all = trial.queue.log(id.clone(), None).await.expect("read");
    let text: Vec<u8> = all.iter().flat_map(|chunk| chunk.lines.to_vec()).collect();
    assert_eq!(String::from_utf8_lossy(&text), "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n");
    let rest = trial.queue.log(id.clone(), Some(all[1].cursor.clone())).await.expect("read");
    assert_eq!(rest, all[2..]);
    assert!(trial.queue.log(id, Some(all[2].cursor.clone())).await.expect("read").is_empty());
    trial.settle(&post, claims[0].clone(), State::Succeeded).await;
    post.leave().await.expect("left");
}

/// Shows that of two who see the same time of a schedule one begins its run.
async fn schedules_fire_once(trial: Trial) {
    let name = Name::new(&format!("s-{}", fresh_id())).expect("a name");
    assert_eq!(trial.queue.fired(name.clone()).await.expect("read"), None);
    let (one, two) = (trial.run(|_| {}), trial.run(|_| {}));
    let is = |run: &Run| Fired { at: trial.clock.now(), runs: vec![run.id.clone()] };
    assert!(trial.queue.fire(name.clone(), None, is(&one), vec![one.clone()]).await.expect("answered"));
    assert!(!trial.queue.fire(name.clone(), None, is(&two), vec![two.clone()]).await.expect("answered"));
    assert_eq!(trial.queue.fired(name.clone()).await.expect("read"), Some(is(&one)));
    let post = trial.worker().await;
    let claims = claim(&post, 10).await;
    assert_eq!(claims.iter().map(|claim| &claim.run.id).collect::<Vec<_>>(), [&one.id]);
    nothing(&post).await;
    trial.settle(&post, claims[0].clone(), State::Succeeded).await;
    post.leave().await.expect("left");
}

/// Shows that workers side by side take everything, and nothing twice.
async fn many_workers(trial: Trial) {
    const RUNS: usize = 500;
    let submissions = (0..RUNS).map(|_| Submission { run: trial.run(|_| {}), key: None }).collect();
    let ids: BTreeSet<RunId> = trial.queue.submit(submissions).await.expect("accepted").into_iter().collect();
    assert_eq!(ids.len(), RUNS);
    let (claimed, mut taken) = tokio::sync::mpsc::channel::<RunId>(RUNS);
    let mut workers = Vec::new();
    for _ in 0..4 {
        let (post, claimed, clock) = (trial.worker().await, claimed.clone(), trial.clock.clone());
        workers.push(tokio::spawn(async move {
            loop {
                let claims = post.claim(7).await.expect("claimed");
                post.beat().await.expect("alive");
                let settled: Vec<(Claim, Run)> = claims
                    .into_iter()
                    .map(|claim| {
                        let end = End { state: State::Succeeded, why: String::new(), result: RunResult::default() };
                        let next = policy::ended(&claim.run, end, clock.now());
                        (claim, next)
                    })
                    .collect();
                let done = post.settle(settled.clone()).await.expect("settled");
                assert!(done.iter().all(|done| *done));
                for (claim, _) in settled {
                    claimed.send(claim.run.id.clone()).await.expect("heard");
                }
            }
        }));
    }
    let mut seen = BTreeSet::new();
    while seen.len() < RUNS {
        let id = tokio::time::timeout(LONG, taken.recv()).await.expect("more come").expect("workers work");
        assert!(seen.insert(id.clone()), "{id} was run twice");
    }
    assert_eq!(seen, ids);
    workers.iter().for_each(tokio::task::JoinHandle::abort);
}

async fn forgotten(trial: Trial) {
    let post = trial.worker().await;
    let run = trial.run(|order| order.retention = Span::millis(1));
    trial.submit(&run).await;
    let claims = claim(&post, 1).await;
    trial.settle(&post, claims[0].clone(), State::Succeeded).await;
    trial.clock.pass(Duration::from_secs(1));
    let end = Instant::now() + LONG;
    loop {
        trial.queue.sweep().await.expect("swept");
        if trial.queue.get(run.id.clone()).await.expect("read").is_none() {
            break;
        }
        assert!(Instant::now() < end, "it is never forgotten");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let listed = trial.queue.list(true, 10_000).await.expect("listed");
    assert!(listed.iter().all(|listed| listed.id != run.id));
    post.leave().await.expect("left");
}
