//! Makes a replica the master.

use std::time::Duration;

use crate::resp::Command;
use crate::topology::NodeId;

use super::cluster::Cluster;
use super::error::AdminError;

/// How a replica becomes the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Force {
    /// The master stops writes until the replica has everything: nothing is lost. Needs a master that answers.
    #[default]
    No,
    /// Without the master, but with the votes of most others: writes that it had not passed on are lost.
    Force,
    /// Without any vote: for when most masters are gone.
    Takeover,
}

impl Cluster {
    /// Makes a replica the master of its slots, and waits until all nodes agree that it is.
    pub async fn promote(&mut self, replica: &NodeId, force: Force, within: Duration) -> Result<(), AdminError> {
        let command = Command::new("CLUSTER FAILOVER");
        let command = match force {
            Force::No => command,
            Force::Force => command.arg("FORCE"),
            Force::Takeover => command.arg("TAKEOVER"),
        };
        self.link(replica)?.ok(&command).await?;
        let promoted = |picture: &crate::topology::Picture| {
            picture.node(replica).is_some_and(|node| node.flags.master)
                && picture
                    .views
                    .values()
                    .all(|view| view.nodes.get(replica).is_some_and(|node| node.flags.master && !node.slots.is_empty()))
        };
        // With a dead master there is no picture without a problem; that the living agree is what can be had.
        if force == Force::No { self.settle(within, promoted).await } else { self.agreed(within, promoted).await }
    }
}
