//! Runs: how they end, what they leave, what they are given and what they tell.

use base64::Engine;
use regrow_control::features::job::policy::{End, Halt};
use regrow_effects::run::Runs;
use regrow_model::Name;
use regrow_model::run::{HostOutcome, Line, Order, Run, RunEvent, State, StepState, Stream};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

/// A worker's place, and what its runs are given.
struct Place {
    folder: TempDir,
    runs: Runs,
    secrets: BTreeMap<String, String>,
    done: BTreeSet<Name>,
    halt: watch::Sender<Halt>,
    beat: watch::Sender<Instant>,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let program = env!("CARGO_BIN_EXE_regrow-effects-test").into();
        Place {
            runs: Runs::open(folder.path().join("runs"), program).expect("a folder"),
            folder,
            secrets: BTreeMap::new(),
            done: BTreeSet::new(),
            halt: watch::channel(Halt::No).0,
            beat: watch::channel(Instant::now()).0,
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn run_of(&self, order: Value) -> Run {
        let mut all = json!({
            "job": "test", "by": "test", "root": self.folder.path(), "priority": 5, "timeout": "60s", "grace": "10s",
            "retention": "60s", "retry": {}, "on_loss": "fail", "output_mib": 1, "memory_mib": 4096,
        });
        all.as_object_mut().expect("a map").extend(order.as_object().expect("a map").clone());
        let order: Order = serde_json::from_value(all).expect("an order");
        let run = json!({
            "id": "0000000000000001", "order": order, "state": "running", "due": 0, "attempt": 1, "submitted": 0,
        });
        serde_json::from_value(run).expect("a run")
    }

    /// Beats, as a worker with a lease does, for as long as what it gives lives.
    fn beats(&self) -> tokio::task::JoinSet<()> {
        let beat = self.beat.clone();
        let mut beating = tokio::task::JoinSet::new();
        beating.spawn(async move {
            loop {
                beat.send_replace(Instant::now());
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        beating
    }

    async fn carry_out(&self, order: Value) -> (End, Vec<Line>) {
        let (lines, mut said) = mpsc::channel(16);
        let run = self.run_of(order);
        let _beats = self.beats();
        let (halt, beat) = (self.halt.subscribe(), self.beat.subscribe());
        let taken = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Some(line) = said.recv().await {
                all.push(line);
            }
            all
        });
        let end = self.runs.run(&run, &self.secrets, &self.done, lines, halt, beat).await;
        let left = std::fs::read_dir(self.folder.path().join("runs")).expect("a folder").count();
        assert_eq!(left, 0, "a folder is left");
        (end, taken.await.expect("lines"))
    }

    /// A command of `sh`.
    async fn sh(&self, script: &str, more: Value) -> (End, Vec<Line>) {
        let mut order = json!({"task": {"exec": {"command": ["sh", "-c", script, "sh"]}}});
        order.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        self.carry_out(order).await
    }
}

/// Waits for something; how long is not the test's matter.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The process with this command line, words ended by NUL.
fn pid_of(words: &str) -> Option<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|found| found == words.as_bytes()))
}

/// Bytes that it has written (proc(5)).
fn written(words: &str) -> Option<u64> {
    let io = std::fs::read_to_string(format!("/proc/{}/io", pid_of(words)?)).ok()?;
    io.lines().find_map(|line| line.strip_prefix("wchar: "))?.parse().ok()
}

fn is_asleep(words: &str) -> bool {
    let stat = pid_of(words).and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    stat.is_some_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')))
}

fn texts(lines: &[Line], of: Stream) -> Vec<&str> {
    lines.iter().filter(|line| line.stream == of).filter_map(|line| line.line.as_deref()).collect()
}

/// Whether any process has this word on its command line.
fn is_running(word: &str) -> bool {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries.map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default()).any(|words| {
        let text = String::from_utf8_lossy(&words);
        text.split('\0').any(|one| one == word) && !text.contains("leash")
    })
}

