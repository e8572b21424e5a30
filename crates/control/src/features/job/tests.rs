//! Orders, the line, and what follows what.

use super::order::order;
use super::policy::{self, End};
use super::queue::{Queue, Share, slot_key};
use super::schedule::{self, Fired};
use super::why::{Around, waits};
use super::{OrderError, Wish};
use regrow_model::run::{Inventory, ModuleArgs, Order, Play, Run, RunResult, Slot, State, Task, Worker};
use regrow_model::spec::{Down, OnLoss, Retry};
use regrow_model::{CauseId, Name, Revision, RunId, Time, View, desired, key::Record};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const NOW: Time = Time(1_000_000);
const ALONE: Share = Share { index: 0, of: 1, others: false };

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn view(spec: Value) -> View {
    let mut view = View::default();
    let spec = serde_json::from_value(spec).expect("a job");
    let job = desired::Job { spec, root: "/srv".into(), cause: CauseId::new(NOW, 1) };
    view.put(Record::DesiredJob(name("deploy"), Box::new(job)), Revision(1));
    view
}

fn try_order(spec: Value, parameters: Value) -> Result<Order, OrderError> {
    let wish = Wish { parameters: serde_json::from_value(parameters).expect("a map"), ..Wish::default() };
    order(&view(spec), &name("deploy"), &wish, "test", NOW)
}

fn words(order: &Order) -> Vec<&str> {
    match &order.task {
        Task::Exec(task) => task.command.iter().map(String::as_str).collect(),
        other => panic!("{other:?}"),
    }
}

/// Shows that answers stay words: spaces, quotes, dollars and shell signs in them mean nothing.
#[test]
fn answers_are_words() {
    let spec = json!({
        "parameters": {"text": {}, "hosts": {"type": "list", "default": "a,b"}},
        "exec": {"command": ["deploy", "--to=${text}", "${hosts}", "$$x"]},
    });
    let order = try_order(spec, json!({"text": "a b; $(reboot) ${hosts} `id` 'q'"})).expect("accepted");
    assert_eq!(words(&order), ["deploy", "--to=a b; $(reboot) ${hosts} `id` 'q'", "a", "b", "$x"]);
}

/// Shows what is refused: options, missing and unknown parameters, and values that do not fit their type.
#[test]
fn answers_are_checked() {
    let spec = json!({
        "parameters": {
            "word": {"default": "x"}, "host": {"type": "host", "default": "h"}, "n": {"type": "integer", "max": 3, "default": 1},
            "env": {"choices": ["dev", "prod"], "default": "dev"}, "must": {}, "tag": {"pattern": "v[0-9]+", "default": "v1"},
        },
        "exec": {"command": ["deploy", "${word}"]},
    });
    let refused = |mut given: Value| {
        if given.get("must").is_none() {
            given["must"] = "y".into();
        }
        try_order(spec.clone(), given).expect_err("refused").to_string()
    };
    assert!(refused(json!({"word": "--help"})).contains("dash"));
    assert!(refused(json!({"must": null})).contains("missing"));
    assert!(refused(json!({"other": "x"})).contains("no parameter `other`"));
    for host in ["-oProxyCommand=id", "a b", "$(id)", "@/etc/passwd", "~x", "a\nb", "../x", "", "a;b"] {
        assert!(refused(json!({"host": host})).contains("host"), "{host}");
    }
    assert!(refused(json!({"n": 4})).contains("at most 3"));
    assert!(refused(json!({"n": "1; id"})).contains("whole number"));
    assert!(refused(json!({"env": "prod;id"})).contains("one of dev, prod"));
    assert!(refused(json!({"tag": "v1\n"})).contains("control"));
    assert!(refused(json!({"tag": "v1x"})).contains("match"));
    assert!(refused(json!({"must": ["x"]})).contains("text"));
    assert!(try_order(spec, json!({"must": "y", "n": "2"})).is_ok(), "forms send text");
}

