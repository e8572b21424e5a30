//! Migrations between real servers under live writes, with things killed and cut in the middle. Whether both sides are equal is
//! judged by reading all keys with the commands of their types, not by our own comparison.

mod world;

use std::path::Path;
use std::process::{Child, Command as Program, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use regrow_redis::address::Address;
use regrow_redis::connection::Dialer;
use regrow_redis::resp::{Command, Value};
use world::content::contents;
use world::data::every_kind;
use world::migrator::{Migrator, alone, cluster, equal, fail_over, fill, masters, server, size, url};
use world::writers::{Dice, Writers};
use world::{Patience, need_redis, open, regrow, regrow_ok, send};

/// Once, without live writes: every type and encoding, also values in pieces, arrives as it is, with functions and expiries.
#[tokio::test]
async fn once() -> Result<()> {
    need_redis!("once");
    let source = server(&[])?;
    fill(&source, size(2000, 1_000_000)).await?;
    let target = cluster(3, 0)?;
    let state = tempfile::tempdir()?;
    let (from, to, state) = (url(&source), url(&target[0]), state.path().join("s").display().to_string());
    let words = ["migrate", "--from", &from, "--to", &to, "--once", "--yes", "--json", "--state", &state];
    let ran = regrow(&words)?;
    assert_eq!(ran.code, 0, "{ran:?}");
    let outcome = ran.json();
    assert_eq!(outcome["done"], true);
    assert_eq!(outcome["verdict"]["different"], 0);
    let keys = equal(&alone(&source), &masters(&target).await?, &[0]).await?;
    assert_eq!(outcome["verdict"]["keys"], keys);
    for node in &target {
        assert!(node.cli(&["FUNCTION", "LIST"])?.contains("lib"), "functions are on every master");
    }
    // Both sides have keys now, so a second migration is refused, and changes nothing.
    let ran = regrow(&words)?;
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("is not empty"), "{ran:?}");
    Ok(())
}

/// The migrator is killed again and again while clients write with every family of commands, across slots, with short and
/// renewed expiries; nothing is lost or done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again() -> Result<()> {
    need_redis!("killed_again_and_again");
    let source = server(&["--repl-backlog-size", "64mb"])?;
    fill(&source, size(5000, 3_000_000)).await?;
    let target = cluster(3, 0)?;
    let writers = Writers::start(&source.address, size(3, 8), true, size(30, 1));
    let mut migrator = Migrator::new(&url(&source), &url(&target[0]), &["--rate", &size(5000, 200_000).to_string()])?;
    let mut dice = Dice::new(7);
    for _ in 0..size(5, 10) {
        migrator.start()?;
        // The fault itself: at any moment.
        tokio::time::sleep(Duration::from_millis(200 + dice.roll(1300))).await;
        migrator.kill()?;
    }
    migrator.start()?;
    migrator.until("in step").await?;
    let written = writers.end().await?;
    migrator.cut_over().await?;
    assert!(written > 1000, "{written} writes");
    equal(&alone(&source), &masters(&target).await?, &[0]).await.with_context(|| migrator.said())?;
    Ok(())
}

/// The cut-over happens while clients write: they are paused, and all that was acknowledged is on the target.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_over_under_load() -> Result<()> {
    need_redis!("cut_over_under_load");
    let source = server(&[])?;
    fill(&source, 1000).await?;
    let target = server(&[])?;
    let writers = Writers::start(&source.address, 3, true, 5);
    let folder = tempfile::tempdir()?;
    let stopper = folder.path().join("switched");
    let switch = format!("touch '{}'", stopper.display());
    let mut migrator = Migrator::new(&url(&source), &url(&target), &[])?;
    migrator.start()?;
    migrator.until("in step").await?;
    let mut words: Vec<String> = migrator.words.clone();
    words.extend(["--cut-over".to_owned(), "--json".to_owned(), "--switch-with".to_owned(), switch]);
    let asked = tokio::task::spawn_blocking(move || regrow(&words.iter().map(String::as_str).collect::<Vec<_>>()));
    let patience = Patience::new("the switch");
    while !stopper.exists() {
        patience.or_fail().with_context(|| migrator.said())?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    writers.end().await?;
    let ran = asked.await??;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.json()["paused_ms"].as_u64().context("the pause")? < 10_000);
    assert_eq!(migrator.end().await?, 0, "{}", migrator.said());
    equal(&alone(&source), &alone(&target), &[0]).await?;
    Ok(())
}