/// Shows each way to end by itself: well, with a code and what was said last, by a signal, and not at all.
#[tokio::test]
async fn ends() {
    let place = Place::new();
    let (end, lines) = place.sh("echo one; echo two >&2", json!({})).await;
    assert_eq!((end.state, end.why.as_str(), end.result.code), (State::Succeeded, "", Some(0)));
    assert_eq!((texts(&lines, Stream::Stdout), texts(&lines, Stream::Stderr)), (vec!["one"], vec!["two"]));
    let (end, _) = place.sh("echo no; echo because >&2; exit 3", json!({})).await;
    assert_eq!((end.state, end.why.as_str(), end.result.code), (State::Failed, "exited with code 3: because", Some(3)));
    let (end, _) = place.sh("kill -SEGV $$", json!({})).await;
    assert_eq!((end.state, end.result.code), (State::Failed, Some(139)));
    let (end, _) = place.carry_out(json!({"task": {"exec": {"command": ["no-such-program"]}}})).await;
    let expect =
        "exited with code 127: regrow: there is no program `no-such-program` here: install it or correct the command";
    assert_eq!((end.state, end.why.as_str()), (State::Failed, expect));
    let (end, _) = place.carry_out(json!({"task": {"exec": {"command": ["true"], "directory": "nowhere"}}})).await;
    assert!(end.state == State::Failed && end.why.contains("nowhere does not exist here"), "{}", end.why);
}

/// Shows what a command is given: its words as they are, its parameters and secrets as variables, and nothing of ours;
/// and that a secret is masked in whatever it says.
#[tokio::test]
async fn is_given() {
    let mut place = Place::new();
    place.secrets.insert("TOKEN".to_owned(), "hunter22\nline-two".to_owned());
    let words = ["$(id)", "a b", "", "*", "'\"", "-n"];
    let command = [["sh", "-c", "printf '<%s>' \"$@\"; echo; env; pwd", "sh"].as_slice(), words.as_slice()].concat();
    let order = json!({
        "answers": {"host": "a; b", "many": ["x", "y"]},
        "task": {"exec": {
            "command": command,
            "environment": {"MORE": "m"}, "directory": ".",
        }},
    });
    let (end, lines) = place.carry_out(order).await;
    assert_eq!(end.state, State::Succeeded, "{}", end.why);
    let said = texts(&lines, Stream::Stdout);
    assert_eq!(said[0], "<$(id)><a b><><*><'\"><-n>");
    for wanted in ["PARAM_HOST=a; b", "PARAM_MANY=x,y", "MORE=m", "REGROW_JOB=test", "TOKEN=***", "***"] {
        assert!(said.contains(&wanted), "{wanted}: {said:?}");
    }
    assert!(!said.iter().any(|line| line.contains("hunter22") || line.contains("CARGO")), "{said:?}");
    assert_eq!(*said.last().expect("a line"), place.folder.path().to_str().expect("UTF-8"));
    let (end, _) = place.sh("echo hunter22 >&2; exit 1", json!({})).await;
    assert_eq!(end.why, "exited with code 1: ***");
}

/// Shows that a cancel is polite first, that one that will not hear is killed after its grace, and that nothing is left of
/// it: children, those in sessions of their own, and orphans.
#[tokio::test]
async fn cancels() {
    let place = Place::new();
    let halt = place.halt.clone();
    let cancel = async {
        until("it has begun", || (!place.read("begun").is_empty()).then_some(())).await;
        halt.send_replace(Halt::Cancelled("me".to_owned()));
    };
    let polite = "trap 'echo bye; exit 0' TERM; echo x > begun; while :; do sleep 0.05; done";
    let (ended, ()) = tokio::join!(place.sh(polite, json!({"grace": "60s"})), cancel);
    assert_eq!((ended.0.state, ended.0.why.as_str()), (State::Cancelled, "cancelled by me"));
    assert_eq!(texts(&ended.1, Stream::Stdout), ["bye"]);

    let place = Place::new();
    let halt = place.halt.clone();
    let cancel = async {
        until("it has begun", || (place.read("begun").lines().count() == 3).then_some(())).await;
        halt.send_replace(Halt::Cancelled("me".to_owned()));
    };
    let deaf = "trap '' TERM
        sleep 86401 & echo x >> begun
        setsid sh -c 'trap \"\" TERM; echo x >> begun; exec sleep 86402' &
        (setsid sh -c '(sleep 86403 & echo x >> begun)' &) 
        wait; while :; do sleep 1; done";
    let (ended, ()) = tokio::join!(place.sh(deaf, json!({"grace": "100ms"})), cancel);
    assert_eq!(ended.0.state, State::Cancelled);
    assert!(!["86401", "86402", "86403"].into_iter().any(is_running), "something is left");
}

