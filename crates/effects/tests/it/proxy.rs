//! A real HAProxy in front of a real backend, run as an instance.

use crate::bench::{Bench, id, process, skipped, until};
use regrow_model::action::Tell;
use regrow_model::observed::{Stage, WorldError, WorldErrorKind};
use regrow_model::process::ProcessId;
use regrow_model::spec::Probe;
use regrow_model::{Action, Digest, Name, Outcome};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

const HAPROXY: &str = "/usr/sbin/haproxy";

/// HAProxy as instance `proxy-0`, and servers that answer with their names.
struct Proxy {
    bench: Bench,
    port: u16,
    process: ProcessId,
}

impl Proxy {
    /// `None`, and a line that says so, where there is no HAProxy.
    async fn new(test: &str) -> Option<Proxy> {
        if !Path::new(HAPROXY).exists() {
            skipped(test, "haproxy is not installed (Debian package haproxy)");
            return None;
        }
        let bench = Bench::new();
        let port = free_port();
        let config = bench.data().join("haproxy.cfg");
        fs::write(&config, self::config(&bench, port, &[])).unwrap();
        let command = [HAPROXY, "-W", "-db", "-f", config.to_str().unwrap()];
        let process = bench.started("proxy-0", 1, process(&command)).await;
        Some(Proxy { bench, port, process })
    }

    fn socket(&self) -> String {
        self.bench.data().join("haproxy.sock").display().to_string()
    }

    fn write(&self, servers: &[u16]) {
        fs::write(self.bench.data().join("haproxy.cfg"), config(&self.bench, self.port, servers)).unwrap();
    }

    async fn load(&self, tell: Tell, probe: Option<Probe>) -> Outcome {
        self.load_of("haproxy", tell, probe).await
    }

    async fn load_of(&self, template: &str, tell: Tell, probe: Option<Probe>) -> Outcome {
        let load = Action::Load {
            template: Name::new(template).unwrap(),
            digest: Digest::of([b"x".as_slice()]),
            tell,
            probe,
            directory: "/".to_owned(),
        };
        self.bench.world().act(&load).await
    }

    fn reload(&self) -> Tell {
        Tell::Signal {
            instances: vec![(id("proxy-0"), 1)],
            signal: "USR2".to_owned(),
            haproxy_socket: Some(self.socket()),
        }
    }

    fn commands(&self, commands: &[String]) -> Tell {
        Tell::Haproxy { socket: self.socket(), commands: commands.to_vec() }
    }

    /// The status line that HAProxy answers with.
    fn get(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.lines().next()?.to_owned())
    }

    async fn answers(&self, status: &str) {
        until(|| self.get().filter(|line| line.contains(status)), || format!("{status}, not {:?}", self.get())).await;
    }

    fn worker(&self) -> Option<u32> {
        let mut socket = UnixStream::connect(self.socket()).ok()?;
        socket.write_all(b"show info\n").ok()?;
        let mut info = String::new();
        socket.read_to_string(&mut info).ok()?;
        info.lines().find_map(|line| line.strip_prefix("Pid: ")?.parse().ok())
    }
}

fn config(bench: &Bench, port: u16, servers: &[u16]) -> String {
    let socket = bench.data().join("haproxy.sock");
    let servers: String = servers.iter().map(|server| format!("  server s{server} 127.0.0.1:{server}\n")).collect();
    format!(
        "global\n  stats socket {} level admin expose-fd listeners\ndefaults\n  mode http\n  timeout connect 1s\n  \
         timeout client 5s\n  timeout server 5s\nfrontend f\n  bind 127.0.0.1:{port}\n  default_backend web\nbackend \
         web\n  balance roundrobin\n{servers}",
        socket.display()
    )
}

/// A port that was free a moment ago: HAProxy cannot say which one it took.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A backend that answers every request with 200, for as long as the test runs.
fn backend() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    });
    port
}

fn failed(outcome: Outcome) -> (Stage, WorldError) {
    match outcome {
        Outcome::Failed { stage: Some(stage), error } => (stage, error),
        other => panic!("not failed: {other:?}"),
    }
}

/// Shows that a reload is done when it is said to be: the very next request is served by the new worker.
#[tokio::test]
async fn reload_is_done_when_told() {
    let Some(proxy) = Proxy::new("reload_is_done_when_told").await else { return };
    let mut before = None;
    for _ in 0..3 {
        proxy.write(&[backend()]);
        let outcome = proxy.load(proxy.reload(), None).await;
        let Outcome::Loaded { how } = outcome else {
            panic!("{outcome:?}: {}", proxy.bench.printed("proxy-0", "").await)
        };
        let worker = proxy.worker();
        let pid = proxy.process.pid;
        assert_eq!(how, format!("signal USR2 to proxy-0 (pid {pid}, worker {} answers)", worker.unwrap()));
        assert_ne!(worker, before);
        assert_eq!(proxy.get().as_deref(), Some("HTTP/1.1 200 OK"));
        before = worker;
    }
    assert!(crate::bench::is_alive(proxy.process), "the master stays");
}

/// Shows that a reload that HAProxy refuses is told as failed, with the old worker still serving.
#[tokio::test]
async fn a_refused_reload_fails() {
    let Some(proxy) = Proxy::new("a_refused_reload_fails").await else { return };
    proxy.write(&[backend()]);
    proxy.load(proxy.reload(), None).await;
    let path = proxy.bench.data().join("haproxy.cfg");
    let broken = fs::read_to_string(&path).unwrap() + "  no-such-keyword\n";
    fs::write(&path, broken).unwrap();
    let (stage, error) = failed(proxy.load(proxy.reload(), None).await);
    assert_eq!((stage, error.kind), (Stage::Reload, WorldErrorKind::Refused));
    assert!(error.text.starts_with("the old worker (pid "), "{error}");
    assert_eq!(proxy.get().as_deref(), Some("HTTP/1.1 200 OK"));
}

