//! Everything that a run has started: found and ended.

use crate::proc::{self, Stat};
use rustix::process::{Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Time between two looks at who is left.
const LOOK: Duration = Duration::from_millis(2);

/// Looks of [`end_marked`]: somebody who forks faster than that is told of.
const LOOKS_MAX: usize = 1_000;

/// Who lives on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spare {
    /// Connections that `ssh` keeps open.
    Connections,
    /// Nobody.
    Nothing,
}

/// Kills all that this process, which reaps orphans, is an ancestor of, until none is left.
pub(super) fn end_all(spare: Spare) {
    loop {
        // Orphans of a run are children of ours, so without a child there is nobody.
        let childless = loop {
            match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        if childless {
            return;
        }
        let left: Vec<u32> = descendants(std::process::id())
            .into_iter()
            .filter(|pid| spare == Spare::Nothing || !is_kept_connection(*pid))
            .collect();
        if left.is_empty() && spare == Spare::Connections {
            return;
        }
        kill(&left);
        std::thread::sleep(LOOK);
    }
}

/// Kills every process of the machine whose environment, as it began, has `NAME=VALUE`, and who they start; gives how many
/// were found. For what lost its leash.
pub(crate) fn end_marked(mark: &str) -> usize {
    let mut found = BTreeSet::new();
    for _ in 0..LOOKS_MAX {
        let marked: Vec<u32> = proc::all()
            .filter(|stat| stat.state != b'Z' && stat.id.pid != std::process::id())
            .map(|stat| stat.id.pid)
            .filter(|pid| has_mark(*pid, mark) && !is_kept_connection(*pid))
            .collect();
        if marked.is_empty() {
            break;
        }
        kill(&marked);
        found.extend(marked);
        std::thread::sleep(LOOK);
    }
    found.len()
}

fn kill(pids: &[u32]) {
    for pid in pids {
        let _ = kill_process(crate::signal::pid(*pid), Signal::KILL);
    }
}

fn has_mark(pid: u32, mark: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
}

/// Living descendants of a process.
fn descendants(ancestor: u32) -> Vec<u32> {
    let all: BTreeMap<u32, Stat> = proc::all().map(|stat| (stat.id.pid, stat)).collect();
    let is_of = |mut pid: u32| {
        // A chain of parents is as long as there are processes at most.
        for _ in 0..all.len() {
            match all.get(&pid).map(|stat| stat.parent) {
                Some(parent) if parent == ancestor => return true,
                Some(parent) if parent > 1 => pid = parent,
                _ => return false,
            }
        }
        false
    };
    all.iter().filter(|(pid, stat)| stat.state != b'Z' && is_of(**pid)).map(|(pid, _)| *pid).collect()
}

/// Whether a process is an `ssh` that has gone into the background to keep a connection: it names itself so
/// (ssh(1), `ControlPersist`).
fn is_kept_connection(pid: u32) -> bool {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&words);
    proc::name(pid).as_deref() == Some("ssh") && text.starts_with("ssh: ") && text.contains("[mux]")
}
