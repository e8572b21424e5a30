//! Rolling upgrades of real clusters, from Debian's server to one that calls itself another version, while clients write:
//! what was acknowledged is there, whatever breaks off, and the roles are as they were.

mod world;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use regrow_redis::address::Address;
use regrow_redis::connection::Dialer;
use regrow_redis::resp::{Command, Value};
use regrow_redis::router::Router;
use regrow_redis::slot::Slot;
use tempfile::TempDir;
use tokio::task::JoinSet;
use world::{Patience, Ran, Server, need_redis, program, regrow, regrow_ok, whole};

const HOSTS: [&str; 3] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
/// The version of the patched server; as long as Debian's, which it takes the place of.
const OLD: &str = "7.0.15";
const NEW: &str = "7.0.99";

/// Masters with their replicas, and all versions.
type Roles = (Vec<(String, Vec<String>)>, Vec<String>);

/// A cluster, the files of an upgrade, and what ends the servers that it has started.
struct Stage {
    servers: Vec<Server>,
    folder: TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        for server in &self.servers {
            let (host, port) = (&server.address.host, server.address.port.to_string());
            let _ = Process::new("redis-cli")
                .args(["-h", host, "-p", &port, "SHUTDOWN", "NOSAVE", "NOW", "FORCE"])
                .output();
        }
    }
}

impl Stage {
    /// `replicas`: for each of three masters.
    fn new(replicas: usize) -> Result<Self> {
        let all =
            ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-replica-validity-factor", "0"];
        // A server waits five seconds for other replicas before it sends a snapshot.
        let all = [&all[..], &["--repl-diskless-sync-delay", "0"]].concat();
        let hosts = HOSTS.iter().cycle().take(3 * (replicas + 1));
        let servers: Vec<Server> = hosts.map(|host| Server::start(host, &all)).collect::<Result<_>>()?;
        let stage = Self { servers, folder: tempfile::tempdir()? };
        let addresses: Vec<String> = stage.servers.iter().map(|server| server.address.to_string()).collect();
        let count = replicas.to_string();
        let mut words = vec!["create", "--replicas", &count, "--yes"];
        words.extend(addresses.iter().map(String::as_str));
        regrow_ok(&words)?;
        Ok(stage)
    }

