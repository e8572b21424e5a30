//! Backups of real servers and clusters, and back: what is restored is what was there, by the commands of each type. What is
//! damaged, missing or unfinished is named, and nothing is changed.

mod world;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use anyhow::{Context, Result};
use regrow_redis::address::Address;
use regrow_redis::connection::Dialer;
use regrow_redis::resp::{Command, Value};
use regrow_redis::router::Router;
use regrow_redis::slot::Slot;
use tempfile::TempDir;
use world::content::{contents, differences};
use world::data::{every_kind, noise};
use world::writers::Writers;
use world::{Patience, Ran, Server, need_redis, open, program, regrow, regrow_ok, send};

const HOST: &str = "127.0.0.1";

/// A server waits five seconds for other replicas before it sends a snapshot, unless it is told not to.
const AT_ONCE: [&str; 2] = ["--repl-diskless-sync-delay", "0"];

fn server() -> Result<Server> {
    Server::start(HOST, &[&["--enable-debug-command", "yes"], &AT_ONCE[..]].concat())
}

/// Three masters without replicas.
fn cluster() -> Result<Vec<Server>> {
    let servers: Vec<Server> = (0..3)
        .map(|_| {
            Server::start(
                HOST,
                &[&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"], &AT_ONCE[..]].concat(),
            )
        })
        .collect::<Result<_>>()?;
    let addresses: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    regrow_ok(&["create", "--yes", &addresses[0], &addresses[1], &addresses[2]])?;
    Ok(servers)
}

fn addresses(servers: &[Server]) -> Vec<Address> {
    servers.iter().map(|server| server.address.clone()).collect()
}

/// Values of each type that are too long to be restored whole, some of them with an expiry.
fn long() -> Vec<Command> {
    let member = |index: u64| noise(index + 1, 600);
    let many = |name: &'static str, key: &str, from: u64, item: &dyn Fn(u64) -> Vec<Vec<u8>>| {
        Command::new(name).arg(key).args((from..from + 500).flat_map(item))
    };
    let mut all = vec![Command::new("SET").arg("long string").arg(noise(7, 4_000_000))];
    for from in (0..4).map(|part| part * 500) {
        all.push(many("RPUSH", "long list", from, &|index| vec![member(index)]));
        all.push(many("SADD", "long set", from, &|index| vec![member(index)]));
        all.push(many("ZADD", "long zset", from, &|index| {
            vec![(index as f64 / 7.0 - 9.0).to_string().into_bytes(), member(index)]
        }));
        all.push(many("HSET", "long hash", from, &|index| vec![index.to_string().into_bytes(), member(index)]));
        all.extend((from..from + 500).map(|index| {
            Command::new("XADD").arg("long log").arg(format!("{}-1", index + 1)).arg("f").arg(member(index))
        }));
    }
    all.push(Command::new("XGROUP CREATE").arg("long log").args(["readers", "0"]));
    all.push(Command::new("XREADGROUP GROUP").args(["readers", "ann", "COUNT", "7", "STREAMS", "long log", ">"]));
    all.extend(["long hash", "long log"].map(|key| Command::new("PEXPIREAT").arg(key).number(4_102_444_800_789_i64)));
    all
}

/// A folder that does not exist yet.
fn folder(temp: &TempDir, name: &str) -> (PathBuf, String) {
    let path = temp.path().join(name);
    let text = path.display().to_string();
    (path, text)
}

fn manifest(folder: &Path) -> Result<serde_json::Value> {
    Ok(serde_json::from_slice(&std::fs::read(folder.join("manifest.json"))?)?)
}

