//! What came of each host, and equal results together.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a host ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Ending {
    /// The command ended with this code.
    Exited {
        /// 0 is success.
        exit: i32,
    },
    /// The host could not be reached or logged in to.
    Unreachable {
        /// What `ssh` said.
        reason: String,
    },
    /// It took too long and the connection was ended; what it started there may still run.
    TimedOut,
    /// It was never begun, because too many had failed or the user had enough.
    NotBegun,
}

impl Ending {
    /// Whether the command ran and succeeded.
    pub fn is_ok(&self) -> bool {
        matches!(self, Ending::Exited { exit: 0 })
    }

    /// For people.
    pub fn shown(&self) -> String {
        match self {
            Ending::Exited { exit: 0 } => "ok".to_owned(),
            Ending::Exited { exit } => format!("failed with exit code {exit}"),
            Ending::Unreachable { reason } => format!("unreachable: {reason}"),
            Ending::TimedOut => "timed out".to_owned(),
            Ending::NotBegun => "not begun".to_owned(),
        }
    }
}

/// What came of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostResult {
    /// Its name.
    pub host: String,
    /// How it ended.
    #[serde(flatten)]
    pub ending: Ending,
    /// From its begin to its end, in milliseconds.
    pub millis: u64,
    /// Standard output; what is beyond the bound is left out in the middle.
    pub stdout: String,
    /// Standard error, the same.
    pub stderr: String,
}

/// Hosts with equal results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// The hosts, in order.
    pub hosts: Vec<&'a str>,
    /// How they ended.
    pub ending: &'a Ending,
    /// Their standard output.
    pub stdout: &'a str,
    /// Their standard error.
    pub stderr: &'a str,
}

/// Results that are equal in everything but their time, together: failures last, where they are read, the largest
/// group of each first.
pub fn grouped(results: &[HostResult]) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<(&Ending, &str, &str), Vec<&str>> = BTreeMap::new();
    for result in results {
        let key = (&result.ending, result.stdout.trim_end(), result.stderr.trim_end());
        groups.entry(key).or_default().push(&result.host);
    }
    let group = |((ending, stdout, stderr), hosts)| Group { hosts, ending, stdout, stderr };
    let mut groups: Vec<Group<'_>> = groups.into_iter().map(group).collect();
    groups.sort_by_key(|group| (!group.ending.is_ok(), std::cmp::Reverse(group.hosts.len())));
    groups
}

/// How many ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// With success.
    pub ok: usize,
    /// With another exit code.
    pub failed: usize,
    /// Not reached.
    pub unreachable: usize,
    /// Too slow.
    pub timed_out: usize,
    /// Never begun.
    pub not_begun: usize,
}

impl Tally {
    /// Counts one.
    pub fn count(&mut self, ending: &Ending) {
        *match ending {
            Ending::Exited { exit: 0 } => &mut self.ok,
            Ending::Exited { .. } => &mut self.failed,
            Ending::Unreachable { .. } => &mut self.unreachable,
            Ending::TimedOut => &mut self.timed_out,
            Ending::NotBegun => &mut self.not_begun,
        } += 1;
    }

    /// Whether every host succeeded.
    pub fn all_ok(&self) -> bool {
        self.failed + self.unreachable + self.timed_out + self.not_begun == 0
    }

    /// For people: only what there is.
    pub fn shown(&self) -> String {
        let parts = [
            (self.ok, "ok"),
            (self.failed, "failed"),
            (self.unreachable, "unreachable"),
            (self.timed_out, "timed out"),
            (self.not_begun, "not begun"),
        ];
        let shown = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        shown.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(host: &str, ending: Ending, stdout: &str) -> HostResult {
        HostResult {
            host: host.into(),
            ending,
            millis: host.len() as u64,
            stdout: stdout.into(),
            stderr: String::new(),
        }
    }

    /// Shows that equal results are one group whatever their times, and that failures are read last.
    #[test]
    fn equal_results_are_together() {
        let ok = Ending::Exited { exit: 0 };
        let results = [
            result("a", Ending::Exited { exit: 1 }, "x"),
            result("b", ok.clone(), "x"),
            result("ccc", ok.clone(), "x\n"),
            result("d", ok, "y"),
        ];
        let groups: Vec<_> = grouped(&results).into_iter().map(|g| (g.hosts.join(","), g.ending.shown())).collect();
        let failed = "failed with exit code 1".to_owned();
        assert_eq!(groups, [("b,ccc".into(), "ok".into()), ("d".into(), "ok".into()), ("a".into(), failed)]);
        let mut tally = Tally::default();
        results.iter().for_each(|result| tally.count(&result.ending));
        assert_eq!((tally.shown().as_str(), tally.all_ok()), ("3 ok, 1 failed", false));
    }
}