/// Shows that a URL, a body and an inventory's path cannot be left by an answer.
#[test]
fn answers_stay_in_their_places() {
    let http = json!({
        "parameters": {"id": {}},
        "http": {"url": "http://127.0.0.1:1/x/${id}/y", "method": "POST", "body": "{\"id\": \"${id}\"}"},
    });
    let order = try_order(http, json!({"id": "../a?b\"}, {"})).expect("accepted");
    let Task::Http(task) = &order.task else { panic!("a request") };
    assert_eq!(task.url, "http://127.0.0.1:1/x/..%2Fa%3Fb%22%7D%2C%20%7B/y");
    let body: Value = serde_json::from_str(task.body.as_deref().expect("a body")).expect("still JSON");
    assert_eq!(body, json!({"id": "../a?b\"}, {"}));
    let path = json!({
        "parameters": {"env": {"type": "name"}, "role": {"type": "list"}},
        "ansible": {"roles": ["${role}"], "target": {"inventory": "inventory/${env}"}},
    });
    for (env, role) in [("..", "a"), ("x/../..", "a"), ("dev", "../a"), ("dev", "a/b"), ("dev", "{{x}}")] {
        assert!(try_order(path.clone(), json!({"env": env, "role": role})).is_err(), "{env} {role}");
    }
    let order = try_order(path, json!({"env": "dev", "role": "web, db"})).expect("accepted");
    let Task::Ansible(task) = &order.task else { panic!("a playbook") };
    assert_eq!(task.play, Play::Roles(vec!["web".into(), "db".into()]));
}

/// Shows how a module's arguments are read: a command as it is, anything else by name.
#[test]
fn modules() {
    let spec = json!({
        "parameters": {"mod": {"type": "name"}, "args": {"default": ""}},
        "adhoc": {"module": "${mod}", "args": "${args}"},
    });
    let args = |module: &str, args: &str| {
        let order = try_order(spec.clone(), json!({"mod": module, "args": args}))?;
        let Task::Ansible(task) = order.task else { panic!("a playbook") };
        let Play::Module { args, .. } = task.play else { panic!("a module") };
        Ok::<_, OrderError>(args)
    };
    assert_eq!(args("command", "ls {{ x }}").unwrap(), ModuleArgs::Command("ls {{ x }}".into()));
    let named = args("copy", "dest=/tmp/x content=\"two words\"").unwrap();
    let ModuleArgs::Named(named) = named else { panic!("{named:?}") };
    assert_eq!((named["dest"].as_str(), named["content"].as_str()), ("/tmp/x", "two words"));
    for wrong in ["x", "_raw_params=id", "a=\"b", "=b", "a-b=c"] {
        assert!(args("copy", wrong).is_err(), "{wrong}");
    }
}

fn run(number: u64, change: impl FnOnce(&mut Order)) -> Run {
    let mut order = try_order(json!({"steps": []}), json!({})).expect("accepted");
    change(&mut order);
    Run::waiting(RunId::new(Time(NOW.0 + number), number), order, NOW, NOW)
}

fn worker(labels: &[&str]) -> Worker {
    let labels = labels.iter().map(|label| name(label)).collect();
    Worker { id: "w".into(), node: name("n"), labels, room: 4, since: NOW, draining: false }
}

fn line(runs: &[Run]) -> Queue {
    let mut queue = Queue::default();
    runs.iter().for_each(|run| queue.put(&run.id, Some(Arc::new(run.clone()))));
    queue
}

fn picked(queue: &mut Queue, room: usize, now: Time) -> Vec<RunId> {
    let picks = queue.next(&worker(&[]), ALONE, room, now, &BTreeSet::new());
    picks.into_iter().map(|pick| pick.run.id.clone()).collect()
}

/// Shows the order: priority before age, and nothing before its time, with labels that are not there, or too late.
#[test]
fn the_line() {
    let old = run(1, |_| {});
    let high = run(2, |order| order.priority = 9);
    let mut delayed = run(3, |order| order.priority = 9);
    delayed.due = NOW.after(Duration::from_secs(5));
    let labelled = run(4, |order| order.labels = vec![name("gpu")]);
    let late = run(5, |order| order.deadline = Some(Time(NOW.0 - 1)));
    let mut queue = line(&[old.clone(), high.clone(), delayed.clone(), labelled.clone(), late.clone()]);
    assert_eq!(picked(&mut queue, 10, NOW), [high.id.clone(), old.id.clone()]);
    assert_eq!(queue.wake_at(), Some(delayed.due));
    assert_eq!(picked(&mut queue, 2, delayed.due), [high.id.clone(), delayed.id.clone()]);
    let gpu = queue.next(&worker(&["gpu"]), ALONE, 10, NOW, &BTreeSet::from([high.id.clone()]));
    assert!(gpu.iter().any(|pick| pick.run.id == labelled.id) && gpu.iter().all(|pick| pick.run.id != high.id));
    assert_eq!(queue.late(NOW).iter().map(|run| &run.id).collect::<Vec<_>>(), [&late.id]);
}