/// A server with every type and encoding, in two databases, and with long values: its file is one that a server starts on, and a
/// restore makes the same on another server, expiries and functions, too. What has expired meanwhile is left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_there_and_back() -> Result<()> {
    need_redis!("every_type_there_and_back");
    let source = server()?;
    let mut link = open(&source).await?;
    send(&mut link, &every_kind()).await?;
    send(&mut link, &[Command::new("SELECT 0")]).await?;
    send(&mut link, &long()).await?;
    // Expired, but still there: nobody looks at it, and the server does not either.
    let gone = Command::new("SET").arg("gone").arg("x").arg("PX").number(1);
    send(&mut link, &[Command::new("DEBUG SET-ACTIVE-EXPIRE 0"), gone]).await?;
    let temp = tempfile::tempdir()?;
    let (path, to) = folder(&temp, "a/backup");
    let entry = source.address.to_string();
    let dry = regrow_ok(&["backup", &entry, "--to", &to, "--dry-run"])?;
    assert!(dry.out.starts_with("MASTER") && !path.exists(), "{dry:?}");
    let made = regrow_ok(&["backup", &entry, "--to", &to, "--json"])?.json();
    assert_eq!(made["manifest"], manifest(&path)?);
    let shard = &made["manifest"]["shards"][0];
    let counted = link.int(&Command::new("DBSIZE")).await?;
    assert_eq!(
        (
            shard["file"].as_str(),
            shard["slots"].as_str(),
            shard["found"]["keys"]["3"].as_i64(),
            shard["found"]["functions"].as_i64()
        ),
        (Some("shard-0-16383.rdb"), Some("0-16383"), Some(2), Some(1)),
        "{shard}"
    );
    assert!(
        shard["found"]["keys"]["0"].as_i64() >= Some(counted) && shard["found"]["expiring"].as_i64() == Some(5),
        "{shard}"
    );
    let mode = |path: &Path| anyhow::Ok(std::fs::metadata(path)?.permissions().mode() & 0o777);
    let file = path.join("shard-0-16383.rdb");
    assert_eq!((mode(&path)?, mode(&file)?, mode(&path.join("manifest.json"))?), (0o700, 0o600, 0o600));
    let sum = Process::new("sha256sum").arg(&file).output()?;
    assert!(String::from_utf8(sum.stdout)?.starts_with(shard["found"]["sha256"].as_str().context("sha256")?));

    let wanted = contents(std::slice::from_ref(&source.address), &[0, 3]).await?;

    // A server starts on the file.
    let mut started = server()?;
    started.kill()?;
    std::fs::copy(&file, started.folder().join("dump.rdb"))?;
    started.restart()?;
    let found = contents(std::slice::from_ref(&started.address), &[0, 3]).await?;
    assert_eq!(differences(&wanted, &found), Vec::<String>::new());

    let target = server()?;
    let restored = regrow_ok(&["restore", &to, "--to", &target.address.to_string(), "--yes", "--json"])?.json();
    assert_eq!(
        (restored["done"].as_bool(), restored["restored"]["expired"].as_u64()),
        (Some(true), Some(1)),
        "{restored}"
    );
    assert_eq!(restored["compared"]["keys"], restored["restored"]["keys"]);
    let found = contents(std::slice::from_ref(&target.address), &[0, 3]).await?;
    assert_eq!(differences(&wanted, &found), Vec::<String>::new());
    assert!(target.cli(&["FUNCTION", "LIST"])?.contains("lib"));
    assert_eq!(target.cli(&["--scan", "--pattern", "regrow:*"])?, "", "nothing of ours is left");
    let digest = |server: &Server| server.cli(&["DEBUG", "DIGEST"]);
    assert_eq!(digest(&target)?, digest(&source)?);
    Ok(())
}