/// Shows that one that takes too long is stopped and says so, and what it left behind when it ended by itself is ended too.
#[tokio::test]
async fn takes_too_long() {
    let place = Place::new();
    let (end, _) = place.sh("exec sleep 86411", json!({"timeout": "300ms"})).await;
    assert_eq!((end.state, end.why.as_str()), (State::TimedOut, "it had not ended within 300ms and was stopped"));
    let (end, _) = place.sh("setsid sleep 86412 >/dev/null 2>&1 & exit 0", json!({})).await;
    assert_eq!(end.state, State::Succeeded);
    assert!(!["86411", "86412"].into_iter().any(is_running), "something is left");
}

/// Shows that a lost worker's run is ended without being asked.
#[tokio::test]
async fn is_lost() {
    let place = Place::new();
    let halt = place.halt.clone();
    let lose = async {
        until("it has begun", || (!place.read("begun").is_empty()).then_some(())).await;
        halt.send_replace(Halt::Lost);
    };
    let (ended, ()) = tokio::join!(place.sh("trap '' TERM; echo x > begun; sleep 86421", json!({})), lose);
    assert_eq!(ended.0.state, State::Lost);
    assert!(!is_running("86421"));
}

/// A worker in a process of its own that runs a script of `sh`.
fn worker(place: &Place, script: &str) -> std::process::Child {
    let run = place.run_of(json!({"task": {"exec": {"command": ["sh", "-c", script]}}}));
    let mut command = Command::new(env!("CARGO_BIN_EXE_regrow-effects-test"));
    command.arg("worker").arg(place.folder.path().join("workers")).arg(serde_json::to_string(&run).expect("JSON"));
    command.stdout(Stdio::piped()).spawn().expect("the program runs")
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(sent.expect("kill runs").success());
}

/// Shows that a worker that is killed leaves nothing: the leash sees that it is gone.
#[tokio::test]
async fn a_killed_worker_leaves_nothing() {
    let place = Place::new();
    let mut child = worker(&place, "trap '' TERM HUP; (setsid sleep 86431 &); echo x > begun; sleep 86432");
    until("it has begun", || (!place.read("begun").is_empty() && is_running("86431")).then_some(())).await;
    signal(child.id(), "KILL");
    child.wait().expect("a child");
    until("nothing is left", || (!["86431", "86432"].into_iter().any(is_running)).then_some(())).await;
}

/// Shows that a worker that is only paused is over: the leash hears of no beat, and the worker learns it when it goes on.
#[tokio::test]
async fn a_paused_worker_is_over() {
    let place = Place::new();
    let child = worker(&place, "trap '' TERM HUP; echo x > begun; sleep 86441");
    until("it has begun", || (!place.read("begun").is_empty()).then_some(())).await;
    signal(child.id(), "STOP");
    until("nothing is left", || (!is_running("86441")).then_some(())).await;
    signal(child.id(), "CONT");
    let output = child.wait_with_output().expect("a child");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Lost\n");
}

/// Shows that even when the leash is killed nothing is left: the worker finds what it had started by a mark, and so does
/// the next life of a worker that was killed together with its leash.
#[tokio::test]
async fn a_killed_leash_leaves_nothing() {
    let place = Place::new();
    let leash = |place: &Place| {
        let folder = place.folder.path().display().to_string();
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
            let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let is_of = |text: Vec<u8>, word: &str| String::from_utf8_lossy(&text).contains(word);
            is_of(read("cmdline"), "leash\0hold\0") && is_of(read("environ"), &folder)
        })
    };
    let kill = async {
        until("it has begun", || (is_running("86451") && is_running("86452")).then_some(())).await;
        signal(leash(&place).expect("a leash"), "KILL");
    };
    let (ended, ()) = tokio::join!(place.sh("(setsid sleep 86451 &); sleep 86452", json!({})), kill);
    assert_eq!((ended.0.state, ended.0.why.as_str()), (State::Failed, "somebody killed what it ran under"));
    assert!(!["86451", "86452"].into_iter().any(is_running), "something is left");

    let mut child = worker(&place, "(setsid sleep 86453 &); sleep 86454");
    until("it has begun", || (is_running("86453") && is_running("86454")).then_some(())).await;
    signal(child.id(), "STOP");
    signal(leash(&place).expect("a leash"), "KILL");
    signal(child.id(), "KILL");
    child.wait().expect("a child");
    let next = Runs::open(place.folder.path().join("workers"), "/proc/self/exe".into()).expect("a folder");
    next.clean().await;
    assert!(!["86453", "86454"].into_iter().any(is_running), "something is left");
    assert_eq!(std::fs::read_dir(place.folder.path().join("workers")).expect("a folder").count(), 0);
}

