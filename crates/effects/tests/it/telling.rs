//! Telling by signal and by command, and programs that do not end as they should.

use crate::bench::{Bench, id, is_alive, process, process_of, sh, until};
use regrow_model::action::Tell;
use regrow_model::observed::{Stage, WorldError, WorldErrorKind};
use regrow_model::{Action, Digest, Name, Outcome, limits};
use std::path::Path;
use std::time::Duration;

async fn load(bench: &Bench, tell: Tell) -> Outcome {
    let load = Action::Load {
        template: Name::new("site").unwrap(),
        digest: Digest::of([b"x".as_slice()]),
        tell,
        probe: None,
        directory: bench.data().display().to_string(),
    };
    bench.world().act(&load).await
}

fn signal(instance: &str, incarnation: u64, signal: &str) -> Tell {
    Tell::Signal { instances: vec![(id(instance), incarnation)], signal: signal.to_owned(), haproxy_socket: None }
}

fn command(script: &str, timeout: Duration) -> Tell {
    Tell::Command { command: ["sh", "-c", script].map(str::to_owned).to_vec(), timeout }
}

fn failed(outcome: Outcome) -> WorldError {
    match outcome {
        Outcome::Failed { stage: Some(Stage::Reload), error } => error,
        other => panic!("not failed: {other:?}"),
    }
}

/// Shows that the signal comes through, also to a program that is still on its way to its handler.
#[tokio::test]
async fn signal_waits_for_the_handler() {
    let bench = Bench::new();
    let started =
        bench.started("web-0", 1, sh("sleep 0.3; trap 'echo reloaded' HUP; while :; do sleep 0.05; done")).await;
    let Outcome::Loaded { how } = load(&bench, signal("web-0", 1, "HUP")).await else { panic!("not loaded") };
    assert_eq!(how, format!("signal HUP to web-0 (pid {})", started.pid));
    bench.printed("web-0", "reloaded").await;
    assert!(is_alive(started));
}

/// Shows that a program is not killed by a signal that it does not know.
#[tokio::test]
async fn a_signal_that_would_kill_is_not_sent() {
    let bench = Bench::new();
    let started = bench.started("web-0", 1, process(&["sleep", "1000"])).await;
    let error = failed(load(&bench, signal("web-0", 1, "HUP")).await);
    assert_eq!(error.kind, WorldErrorKind::Refused);
    let expect =
        format!("cannot send SIGHUP to web-0 (pid {}): it has no handler for it and would be killed", started.pid);
    assert!(error.text.starts_with(&expect), "{error}");
    assert!(is_alive(started));
}

/// Shows that a program which blocks the signal and asks for it in its own way is told as well, and that one which
/// ignores it is not said to be.
#[tokio::test]
async fn blocked_and_ignored_signals() {
    let bench = Bench::new();
    let waits = "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])\n\
                 while signal.SIGHUP not in signal.sigpending(): time.sleep(0.01)\n\
                 print('reloaded', flush=True)\nsignal.pause()";
    bench.started("web-0", 1, process(&["/usr/bin/python3", "-c", waits])).await;
    let outcome = load(&bench, signal("web-0", 1, "HUP")).await;
    assert!(matches!(outcome, Outcome::Loaded { .. }), "{outcome:?}");
    bench.printed("web-0", "reloaded").await;
    bench.started("web-1", 1, sh("trap '' HUP; exec sleep 1000")).await;
    let error = failed(load(&bench, signal("web-1", 1, "HUP")).await);
    assert!(error.kind == WorldErrorKind::Refused && error.text.contains("it ignores it"), "{error}");
}

/// Shows that another life than the one named is never signalled.
#[tokio::test]
async fn only_the_life_that_is_meant() {
    let bench = Bench::new();
    bench.started("web-0", 2, sh("trap 'echo reloaded' HUP; while :; do sleep 0.05; done")).await;
    let error = failed(load(&bench, signal("web-0", 1, "HUP")).await);
    assert_eq!(
        (error.kind, error.text.as_str()),
        (WorldErrorKind::NotFound, "cannot signal web-0: incarnation 1 is not running here")
    );
}

/// Shows that a command runs in its folder with nothing of the agent's environment but three names.
#[tokio::test]
async fn command_has_a_clean_environment() {
    let bench = Bench::new();
    let script = "env | cut -d= -f1 | sort > names; pwd > folder";
    assert!(matches!(load(&bench, command(script, Duration::from_secs(10))).await, Outcome::Loaded { .. }));
    let read = |name: &str| std::fs::read_to_string(bench.data().join(name)).unwrap();
    let extra: Vec<String> = read("names")
        .lines()
        .filter(|name| !["PATH", "HOME", "LANG", "PWD", "_", "OLDPWD", "SHLVL"].contains(name))
        .map(str::to_owned)
        .collect();
    assert_eq!(extra, Vec::<String>::new());
    assert_eq!(Path::new(read("folder").trim()), bench.data().canonicalize().unwrap());
}

/// Shows that a failing command is told with its code and what it said on both outputs.
#[tokio::test]
async fn command_that_fails() {
    let bench = Bench::new();
    let error = failed(load(&bench, command("echo one; echo two >&2; exit 5", Duration::from_secs(10))).await);
    assert_eq!(error.kind, WorldErrorKind::Refused);
    assert!(error.text.ends_with("exited with code 5: one\ntwo"), "{error}");
    let missing = Tell::Command { command: vec!["no-such-program".to_owned()], timeout: Duration::from_secs(1) };
    assert_eq!(failed(load(&bench, missing).await).kind, WorldErrorKind::NotFound);
}

/// Shows that a command which takes too long is killed with all that it started.
#[tokio::test]
async fn command_that_hangs() {
    let bench = Bench::new();
    let script = "sleep 1000 & echo $! > child; echo waiting; wait";
    let error = failed(load(&bench, command(script, Duration::from_millis(500))).await);
    assert_eq!(error.kind, WorldErrorKind::Timeout);
    assert!(error.text.ends_with("has not ended within 500ms and was killed; it said: waiting"), "{error}");
    let child: u32 = std::fs::read_to_string(bench.data().join("child")).unwrap().trim().parse().unwrap();
    until(|| process_of(child).is_none_or(|child| !is_alive(child)).then_some(()), || "its end".to_owned()).await;
}

/// Shows that output without end neither fills memory nor blocks the command, and that both its ends are kept.
#[tokio::test]
async fn command_that_floods() {
    let bench = Bench::new();
    let script = "echo first; head -c 20000000 /dev/zero | tr '\\0' x; echo; echo last; exit 1";
    let error = failed(load(&bench, command(script, Duration::from_secs(60))).await);
    assert!(error.text.len() <= limits::OUTPUT_BYTES_MAX);
    assert!(error.text.contains("first\nxxx") && error.text.ends_with("xxx\nlast"), "{error}");
}

/// Shows that what a reload command starts in the background lives on, and does not hold the reload up.
#[tokio::test]
async fn command_that_starts_something() {
    let bench = Bench::new();
    let script = "sleep 1000 & echo $! > child";
    assert!(matches!(load(&bench, command(script, Duration::from_secs(60))).await, Outcome::Loaded { .. }));
    let child: u32 = std::fs::read_to_string(bench.data().join("child")).unwrap().trim().parse().unwrap();
    let child = process_of(child).expect("a process");
    assert!(is_alive(child));
    crate::bench::kill(child, "KILL");
}
