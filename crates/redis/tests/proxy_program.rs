//! The proxy, the switch and the monitor as people start them: TLS on both sides, passwords by environment and file, and
//! what each prints.

mod world;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use world::{Server, certificates, need_redis, program, regrow, regrow_ok};

/// A proxy that ends with the test.
struct Running {
    child: Child,
    port: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(words: &[&str], passwords: &[(&str, &str)]) -> Result<Running> {
    let mut child = Command::new(program()?)
        .args(["proxy", "--json", "--listen", "127.0.0.1:0"])
        .args(words)
        .env_remove("REGROW_REDIS_PASSWORD")
        .envs(passwords.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
    let listening: serde_json::Value = serde_json::from_str(&line).with_context(|| format!("not JSON: {line:?}"))?;
    let port = listening["listen"].as_str().and_then(|listen| listen.rsplit(':').next()).context("a port")?;
    Ok(Running { child, port: port.to_owned() })
}

fn cli(port: &str, words: &[&str]) -> Result<String> {
    let output = Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", port]).args(words).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Clients come by TLS and a password, and go on by TLS and another password.
#[test]
fn tls_and_passwords() -> Result<()> {
    need_redis!("tls_and_passwords");
    let folder = tempfile::tempdir()?;
    ensure!(certificates(folder.path())?, "openssl makes no certificates");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let tls_port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port().to_string();
    let _server = Server::start(
        "127.0.0.1",
        &[
            "--tls-port",
            &tls_port,
            "--tls-cert-file",
            &cert,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "no",
            "--requirepass",
            "inner",
        ],
    )?;
    std::fs::write(folder.path().join("outer"), "outer\n")?;
    let (outer, to) = (file("outer"), format!("rediss://127.0.0.1:{tls_port}"));
    let words =
        ["--to", &to, "--backend-ca", &ca, "--tls-cert", &cert, "--tls-key", &key, "--client-password-file", &outer];
    let proxy = start(&words, &[("REGROW_REDIS_PASSWORD", "inner")])?;
    let secure = |password: &str, words: &[&str]| {
        let mut all = vec!["--tls", "--cacert", &ca, "-a", password, "--no-auth-warning"];
        all.extend(words);
        cli(&proxy.port, &all)
    };
    assert_eq!(secure("outer", &["SET", "a", "1"])?, "OK");
    assert_eq!(secure("outer", &["GET", "a"])?, "1");
    ensure!(secure("inner", &["GET", "a"])?.contains("NOAUTH"));
    ensure!(!cli(&proxy.port, &["GET", "a"])?.contains('1'), "without TLS");

    let in_sight = regrow(&["proxy", "--listen", "127.0.0.1:0", "--to", "redis://:secret@127.0.0.1:1"])?;
    assert_eq!(in_sight.code, 3, "{in_sight:?}");
    ensure!(in_sight.err.contains("list of processes") && !in_sight.err.contains("secret"), "{in_sight:?}");
    let unsigned = regrow(&["proxy", "--listen", "127.0.0.1:0", "--to", &to])?;
    ensure!(unsigned.code == 5 && unsigned.err.contains("--backend-ca"), "{unsigned:?}");
    Ok(())
}

/// The switch says for how long it held commands, and gives the proxy a new password; the monitor's exit is its verdict.
#[test]
fn switch_and_monitor() -> Result<()> {
    need_redis!("switch_and_monitor");
    let (old, new) = (Server::start("127.0.0.1", &[])?, Server::start("127.0.0.1", &[])?);
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("admin.sock").display().to_string();
    let (from, to) = (format!("redis://{}", old.address), format!("redis://{}", new.address));
    let proxy = start(&["--to", &from, "--admin", &socket], &[])?;
    assert_eq!(cli(&proxy.port, &["SET", "where", "old"])?, "OK");
    let switched = regrow_ok(&["switch", &socket, "--to", &to, "--json"])?.json();
    assert_eq!(switched["to"], to);
    ensure!(switched["paused_us"].as_u64().is_some(), "{switched}");
    assert_eq!(cli(&proxy.port, &["SET", "where", "new"])?, "OK");
    assert_eq!((old.cli(&["GET", "where"])?.as_str(), new.cli(&["GET", "where"])?.as_str()), ("old", "new"));
    let again = regrow_ok(&["switch", &socket, "--to", &from])?;
    ensure!(again.out.contains("they were held for"), "{again:?}");
    let nowhere = regrow(&["switch", &socket, "--to", "redis://127.0.0.1:1"])?;
    ensure!(nowhere.code == 3 && nowhere.err.contains("go to the backend that they went to before"), "{nowhere:?}");
    assert_eq!(cli(&proxy.port, &["GET", "where"])?, "old");

    // The password is changed at the server, then at the proxy, by a switch to where it is.
    std::fs::write(folder.path().join("next"), "next\n")?;
    assert_eq!(old.cli(&["CONFIG", "SET", "requirepass", "next"])?, "OK");
    let next = folder.path().join("next").display().to_string();
    let same = regrow_ok(&["switch", &socket, "--to", &from, "--password-file", &next])?;
    ensure!(same.out.contains("they were held for"), "{same:?}");
    assert_eq!(cli(&proxy.port, &["LPUSH", "list", "x"])?, "1");
    // On a connection that is new.
    assert_eq!(cli(&proxy.port, &["BLPOP", "list", "1"])?, "list\nx");

    let healthy = regrow_ok(&["monitor", "--to", &to, "--once", "--json"])?.json();
    assert_eq!((healthy["healthy"].as_bool(), healthy["nodes"][0]["keys"].as_u64()), (Some(true), Some(1)));
    // A node that has not been given slots yet is no whole cluster.
    let node = Server::node("127.0.0.1")?;
    let sick = regrow(&["monitor", "--to", &format!("redis-cluster://{}", node.address), "--once"])?;
    ensure!(sick.code == 1 && sick.out.contains("not healthy"), "{sick:?}");
    Ok(())
}