/// A cut-over whose switch fails is given up: the source serves on, the migration goes on, and the next try succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_that_fails() -> Result<()> {
    need_redis!("a_switch_that_fails");
    let source = server(&[])?;
    fill(&source, 100).await?;
    let target = server(&[])?;
    let mut migrator = Migrator::new(&url(&source), &url(&target), &[])?;
    migrator.start()?;
    migrator.until("in step").await?;
    let mut words: Vec<String> = migrator.words.clone();
    words.extend(["--cut-over".to_owned(), "--switch-with".to_owned(), "echo no such proxy >&2; exit 7".to_owned()]);
    let ran =
        tokio::task::spawn_blocking(move || regrow(&words.iter().map(String::as_str).collect::<Vec<_>>())).await??;
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("no such proxy"), "{ran:?}");
    migrator.end().await?;
    let mut link = open(&source).await?;
    send(&mut link, &[Command::new("SET").arg("after").arg("1")]).await?;
    migrator.start()?;
    migrator.cut_over().await?;
    equal(&alone(&source), &alone(&target), &[0]).await?;
    Ok(())
}

/// A master of the target dies, its replica takes over, while live writes come: what the dead one had taken alone is applied
/// anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_the_target_dies() -> Result<()> {
    need_redis!("a_master_of_the_target_dies");
    let source = server(&[])?;
    fill(&source, size(3000, 500_000)).await?;
    let mut target = cluster(3, 1)?;
    let writers = Writers::start(&source.address, 2, true, 30);
    let mut migrator = Migrator::new(&url(&source), &url(&target[0]), &[])?;
    migrator.start()?;
    migrator.until("in step").await?;
    fail_over(&mut target).await?;
    writers.until_more(500).await?;
    writers.end().await?;
    migrator.cut_over().await?;
    equal(&alone(&source), &masters(&target).await?, &[0]).await.with_context(|| migrator.said())?;
    Ok(())
}

/// The link to the source is cut again and again; and once the source's backlog has gone on, so that only a new snapshot helps:
/// what it does not hold is gone from the target, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_links_and_a_lost_backlog() -> Result<()> {
    need_redis!("cut_links_and_a_lost_backlog");
    let source = server(&["--repl-backlog-size", "16kb"])?;
    fill(&source, 2000).await?;
    let target = cluster(3, 0)?;
    let mut migrator = Migrator::new(&url(&source), &url(&target[0]), &[])?;
    migrator.start()?;
    migrator.until("in step").await?;
    let writers = Writers::start(&source.address, 2, true, 10);
    for _ in 0..5 {
        source.cli(&["CLIENT", "KILL", "TYPE", "replica"])?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    writers.end().await?;
    migrator.kill()?;
    let mut link = open(&source).await?;
    let gone: Vec<Command> = (0..1000).map(|index| Command::new("DEL").arg(format!("small:{index}"))).collect();
    send(&mut link, &gone).await?;
    send(&mut link, &[Command::new("SET").arg("long").arg("x".repeat(50_000))]).await?;
    migrator.start()?;
    migrator.cut_over().await?;
    equal(&alone(&source), &masters(&target).await?, &[0]).await.with_context(|| migrator.said())?;
    Ok(())
}