/// Shows that memory is bounded, process by process.
#[tokio::test]
async fn memory_is_bounded() {
    let place = Place::new();
    let script = "exec python3 -c 'import sys; x = bytearray(int(sys.argv[1]) << 20); print(len(x) >> 20)' $0";
    let of = |mib: &str| json!({"memory_mib": 64, "task": {"exec": {"command": ["sh", "-c", script, mib]}}});
    let (end, _) = place.carry_out(of("8")).await;
    assert_eq!(end.state, State::Succeeded, "{}", end.why);
    let (end, _) = place.carry_out(of("128")).await;
    assert!(end.state == State::Failed && end.why.contains("MemoryError"), "{}", end.why);
}

/// Shows that a line without an end comes in pieces, and that who prints faster than it is taken is held up.
#[tokio::test]
async fn output_is_held_up() {
    let place = Place::new();
    let run = place.run_of(json!({"task": {"exec": {"command": ["sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; echo; seq 200000; touch done"]}}}));
    let (lines, mut said) = mpsc::channel(1);
    let _beats = place.beats();
    let (halt, beat) = (place.halt.subscribe(), place.beat.subscribe());
    let (secrets, done) = (place.secrets.clone(), place.done.clone());
    let (runs, folder) = (place.runs.clone(), place.folder.path().to_owned());
    let running = tokio::spawn(async move { runs.run(&run, &secrets, &done, lines, halt, beat).await });
    let mut pieces = 0;
    loop {
        let line = said.recv().await.expect("a line").line.expect("a text");
        if line == "1" {
            break;
        }
        assert!(line.bytes().all(|byte| byte == b'x') && line.len() <= 256 << 10);
        pieces += line.len();
    }
    assert_eq!(pieces, 1_000_000);
    // Who is held up sleeps in its write, and has said as little as it had before.
    until("it is held up", || {
        let before = written("seq\x00200000\x00")?;
        std::thread::yield_now();
        (is_asleep("seq\x00200000\x00") && written("seq\x00200000\x00") == Some(before)).then_some(())
    })
    .await;
    assert!(!folder.join("done").exists(), "it did not wait");
    let mut rest = 1;
    while said.recv().await.is_some() {
        rest += 1;
    }
    assert_eq!(rest, 200_000);
    assert_eq!(running.await.expect("an end").state, State::Succeeded);
}

/// Shows after what each step runs, that steps of earlier tries are not done again, and what is told of each.
#[tokio::test]
async fn steps() {
    let mut place = Place::new();
    let step = |name: &str, when: &str, script: &str| json!({"name": name, "when": when, "task": {"exec": {"command": ["sh", "-c", script]}}});
    let steps = json!([
        step("first", "success", "echo first >> ran"),
        step("second", "success", "echo second >> ran; exit 4"),
        step("third", "success", "echo third >> ran"),
        step("mend", "failure", "echo mend >> ran"),
        step("last", "always", "echo last >> ran"),
    ]);
    let (end, lines) = place.carry_out(json!({"task": {"steps": steps}})).await;
    assert_eq!(
        (end.state, end.result.code, end.why.as_str()),
        (State::Failed, Some(4), "step second: exited with code 4")
    );
    assert_eq!(place.read("ran").split_whitespace().collect::<Vec<_>>(), ["first", "second", "mend", "last"]);
    let told: Vec<(String, StepState)> = lines
        .iter()
        .filter_map(|line| match &line.event {
            Some(RunEvent::Step { step, state }) => Some((step.to_string(), *state)),
            _ => None,
        })
        .collect();
    assert!(
        told.contains(&("third".to_owned(), StepState::Skipped))
            && told.contains(&("second".to_owned(), StepState::Failed))
    );
    assert_eq!(told.len(), 9);
    place.done = ["first", "second"].map(|name| Name::new(name).expect("a name")).into();
    let (end, _) = place.carry_out(json!({"task": {"steps": steps}})).await;
    assert_eq!(end.state, State::Succeeded);
    assert_eq!(place.read("ran").split_whitespace().skip(4).collect::<Vec<_>>(), ["third", "last"]);
}

