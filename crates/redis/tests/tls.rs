//! The toolbox by TLS, with servers that have no other door and want a certificate in turn.

mod world;

use std::process::Command;

use anyhow::{Context, Result, ensure};
use world::{Server, certificates, need_redis, regrow, regrow_ok};

/// A server that is reached by TLS only.
struct Secure {
    _server: Server,
    place: String,
}

fn secure(files: &[String; 3], more: &[&str]) -> Result<Secure> {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port().to_string();
    let [ca, cert, key] = files;
    let mut settings = vec!["--port", "0", "--tls-port", &port, "--tls-cert-file", cert, "--tls-key-file", key];
    settings.extend(["--tls-ca-cert-file", ca, "--tls-auth-clients", "yes", "--repl-diskless-sync-delay", "0"]);
    settings.extend(more);
    Ok(Secure { _server: Server::start("127.0.0.1", &settings)?, place: format!("127.0.0.1:{port}") })
}

/// A cluster is made, checked, filled by a migration, kept in a backup and looked at, all by TLS; who does not prove who he is, or does
/// not trust the servers, is told what to do.
#[test]
fn everything_by_tls() -> Result<()> {
    need_redis!("everything_by_tls");
    let folder = tempfile::tempdir()?;
    ensure!(certificates(folder.path())?, "openssl makes no certificates");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let files = [file("ca.pem"), file("cert.pem"), file("key.pem")];
    let trust = ["--cacert", &files[0], "--cert", &files[1], "--key", &files[2]];
    let with = |words: &[&str]| regrow_ok(&[words, &trust].concat());
    let redis_cli = |place: &str, words: &[&str]| -> Result<String> {
        let (host, port) = place.split_once(':').context("a place")?;
        let output =
            Command::new("redis-cli").args(["--tls", "-c", "-h", host, "-p", port]).args(trust).args(words).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    };
    let cluster = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--tls-replication", "yes"];
    let nodes: Vec<Secure> = (0..3).map(|_| secure(&files, &cluster)).collect::<Result<_>>()?;
    let mut create = vec!["create", "--yes", "--tls"];
    create.extend(nodes.iter().map(|node| node.place.as_str()));
    with(&create)?;
    let (entry, all) = (format!("rediss://{}", nodes[0].place), format!("rediss-cluster://{}", nodes[0].place));
    with(&["check", &entry])?;

    let source = secure(&files, &[])?;
    assert_eq!(redis_cli(&source.place, &["EVAL", "for i = 1, 500 do redis.call('SET', 'k' .. i, i) end", "0"])?, "");
    let (from, state) = (format!("rediss://{}", source.place), file("state"));
    let migrate = ["migrate", "--once", "--yes", "--from", &from, "--to", &all, "--state", &state, "--json"];
    let outcome = with(&migrate)?.json();
    assert_eq!((outcome["done"].as_bool(), outcome["verdict"]["keys"].as_u64()), (Some(true), Some(500)), "{outcome}");
    assert_eq!(redis_cli(&nodes[1].place, &["GET", "k7"])?, "7");

    let kept = with(&["backup", &all, "--to", &file("backup"), "--json"])?.json();
    assert_eq!(kept["done"], true, "{kept}");
    let backend = ["--backend-ca", &files[0], "--backend-cert", &files[1], "--backend-key", &files[2]];
    let look = regrow_ok(&[&["monitor", "--to", &all, "--once", "--json"][..], &backend].concat())?.json();
    assert_eq!(look["healthy"], true, "{look}");

    let untrusted = regrow(&["check", &entry])?;
    ensure!(untrusted.code == 5 && untrusted.err.contains("--cacert"), "{untrusted:?}");
    let unproven = regrow(&["check", &entry, "--cacert", &files[0]])?;
    ensure!(unproven.code != 0 && unproven.err.contains("CertificateRequired"), "{unproven:?}");
    let by_name = entry.replace("127.0.0.1", "localhost");
    let other = regrow(&[&["check", &by_name][..], &trust].concat())?;
    ensure!(other.code == 5 && other.err.contains("--sni"), "{other:?}");
    with(&["check", &by_name, "--sni", "127.0.0.1"])?;
    Ok(())
}