/// `FLUSHALL` empties the target once: what is written after it stays, although the migrator is killed right then and does all
/// again that was not confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_flushed_once() -> Result<()> {
    need_redis!("everything_is_flushed_once");
    let source = server(&[])?;
    fill(&source, 500).await?;
    let target = cluster(3, 0)?;
    let mut migrator = Migrator::new(&url(&source), &url(&target[0]), &[])?;
    migrator.start()?;
    migrator.until("in step").await?;
    let mut link = open(&source).await?;
    let mut all = vec![Command::new("FLUSHALL")];
    all.extend((0..300).map(|index| Command::new("INCR").arg(format!("after:{index}"))));
    send(&mut link, &all).await?;
    let there = masters(&target).await?;
    let patience = Patience::new("the flush, and what came after it, on the target");
    while contents(&there, &[0]).await?.keys().filter(|(_, key)| key.starts_with(b"after:")).count() < 300 {
        patience.or_fail().with_context(|| migrator.said())?;
    }
    migrator.kill()?;
    migrator.start()?;
    migrator.cut_over().await?;
    assert_eq!(equal(&alone(&source), &there, &[0]).await?, 300);
    Ok(())
}

/// What the target has refused is copied anew although the migrator ends right then: once with nothing but its note, once
/// without even that, as when it is killed between the transaction and the note.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_not_forgotten() -> Result<()> {
    need_redis!("a_refusal_is_not_forgotten");
    let source = server(&[])?;
    fill(&source, 100).await?;
    let target = server(&[])?;
    let mut migrator = Migrator::new(&url(&source), &url(&target), &[])?;
    migrator.start()?;
    migrator.until("in step").await?;
    let mut there = open(&target).await?;
    send(&mut there, &[Command::new("SET").arg("refused").arg("no list")]).await?;
    // The value cannot be read from the source: after the refusal, when the mark is past it, the migrator ends.
    source.cli(&["ACL", "SETUSER", "default", "-dump"])?;
    let mut link = open(&source).await?;
    let writes = [
        Command::new("MULTI"),
        Command::new("LPUSH").arg("refused").args(["a", "b"]),
        Command::new("SET").arg("witness").arg("1"),
        Command::new("EXEC"),
    ];
    send(&mut link, &writes).await?;
    assert_ne!(migrator.end().await?, 0);
    assert!(migrator.said().contains("NOPERM"), "{}", migrator.said());
    assert_eq!(there.call(&Command::new("GET").arg("witness")).await?, Value::Bulk("1".into()), "the mark is past it");
    let journal = migrator.state().join("feed-0/journal.json");
    let noted = || std::fs::read_to_string(&journal).map(|text| text.contains("72656675736564"));
    for forget in [true, false] {
        assert!(noted()?, "{}", std::fs::read_to_string(&journal)?);
        if forget {
            let mut without: serde_json::Value = serde_json::from_slice(&std::fs::read(&journal)?)?;
            without["anew"] = serde_json::json!([]);
            std::fs::write(&journal, without.to_string())?;
            assert!(!noted()?);
        }
        migrator.start()?;
        assert_ne!(migrator.end().await?, 0);
    }
    assert!(noted()?, "{}", std::fs::read_to_string(&journal)?);
    source.cli(&["ACL", "SETUSER", "default", "+dump"])?;
    migrator.start()?;
    migrator.cut_over().await?;
    equal(&alone(&source), &alone(&target), &[0]).await.with_context(|| migrator.said())?;
    Ok(())
}

/// A target that does not let expiries be released is told, and not left as if all were done; the same command ends it later.
#[tokio::test]
async fn expiries_that_cannot_be_released() -> Result<()> {
    need_redis!("expiries_that_cannot_be_released");
    let source = server(&[])?;
    fill(&source, 100).await?;
    let target = server(&[])?;
    target.cli(&["ACL", "SETUSER", "default", "-pexpiretime"])?;
    let state = tempfile::tempdir()?;
    let (from, to, state) = (url(&source), url(&target), state.path().join("s").display().to_string());
    let words = ["migrate", "--from", &from, "--to", &to, "--once", "--verify", "none", "--yes", "--state", &state];
    let ran = regrow(&words)?;
    assert!(ran.code != 0 && ran.err.contains("PEXPIRETIME"), "{ran:?}");
    target.cli(&["ACL", "SETUSER", "default", "+pexpiretime"])?;
    regrow_ok(&words)?;
    equal(&alone(&source), &alone(&target), &[0]).await?;
    Ok(())
}

