//! Starts that cannot be: each is refused at once, by name, and leaves nothing behind.

use crate::bench::{Bench, id, process, sh};
use regrow_model::observed::WorldErrorKind;
use regrow_model::process::Process;
use regrow_model::spec::Limits;
use regrow_model::{Action, Outcome};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Starts `process`, which must be refused with `kind` and `text`.
async fn check(process: Process, kind: WorldErrorKind, text: &str) {
    let bench = Bench::new();
    match bench.start("web-0", 1, process).await {
        Outcome::Failed { stage: None, error } => {
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.text.starts_with("cannot start web-0: ") && error.text.contains(text), "{error}");
        }
        other => panic!("not refused: {other:?}"),
    }
    assert!(matches!(bench.stop("web-0", 1, Duration::ZERO).await, Outcome::Stopped { .. }), "nothing is there");
    bench.started("web-0", 2, process_that_runs()).await;
}

fn process_that_runs() -> Process {
    process(&["sleep", "1000"])
}

/// Shows that a missing program is named, with where it was looked for.
#[tokio::test]
async fn missing_program() {
    check(
        process(&["no-such-program"]),
        WorldErrorKind::NotFound,
        "there is no program `no-such-program` in PATH: install it",
    )
    .await;
    check(process(&["/no/such"]), WorldErrorKind::NotFound, "there is no program /no/such").await;
    check(process(&[]), WorldErrorKind::NotFound, "its command is empty").await;
}

/// Shows that a script whose interpreter is missing is not told to be missing itself.
#[tokio::test]
async fn missing_interpreter() {
    let folder = tempfile::tempdir().unwrap();
    let script = file(folder.path(), "#!/no/such/interpreter\n", 0o755);
    check(process(&[&script]), WorldErrorKind::NotFound, "the interpreter that its first line names").await;
}

/// Shows that a file which may not be run is named as such.
#[tokio::test]
async fn not_executable() {
    let folder = tempfile::tempdir().unwrap();
    let script = file(folder.path(), "#!/bin/sh\n", 0o644);
    check(process(&[&script]), WorldErrorKind::Permission, "not allowed to run ").await;
}

/// Shows that a wrong working directory is not taken for a missing program.
#[tokio::test]
async fn wrong_directory() {
    let wrong = Process { directory: "/no/such/folder".to_owned(), ..process_that_runs() };
    check(wrong, WorldErrorKind::NotFound, "cannot enter its working directory /no/such/folder: no such file").await;
}

/// Shows that an unknown user is named.
#[tokio::test]
async fn unknown_user() {
    let wrong = Process { user: Some("nobody-here".to_owned()), ..process_that_runs() };
    check(wrong, WorldErrorKind::NotFound, "there is no user `nobody-here`").await;
}

/// Shows that limits which the machine does not grant are named.
#[tokio::test]
async fn impossible_limit() {
    let limits = Limits { open_files: Some(u64::MAX / 2), ..Limits::default() };
    let wrong = Process { limits, ..process_that_runs() };
    check(wrong, WorldErrorKind::Permission, "cannot set its limit open_files to 9223372036854775807").await;
}

/// Shows that a taken port is refused with its holder, and that nothing is started then; that the same life found
/// again is not disturbed by the port that it has itself.
#[tokio::test]
async fn port_in_use() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let start = |process| Action::Start {
        instance: id("web-0"),
        incarnation: 1,
        process: Box::new(process),
        listen: Some(("127.0.0.1".to_owned(), port)),
    };
    let Outcome::Failed { error, .. } = bench.world().act(&start(process_that_runs())).await else { panic!("started") };
    assert_eq!(error.kind, WorldErrorKind::PortInUse);
    let holder = format!("port {port} of 127.0.0.1 is taken by pid {} (", std::process::id());
    assert!(error.text.contains(&holder), "{error}");
    assert!(!bench.data().join("instances/web-0").exists());

    drop(listener);
    let serve =
        format!("import socket\ns = socket.create_server(('127.0.0.1', {port}))\nprint('up', flush=True)\ns.accept()");
    let serve = process(&["/usr/bin/python3", "-c", &serve]);
    let Outcome::Started { process, adopted: false } = bench.world().act(&start(serve.clone())).await else {
        panic!("not started")
    };
    bench.printed("web-0", "up").await;
    assert_eq!(bench.world().act(&start(serve)).await, Outcome::Started { process, adopted: true });
}

/// Shows that a younger life is never replaced by an older one, and an older one always by a younger.
#[tokio::test]
async fn lives_go_one_way() {
    let bench = Bench::new();
    let younger = bench.started("web-0", 5, process_that_runs()).await;
    let Outcome::Failed { error, .. } = bench.start("web-0", 4, process_that_runs()).await else { panic!("started") };
    let text = format!("cannot start web-0 incarnation 4: the younger incarnation 5 runs as pid {}", younger.pid);
    assert_eq!((error.kind, error.text), (WorldErrorKind::Refused, text));
    assert!(crate::bench::is_alive(younger));
    bench.started("web-0", 6, sh("exec sleep 1000")).await;
    assert!(!crate::bench::is_alive(younger));
}

/// Shows that two agents never share a data folder.
#[tokio::test]
async fn one_agent_a_folder() {
    let bench = Bench::new();
    let (seen, _sees) = tokio::sync::mpsc::channel(1);
    let refused = regrow_effects::World::open(&bench.data(), crate::bench::shim(), seen).unwrap_err();
    assert_eq!(refused.kind, WorldErrorKind::Refused);
    assert!(refused.text.starts_with("another agent has the data folder"), "{refused}");
}

fn file(folder: &Path, text: &str, mode: u32) -> String {
    let path = folder.join("script");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}
