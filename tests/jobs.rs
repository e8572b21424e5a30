//! The job server with real processes: what is submitted by HTTP is carried out by an agent, or by a worker elsewhere, as
//! its job says.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use support::jobs::{Api, Redis, Worker};
use support::{Cluster, signal, until};

/// Programs of the tests. `hold` waits until the file that it is given is there; `stubborn` ends by SIGKILL alone; `third`
/// succeeds the third time.
const SPEC: &str = r#"
cluster: test
jobs:
  echo:
    parameters: {text: {}, to: {choices: [out, err], default: out}}
    exec: {command: [echo, "${text}"]}
  hold:
    parameters: {file: {}}
    exec: {command: [sh, ROOT/hold.sh, "ROOT/${file}"]}
  keyed:
    parameters: {file: {}}
    exec: {command: [sh, ROOT/hold.sh, "ROOT/${file}"]}
    concurrency: {keys: ["file-${file}"]}
  stubborn:
    exec: {command: [sh, ROOT/stubborn.sh, ROOT/stubborn.pid]}
    grace: 200ms
  slow:
    exec: {command: [sh, ROOT/hold.sh, ROOT/never]}
    timeout: 500ms
    grace: 100ms
  third:
    exec: {command: [sh, ROOT/third.sh, ROOT/count]}
    retry: {times: 2, delay: 10ms}
  fails:
    exec: {command: ["false"]}
    retry: {times: 1, delay: 10ms}
  soon:
    exec: {command: ["true"]}
    start_within: 1s
  special:
    exec: {command: ["true"]}
    labels: [special]
  again:
    parameters: {file: {}}
    exec: {command: [sh, ROOT/hold.sh, "ROOT/${file}"]}
    on_loss: retry
  resumes:
    parameters: {file: {}}
    on_loss: resume
    steps:
      - {name: first, exec: {command: [sh, -c, 'echo x >> "$1"', sh, ROOT/firsts]}}
      - {name: second, exec: {command: [sh, ROOT/hold.sh, "ROOT/${file}"]}}
  secret:
    secrets: {TOKEN: {file: ROOT/token}}
    exec: {command: [printenv, TOKEN]}
  leaves:
    parameters: {more: {default: ""}}
    exec: {command: [sh, -c, 'seq 30000 > "$REGROW_ARTEFACTS/report"; mkdir "$REGROW_ARTEFACTS/a"; printf %s "$1" > "$REGROW_ARTEFACTS/a/more"', sh, "x${more}"]}
  nothing: {steps: []}
"#;

fn cluster(spec: &str) -> Cluster {
    let cluster = Cluster::with_spec(spec);
    cluster.write("hold.sh", "while ! test -e \"$1\"; do sleep 0.05; done\n");
    cluster.write("stubborn.sh", "trap '' TERM INT HUP\necho $$ > \"$1\"\nwhile :; do sleep 1; done\n");
    cluster.write("third.sh", "echo x >> \"$1\"\ntest \"$(wc -l < \"$1\")\" -ge 3\n");
    cluster
}

/// `regrow up` with an HTTP door.
fn up(words: &[&str]) -> (Cluster, Api) {
    let mut cluster = cluster(SPEC);
    cluster.start(&[&["up", "--http", "127.0.0.1:0"], words].concat());
    let api = Api::of(&cluster);
    (cluster, api)
}

fn text(lines: &[Value], stream: &str) -> String {
    let of = lines.iter().filter(|line| line["stream"] == stream);
    of.filter_map(|line| line["line"].as_str()).collect::<Vec<_>>().join("\n")
}

fn time(run: &Value, field: &str) -> u64 {
    run[field].as_u64().unwrap_or_else(|| panic!("no {field} in {run:#}"))
}