/// A full target stops nothing for good: it is told, waited for, and all arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_target() -> Result<()> {
    need_redis!("a_full_target");
    let source = server(&[])?;
    fill(&source, 5000).await?;
    let target = server(&["--maxmemory", "3mb"])?;
    let mut migrator = Migrator::new(&url(&source), &url(&target), &[])?;
    migrator.start()?;
    migrator.until("waiting: ").await?;
    migrator.until("OOM").await?;
    let writers = Writers::start(&source.address, 2, true, 10);
    target.cli(&["CONFIG", "SET", "maxmemory", "0"])?;
    migrator.until("in step").await?;
    target.cli(&["CONFIG", "SET", "maxmemory", "3mb"])?;
    migrator.until("OOM").await?;
    writers.end().await?;
    target.cli(&["CONFIG", "SET", "maxmemory", "0"])?;
    migrator.cut_over().await?;
    equal(&alone(&source), &alone(&target), &[0]).await?;
    Ok(())
}

/// A key whose expiry is renewed while the snapshot is on its way is not lost, although the expiry in the snapshot passes on
/// the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_expiries() -> Result<()> {
    need_redis!("renewed_expiries");
    let source = server(&[])?;
    let mut link = open(&source).await?;
    let target = cluster(3, 0)?;
    let count = 200;
    let names = ["PEXPIRE", "GETEX", "SET", "PERSIST"];
    let key = |name: &str, index: u64| format!("{name}:{index}");
    for name in names {
        let keys: Vec<Command> =
            (0..count).map(|index| Command::new("SET").arg(key(name, index)).arg("v").arg("PX").number(2500)).collect();
        send(&mut link, &keys).await?;
    }
    // Four seconds for the snapshot: every expiry in it passes before its key is there.
    let mut migrator = Migrator::new(&url(&source), &url(&target[0]), &["--rate", "200"])?;
    migrator.start()?;
    migrator.until("keys/s").await?;
    let renewed: Vec<Command> = (0..count)
        .flat_map(|index| {
            [
                Command::new("PEXPIRE").arg(key("PEXPIRE", index)).number(600_000 + index),
                Command::new("GETEX").arg(key("GETEX", index)).arg("PX").number(600_000 + index),
                Command::new("SET").arg(key("SET", index)).arg("w").arg("PX").number(600_000),
                Command::new("PERSIST").arg(key("PERSIST", index)),
            ]
        })
        .collect();
    send(&mut link, &renewed).await?;
    migrator.cut_over().await?;
    let keys = equal(&alone(&source), &masters(&target).await?, &[0]).await?;
    assert_eq!(keys, count * names.len() as u64);
    Ok(())
}

/// Several databases: refused for a cluster unless each has a place; carried over between servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases() -> Result<()> {
    need_redis!("databases");
    let source = server(&[])?;
    let mut link = open(&source).await?;
    send(&mut link, &every_kind()).await?;
    let nodes = cluster(3, 0)?;
    let state = tempfile::tempdir()?;
    let state = state.path().join("s").display().to_string();
    let (from, to) = (url(&source), url(&nodes[0]));
    let ran = regrow(&["migrate", "--from", &from, "--to", &to, "--once", "--yes", "--state", &state])?;
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("database 3 of the source (2 keys) has no place"), "{ran:?}");
    assert!(!Path::new(&state).exists(), "a refusal leaves nothing behind");
    regrow_ok(&[
        "migrate",
        "--from",
        &from,
        "--to",
        &to,
        "--once",
        "--yes",
        "--state",
        &state,
        "--db",
        "3=0",
        "--leave-db",
        "0",
    ])?;
    let there = contents(&masters(&nodes).await?, &[0]).await?;
    assert_eq!(there.len(), 2);

    let target = server(&[])?;
    let mut migrator = Migrator::new(&from, &url(&target), &["--db", "0=0", "--db", "3=3"])?;
    migrator.start()?;
    migrator.until("in step").await?;
    let live = [
        Command::new("SELECT").arg("3"),
        Command::new("SET").arg("live").arg("1"),
        Command::new("MOVE").arg("other").arg("0"),
        Command::new("SELECT").arg("0"),
        Command::new("SET").arg("live").arg("2"),
        Command::new("SWAPDB").args(["0", "3"]),
    ];
    send(&mut link, &live).await?;
    migrator.cut_over().await?;
    equal(&alone(&source), &alone(&target), &[0, 3]).await?;
    Ok(())
}

