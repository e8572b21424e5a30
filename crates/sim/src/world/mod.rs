//! The virtual world of one node: processes, ports, files, and programs that read them. Does what actions say, and knows
//! the truth that properties ask for. Faults are added around it, never in it.

mod files;
mod process;
mod proxy;

pub(crate) use files::error;
pub use files::{Disk, Flaw};
pub use process::Process;
pub use proxy::Loaded;

use crate::program::Program;
use process::Life;
use regrow_model::Found;
use regrow_model::action::{File, Tell};
use regrow_model::observed::{Stage, WorldError, WorldErrorKind};
use regrow_model::process::{Exit, ProcessId};
use regrow_model::{Digest, InstanceId, Name, Outcome, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Pids are used again after so many, as kernels do: a pid alone means nothing.
const PIDS: u32 = 40;

/// The template that reading programs read.
pub const READ: &str = "lb";

/// One node's world.
#[derive(Debug, Default)]
pub struct World {
    processes: Vec<Process>,
    lives: BTreeMap<InstanceId, Life>,
    /// Lives that were once healthy, or once there for those that nobody checks.
    healthy_once: BTreeSet<(InstanceId, u64)>,
    there_once: BTreeSet<(InstanceId, u64)>,
    /// Ports of strangers.
    stolen: BTreeSet<u16>,
    disk: Disk,
    /// What the program behind the reload command of each template has loaded.
    external: BTreeMap<Name, Loaded>,
    started: u32,
}

impl World {
    /// Every live process.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// The files on disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The live process of a life.
    pub fn process(&self, instance: &InstanceId, incarnation: u64) -> Option<&Process> {
        self.processes.iter().find(|process| process.instance == *instance && process.incarnation == incarnation)
    }

    /// Whether a life was ever healthy; for one that nobody checks (`checked` false), whether it was ever there.
    pub fn was_healthy(&self, instance: &InstanceId, incarnation: u64, checked: bool) -> bool {
        let lives = if checked { &self.healthy_once } else { &self.there_once };
        lives.contains(&(instance.clone(), incarnation))
    }

    /// What the program behind a template's reload command has loaded.
    pub fn external(&self, template: &Name) -> Option<&Loaded> {
        self.external.get(template)
    }

    /// Starts a process, or finds the one that is there for this life.
    ///
    /// It does not look for another life in the slot: that there is none is the planners' business, and a property.
    pub(crate) fn start(
        &mut self,
        instance: &InstanceId,
        incarnation: u64,
        process: &regrow_model::process::Process,
        listen: Option<u16>,
        now: Time,
    ) -> Outcome {
        if let Some(there) = self.process(instance, incarnation) {
            return Outcome::Started { process: there.id, adopted: true };
        }
        let refused = |kind, text: &str| Outcome::Failed { stage: None, error: error(kind, text) };
        let program = Program::of(process);
        if program.missing {
            return refused(WorldErrorKind::NotFound, "there is no such program");
        }
        let taken = |port: u16| self.stolen.contains(&port) || self.processes.iter().any(|p| p.port == Some(port));
        if let Some(port) = listen.filter(|port| taken(*port)) {
            return refused(WorldErrorKind::PortInUse, &format!("port {port} is taken"));
        }
        self.started += 1;
        let id = ProcessId { pid: 100 + self.started % PIDS, start_ticks: u64::from(self.started) };
        let read = Name::new(READ).expect("a name");
        self.processes.push(Process {
            id,
            instance: instance.clone(),
            incarnation,
            since: now,
            port: listen,
            loaded: program.reader.then(|| self.disk.in_place(&read).unwrap_or_default()),
            program,
            told_to_stop: false,
            stopping: false,
        });
        self.there_once.insert((instance.clone(), incarnation));
        self.healthy_once.remove(&(instance.clone(), incarnation));
        self.lives.insert(instance.clone(), Life { incarnation, process: id, exit: None });
        Outcome::Started { process: id, adopted: false }
    }

    /// Begins the stop of a life; `Err` is its outcome when there is nothing to wait for.
    pub(crate) fn begin_stop(
        &mut self,
        instance: &InstanceId,
        incarnation: u64,
        now: Time,
    ) -> Result<Process, Outcome> {
        let of_life = |process: &&mut Process| process.instance == *instance && process.incarnation == incarnation;
        if let Some(process) = self.processes.iter_mut().find(of_life) {
            (process.told_to_stop, process.stopping) = (true, true);
            return Ok(process.clone());
        }
        let unseen = Exit { code: None, signal: None, at: now, tail: String::new() };
        let life = self.lives.get(instance).filter(|life| life.incarnation == incarnation);
        Err(Outcome::Stopped { exit: life.and_then(|life| life.exit.clone()).unwrap_or(unseen) })
    }

    /// Ends a process, if it is still there.
    pub(crate) fn end(&mut self, id: ProcessId, exit: &Exit) -> Option<Process> {
        let at = self.processes.iter().position(|process| process.id == id)?;
        let process = self.processes.swap_remove(at);
        if let Some(life) = self.lives.get_mut(&process.instance).filter(|life| life.process == id) {
            life.exit = Some(exit.clone());
        }
        Some(process)
    }

    /// Runs a check's question: whether the life serves on this port. Remembers a yes.
    pub(crate) fn check(&mut self, instance: &InstanceId, incarnation: u64, port: u16, now: Time) -> bool {
        let process = self.process(instance, incarnation);
        let passing = process.is_some_and(|process| process.port == Some(port) && process.is_healthy(now));
        if passing {
            self.healthy_once.insert((instance.clone(), incarnation));
        }
        passing
    }

    /// What an agent finds when it starts. Stops that an agent before it had begun are nobody's any more.
    pub(crate) fn found(&mut self) -> Vec<Found> {
        for process in &mut self.processes {
            process.stopping = false;
        }
        let found = self.lives.iter().map(|(instance, life)| {
            let alive = self.processes.iter().any(|process| process.id == life.process);
            Found {
                instance: instance.clone(),
                incarnation: life.incarnation,
                process: alive.then_some(life.process),
                exit: life.exit.clone(),
            }
        });
        found.collect()
    }

    /// Puts a set in place.
    pub(crate) fn install(
        &mut self,
        template: &Name,
        digest: Digest,
        files: &[File],
        last_good: Option<Digest>,
        checked: bool,
    ) -> Outcome {
        let contents: Vec<Arc<str>> = files.iter().map(|file| file.content.clone()).collect();
        match self.disk.install(template, digest, contents, last_good, checked) {
            Ok(()) => Outcome::Installed,
            Err((stage, error)) => Outcome::Failed { stage: Some(stage), error },
        }
    }

    /// Puts a kept set back in place.
    pub(crate) fn restore(&mut self, template: &Name, digest: Digest) -> Result<(), WorldError> {
        self.disk.restore(template, digest)
    }

    /// Tells whoever reads a template, and proves that they took what is in place. `tool_fails`: the telling or the
    /// proof fails although nothing is wrong with the files.
    pub(crate) fn load(
        &mut self,
        template: &Name,
        digest: Digest,
        tell: &Tell,
        proved: bool,
        tool_fails: Option<Stage>,
    ) -> Outcome {
        let failed = |stage, error| Outcome::Failed { stage: Some(stage), error };
        let told = self.tell(template, tell, tool_fails == Some(Stage::Reload));
        let how = match told {
            Ok(how) => how,
            Err(error) => return failed(Stage::Reload, error),
        };
        let works = [Flaw::Reload, Flaw::Probe].iter().all(|flaw| !self.disk.is_flawed(template, *flaw));
        if proved && (tool_fails == Some(Stage::Probe) || !works) {
            return failed(Stage::Probe, error(WorldErrorKind::Timeout, "the probe did not pass"));
        }
        self.disk.mark_loaded(template, digest);
        Outcome::Loaded { how }
    }

    fn tell(&mut self, template: &Name, tell: &Tell, refuses: bool) -> Result<String, WorldError> {
        let refuses = refuses || self.disk.is_flawed(template, Flaw::Reload);
        let refused = || error(WorldErrorKind::Refused, "the reload was refused: what was loaded goes on");
        let in_place = self.disk.in_place(template).unwrap_or_default();
        match tell {
            Tell::Nobody => {}
            Tell::Command { .. } => {
                if refuses {
                    return Err(refused());
                }
                self.external.insert(template.clone(), in_place);
            }
            Tell::Signal { instances, .. } => {
                for (instance, incarnation) in instances {
                    let reads = |p: &&mut Process| p.instance == *instance && p.incarnation == *incarnation;
                    let Some(process) = self.processes.iter_mut().find(reads) else {
                        return Err(error(WorldErrorKind::NotFound, format!("{instance} is not running here")));
                    };
                    if refuses {
                        return Err(refused());
                    }
                    process.loaded = Some(in_place.clone());
                }
            }
            Tell::Haproxy { commands, .. } => {
                let Some(process) = self.newest_reader() else {
                    return Err(error(WorldErrorKind::NotFound, "nobody answers at the socket"));
                };
                if refuses {
                    return Err(refused());
                }
                let loaded = process.loaded.get_or_insert_default();
                for command in commands {
                    loaded.command(command).map_err(|answer| error(WorldErrorKind::Refused, answer))?;
                }
            }
        }
        Ok("told".to_owned())
    }

    /// Whose the runtime socket is: of several, who bound it last.
    fn newest_reader(&mut self) -> Option<&mut Process> {
        let readers = self.processes.iter_mut().filter(|process| process.program.reader);
        readers.max_by_key(|process| process.id.start_ticks)
    }

    /// Strangers take a port, or give all back.
    pub(crate) fn steal(&mut self, port: Option<u16>) {
        match port {
            Some(port) => drop(self.stolen.insert(port)),
            None => self.stolen.clear(),
        }
    }
}
