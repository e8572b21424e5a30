//! What a person gets wrong is refused whole, named with its place, and changes nothing; what they ask is answered.

mod support;

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use support::{Cluster, instances, signal, until};

/// Two programs that stay.
const GOOD: &str = "cluster: shop
groups:
  app:
    size: 2
    provider: process
    command: [sleep, '600']
    port: PORTS
    environment: {TOKEN: hush-one}
    drain: 0s
";

/// One group more, of the same kind.
fn another(name: &str, more: &str) -> String {
    format!("  {name}:\n    size: 1\n    provider: process\n    command: [sleep, '600']\n{more}")
}

fn good() -> Cluster {
    let mut cluster = Cluster::with_spec(GOOD);
    cluster.up_healthy();
    // The last that is written by itself: without checks a version has arrived a second after its start.
    cluster.until_shown(&["events"], "is healthy on all 2");
    cluster
}

/// Everything of the store that users write, and what runs.
fn kept(cluster: &Cluster) -> (Value, Vec<(String, u64, u64)>) {
    (cluster.status()["revision"].clone(), cluster.pids("app"))
}

/// Each bad spec is refused with its place, a pointer and a suggestion, by `apply`, `plan` and `up`; what runs stays.
#[test]
fn a_bad_spec_is_refused_whole_with_its_place() {
    let cluster = good();
    let spec = cluster.read("regrow.yaml");
    let before = kept(&cluster);
    let two = |first: &str, second: &str| format!("{spec}{first}{}", another("b", second));
    let cases: [(&str, String, &[&str]); 8] = [
        (
            "a typo",
            spec.replace("command", "comand"),
            &[
                "there is no key `comand`",
                "bad.yaml:6:5 (groups.app.comand)",
                "    ^^^^^^\n",
                "did you mean `command`?",
            ],
        ),
        (
            "a wrong type",
            spec.replace("size: 2", "size: two"),
            &["must be a whole number", "bad.yaml:4:11 (groups.app.size)", "^^^\n", "for example `size: 3`"],
        ),
        (
            "a reference to nothing",
            format!("{spec}    service: wbe\nservices: {{web: {{}}}}\n"),
            &["there is no service `wbe`", "bad.yaml:10:14 (groups.app.service)", "^^^\n", "did you mean `web`?"],
        ),
        (
            "a cycle",
            two("    after: [group/b]\n", "    after: [group/app]\n"),
            &[
                "group/app → group/b → group/app",
                "(groups.app.after[0])",
                "^^^^^^^\n",
                "take one of them out of `after`",
            ],
        ),
        (
            "a port clash",
            format!("{spec}{}{}", another("b", "    port: 1234\n"), another("c", "    port: 1234\n")),
            &["port 1234 is taken by group `b` already", "(groups.c.port)", "^^^^\n", "give one of them another port"],
        ),
        (
            "no YAML at all",
            format!("{spec} - c\n"),
            &["error: ", "bad.yaml:10:2", " ^", "keys of one map begin in the same column"],
        ),
        ("nothing", String::new(), &["the spec is empty", "bad.yaml:1:1", "begin with the cluster's name"]),
        (
            "two errors",
            spec.replace("command", "comand").replace("size: 2", "size: two"),
            &["there is no key `comand`", "must be a whole number"],
        ),
    ];
    for (what, text, said) in cases {
        cluster.write("bad.yaml", &text);
        for words in [&["apply", "bad.yaml"][..], &["plan", "bad.yaml"], &["up", "bad.yaml"]] {
            let error = cluster.fails(2, words);
            assert!(error.contains("the spec is refused, nothing was changed"), "{what}: {error}");
            for text in said {
                assert!(error.contains(text), "{what}: {words:?} does not say {text:?}:\n{error}");
            }
        }
    }
    assert_eq!(kept(&cluster), before, "nothing was written and nothing restarted");
}

