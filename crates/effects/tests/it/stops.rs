//! Stops: polite first, sure in the end, and nothing is left.

use crate::bench::{Bench, id, is_alive, kill, process, process_of, sh, stop, until};
use regrow_model::observed::WorldErrorKind;
use regrow_model::process::ProcessId;
use regrow_model::{Observation, Outcome};
use std::time::Duration;

/// Longer than any test runs: a grace that must not be used up.
const LONG: Duration = Duration::from_secs(1000);
/// A grace that is used up.
const SHORT: Duration = Duration::from_millis(300);

/// Shows that a program which takes its time to stop gets it, and that its own exit code is told.
#[tokio::test]
async fn polite() {
    let bench = Bench::new();
    bench.started("web-0", 1, sh("trap 'sleep 0.2; exit 3' TERM; echo up; while :; do sleep 0.05; done")).await;
    bench.printed("web-0", "up").await;
    let Outcome::Stopped { exit } = bench.stop("web-0", 1, LONG).await else { panic!("not stopped") };
    assert_eq!(exit.code, Some(3));
}

/// Shows that a program which ignores the signal is killed when the grace is over, with all that it started.
#[tokio::test]
async fn sure() {
    let bench = Bench::new();
    let script = "trap '' TERM; (while :; do sleep 1; done) & echo $!; wait; while :; do sleep 1; done";
    let started = bench.started("web-0", 1, sh(script)).await;
    let child = printed_pid(&bench).await;
    let Outcome::Stopped { exit } = bench.stop("web-0", 1, SHORT).await else { panic!("not stopped") };
    assert_eq!(exit.signal, Some(9));
    assert!(!is_alive(started) && !is_alive(child));
}

/// Shows that the signal is the one asked for, and goes to the whole group.
#[tokio::test]
async fn signal_by_name() {
    let bench = Bench::new();
    bench.started("web-0", 1, sh("trap 'exit 4' USR1; echo up; while :; do sleep 0.05; done")).await;
    bench.printed("web-0", "up").await;
    let Outcome::Stopped { exit } = bench.world().act(&stop("web-0", 1, "USR1", LONG)).await else { panic!() };
    assert_eq!(exit.code, Some(4));
    let Outcome::Failed { error, .. } = bench.world().act(&stop("web-0", 1, "PLEASE", LONG)).await else { panic!() };
    assert_eq!(error.kind, WorldErrorKind::NotFound);
}

/// Shows that what outlives the group's first process in a stop gets the rest of the grace, and is waited for.
#[tokio::test]
async fn leftovers_of_a_stop_have_the_grace_too() {
    let bench = Bench::new();
    let script = "(trap 'sleep 0.3; echo bye; exit' TERM; echo $(exec sh -c 'echo $PPID'); while :; do sleep 0.05; done) & exec sleep 1000";
    bench.started("web-0", 1, sh(script)).await;
    let child = printed_pid(&bench).await;
    let Outcome::Stopped { exit } = bench.stop("web-0", 1, LONG).await else { panic!("not stopped") };
    assert_eq!(exit.signal, Some(15));
    assert!(!is_alive(child));
    bench.printed("web-0", "bye").await;
}

