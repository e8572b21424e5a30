//! Members that find one another: the real binary, with real `serf` agents, the `serf` command and Python's
//! `serfclient`. Tests whose component is not there say so by name and are skipped.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use support::hosts::Hosts;
use support::{Cluster, until};

/// 32 bytes in base64, three times.
const KEYS: [&str; 3] = [
    "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
    "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
    "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=",
];

/// Starts an agent with gossip and RPC on free ports.
fn start(node: &str, more: &[&str]) -> Cluster {
    let mut cluster = Cluster::empty();
    let words = ["agent", "--node", node, "--gossip", "127.0.0.1:0", "--rpc", "127.0.0.1:0"];
    cluster.start(&[&words, more].concat());
    door(&cluster, "gossip");
    cluster
}

/// Where a door is, once it is told and the agent answers.
fn door(cluster: &Cluster, name: &str) -> String {
    until("the doors are told", || {
        cluster.try_status()?;
        let doors = std::fs::read_to_string(cluster.path("data").join("doors.json")).ok()?;
        Some(serde_json::from_str::<Value>(&doors).ok()?[name].as_str()?.to_owned())
    })
}

/// Writes a script that notes what it is told in a file, and answers queries.
fn handler(cluster: &Cluster) -> PathBuf {
    let script = cluster.path("handler.sh");
    let text = "#!/bin/sh\nline=$(tr '\\n' ';')\necho \"$SERF_EVENT $SERF_USER_EVENT$SERF_QUERY_NAME|$SERF_SELF_NAME|$SERF_TAG_ROLE|$line\" \
                >> \"$(dirname \"$0\")/told\"\nif [ \"$SERF_EVENT\" = query ]; then echo \"answer of $SERF_SELF_NAME\"; fi\n";
    std::fs::write(&script, text).expect("written");
    script
}

fn told(cluster: &Cluster) -> String {
    std::fs::read_to_string(cluster.path("told")).unwrap_or_default()
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// Two agents that know nothing of each other: join, events, queries, tags, round trips, leave, and who says what of the
/// dead; each by its command.
#[test]
fn commands() {
    let mut folder = Cluster::empty();
    let script = handler(&folder);
    let handler = format!("member-join,user:deploy,query:load=/bin/sh {}", script.display());
    let words = ["agent", "--node", "a", "--gossip", "127.0.0.1:0", "--tag", "role=web", "--event-handler", &handler];
    folder.start(&words);
    let a = folder;
    let mut b = start("b", &["--tag", "role=db"]);
    let address = door(&a, "gossip");
    assert!(b.ok(&["join", &address]).starts_with(&format!("joined through {address}")));
    for cluster in [&a, &b] {
        cluster.until_shown(&["members", "--status", "alive"], "b  ");
        assert_eq!(cluster.ok(&["members"]).lines().count(), 2);
    }
    assert_eq!(a.ok(&["members", "--tag", "role=db"]).lines().count(), 1);
    let members: Value = serde_json::from_str(&b.ok(&["members", "--json"])).expect("JSON");
    assert_eq!(members[0]["address"], address.as_str());
    assert_eq!(members[0]["tags"]["role"], "web");

    b.ok(&["event", "deploy", "1.2"]);
    b.ok(&["event", "other"]);
    assert_eq!(b.ok(&["query", "load", "--timeout", "3s"]), "a: answer of a\n");
    assert_eq!(b.ok(&["query", "load", "--node", "b", "--timeout", "200ms"]), "", "b has no handler");
    until("its handler has seen all", || (told(&a).lines().count() >= 4).then_some(()));
    let told = told(&a);
    for line in ["member-join |a|web|b\t127.0.0.1\tdb\trole=db", "user deploy|a|web|1.2", "query load|a|web|"] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!told.contains("other"), "{told}");

    b.ok(&["tags", "--set", "zone=2", "--delete", "role"]);
    a.until_shown(&["members"], "zone=2");
    assert_eq!(a.ok(&["members", "--tag", "role=db"]), "");
    assert!(b.ok(&["rtt", "a"]).starts_with("b to a: "));
    assert_eq!(b.ok(&["reachability", "--timeout", "2s"]), "all 2 living members can be reached\n");
    assert!(b.fails(4, &["rtt", "nobody"]).contains("no coordinate of a member `nobody`"));
    assert!(b.fails(3, &["gossip", "keys", "list"]).contains("encryption is not enabled"));
    assert!(b.fails(5, &["join", "127.0.0.1:1"]).contains("127.0.0.1:1: "));
    assert!(b.fails(4, &["force-leave", "nobody"]).contains("no member named nobody"));
    assert!(b.fails(3, &["event", "large", &"x".repeat(600)]).contains("allowed are 512"));

    b.ok(&["leave"]);
    a.until_shown(&["members", "--status", "left"], "b  ");
    b.ok(&["join", &address]);
    a.until_shown(&["members", "--status", "alive"], "b  ");
    b.kill_agent();
    a.until_shown(&["members", "--status", "failed"], "b  ");
    let explained = a.ok(&["explain", "node/b"]);
    assert!(explained.contains("suspected by a: it refused a TCP connection"), "{explained}");
    assert!(explained.contains("a probe from here failed"), "{explained}");
    a.ok(&["force-leave", "b"]);
    a.until_shown(&["members", "--status", "left"], "b  ");
}