/// Shows that a slot lets in as many as its limit, that those behind it cost nothing and go when it is free.
#[test]
fn slots() {
    let slot = Slot { name: "key/host-a".into(), limit: 1 };
    let runs: Vec<Run> = (0..50).map(|n| run(n, |order| order.slots = vec![slot.clone()])).collect();
    let free = run(99, |_| {});
    let mut all = runs.clone();
    all.push(free.clone());
    let mut queue = line(&all);
    // One of them in the same call, and the one without a slot.
    assert_eq!(picked(&mut queue, 10, NOW), [runs[0].id.clone(), free.id.clone()]);
    let key = slot_key(&slot);
    queue.hold(&key, 0, Some(runs[0].id.clone()));
    queue.put(&runs[0].id, Some(Arc::new(policy::begun(&runs[0], "w", NOW))));
    assert_eq!(picked(&mut queue, 10, NOW), std::slice::from_ref(&free.id));
    assert_eq!(queue.held_by(&runs[0]), [(key.clone(), 0)]);
    queue.put(&runs[0].id, None);
    queue.hold(&key, 0, None);
    assert_eq!(picked(&mut queue, 10, NOW), [runs[1].id.clone(), free.id.clone()]);
}

/// Shows that workers deal the line among themselves: each takes of its part, and of the others' only if it may.
#[test]
fn shares() {
    let runs: Vec<Run> = (0..40).map(|n| run(n * 7919, |_| {})).collect();
    let mut queue = line(&runs);
    let part = |queue: &mut Queue, index, others| {
        let picks = queue.next(&worker(&[]), Share { index, of: 2, others }, 10, NOW, &BTreeSet::new());
        picks.into_iter().map(|pick| pick.run.id.clone()).collect::<BTreeSet<_>>()
    };
    let (one, other) = (part(&mut queue, 0, true), part(&mut queue, 1, true));
    assert_eq!((one.len(), other.len()), (10, 10));
    assert!(one.intersection(&other).count() <= 2, "{one:?} {other:?}");
    assert!(!queue.left());
    let (one, other) = (part(&mut queue, 0, false), part(&mut queue, 1, false));
    assert!(one.len() >= 5 && other.len() >= 5 && one.is_disjoint(&other), "{one:?} {other:?}");
    assert!(queue.left());
    // One of less priority does not go before one that is left to the other worker.
    let high = run(1, |order| order.priority = 9);
    let mut queue = line(&[runs.clone(), vec![high.clone()]].concat());
    let parts: Vec<BTreeSet<RunId>> = (0..2).map(|index| part(&mut queue, index, false)).collect();
    assert_eq!(parts.iter().filter(|part| part.contains(&high.id)).count(), 1);
    assert!(parts.iter().any(BTreeSet::is_empty), "{parts:?}");
}

fn end(state: State) -> End {
    End { state, why: "it says why".into(), result: RunResult::default() }
}

/// Shows retries with their growing waits, and the dead letter behind the last.
#[test]
fn retries() {
    let retry = Retry { times: 2, delay: regrow_model::duration::Span::secs(10), ..Retry::default() };
    let first = policy::begun(&run(1, |order| order.retry = retry), "w", NOW);
    let second = policy::ended(&first, end(State::Failed), NOW);
    assert_eq!((second.state, second.due), (State::Queued, NOW.after(Duration::from_secs(10))));
    let third = policy::ended(&policy::begun(&second, "w", NOW), end(State::TimedOut), NOW);
    assert_eq!((third.state, third.due, third.attempt), (State::Queued, NOW.after(Duration::from_secs(20)), 2));
    let last = policy::ended(&policy::begun(&third, "w", NOW), end(State::Failed), NOW);
    assert_eq!((last.state, last.dead, last.failures), (State::Failed, true, 3));
    assert!(policy::forgotten_at(&last) >= NOW.after(policy::DEAD_KEPT));
    let done = policy::ended(&first, end(State::Succeeded), NOW);
    assert_eq!((done.state, done.dead), (State::Succeeded, false));
    assert_eq!(policy::forgotten_at(&done), NOW.after(Duration::from_secs(5_000)));
    assert_eq!(policy::ended(&first, end(State::Cancelled), NOW).state, State::Cancelled, "a cancelled run stays so");
}

