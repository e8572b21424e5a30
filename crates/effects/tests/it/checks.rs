//! Checks: what passes, how often, and that nothing is left of those that are not wanted any more.

use crate::bench::{Bench, WAIT_MAX, id, is_alive, process_of, until};
use regrow_model::duration::Span;
use regrow_model::plan::CheckTarget;
use regrow_model::spec::Check;
use regrow_model::{Name, Observation};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Longer than any test runs: a check with this interval runs once.
const NEVER: Span = Span::secs(3600);

fn check() -> Check {
    Check {
        http: None,
        tcp: false,
        script: Vec::new(),
        process: false,
        interval: NEVER,
        timeout: Span::secs(10),
        rise: 1,
        fall: 1,
    }
}

fn http(path: &str) -> Check {
    Check { http: Some(path.to_owned()), ..check() }
}

fn script(script: &str) -> Check {
    Check { script: ["sh", "-c", script].map(str::to_owned).to_vec(), ..check() }
}

fn target(instance: &str, port: u16, checks: Vec<Check>) -> CheckTarget {
    CheckTarget {
        service: Name::new("web").unwrap(),
        instance: id(instance),
        incarnation: 1,
        address: "127.0.0.1".to_owned(),
        port,
        starting: false,
        checks,
        directory: "/".to_owned(),
    }
}

/// The next result: instance, label, whether it passes, what it says.
async fn next(bench: &mut Bench) -> (String, String, bool, String) {
    match tokio::time::timeout(WAIT_MAX, bench.sees.recv()).await.expect("a result in time") {
        Some(Observation::Checked { instance, check, passing, output, .. }) => {
            (instance.to_string(), check, passing, output)
        }
        other => panic!("no result: {other:?}"),
    }
}

/// The first result of one check.
async fn once(check: Check, port: u16) -> (bool, String) {
    let mut bench = Bench::new();
    let label = check.label();
    bench.world().check(vec![target("web-0", port, vec![check])]);
    let (_, named, passing, output) = next(&mut bench).await;
    assert_eq!(named, label);
    (passing, output)
}

/// A server that gives the same answer to everybody, and counts them.
fn server(answer: &'static str) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (port, count)
}

/// A server that accepts and never answers.
fn silent() -> (u16, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap().port(), listener)
}

/// Shows what passes over HTTP, and what is said of that which does not.
#[tokio::test]
async fn http_checks() {
    let (good, _) = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let (bad, _) = server("HTTP/1.1 503 Service Unavailable\r\n\r\nno database\n");
    let (odd, _) = server("220 mail.example ESMTP\r\n");
    let (hangs, _listener) = silent();
    assert_eq!(once(http("/healthz"), good).await, (true, "200 OK".to_owned()));
    assert_eq!(once(http(&format!("http://127.0.0.1:{good}/x")), bad).await, (true, "200 OK".to_owned()));
    assert_eq!(once(http("/"), bad).await, (false, "503 Service Unavailable: no database".to_owned()));
    assert_eq!(once(http("/"), odd).await, (false, "no HTTP answer, but `220 mail.example ESMTP`".to_owned()));
    let slow = Check { timeout: Span::millis(100), ..http("/") };
    assert_eq!(once(slow, hangs).await, (false, format!("127.0.0.1:{hangs}: no answer within 100ms")));
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(once(http("/"), gone).await, (false, format!("127.0.0.1:{gone}: connection refused")));
    assert!(!once(http("/a b"), good).await.0, "what is no URL cannot pass");
}

/// Shows that an answer without end is not read to its end.
#[tokio::test]
async fn endless_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    assert_eq!(once(http("/"), port).await, (true, "200 OK".to_owned()));
}

/// Shows what passes over TCP.
#[tokio::test]
async fn tcp_checks() {
    let tcp = || Check { tcp: true, ..check() };
    let (listens, _listener) = silent();
    assert_eq!(once(tcp(), listens).await, (true, format!("127.0.0.1:{listens} accepts connections")));
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(once(tcp(), gone).await, (false, format!("127.0.0.1:{gone}: connection refused")));
}

