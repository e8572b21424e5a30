//! The operator's command that restarts a node.

use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command as Process;
use tokio::time::timeout;

use crate::address::Address;
use crate::topology::NodeId;

/// A command that restarts one node, or brings it up where it is down.
///
/// It learns from its environment which: `REGROW_NODE_HOST`, `REGROW_NODE_PORT`, `REGROW_NODE_ID`, and `REGROW_NODE_ROLE`
/// (`master` or `replica`, as it is by then). Whatever it prints goes to our standard error. It may be called twice for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hand {
    /// A line for `sh -c`.
    Shell(String),
    /// A program and its arguments, at least the program.
    Program(Vec<String>),
}

/// The node that a command is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node<'a> {
    /// Its name.
    pub id: &'a NodeId,
    /// Where it is.
    pub address: &'a Address,
    /// Whether it is a master then.
    pub master: bool,
}

/// A command that fails. Whether the node was restarted is unknown.
#[derive(Debug, thiserror::Error)]
pub enum HandError {
    /// It cannot be run.
    #[error("the command cannot be run")]
    Run(#[source] std::io::Error),
    /// It failed.
    #[error("the command failed ({0})")]
    Failed(std::process::ExitStatus),
    /// It takes too long. It was killed, but what it has started may go on.
    #[error("the command did not end within {0:?}")]
    TooLong(Duration),
}

impl Hand {
    /// Its words.
    fn words(&self) -> Vec<&str> {
        match self {
            Self::Shell(line) => vec!["sh", "-c", line],
            Self::Program(words) => words.iter().map(String::as_str).collect(),
        }
    }

    /// A number that tells it from other commands without giving it away.
    pub fn print(&self) -> String {
        format!("{:016x}", crate::rdb::crc64(0, self.words().join("\0").as_bytes()))
    }

    /// Runs it for a node.
    pub(super) async fn run(&self, node: &Node<'_>, within: Duration) -> Result<(), HandError> {
        let words = self.words();
        let Some((program, arguments)) = words.split_first() else {
            return Err(HandError::Run(std::io::ErrorKind::InvalidInput.into()));
        };
        // Not collected: a server that it leaves behind would keep a pipe open, and we would wait for ever.
        let talk = std::io::stderr().as_fd().try_clone_to_owned().map_or_else(|_| Stdio::null(), Stdio::from);
        let mut process = Process::new(program);
        process.args(arguments).stdin(Stdio::null()).stdout(talk).kill_on_drop(true);
        process.env("REGROW_NODE_HOST", &node.address.host);
        process.env("REGROW_NODE_PORT", node.address.port.to_string());
        process.env("REGROW_NODE_ID", node.id.as_str());
        process.env("REGROW_NODE_ROLE", if node.master { "master" } else { "replica" });
        let status = match timeout(within, process.status()).await {
            Ok(status) => status.map_err(HandError::Run)?,
            Err(_) => return Err(HandError::TooLong(within)),
        };
        if status.success() { Ok(()) } else { Err(HandError::Failed(status)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command learns its node; it fails by its status, by not being there, and by taking too long.
    #[tokio::test]
    async fn commands() {
        let id = crate::topology::tests::id("ab");
        let address = Address::new("::1", 7001);
        let node = Node { id: &id, address: &address, master: false };
        let long = Duration::from_secs(60);
        let line = "test \"$REGROW_NODE_HOST $REGROW_NODE_PORT $REGROW_NODE_ROLE\" = '::1 7001 replica' && test ${#REGROW_NODE_ID} = 40";
        Hand::Shell(line.to_owned()).run(&node, long).await.unwrap();
        let failed = Hand::Shell("exit 3".to_owned()).run(&node, long).await.unwrap_err();
        assert_eq!(failed.to_string(), "the command failed (exit status: 3)");
        let program = |words: &[&str]| Hand::Program(words.iter().map(|word| (*word).to_owned()).collect());
        program(&["test", "a b", "=", "a b"]).run(&node, long).await.unwrap();
        assert!(matches!(program(&["/no/such"]).run(&node, long).await, Err(HandError::Run(_))));
        assert!(matches!(program(&[]).run(&node, long).await, Err(HandError::Run(_))));
        let short = Duration::from_millis(10);
        assert!(matches!(program(&["sleep", "60"]).run(&node, short).await, Err(HandError::TooLong(_))));
        assert_ne!(program(&["a"]).print(), program(&["b"]).print());
    }
}