/// Files that are missing, that are no text, and templates that cannot be read are named, with the place.
#[test]
fn unreadable_files_are_named() {
    let cluster = good();
    let spec = cluster.read("regrow.yaml");
    let before = kept(&cluster);
    let error = cluster.fails(2, &["apply", "none.yaml"]);
    assert!(error.contains("cannot read none.yaml: No such file"), "{error}");
    std::fs::write(cluster.path("bytes.yaml"), b"cluster: sh\xffop\n").expect("a file");
    let error = cluster.fails(2, &["apply", "bytes.yaml"]);
    assert!(error.contains("bytes.yaml is not UTF-8 text: byte 11"), "{error}");
    std::fs::create_dir(cluster.path("folder")).expect("a folder");
    let error = cluster.fails(2, &["apply", "folder"]);
    assert!(error.contains("there is no *.yaml, *.yml or *.json file in the folder folder"), "{error}");

    let with = |source: &str| {
        cluster.write("bad.yaml", &format!("{spec}templates:\n  t: {{source: {source}, destination: out}}\n"));
        let error = cluster.fails(2, &["apply", "bad.yaml"]);
        assert_eq!(cluster.fails(2, &["up", "bad.yaml"]), error, "`up` says the same");
        error
    };
    let error = with("none.j2");
    assert!(error.contains("templates.t") && error.contains("none.j2: No such file"), "{error}");
    cluster.write("open.j2", "one\na {{ b\n");
    let error = with("open.j2");
    assert!(error.contains("template/t: open.j2:") && error.contains("expected end of variable block"), "{error}");
    cluster.write("open.tmpl", "one\na {{ getv \"x\"\n");
    let error = with("open.tmpl");
    assert!(error.contains("template/t: open.tmpl:") && error.contains("unclosed action"), "{error}");
    std::fs::write(cluster.path("bytes.j2"), b"\xff").expect("a file");
    let error = with("bytes.j2");
    assert!(error.contains("bytes.j2 is not UTF-8 text: byte 0"), "{error}");
    assert!(!cluster.path("out").exists());
    assert_eq!(kept(&cluster), before, "nothing was written and nothing restarted");
}

/// `plan` changes nothing, tells what would change, and keeps an environment's values to itself, as events do.
#[test]
fn a_plan_changes_nothing_and_tells_no_secrets() {
    let cluster = good();
    let before = kept(&cluster);
    let spec = cluster.read("regrow.yaml").replace("hush-one", "hush-two").replace("size: 2", "size: 3");
    cluster.write("new.yaml", &spec);
    let plan = cluster.ok(&["plan", "new.yaml"]);
    assert!(plan.contains("~ group/app") && plan.contains("size: 2 → 3"), "{plan}");
    assert!(plan.contains("environment.TOKEN: (changed)"), "{plan}");
    let json: Value = serde_json::from_str(&cluster.ok(&["plan", "new.yaml", "--json"])).expect("JSON");
    assert_eq!(json["differences"][0]["object"], "group/app");
    assert_eq!(cluster.ok(&["apply", "new.yaml", "--dry-run"]), plan);
    assert_eq!(kept(&cluster), before);
    let mut said = format!("{plan}{json}");
    let applied = cluster.run(&["apply", "new.yaml", "--wait", "60s"]);
    assert!(applied.status.success());
    said += &String::from_utf8_lossy(&applied.stdout);
    for words in [&["events", "--json", "--last", "1000"][..], &["status", "--json"], &["explain", "group/app"]] {
        said += &cluster.ok(words);
    }
    said += &cluster.log();
    assert!(!said.contains("hush-"), "a value of the environment is told:\n{said}");
}

/// What is not there is exit code 4, what a limit forbids 3, what makes no sense 2; each says what to do.
#[test]
fn refusals_have_their_codes_and_say_what_to_do() {
    let cluster = good();
    let before = kept(&cluster);
    let cases: [(i32, &[&str], &str); 16] = [
        (4, &["group", "scale", "nix", "3"], "there is no group `nix`: there are app"),
        (4, &["group", "replace", "nix"], "there is no group `nix`: there are app"),
        (4, &["group", "restart", "nix"], "there is no group `nix`: there are app"),
        (4, &["group", "restart", "app-7"], "there is no instance `app-7`: `regrow status` lists them"),
        (4, &["logs", "nix-0"], "nix-0"),
        (4, &["explain", "group/nix"], "there is no group/nix"),
        (4, &["explain", "instance/app-7"], "`regrow status` lists what is there"),
        (4, &["template", "diff", "nix"], "there is no template `nix`"),
        (4, &["template", "render", "nix"], "there is no template `nix`"),
        (3, &["group", "scale", "app", "10001"], "a group has 0 to 10000 instances, not 10001"),
        (3, &["resume"], "planned changes are not paused"),
        (2, &["explain", "foo/bar"], "`foo` is not a kind of object: use cluster, node, service"),
        (2, &["explain", "app"], "write it as kind/name"),
        (2, &["logs", "app"], "`app` is not an instance"),
        (2, &["events", "--cause", "a/b"], "is not the id of a chain of causes"),
        (2, &["stauts"], "status"),
    ];
    for (code, words, said) in cases {
        let error = cluster.fails(code, words);
        assert!(error.contains(said), "{words:?} does not say {said:?}:\n{error}");
    }
    assert_eq!(kept(&cluster), before);
    let error = cluster.fails(5, &["status", "--agent", "http://127.0.0.1:1"]);
    assert!(error.contains("cannot reach the agent at http://127.0.0.1:1"), "{error}");
    let error = Cluster::empty().fails(5, &["status"]);
    assert!(error.contains("cannot reach the agent at") && error.contains("`regrow up`"), "{error}");
    let error = cluster.fails(1, &["agent"]);
    assert!(error.contains("in use") || error.contains("lock"), "a second agent on the folder: {error}");
}