/// Shows a run from its submission to its end, what is told of it, and what is refused.
#[test]
fn a_run_is_carried_out() {
    let (cluster, api) = up(&[]);
    let id = api.submit("echo", json!({"parameters": {"text": "a  b; $(id)"}}));
    let run = api.becomes(&id, "succeeded");
    assert_eq!((run["attempt"].as_u64(), run["result"]["code"].as_i64()), (Some(1), Some(0)), "{run:#}");
    assert!(time(&run, "submitted") <= time(&run, "started") && time(&run, "started") <= time(&run, "ended"));
    let log = api.log(&id);
    assert_eq!(text(&log, "stdout"), "a  b; $(id)");
    assert_eq!(log[0]["event"]["what"], "try", "{log:?}");
    let id = api.submit("nothing", json!({}));
    api.becomes(&id, "succeeded");
    let first = api.submit("echo", json!({"parameters": {"text": "x"}, "key": "once"}));
    assert_eq!(api.submit("echo", json!({"parameters": {"text": "y"}, "key": "once"})), first, "its word is known");
    let listed = api.json("/api/runs?job=echo&state=succeeded");
    assert!(listed.as_array().expect("a list").iter().all(|run| run["order"]["job"] == "echo"), "{listed}");
    assert_eq!(api.refused("nobody", json!({})).0, 404);
    for (parameters, why) in [(json!({}), "missing"), (json!({"text": "x", "to": "z"}), "one of out, err")] {
        let (status, answer) = api.refused("echo", json!({"parameters": parameters}));
        assert!(status == 400 && answer.contains(why), "{status} {answer}");
    }
    api.becomes(&first, "succeeded");
    let (status, answer) = api.retry(&first, &json!({"failed_hosts": true}));
    assert!(status >= 400 && answer.to_string().contains("nothing has failed"), "{status} {answer}");
    let (status, answer) = api.retry(&first, &json!({}));
    assert_eq!(status, 200, "{answer}");
    let again = api.becomes(answer["id"].as_str().expect("an id"), "succeeded");
    assert_eq!(again["order"]["answers"]["text"], "x");
    let told = cluster.ok(&["explain", "job/echo"]);
    assert!(told.contains(&format!("run {first}  succeeded")), "{told}");
}

