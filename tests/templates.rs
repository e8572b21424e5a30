//! A template that fails at any stage: the good files stay or return, `explain` names the input, and nothing is loaded
//! twice. The next good input goes through by itself.

mod support;

use serde_json::Value;
use support::{Cluster, get, healthy, until};

/// One program that stays, whose health is the absence of a file with its name.
const APP: &str = "cluster: shop
services:
  app:
    checks: [{script: [sh, -c, 'test ! -e sick-$INSTANCE'], interval: 100ms, rise: 1, fall: 1}]
groups:
  app:
    service: app
    size: 2
    provider: process
    command: [sleep, '600']
    port: PORTS
    drain: 0s
    replace_failing: 1h
templates:
";

/// A template of which every load appends what it loads to `loads`, and fails when that has the word `bad`.
const LIST: &str = "  list:
    source: list.j2
    destination: list.txt
    reload: {command: [sh, -c, 'cat list.txt >> loads; ! grep bad list.txt']}
";

fn app(template: &str, source: &str) -> Cluster {
    let mut cluster = Cluster::with_spec(&format!("{APP}{template}"));
    cluster.write("list.j2", source);
    cluster.up_healthy();
    cluster
}

/// Applies a source that is refused, and gives the explanation once it is known and nothing more is under way.
fn refused(cluster: &Cluster, name: &str, what: &str) -> String {
    cluster.ok(&["apply"]);
    settled(cluster, name, what)
}

fn settled(cluster: &Cluster, name: &str, what: &str) -> String {
    let status = cluster.until_status("the template is refused", |status| of(status, name)["state"] == "refused");
    let problem = of(&status, name)["problem"].to_string();
    assert!(problem.contains(what), "the problem is not {what:?}: {problem}");
    assert_eq!(status["health"], "degraded");
    let text = cluster.ok(&["explain", &format!("template/{name}")]);
    assert!(text.contains(what), "explain does not say {what:?}:\n{text}");
    text
}

/// A template in a status.
fn of(status: &Value, name: &str) -> Value {
    let all = status["templates"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|template| template["name"] == name).unwrap_or_default()
}

/// How many events of a sort there are.
fn count(cluster: &Cluster, object: &str, kind: &str) -> usize {
    let text = cluster.ok(&["events", "--json", "--last", "1000", "--object", object]);
    text.lines().filter(|line| serde_json::from_str::<Value>(line).expect("JSON")["kind"] == kind).count()
}

/// A source that does not render: the file stays byte for byte and nothing is loaded; a good one goes through.
#[test]
fn what_does_not_render_changes_nothing() {
    let cluster = app(LIST, "{% for one in services.app %}{{ one.id }}\n{% endfor %}");
    let (good, loads) = (cluster.read("list.txt"), cluster.read("loads"));
    assert_eq!(good, "app-0\napp-1\n");
    cluster.write("list.j2", "{{ vars.missing }}\n");
    let text = refused(&cluster, "list", "missing");
    assert!(text.contains("does not render") && text.contains("list.j2:1"), "{text}");
    assert!(text.contains("for ") && text.contains("because of template/list"), "the input and the time:\n{text}");
    let error = cluster.fails(3, &["template", "diff", "list"]);
    assert!(error.contains("list.j2:1"), "{error}");
    assert_eq!((cluster.read("list.txt"), cluster.read("loads")), (good, loads), "nothing was written or loaded");

    cluster.write("list.j2", "{% for one in services.app %}{{ one.id }} again\n{% endfor %}");
    cluster.ok(&["apply"]);
    cluster.until_healthy();
    assert_eq!(cluster.read("list.txt"), "app-0 again\napp-1 again\n");
    assert!(cluster.ok(&["template", "diff", "list"]).is_empty(), "what is in place is what would be rendered");
}

/// Inputs that change under a template break it and mend it: no hand is needed, and the service is named.
#[test]
fn a_service_that_breaks_a_template_mends_it() {
    let cluster = app(LIST, "{{ services.app[1].id }}\n");
    let (good, loads) = (cluster.read("list.txt"), cluster.read("loads"));
    cluster.write("sick-app-1", "");
    let text = settled(&cluster, "list", "list.j2:1");
    assert!(text.contains("service/app"), "the input that broke it:\n{text}");
    assert_eq!((cluster.read("list.txt"), cluster.read("loads")), (good, loads));
    std::fs::remove_file(cluster.path("sick-app-1")).expect("it was written");
    cluster.until_healthy();
}

/// A reload command that fails: the file returns byte for byte and is loaded again; a good change goes through.
#[test]
fn a_failed_reload_returns_to_the_good_file() {
    let cluster = app(LIST, "one\n");
    cluster.write("list.j2", "bad\n");
    cluster.ok(&["apply"]);
    until("the good file is back and loaded", || (cluster.read("loads") == "one\nbad\none\n").then_some(()));
    let text = settled(&cluster, "list", "bad");
    assert!(text.contains("the reload failed") && text.contains("template/list"), "{text}");
    until("it is told", || (count(&cluster, "template/list", "restored") == 1).then_some(()));
    assert_eq!(cluster.read("list.txt"), "one\n");
    cluster.write("list.j2", "two\n");
    cluster.ok(&["apply"]);
    cluster.until_healthy();
    assert_eq!(cluster.read("list.txt"), "two\n");
    assert!(cluster.read("loads").ends_with("two\n"), "{}", cluster.read("loads"));
}