/// Shows each policy on loss, and that a run which kills its workers does not go on for ever.
#[test]
fn losses() {
    let lost = |on_loss| policy::lost(&policy::begun(&run(1, |order| order.on_loss = on_loss), "w", NOW), false, NOW);
    assert_eq!(lost(OnLoss::Fail).state, State::Lost);
    assert_eq!((lost(OnLoss::Retry).state, lost(OnLoss::Retry).resume), (State::Queued, false));
    assert!(lost(OnLoss::Resume).resume);
    let noticed = |on_loss| {
        let run = policy::begun(&run(1, |order| order.on_loss = on_loss), "w", NOW);
        policy::ended(&run, end(State::Lost), NOW).state
    };
    assert_eq!((noticed(OnLoss::Fail), noticed(OnLoss::Retry)), (State::Lost, State::Queued), "its leash knew first");
    let cancelled = policy::begun(&run(1, |order| order.on_loss = OnLoss::Retry), "w", NOW);
    assert_eq!(policy::lost(&cancelled, true, NOW).state, State::Cancelled);
    let mut poison = run(1, |order| order.on_loss = OnLoss::Retry);
    for _ in 0..policy::LOSSES_MAX {
        assert_eq!(poison.state, State::Queued);
        poison = policy::lost(&policy::begun(&poison, "w", NOW), false, NOW);
    }
    assert_eq!((poison.state, poison.dead), (State::Lost, true));
}

/// Shows that dead hosts are left out or waited for, as asked.
#[test]
fn dead_hosts() {
    let dead = BTreeSet::from(["b".to_owned()]);
    let on = |down, hosts: &[&str]| {
        let spec = json!({"down": down, "ssh": {"hosts": hosts, "command": ["uptime"]}});
        let run = Run { order: Arc::new(try_order(spec, json!({})).expect("accepted")), ..run(1, |_| {}) };
        policy::accepted(run, &dead, NOW)
    };
    assert_eq!(on(Down::Run, &["a", "b"]).order.hosts, ["a", "b"]);
    let skip = on(Down::Skip, &["a", "b"]);
    assert_eq!((skip.state, skip.order.hosts.as_slice()), (State::Queued, ["a".to_owned()].as_slice()));
    assert_eq!(on(Down::Skip, &["b"]).state, State::Skipped);
    let parked = on(Down::Park, &["a", "b"]);
    assert_eq!((parked.state, parked.why.as_str()), (State::Parked, "waits for b"));
    assert_eq!(policy::unparked(&parked, &dead), None);
    assert_eq!(policy::unparked(&parked, &BTreeSet::new()).expect("back").state, State::Queued);
}

/// Three nodes with their agents, of which `c` has died and is known by its member alone.
fn three_nodes(spec: Value) -> View {
    let mut view = view(spec);
    for node in ["a", "b"] {
        let record = json!({"address": format!("10.0.0.{node}"), "version": "1", "since": 0});
        let record = serde_json::from_value(record).expect("a node");
        view.put(Record::Node(name(node), record), Revision(2));
    }
    let member = json!({
        "standing": "failed", "incarnation": 1, "address": "10.0.0.9:7946", "tags": {}, "agent": true, "listing": null,
        "by": "a", "why": "no answer", "since": 0, "confirmed": null, "cause": CauseId::new(NOW, 2),
    });
    view.put(Record::Member(name("c"), Box::new(serde_json::from_value(member).expect("a member"))), Revision(2));
    view
}