/// Every answer for machines is JSON, and the streams show what comes after they were opened.
#[test]
fn machines_get_json_and_streams_go_on() {
    let mut cluster = Cluster::with_spec(&GOOD.replace("[sleep, '600']", "[sh, -c, 'echo begun; exec sleep 600']"));
    cluster.up_healthy();
    for words in [
        &["status", "--json"][..],
        &["plan", "--json"],
        &["explain", "instance/app-0", "--json"],
        &["group", "ls", "--json"],
        &["service", "ls", "--json"],
        &["template", "ls", "--json"],
        &["schema"],
    ] {
        let text = cluster.ok(words);
        serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{words:?}: {error}: {text}"));
    }
    cluster.until_shown(&["logs", "app-0"], "begun");
    let logs = cluster.ok(&["logs", "app-0", "--json"]);
    let mut logs = logs.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    assert!(logs.any(|line| line["line"] == "begun" && line["stream"] == "stdout" && line["ts"].is_string()));
    let mut command = cluster.command(&["events", "--follow", "--json", "--last", "1"]);
    let mut stream = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut lines = BufReader::new(stream.stdout.take().expect("a pipe")).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().expect("a line").expect("UTF-8")).expect("JSON");
    next();
    cluster.ok(&["group", "scale", "app", "3"]);
    let scaled = next();
    assert_eq!((&scaled["kind"], &scaled["object"]), (&"scaled".into(), &"group/app".into()), "{scaled}");
    assert_eq!(scaled["message"], "scaled from 2 to 3");
    signal(stream.id(), "INT");
    let ended = stream.wait().expect("it ends");
    assert!(ended.success(), "Ctrl-C is how a stream ends: {ended}");
}

/// A pause holds a rolling replacement, not the repair of a death; `resume` lets it go on.
#[test]
fn a_pause_holds_changes_and_not_repairs() {
    let cluster = good();
    let before = cluster.pids("app");
    cluster.ok(&["pause", "the database moves"]);
    cluster.ok(&["group", "replace", "app"]);
    let status = cluster.until_status("the replacement waits", |status| {
        status["waiting"].as_array().is_some_and(|all| all.iter().any(|one| one["why"].to_string().contains("paused")))
    });
    assert_eq!(status["paused"], "the database moves");
    let text = cluster.ok(&["status"]);
    assert!(text.contains("PAUSED: the database moves"), "{text}");
    let (victim, pid, _) = before[0].clone();
    signal(u32::try_from(pid).expect("a pid"), "KILL");
    let repaired = |status: &Value| {
        let all = instances(status, "app");
        all.iter().any(|one| one["id"] == *victim && one["pid"].is_u64() && one["pid"] != pid)
    };
    cluster.until_status("the dead one is replaced", |status| repaired(status) && status["paused"].is_string());
    assert!(cluster.pids("app").contains(&before[1]), "the other one was not touched");
    cluster.ok(&["resume"]);
    until("the other one is replaced", || {
        let pids = cluster.pids("app");
        (pids.len() == 2 && !pids.contains(&before[1])).then_some(())
    });
    cluster.until_healthy();
}

/// What was stopped starts again: after Ctrl-C and after `down`.
#[test]
fn what_was_stopped_starts_again() {
    let mut cluster = good();
    cluster.signal_agent("INT");
    assert_eq!(cluster.agent_ends(), 0);
    cluster.up_healthy();
    cluster.ok(&["down"]);
    assert_eq!(cluster.agent_ends(), 0);
    cluster.start(&["agent"]);
    cluster.until_healthy();
    assert_eq!(cluster.pids("app").len(), 2);
}