/// Shows that servers come, change and go through the socket with no reload, and that every form of command that is
/// accepted is known to be.
#[tokio::test]
async fn commands_need_no_reload() {
    let Some(proxy) = Proxy::new("commands_need_no_reload").await else { return };
    proxy.answers("503").await;
    let worker = proxy.worker();
    let (one, two) = (backend(), backend());
    let add = [format!("add server web/a 127.0.0.1:{one}"), "enable server web/a".to_owned()];
    let Outcome::Loaded { how } = proxy.load(proxy.commands(&add), None).await else { panic!("not loaded") };
    assert_eq!(how, format!("2 commands through {}", proxy.socket()));
    assert_eq!(proxy.get().as_deref(), Some("HTTP/1.1 200 OK"));
    let change = [
        format!("set server web/a addr 127.0.0.1 port {two}"),
        format!("set server web/a addr 127.0.0.1 port {two}"),
        "set server web/a weight 5".to_owned(),
        "set weight web/a 10".to_owned(),
        "set server web/a state drain".to_owned(),
        "set server web/a state ready".to_owned(),
        format!("add server web/b 127.0.0.1:{one} check inter 1s"),
        "enable health web/b".to_owned(),
        "enable server web/b".to_owned(),
        "disable server web/b".to_owned(),
    ];
    assert!(matches!(proxy.load(proxy.commands(&change), None).await, Outcome::Loaded { .. }));
    assert_eq!(proxy.get().as_deref(), Some("HTTP/1.1 200 OK"));
    let delete = ["set server web/a state maint".to_owned(), "del server web/a".to_owned()];
    assert!(matches!(proxy.load(proxy.commands(&delete), None).await, Outcome::Loaded { .. }));
    assert!(proxy.get().unwrap().contains("503"));
    assert_eq!(proxy.worker(), worker);
}

/// Shows that each kind of refusal is one, named with the command and HAProxy's own words.
#[tokio::test]
async fn refused_commands_are_named() {
    let Some(proxy) = Proxy::new("refused_commands_are_named").await else { return };
    proxy.answers("503").await;
    let add = ["add server web/a 127.0.0.1:1".to_owned()];
    assert!(matches!(proxy.load(proxy.commands(&add), None).await, Outcome::Loaded { .. }));
    for (command, answer) in [
        ("add server web/a 127.0.0.1:1", "Already exists a server with the same name in backend."),
        ("add server nope/a 127.0.0.1:1", "No such backend."),
        ("add server web/b 127.0.0.1:1 bogus", "unknown keyword 'bogus'."),
        ("enable server web/nope", "No such server."),
        ("del server web/nope", "No such server."),
        ("set server web/a addr nohost", "Invalid addr 'nohost' by 'stats socket command'"),
        ("no-such-command", "Unknown command"),
    ] {
        let (stage, error) = failed(proxy.load(proxy.commands(&[command.to_owned()]), None).await);
        assert_eq!((stage, error.kind), (Stage::Reload, WorldErrorKind::Refused));
        let expect = format!("HAProxy at {} refused `{command}`: {answer}", proxy.socket());
        assert!(error.text.starts_with(&expect), "{error}");
    }
    let (_, error) = failed(proxy.load(proxy.commands(&["a\nb".to_owned()]), None).await);
    assert!(error.text.contains("more than one command"), "{error}");
}

/// Shows that a socket at which nobody is gives a reason at once.
#[tokio::test]
async fn nobody_at_the_socket() {
    let Some(proxy) = Proxy::new("nobody_at_the_socket").await else { return };
    let nowhere = PathBuf::from("/no/such.sock").display().to_string();
    let tell = Tell::Haproxy { socket: nowhere, commands: vec!["show info".to_owned()] };
    let (stage, error) = failed(proxy.load(tell, None).await);
    assert_eq!((stage, error.kind), (Stage::Reload, WorldErrorKind::NotFound));
    assert!(error.text.starts_with("cannot ask HAProxy at /no/such.sock: `show info`: no such file"), "{error}");
}

/// Shows that a probe is tried until it passes, and that its last answer is the error when it does not.
#[tokio::test]
async fn probes() {
    let Some(proxy) = Proxy::new("probes").await else { return };
    let probe = |within| Probe {
        http: Some(format!("http://127.0.0.1:{}/", proxy.port)),
        tcp: None,
        command: Vec::new(),
        within: regrow_model::duration::Span::millis(within),
    };
    proxy.answers("503").await;
    let (stage, error) = failed(proxy.load(Tell::Nobody, Some(probe(200))).await);
    assert_eq!(stage, Stage::Probe);
    let expect = format!("probe http://127.0.0.1:{}/ has not passed within 200ms; last answer: 503", proxy.port);
    assert!(error.text.starts_with(&expect), "{error}");
    // It begins to pass while it is tried: another template, as one is never loaded twice at a time.
    let add = [format!("add server web/a 127.0.0.1:{}", backend()), "enable server web/a".to_owned()];
    let (outcome, _) = tokio::join!(
        proxy.load(Tell::Nobody, Some(probe(20_000))),
        proxy.load_of("servers", proxy.commands(&add), None)
    );
    assert!(matches!(outcome, Outcome::Loaded { .. }), "{outcome:?}");
}
