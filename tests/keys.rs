//! Keys on the doors: what `regrow init` and `regrow key` make, as etcdctl, curl and openssl find it.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use support::{Cluster, guide, until};

/// Whether all of these are installed; says which is not.
fn installed(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        let found = Command::new(program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_err()
    });
    if let Some(missing) = missing {
        eprintln!("skipped: {missing} is not installed");
    }
    missing.is_none()
}

/// A folder with keys, and no agent yet.
fn keyed() -> Cluster {
    let cluster = Cluster::empty();
    cluster.ok(&["init", "--node", "one", "--address", "127.0.0.1"]);
    cluster
}

/// Starts an agent on it, with both doors on any free port; where they are.
fn start(cluster: &mut Cluster, more: &[&str]) -> (u16, u16) {
    let words = ["agent", "--node", "one", "--etcd", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    cluster.start(&[&words, more].concat());
    until("the agent answers", || cluster.try_status());
    (port(cluster, "data", "etcd"), port(cluster, "data", "http"))
}

/// The port of a door, as the agent's `doors.json` tells it.
fn port(cluster: &Cluster, data: &str, door: &str) -> u16 {
    let doors: Value = serde_json::from_str(&cluster.read(&format!("{data}/doors.json"))).expect("JSON");
    let address = doors[door].as_str().unwrap_or_else(|| panic!("no door {door} in {doors}"));
    address.rsplit_once(':').expect("a port").1.parse().expect("a port")
}

/// Makes the certificate of a client, in a folder of its name.
fn client(cluster: &Cluster, name: &str, role: &str) {
    cluster.ok(&["key", "client", name, "--role", role, "--out", name]);
}

/// `etcdctl` with what is in a client's folder.
fn etcdctl(cluster: &Cluster, port: u16, keys: &str, words: &[&str]) -> Command {
    let mut command = Command::new("etcdctl");
    command.current_dir(cluster.folder.path()).env("ETCDCTL_API", "3").stdin(Stdio::null());
    command.args(["--dial-timeout", "5s", "--command-timeout", "20s", "--endpoints"]);
    command.arg(format!("https://127.0.0.1:{port}")).args(["--cacert", "data/keys/ca.pem"]);
    command.args(["--cert", &format!("{keys}/client.pem"), "--key", &format!("{keys}/client.key")]).args(words);
    command
}

fn curl(cluster: &Cluster, words: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command.current_dir(cluster.folder.path()).args(["--silent", "--show-error", "--max-time", "20"]).args(words);
    command.output().expect("curl runs")
}

/// Runs openssl in the folder; it must succeed.
fn openssl(cluster: &Cluster, words: &[&str]) -> String {
    let output = Command::new("openssl").current_dir(cluster.folder.path()).args(words).output().expect("openssl runs");
    assert!(output.status.success(), "openssl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The serial number of what a door shows now.
fn shown(cluster: &Cluster, port: u16) -> String {
    let line =
        format!("openssl s_client -connect 127.0.0.1:{port} </dev/null 2>/dev/null | openssl x509 -noout -serial");
    let output = Command::new("sh").current_dir(cluster.folder.path()).args(["-c", &line]).output().expect("a shell");
    text(&output.stdout).trim().trim_start_matches("serial=").to_ascii_lowercase()
}

/// A watch by etcdctl that has begun.
struct Watching {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watching {
    /// Watches a key that is set already; its first event has come when this returns.
    fn begin(cluster: &Cluster, port: u16, keys: &str, key: &str) -> Watching {
        let mut command = etcdctl(cluster, port, keys, &["watch", key, "--rev", "1"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("etcdctl starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut watching = Watching { child, lines };
        watching.next();
        watching
    }

    /// The next value: etcdctl prints `PUT`, the key and the value.
    fn next(&mut self) -> Option<String> {
        let mut lines = (0..3).map(|_| self.lines.next().and_then(Result::ok));
        lines.try_fold(String::new(), |_, line| line)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stream of events by curl that does not end by itself.
struct Waiting(Child);

impl Waiting {
    /// The door has taken it when this returns.
    fn begin(cluster: &Cluster, port: u16, keys: &str) -> Waiting {
        let mut command = Command::new("curl");
        command.current_dir(cluster.folder.path()).args(["--silent", "--include", "--no-buffer"]);
        command.args(["--cacert", "data/keys/ca.pem", "--cert", &format!("{keys}/client.pem")]);
        command.args(["--key", &format!("{keys}/client.key")]);
        command.arg(format!("https://127.0.0.1:{port}/api/events?follow=true"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("curl starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("it is answered");
        assert!(line.contains(" 200"), "{line}");
        Waiting(child)
    }

    /// Waits until it is cut off.
    fn until_cut(mut self) {
        let end = until("the connection is cut", || self.0.try_wait().expect("it is a child"));
        assert!(!end.success(), "{end:?}");
    }
}

/// `init` makes keys that openssl verifies, for the owner alone; a second one is refused and changes nothing; no key and no
/// token is printed; `key ls` lists what there is.
#[test]
fn init_makes_keys_once() {
    if !installed(&["openssl"]) {
        return;
    }
    let cluster = Cluster::empty();
    let output = cluster.run(&["init", "--node", "one", "--address", "10.1.2.3", "--address", "one.example"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout) + &text(&output.stderr);
    let keys = cluster.path("data/keys");
    let mut secrets = Vec::new();
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&keys), 0o700);
    for file in ["ca.pem", "ca.key", "node.pem", "node.key", "ca.crl", "gossip.key", "admin.token"] {
        assert_eq!(mode(&keys.join(file)), 0o600, "{file}");
        if !matches!(file, "ca.pem" | "node.pem" | "ca.crl") {
            secrets.extend(cluster.read(&format!("data/keys/{file}")).lines().map(str::to_owned));
        }
    }
    let token = cluster.read("data/keys/admin.token");
    assert!(token.starts_with("rgw_") && token.trim().len() == 47, "256 bits");
    for secret in secrets.iter().filter(|line| !line.starts_with("-----")) {
        assert!(!said.contains(secret.as_str()), "a secret was printed");
    }
    openssl(&cluster, &["verify", "-x509_strict", "-CAfile", "data/keys/ca.pem", "data/keys/node.pem"]);
    for name in ["one", "localhost", "one.example"] {
        let checked = openssl(&cluster, &["x509", "-in", "data/keys/node.pem", "-noout", "-checkhost", name]);
        assert!(checked.contains("does match"), "{checked}");
    }
    for address in ["127.0.0.1", "::1", "10.1.2.3"] {
        let checked = openssl(&cluster, &["x509", "-in", "data/keys/node.pem", "-noout", "-checkip", address]);
        assert!(checked.contains("does match"), "{checked}");
    }
    let before: BTreeSet<(String, u64)> = std::fs::read_dir(&keys)
        .expect("a folder")
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.metadata().expect("a file").len()))
        .collect();
    let error = cluster.fails(3, &["init", "--node", "two"]);
    assert!(error.contains("there are keys already") && error.contains("regrow key rotate"), "{error}");
    assert_eq!(cluster.read("data/keys/admin.token"), token);
    let after: BTreeSet<(String, u64)> = std::fs::read_dir(&keys)
        .expect("a folder")
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.metadata().expect("a file").len()))
        .collect();
    assert_eq!(before, after);
    let listed: Value = serde_json::from_str(&cluster.ok(&["key", "ls", "--json"])).expect("JSON");
    let kinds: Vec<_> = listed.as_array().expect("a list").iter().map(|line| line["kind"].as_str()).collect();
    assert_eq!(kinds, [Some("authority"), Some("node")]);
    assert_eq!((&listed[1]["state"], &listed[1]["current"]), (&Value::from("valid"), &Value::from(true)));
    let error = cluster.fails(2, &["key", "node", "two", "--address", "0.0.0.0"]);
    assert!(error.contains("stands for all addresses"), "{error}");
}

/// Both doors speak TLS, HTTP/1.1 and HTTP/2, to etcdctl and curl; they say so to who does not; certificates of another
/// authority, expired ones and revoked ones are refused in the handshake, garbage ends its own connection only.
#[test]
fn doors_speak_tls() {
    if !installed(&["etcdctl", "openssl", "curl"]) {
        return;
    }
    let mut cluster = keyed();
    let (etcd, http) = start(&mut cluster, &[]);
    client(&cluster, "boss", "admin");
    let put = etcdctl(&cluster, etcd, "boss", &["put", "color", "green"]).output().expect("etcdctl runs");
    assert!(put.status.success(), "{}{}", text(&put.stderr), cluster.log());
    // The binary's own commands find what they need in the data folder.
    assert_eq!(cluster.ok(&["kv", "get", "color"]), "green");
    let ca = ["--cacert", "data/keys/ca.pem", "--cert", "boss/client.pem", "--key", "boss/client.key"];
    for (version, protocol) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for url in [format!("https://127.0.0.1:{http}/api/status"), format!("https://127.0.0.1:{etcd}/version")] {
            let asked = [&ca[..], &[version, "--write-out", "\n%{http_version} %{http_code}", &url]].concat();
            let answer = curl(&cluster, &asked);
            let said = text(&answer.stdout);
            assert!(said.ends_with(&format!("\n{protocol} 200")), "{url}: {said}{}", text(&answer.stderr));
        }
    }
    let status = cluster.ok(&[
        "--agent",
        &format!("https://127.0.0.1:{http}"),
        "--tls-ca",
        "data/keys/ca.pem",
        "--tls-cert",
        "boss/client.pem",
        "--tls-key",
        "boss/client.key",
        "status",
        "--json",
    ]);
    assert!(status.contains("\"revision\""), "{status}");

    // Who believes another authority, or none.
    openssl(
        &cluster,
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "9",
            "-subj",
            "/O=regrow/OU=admin/CN=boss",
            "-keyout",
            "wrong.key",
            "-out",
            "wrong.pem",
        ],
    );
    let url = format!("https://127.0.0.1:{etcd}/version");
    assert_eq!(curl(&cluster, &["--cacert", "wrong.pem", &url]).status.code(), Some(60), "curl verifies");
    // Who shows a certificate of another authority.
    let wrong = ["--cacert", "data/keys/ca.pem", "--cert", "wrong.pem", "--key", "wrong.key", &url];
    let refused = curl(&cluster, &wrong);
    assert!(matches!(refused.status.code(), Some(35 | 55 | 56)), "{:?} {}", refused.status, text(&refused.stderr));
    // Who shows one that has expired, though our authority signed it.
    cluster.write(
        "ca.cnf",
        "[ca]\ndefault_ca=c\n[c]\ndatabase=index.txt\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
        rand_serial=yes\nunique_subject=no\nx509_extensions=e\n[p]\ncommonName=supplied\norganizationalUnitName=optional\n\
        organizationName=optional\n[e]\nextendedKeyUsage=clientAuth\n",
    );
    cluster.write("index.txt", "");
    openssl(
        &cluster,
        &[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/O=regrow/OU=admin/CN=boss",
            "-keyout",
            "old.key",
            "-out",
            "old.csr",
        ],
    );
    for (file, end) in [("old.pem", "20210101000000Z"), ("good.pem", "20991231000000Z")] {
        openssl(
            &cluster,
            &[
                "ca",
                "-batch",
                "-notext",
                "-config",
                "ca.cnf",
                "-cert",
                "data/keys/ca.pem",
                "-keyfile",
                "data/keys/ca.key",
                "-in",
                "old.csr",
                "-out",
                file,
                "-startdate",
                "20200101000000Z",
                "-enddate",
                end,
            ],
        );
    }
    for (file, code) in [("old.pem", 56), ("good.pem", 0)] {
        let asked = ["--cacert", "data/keys/ca.pem", "--cert", file, "--key", "old.key", &url];
        let answer = curl(&cluster, &asked);
        let is = answer.status.code();
        assert!(
            is == Some(code) || (code == 56 && matches!(is, Some(35 | 55))),
            "{file}: {is:?} {}",
            text(&answer.stderr)
        );
    }

    // Who speaks no TLS, or nothing that is known.
    for port in [etcd, http] {
        let plain = curl(&cluster, &["--write-out", "%{http_code}", &format!("http://127.0.0.1:{port}/version")]);
        let said = text(&plain.stdout);
        assert!(said.contains("https://") && said.ends_with("400"), "{said}");
        for garbage in [&b"\x16\x03\x01\xff\xff garbage that is no handshake at all"[..], &[0xff; 300], b"\x16"] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
            stream.write_all(garbage).expect("sent");
            // It is let go, perhaps before we end our half: the end comes, perhaps behind an alert.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    // Those who say nothing hold up nobody.
    let silent: Vec<TcpStream> = [etcd, http]
        .iter()
        .cycle()
        .take(100)
        .map(|port| TcpStream::connect(("127.0.0.1", *port)).expect("connects"))
        .collect();
    let got = etcdctl(&cluster, etcd, "boss", &["get", "color", "--print-value-only"]).output().expect("etcdctl runs");
    assert_eq!(text(&got.stdout), "green\n", "{}", text(&got.stderr));
    drop(silent);
}

/// A node's certificate is exchanged, and the authority too, while a watch goes on that was begun before; a revoked
/// certificate is cut off at once, and so is one of an authority that is believed no more.
#[test]
fn keys_rotate_without_a_restart() {
    if !installed(&["etcdctl", "openssl", "curl"]) {
        return;
    }
    let mut cluster = keyed();
    let (etcd, http) = start(&mut cluster, &[]);
    client(&cluster, "boss", "admin");
    client(&cluster, "temp", "admin");
    let mut count = 0;
    let put = |cluster: &Cluster, keys: &str, value: &str| {
        let output = etcdctl(cluster, etcd, keys, &["put", "color", value]).output().expect("etcdctl runs");
        output.status.success()
    };
    // etcdctl goes on trying where it is refused; curl says so at once.
    let enters = |cluster: &Cluster, keys: &str| {
        let (cert, key) = (format!("{keys}/client.pem"), format!("{keys}/client.key"));
        let url = format!("https://127.0.0.1:{etcd}/version");
        curl(cluster, &["--cacert", "data/keys/ca.pem", "--cert", &cert, "--key", &key, &url]).status.success()
    };
    assert!(put(&cluster, "boss", "v0"), "{}", cluster.log());
    let mut watching = Watching::begin(&cluster, etcd, "boss", "color");
    let waiting = Waiting::begin(&cluster, http, "temp");
    let to_the_end = Waiting::begin(&cluster, http, "boss");
    let mut goes_on = |cluster: &Cluster, watching: &mut Watching| {
        count += 1;
        let value = format!("v{count}");
        assert!(put(cluster, "boss", &value), "{}", cluster.log());
        assert_eq!(watching.next(), Some(value), "the watch goes on");
    };

    let first = shown(&cluster, etcd);
    cluster.ok(&["key", "rotate", "node"]);
    let second = until("the door shows the new certificate", || {
        Some(shown(&cluster, etcd)).filter(|serial| !serial.is_empty() && *serial != first)
    });
    let listed: Value = serde_json::from_str(&cluster.ok(&["key", "ls", "--json"])).expect("JSON");
    assert!(listed.as_array().expect("a list").iter().any(|line| line["serial"] == second.as_str()), "{listed}");
    goes_on(&cluster, &mut watching);

    cluster.ok(&["key", "revoke", "temp"]);
    waiting.until_cut();
    // SIGHUP has it look at once, and ends nothing.
    cluster.signal_agent("HUP");
    until("what is revoked is kept out", || (!enters(&cluster, "temp")).then_some(()));
    goes_on(&cluster, &mut watching);

    cluster.ok(&["key", "rotate", "ca"]);
    client(&cluster, "new", "admin");
    until("the new authority is believed", || enters(&cluster, "new").then_some(()));
    assert!(put(&cluster, "new", "n0"), "{}", cluster.log());
    assert_eq!(watching.next().as_deref(), Some("n0"));
    goes_on(&cluster, &mut watching);
    let error = cluster.fails(3, &["key", "rotate", "ca", "--finish"]);
    assert!(error.contains("regrow key rotate node"), "{error}");
    cluster.ok(&["key", "rotate", "node"]);
    cluster.ok(&["key", "rotate", "ca", "--finish"]);
    to_the_end.until_cut();
    until("the old authority is believed no more", || (!enters(&cluster, "boss")).then_some(()));
    assert!(put(&cluster, "new", "n1"), "{}", cluster.log());
    assert!(!enters(&cluster, "temp"), "what was revoked stays so");
}

/// An agent on another data folder, with the keys that `key node` made, shows them by itself to a store at https, and
/// learns there what is revoked; one without keys does not get there.
#[test]
fn agents_show_their_certificates() {
    let mut cluster = keyed();
    let (etcd, _) = start(&mut cluster, &[]);
    let mut two = Cluster::empty();
    std::fs::create_dir(two.path("data")).expect("a folder");
    let keys = two.path("data/keys").display().to_string();
    cluster.ok(&["key", "node", "two", "--address", "127.0.0.1", "--out", &keys]);
    assert!(!two.path("data/keys/ca.key").exists(), "the authority's key stays where it is");
    let store = format!("https://localhost:{etcd}");
    two.start(&["agent", "--node", "two", "--store", &store]);
    until("the second agent answers", || two.try_status());
    assert!(cluster.ok(&["kv", "ls", "/regrow/observed/node/"]).contains("two"), "{}", two.log());
    cluster.ok(&["kv", "put", "color", "green"]);
    assert_eq!(two.ok(&["kv", "get", "color"]), "green");
    // What is revoked at the authority reaches the other node through the store.
    client(&cluster, "temp", "admin");
    cluster.ok(&["key", "revoke", "temp"]);
    until("the list has come", || (cluster.read("data/keys/ca.crl") == two.read("data/keys/ca.crl")).then_some(()));
    let error = two.fails(4, &["key", "node", "three", "--address", "127.0.0.1"]);
    assert!(error.contains("is not here"), "{error}");

    let three = Cluster::empty();
    let error = three.fails(2, &["kv", "get", "color", "--store", &store]);
    assert!(error.contains("--tls-ca"), "{error}");
}

/// Beyond loopback every door is refused without keys, with the command that makes them; with them it opens.
#[test]
fn doors_beyond_loopback_need_keys() {
    let mut cluster = Cluster::empty();
    for flag in ["--etcd", "--etcd-legacy", "--http", "--gossip", "--rpc"] {
        let mut words = vec!["agent", "--node", "one", flag, "0.0.0.0:0"];
        if flag != "--gossip" {
            words.extend(["--gossip", "127.0.0.1:0"]);
        }
        let error = cluster.fails(2, &words);
        let data = cluster.path("data").display().to_string();
        assert!(error.contains(&format!("regrow init --data {data} --node one --address ")), "{flag}: {error}");
        assert!(error.contains("--insecure"), "{error}");
    }
    let error = cluster.fails(2, &["agent", "--node", "one", "--etcd", "192.0.2.7:2379"]);
    let fix = error.lines().map(str::trim).find(|line| line.starts_with("regrow init")).expect("the command");
    let words: Vec<&str> = fix.split(' ').skip(1).collect();
    cluster.ok(&words);
    cluster.start(&["agent", "--node", "one", "--etcd", "0.0.0.0:0", "--http", "0.0.0.0:0", "--gossip", "0.0.0.0:0"]);
    until("the agent answers", || cluster.try_status());
    let doors: Value = serde_json::from_str(&cluster.read("data/doors.json")).expect("JSON");
    assert_eq!(doors["tls"], true);
    cluster.ok(&["kv", "put", "color", "green"]);
}

/// An agent with keys shows them nowhere: not in its log, its command line or its environment, and not in a core: it
/// makes none where another process does.
#[test]
fn nothing_shows_the_keys() {
    let mut cluster = keyed();
    start(&mut cluster, &["--gossip", "127.0.0.1:0"]);
    let pid = cluster.agent_pid();
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).map(|bytes| text(&bytes)).unwrap_or_default();
    let seen = cluster.log() + &read("cmdline") + &read("environ") + &cluster.read("data/doors.json");
    for file in ["ca.key", "node.key", "gossip.key", "admin.token"] {
        for line in cluster.read(&format!("data/keys/{file}")).lines().filter(|line| !line.starts_with("-----")) {
            assert!(!seen.contains(line), "{file} is shown");
        }
    }
    let limit = |pid: u32| Command::new("prlimit").args(["--core=unlimited", "--pid", &pid.to_string()]).status();
    let mut plain = Command::new("sleep").arg("600").current_dir(cluster.folder.path()).spawn().expect("sleep runs");
    let _ = (limit(plain.id()), limit(pid));
    support::signal(plain.id(), "ABRT");
    if !plain.wait().expect("it ends").core_dumped() {
        eprintln!("skipped: this machine makes no cores (prlimit, core_pattern)");
        return;
    }
    cluster.signal_agent("ABRT");
    assert!(!cluster.agent_status().core_dumped(), "an agent with keys leaves no core");
}

/// The gossip key is taken from its file while the agent runs.
#[test]
fn gossip_keys_are_read_again() {
    let mut cluster = keyed();
    start(&mut cluster, &["--gossip", "127.0.0.1:0"]);
    let old = cluster.read("data/keys/gossip.key");
    let new = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    cluster.write("data/keys/staged", &format!("{new}\n{old}"));
    std::fs::rename(cluster.path("data/keys/staged"), cluster.path("data/keys/gossip.key")).expect("renamed");
    cluster.until_shown(&["gossip", "keys", "list"], &format!("{new}  at 1 of 1 members, sealing at 1"));
    assert!(cluster.ok(&["gossip", "keys", "list"]).contains(old.trim()), "the one before still opens");
}

/// The examples of the guide.
#[test]
fn the_guide_is_true() {
    let mut cluster = Cluster::empty();
    guide::run("keys.md", |shell| {
        shell.current_dir(cluster.folder.path()).env("REGROW_DATA", "data").env("NO_COLOR", "1");
    });
    // What it has made works.
    start(&mut cluster, &[]);
}