/// From a cluster to a cluster of another shape, and to one server; a master of the source fails over meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_cluster() -> Result<()> {
    need_redis!("from_a_cluster");
    let source = cluster(3, 1)?;
    let target = cluster(4, 0)?;
    let addresses = masters(&source).await?;
    let from = format!("redis-cluster://{}", addresses[0]);
    let mut client = world::client::Client::new(&source[0].address);
    for index in 0..size(500, 100_000) {
        let key = format!("k{index}");
        client.call(&key, Command::new("SET").arg(&key).arg("1")).await?;
    }
    let mut migrator = Migrator::new(&from, &url(&target[0]), &[])?;
    migrator.start()?;
    migrator.until("in step").await?;
    for index in 0..500 {
        let key = format!("k{index}");
        client.call(&key, Command::new("INCR").arg(&key)).await?;
        if index == 250 {
            let replica = source.iter().find(|node| !addresses.contains(&node.address)).context("a replica")?;
            regrow_ok(&["failover", &addresses[0].to_string(), &replica.address.to_string()])?;
        }
    }
    migrator.cut_over().await?;
    equal(&masters(&source).await?, &masters(&target).await?, &[0]).await.with_context(|| migrator.said())?;

    let one = server(&[])?;
    let state = tempfile::tempdir()?;
    let state = state.path().join("s").display().to_string();
    regrow_ok(&["migrate", "--from", &from, "--to", &url(&one), "--once", "--yes", "--state", &state])?;
    equal(&masters(&source).await?, &alone(&one), &[0]).await?;
    Ok(())
}