/// A happening that its handler has not finished with when the agent is killed is handled by the next agent, and what
/// was finished is not handled again.
#[test]
fn handlers_outlive_the_agent() {
    let mut cluster = Cluster::empty();
    let script = cluster.path("slow.sh");
    // The second event waits for a file that is there only after the restart.
    let text = "#!/bin/sh\nread -r line\nfolder=$(dirname \"$0\")\necho \"begin $line\" >> \"$folder/told\"\n\
                if [ \"$line\" = two ]; then while [ ! -e \"$folder/go\" ]; do sleep 0.1; done; fi\n\
                echo \"end $line\" >> \"$folder/told\"\n";
    std::fs::write(&script, text).expect("written");
    let handler = format!("user:deploy=/bin/sh {}", script.display());
    let words = ["agent", "--node", "a", "--gossip", "127.0.0.1:0", "--event-handler", &handler];
    cluster.start(&words);
    door(&cluster, "gossip");
    cluster.ok(&["event", "deploy", "one"]);
    cluster.ok(&["event", "deploy", "two"]);
    cluster.ok(&["event", "deploy", "three"]);
    until("it waits in the second", || told(&cluster).contains("begin two").then_some(()));
    cluster.kill_agent();
    cluster.write("go", "");
    cluster.start(&words);
    until("all are handled", || told(&cluster).contains("end three").then_some(()));
    let told = told(&cluster);
    let count = |text: &str| told.lines().filter(|line| *line == text).count();
    assert_eq!((count("begin one"), count("begin two"), count("begin three")), (1, 2, 1), "{told}");
    let end = |text: &str| told.find(text).expect("it is there");
    assert!(end("end two") < end("begin three"), "in order: {told}");
}

/// What makes no sense is refused before anything starts, and a port that is taken is named.
#[test]
fn refusals() {
    let cluster = Cluster::empty();
    let open = cluster.fails(2, &["agent", "--gossip", "0.0.0.0:0"]);
    assert!(open.contains("there is no key") && open.contains("--encrypt"), "{open}");
    let rpc = cluster.fails(2, &["agent", "--gossip", "127.0.0.1:0", "--rpc", "0.0.0.0:0"]);
    assert!(rpc.contains("the RPC door"), "{rpc}");
    cluster.write("short.key", "AAAA\n");
    let key = cluster.fails(2, &["agent", "--gossip", "127.0.0.1:0", "--encrypt", "short.key"]);
    assert!(key.contains("line 1: key size must be 16, 24 or 32 bytes"), "{key}");
    let tag = cluster.fails(2, &["agent", "--gossip", "127.0.0.1:0", "--tag", "role"]);
    assert!(tag.contains("`role` is not NAME=VALUE"), "{tag}");
    let handler = cluster.fails(2, &["agent", "--gossip", "127.0.0.1:0", "--event-handler", "joined=x"]);
    assert!(handler.contains("`joined` is no event"), "{handler}");
    let other = start("other", &[]);
    let taken = cluster.fails(1, &["agent", "--gossip", &door(&other, "gossip"), "--rpc", "off"]);
    assert!(taken.contains("cannot open gossip at") && taken.contains("--gossip off"), "{taken}");
}