/// A cluster under writers goes to one server, and that to a cluster: each side has the same keys at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_shapes() -> Result<()> {
    need_redis!("other_shapes");
    let source = cluster()?;
    let mut router = Router::new(Dialer::default(), addresses(&source));
    for number in 0..600u32 {
        let key = format!("key:{number}");
        let mut set = vec![Command::new("SET").arg(&key).arg(format!("value {number}"))];
        set.extend(
            (number % 3 == 0)
                .then(|| Command::new("PEXPIREAT").arg(&key).number(4_102_444_800_000 + i64::from(number))),
        );
        let answers = router.call(Slot::of_key(key.as_bytes()), &set).await?;
        assert!(!answers.iter().any(|answer| matches!(answer, Value::Error(_))), "{answers:?}");
    }
    for key in ["long string", "long list", "long set", "long zset", "long hash", "long log"] {
        let commands: Vec<Command> = long().into_iter().filter(|command| wire(command).contains(key)).collect();
        for some in commands.chunks(1000) {
            router.call(Slot::of_key(key.as_bytes()), some).await?;
        }
    }
    let temp = tempfile::tempdir()?;
    let (path, to) = folder(&temp, "cluster");
    let entry = source[1].address.to_string();
    regrow_ok(&["backup", &entry, "--to", &to])?;
    let made = manifest(&path)?;
    let slots: Vec<&str> =
        made["shards"].as_array().context("shards")?.iter().filter_map(|shard| shard["slots"].as_str()).collect();
    assert_eq!((slots, &made["cluster"]), (vec!["0-5460", "5461-10921", "10922-16383"], &true.into()));
    let wanted = contents(&addresses(&source), &[0]).await?;

    let single = server()?;
    regrow_ok(&["restore", &to, "--to", &single.address.to_string(), "--yes"])?;
    assert_eq!(
        differences(&wanted, &contents(std::slice::from_ref(&single.address), &[0]).await?),
        Vec::<String>::new()
    );

    // Taken while it is written to. What writers had put in by then is compared by the restore.
    let writers = Writers::start(&single.address, 2, true, 1);
    let (_, to) = folder(&temp, "single");
    let within = Patience::new("writers write");
    while writers.written() < 500 {
        within.or_fail()?;
        tokio::task::yield_now().await;
    }
    let single_entry = single.address.to_string();
    let words = ["backup", &single_entry, "--to", &to];
    tokio::task::block_in_place(|| regrow_ok(&words))?;
    writers.end().await?;
    let target = cluster()?;
    let restored = regrow_ok(&["restore", &to, "--to", &target[2].address.to_string(), "--yes", "--json"])?.json();
    assert_eq!((&restored["done"], &restored["compared"]["different"]), (&true.into(), &0.into()), "{restored}");
    let found = contents(&addresses(&target), &[0]).await?;
    for (key, value) in &wanted {
        assert_eq!(found.get(key), Some(value), "{key:?}");
    }

    // A part of it is changed and lost: restored again it is as it was, and what is not in the backup stays.
    let mut router = Router::new(Dialer::default(), addresses(&target));
    for (key, command) in [
        ("key:5", Command::new("SET").arg("key:5").arg("other")),
        ("long set", Command::new("SADD").arg("long set").arg("stray")),
        ("key:6", Command::new("DEL").arg("key:6")),
        ("mine", Command::new("SET").arg("mine").arg("stays")),
    ] {
        router.call(Slot::of_key(key.as_bytes()), &[command]).await?;
    }
    let to_target = ["restore", &to, "--to", &target[0].address.to_string(), "--yes"].map(str::to_owned);
    let words: Vec<&str> = to_target.iter().map(String::as_str).collect();
    let refused = regrow(&words)?;
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.contains("the target holds") && refused.err.contains("--replace"), "{refused:?}");
    regrow_ok(&[&words[..], &["--replace", "--verify", "1/3"]].concat())?;
    let mut again = contents(&addresses(&target), &[0]).await?;
    let mine = again.remove(&(0, "mine".into())).context("mine")?;
    assert!(mine.contains("stays"));
    for (key, value) in &wanted {
        assert_eq!(again.get(key), Some(value), "{key:?}");
    }
    Ok(())
}

/// A command as it goes over the wire, as text.
fn wire(command: &Command) -> String {
    let mut bytes = bytes::BytesMut::new();
    command.encode(&mut bytes);
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
}

