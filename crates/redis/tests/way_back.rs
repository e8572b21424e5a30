//! The cut-over through the proxy under load, and the way back: no command of a client fails, nothing acknowledged is lost or
//! done twice, whichever side is in charge.

mod world;

use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use regrow_redis::address::Address;
use regrow_redis::connection::Dialer;
use regrow_redis::proxy::Remote;
use regrow_redis::resp::Command;
use tempfile::TempDir;
use tokio::task::JoinSet;
use world::migrator::{Migrator, alone, cluster, equal, fill, masters, server, size, url};
use world::writers::Writers;
use world::{Patience, Server, need_redis, program};

/// A proxy as a process of its own.
struct Proxy {
    child: Child,
    address: Address,
    admin: PathBuf,
    _folder: TempDir,
}

impl Proxy {
    async fn before(server: &Server) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let admin = folder.path().join("proxy.sock");
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let address = Address::new("127.0.0.1", port);
        let child = Program::new(program()?)
            .args(["proxy", "--threads", "1", "--listen", &address.to_string(), "--to", &url(server), "--admin"])
            .arg(&admin)
            .env_remove("REGROW_REDIS_PASSWORD")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let proxy = Self { child, address, admin, _folder: folder };
        let patience = Patience::new("the proxy listens");
        while Dialer::default().connect(&proxy.address).await.is_err() {
            patience.or_fail()?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(proxy)
    }

    fn admin(&self) -> String {
        self.admin.display().to_string()
    }