/// The files that a run has left.
fn artefacts(lines: &[Line]) -> BTreeMap<String, Vec<u8>> {
    let mut files: BTreeMap<String, (u64, Vec<u8>)> = BTreeMap::new();
    for line in lines {
        let Some(RunEvent::Artefact { name, size, at, data }) = &line.event else { continue };
        let (whole, bytes) = files.entry(name.clone()).or_insert((*size, Vec::new()));
        assert_eq!((*whole, bytes.len() as u64), (*size, *at), "pieces come in order");
        bytes.extend(base64::engine::general_purpose::STANDARD.decode(data).expect("base64"));
    }
    let whole = files.into_iter().map(|(name, (size, bytes))| {
        assert_eq!(bytes.len() as u64, size, "{name} is whole");
        (name, bytes)
    });
    whole.collect()
}

/// Shows the files that a run leaves: told whole, of one that fails too; and that nothing else is told: no link, no device,
/// nothing with a secret, nothing beyond the room.
#[tokio::test]
async fn files_are_left() {
    let mut place = Place::new();
    place.secrets.insert("token".to_owned(), "hunter2".to_owned());
    let script = r#"
        cd "$REGROW_ARTEFACTS" && mkdir -p a/b && mkfifo pipe && ln -s /etc/passwd link && printf 'x hunter2' >leak && : >hunter2
        printf hello >hello && : >a/empty && seq 20000 >a/b/large && seq 200000 >huge && exit 3
    "#;
    let (end, lines) = place.sh(script, json!({})).await;
    assert_eq!((end.state, end.result.code), (State::Failed, Some(3)));
    let large: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    let expected = [("a/b/large", large.as_str()), ("a/empty", ""), ("hello", "hello")];
    let expected: BTreeMap<_, _> = expected.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into();
    assert_eq!(artefacts(&lines), expected);
    let said = texts(&lines, Stream::Regrow);
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[0].starts_with("the artefact huge is not kept: there are "), "{said:?}");
    assert_eq!(said[1], "the artefact *** is not kept: there is a secret in it");
    assert_eq!(said[2], "the artefact leak is not kept: there is a secret in it");
    assert!(said[3].starts_with("not all artefacts are kept"), "{said:?}");
}

/// Shows a request: what it sends, and how each answer is told.
#[tokio::test]
async fn requests() {
    let place = Place::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut heads = Vec::new();
        for answer in [
            "200 OK\r\nContent-Length: 3\r\n\r\nyes",
            "503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        ] {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut head = vec![0; 4096];
            let count = stream.read(&mut head).await.expect("a request");
            heads.push(String::from_utf8_lossy(&head[..count]).into_owned());
            stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.expect("written");
        }
        // The third never gets an answer.
        let _held = listener.accept().await;
        std::future::pending::<()>().await;
        heads
    });
    let url = format!("http://{address}/x?y=1");
    let task = json!({"http": {"url": url, "method": "POST", "headers": {"X-A": "b"}, "body": "{}"}});
    let (end, lines) = place.carry_out(json!({"task": task})).await;
    assert_eq!((end.state, end.result.code), (State::Succeeded, Some(200)), "{}", end.why);
    assert_eq!(texts(&lines, Stream::Stdout), ["yes"]);
    let (end, lines) = place.carry_out(json!({"task": {"http": {"url": url, "method": "GET"}}})).await;
    assert_eq!((end.state, end.result.code), (State::Failed, Some(503)));
    assert!(
        end.why.ends_with("answered 503 Service Unavailable") && texts(&lines, Stream::Stdout) == ["no"],
        "{}",
        end.why
    );
    let slow = json!({"timeout": "200ms", "task": {"http": {"url": url, "method": "GET"}}});
    assert_eq!(place.carry_out(slow).await.0.state, State::TimedOut);
    server.abort();
    let (end, _) = place.carry_out(json!({"task": {"http": {"url": "http://127.0.0.1:1/", "method": "GET"}}})).await;
    assert!(end.state == State::Failed && end.why.contains("onnection refused"), "{}", end.why);
}

