//! Python's packages, each through every public call that is not Auth; the scripts in `tests/python` say themselves which
//! call they miss. At full size a real etcd goes through them too, which shows that they ask for what etcd does.

use crate::support::{
    self,
    etcd3::{Agent, Etcd},
    python::{self, ETCD2, ETCD3},
};

const REFLECTION: &str = "grpcio grpcio-reflection";

fn run(packages: &str, script: &str, endpoint: &str, more: &[&str]) -> bool {
    let Some(mut command) = python::script(packages, script) else { return false };
    let (host, port) = endpoint.rsplit_once(':').expect("an address");
    command.args([host, port]).args(more);
    let output = command.output().expect("python runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.ends_with("done\n"), "{script} {more:?}: {out}{err}");
    true
}

/// The package `etcd3`.
#[test]
fn etcd3() {
    let Some(agent) = Agent::start() else { return };
    if run(ETCD3, "etcd3_client.py", &agent.endpoint, &["regrow"]) && support::full() {
        let Some(etcd) = Etcd::start() else { return };
        run(ETCD3, "etcd3_client.py", &etcd.endpoint, &["etcd"]);
    }
}

/// The package `python-etcd`.
#[test]
fn python_etcd() {
    let Some(agent) = Agent::start() else { return };
    run(ETCD2, "etcd2_client.py", &agent.endpoint, &[]);
}

/// A client that knows nothing of etcd learns its interface from the server, and uses it.
#[test]
fn grpc_by_reflection() {
    let Some(agent) = Agent::start() else { return };
    run(REFLECTION, "reflection.py", &agent.endpoint, &[]);
}