    fn entry(&self) -> String {
        self.servers[0].address.to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A script that restarts the node of its environment with the new version: `before` runs first, `between` while the
    /// node is down, `after` when it is up. Each call is noted in the file `calls`.
    fn script(&self, before: &str, between: &str, after: &str) -> Result<String> {
        let new = self.path("redis-server-new");
        if !new.exists() {
            patched(&new)?;
        }
        let mut cases = String::new();
        for server in &self.servers {
            let start = server.start_command().replacen("redis-server", &new.display().to_string(), 1);
            cases += &format!("{}) {start} ;;\n", server.address.port);
        }
        let calls = self.path("calls");
        let text = format!(
            "#!/bin/sh\ncd '{folder}'\necho $REGROW_NODE_PORT $REGROW_NODE_ROLE >> '{calls}'\n{before}\n\
             redis-cli -h $REGROW_NODE_HOST -p $REGROW_NODE_PORT SHUTDOWN NOSAVE NOW FORCE > /dev/null 2>&1\n\
             {between}\ncase $REGROW_NODE_PORT in\n{cases}esac\n{after}\nexit 0\n",
            folder = self.folder.path().display(),
            calls = calls.display(),
        );
        let path = self.path("restart.sh");
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(path.display().to_string())
    }

    /// How often the command was called, and as what, by port.
    fn calls(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut calls: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in std::fs::read_to_string(self.path("calls")).unwrap_or_default().lines() {
            let (port, role) = line.split_once(' ').context("port and role")?;
            calls.entry(port.to_owned()).or_default().push(role.to_owned());
        }
        Ok(calls)
    }

    fn words(&self, more: &[&str]) -> Vec<String> {
        let state = self.path("state").display().to_string();
        let mut words: Vec<String> = ["upgrade", &self.entry(), "--state", &state].map(str::to_owned).to_vec();
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words
    }

    fn upgrade(&self, more: &[&str]) -> Result<Ran> {
        let words = self.words(more);
        regrow(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Who is master with which replicas, and all versions.
    fn roles(&self) -> Result<Roles> {
        let status = regrow_ok(&["status", "--json", &self.entry()])?.json();
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).context("a text");
        let (mut roles, mut versions) = (Vec::new(), Vec::new());
        for master in status["masters"].as_array().context("masters")? {
            let replicas = master["replicas"].as_array().context("replicas")?;
            versions.push(text(&master["version"])?);
            for replica in replicas {
                versions.push(text(&replica["version"])?);
            }
            let replicas = replicas.iter().map(|replica| text(&replica["address"])).collect::<Result<_>>()?;
            roles.push((text(&master["address"])?, replicas));
        }
        Ok((roles, versions))
    }
}

/// Debian's server under another version: the text of it in the program is another.
fn patched(path: &Path) -> Result<()> {
    let which = Process::new("sh").args(["-c", "readlink -f \"$(command -v redis-server)\""]).output()?;
    let mut program = std::fs::read(String::from_utf8(which.stdout)?.trim())?;
    let mut found = false;
    for at in 0..program.len() - OLD.len() {
        if &program[at..at + OLD.len()] == OLD.as_bytes() {
            program[at..at + OLD.len()].copy_from_slice(NEW.as_bytes());
            found = true;
        }
    }
    anyhow::ensure!(found, "redis-server is not of version {OLD}");
    std::fs::write(path, program)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

/// Says that a test is skipped, and returns from it, when the server here cannot be patched.
macro_rules! need_patchable {
    ($name:literal) => {
        if !patchable() {
            eprintln!("SKIPPED: {}: redis-server is not {OLD}", $name);
            return Ok(());
        }
    };
}

/// Whether the server here can be patched.
fn patchable() -> bool {
    let output = Process::new("redis-server").arg("--version").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&format!("v={OLD} ")))
}

/// Clients that write numbered keys and note which were acknowledged.
struct Ledger {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<(Vec<String>, u64)>,
    seeds: Vec<Address>,
}

impl Ledger {
    fn start(servers: &[Server]) -> Self {
        let seeds: Vec<Address> = servers.iter().map(|server| server.address.clone()).collect();
        let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for client in 0..4 {
            let (stop, seeds) = (Arc::clone(&stop), seeds.clone());
            tasks.spawn(async move {
                let mut router = Router::new(Dialer::default(), seeds);
                let (mut acknowledged, mut failed) = (Vec::new(), 0);
                for number in 0u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("ledger:{client}:{number}");
                    let set = [Command::new("SET").arg(&key).arg(&key)];
                    match router.call(Slot::of_key(key.as_bytes()), &set).await.as_deref() {
                        Ok([answer]) if answer.is_ok() => acknowledged.push(key),
                        _ => failed += 1,
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
                (acknowledged, failed)
            });
        }
        Self { stop, tasks, seeds }
    }

    /// Ends the clients and looks for every acknowledged write. How many there were, and how many failed.
    async fn all_there(mut self) -> Result<(usize, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut keys, mut failed) = (Vec::new(), 0);
        while let Some(done) = self.tasks.join_next().await {
            let (more, errors) = done?;
            keys.extend(more);
            failed += errors;
        }
        let mut router = Router::new(Dialer::default(), self.seeds);
        for key in &keys {
            let answers = router.call(Slot::of_key(key.as_bytes()), &[Command::new("GET").arg(key)]).await?;
            anyhow::ensure!(answers[0].text() == Some(key), "{key} is {:?}", answers[0]);
        }
        Ok((keys.len(), failed))
    }
}

/// A cluster goes to another version under load, although the upgrade is killed while a node is down, after one is up, and in a
/// hand-over. Nothing acknowledged is lost, next to nothing refused, every node is restarted as a replica, and the roles
/// are as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_gone_on_with_under_load() -> Result<()> {
    need_redis!("killed_and_gone_on_with_under_load");
    need_patchable!("killed_and_gone_on_with_under_load");
    let stage = Stage::new(1)?;
    let (before, versions) = stage.roles()?;
    assert!(versions.iter().all(|version| version == OLD), "{versions:?}");
    let ledger = Ledger::start(&stage.servers);