/// A server with a certificate of its own, which answers with the request's secret. It ends with who holds its stdin.
const SERVER: &str = r#"
import http.server, ssl, sys, threading
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = ("it was " + self.headers["Authorization"]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Echo)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"#;

/// Shows a request by TLS: sent to a server whose certificate comes from the authority that is named, with a secret that
/// nobody sees in what it answers; and to no other.
#[tokio::test]
async fn requests_by_tls() {
    use std::io::BufRead;
    let mut place = Place::new();
    place.secrets.insert("token".to_owned(), "${token} hunter2".to_owned());
    let (folder, words) =
        (place.folder.path(), "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 1");
    let words = words.split(' ').chain([
        "-subj",
        "/CN=test",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=CA:FALSE",
    ]);
    let made = Command::new("openssl").current_dir(folder).args(words).output().expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut server = Command::new("python3");
    server.args(["-c", SERVER]).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = server.spawn().expect("python3 runs");
    let mut port = String::new();
    std::io::BufReader::new(server.stdout.take().expect("a pipe")).read_line(&mut port).expect("a port");
    let url = format!("https://127.0.0.1:{}/", port.trim());
    let task = |ca: Value| {
        let secret = json!({"Authorization": "Bearer ${token}"});
        json!({"task": {"http": {"url": url, "method": "GET", "secret_headers": secret, "ca": ca}}})
    };
    let (end, lines) = place.carry_out(task(json!("cert.pem"))).await;
    assert_eq!((end.state, end.result.code), (State::Succeeded, Some(200)), "{}", end.why);
    assert_eq!(texts(&lines, Stream::Stdout), ["it was Bearer ***"]);
    let (end, lines) = place.carry_out(task(Value::Null)).await;
    assert!(end.state == State::Failed && end.why.contains("certificate"), "{}", end.why);
    assert!(lines.is_empty());
    let (end, _) = place.carry_out(task(json!("key.pem"))).await;
    assert!(end.state == State::Failed && end.why.contains("there is no certificate in it"), "{}", end.why);
    drop(server.stdin.take());
    server.wait().expect("it ends");
}

/// Whether Ansible is there; said where it is not.
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
fn has_ansible() -> bool {
    let there = Path::new("/usr/bin/ansible-playbook").exists();
    if !there {
        eprintln!("skipped: ansible-playbook is not installed: install ansible-core");
    }
    there
}

/// An inventory of two hosts that are this machine.
const HERE: &str = "[all]\none ansible_connection=local ansible_python_interpreter=/usr/bin/python3\ntwo ansible_connection=local ansible_python_interpreter=/usr/bin/python3\n";

fn outcomes(lines: &[Line]) -> Vec<(String, String, HostOutcome)> {
    let told = lines.iter().filter_map(|line| match &line.event {
        Some(RunEvent::Host { host, task, outcome, .. }) => Some((host.clone(), task.clone(), *outcome)),
        _ => None,
    });
    let mut told: Vec<_> = told.collect();
    told.sort_by(|one, other| (&one.1, &one.0).cmp(&(&other.1, &other.0)));
    told
}

