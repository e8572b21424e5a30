//! Real servers for tests: Debian's `redis-server`, on loopback addresses and free ports, with their data in a temporary
//! folder, gone when the test ends however it ends.

// Each test program uses its own part of this.
#![allow(dead_code)]

pub(crate) mod client;
pub(crate) mod content;
pub(crate) mod data;
pub(crate) mod digest;
pub(crate) mod migrator;
pub(crate) mod relay;
pub(crate) mod writers;

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use regrow_redis::address::Address;
use regrow_redis::connection::{Connection, Dialer};
use regrow_redis::resp;
use tempfile::TempDir;

/// Says that a test is skipped, by its name, and returns from it, when there is no server to test with.
macro_rules! need_redis {
    ($name:literal) => {
        if !world::installed() {
            eprintln!("SKIPPED: {}: redis-server not installed", $name);
            return Ok(());
        }
    };
}
pub(crate) use need_redis;

/// Whether `redis-server` and `redis-cli` are there.
pub(crate) fn installed() -> bool {
    ["redis-server", "redis-cli"]
        .iter()
        .all(|program| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success()))
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: Address,
    program: PathBuf,
    child: Child,
    folder: TempDir,
    settings: Vec<String>,
}

/// Tries to find ports that stay free until the server has them.
const TRIES: usize = 20;

impl Server {
    /// Starts a server on a host with settings (`--name value …`), and waits until it serves.
    pub(crate) fn start(host: &str, settings: &[&str]) -> Result<Self> {
        Self::start_as(Path::new("redis-server"), host, settings)
    }

    /// The same with another program.
    pub(crate) fn start_as(program: &Path, host: &str, settings: &[&str]) -> Result<Self> {
        let mut last = String::new();
        for _ in 0..TRIES {
            let ip: IpAddr = host.parse()?;
            let port = free_port(ip)?;
            let folder = tempfile::tempdir()?;
            let mut all: Vec<String> =
                ["--bind", host, "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--daemonize", "no"]
                    .map(str::to_owned)
                    .to_vec();
            if settings.contains(&"--cluster-enabled") {
                // On loopback the source of a connection is not the address that a server listens on, so nodes would learn a
                // wrong one of each other.
                all.extend([
                    "--cluster-port".to_owned(),
                    free_port(ip)?.to_string(),
                    "--cluster-announce-ip".to_owned(),
                    host.to_owned(),
                ]);
            }
            all.extend(settings.iter().map(|setting| (*setting).to_owned()));
            match spawn(program, &folder, &all) {
                Ok(child) => {
                    let (address, program) = (Address::new(host, port), program.to_owned());
                    return Ok(Self { address, program, child, folder, settings: all });
                }
                Err(error) => last = error.to_string(),
            }
        }
        bail!("no server came up in {TRIES} tries: {last}")
    }

    /// A node for a cluster: dead nodes are noticed after two seconds.
    pub(crate) fn node(host: &str) -> Result<Self> {
        Self::start(
            host,
            &[
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "2000",
                "--cluster-replica-validity-factor",
                "0",
                "--enable-debug-command",
                "yes",
            ],
        )
    }

    /// Kills it, as a power cut would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again with its folder and ports.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.kill().ok();
        self.child = spawn(&self.program, &self.folder, &self.settings)?;
        Ok(())
    }

    /// The shell command that starts it as a process of its own.
    pub(crate) fn start_command(&self) -> String {
        let words: Vec<String> = self.settings.iter().map(|word| format!("'{word}'")).collect();
        format!("redis-server {} --dir '{}' --daemonize yes", words.join(" "), self.folder.path().display())
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Its number as a process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What `redis-cli` prints for a command.
    pub(crate) fn cli(&self, words: &[&str]) -> Result<String> {
        let output = Command::new("redis-cli")
            .args(["-h", &self.address.host, "-p", &self.address.port.to_string()])
            .args(words)
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, folder: &TempDir, settings: &[String]) -> Result<Child> {
    let mut child = Command::new(program)
        .args(settings)
        .arg("--dir")
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("the server's log")?).lines();
    let mut log = String::new();
    for line in lines.by_ref() {
        let line = line?;
        if line.contains("Ready to accept connections") {
            // Keep reading, or the server blocks on its log one day. Ends with the server.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(child);
        }
        log += &line;
        log.push('\n');
    }
    let _ = child.wait();
    bail!("the server ended before it served:\n{log}")
}

