//! The test suite of a client library for one Redis server (redis-py 5.0.8), run against the proxy, before a cluster and
//! before one server, in both versions of the protocol. What does not apply is listed in `redis_py.txt`, each with its
//! reason; a failure that is not listed fails this test. Only with `REGROW_FULL=1`: it takes minutes, Python and PyPI.

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use regrow_redis::proxy::{Config, Limits, Proxy};
use world::{Server, need_redis, regrow_ok};

const VERSION: &str = "5.0.8";
const LIST: &str = include_str!("redis_py.txt");
const FILES: [&str; 13] = [
    "test_commands.py",
    "test_pipeline.py",
    "test_pubsub.py",
    "test_scripting.py",
    "test_lock.py",
    "test_encoding.py",
    "test_connection_pool.py",
    "test_function.py",
    "test_connection.py",
    "test_monitor.py",
    "test_multiprocessing.py",
    "test_hash.py",
    "test_retry.py",
];

/// Tests by the backend that they do not apply to (`both`, `cluster`).
fn listed() -> Result<BTreeMap<&'static str, BTreeSet<&'static str>>> {
    let mut sections: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut section = None;
    for line in LIST.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(head) = line.strip_prefix('[') {
            let (name, reason) = head.split_once(']').context("a head without its end")?;
            ensure!(["both", "cluster"].contains(&name), "{name} is no section");
            ensure!(!reason.trim().is_empty(), "a section of {name} without a reason");
            section = Some(name);
        } else {
            ensure!(line.starts_with("tests/"), "{line} is no test");
            let fresh = sections.entry(section.context("a test before the first section")?).or_default().insert(line);
            ensure!(fresh, "{line} is there twice");
        }
    }
    Ok(sections)
}

/// The list can be read; every test in it has a reason.
#[test]
fn list_is_well_formed() -> Result<()> {
    let sections = listed()?;
    ensure!(sections.values().map(BTreeSet::len).sum::<usize>() > 100);
    Ok(())
}

fn done(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The suite with a Python that can run it, kept in the target folder from one run to the next.
fn suite() -> Result<(PathBuf, PathBuf)> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("redis-py-{VERSION}"));
    let (python, tests) = (folder.join("venv/bin/python"), folder.join(format!("redis-{VERSION}")));
    if !tests.join("tests/conftest.py").exists() {
        std::fs::create_dir_all(&folder)?;
        done(Command::new("python3").args(["-m", "venv"]).arg(folder.join("venv")))?;
        let library = format!("redis=={VERSION}");
        let packages = ["pytest==8.3.4", "pytest-asyncio==0.24.0", "pytest-timeout==2.3.1", "numpy", "cryptography"];
        done(Command::new(&python).args(["-m", "pip", "-q", "install", &library]).args(packages))?;
        let download = ["-m", "pip", "-q", "download", "--no-deps", "--no-binary", ":all:", &library, "-d"];
        done(Command::new(&python).args(download).arg(&folder))?;
        done(
            Command::new("tar").arg("xzf").arg(folder.join(format!("redis-{VERSION}.tar.gz"))).arg("-C").arg(&folder),
        )?;
    }
    Ok((python, tests))
}

/// The tests that fail, by their names.
fn run(python: &Path, tests: &Path, address: SocketAddr, protocol: &str) -> Result<Vec<String>> {
    let mut command = Command::new(python);
    command.current_dir(tests).env("COLUMNS", "400");
    command.args([
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-q",
        "-rfE",
        "--tb=no",
        "--timeout",
        "60",
        "-W",
        "ignore",
    ]);
    command.args(["-m", "not redismod and not onlycluster", "--protocol", protocol]);
    command.arg("--redis-url").arg(format!("redis://{address}/0"));
    command.args(FILES.iter().map(|file| format!("tests/{file}")));
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default().to_owned();
    ensure!(last.contains(" passed"), "the suite did not run: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    let failed = text.lines().filter_map(|line| line.strip_prefix("FAILED ").or(line.strip_prefix("ERROR ")));
    Ok(failed.map(|line| line.split(" - ").next().unwrap_or(line).trim().to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_py_finds_one_server() -> Result<()> {
    need_redis!("redis_py_finds_one_server");
    if std::env::var("REGROW_FULL").is_ok_and(|full| full == "1") {
        let (python, tests) = tokio::task::spawn_blocking(suite).await??;
        let sections = listed()?;
        let section = |name: &str| sections.get(name).cloned().unwrap_or_default();
        let single = Server::start("127.0.0.1", &["--enable-debug-command", "yes"])?;
        let nodes: Vec<Server> = (0..3).map(|_| Server::node("127.0.0.1")).collect::<Result<_>>()?;
        let addresses: Vec<String> = nodes.iter().map(|node| node.address.to_string()).collect();
        let mut words = vec!["create", "--replicas", "0", "--yes"];
        words.extend(addresses.iter().map(String::as_str));
        regrow_ok(&words)?;
        let backends = [
            (format!("redis://{}", single.address), section("both")),
            (format!("redis-cluster://{}", addresses[0]), &section("both") | &section("cluster")),
        ];
        let mut surprises = Vec::new();
        for (to, known) in backends {
            for protocol in ["2", "3"] {
                let proxy = Proxy::start(Config {
                    listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                    to: to.parse()?,
                    backend_tls: None,
                    password: None,
                    tls: None,
                    admin: None,
                    metrics: None,
                    threads: 2,
                    limits: Limits::default(),
                })
                .await?;
                let (python, tests) = (python.clone(), tests.clone());
                let address = proxy.address();
                let failed = tokio::task::spawn_blocking(move || run(&python, &tests, address, protocol)).await??;
                surprises.extend(
                    failed
                        .into_iter()
                        .filter(|test| !known.contains(&**test))
                        .map(|test| format!("{to} {protocol}: {test}")),
                );
            }
        }
        ensure!(surprises.is_empty(), "not listed:\n{}", surprises.join("\n"));
    }
    Ok(())
}