/// Shows a playbook: what happens host by host, the recap, the limit, and why it failed.
#[tokio::test]
async fn playbooks() {
    if !has_ansible() {
        return;
    }
    let place = Place::new();
    place.write("hosts.ini", HERE);
    place.write(
        "site.yaml",
        "- name: the play\n  hosts: all\n  gather_facts: false\n  tasks:\n    - name: touch\n      file: {path: '{{ root }}/{{ inventory_hostname }}.made', state: touch, mode: '0600'}\n    - name: only one\n      command: 'false'\n      when: inventory_hostname == 'one'\n      ignore_errors: '{{ pardon }}'\n",
    );
    let task = |limit: Value, pardon: bool| {
        let vars = json!({"root": place.folder.path(), "pardon": pardon});
        json!({"task": {"ansible": {"play": {"playbook": "site.yaml"}, "inventory": {"file": "hosts.ini"}, "limit": limit, "vars": vars}}})
    };
    let (end, lines) = place.carry_out(task(json!([]), false)).await;
    assert_eq!((end.state, end.why.as_str(), end.result.code), (State::Failed, "failed on one", Some(2)), "{lines:#?}");
    let recap = &end.result.recap;
    assert_eq!((recap["one"].ok, recap["one"].changed, recap["one"].failures), (1, 1, 1));
    assert_eq!((recap["two"].ok, recap["two"].changed, recap["two"].skipped), (1, 1, 1));
    let told = outcomes(&lines);
    let expect = |host: &str, task: &str, outcome| (host.to_owned(), task.to_owned(), outcome);
    assert_eq!(
        told,
        [
            expect("one", "only one", HostOutcome::Failed),
            expect("two", "only one", HostOutcome::Skipped),
            expect("one", "touch", HostOutcome::Changed),
            expect("two", "touch", HostOutcome::Changed),
        ]
    );
    assert!(lines.iter().any(|line| matches!(&line.event, Some(RunEvent::Play { play }) if play == "the play")));
    assert!(
        texts(&lines, Stream::Stdout).iter().any(|line| line.starts_with("PLAY RECAP")),
        "people's output is there too"
    );
    assert!(!texts(&lines, Stream::Stdout).iter().any(|line| line.contains('\u{1e}')), "no mark is told");
    let (end, _) = place.carry_out(task(json!(["two"]), true)).await;
    assert_eq!((end.state, end.result.recap.len()), (State::Succeeded, 1), "{}", end.why);
    place.write("nobody.ini", "[empty]\n");
    let order = json!({"task": {"ansible": {"play": {"playbook": "site.yaml"}, "inventory": {"file": "nobody.ini"}}}});
    let (end, _) = place.carry_out(order).await;
    assert_eq!((end.state, end.why.as_str()), (State::Failed, "no host of the inventory was worked on"));
    // Ansible alone would take this for the union of two patterns.
    let (end, _) = place.carry_out(task(json!(["one:two"]), true)).await;
    assert_eq!(end.state, State::Failed);
}

/// Shows that whatever is in a value, a playbook, a role and a module get it as it is: nothing is templated, run or read as
/// YAML.
#[tokio::test]
async fn values_are_data_to_ansible() {
    if !has_ansible() {
        return;
    }
    let mut place = Place::new();
    place.secrets.insert("password".to_owned(), "{{ s3cret }}".to_owned());
    place.write("hosts.ini", HERE);
    let made = place.folder.path().join("made").display().to_string();
    let hostile = [
        format!("{{{{ lookup('pipe', 'touch {made}') }}}}"),
        format!("$(touch {made}); `touch {made}`"),
        format!("x\"\n  - command: touch {made}\n# "),
        "{% for i in range(3) %}x{% endfor %}".to_owned(),
        "!unsafe a: [b, {c}] & *d \\u0041 \u{7f} é \u{2028} 😀 ' \" %".to_owned(),
        "@/etc/passwd".to_owned(),
        "--extra-vars=x".to_owned(),
        "{\"__ansible_vault\": \"x\"}".to_owned(),
    ];
    let one = |at: usize| {
        format!("- copy: {{content: '{{{{ value{at} }}}}', dest: '{{{{ root }}}}/out{at}', mode: '0600'}}\n")
    };
    let keep: String = (0..hostile.len()).map(one).collect();
    let secret = "- copy: {content: '{{ password }}', dest: '{{ root }}/secret', mode: '0600'}\n";
    let tasks = format!("{keep}{secret}").replace("- copy", "    - copy");
    place.write("site.yaml", &format!("- hosts: one\n  gather_facts: false\n  tasks:\n{tasks}"));
    place.write("roles/keep/tasks/main.yml", &keep);
    let answers: BTreeMap<String, &String> =
        hostile.iter().enumerate().map(|(at, value)| (format!("value{at}"), value)).collect();
    let vars = json!({"root": place.folder.path()});
    for play in [json!({"playbook": "site.yaml"}), json!({"roles": ["keep"]})] {
        let order = json!({
            "answers": answers,
            "task": {"ansible": {"play": play, "inventory": {"file": "hosts.ini"}, "vars": vars, "limit": ["one"]}},
        });
        let (end, lines) = place.carry_out(order).await;
        assert_eq!(end.state, State::Succeeded, "{} {:#?}", end.why, texts(&lines, Stream::Stdout));
        for (at, value) in hostile.iter().enumerate() {
            let out = format!("out{at}");
            assert_eq!(&place.read(&out), value);
            std::fs::remove_file(place.folder.path().join(out)).expect("a file");
        }
    }
    assert_eq!(place.read("secret"), "{{ s3cret }}");
    let module = |args: Value, name: &str| {
        let play = json!({"module": {"name": name, "args": args}});
        json!({"task": {"ansible": {"play": play, "inventory": {"file": "hosts.ini"}, "limit": ["one"]}}})
    };
    let all = hostile.join("\n");
    let args = json!({"named": {"content": all, "dest": place.folder.path().join("out"), "mode": "0600"}});
    let (end, lines) = place.carry_out(module(args, "copy")).await;
    assert_eq!(end.state, State::Succeeded, "{} {:#?}", end.why, texts(&lines, Stream::Stdout));
    assert_eq!(place.read("out"), all);
    let word = all.replace('\'', "");
    let (_, lines) = place.carry_out(module(json!({"command": format!("printf %s '{word}'")}), "command")).await;
    let message = lines.iter().find_map(|line| match &line.event {
        Some(RunEvent::Host { message, .. }) => Some(message.clone()),
        _ => None,
    });
    assert_eq!(message.as_deref(), Some(word.as_str()));
    assert!(!Path::new(&made).exists(), "something was run");
}

