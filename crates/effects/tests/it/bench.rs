//! What every test stands on: a world in a folder of its own, and everything in it gone at the end.

use regrow_effects::{ShimCommand, World};
use regrow_model::process::{Exit, LogKeep, Process, ProcessId};
use regrow_model::spec::Limits;
use regrow_model::{Action, InstanceId, Observation, Outcome};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Longest wait for something that must happen. A test that runs into it fails; none passes by it.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);

/// A data folder, and a world in it that can die and come back.
pub(crate) struct Bench {
    folder: TempDir,
    world: Option<World>,
    pub(crate) sees: mpsc::Receiver<Observation>,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench::in_folder(TempDir::new().expect("a folder"))
    }

    pub(crate) fn in_folder(folder: TempDir) -> Bench {
        let (world, sees) = open(&folder.path().join("data"));
        Bench { folder, world: Some(world), sees }
    }

    pub(crate) fn world(&self) -> &World {
        self.world.as_ref().expect("an open world")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The agent goes, and another comes.
    pub(crate) fn reopen(&mut self) {
        self.world = None;
        (self.world, self.sees) = {
            let (world, sees) = open(&self.data());
            (Some(world), sees)
        };
    }

    pub(crate) async fn start(&self, instance: &str, incarnation: u64, process: Process) -> Outcome {
        self.world().act(&start(instance, incarnation, process)).await
    }

    /// Starts what must start.
    pub(crate) async fn started(&self, instance: &str, incarnation: u64, process: Process) -> ProcessId {
        match self.start(instance, incarnation, process).await {
            Outcome::Started { process, adopted: false } => process,
            other => panic!("not started: {other:?}"),
        }
    }

    pub(crate) async fn stop(&self, instance: &str, incarnation: u64, grace: Duration) -> Outcome {
        self.world().act(&stop(instance, incarnation, "TERM", grace)).await
    }

    /// The next end that is seen. On a busy machine it is told before its cause is known, which is then read from the
    /// shim's note, as the next agent would.
    pub(crate) async fn exited(&mut self) -> (InstanceId, u64, Exit) {
        let exited = loop {
            let next = tokio::time::timeout(WAIT_MAX, self.sees.recv()).await.expect("an end in time");
            if let Some(Observation::Exited { instance, incarnation, exit, .. }) = next {
                break (instance, incarnation, exit);
            }
        };
        if exited.2.code.or(exited.2.signal).is_some() {
            return exited;
        }
        let shim = shim_of(&self.data(), &exited.0.to_string());
        until(|| (!is_alive(shim)).then_some(()), || "the shim's end".to_owned()).await;
        let note = std::fs::read(self.data().join(format!("instances/{}/exit.json", exited.0)));
        match note.ok().and_then(|note| serde_json::from_slice::<serde_json::Value>(&note).ok()) {
            Some(note) => (exited.0, exited.1, serde_json::from_value(note["exit"].clone()).expect("an exit")),
            None => exited,
        }
    }

    /// Starts an instance by an agent of its own, which a shell runs with `prefix` in front, and kills that agent.
    /// The world of this bench is closed.
    pub(crate) fn started_by_agent(
        &mut self,
        prefix: &str,
        instance: &str,
        incarnation: u64,
        process: &Process,
    ) -> ProcessId {
        self.world = None;
        let script = format!("{prefix} \"$0\" \"$@\"");
        let process = serde_json::to_string(process).expect("JSON");
        let mut agent = Command::new("sh");
        agent.args(["-c", &script]).arg(program()).arg("agent").arg(self.data());
        agent.args([instance, &incarnation.to_string(), &process]).stdout(Stdio::piped());
        let mut agent = agent.spawn().expect("an agent");
        let mut outcome = String::new();
        BufReader::new(agent.stdout.take().expect("its output")).read_line(&mut outcome).expect("an outcome");
        agent.kill().expect("to kill it");
        agent.wait().expect("its end");
        let outcome: serde_json::Value = serde_json::from_str(&outcome).expect("JSON");
        serde_json::from_value(outcome["process"].clone()).expect("a process")
    }

    /// Waits until the instance's output has `text` in it; gives all of it.
    pub(crate) async fn printed(&self, instance: &str, text: &str) -> String {
        let instance = id(instance);
        let read = || {
            let files = self.world().log_files(&instance);
            files.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default()).collect::<String>()
        };
        until(|| Some(read()).filter(|all| all.contains(text)), || format!("{text:?} in {}", read())).await
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A failed test must not leave processes behind.
        for entry in std::fs::read_dir(self.data().join("instances")).into_iter().flatten().flatten() {
            let Ok(state) = std::fs::read(entry.path().join("state.json")) else { continue };
            let Ok(state) = serde_json::from_slice::<serde_json::Value>(&state) else { continue };
            for name in ["process", "shim"] {
                let of = |key: &str| state[name][key].as_u64().unwrap_or_default();
                let process = ProcessId { pid: of("pid") as u32, start_ticks: of("start_ticks") };
                if is_alive(process) {
                    kill(process, "KILL");
                }
            }
        }
    }
}