/// Shows that the grace of what outlives the first process ends as well, and that a clock which was set back does not
/// make it longer.
#[tokio::test]
async fn leftovers_of_a_stop_have_no_more_than_the_grace() {
    let bench = Bench::new();
    let script = "(trap '' TERM; echo $(exec sh -c 'echo $PPID'); while :; do sleep 0.05; done) & exec sleep 1000";
    bench.started("web-0", 1, sh(script)).await;
    let child = printed_pid(&bench).await;
    let file = bench.data().join("instances/web-0/stop.json");
    let stopped = async {
        let Outcome::Stopped { exit } = bench.stop("web-0", 1, SHORT).await else { panic!("not stopped") };
        exit
    };
    let clock = async {
        until(|| file.exists().then_some(()), || "the stop".to_owned()).await;
        std::fs::write(&file, r#"{"incarnation":1,"polite_until":99999999999999}"#).unwrap();
    };
    let (exit, ()) = tokio::join!(stopped, clock);
    assert_eq!(exit.signal, Some(15));
    assert!(!is_alive(child));
}

/// Shows that what outlives a process that died by itself is gone before its slot is used again, even what left the
/// group and the session.
#[tokio::test]
async fn leftovers_of_a_death_are_killed() {
    let mut bench = Bench::new();
    let script = "setsid sh -c 'trap \"\" TERM HUP; echo $$; exec sleep 1000' & sleep 1000 & wait";
    let started = bench.started("web-0", 1, sh(script)).await;
    let escaped = printed_pid(&bench).await;
    assert_ne!(crate::bench::session(escaped.pid), crate::bench::session(started.pid), "it has left the session");
    kill(started, "KILL");
    bench.exited().await;
    bench.started("web-0", 2, process(&["sleep", "1000"])).await;
    assert!(!is_alive(escaped));
}

/// Shows that a process that multiplies is stopped whole.
#[tokio::test]
async fn many_children() {
    let bench = Bench::new();
    // Bounded: three generations of five.
    let script = "f() { trap '' TERM; [ $1 -gt 0 ] && for i in 1 2 3 4 5; do f $(($1 - 1)) & done; sleep 1000; wait; }; f 3 & \
                  echo up; wait";
    let started = bench.started("web-0", 1, sh(script)).await;
    bench.printed("web-0", "up").await;
    let session = crate::bench::session(started.pid).unwrap();
    let members = || members(session).len();
    until(|| (members() > 100).then_some(()), || format!("many children, there are {}", members())).await;
    bench.stop("web-0", 1, Duration::ZERO).await;
    assert_eq!(members(), 0);
}

/// Shows that a stop which is done twice, or of a life that never was, finds it gone; and that none of this is told as
/// an end that nobody asked for.
#[tokio::test]
async fn stop_again_finds_it_gone() {
    let mut bench = Bench::new();
    bench.started("web-0", 1, process(&["sleep", "1000"])).await;
    let first = bench.stop("web-0", 1, LONG).await;
    assert_eq!(bench.stop("web-0", 1, LONG).await, first);
    let Outcome::Stopped { exit } = bench.stop("web-9", 7, LONG).await else { panic!("not stopped") };
    assert_eq!((exit.code, exit.signal), (None, None));
    // Whatever was told came before this.
    bench.started("web-1", 1, sh("exit 0")).await;
    assert!(matches!(bench.sees.recv().await, Some(Observation::Exited { instance, .. }) if instance == id("web-1")));
}

/// Shows that a stop by the next agent, which has not adopted it, works as well.
#[tokio::test]
async fn stop_after_the_agent_is_replaced() {
    let mut bench = Bench::new();
    let started = bench.started("web-0", 1, process(&["sleep", "1000"])).await;
    bench.reopen();
    let Outcome::Stopped { exit } = bench.stop("web-0", 1, LONG).await else { panic!("not stopped") };
    assert_eq!(exit.signal, Some(15));
    assert!(!is_alive(started));
}

/// Shows that a process which is stopped (SIGSTOP) still ends, by SIGKILL.
#[tokio::test]
async fn paused() {
    let bench = Bench::new();
    let started = bench.started("web-0", 1, process(&["sleep", "1000"])).await;
    kill(started, "STOP");
    // Of two signals that wait, the kernel delivers SIGTERM first.
    let stopped = || (crate::bench::state(started.pid)? == "T").then_some(());
    crate::bench::until(stopped, || "it does not stop".to_owned()).await;
    let Outcome::Stopped { exit } = bench.stop("web-0", 1, SHORT).await else { panic!("not stopped") };
    assert_eq!(exit.signal, Some(9));
}

/// Shows that an instance does not inherit that its agent ignores a signal, as it does behind `nohup`.
#[tokio::test]
async fn ignored_signals_are_not_inherited() {
    let mut bench = Bench::new();
    let started = bench.started_by_agent("trap '' INT QUIT HUP; exec", "web-0", 1, &process(&["sleep", "1000"]));
    let status = std::fs::read_to_string(format!("/proc/{}/status", started.pid)).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    // The first 31 are the signals that have names.
    assert_eq!(ignored & ((1 << 31) - 1), 0, "{ignored:x}");
}

/// The pid that the instance has printed.
async fn printed_pid(bench: &Bench) -> ProcessId {
    let all = bench.printed("web-0", r#""stdout""#).await;
    let line = all.lines().find(|line| line.contains(r#""stdout""#)).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    process_of(line["line"].as_str().unwrap().parse().expect("a pid")).expect("a process")
}

/// Living processes of a session.
fn members(session: u32) -> Vec<u32> {
    let pids =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| crate::bench::session(*pid) == Some(session))
        .filter(|pid| process_of(*pid).is_some_and(is_alive))
        .filter(|pid| *pid != session)
        .collect()
}