    // The program is the parent of its command: the second call kills it with the node down, the fourth with the node up.
    let kill = |call: u32| {
        format!("[ $(wc -l < calls) = {call} ] && kill -9 $PPID && {}", if call == 2 { "exit" } else { "true" })
    };
    let script = stage.script("", &kill(2), &kill(4))?;
    let dry = stage.upgrade(&["--dry-run", "--", &script])?;
    assert_eq!(dry.code, 0, "{dry:?}");
    assert!(dry.out.lines().count() == 12 && dry.out.starts_with("1. restart 127.0.0."), "{dry:?}");
    assert!(stage.calls()?.is_empty() && !stage.path("state").exists(), "a dry run does nothing");
    let unasked = stage.upgrade(&["--", &script])?;
    assert_eq!((unasked.code, stage.calls()?.len()), (3, 0), "{unasked:?}");

    let words = stage.words(&["--yes", "--json", "--", &script]);
    let run = || Process::new(program()?).args(&words).stdin(Stdio::null()).output().map_err(anyhow::Error::from);
    for killed in 1..=2 {
        let output = tokio::task::block_in_place(run)?;
        assert_eq!(output.status.code(), None, "kill {killed}: {output:?}");
    }
    let mut third = Process::new(program()?).args(&words).stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let lines = BufReader::new(third.stderr.take().context("talk")?).lines();
    let mut talk = Vec::new();
    for line in lines {
        talk.push(line?);
        if talk.last().is_some_and(|line| line.contains(": hand the role of")) {
            third.kill()?;
        }
    }
    assert_eq!(third.wait()?.code(), None, "{talk:#?}");
    assert!(talk.first().is_some_and(|line| line.starts_with("going on with an upgrade")), "{talk:#?}");

    let last = tokio::task::block_in_place(|| stage.upgrade(&["--yes", "--json", "--", &script]))?;
    assert_eq!(last.code, 0, "{last:?}");
    let (written, failed) = ledger.all_there().await?;
    assert!(written > 500 && failed <= 20, "{written} written, {failed} failed");
    let (after, versions) = stage.roles()?;
    assert_eq!(after, before, "the roles are as before");
    assert!(versions.iter().all(|version| version == NEW), "{versions:?}");
    whole(&stage.servers[0].address)?;

    // Each node once; that of the first kill twice, because its command was cut short.
    let calls = stage.calls()?;
    let twice = calls.values().filter(|roles| roles.len() == 2).count();
    assert_eq!((calls.len(), twice), (6, 1), "{calls:?}");
    assert!(calls.values().flatten().all(|role| role == "replica"), "{calls:?}");
    let report = last.json();
    assert_eq!(report["done"], true, "{report}");
    let steps = report["steps"].as_array().context("steps")?;
    let back = steps.iter().filter(|step| step["step"] == "give-back").count();
    assert!(
        back == 3
            && steps.iter().filter(|step| step["step"] != "restart").all(|step| step["writes_waited_ms"].is_u64()),
        "{report}"
    );

    // What has the version is passed over.
    let again = stage.upgrade(&["--yes", "--expect", NEW, "--", &script])?;
    assert!(again.code == 0 && again.out.contains("nothing to do"), "{again:?}");
    assert_eq!(stage.calls()?.values().map(Vec::len).sum::<usize>(), 7);
    Ok(())
}

