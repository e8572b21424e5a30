//! Makes a replica the master.

use std::time::Duration;

use tokio::time::Instant;

use crate::resp::Command;
use crate::topology::{NodeId, Picture};

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
        if force == Force::No {
            return self.promote_gently(replica, &command, within).await;
        }
        self.link(replica)?.ok(&command).await?;
        // With a dead master there is no picture without a problem; that the living agree is what can be had.
        self.agreed(within, |picture| promoted(picture, replica)).await
    }

    /// The servers give a hand-over up when the replica does not get all in five seconds; then it is asked for again.
    async fn promote_gently(
        &mut self,
        replica: &NodeId,
        command: &Command,
        within: Duration,
    ) -> Result<(), AdminError> {
        let end = Instant::now() + within;
        loop {
            if self.node(replica)?.flags.master {
                return self.settle(end.duration_since(Instant::now()), |picture| promoted(picture, replica)).await;
            }
            self.link(replica)?.ok(command).await?;
            let left = end.duration_since(Instant::now());
            match self.settle(left.min(ASK_AGAIN_AFTER), |picture| promoted(picture, replica)).await {
                Err(AdminError::NotSettled { .. }) if left > ASK_AGAIN_AFTER => {}
                Err(AdminError::NotSettled { problems, .. }) => {
                    return Err(AdminError::NotSettled { after: within, problems });
                }
                done => return done,
            }
        }
    }
}

/// How long a hand-over may take; the servers themselves give it up after five seconds. Source: `CLUSTER_MF_TIMEOUT`.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(6);

/// Whether all agree that a node is the master of its slots.
fn promoted(picture: &Picture, replica: &NodeId) -> bool {
    picture.node(replica).is_some_and(|node| node.flags.master)
        && picture
            .views
            .values()
            .all(|view| view.nodes.get(replica).is_some_and(|node| node.flags.master && !node.slots.is_empty()))
}