/// The real `serf` command, against our agent: every one of its commands that speaks the RPC.
#[test]
fn the_serf_command() {
    if !has("serf") {
        return;
    }
    let mut agent = Cluster::empty();
    let script = handler(&agent);
    agent.write("gossip.key", &format!("{}\n", KEYS[0]));
    let words = ["agent", "--node", "a", "--gossip", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--encrypt", "gossip.key"];
    let more = ["--rpc-auth", "secret", "--tag", "role=web"];
    let query = format!("query=/bin/sh {}", script.display());
    agent.start(&[&words[..], &more[..], &["--event-handler", &query]].concat());
    let rpc = door(&agent, "rpc");
    let mut other = Cluster::empty();
    other.write("gossip.key", &format!("{}\n", KEYS[0]));
    other.start(&["agent", "--node", "b", "--gossip", "127.0.0.1:0", "--rpc", "off", "--encrypt", "gossip.key"]);
    let address = door(&other, "gossip");
    let command = |words: &[&str]| {
        let mut command = Command::new("serf");
        command.arg(words[0]).arg(format!("-rpc-addr={rpc}")).arg("-rpc-auth=secret").args(&words[1..]);
        command
    };
    let serf = |words: &[&str]| command(words).output().expect("serf runs");
    let ok = |words: &[&str]| {
        let output = serf(words);
        let said = both(&output);
        assert!(output.status.success(), "serf {words:?}: {said}");
        said
    };
    let wrong = Command::new("serf").args(["members", &format!("-rpc-addr={rpc}"), "-rpc-auth=no"]).output();
    assert!(both(&wrong.expect("serf runs")).contains("Invalid authentication token"));
    let none = Command::new("serf").args(["members", &format!("-rpc-addr={rpc}")]).output().expect("serf runs");
    assert!(both(&none).contains("Authentication required"));

    assert!(ok(&["join", &address]).contains("Successfully joined cluster by contacting 1 nodes"));
    let members = || ok(&["members"]);
    until("b is there", || members().lines().any(|line| line.starts_with('b') && line.contains("alive")).then_some(()));
    assert!(ok(&["members", "-detailed"]).contains("Protocol Version: 5"));
    let filtered = ok(&["members", "-status=alive", "-name=a", "-tag", "role=w.b"]);
    assert!(filtered.lines().count() == 1 && filtered.contains("role=web"), "{filtered}");
    assert_eq!(ok(&["members", "-tag", "role=we"]).trim(), "", "filters are anchored");
    assert!(ok(&["members", "-format=json"]).contains("\"members\""));
    ok(&["tags", "-set", "zone=1", "-delete", "role"]);
    until("the tags are told", || members().contains("zone=1").then_some(()));
    assert!(ok(&["event", "-coalesce=false", "deploy", "1"]).contains("dispatched"));
    let asked = ok(&["query", "-no-ack=false", "-node=a", "-timeout=2s", "load", "now"]);
    assert!(asked.contains("Ack from 'a'") && asked.contains("Response from 'a': answer of a"), "{asked}");
    assert!(ok(&["reachability"]).contains("Successfully contacted all live nodes"));
    until("a round trip is known", || serf(&["rtt", "a", "b"]).status.success().then_some(()));
    let info = ok(&["info"]);
    assert!(info.contains("encrypted = true") && info.contains("zone = 1"), "{info}");

    ok(&["keys", "-install", KEYS[1]]);
    ok(&["keys", "-use", KEYS[1]]);
    ok(&["keys", "-remove", KEYS[0]]);
    let keys = ok(&["keys", "-list"]);
    assert!(keys.contains(&format!("{}  [2/2]", KEYS[1])) && !keys.contains(KEYS[0]), "{keys}");
    for cluster in [&agent, &other] {
        until("the keys are in the file", || (cluster.read("gossip.key") == format!("{}\n", KEYS[1])).then_some(()));
    }
    assert!(both(&serf(&["keys", "-use", KEYS[2]])).contains("requested key is not in the keyring"));

    let shown = agent.path("monitor");
    let file = std::fs::File::create(&shown).expect("a file");
    let mut monitor = command(&["monitor", "-log-level=debug"]).stdout(file).spawn().expect("serf runs");
    until("the monitor shows an event and the log", || {
        // Until it has connected it misses what happens.
        ok(&["event", "-coalesce=false", "again", "x"]);
        let said = std::fs::read_to_string(&shown).expect("there");
        (said.contains("Name: \"again\"") && said.contains("[INFO] user event again")).then_some(())
    });
    let _ = monitor.kill();
    let _ = monitor.wait();

    other.kill_agent();
    until("b is failed", || {
        members().lines().any(|line| line.starts_with('b') && line.contains("failed")).then_some(())
    });
    ok(&["force-leave", "b"]);
    until("b has left", || members().lines().any(|line| line.starts_with('b') && line.contains("left")).then_some(()));
    assert!(ok(&["leave"]).contains("Graceful leave complete"));
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Python's `serfclient`, as it comes from PyPI, against our agent.
#[test]
fn python_serfclient() {
    let Some(mut client) = support::python::script("serfclient==1.2.0", "serf_rpc.py") else { return };
    let agent = start("a", &["--rpc-auth", "secret", "--tag", "role=web"]);
    let rpc = door(&agent, "rpc");
    let (host, port) = rpc.rsplit_once(':').expect("an address");
    let output = client.args([host, port, "secret", "a"]).output().expect("python runs");
    assert!(output.status.success(), "{}{}", both(&output), agent.log());
}

/// Line 1 of the issue, whole: three real `serf` agents and three of ours, in one encrypted cluster on six hosts. All
/// see all with their tags; each kind of event and query goes both ways; a leave, a SIGKILL and a return of either kind
/// are seen alike; keys are rotated by `serf keys`.
#[test]
fn six_hosts_with_serf() {
    if !has("serf") {
        return;
    }
    let hosts = match Hosts::make(6) {
        Ok(hosts) => hosts,
        Err(why) => return eprintln!("skipped: six_hosts_with_serf: no network namespaces: {why}"),
    };
    let mut ours: Vec<Cluster> = (1..=3).map(|_| Cluster::empty()).collect();
    let theirs = tempfile::tempdir().expect("a folder");
    let mut scripts: Vec<PathBuf> = ours.iter().map(handler).collect();
    let mut serfs: Vec<std::process::Child> = Vec::new();
    let start_ours = |cluster: &mut Cluster, host: u8| {
        cluster.write("gossip.key", &(KEYS[0].to_owned() + "\n"));
        let words = ["agent", "--node", &format!("n{host}"), "--encrypt", "gossip.key", "--tag", "role=web"];
        let bind = format!("{}:7946", Hosts::address(host));
        let handler = format!("/bin/sh {}", cluster.path("handler.sh").display());
        let more = ["--gossip", &bind, "--rpc", "127.0.0.1:7373", "--event-handler", &handler];
        cluster.start_on(&hosts, host, &[&words[..], &more[..], &["--join", "10.77.0.1,10.77.0.4"]].concat());
    };
    let start_serf = |host: u8| {
        let folder = theirs.path().join(format!("n{host}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let script = folder.join("handler.sh");
        std::fs::copy(&scripts[0], &script).expect("copied");
        let mut command = hosts.command(host, "serf");
        command.args(["agent", &format!("-node=n{host}"), &format!("-bind={}", Hosts::address(host)), "-profile=lan"]);
        command.args([&format!("-encrypt={}", KEYS[0]), "-tag", "role=db", "-retry-join=10.77.0.1"]);
        command.arg(format!("-event-handler=/bin/sh {}", script.display()));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("a log");
        command.stdout(log.try_clone().expect("a copy")).stderr(log).spawn().expect("serf starts")
    };
    for (cluster, host) in ours.iter_mut().zip(1..) {
        start_ours(cluster, host);
    }
    // Serf tries again only after 30 s.
    door(&ours[0], "gossip");
    serfs.extend((4..=6).map(start_serf));
    scripts.extend((4..=6).map(|host| theirs.path().join(format!("n{host}/handler.sh"))));
    let told = |host: u8| -> String {
        std::fs::read_to_string(scripts[usize::from(host) - 1].with_file_name("told")).unwrap_or_default()
    };
    // Every host is asked in the same way, by the `serf` command: ours answer as Serf's do.
    let serf = |host: u8, words: &[&str]| hosts.run(host, "serf", words);
    let sees = |host: u8, name: &str, status: &str| {
        let said = both(&serf(host, &["members"]));
        said.lines().any(|line| line.starts_with(&format!("{name} ")) && line.contains(status))
    };
    let all_see = |name: &str, status: &str, but: u8| {
        until(&format!("all see {name} as {status}"), || {
            (1..=6).filter(|host| *host != but).all(|host| sees(host, name, status)).then_some(())
        });
    };
    for host in 1..=6 {
        all_see(&format!("n{host}"), "alive", 0);
    }
    for host in 1..=6 {
        let members = both(&serf(host, &["members"]));
        let with = |role: &str| members.lines().filter(|line| line.contains(&format!("role={role}"))).count();
        assert_eq!((with("web"), with("db")), (3, 3), "n{host}: {members}");
    }

    // Events and queries, both ways.
    for from in [1, 4] {
        let payload = format!("from-n{from}");
        assert!(serf(from, &["event", "-coalesce=false", "deploy", &payload]).status.success());
        for host in 1..=6 {
            until("its handler has seen the event", || told(host).contains(&payload).then_some(()));
        }
        let answers = both(&serf(from, &["query", "-timeout=3s", "load", "now"]));
        for host in 1..=6 {
            assert!(answers.contains(&format!("Response from 'n{host}': answer of n{host}")), "n{from}: {answers}");
        }
        let some = both(&serf(from, &["query", "-timeout=1s", "-tag", "role=db", "load"]));
        assert!(some.contains("Total Responses: 3"), "{some}");
    }

    // Keys, rotated from either side.
    for (from, (old, new)) in [(1, (KEYS[0], KEYS[1])), (4, (KEYS[1], KEYS[2]))] {
        for words in [["keys", "-install", new], ["keys", "-use", new], ["keys", "-remove", old]] {
            let said = serf(from, &words);
            assert!(said.status.success(), "{words:?}: {}", both(&said));
        }
        let listed = both(&serf(from, &["keys", "-list"]));
        assert!(listed.contains(&format!("{new}  [6/6]")) && !listed.contains(old), "{listed}");
    }

    // A leave, a SIGKILL, and the return of one of each kind.
    assert!(serf(2, &["leave"]).status.success());
    assert!(serf(5, &["leave"]).status.success());
    for name in ["n2", "n5"] {
        let gone = if name == "n2" { 2 } else { 5 };
        until(&format!("all see that {name} has left"), || {
            (1..=6)
                .filter(|host| ![2, 5].contains(host) && *host != gone)
                .all(|host| sees(host, name, "left"))
                .then_some(())
        });
    }
    let _ = serfs[1].wait();
    ours[2].kill_agent();
    let sixth = &mut serfs[2];
    support::kill_group(&hosts, 6, "serf");
    let _ = sixth.wait();
    for name in ["n3", "n6"] {
        until(&format!("all see that {name} has failed"), || {
            [1, 4].into_iter().all(|host| sees(host, name, "failed")).then_some(())
        });
    }
    // What was seen of each is the same on both sides. Serf gathers its news for a while before it tells.
    for (kind, name) in [("leave", "n2"), ("leave", "n5"), ("failed", "n3"), ("failed", "n6")] {
        for host in [1, 4] {
            until(&format!("n{host} is told that {name}: {kind}"), || {
                let told = told(host);
                told.lines()
                    .any(|line| line.starts_with(&format!("member-{kind} ")) && line.contains(name))
                    .then_some(())
            });
        }
    }
    // The returned take their key from what they knew: ours from its file, Serf's from its flag.
    ours[1].ok(&["join", "10.77.0.1"]);
    let words = ["agent", "--node", "n3", "--encrypt", "gossip.key", "--tag", "role=web", "--gossip", "10.77.0.3:7946"];
    ours[2].start_on(&hosts, 3, &[&words[..], &["--rpc", "127.0.0.1:7373"]].concat());
    let back = |host: u8| {
        let folder = theirs.path().join(format!("n{host}"));
        let mut command = hosts.command(host, "serf");
        command.args(["agent", &format!("-node=n{host}"), &format!("-bind={}", Hosts::address(host))]);
        command.args([&format!("-encrypt={}", KEYS[2]), "-tag", "role=db", "-retry-join=10.77.0.1"]);
        let log = std::fs::File::create(folder.join("log2")).expect("a log");
        command.stdout(log.try_clone().expect("a copy")).stderr(log).spawn().expect("serf starts")
    };
    serfs.extend([5, 6].map(back));
    for host in [2, 3, 5, 6] {
        all_see(&format!("n{host}"), "alive", 0);
    }
    for serf in &mut serfs {
        let _ = serf.kill();
        let _ = serf.wait();
    }
}