/// A command that fails, one that does nothing, and one that starts the wrong version stop the upgrade at once, say what is so, and
/// the same command goes on; another command or another cluster is refused.
#[tokio::test]
async fn stops_at_trouble() -> Result<()> {
    need_redis!("stops_at_trouble");
    need_patchable!("stops_at_trouble");
    let stage = Stage::new(1)?;
    let entry = &stage.servers[0].address;
    // Fails on the second node, before it is touched and then with the node down; the third does nothing.
    let before = "n=$(wc -l < calls); [ $n = 2 ] && echo 'no such package' >&2 && exit 7; [ $n = 5 ] && exit 0";
    let script = stage.script(before, "[ $n = 3 ] && exit 8", "")?;
    let with = ["--with", &script, "--yes", "--settle", "3", "--expect", NEW];
    let failed = stage.upgrade(&with)?;
    assert_eq!(failed.code, 1, "{failed:?}");
    for text in [
        "no such package",
        "stopped at this step: restart 127.0.0.",
        "the command failed (exit status: 7)",
        "now: 1 of 6 nodes are done",
        "is in hand, and answers",
        "now: the cluster is whole and serves",
        "give the same command again",
    ] {
        assert!(failed.err.contains(text), "{text}: {failed:?}");
    }
    whole(entry)?;
    let down = stage.upgrade(&with)?;
    assert_eq!(down.code, 1, "{down:?}");
    assert!(down.err.contains("exit status: 8") && down.err.contains("is in hand, and does not answer"), "{down:?}");

    let other = stage.upgrade(&["--with", "true", "--yes"])?;
    assert_eq!(other.code, 3, "{other:?}");
    assert!(other.err.contains("with another command") && other.err.contains("--anew"), "{other:?}");

    // The fourth call brings the node up, the fifth does nothing to the next.
    let idle = stage.upgrade(&with)?;
    assert_eq!(idle.code, 1, "{idle:?}");
    assert!(idle.err.contains("is away; it was in hand") && idle.err.contains("was not restarted within"), "{idle:?}");
    assert!(idle.err.contains("now: 2 of 6 nodes are done"), "{idle:?}");

    let wrong = stage.upgrade(&["--with", &script, "--yes", "--expect", "7.0.16"])?;
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.err.contains(&format!("is back with version {NEW}, not 7.0.16")), "{wrong:?}");
    let good = stage.upgrade(&["--with", &script, "--yes", "--expect", NEW, "--keep-masters", "no", "--json"])?;
    assert_eq!(good.code, 0, "{good:?}");
    let steps = good.json()["steps"].as_array().context("steps")?.clone();
    assert!(steps.iter().all(|step| step["step"] != "give-back"), "{steps:?}");
    assert!(stage.roles()?.1.iter().all(|version| version == NEW));
    assert!(!stage.path("state/journal.json").exists(), "it is over");
    whole(entry)
}

/// Masters without replica are refused, unless that is allowed and they save what they hold; then we end them, and nothing is lost.
#[tokio::test]
async fn without_replicas() -> Result<()> {
    need_redis!("without_replicas");
    need_patchable!("without_replicas");
    let stage = Stage::new(0)?;
    let seeds: Vec<Address> = stage.servers.iter().map(|server| server.address.clone()).collect();
    let mut router = Router::new(Dialer::default(), seeds);
    let keys: Vec<String> = (0..300).map(|number| format!("key:{number}")).collect();
    for key in &keys {
        router.call(Slot::of_key(key.as_bytes()), &[Command::new("SET").arg(key).arg(key)]).await?;
    }
    let script = stage.script("", "", "")?;
    let refused = stage.upgrade(&["--yes", "--", &script])?;
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(
        refused.err.contains("no replica can take over from 127.0.0.1:") && refused.err.contains("--allow-downtime"),
        "{refused:?}"
    );
    let bare = stage.upgrade(&["--yes", "--allow-downtime", "--", &script])?;
    assert_eq!(bare.code, 1, "{bare:?}");
    assert!(bare.err.contains("would come back empty") && stage.calls()?.is_empty(), "{bare:?}");
    let done = stage.upgrade(&["--yes", "--allow-downtime", "--shutdown", "--json", "--", &script])?;
    assert_eq!(done.code, 0, "{done:?}");
    let steps = done.json()["steps"].clone();
    assert_eq!(steps.as_array().map(Vec::len), Some(3), "{steps}");
    assert_eq!((&steps[0]["version_before"], &steps[0]["version"]), (&OLD.into(), &NEW.into()), "{steps}");
    assert!(stage.calls()?.values().flatten().all(|role| role == "master"));
    for key in &keys {
        let tries = Patience::new("a key is read");
        loop {
            match router.call(Slot::of_key(key.as_bytes()), &[Command::new("GET").arg(key)]).await.as_deref() {
                Ok([value @ Value::Bulk(_)]) if value.text() == Some(key) => break,
                Ok([Value::Null]) => anyhow::bail!("{key} is gone"),
                _ => tries.or_fail()?,
            }
        }
    }
    whole(&stage.servers[0].address)
}