    async fn goes_to(&self) -> Result<String> {
        Ok(Remote::new(&self.admin).status().await?.to)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Clients that count, each its own counters: after each answer they know what a counter has to be.
struct Counters {
    stop: Arc<AtomicBool>,
    counted: Arc<AtomicU64>,
    tasks: JoinSet<Result<Vec<(String, i64)>>>,
}

/// Between two rounds of a client: a migrator that is built for tests has to keep up, also where other tests run.
const PAUSE_MS: u64 = 60;
/// Counters of each client.
const COUNTERS: usize = 20;

impl Counters {
    fn start(server: &Address, clients: usize) -> Self {
        let (stop, counted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            let (server, stop, counted) = (server.clone(), Arc::clone(&stop), Arc::clone(&counted));
            tasks.spawn(async move {
                let mut link =
                    Dialer { timeout: Duration::from_secs(50), ..Dialer::default() }.connect(&server).await?;
                let mut known = [0i64; COUNTERS];
                let key = |counter: usize| format!("count:{client}:{counter}");
                while !stop.load(Ordering::Relaxed) {
                    for (counter, known) in known.iter_mut().enumerate() {
                        let now = link.int(&Command::new("INCR").arg(key(counter))).await?;
                        *known += 1;
                        ensure!(now == *known, "{} is {now}, and {known} were acknowledged", key(counter));
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    // Which has to be renewed on the side where it is.
                    let lease = Command::new("SET").arg(format!("lease:{client}")).arg("x").arg("PX").number(5000u32);
                    link.ok(&lease).await?;
                    tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
                }
                Ok(known.iter().enumerate().map(|(counter, known)| (key(counter), *known)).collect())
            });
        }
        Self { stop, counted, tasks }
    }

    /// Waits until some more are counted.
    async fn more(&self, count: u64) -> Result<()> {
        let (until, patience) = (self.counted.load(Ordering::Relaxed) + count, Patience::new("more is counted"));
        while self.counted.load(Ordering::Relaxed) < until {
            patience.or_fail()?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Stops them: what is known of every counter. An error if a command failed, or a counter was wrong.
    async fn end(mut self) -> Result<Vec<(String, i64)>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut known = Vec::new();
        while let Some(done) = self.tasks.join_next().await {
            known.extend(done??);
        }
        Ok(known)
    }
}

fn signal(migrator: &Migrator, name: &str) -> Result<()> {
    let done = Program::new("kill").args([name, &migrator.pid()?.to_string()]).status()?;
    ensure!(done.success(), "kill {name}");
    Ok(())
}

/// Over and back under load: clients of every family of commands, and counters, see no failed command and no wrong number; the writes
/// of the target are on the source when clients are back, also those of keys that the source would have expired meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_and_back() -> Result<()> {
    need_redis!("there_and_back");
    let source = server(&[])?;
    fill(&source, size(1000, 500_000)).await?;
    let target = cluster(3, 0)?;
    let proxy = Proxy::before(&source).await?;
    let writers = Writers::start(&proxy.address, 2, false, 100);
    let counters = Counters::start(&proxy.address, 2);
    let mut migrator = Migrator::new(&url(&source), &url(&target[0]), &[])?;
    migrator.start()?;
    migrator.until("in step").await?;
    let admin = proxy.admin();
    let ran = migrator.ask(&["--back", "--proxy", &admin]).await?;
    ensure!(ran.code == 1 && ran.out.contains("nothing was cut over yet"), "{ran:?}");
    let ran = migrator.ask(&["--cut-over", "--proxy", &admin, "--way-back", "--json"]).await?;
    ensure!(ran.code == 0, "{ran:?}\n{}", migrator.said());
    ensure!(ran.json()["paused_ms"].as_u64().context("the pause")? < 10_000, "{ran:?}");
    ensure!(proxy.goes_to().await?.ends_with(&target[0].address.to_string()), "clients are at the target");
    counters.more(500).await?;
    // What the source's own clock does to leases while nothing comes back: the fault itself.
    signal(&migrator, "-STOP")?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    signal(&migrator, "-CONT")?;
    migrator.until("the way back is open").await?;
    let ran = migrator.ask(&["--cut-over", "--proxy", &admin]).await?;
    ensure!(ran.code == 1 && ran.out.contains("it is cut over already"), "{ran:?}");
    let ran = migrator.ask(&["--back", "--proxy", &admin, "--json"]).await?;
    ensure!(ran.code == 0, "{ran:?}\n{}", migrator.said());
    ensure!(migrator.end().await? == 0, "{}", migrator.said());
    ensure!(proxy.goes_to().await?.ends_with(&source.address.to_string()), "clients are at the source");
    counters.more(500).await?;
    let known = counters.end().await?;
    let written = writers.end().await?;
    ensure!(written > 500, "{written} writes");
    for (key, known) in known {
        assert_eq!(source.cli(&["GET", &key])?, known.to_string(), "{key}");
    }
    for lease in ["lease:0", "lease:1"] {
        let left: i64 = source.cli(&["PTTL", lease])?.parse()?;
        ensure!(left <= 5000, "{lease} has {left} ms left: it is held no more");
    }
    ensure!(source.cli(&["KEYS", "regrow:*"])?.is_empty(), "nothing of ours is left");
    Ok(())
}

/// The migrator is killed again and again while the way back is open; the side that is left is in step with the other all the same, and
/// equal key by key when it is given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_on_the_way_back() -> Result<()> {
    need_redis!("killed_on_the_way_back");
    let source = server(&["--repl-backlog-size", "64mb"])?;
    fill(&source, size(1000, 100_000)).await?;
    let target = cluster(3, 0)?;
    for node in &target {
        node.cli(&["CONFIG", "SET", "repl-backlog-size", "64mb"])?;
    }
    let proxy = Proxy::before(&source).await?;
    let (writers, counters) = (Writers::start(&proxy.address, 2, false, 100), Counters::start(&proxy.address, 1));
    let admin = proxy.admin();
    let mut migrator = Migrator::new(&url(&source), &url(&target[0]), &[])?;
    migrator.start()?;
    migrator.until("in step").await?;
    let ran = migrator.ask(&["--cut-over", "--proxy", &admin, "--way-back"]).await?;
    ensure!(ran.code == 0, "{ran:?}\n{}", migrator.said());
    for round in 0..size(3, 20) {
        // At any moment.
        tokio::time::sleep(Duration::from_millis(100 + 250 * round)).await;
        migrator.kill()?;
        counters.more(100).await?;
        migrator.start()?;
    }
    migrator.until("the way back is open").await?;
    counters.more(100).await?;
    let known = counters.end().await?;
    writers.end().await?;
    migrator.kill()?;
    migrator.start()?;
    migrator.until("the way back is open").await?;
    let ran = migrator.ask(&["--confirm"]).await?;
    ensure!(ran.code == 0 && ran.out.contains("confirmed"), "{ran:?}\n{}", migrator.said());
    ensure!(migrator.end().await? == 0, "{}", migrator.said());
    equal(&masters(&target).await?, &alone(&source), &[0]).await.with_context(|| migrator.said())?;
    for (key, known) in known {
        assert_eq!(source.cli(&["GET", &key])?, known.to_string(), "{key}");
    }
    Ok(())
}

/// Killed around the switch, the next process asks the proxy which side clients are at, and refuses to go on where nobody can say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_the_switch() -> Result<()> {
    need_redis!("killed_at_the_switch");
    let (source, target) = (server(&[])?, server(&[])?);
    fill(&source, 100).await?;
    let proxy = Proxy::before(&source).await?;
    let admin = proxy.admin();
    let mut migrator = Migrator::new(&url(&source), &url(&target), &[])?;
    migrator.start()?;
    migrator.until("in step").await?;
    let ran = migrator.ask(&["--cut-over", "--proxy", &admin, "--way-back"]).await?;
    ensure!(ran.code == 0, "{ran:?}\n{}", migrator.said());
    migrator.until("the way back is open").await?;
    migrator.kill()?;
    // As it is on disk between the switch and the note of it.
    let journal = migrator.state().join("journal.json");
    let noted = std::fs::read_to_string(&journal)?;
    ensure!(noted.contains("\"crossed\": true"), "{noted}");
    let doubtful = noted.replace("\"crossed\": true", "\"crossed\": false");
    std::fs::write(&journal, &doubtful)?;
    rename(&proxy.admin, "away")?;
    migrator.start()?;
    ensure!(migrator.end().await? == 3, "{}", migrator.said());
    ensure!(migrator.said().contains("it is not known whether the proxy was switched"), "{}", migrator.said());
    rename(&proxy.admin.with_extension("away"), "sock")?;
    migrator.start()?;
    migrator.until("the way back is open").await?;
    let mut link = Dialer::default().connect(&proxy.address).await?;
    link.ok(&Command::new("SET").arg("new").arg("1")).await?;
    let ran = migrator.ask(&["--back", "--proxy", &admin]).await?;
    ensure!(ran.code == 0, "{ran:?}\n{}", migrator.said());
    ensure!(migrator.end().await? == 0, "{}", migrator.said());
    equal(&alone(&target), &alone(&source), &[0]).await?;
    let ran = migrator.ask(&["--confirm"]).await?;
    ensure!(ran.code == 3 && ran.err.contains("holds no way back"), "{ran:?}");
    Ok(())
}

fn rename(path: &Path, extension: &str) -> Result<()> {
    Ok(std::fs::rename(path, path.with_extension(extension))?)
}
