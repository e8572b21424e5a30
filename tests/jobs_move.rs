//! The queue of runs when its store goes to another place.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use serde_json::json;
use std::process::Stdio;
use support::Cluster;
use support::etcd::Etcd;
use support::jobs::{Api, Worker};

const SPEC: &str = r#"
cluster: test
jobs:
  hold:
    exec: {command: [sh, -c, 'echo x >> ROOT/held; while ! test -e ROOT/go; do sleep 0.05; done']}
  count:
    exec: {command: [sh, -c, 'echo x >> ROOT/counted']}
"#;

/// Shows that a run which is under way while the store of its queue moves goes on, on a worker that only knows the old
/// store; that those which wait and those which are submitted meanwhile are run; each exactly once, without the old store.
#[test]
fn runs_outlive_a_move() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    let mut cluster = Cluster::with_spec(SPEC);
    let door = format!("127.0.0.1:{}", cluster.ports.one());
    cluster.start(&["up", "--http", "127.0.0.1:0", "--store", &etcd.urls(), "--etcd", &door, "--jobs", "0"]);
    let api = Api::of(&cluster);
    let _worker = Worker::start(&cluster, "elsewhere", &["--store", &etcd.urls(), "--jobs", "1"]);
    let held = api.submit("hold", json!({}));
    api.becomes(&held, "running");
    let mut counted: Vec<String> = (0..3).map(|_| api.submit("count", json!({}))).collect();
    let mut mover = cluster.command(&["store", "move", "--to", "hosted"]);
    let mut mover = mover.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut moves = true;
    while moves {
        moves = mover.try_wait().expect("a child").is_none();
        let wish = json!({"job": "count", "key": counted.len().to_string()});
        if let Some((200, accepted)) = api.post("/api/runs", &wish) {
            counted.push(accepted["id"].as_str().expect("an id").to_owned());
        }
        support::pause();
    }
    let output = mover.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (0..3).for_each(|member| etcd.kill(member));
    cluster.write("go", "");
    assert_eq!(api.becomes(&held, "succeeded")["attempt"], 1, "{}", cluster.read("workers.log"));
    for id in &counted {
        assert_eq!(api.becomes(id, "succeeded")["attempt"], 1);
    }
    assert_eq!((cluster.read("held"), cluster.read("counted")), ("x\n".to_owned(), "x\n".repeat(counted.len())));
}