/// Shows which hosts a playbook on the catalog has: all of it, the dead too, or its limit with groups as their members;
/// and that leaving the dead out never turns a limit into all.
#[test]
fn hosts_of_the_catalog() {
    let groups = || BTreeMap::from([("web".to_owned(), vec!["a".to_owned(), "c".to_owned()])]);
    let with = |limit: &[&str], groups: BTreeMap<String, Vec<String>>| {
        let spec = json!({"down": "skip", "ansible": {"playbook": "x.yml", "target": {"limit": limit}}});
        let mut order = order(&three_nodes(spec), &name("deploy"), &Wish::default(), "test", NOW).expect("accepted");
        let Task::Ansible(task) = &mut order.task else { panic!("a playbook") };
        let Inventory::Catalog { groups: known, .. } = &mut task.inventory else { panic!("the catalog") };
        known.extend(groups);
        order.hosts = super::order::hosts(&order.task);
        order
    };
    assert_eq!(with(&[], BTreeMap::new()).hosts, ["a", "b", "c"]);
    assert_eq!(with(&["all"], BTreeMap::new()).hosts, ["a", "b", "c"]);
    assert_eq!(with(&["web", "b"], groups()).hosts, ["a", "b", "c"]);
    assert_eq!(with(&["web"], groups()).hosts, ["a", "c"]);
    let dead = |hosts: &[&str]| hosts.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let left = |order: Order, down: &[&str]| {
        policy::accepted(Run { order: Arc::new(order), ..run(1, |_| {}) }, &dead(down), NOW)
    };
    let inventory = |run: &Run| {
        let Task::Ansible(task) = &run.order.task else { panic!("a playbook") };
        let Inventory::Catalog { hosts, groups } = &task.inventory else { panic!("the catalog") };
        (hosts.keys().cloned().collect::<Vec<_>>().join(","), groups.clone(), task.limit.clone())
    };
    let all = left(with(&[], groups()), &["c"]);
    assert_eq!((all.state, all.order.hosts.join(",").as_str()), (State::Queued, "a,b"));
    assert_eq!(inventory(&all), ("a,b".into(), BTreeMap::from([("web".into(), vec!["a".into()])]), vec![]));
    let part = left(with(&["web", "b"], groups()), &["a", "c"]);
    assert_eq!((part.state, inventory(&part).2), (State::Queued, vec!["b".to_owned()]));
    assert_eq!(left(with(&["web"], groups()), &["a", "c"]).state, State::Skipped);
    assert_eq!(left(with(&["c"], BTreeMap::new()), &["c"]).state, State::Skipped);
    assert_eq!(left(with(&[], BTreeMap::new()), &["a", "b", "c"]).state, State::Skipped);
}

/// Shows that a step all of whose hosts are dead is left out, and the others stay.
#[test]
fn steps_without_hosts() {
    let spec = json!({"down": "skip", "steps": [
        {"name": "one", "ansible": {"playbook": "x.yml", "target": {"limit": ["c"]}}},
        {"name": "two", "ssh": {"hosts": ["c"], "command": ["id"]}},
        {"name": "three", "ssh": {"hosts": ["a", "c"], "command": ["id"]}},
        {"name": "four", "exec": {"command": ["id"]}},
    ]});
    let order = order(&three_nodes(spec), &name("deploy"), &Wish::default(), "test", NOW).expect("accepted");
    let dead = BTreeSet::from(["c".to_owned()]);
    let run = policy::accepted(Run { order: Arc::new(order), ..run(1, |_| {}) }, &dead, NOW);
    let Task::Steps(steps) = &run.order.task else { panic!("steps") };
    assert_eq!(steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["three", "four"]);
    assert_eq!(run.order.hosts, ["a"]);
}

/// Shows every reason to wait, in the words that people read.
#[test]
fn reasons_to_wait() {
    let slot = |name: &str| Slot { name: name.into(), limit: 1 };
    let holder = |slot: Slot| policy::begun(&run(1, |order| order.slots = vec![slot]), "n-1", NOW);
    let busy = |number| policy::begun(&run(number, |_| {}), "w", NOW);
    let here = vec![worker(&[])];
    let draining = vec![Worker { draining: true, ..worker(&["gpu"]) }];
    let labels = |order: &mut Order| order.labels = vec![name("gpu")];
    let seconds = |seconds| NOW.after(Duration::from_secs(seconds));
    let parked = Run { state: State::Parked, ..run(9, |order| order.hosts = vec!["a".into(), "b".into()]) };
    let retried = Run { failures: 1, due: seconds(20), ..run(9, |order| order.retry.times = 2) };
    let id = holder(slot("x")).id;
    type Case<'a> = (Run, Vec<Run>, &'a [Worker], Vec<String>);
    let cases: Vec<Case<'_>> = vec![
        (policy::begun(&run(9, |_| {}), "w", NOW), vec![], &here, vec![]),
        (Run { due: seconds(5), ..run(9, |_| {}) }, vec![], &here, vec!["not due for another 5s".into()]),
        (retried, vec![], &here, vec!["failed 1 of 3 times, tried again in 20s".into()]),
        (parked, vec![], &here, vec!["parked until gossip sees b again".into()]),
        (
            run(9, |order| order.slots = vec![slot("key/host-a")]),
            vec![holder(slot("key/host-a"))],
            &here,
            vec![format!("the key `host-a` is held by {id}")],
        ),
        (
            run(9, |order| order.slots = vec![slot("job/deploy"), slot("key/free")]),
            vec![holder(slot("job/deploy"))],
            &here,
            vec![format!("1 run of job/deploy at a time, now {id}")],
        ),
        (
            run(9, |order| order.slots = vec![slot("schedule/nightly")]),
            vec![holder(slot("schedule/nightly"))],
            &here,
            vec![format!("the last run of schedule/nightly has not ended: {id}")],
        ),
        (
            run(9, |_| {}),
            vec![],
            &[],
            vec!["there is no worker: start an agent with --jobs, or `regrow worker`".into()],
        ),
        (run(9, labels), vec![], &here, vec!["no worker has its labels: gpu".into()]),
        (run(9, labels), vec![], &draining, vec!["every worker with gpu drains".into()]),
        (run(9, |_| {}), (1..5).map(busy).collect(), &here, vec!["every worker is full: w (4 of 4)".into()]),
        (
            run(9, |_| {}),
            vec![run(3, |_| {}), run(10, |order| order.priority = 9), run(11, |_| {})],
            &here,
            vec!["2 runs are before it".into()],
        ),
        (
            run(9, |order| order.deadline = Some(Time(NOW.0 + 30_000))),
            vec![],
            &here,
            vec!["a worker is about to take it".into(), "expires in 30s if it has not begun by then".into()],
        ),
    ];
    let dead = BTreeSet::from(["b".to_owned()]);
    for (run, live, workers, expected) in cases {
        let around = Around { live: &live, workers, dead: &dead };
        assert_eq!(waits(&run, around, NOW), expected);
    }
}

