//! Each line of the planner's contract, as a script.

use super::cluster::{Cluster, content, failed, name, told};
use crate::features::template;
use regrow_model::action::Tell;
use regrow_model::key::Record;
use regrow_model::observed::{self, Phase, Stage};
use regrow_model::{Action, Key, Outcome, Plan, desired, limits};
use std::time::Duration;

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
    assert_eq!(cluster.plan(), Plan::default());
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
        if cluster.now >= first.after(Duration::from_millis(30)) {
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

fn signalled(spec: &mut regrow_model::spec::Template) {
    spec.reload = serde_json::from_str(r#"{"group": "proxy", "signal": "USR2"}"#).unwrap();
}

/// A cluster with one good set, read by a proxy that has been running for a while.
fn loaded(change: impl FnOnce(&mut regrow_model::spec::Template)) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.template(PORTS, |spec| {
        signalled(spec);
        change(spec);
    });
    cluster.endpoints(&["web-0:21000"]);
    cluster.act(Outcome::Installed);
    cluster.later(2_000);
    cluster.reader("proxy-0", Phase::Running);
    cluster.act(told());
    cluster.later(5_000);
    cluster.events.clear();
    assert_eq!(cluster.plan(), Plan::default());
    cluster
}

#[test]
fn an_install_is_complete_and_names_its_cause() {
    let mut cluster = Cluster::new();
    cluster.template(PORTS, |spec| {
        spec.check = ["haproxy", "-c", "-f", "{staged}"].map(str::to_owned).to_vec();
        spec.mode = Some("0600".to_owned());
        spec.owner = Some("haproxy".to_owned());
    });
    cluster.endpoints(&["web-0:21000"]);
    let planned = cluster.step();
    let Action::Install { files, check, directory, inputs, .. } = &planned.action else { panic!("{planned:?}") };
    let file = &files[0];
    assert_eq!(
        (file.destination.as_str(), file.mode, file.owner.as_deref()),
        ("/srv/run/web.cfg", 0o600, Some("haproxy"))
    );
    assert_eq!((check[3].as_str(), directory.as_str()), ("{staged}", "/srv"), "placeholders are the doer's");
    assert_eq!(inputs.healthy[&name("web")], 1);
    assert_eq!(planned.cause, cluster.view.templates[&name("web")].cause, "the first set is the template's own");
    let mut cluster = loaded(|_| {});
    cluster.later(10);
    cluster.endpoints(&["web-1:21001"]);
    let planned = cluster.step();
    assert_eq!(planned.cause, cluster.view.service_index[&name("web")].cause);
    assert_eq!(planned.why, "service/web changed");
}

#[test]
fn inputs_that_change_without_the_files_are_recorded_and_nothing_is_loaded() {
    let mut cluster = loaded(|_| {});
    cluster.later(10);
    cluster.endpoints(&["web-0:21000"]);
    let index = cluster.view.service_index[&name("web")].revision;
    let planned = cluster.write();
    assert_eq!(planned.why, "its inputs changed and its files did not");
    assert_eq!(cluster.status().loaded.unwrap().inputs.services[&name("web")], index, "a drain that waits goes on");
    assert_eq!(cluster.events, [""; 0]);
    assert_eq!(cluster.plan(), Plan::default());
}

#[test]
fn a_refused_check_leaves_the_good_set_and_is_told_once() {
    let mut cluster = loaded(|_| {});
    let good = cluster.status();
    cluster.endpoints(&["web-1:21001"]);
    cluster.act(failed(Stage::Check, "line 1: nonsense"));
    assert_eq!(cluster.status().loaded, good.loaded);
    assert_eq!(cluster.status().written, good.written);
    assert_eq!(cluster.events, ["refused: its check refuses the files: line 1: nonsense (changed by service/web)"]);
    cluster.later(3_600_000);
    assert_eq!(cluster.held(), ["KnownBad: line 1: nonsense"], "the same files are checked the same");
    // The inputs move on, the files do not: still known, without being installed or told again.
    cluster.endpoints(&["web-1:21001"]);
    cluster.write();
    assert_eq!(cluster.held(), ["KnownBad: line 1: nonsense"]);
    assert_eq!(cluster.events.len(), 1);
    cluster.endpoints(&["web-2:21002"]);
    cluster.install_and_load();
    assert_eq!(cluster.status().problem, None);
}

#[test]
fn a_source_that_does_not_render_is_told_once_and_tried_again_when_what_it_read_changes() {
    let mut cluster = loaded(|_| {});
    cluster.template("{{ services.web[1].port }}", signalled);
    let refused = cluster.write();
    assert!(refused.why.starts_with("web.j2:1:"), "{}", refused.why);
    let problem = cluster.status().problem.unwrap();
    assert_eq!((problem.stage, problem.input.as_str()), (Stage::Render, "template/web"));
    assert_eq!(cluster.events.len(), 1, "{:?}", cluster.events);
    cluster.later(3_600_000);
    assert_eq!(cluster.held().len(), 1);
    cluster.endpoints(&["web-0:21000", "web-1:21001"]);
    assert_eq!(content(&cluster.step()), "21001");
}

#[test]
fn a_service_that_is_unknown_is_waited_for() {
    let mut cluster = Cluster::new();
    cluster.template(PORTS, |_| {});
    cluster.write();
    assert_eq!(cluster.status().problem.unwrap().stage, Stage::Render);
    assert_eq!(cluster.held().len(), 1);
    cluster.endpoints(&[]);
    assert_eq!(content(&cluster.step()), "");
}

#[test]
fn an_emptied_service_is_refused_and_comes_back_by_itself() {
    let mut cluster = loaded(|_| {});
    let good = cluster.status();
    cluster.endpoints(&[]);
    cluster.write();
    assert_eq!(cluster.status().loaded, good.loaded);
    let reason = "service/web has no healthy endpoint left of 1, and guard.refuse_empty is set";
    assert_eq!(cluster.events, [format!("refused: its guard refuses the change: {reason} (changed by service/web)")]);
    assert_eq!(cluster.held(), [format!("Guard: {reason}")]);
    cluster.endpoints(&["web-0:21000"]);
    cluster.write();
    assert_eq!(cluster.status().problem, None);
    assert_eq!(cluster.plan(), Plan::default());
    let mut cluster = loaded(|spec| spec.guard.refuse_empty = false);
    cluster.endpoints(&[]);
    assert_eq!(content(&cluster.step()), "");
}

#[test]
fn fewer_than_the_guard_asks_for_is_waited_for_at_first_and_refused_later() {
    let mut cluster = Cluster::new();
    cluster.template(PORTS, |spec| {
        spec.guard.min.insert(name("web"), 2);
    });
    cluster.endpoints(&["web-0:21000"]);
    assert_eq!(cluster.held(), ["Guard: service/web has 1 healthy endpoints, guard.min is 2"]);
    cluster.endpoints(&["web-0:21000", "web-1:21001"]);
    cluster.install_and_load();
    cluster.events.clear();
    cluster.endpoints(&["web-0:21000"]);
    cluster.write();
    assert_eq!(cluster.held(), ["Guard: service/web has 1 healthy endpoints, guard.min is 2"]);
    assert_eq!(cluster.events.len(), 1, "told once");
}

#[test]
fn files_that_cannot_be_written_are_tried_again_with_growing_waits() {
    let mut cluster = loaded(|_| {});
    cluster.endpoints(&["web-1:21001"]);
    let mut waits = Vec::new();
    for _ in 0..8 {
        cluster.act(failed(Stage::Write, "no space left on device"));
        let retry_at = cluster.plan().recheck_at.unwrap();
        waits.push(retry_at.since(cluster.now).as_secs());
        assert_eq!(cluster.held(), ["KnownBad: no space left on device"]);
        cluster.now = retry_at;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(cluster.events.len(), 1, "told once");
    cluster.install_and_load();
}

#[test]
fn whoever_reads_the_files_is_told_once_it_can_hear() {
    let mut cluster = loaded(|_| {});
    cluster.endpoints(&["web-1:21001"]);
    cluster.act(Outcome::Installed);
    // One that was already running is signalled.
    let tell = |planned: &regrow_model::Planned| match &planned.action {
        Action::Load { tell, .. } => tell.clone(),
        other => panic!("a load, not {other:?}"),
    };
    let Tell::Signal { instances, signal, .. } = tell(&cluster.step()) else { panic!("a signal") };
    assert_eq!((instances, signal.as_str()), (vec![("proxy-0".parse().unwrap(), 1)], "USR2"));
    // One that was assigned after the swap has read the new files.
    cluster.later(10);
    cluster.reader("proxy-0", Phase::Running);
    assert_eq!(tell(&cluster.step()), Tell::Nobody);
    // With none there it waits for one to come, and goes on rendering for it.
    cluster.reader("proxy-0", Phase::Exited);
    assert_eq!(cluster.held(), [""; 0]);
    cluster.endpoints(&["web-2:21002"]);
    assert_eq!(content(&cluster.step()), "21002\n");
}

#[test]
fn a_reader_that_starts_during_the_swap_is_told_however_late_it_is_seen() {
    let mut cluster = loaded(|_| {});
    cluster.reader("proxy-0", Phase::Starting);
    cluster.later(10);
    cluster.endpoints(&["web-1:21001"]);
    cluster.act(Outcome::Installed);
    // Which files it has read is not known, and it cannot be told yet.
    assert_eq!(cluster.held(), [""; 0]);
    cluster.later(5_000);
    let id = "proxy-0".parse().unwrap();
    let seen = (*cluster.view.instances[&id].value).clone();
    let running = observed::Instance { phase: Phase::Running, since: cluster.now, ..seen };
    cluster.put(Record::Instance(id, Box::new(running)));
    // It may have no handler for the signal yet.
    assert_eq!(cluster.held(), [""; 0]);
    assert_eq!(cluster.plan().recheck_at, Some(cluster.now.after(Duration::from_secs(1))));
    cluster.later(1_000);
    let planned = cluster.step();
    assert!(matches!(&planned.action, Action::Load { tell: Tell::Signal { .. }, .. }), "{planned:?}");
}

#[test]
fn a_node_without_readers_needs_no_telling_and_no_probe() {
    let mut cluster = Cluster::new();
    cluster.template(PORTS, |spec| {
        signalled(spec);
        spec.probe = serde_json::from_str(r#"{"tcp": "127.0.0.1:1"}"#).unwrap();
    });
    cluster.endpoints(&["web-0:21000"]);
    cluster.act(Outcome::Installed);
    let planned = cluster.step();
    assert!(
        matches!(&planned.action, Action::Load { tell: Tell::Nobody, probe: None, .. }),
        "no such group: {planned:?}"
    );
}

#[test]
fn a_change_of_servers_goes_through_the_socket_and_its_refusal_leads_to_a_reload() {
    const CONFIG: &str =
        "backend web\n{% for e in services.web %}  server {{ e.id }} {{ e.address }}:{{ e.port }}\n{% endfor %}";
    let mut cluster = Cluster::new();
    cluster.template(CONFIG, |spec| {
        spec.reload =
            serde_json::from_str(r#"{"group": "proxy", "signal": "USR2", "haproxy_socket": "run/proxy.sock"}"#)
                .unwrap();
    });
    cluster.endpoints(&["web-0:21000", "web-1:21001"]);
    cluster.act(Outcome::Installed);
    cluster.later(2_000);
    cluster.reader("proxy-0", Phase::Running);
    cluster.act(told());
    cluster.later(5_000);
    let commands = |planned: &regrow_model::Planned| match &planned.action {
        Action::Load { tell: Tell::Haproxy { socket, commands }, .. } => {
            assert_eq!(socket, "/srv/run/proxy.sock");
            commands.join("; ")
        }
        other => panic!("by the socket, not {other:?}"),
    };
    cluster.endpoints(&["web-0:21000"]);
    cluster.act(Outcome::Installed);
    assert_eq!(commands(&cluster.act(told())), "set server web/web-1 state maint");
    cluster.endpoints(&["web-0:21000", "web-1:21005"]);
    cluster.act(Outcome::Installed);
    let load = cluster.act(failed(Stage::Reload, "No such server."));
    assert_eq!(commands(&load), "set server web/web-1 addr 127.0.0.1 port 21005; set server web/web-1 state ready");
    assert!(cluster.status().bad.is_empty(), "the set is not to blame");
    let load = cluster.act(told());
    assert!(matches!(&load.action, Action::Load { tell: Tell::Signal { .. }, .. }), "{load:?}");
    assert_eq!(cluster.status().problem, None);
    // An agent that has started anew does not know what the process was told: it reloads.
    cluster.view.local = regrow_model::view::Local::default();
    cluster.endpoints(&["web-0:21000"]);
    cluster.act(Outcome::Installed);
    assert!(matches!(&cluster.step().action, Action::Load { tell: Tell::Signal { .. }, .. }));
}

#[test]
fn a_good_set_that_cannot_be_put_back_is_tried_again_and_a_newer_one_may_overtake_it() {
    let mut cluster = loaded(|_| {});
    cluster.endpoints(&["web-1:21001"]);
    cluster.act(Outcome::Installed);
    cluster.act(failed(Stage::Reload, "exit code 1"));
    assert_eq!(cluster.act(failed(Stage::Reload, "still broken")).action.verb(), "restore");
    let retry_at = cluster.status().problem.unwrap().retry_at;
    assert!(retry_at > cluster.now);
    assert_eq!(cluster.held(), ["KnownBad: exit code 1"]);
    let mut waited = Cluster { now: retry_at, view: cluster.view.clone(), events: Vec::new() };
    assert_eq!(waited.act(told()).action.verb(), "restore");
    cluster.endpoints(&["web-2:21002"]);
    cluster.install_and_load();
    let status = cluster.status();
    assert_eq!((status.problem, status.bad.len()), (None, 1));
}

#[test]
fn a_good_set_that_was_never_read_and_cannot_be_put_back_gives_way_to_the_newest() {
    let mut cluster = loaded(|_| {});
    cluster.endpoints(&["web-1:21001"]);
    let install = cluster.step();
    // Its outcome is lost: nobody knows what is in place, and the last good set is to go back.
    template::forget(&mut cluster.view.local, &install);
    assert_eq!(cluster.act(failed(Stage::Reload, "never heard of it")).action.verb(), "restore");
    let problem = cluster.status().problem.unwrap();
    assert_eq!((problem.stage, problem.reason.as_str()), (Stage::Reload, "never heard of it"));
    cluster.install_and_load();
    let status = cluster.status();
    assert_eq!((status.written.unwrap().digest, status.problem), (status.loaded.unwrap().digest, None));
}

#[test]
fn a_first_set_that_does_not_load_has_nothing_to_go_back_to_and_is_loaded_again() {
    let mut cluster = Cluster::new();
    cluster.template(PORTS, |spec| spec.reload = serde_json::from_str(r#"{"command": ["true"]}"#).unwrap());
    cluster.endpoints(&["web-0:21000"]);
    cluster.act(Outcome::Installed);
    cluster.act(failed(Stage::Reload, "exit code 1"));
    assert_eq!(cluster.held(), ["KnownBad: exit code 1"]);
    cluster.now = cluster.plan().recheck_at.unwrap();
    assert_eq!(cluster.act(told()).action.verb(), "load");
    assert_eq!(cluster.status().problem, None);
}

#[test]
fn a_crash_between_any_two_actions_converges() {
    // In place and not loaded: it is loaded, whatever came in between.
    let mut cluster = Cluster::new();
    cluster.template(PORTS, |_| {});
    cluster.endpoints(&["web-0:21000"]);
    let install = cluster.act(Outcome::Installed);
    // What is in place is known from the disk.
    let written = std::mem::take(&mut cluster.view.local.written);
    cluster.view.local = regrow_model::view::Local { written, ..Default::default() };
    cluster.later(60_000);
    let load = cluster.act(told());
    assert_eq!(load.action.verb(), "load");
    // An outcome that comes late, of a set that is no longer in place, changes nothing.
    cluster.endpoints(&["web-1:21001"]);
    cluster.install_and_load();
    let before = cluster.status();
    cluster.come_of(&load, &failed(Stage::Probe, "late"));
    assert_eq!(cluster.status(), before);
    // The install was done and its outcome lost: it is done again, and is idempotent.
    cluster.view.template_status.clear();
    let again = cluster.step();
    assert_eq!(again.action.verb(), "install");
    assert_ne!(again.action, install.action);
}

#[test]
fn a_halt_stops_everything_and_a_template_that_left_is_forgotten() {
    let mut cluster = loaded(|_| {});
    cluster.endpoints(&["web-1:21001"]);
    let halt = desired::Halt { cause: cluster.cause(), at: cluster.now };
    cluster.put(Record::Halt(halt));
    assert_eq!(cluster.plan(), Plan::default());
    cluster.view.delete(&Key::Halt);
    let planned = cluster.step();
    cluster.view.delete(&Key::DesiredTemplate(name("web")));
    cluster.come_of(&planned, &Outcome::Installed);
    cluster.write();
    assert!(cluster.view.template_status.is_empty());
    assert_eq!(cluster.plan(), Plan::default());
}

#[test]
fn bad_sets_are_remembered_up_to_a_number() {
    let mut cluster = loaded(|_| {});
    for port in 0..40 {
        cluster.endpoints(&[&format!("web-1:{}", 22_000 + port)]);
        cluster.act(failed(Stage::Check, &"x".repeat(10_000)));
    }
    let status = cluster.status();
    assert_eq!(status.bad.len(), limits::BAD_VERSIONS_KEPT);
    assert_eq!(status.problem.unwrap().reason.len(), limits::OUTPUT_BYTES_MAX);
}
