//! How a node is broken and brought back.

use std::net::IpAddr;
use std::process::Stdio;

use tokio::process::Command as Process;

use crate::address::Address;

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It is told to end (`SHUTDOWN NOSAVE`), as an administrator would.
    Stop,
    /// It ends without a word, as after a power cut.
    Kill,
    /// It stands still, as a machine without memory or a hanging disk does, and goes on later.
    Pause,
}

/// Commands of a shell that break and mend a node. `{host}`, `{port}` and `{pid}` stand for the node's.
///
/// Where a node is on a loopback address, killing and pausing need no command: the process is on this machine, and gets a
/// signal. Starting always needs one: nothing else knows how the server was started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hands {
    /// Ends the process without a word.
    pub kill: Option<String>,
    /// Makes it stand still.
    pub pause: Option<String>,
    /// Lets it go on.
    pub resume: Option<String>,
    /// Starts it again after a stop or kill.
    pub start: Option<String>,
}

/// A hand that fails, or that is missing.
#[derive(Debug, thiserror::Error)]
pub enum HandsError {
    /// No command is given, and the node is not on this machine.
    #[error("{address} is not on this machine: say how to {verb} it")]
    Missing {
        /// The node.
        address: Address,
        /// What cannot be done.
        verb: &'static str,
    },
    /// The command cannot be run.
    #[error("cannot run {command:?}")]
    Run {
        /// The command.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// The command failed.
    #[error("{command:?} failed ({status})")]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        status: String,
    },
}

/// A node to be broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grip {
    pub(super) address: Address,
    pub(super) ip: IpAddr,
    pub(super) pid: i64,
}

impl Hands {
    /// The command for a verb on a node.
    fn command(&self, verb: &'static str, grip: &Grip) -> Result<String, HandsError> {
        let local = |text: &str| grip.ip.is_loopback().then(|| text.to_owned());
        let template = match verb {
            "kill" => self.kill.clone().or_else(|| local("kill -KILL {pid}")),
            "pause" => self.pause.clone().or_else(|| local("kill -STOP {pid}")),
            "resume" => self.resume.clone().or_else(|| local("kill -CONT {pid}")),
            _ => self.start.clone(),
        };
        let template = template.ok_or_else(|| HandsError::Missing { address: grip.address.clone(), verb })?;
        Ok(template
            .replace("{host}", &grip.address.host)
            .replace("{port}", &grip.address.port.to_string())
            .replace("{pid}", &grip.pid.to_string()))
    }

    /// Whether all commands are there that a fault needs, so that a drill does not break what it cannot mend.
    pub(super) fn ready(&self, fault: Fault, grip: &Grip) -> Result<(), HandsError> {
        let verbs: &[&'static str] = match fault {
            Fault::Stop => &["start"],
            Fault::Kill => &["kill", "start"],
            Fault::Pause => &["pause", "resume"],
        };
        verbs.iter().try_for_each(|verb| self.command(verb, grip).map(drop))
    }

    pub(super) async fn act(&self, verb: &'static str, grip: &Grip) -> Result<(), HandsError> {
        let command = self.command(verb, grip)?;
        // What it says goes where our own talk goes. Its output is not collected: a server that it leaves behind would keep
        // the pipe open, and we would wait for ever.
        let run = Process::new("sh").arg("-c").arg(&command).stdin(Stdio::null()).stdout(Stdio::null()).status().await;
        let status = run.map_err(|source| HandsError::Run { command: command.clone(), source })?;
        if status.success() { Ok(()) } else { Err(HandsError::Failed { command, status: status.to_string() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let near = Grip { address: Address::new("localhost", 7001), ip: [127, 0, 0, 1].into(), pid: 42 };
        let far = Grip { address: Address::new("db1", 7001), ip: [10, 0, 0, 1].into(), pid: 42 };
        let bare = Hands::default();
        assert_eq!(bare.command("kill", &near).unwrap(), "kill -KILL 42");
        assert_eq!(
            bare.command("kill", &far).unwrap_err().to_string(),
            "db1:7001 is not on this machine: say how to kill it"
        );
        let hands = Hands {
            kill: Some("ssh {host} kill -9 {pid}".to_owned()),
            start: Some("start {host} {port}".to_owned()),
            ..Hands::default()
        };
        assert_eq!(hands.command("kill", &far).unwrap(), "ssh db1 kill -9 42");
        assert!(
            bare.ready(Fault::Pause, &near).is_ok()
                && bare.ready(Fault::Kill, &near).is_err()
                && bare.ready(Fault::Pause, &far).is_err()
        );
        assert!(hands.ready(Fault::Kill, &far).is_ok() && hands.ready(Fault::Stop, &far).is_ok());
    }
}