/// A set is swapped as one and returns as one.
#[test]
fn a_set_returns_as_a_set() {
    let set = "  pair:
    files:
      - {source: list.j2, destination: one.txt}
      - {source: list.j2, destination: two.txt, mode: '0600'}
    check: [sh, -c, '! grep -q worse {staged:1}']
    reload: {command: [sh, -c, 'cat one.txt two.txt >> loads; ! grep bad two.txt']}
";
    let cluster = app(set, "good\n");
    let both = || (cluster.read("one.txt"), cluster.read("two.txt"));
    let good = both();
    cluster.write("list.j2", "bad\n");
    cluster.ok(&["apply"]);
    until("both are back", || (cluster.read("loads") == "good\ngood\nbad\nbad\ngood\ngood\n").then_some(()));
    settled(&cluster, "pair", "bad");
    assert_eq!(both(), good);
    let loads = cluster.read("loads");
    cluster.write("list.j2", "worse\n");
    cluster.ok(&["apply"]);
    cluster.until_shown(&["explain", "template/pair"], "its check refuses the files");
    assert_eq!((both(), cluster.read("loads")), (good, loads), "a refused set is neither written nor loaded");
    cluster.write("list.j2", "better\n");
    cluster.ok(&["apply"]);
    cluster.until_healthy();
    assert_eq!(both(), ("better\n".to_owned(), "better\n".to_owned()));
}

/// HAProxy's own check refuses a file: it is not swapped, HAProxy is not told, and it serves on.
#[test]
fn haproxy_is_not_told_of_a_file_that_it_refuses() {
    let (mut cluster, front) = Cluster::web();
    cluster.up_healthy();
    let (good, proxy) = (cluster.read("run/haproxy.cfg"), cluster.pids("proxy"));
    let loaded = count(&cluster, "template/haproxy", "loaded");
    cluster.edit("haproxy.cfg.j2", "balance roundrobin", "balance roundrobbin");
    let text = refused(&cluster, "haproxy", "balance only supports");
    assert!(text.contains("its check refuses the files") && text.contains("template/haproxy"), "{text}");
    assert_eq!(cluster.read("run/haproxy.cfg"), good);
    assert_eq!((count(&cluster, "template/haproxy", "loaded"), cluster.pids("proxy")), (loaded, proxy));
    assert_eq!(get(front, "/").expect("an answer").0, 200);
    cluster.edit("haproxy.cfg.j2", "balance roundrobbin", "balance leastconn");
    cluster.ok(&["apply"]);
    cluster.until_healthy();
    assert!(cluster.read("run/haproxy.cfg").contains("balance leastconn"));
}

/// HAProxy takes a file with which it does not serve where it should: the probe finds out, and the good one returns.
#[test]
fn a_failed_probe_returns_to_the_good_file() {
    let (mut cluster, front) = Cluster::web();
    let elsewhere = cluster.ports.one();
    cluster.edit("regrow.yaml", "within: 5s", "within: 1s");
    cluster.up_healthy();
    let good = cluster.read("run/haproxy.cfg");
    cluster.edit("haproxy.cfg.j2", &format!("bind 127.0.0.1:{front}"), &format!("bind 127.0.0.1:{elsewhere}"));
    cluster.ok(&["apply"]);
    until("the good file is back", || (count(&cluster, "template/haproxy", "restored") == 1).then_some(()));
    assert_eq!(cluster.read("run/haproxy.cfg"), good);
    let text = cluster.ok(&["explain", "template/haproxy"]);
    assert!(text.contains("the probe failed after the reload") && text.contains("template/haproxy"), "{text}");
    until("it serves where it did", || get(front, "/").is_ok_and(|answer| answer.0 == 200).then_some(()));
    cluster.edit("haproxy.cfg.j2", &format!("bind 127.0.0.1:{elsewhere}"), &format!("bind 127.0.0.1:{front}"));
    cluster.edit("haproxy.cfg.j2", "balance roundrobin", "balance leastconn");
    cluster.ok(&["apply"]);
    cluster.until_healthy();
    assert!(cluster.read("run/haproxy.cfg").contains("balance leastconn"));
}

/// All endpoints vanish: both guards keep the file, and it goes on by itself when they are back.
#[test]
fn guards_keep_the_file_when_all_vanish() {
    let source = "{% for one in services.app %}{{ one.id }}\n{% endfor %}";
    let more = "  least: {source: list.j2, destination: least.txt, guard: {min: {app: 2}, refuse_empty: false}}\n";
    let cluster = app(&format!("{LIST}{more}"), source);
    let (good, loads) = (cluster.read("list.txt"), cluster.read("loads"));
    cluster.write("sick-app-0", "");
    let text = settled(&cluster, "least", "service/app has 1 healthy endpoints, guard.min is 2");
    assert!(text.contains("service/app"), "{text}");
    until("the other goes on with one", || (cluster.read("list.txt") == "app-1\n").then_some(()));
    cluster.write("sick-app-1", "");
    let text = settled(&cluster, "list", "guard.refuse_empty");
    assert!(text.contains("service/app"), "{text}");
    assert_eq!(cluster.read("list.txt"), "app-1\n", "the last one stays in the file");
    assert_eq!(cluster.read("least.txt"), good, "nothing went below the guard");
    for name in ["sick-app-0", "sick-app-1"] {
        std::fs::remove_file(cluster.path(name)).expect("it was written");
    }
    let status = cluster.until_healthy();
    assert_eq!(healthy(&status, "app"), 2);
    until("both have all again", || {
        (cluster.read("list.txt") == good && cluster.read("least.txt") == good).then_some(())
    });
    assert!(cluster.read("loads").starts_with(&loads));
}