/// Shows that files that a run leaves are there when it has ended: listed, printed, written, and never over another file.
#[test]
fn artefacts() {
    let (cluster, api) = up(&[]);
    let id = api.submit("leaves", json!({"parameters": {"more": "; $(id)"}}));
    api.becomes(&id, "succeeded");
    assert_eq!(cluster.ok(&["job", "artefacts", &id]), "FILE    SIZE\na/more  8 B\nreport  165 KiB\n");
    assert_eq!(cluster.ok(&["job", "artefacts", &id, "a/more"]), "x; $(id)");
    let report = cluster.path("report");
    let words = ["job", "artefacts", &id, "report", "-o", report.to_str().expect("a path")];
    cluster.ok(&words);
    let expected: String = (1..=30_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(cluster.read("report"), expected);
    assert!(cluster.fails(1, &words).contains("File exists"));
    assert!(cluster.fails(4, &["job", "artefacts", &id, "nothing"]).contains("has left no file `nothing`"));
    assert!(cluster.ok(&["job", "logs", &id]).contains("artefact report, 165 KiB\n"));
    let id = api.submit("nothing", json!({}));
    api.becomes(&id, "succeeded");
    assert_eq!(cluster.ok(&["job", "artefacts", &id]), "");
}

/// Shows that whoever follows a run in a terminal is told its end, though the agent is killed meanwhile: when the run has
/// begun, and as soon as it is accepted.
#[test]
fn a_follower_outlives_the_agent() {
    let (mut cluster, api) = up(&[]);
    let follower = |file: &str, cluster: &Cluster| {
        let mut follower = cluster.command(&["job", "run", "again", &format!("file={file}")]);
        follower.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    let late = follower("later", &cluster);
    until("the run has begun", || api.json("/api/runs?state=running").get(0).map(drop));
    cluster.kill_agent();
    cluster.start(&["up", "--http", "127.0.0.1:0"]);
    cluster.write("later", "");
    let output = late.wait_with_output().expect("it ends");
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("try 2 on "), "{}: {told}{said}", output.status);

    let mut early = follower("early", &cluster);
    let mut said = BufReader::new(early.stderr.take().expect("it is piped"));
    let mut accepted = String::new();
    said.read_line(&mut accepted).expect("it says something");
    assert!(accepted.ends_with(" is accepted\n"), "{accepted}");
    cluster.kill_agent();
    cluster.start(&["up", "--http", "127.0.0.1:0"]);
    cluster.write("early", "");
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("it says the rest");
    let status = early.wait().expect("it ends");
    assert!(status.success(), "{status}: {rest}");
}

/// Shows that a run in line and one that ignores SIGTERM are cancelled, and that of the latter nothing is left.
#[test]
fn cancels() {
    let (cluster, api) = up(&["--jobs", "1"]);
    let running = api.submit("stubborn", json!({}));
    api.becomes(&running, "running");
    let waiting = api.submit("echo", json!({"parameters": {"text": "x"}}));
    let pid: u32 =
        until("it has begun", || std::fs::read_to_string(cluster.path("stubborn.pid")).ok()?.trim().parse().ok());
    assert!(api.cancel(&waiting));
    api.becomes(&waiting, "cancelled");
    assert!(api.cancel(&running));
    let run = api.becomes(&running, "cancelled");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{run:#}");
    assert!(!api.cancel(&running), "it has ended");
}

/// Shows that a run which takes too long is stopped, that a failed one is tried again as often as its job says, and that
/// the last failure is a dead letter.
#[test]
fn timeouts_and_retries() {
    let (_cluster, api) = up(&[]);
    let slow = api.submit("slow", json!({}));
    let third = api.submit("third", json!({}));
    let fails = api.submit("fails", json!({}));
    api.becomes(&slow, "timed-out");
    let third = api.becomes(&third, "succeeded");
    assert_eq!((third["attempt"].as_u64(), third["failures"].as_u64()), (Some(3), Some(2)), "{third:#}");
    let fails = api.becomes(&fails, "failed");
    assert_eq!((fails["attempt"].as_u64(), fails["dead"].as_bool()), (Some(2), Some(true)), "{fails:#}");
}

/// Shows that of two runs with one key the second waits, is told why, and begins when the first has ended.
#[test]
fn a_key_lets_one_in() {
    let (cluster, api) = up(&[]);
    let wish = json!({"parameters": {"file": "go"}});
    let first = api.submit("keyed", wish.clone());
    api.becomes(&first, "running");
    let second = api.submit("keyed", wish);
    let other = api.submit("keyed", json!({"parameters": {"file": "token"}}));
    cluster.write("token", "x");
    api.becomes(&other, "succeeded");
    let held = format!("the key `file-go` is held by {first}");
    let waits = api.until(&second, "it waits for the first", |run| run["waits"][0] == held.as_str());
    assert_eq!(waits["state"], "queued");
    cluster.write("go", "");
    let (first, second) = (api.becomes(&first, "succeeded"), api.becomes(&second, "succeeded"));
    assert!(time(&second, "started") >= time(&first, "ended"), "{first:#} {second:#}");
}

/// Shows that what has the higher priority begins first, and that what cannot begin in time expires.
#[test]
fn priorities_and_deadlines() {
    let (cluster, api) = up(&["--jobs", "1"]);
    let holder = api.submit("hold", json!({"parameters": {"file": "go"}}));
    api.becomes(&holder, "running");
    let late = api.submit("soon", json!({}));
    let low = api.submit("nothing", json!({"priority": 1}));
    let high = api.submit("nothing", json!({"priority": 9}));
    let waits = api.run(&late)["waits"].to_string();
    assert!(waits.contains("is full") && waits.contains("expires in"), "{waits}");
    api.becomes(&late, "expired");
    cluster.write("go", "");
    let (low, high) = (api.becomes(&low, "succeeded"), api.becomes(&high, "succeeded"));
    assert!(time(&high, "started") <= time(&low, "started"), "{high:#} {low:#}");
}

/// Shows that a schedule begins no run while its last one goes on, and begins the next when it has ended.
#[test]
fn a_schedule_skips_what_overlaps() {
    let spec = SPEC.to_owned() + "schedules:\n  often: {job: hold, every: 1s, parameters: {file: go}}\n";
    let mut cluster = cluster(&spec);
    cluster.start(&["up", "--http", "127.0.0.1:0"]);
    let api = Api::of(&cluster);
    let runs = |state: &str| {
        let listed = api.json(&format!("/api/runs?job=hold&state={state}"));
        listed.as_array().expect("a list").clone()
    };
    let first = until("the first run", || runs("running").pop());
    let at = time(&first, "due");
    // Times are dealt with while it runs, and none of them becomes a run.
    let line = until("further times have passed", || {
        let line = api.json("/api/schedules")[0].clone();
        (line["last"].as_u64()? >= at + 2_000).then_some(line)
    });
    assert_eq!((runs("running").len(), runs("queued").len(), &line["runs"][0]), (1, 0, &first["id"]), "{line:#}");
    assert!(line["next"].as_u64() > line["last"].as_u64(), "{line:#}");
    cluster.write("go", "");
    let ended = api.becomes(first["id"].as_str().expect("an id"), "succeeded");
    let next = until("the next run", || runs("succeeded").into_iter().find(|run| run["id"] != first["id"]));
    assert!(time(&next, "due") >= time(&first, "due") + 2_000 && time(&next, "started") >= time(&ended, "ended"));
    assert_eq!(next["order"]["by"], "schedule/often");
}

/// Shows that a secret is read when a run starts, that one which is missing fails the run with a sentence that names it,
/// and that its value is not in the record.
#[test]
fn secrets() {
    let (cluster, api) = up(&[]);
    let missing = api.submit("secret", json!({}));
    let run = api.becomes(&missing, "failed");
    assert!(run["why"].as_str().is_some_and(|why| why.contains("`TOKEN` is missing")), "{run:#}");
    cluster.write("token", "hunter2\n");
    let id = api.submit("secret", json!({}));
    let run = api.becomes(&id, "succeeded");
    assert!(!run.to_string().contains("hunter2") && !format!("{:?}", api.log(&id)).contains("hunter2"), "{run:#}");
    let (status, answer) = api.retry(&missing, &json!({}));
    assert_eq!(status, 200, "{answer}");
    api.becomes(answer["id"].as_str().expect("an id"), "succeeded");
}

/// A worker of its own on the queue of an agent that has none.
fn works_elsewhere(cluster: &Cluster, api: &Api, words: &[&str]) {
    let special = api.submit("special", json!({}));
    api.until(&special, "it says that there is no worker", |run| run["waits"].to_string().contains("no worker"));
    let mut plain = Worker::start(cluster, "plain", words);
    api.until(&special, "no worker fits", |run| run["waits"][0] == "no worker has its labels: special");
    let fit = Worker::start(cluster, "fit", &[words, &["--label", "special"]].concat());
    let run = api.becomes(&special, "succeeded");
    assert!(run["worker"].as_str().is_some_and(|worker| worker.starts_with("fit-")), "{run:#}");
    drop(fit);
    // The worker that is told to end takes no more, lets its run end, and is gone.
    let held = api.submit("hold", json!({"parameters": {"file": "go"}}));
    let run = api.becomes(&held, "running");
    assert!(run["worker"].as_str().is_some_and(|worker| worker.starts_with("plain-") || worker.starts_with("fit-")));
    until("only the living are listed", || (api.json("/api/workers").as_array()?.len() == 1).then_some(()));
    let run = api.until(&held, "it runs on the one that is left", |run| {
        run["state"] != "running" || run["worker"].to_string().contains("plain-")
    });
    if run["state"] == "running" {
        signal(plain.pid(), "TERM");
        until("it drains", || (api.json("/api/workers")[0]["draining"] == true).then_some(()));
        until("it says what still runs", || cluster.read("workers.log").contains(&held).then_some(()));
        cluster.write("go", "");
        api.becomes(&held, "succeeded");
    } else {
        signal(plain.pid(), "TERM");
    }
    let status = until("the worker ends", || plain.has_ended());
    assert!(status.success(), "{status}: {}", cluster.read("workers.log"));
    // One that is told twice gives its run to the next, as the job says.
    let mut first = Worker::start(cluster, "first", words);
    let again = api.submit("again", json!({"parameters": {"file": "later"}}));
    api.becomes(&again, "running");
    signal(first.pid(), "TERM");
    until("it says what still runs", || cluster.read("workers.log").contains(&again).then_some(()));
    signal(first.pid(), "TERM");
    until("the worker ends", || first.has_ended());
    let second = Worker::start(cluster, "second", words);
    cluster.write("later", "");
    let run = api.becomes(&again, "succeeded");
    assert_eq!(run["attempt"], 2, "{run:#}");
    drop(second);
    // One that is killed leaves a run that the next takes up at its step.
    let mut third = Worker::start(cluster, "third", words);
    let resumed = api.submit("resumes", json!({"parameters": {"file": "last"}}));
    let began = |line: &Value| line["event"]["step"] == "second" && line["event"]["state"] == "begun";
    until("its second step begins", || api.log(&resumed).iter().any(began).then_some(()));
    third.kill();
    let _fourth = Worker::start(cluster, "fourth", words);
    cluster.write("last", "");
    let run = api.becomes(&resumed, "succeeded");
    assert_eq!(run["attempt"], 2, "{run:#}");
    assert_eq!(cluster.read("firsts"), "x\n", "its first step was done");
}

/// Shows workers of their own on the store that an agent hosts, by its etcd door.
#[test]
fn workers_on_a_hosted_store() {
    let mut cluster = cluster(SPEC);
    let port = cluster.ports.one();
    let etcd = format!("127.0.0.1:{port}");
    cluster.start(&["up", "--http", "127.0.0.1:0", "--etcd", &etcd, "--jobs", "0"]);
    let api = Api::of(&cluster);
    works_elsewhere(&cluster, &api, &["--store", &format!("http://{etcd}")]);
}

/// Shows the same with a queue on Redis.
#[test]
fn workers_on_redis() {
    let Some(redis) = Redis::start() else { return };
    let (cluster, api) = up(&["--jobs", "0", "--queue", &redis.url()]);
    works_elsewhere(&cluster, &api, &["--queue", &redis.url()]);
}

/// Shows that a password on the command line is refused, and that neither it nor that of a file is in any message.
#[test]
fn a_password_is_not_shown() {
    let cluster = cluster(SPEC);
    let said = cluster.fails(2, &["worker", "--queue", "redis://:hunter2@127.0.0.1:1"]);
    assert!(said.contains("--queue-file") && !said.contains("hunter2"), "{said}");
    cluster.write("queue", "rediss://:hunter2@127.0.0.1:1\n");
    let said = cluster.fails(2, &["worker", "--queue-file", "queue"]);
    assert!(said.contains("TLS") && !said.contains("hunter2"), "{said}");
    let said = cluster.fails(2, &["worker"]);
    assert!(said.contains("--store") && said.contains("--queue"), "{said}");
}

/// Shows that a run which waits for a dead host begins when gossip sees it again, and one that may leave it out does not
/// wait.
#[test]
fn a_parked_run_starts_when_its_host_is_back() {
    let mut first = Cluster::with_spec(
        r#"
cluster: test
jobs:
  wait: {ssh: {hosts: [b], command: ["true"], config: ssh.conf}, down: park}
  leave: {ssh: {hosts: [b], command: ["true"], config: ssh.conf}, down: skip}
"#,
    );
    first.write("ssh.conf", "Host *\n  ProxyCommand false\n  IdentityFile none\n");
    let etcd = format!("127.0.0.1:{}", first.ports.one());
    first.start(&["up", "--node", "a", "--http", "127.0.0.1:0", "--etcd", &etcd, "--gossip", "127.0.0.1:0"]);
    let api = Api::of(&first);
    let mut second = Cluster::empty();
    let url = format!("http://{etcd}");
    let words = ["agent", "--node", "b", "--store", &url, "--gossip", "127.0.0.1:0"];
    second.start(&words);
    let standing = |status: &str| {
        let output = first.run(&["members", "--json"]);
        let members: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        members.iter().any(|member| member["name"] == "b" && member["status"] == status)
    };
    until("b is a member", || standing("alive").then_some(()));
    second.kill_agent();
    until("b is dead", || standing("failed").then_some(()));
    let skipped = api.submit("leave", json!({}));
    api.becomes(&skipped, "skipped");
    let id = api.submit("wait", json!({}));
    let run = api.run(&id);
    assert_eq!(
        (&run["state"], &run["waits"][0]),
        (&json!("parked"), &json!("parked until gossip sees b again")),
        "{run:#}"
    );
    second.start(&words);
    // The host cannot be reached by ssh, which the run finds out when it runs.
    let run = api.becomes(&id, "failed");
    assert_eq!(run["attempt"], 1, "{run:#}");
    assert!(standing("alive"), "it began before");
}

/// Shows that a group's jobs are run at an instance's boot, before it counts as healthy, and before it is stopped.
#[test]
fn hooks_are_run() {
    let mut cluster = Cluster::with_spec(
        r#"
cluster: test
jobs:
  mark: {parameters: {file: {type: name}}, exec: {command: [touch, "ROOT/${file}"]}}
groups:
  app:
    provider: process
    size: 1
    command: [sleep, "600"]
    hooks:
      on_boot: {job: mark, parameters: {file: "boot-${INSTANCE}"}}
      before_stop: {job: mark, parameters: {file: "stop-${INSTANCE}"}}
"#,
    );
    cluster.up_healthy();
    assert!(cluster.path("boot-app-0").exists(), "{}", cluster.log());
    assert!(!cluster.path("stop-app-0").exists());
    cluster.ok(&["down"]);
    assert_eq!(cluster.agent_ends(), 0);
    assert!(cluster.path("stop-app-0").exists(), "{}", cluster.log());
}
