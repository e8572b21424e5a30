//! What `/proc` says of processes (proc(5)).

use regrow_model::process::ProcessId;
use std::fs;
use std::io::Read;

/// Most of a `/proc/PID/stat` that is read: its fields are numbers and a name of 16 bytes.
const STAT_BYTES_MAX: u64 = 4_096;

/// One process, as `/proc/PID/stat` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Which process.
    pub(crate) id: ProcessId,
    /// State letter; `Z` has ended and waits for its parent to ask.
    pub(crate) state: u8,
    /// Its parent.
    pub(crate) parent: u32,
    /// Its session, which is the pid of the session's first process.
    pub(crate) session: u32,
}

/// Reads one process; `None` when it is gone.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    let mut text = Vec::new();
    fs::File::open(format!("/proc/{pid}/stat")).ok()?.take(STAT_BYTES_MAX).read_to_end(&mut text).ok()?;
    parse(pid, &String::from_utf8_lossy(&text))
}

/// Whether the very process is there, be it as a zombie.
pub(crate) fn is_there(id: ProcessId) -> bool {
    stat(id.pid).is_some_and(|stat| stat.id == id)
}

/// Whether the very process is there and has not ended.
pub(crate) fn is_alive(id: ProcessId) -> bool {
    stat(id.pid).is_some_and(|stat| stat.id == id && stat.state != b'Z')
}

/// Every process, in no order. One that comes or goes meanwhile may be missed.
pub(crate) fn all() -> impl Iterator<Item = Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(stat)
}

/// The calling process.
pub(crate) fn own() -> Option<ProcessId> {
    stat(std::process::id()).map(|stat| stat.id)
}

/// Which boot of the machine this is: pids and start times count from it.
pub(crate) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// How a process takes a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// It has a handler.
    Handles,
    /// It blocks it: for good, and it asks for it in its own way (signalfd(2)), or for the moment that a library needs.
    Blocks,
    /// It ignores it: it is lost.
    Ignores,
    /// It has nothing: the kernel's default happens. A program whose only thread sits in sigwait(3) looks the same.
    Default,
}

/// How `pid` takes signal number `signal`; `None` when the process is gone.
pub(crate) fn takes(pid: u32, signal: i32) -> Option<Takes> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let bit = 1_u64.checked_shl(u32::try_from(signal.checked_sub(1)?).ok()?)?;
    let has = |name: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(u64::from_str_radix(mask.trim(), 16).ok()? & bit != 0)
    };
    Some(match (has("SigCgt:")?, has("SigIgn:")?, has("SigBlk:")?) {
        (true, _, _) => Takes::Handles,
        (false, true, _) => Takes::Ignores,
        (false, false, true) => Takes::Blocks,
        (false, false, false) => Takes::Default,
    })
}

/// The name of a process, as `ps` shows it.
pub(crate) fn name(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned())
}

/// The name in the second field may hold spaces and brackets, so fields count from the last bracket.
fn parse(pid: u32, text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field 3 of proc(5) is the first behind the name.
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        id: ProcessId { pid, start_ticks: field(22)?.parse().ok()? },
        state: *field(3)?.as_bytes().first()?,
        parent: field(4)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that a program may name itself as it likes without confusing us.
    #[test]
    fn reads_stat_behind_any_name() {
        let text = "7 (a) S 9) R 3 7 5 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 8812 10 1";
        let stat = parse(7, text).expect("a whole line");
        assert_eq!((stat.id.start_ticks, stat.state, stat.parent, stat.session), (8812, b'R', 3, 5));
        assert_eq!(parse(7, "7 (a) R 3"), None);
        assert_eq!(parse(7, ""), None);
    }

    /// Shows that we find ourselves, alive, and that no process is nobody.
    #[test]
    fn finds_itself() {
        let own = own().expect("the test runs");
        assert!(is_alive(own) && all().any(|stat| stat.id == own));
        assert!(!is_there(ProcessId { pid: own.pid, start_ticks: own.start_ticks + 1 }));
        assert_eq!(stat(0), None);
    }
}