/// A flipped byte, a cut or missing file, an unfinished backup, a full folder, a full disk, and a target that cannot have it: each is said, and
/// nothing is changed.
#[tokio::test]
async fn refusals() -> Result<()> {
    need_redis!("refusals");
    let source = server()?;
    let mut link = open(&source).await?;
    send(&mut link, &every_kind()).await?;
    let entry = source.address.to_string();
    let temp = tempfile::tempdir()?;
    let (path, to) = folder(&temp, "b");
    regrow_ok(&["backup", &entry, "--to", &to])?;
    let again = regrow(&["backup", &entry, "--to", &to])?;
    assert!(again.code == 3 && again.err.contains("holds a backup, and nothing is overwritten"), "{again:?}");

    let target = server()?;
    let to_target = target.address.to_string();
    let refused = |says: &str| -> Result<Ran> {
        let ran = regrow(&["restore", &to, "--to", &to_target, "--yes"])?;
        anyhow::ensure!(ran.code != 0 && ran.err.contains(says), "{says}: {ran:?}");
        anyhow::ensure!(target.cli(&["DBSIZE"])? == "0" && target.cli(&["FUNCTION", "LIST"])?.is_empty(), "{says}");
        Ok(ran)
    };
    let file = path.join("shard-0-16383.rdb");
    let good = std::fs::read(&file)?;
    for at in [0, 20, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 4;
        std::fs::write(&file, &bad)?;
        refused("shard-0-16383.rdb")?;
    }
    std::fs::write(&file, &good[..good.len() / 2])?;
    refused("is damaged: the snapshot cannot be read at byte")?;
    std::fs::remove_file(&file)?;
    refused("is missing, and the manifest lists it")?;
    // Whole, but not the one that was written.
    let other = server()?;
    send(&mut open(&other).await?, &[Command::new("SET a b"), Command::new("SAVE")]).await?;
    std::fs::copy(other.folder().join("dump.rdb"), &file)?;
    refused("is not the file that was written")?;
    std::fs::write(&file, &good)?;
    let saved = std::fs::read(path.join("manifest.json"))?;
    std::fs::remove_file(path.join("manifest.json"))?;
    let unfinished = refused("one that did not come to its end")?;
    assert_eq!(unfinished.code, 3);
    std::fs::write(path.join("manifest.json"), saved)?;

    // A cluster has no database 3.
    let nodes = cluster()?;
    let ran = regrow(&["restore", &to, "--to", &nodes[0].address.to_string(), "--yes"])?;
    assert!(ran.code == 3 && ran.err.contains("keys in database 3, and a cluster has only database 0"), "{ran:?}");
    assert_eq!(nodes[0].cli(&["DBSIZE"])?, "0");
    // A replica takes no writes, whoever its master is.
    let (host, port) = (&source.address.host, source.address.port.to_string());
    other.cli(&["REPLICAOF", host, &port])?;
    let ran = regrow(&["restore", &to, "--to", &other.address.to_string(), "--replace", "--yes"])?;
    assert!(ran.code == 3 && ran.err.contains("is a replica, and takes no writes"), "{ran:?}");
    let unasked = regrow(&["restore", &to, "--to", &to_target])?;
    assert!(unasked.code == 3 && unasked.err.contains("Restore it? (yes/no)"), "{unasked:?}");
    assert_eq!(target.cli(&["DBSIZE"])?, "0");

    // No file may grow beyond 1 MiB (2048 blocks of 512 bytes); a disk that is full says the same with another word.
    let (full, to_full) = folder(&temp, "full");
    let limited = Process::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\""])
        .arg(program()?)
        .args(["backup", &entry, "--to", &to_full])
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&limited.stderr);
    assert!(
        limited.status.code() == Some(1) && said.contains("cannot use") && said.contains("File too large"),
        "{said}"
    );
    assert!(!full.exists(), "nothing is left of it");

    // What is whole is restored.
    regrow_ok(&["restore", &to, "--to", &to_target, "--yes"])?;
    assert_eq!(
        differences(
            &contents(std::slice::from_ref(&source.address), &[0, 3]).await?,
            &contents(std::slice::from_ref(&target.address), &[0, 3]).await?
        ),
        Vec::<String>::new()
    );
    Ok(())
}