/// A schedule every minute; now is ten minutes and a second behind `changed`.
fn due(spec: Value, live: &[&Run]) -> schedule::Due {
    let mut all = json!({"job": "deploy", "every": "1m"});
    all.as_object_mut().expect("a map").extend(spec.as_object().expect("a map").clone());
    let spec = serde_json::from_value(all).expect("a schedule");
    schedule::due(&spec, Time(0), &Fired { at: Time(60_000), runs: Vec::new() }, live, Time(601_000))
}

fn minutes(due: &schedule::Due) -> Vec<u64> {
    due.fire.iter().map(|time| time.0 / 60_000).collect()
}

/// Shows each misfire policy: nine times have passed, the last just now.
#[test]
fn misfires() {
    assert_eq!(minutes(&due(json!({"overlap": "allow"}), &[])), [10]);
    assert_eq!(minutes(&due(json!({"overlap": "allow", "misfire": "skip"}), &[])), [10]);
    let all = due(json!({"overlap": "allow", "misfire": "all"}), &[]);
    assert_eq!(minutes(&all), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!((all.at, all.next), (Time(600_000), Some(Time(660_000))));
    let late = due(json!({"overlap": "allow", "misfire": "all", "late": "3m"}), &[]);
    assert_eq!(minutes(&late), [8, 9, 10]);
    assert_eq!(late.left_out.map(|(count, _)| count), Some(6));
    assert_eq!(minutes(&due(json!({"paused": true}), &[])), [0; 0]);
    // With the last one missed too.
    let missed = |misfire: &str| {
        let spec = json!({"job": "deploy", "every": "1m", "misfire": misfire, "overlap": "allow"});
        let spec = serde_json::from_value(spec).expect("a schedule");
        minutes(&schedule::due(&spec, Time(0), &Fired { at: Time(60_000), runs: Vec::new() }, &[], Time(630_000)))
    };
    assert_eq!(missed("last"), [10]);
    assert_eq!(missed("skip"), [0; 0]);
}

/// Shows each overlap policy with the last run under way, and with one in line.
#[test]
fn overlaps() {
    let waiting = run(1, |_| {});
    let running = policy::begun(&waiting, "w", NOW);
    let with = |overlap: &str, live: &Run| due(json!({"overlap": overlap}), &[live]);
    assert_eq!(minutes(&with("skip", &running)), [0; 0]);
    assert_eq!(minutes(&with("queue", &running)), [10]);
    assert_eq!(minutes(&with("queue", &waiting)), [0; 0]);
    assert_eq!(minutes(&with("allow", &running)), [10]);
    let replace = with("replace", &running);
    assert_eq!((minutes(&replace), replace.cancel), (vec![10], vec![running.id.clone()]));
    assert_eq!(with("skip", &running).left_out.expect("told").1, "the last run has not ended");
}

/// Shows that a schedule changed by hand does not make up for times before it was so.
#[test]
fn a_new_schedule_begins_now() {
    let spec = serde_json::from_value(json!({"job": "deploy", "every": "1m", "misfire": "all"})).expect("a schedule");
    let due = schedule::due(&spec, Time(599_000), &Fired::default(), &[], Time(601_000));
    assert_eq!(minutes(&due), [10]);
}