/// Shows that a script knows whom it checks, and how its end is told.
#[tokio::test]
async fn script_checks() {
    assert_eq!(once(script("echo $ADDRESS $PORT $INSTANCE"), 4711).await, (true, "127.0.0.1 4711 web-0".to_owned()));
    assert_eq!(once(script("echo no >&2; exit 2"), 1).await, (false, "exited with code 2: no".to_owned()));
    assert_eq!(once(script("kill -9 $$"), 1).await, (false, "was ended by signal 9".to_owned()));
    let slow = Check { timeout: Span::millis(200), ..script("echo begun; sleep 1000") };
    let (passing, output) = once(slow, 1).await;
    assert!(!passing && output.contains("has not ended within 200ms and was killed; it said: begun"), "{output}");
    let missing = Check { script: vec!["no-such-program".to_owned()], ..check() };
    let (passing, output) = once(missing, 1).await;
    assert!(!passing && output.contains("there is no such program"), "{output}");
}

/// Shows that nothing of a script outlives its check, neither when it ends nor when it is not wanted any more.
#[tokio::test]
async fn scripts_leave_nothing() {
    let bench = Bench::new();
    let pid_file = |name: &str| bench.data().join(name);
    let pid_of = |name: &str| std::fs::read_to_string(pid_file(name)).ok()?.trim().parse::<u32>().ok();
    let ends = script(&format!("sleep 1000 & echo $! > {}", pid_file("ends").display()));
    let hangs = Check { timeout: NEVER, ..script(&format!("echo $$ > {}; sleep 1000", pid_file("hangs").display())) };
    bench.world().check(vec![target("web-0", 1, vec![ends, hangs])]);
    let hanging = until(|| pid_of("hangs").and_then(process_of), || "the script".to_owned()).await;
    let left = until(|| pid_of("ends"), || "the other".to_owned()).await;
    bench.world().check(Vec::new());
    until(|| (!is_alive(hanging)).then_some(()), || "its end".to_owned()).await;
    until(|| process_of(left).is_none_or(|left| !is_alive(left)).then_some(()), || "its end".to_owned()).await;
}

/// Shows that giving the same targets again changes nothing, that new ones are checked at once, and that a check whose
/// definition has changed begins anew.
#[tokio::test]
async fn unchanged_checks_keep_their_schedule() {
    let mut bench = Bench::new();
    let (port, count) = server("HTTP/1.1 200 OK\r\n\r\n");
    let (other, _) = server("HTTP/1.1 200 OK\r\n\r\n");
    bench.world().check(vec![target("web-0", port, vec![http("/")])]);
    assert_eq!(next(&mut bench).await.0, "web-0");
    for number in 1..50 {
        let newcomer = target(&format!("web-{number}"), other, vec![http("/")]);
        bench.world().check(vec![target("web-0", port, vec![http("/")]), newcomer]);
        assert_eq!(next(&mut bench).await.0, format!("web-{number}"));
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let changed = Check { timeout: Span::secs(5), ..http("/") };
    bench.world().check(vec![target("web-0", port, vec![changed])]);
    assert_eq!(next(&mut bench).await.0, "web-0");
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

/// Shows that a starting endpoint is checked again long before its interval, from the moment that it is said to be one.
#[tokio::test]
async fn starting_endpoints_are_checked_faster() {
    let mut bench = Bench::new();
    let (port, _) = server("HTTP/1.1 200 OK\r\n\r\n");
    let at = |starting| CheckTarget { starting, ..target("web-0", port, vec![http("/")]) };
    bench.world().check(vec![at(false)]);
    next(&mut bench).await;
    bench.world().check(vec![at(true)]);
    for _ in 0..5 {
        assert!(next(&mut bench).await.2);
    }
}

/// Shows that a check goes on, and that no descriptor is left behind by those that pass, fail or hang.
#[tokio::test]
async fn no_connection_is_left() {
    let mut bench = Bench::new();
    let (good, _) = server("HTTP/1.1 200 OK\r\n\r\n");
    let (hangs, _listener) = silent();
    let fast = |check| Check { interval: Span::millis(100), timeout: Span::millis(50), ..check };
    let targets = (0..10).flat_map(|number| {
        let instance = |offset| format!("web-{}", number + offset);
        [
            target(&instance(0), good, vec![fast(http("/"))]),
            target(&instance(100), hangs, vec![fast(http("/"))]),
            target(&instance(200), good, vec![fast(Check { tcp: true, ..check() })]),
        ]
    });
    bench.world().check(targets.collect());
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    for _ in 0..60 {
        next(&mut bench).await;
    }
    let before = open();
    for _ in 0..300 {
        next(&mut bench).await;
    }
    // At most one connection a check is open at any time, at either end.
    assert!(open() <= before + 60, "{} descriptors, {before} before", open());
}
