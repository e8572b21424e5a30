//! Each line of the planner's contract, as a script.

use super::cluster::{Cluster, content, failed, told};
use regrow_model::action::Tell;
use regrow_model::observed::{Phase, Stage};
use regrow_model::{Action, Outcome};

const PORTS: &str = "{% for e in services.web %}{{ e.port }}\n{% endfor %}";

#[test]
fn a_first_set_is_installed_and_loaded_at_once_and_then_nothing_is_left_to_do() {
    let mut cluster = Cluster::new();
    cluster.template(PORTS, |_| {});
    cluster.endpoints(&["web-0:21000", "web-1:21001"]);
    let install = cluster.step();
    assert_eq!(content(&install), "21000\n21001\n");
    cluster.install_and_load();
    assert_eq!(cluster.held(), [""; 0]);
    assert_eq!(cluster.plan(), regrow_model::Plan::default());
    let status = cluster.status();
    assert_eq!(status.written.unwrap().digest, status.loaded.unwrap().digest);
}

#[test]
fn a_failed_probe_brings_the_last_good_set_back_and_is_tried_again_later() {
    let mut cluster = Cluster::new();
    cluster.template(PORTS, |spec| {
        spec.reload = serde_json::from_str(r#"{"group": "proxy", "signal": "USR2"}"#).unwrap();
    });
    cluster.endpoints(&["web-0:21000"]);
    cluster.act(Outcome::Installed);
    cluster.later(2_000);
    cluster.reader("proxy-0", Phase::Running);
    let load = cluster.act(told());
    assert!(matches!(&load.action, Action::Load { tell: Tell::Nobody, .. }), "it has read the file: {load:?}");
    cluster.later(5_000);
    cluster.endpoints(&["web-0:21000", "web-1:21001"]);
    cluster.act(Outcome::Installed);
    let load = cluster.act(failed(Stage::Probe, "503 from the probe"));
    assert!(matches!(&load.action, Action::Load { tell: Tell::Signal { signal, .. }, .. } if signal == "USR2"));
    let problem = cluster.status().problem.unwrap();
    assert_eq!((problem.stage, problem.input.as_str()), (Stage::Probe, "service/web"));
    let restore = cluster.act(told());
    assert_eq!(restore.action.verb(), "restore", "the way back does not wait");
    let status = cluster.status();
    assert_eq!(status.written.unwrap().digest, status.loaded.unwrap().digest);
    let retry_at = status.problem.unwrap().retry_at;
    assert!(retry_at > cluster.now);
    assert_eq!(cluster.held(), ["KnownBad: 503 from the probe"]);
    assert_eq!(cluster.plan().recheck_at, Some(retry_at));
    cluster.now = retry_at;
    cluster.install_and_load();
    assert_eq!(cluster.status().problem, None);
}

#[test]
fn a_change_waits_for_more_until_it_is_quiet() {
    let mut cluster = Cluster::new();
    cluster.template(PORTS, |spec| spec.wait = serde_json::from_str(r#"{"min": "10ms", "max": "30ms"}"#).unwrap());
    cluster.endpoints(&["web-0:21000"]);
    cluster.install_and_load();
    cluster.later(1_000);
    cluster.endpoints(&["web-0:21000", "web-1:21001"]);
    let first = cluster.now;
    cluster.write();
    assert_eq!(cluster.status().pending_since, Some(first));
    for more in 2..8 {
        assert_eq!(cluster.held(), [""; 0]);
        assert!(cluster.plan().recheck_at > Some(cluster.now));
        cluster.later(6);
        if cluster.now >= first.after(std::time::Duration::from_millis(30)) {
            break;
        }
        let ports: Vec<String> = (0..=more).map(|slot| format!("web-{slot}:{}", 21_000 + slot)).collect();
        cluster.endpoints(&ports.iter().map(String::as_str).collect::<Vec<_>>());
    }
    assert_eq!(cluster.now.since(first).as_millis(), 30, "no later than max");
    cluster.install_and_load();
    assert_eq!(cluster.status().pending_since, None);
}

#[test]
fn keys_are_inputs_too() {
    let mut cluster = Cluster::new();
    cluster.template("{{ getv('/port') }}", |spec| {
        spec.keys = vec!["/port".to_owned()];
        spec.prefix = Some("/web".to_owned());
    });
    cluster.key("/web/port", Some("80"));
    assert_eq!(content(&cluster.step()), "80");
    cluster.install_and_load();
    cluster.key("/web/port", Some("81"));
    assert_eq!(content(&cluster.step()), "81");
}