/// Our own comparison finds each planted difference and names its key; without one it finds none.
#[tokio::test]
async fn planted_differences() -> Result<()> {
    need_redis!("planted_differences");
    let source = server(&[])?;
    fill(&source, 500).await?;
    let mut link = open(&source).await?;
    let big: Vec<Command> = (0..200)
        .map(|part| {
            Command::new("SADD").arg("big set").args((0..1000).map(|index| format!("a longer member {part} {index}")))
        })
        .collect();
    send(&mut link, &big).await?;
    send(&mut link, &[Command::new("SETRANGE").arg("big text").number(9 << 20).arg("end")]).await?;
    let target = cluster(3, 0)?;
    let state = tempfile::tempdir()?;
    let state = state.path().join("s").display().to_string();
    let (from, to) = (url(&source), url(&target[0]));
    regrow_ok(&["migrate", "--from", &from, "--to", &to, "--once", "--yes", "--state", &state])?;
    regrow_ok(&["migrate", "--from", &from, "--to", &to, "--compare"])?;

    let mut client = world::client::Client::new(&target[0].address);
    let planted: Vec<(&str, Command, &str)> = vec![
        ("word", Command::new("SETRANGE").arg("word").args(["0", "+"]), "another value of the same size"),
        ("set", Command::new("SREM").arg("set").arg("member number 7"), "set of 1000 elements on the source, 999"),
        (
            "fleeting",
            Command::new("PEXPIREAT").arg("fleeting").number(4_102_444_800_123_i64 + 6),
            "expires at 4102444800123 ms",
        ),
        ("short", Command::new("EXPIRE").arg("short").arg("100000"), "expires never on the source"),
        ("extra", Command::new("SET").arg("extra").arg("1"), "not on the source"),
        ("small:5", Command::new("DEL").arg("small:5"), "missing on the target"),
        (
            "small:7",
            Command::new("RESTORE").arg("small:7").args(["0".as_bytes(), &list_dump()[..], b"REPLACE"]),
            "string on the source, list on the target",
        ),
        ("list small", Command::new("LSET").arg("list small").args(["2", "x"]), "another value"),
        ("zset", Command::new("ZADD").arg("zset").args(["0.10000000000000002", "tenth"]), "another value"),
        ("hash", Command::new("HSET").arg("hash").args(["member number 3", "x"]), "another value"),
        ("stream", Command::new("XACK").arg("stream").args(["readers", "5-5"]), "elements on the source"),
        (
            "big set",
            Command::new("SREM").arg("big set").arg("a longer member 3 4"),
            "set of 200000 on the source, 199999",
        ),
        ("big text", Command::new("SETRANGE").arg("big text").number(5 << 20).arg("x"), "another value from place"),
    ];
    for (key, command, _) in &planted {
        client.call(key, command.clone()).await?;
    }
    // The same number of members, but another one.
    client.call("set of numbers 16", Command::new("SREM").arg("set of numbers 16").arg("1")).await?;
    client.call("set of numbers 16", Command::new("SADD").arg("set of numbers 16").arg("1000")).await?;
    let ran = regrow(&["migrate", "--from", &from, "--to", &to, "--compare", "--json"])?;
    assert_eq!(ran.code, 1);
    let verdict = ran.json();
    assert_eq!(verdict["different"], planted.len() + 1, "{verdict:#}");
    for (key, _, what) in planted.iter().map(|(key, command, what)| (*key, command, *what)) {
        let found = verdict["differences"].as_array().context("differences")?.iter().find(|found| found["key"] == key);
        let text = found.and_then(|found| found["what"].as_str()).with_context(|| format!("{key} is not named"))?;
        assert!(text.contains(what), "{key}: {text}");
    }
    Ok(())
}

/// A list of one element, as `RESTORE` takes it.
fn list_dump() -> Vec<u8> {
    regrow_redis::rdb::dump(regrow_redis::rdb::Kind::List, &[1, 1, b'x'], 10).to_vec()
}

/// Nothing of a migration is left on the target, and a source is found by its sentinel, which has a password of its own.
#[tokio::test]
async fn found_by_a_sentinel() -> Result<()> {
    need_redis!("found_by_a_sentinel");
    let source = server(&[])?;
    fill(&source, 100).await?;
    let conf = tempfile::tempdir()?;
    let path = conf.path().join("sentinel.conf");
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    std::fs::write(
        &path,
        format!(
            "port {port}\nbind 127.0.0.1\nrequirepass watched\nsentinel monitor main 127.0.0.1 {} 1\n",
            source.address.port
        ),
    )?;
    let child = Program::new("redis-server").arg(&path).arg("--sentinel").stdout(Stdio::null()).spawn()?;
    let _sentinel = Ends(child);
    let patience = Patience::new("the sentinel");
    let sentinel = Address::new("127.0.0.1", port);
    while Dialer::default().connect(&sentinel).await.is_err_and(|error| error.unreachable()) {
        patience.or_fail()?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let target = server(&[])?;
    let state = tempfile::tempdir()?;
    let state = state.path().join("s").display().to_string();
    let from = format!("redis-sentinel://{sentinel}/main");
    let words = ["migrate", "--from", &from, "--to", &url(&target), "--once", "--yes", "--state", &state];
    let ran = regrow(&words)?;
    assert!(ran.code != 0 && ran.err.contains("NOAUTH"), "{ran:?}");
    regrow_ok(&[&words[..], &["--sentinel-password", "watched"]].concat())?;
    equal(&alone(&source), &alone(&target), &[0]).await?;
    let left = open(&target).await?.call(&Command::new("KEYS").arg("regrow:*")).await?;
    assert_eq!(left, Value::Array(Vec::new()));
    Ok(())
}

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