/// Shows that the catalog is an inventory, that vaulted files are opened, and that a playbook that is killed leaves no child.
#[tokio::test]
async fn catalogs_vaults_and_ends_of_playbooks() {
    if !has_ansible() {
        return;
    }
    let mut place = Place::new();
    place.secrets.insert("opener".to_owned(), "open sesame".to_owned());
    place.write("opener", "open sesame\n");
    let file = place.folder.path().join("vars/secret.yaml");
    place.write("vars/secret.yaml", "hidden: found\n");
    let sealed = Command::new("ansible-vault")
        .arg("encrypt")
        .arg("--vault-password-file")
        .arg(place.folder.path().join("opener"))
        .arg(&file)
        .output();
    assert!(sealed.expect("ansible-vault runs").status.success());
    place.write("group_vars/all.yaml", "ansible_connection: local\nansible_python_interpreter: /usr/bin/python3\n");
    place.write(
        "site.yaml",
        "- hosts: web\n  gather_facts: false\n  vars_files: [vars/secret.yaml]\n  tasks:\n    - shell: 'echo {{ hidden }} {{ ansible_host }} >> {{ playbook_dir }}/out'\n",
    );
    let order = json!({"task": {"ansible": {
        "play": {"playbook": "site.yaml"}, "vault": "opener",
        "inventory": {"catalog": {"hosts": {"a-1": "10.0.0.1", "b": "10.0.0.2"}, "groups": {"web": ["a-1"], "empty": []}}},
    }}});
    let (end, lines) = place.carry_out(order).await;
    assert_eq!(end.state, State::Succeeded, "{} {:#?}", end.why, texts(&lines, Stream::Stdout));
    assert_eq!((place.read("out").trim(), end.result.recap.len()), ("found 10.0.0.1", 1));

    place.write("hosts.ini", HERE);
    place.write("long.yaml", "- hosts: all\n  gather_facts: false\n  tasks:\n    - shell: 'trap \"\" TERM; touch {{ playbook_dir }}/begun; sleep 86461'\n");
    let halt = place.halt.clone();
    let cancel = async {
        until("it has begun", || (place.folder.path().join("begun").exists() && is_running("86461")).then_some(()))
            .await;
        halt.send_replace(Halt::Cancelled("me".to_owned()));
    };
    let order = json!({"grace": "1s", "task": {"ansible": {"play": {"playbook": "long.yaml"}, "inventory": {"file": "hosts.ini"}}}});
    let (ended, ()) = tokio::join!(place.carry_out(order), cancel);
    assert_eq!(ended.0.state, State::Cancelled);
    assert!(!is_running("86461"), "something is left");
}
