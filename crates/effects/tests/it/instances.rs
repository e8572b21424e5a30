//! Instances: they start, outlive the agent, are found again, end, and are stopped.

use crate::bench::{Bench, id, is_alive, kill, process, process_of, session, sh, shim_of, skipped, until};
use regrow_model::Outcome;
use regrow_model::process::Process;
use regrow_model::spec::Limits;
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(10);

/// Shows the whole life: it starts in a session of its own, leads its group, its output is kept, and a stop ends it,
/// its shim, and tells how.
#[tokio::test]
async fn a_life() {
    let bench = Bench::new();
    let started = bench.started("web-0", 1, sh("echo hello; echo oh >&2; exec sleep 1000")).await;
    assert!(is_alive(started));
    let shim = shim_of(&bench.data(), "web-0");
    assert_eq!(session(started.pid), Some(shim.pid));
    assert_ne!(session(started.pid), session(std::process::id()));
    let printed = bench.printed("web-0", r#""stream":"stderr","line":"oh"}"#).await;
    assert!(printed.contains(r#""stream":"stdout","line":"hello"}"#), "{printed}");
    let Outcome::Stopped { exit } = bench.stop("web-0", 1, GRACE).await else { panic!("not stopped") };
    assert_eq!((exit.code, exit.signal, exit.tail.as_str()), (None, Some(15), "oh"));
    assert!(!is_alive(started) && !is_alive(shim));
}

/// Shows that a start whose outcome was lost is done again without a second process.
#[tokio::test]
async fn start_again_finds_it() {
    let bench = Bench::new();
    let first = bench.started("web-0", 3, process(&["sleep", "1000"])).await;
    let again = bench.start("web-0", 3, process(&["sleep", "1000"])).await;
    assert_eq!(again, Outcome::Started { process: first, adopted: true });
    bench.stop("web-0", 3, GRACE).await;
}

/// Shows that an end is seen with its code and the last words on standard error.
#[tokio::test]
async fn an_end_is_seen() {
    let mut bench = Bench::new();
    bench.started("web-0", 1, sh("echo one; echo two >&2; echo three >&2; exit 7")).await;
    let (instance, incarnation, exit) = bench.exited().await;
    assert_eq!((instance, incarnation), (id("web-0"), 1));
    assert_eq!((exit.code, exit.signal, exit.tail.as_str()), (Some(7), None, "two\nthree"));
}

/// Shows that a kill is seen with its signal.
#[tokio::test]
async fn a_kill_is_seen() {
    let mut bench = Bench::new();
    let started = bench.started("web-0", 1, process(&["sleep", "1000"])).await;
    kill(started, "KILL");
    let (_, _, exit) = bench.exited().await;
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
}

/// Shows that instances go on with the same pid when the agent is killed, and that the next agent finds, watches and
/// stops them; and how those ended that did so meanwhile.
#[tokio::test]
async fn instances_outlive_the_agent() {
    let mut bench = Bench::new();
    let scripts = [("web-0", "exec sleep 1000"), ("web-1", "sleep 0.2; exit 9")];
    let started = scripts.map(|(instance, script)| bench.started_by_agent("exec", instance, 4, &sh(script)));
    until(|| (!is_alive(started[1])).then_some(()), || "the end of web-1".to_owned()).await;
    until(|| bench.data().join("instances/web-1/exit.json").exists().then_some(()), || "its note".to_owned()).await;
    bench.reopen();
    let found = bench.world().adopt().await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((found[0].instance.clone(), found[0].incarnation), (id("web-0"), 4));
    assert_eq!((found[0].process, found[0].exit.clone()), (Some(started[0]), None));
    assert_eq!((found[1].process, found[1].exit.as_ref().unwrap().code), (None, Some(9)));
    assert!(is_alive(started[0]));
    kill(started[0], "INT");
    let (instance, incarnation, exit) = bench.exited().await;
    assert_eq!((instance, incarnation, exit.signal), (id("web-0"), 4, Some(2)));
}

/// Shows that without its shim an instance is not lost track of: the kernel ends it, what it started goes too, and its
/// end is seen.
#[tokio::test]
async fn a_killed_shim_takes_its_instance_along() {
    let mut bench = Bench::new();
    let started = bench.started("web-0", 1, sh("sleep 1000 & echo $!; wait")).await;
    let printed = bench.printed("web-0", r#""stdout""#).await;
    let line = printed.lines().find(|line| line.contains(r#""stdout""#)).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let child = process_of(line["line"].as_str().unwrap().parse().unwrap()).unwrap();
    kill(shim_of(&bench.data(), "web-0"), "KILL");
    bench.exited().await;
    assert!(!is_alive(started));
    until(|| (!is_alive(child)).then_some(()), || "the child's end".to_owned()).await;
    bench.started("web-0", 2, process(&["sleep", "1000"])).await;
    bench.stop("web-0", 2, GRACE).await;
}

/// Shows that an instance has the user with all its groups, the folder, the limits and the environment that it is to
/// have, and nothing else of the agent's.
#[tokio::test]
async fn surroundings() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("surroundings", "only root can start an instance as another user");
    }
    let mut bench = Bench::new();
    let limits = Limits { open_files: Some(77), memory_mib: Some(512), file_size_mib: Some(1), ..Limits::default() };
    let script = "id -un; id -Gn; pwd; ulimit -n; ulimit -v; ulimit -f; echo $NAME; echo $HOME; \
                  env | cut -d= -f1 | grep -vx 'PATH\\|HOME\\|LANG\\|NAME\\|PWD\\|SHLVL\\|_'; readlink /proc/self/fd/0; echo end";
    let instance = Process {
        user: Some("nobody".to_owned()),
        directory: "/usr".to_owned(),
        environment: [("NAME".to_owned(), "value of it".to_owned())].into(),
        limits,
        ..sh(script)
    };
    bench.started("web-0", 1, instance).await;
    bench.exited().await;
    let all = bench.printed("web-0", "\"end\"").await;
    let printed: Vec<String> = all
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["stream"] != "regrow")
        .map(|line| line["line"].as_str().unwrap().to_owned())
        .collect();
    // `ulimit` counts memory in KiB and files in blocks of 512 bytes.
    let expect =
        ["nobody", "nogroup", "/usr", "77", "524288", "2048", "value of it", "/nonexistent", "/dev/null", "end"];
    assert_eq!(printed, expect);
}

/// Shows that an instance that has ended while no agent was there, without a note, as behind a power cut, is found as
/// gone; and that pids of another boot are nobody's.
#[tokio::test]
async fn after_a_power_cut() {
    let mut bench = Bench::new();
    let started = bench.started("web-0", 1, process(&["sleep", "1000"])).await;
    let path = bench.data().join("instances/web-0/state.json");
    let state = std::fs::read_to_string(&path).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(state.contains(boot.trim()));
    bench.stop("web-0", 1, GRACE).await;
    std::fs::remove_file(bench.data().join("instances/web-0/exit.json")).unwrap();
    // As if the pids were given out again the same way: those of this very test.
    let own = process_of(std::process::id()).unwrap();
    let other = state
        .replace(boot.trim(), "another-boot")
        .replace(&started.pid.to_string(), &own.pid.to_string())
        .replace(&started.start_ticks.to_string(), &own.start_ticks.to_string());
    std::fs::write(&path, other).unwrap();
    bench.reopen();
    let found = bench.world().adopt().await;
    assert_eq!((found.len(), found[0].process), (1, None));
    let exit = found[0].exit.as_ref().unwrap();
    assert_eq!((exit.code, exit.signal), (None, None));
    bench.started("web-0", 2, process(&["sleep", "1000"])).await;
}

/// Shows that many instances start, die and are stopped side by side.
#[tokio::test]
async fn side_by_side() {
    let mut bench = Bench::new();
    let name = |number: usize| format!("web-{number}");
    let world = bench.world().clone();
    let starts: Vec<_> = (0..30)
        .map(|number| {
            let (world, start) = (world.clone(), crate::bench::start(&name(number), 1, process(&["sleep", "1000"])));
            tokio::spawn(async move { world.act(&start).await })
        })
        .collect();
    let mut started = Vec::new();
    for start in starts {
        let Outcome::Started { process, adopted: false } = start.await.unwrap() else { panic!("not started") };
        started.push(process);
    }
    started.iter().step_by(2).for_each(|process| kill(*process, "KILL"));
    let mut ended = Vec::new();
    for _ in started.iter().step_by(2) {
        ended.push(bench.exited().await.0.slot);
    }
    ended.sort_unstable();
    assert_eq!(ended, (0..30).step_by(2).collect::<Vec<_>>());
    for number in (1..30).step_by(2) {
        assert!(matches!(bench.stop(&name(number), 1, GRACE).await, Outcome::Stopped { .. }));
    }
    assert!(!started.into_iter().any(is_alive));
}