/// A port that is free now.
fn free_port(ip: IpAddr) -> Result<u16> {
    Ok(TcpListener::bind(SocketAddr::new(ip, 0))?.local_addr()?.port())
}

/// What the toolbox printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }
}

/// Where the toolbox is: the example program beside the test programs.
pub(crate) fn program() -> Result<PathBuf> {
    let tests = std::env::current_exe()?;
    let program =
        tests.parent().and_then(|deps| deps.parent()).context("the target folder")?.join("examples/regrow-redis");
    anyhow::ensure!(
        program.exists(),
        "{} is not built: run `cargo build -p regrow-redis --examples`",
        program.display()
    );
    Ok(program)
}

/// Runs the toolbox with nothing on its input.
pub(crate) fn regrow(words: &[&str]) -> Result<Ran> {
    let Output { status, stdout, stderr } =
        Command::new(program()?).args(words).stdin(Stdio::null()).env_remove("REGROW_REDIS_PASSWORD").output()?;
    Ok(Ran {
        code: status.code().context("the toolbox was killed")?,
        out: String::from_utf8(stdout)?,
        err: String::from_utf8(stderr)?,
    })
}

/// Runs the toolbox, which must end well.
pub(crate) fn regrow_ok(words: &[&str]) -> Result<Ran> {
    let ran = regrow(words)?;
    anyhow::ensure!(ran.code == 0, "{words:?}: {ran:?}");
    Ok(ran)
}

/// Both checkers, ours and `redis-cli --cluster check`, find the cluster whole.
pub(crate) fn whole(address: &Address) -> Result<()> {
    let entry = address.to_string();
    regrow_ok(&["check", &entry])?;
    let output = Command::new("redis-cli").args(["--cluster", "check", &entry]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(
        output.status.success() && text.contains("[OK] All 16384 slots covered.") && !text.contains("[WARNING]"),
        "redis-cli finds:\n{text}"
    );
    Ok(())
}

/// A certificate authority and a certificate for 127.0.0.1, by `openssl`. False: there is no `openssl`.
pub(crate) fn certificates(folder: &std::path::Path) -> Result<bool> {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem \
        && openssl req -newkey rsa:2048 -nodes -subj /CN=node -keyout key.pem -out node.csr \
        && printf 'subjectAltName=IP:127.0.0.1' > names \
        && openssl x509 -req -days 2 -in node.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out cert.pem";
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output()?;
    Ok(output.status.success())
}

/// How long a test waits for what must come, so that it fails instead of hanging.
pub(crate) struct Patience {
    what: &'static str,
    end: Instant,
}

impl Patience {
    /// A minute, or an hour in full size, which is far more than anything here takes.
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, end: Instant::now() + Duration::from_secs(migrator::size(60, 3600)) }
    }

    /// An error when it is over.
    pub(crate) fn or_fail(&self) -> Result<()> {
        anyhow::ensure!(Instant::now() < self.end, "it does not come: {}", self.what);
        Ok(())
    }
}

/// A connection to a server.
pub(crate) async fn open(server: &Server) -> Result<Connection> {
    Ok(Dialer::default().connect(&server.address).await?)
}

/// Sends commands, none of which may be refused.
pub(crate) async fn send(link: &mut Connection, commands: &[resp::Command]) -> Result<()> {
    for chunk in commands.chunks(1000) {
        for (command, answer) in chunk.iter().zip(link.pipeline(chunk).await?) {
            link.accept(command, answer).with_context(|| format!("{command:?}"))?;
        }
    }
    Ok(())
}