fn open(data: &Path) -> (World, mpsc::Receiver<Observation>) {
    let (seen, sees) = mpsc::channel(1024);
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        match World::open(data, shim(), seen.clone()) {
            Ok(world) => return (world, sees),
            // Tasks of the world before hold it for a moment.
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::yield_now();
    }
}

/// Says that a test, or a part of it, could not be run here.
#[expect(clippy::print_stdout, reason = "the test harness reads this line")]
pub(crate) fn skipped(test: &str, why: &str) {
    println!("SKIPPED: {test}: {why}");
}

pub(crate) fn shim() -> ShimCommand {
    ShimCommand { program: program(), arguments: vec!["shim".to_owned()] }
}

/// The test program.
pub(crate) fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_regrow-effects-test"))
}

pub(crate) fn id(text: &str) -> InstanceId {
    text.parse().expect("an instance")
}

pub(crate) fn start(instance: &str, incarnation: u64, process: Process) -> Action {
    Action::Start { instance: id(instance), incarnation, process: Box::new(process), listen: None }
}

pub(crate) fn stop(instance: &str, incarnation: u64, signal: &str, grace: Duration) -> Action {
    Action::Stop { instance: id(instance), incarnation, signal: signal.to_owned(), grace }
}

/// A process of these words.
pub(crate) fn process(command: &[&str]) -> Process {
    Process {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        directory: "/".to_owned(),
        environment: BTreeMap::new(),
        user: None,
        limits: Limits::default(),
        logs: LogKeep { bytes: 1 << 20, files: 2 },
    }
}

/// A shell script.
pub(crate) fn sh(script: &str) -> Process {
    process(&["sh", "-c", script])
}

/// Waits until `look` finds something.
pub(crate) async fn until<T>(look: impl FnMut() -> Option<T>, what: impl Fn() -> String) -> T {
    let mut look = look;
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {}", what());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Fields of `/proc/PID/stat` behind the name.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Whether the very process is there and has not ended.
pub(crate) fn is_alive(process: ProcessId) -> bool {
    stat(process.pid).is_some_and(|fields| fields[19] == process.start_ticks.to_string() && fields[0] != "Z")
}

/// The process of a pid.
pub(crate) fn process_of(pid: u32) -> Option<ProcessId> {
    Some(ProcessId { pid, start_ticks: stat(pid)?[19].parse().ok()? })
}

/// The session that a process is in.
pub(crate) fn session(pid: u32) -> Option<u32> {
    stat(pid)?[3].parse().ok()
}

/// The state of a process, one letter (proc(5)).
pub(crate) fn state(pid: u32) -> Option<String> {
    Some(stat(pid)?[0].clone())
}

/// Sends a signal.
pub(crate) fn kill(process: ProcessId, signal: &str) {
    let signal: nix::sys::signal::Signal = format!("SIG{signal}").parse().expect("a signal");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(process.pid).expect("a pid"));
    let _ = nix::sys::signal::kill(pid, signal);
}

/// The shim of an instance.
pub(crate) fn shim_of(data: &Path, instance: &str) -> ProcessId {
    let text = std::fs::read(data.join("instances").join(instance).join("state.json")).expect("a state");
    let state: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    serde_json::from_value(state["shim"].clone()).expect("a process")
}
