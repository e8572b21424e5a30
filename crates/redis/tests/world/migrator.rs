//! What tests of migrations share: servers with data in them, the migrator as a process, and a comparison that is not its own.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command as Program, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use regrow_redis::address::Address;
use regrow_redis::connection::Dialer;
use regrow_redis::resp::Command;
use tempfile::TempDir;

use super::content::{contents, differences};
use super::data::every_kind;
use super::{Patience, Ran, Server, open, program, regrow, regrow_ok, send};

/// The small size by default, the full one with `REGROW_FULL=1`.
pub(crate) fn size(small: u64, full: u64) -> u64 {
    if std::env::var_os("REGROW_FULL").is_some_and(|value| value == "1") { full } else { small }
}

pub(crate) fn server(settings: &[&str]) -> Result<Server> {
    let mut all = vec!["--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0", "--databases", "16"];
    all.extend(settings);
    Server::start("127.0.0.1", &all)
}

/// A cluster, made by our own hand.
pub(crate) fn cluster(masters: usize, replicas: usize) -> Result<Vec<Server>> {
    let nodes: Vec<Server> = (0..masters * (replicas + 1)).map(|_| Server::node("127.0.0.1")).collect::<Result<_>>()?;
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.to_string()).collect();
    let replicas = replicas.to_string();
    let mut words = vec!["create", "--yes", "--replicas", &replicas];
    words.extend(addresses.iter().map(String::as_str));
    regrow_ok(&words)?;
    Ok(nodes)
}

/// Fills a server with every kind of value in database 0, and many small keys.
pub(crate) async fn fill(server: &Server, many: u64) -> Result<()> {
    let mut link = open(server).await?;
    let all = every_kind();
    // The last three are of database 3.
    send(&mut link, &all[..all.len() - 3]).await?;
    let small: Vec<Command> = (0..many)
        .map(|index| {
            let set = Command::new("SET").arg(format!("small:{index}")).arg(format!("value {index}"));
            if index % 3 == 0 { set.arg("PX").number(3_600_000 + index) } else { set }
        })
        .collect();
    send(&mut link, &small).await
}

/// The masters of a cluster that answers at any of these.
pub(crate) async fn masters(nodes: &[Server]) -> Result<Vec<Address>> {
    let mut masters = Vec::new();
    for node in nodes {
        if let Ok(mut link) = Dialer::default().connect(&node.address).await
            && let Ok(info) = link.info().await
            && info.text("role") == Some("master")
        {
            masters.push(node.address.clone());
        }
    }
    Ok(masters)
}

/// Kills a master of a cluster for good, and waits until its replica is one.
pub(crate) async fn fail_over(nodes: &mut [Server]) -> Result<()> {
    let before = masters(nodes).await?;
    let victim = nodes.iter().position(|node| Some(&node.address) == before.get(1)).context("a master")?;
    nodes[victim].kill()?;
    let patience = Patience::new("promotion");
    while masters(nodes).await?.len() < before.len() {
        patience.or_fail()?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// A migrator as a process of its own.
pub(crate) struct Migrator {
    pub(crate) words: Vec<String>,
    child: Option<Child>,
    folder: TempDir,
}

impl Migrator {
    pub(crate) fn new(from: &str, to: &str, more: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut words: Vec<String> = ["migrate", "--yes", "--from", from, "--to", to].map(str::to_owned).to_vec();
        words.extend(["--state".to_owned(), folder.path().join("state").display().to_string()]);
        words.extend(more.iter().map(|word| (*word).to_owned()));
        Ok(Self { words, child: None, folder })
    }

    /// Its state folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What it has said since it was started last.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        let log = File::create(self.log())?;
        let child = Program::new(program()?)
            .args(&self.words)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Waits until it has said something, and fails when it ends before.
    pub(crate) async fn until(&mut self, says: &'static str) -> Result<()> {
        let patience = Patience::new(says);
        while !self.said().contains(says) {
            if let Some(status) = self.child.as_mut().context("not started")?.try_wait()? {
                anyhow::bail!("it ended with {status}: {}", self.said());
            }
            patience.or_fail().with_context(|| self.said())?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Waits until it ends; its exit.
    pub(crate) async fn end(&mut self) -> Result<i32> {
        let patience = Patience::new("the end of the migration");
        loop {
            if let Some(status) = self.child.as_mut().context("not started")?.try_wait()? {
                return status.code().context("it was killed");
            }
            patience.or_fail().with_context(|| self.said())?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its number as a process.
    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("not started")?.id())
    }

    /// Asks it for something, as another process.
    pub(crate) async fn ask(&self, more: &[&str]) -> Result<Ran> {
        let mut words = self.words.clone();
        words.extend(more.iter().map(|word| (*word).to_owned()));
        tokio::task::spawn_blocking(move || regrow(&words.iter().map(String::as_str).collect::<Vec<_>>())).await?
    }

    /// Cuts over, and waits until it has ended well.
    pub(crate) async fn cut_over(&mut self) -> Result<()> {
        self.until("in step").await?;
        let ran = self.ask(&["--cut-over"]).await?;
        anyhow::ensure!(ran.code == 0, "{ran:?}\n{}", self.said());
        let code = self.end().await?;
        anyhow::ensure!(code == 0, "{code}: {}", self.said());
        Ok(())
    }
}

impl Drop for Migrator {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A server that is no cluster, as a list of masters.
pub(crate) fn alone(server: &Server) -> [Address; 1] {
    [server.address.clone()]
}

pub(crate) fn url(server: &Server) -> String {
    format!("redis://{}", server.address)
}

/// Both sides hold the same. Keys that expire between the two readings are a reason to read again, not a difference.
pub(crate) async fn equal(source: &[Address], target: &[Address], databases: &[u32]) -> Result<u64> {
    let patience = Patience::new("both sides the same");
    loop {
        let (a, b) = (contents(source, databases).await?, contents(target, databases).await?);
        let found = differences(&a, &b);
        if found.is_empty() {
            return Ok(a.len() as u64);
        }
        if let Err(error) = patience.or_fail() {
            anyhow::bail!(
                "{error}: {} differences of {} keys:\n{}",
                found.len(),
                a.len(),
                found[..found.len().min(20)].join("\n")
            );
        }
        tokio::time::sleep(Duration::from_millis(if found.len() > 50 { 20_000 } else { 500 })).await;
    }
}
