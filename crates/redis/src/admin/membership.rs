//! Nodes come and go.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::address::Address;
use crate::plan::master_for_replica;
use crate::resp::{Command, Value};
use crate::topology::NodeId;

use super::cluster::Cluster;
use super::create::examine;
use super::error::AdminError;

/// What a new node shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A master without slots yet.
    Master,
    /// A replica of this master.
    ReplicaOf(NodeId),
    /// A replica of the master that needs one most: see [`master_for_replica`].
    Replica,
}

/// How long between two looks at a node that should change.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Cluster {
    /// Takes an empty server in, and waits until all nodes agree. Its name.
    ///
    /// A master gets the functions of the cluster first, because scripts of clients may come to it as soon as it has slots.
    pub async fn add(&mut self, server: &Address, role: &Role, within: Duration) -> Result<NodeId, AdminError> {
        examine(self.dialer(), std::slice::from_ref(server)).await?;
        if *role == Role::Master {
            self.copy_functions(server).await?;
        }
        let greeter = self
            .picture()
            .masters()
            .map(|node| node.id.clone())
            .next()
            .ok_or_else(|| AdminError::Unreachable(Vec::new()))?;
        let alone = Self::open(self.dialer(), std::slice::from_ref(server)).await?;
        let id = alone
            .picture()
            .nodes()
            .map(|node| node.id.clone())
            .next()
            .ok_or_else(|| AdminError::Unreachable(Vec::new()))?;
        let meet = alone.meet(&id)?;
        self.link(&greeter)?.ok(&meet).await?;
        self.adopt(server.clone());
        self.settle(within, |picture| picture.views.contains_key(&id)).await?;
        let master = match role {
            Role::Master => return Ok(id),
            Role::ReplicaOf(master) => Some(master.clone()),
            Role::Replica => master_for_replica(self.picture(), &server.host, None).map(|node| node.id.clone()),
        };
        if let Some(master) = master {
            self.follow(&id, &master, within).await?;
        }
        Ok(id)
    }

    /// Makes a node the replica of a master, and waits until all agree and it has the data.
    pub async fn follow(&mut self, replica: &NodeId, master: &NodeId, within: Duration) -> Result<(), AdminError> {
        self.link(replica)?.ok(&Command::new("CLUSTER REPLICATE").arg(master)).await?;
        let obeyed = |picture: &crate::topology::Picture| {
            picture
                .views
                .values()
                .all(|view| view.nodes.get(replica).is_some_and(|node| node.master.as_ref() == Some(master)))
        };
        self.settle(within, obeyed).await?;
        self.in_step(std::slice::from_ref(replica), within).await
    }

    /// Takes a node that serves no slots out of the cluster: its replicas follow others, everybody forgets it, and it is
    /// reset, so that it neither comes back nor keeps data. Works for nodes that do not answer, too.
    pub async fn remove(&mut self, leaving: &NodeId, within: Duration) -> Result<(), AdminError> {
        let orphans: Vec<(NodeId, String)> =
            self.picture().replicas(leaving).map(|node| (node.id.clone(), node.address.host.clone())).collect();
        for (orphan, host) in orphans {
            if let Some(master) = master_for_replica(self.picture(), &host, Some(leaving)).map(|node| node.id.clone()) {
                self.follow(&orphan, &master, within).await?;
            }
        }
        // Reset before forgetting: a node that still talks would be learned again.
        if self.picture().node(leaving).is_some() {
            self.link(leaving)?.ok(&Command::new("CLUSTER RESET HARD")).await?;
        }
        self.release(leaving);
        let others: Vec<NodeId> = self.picture().views.keys().filter(|id| *id != leaving).cloned().collect();
        for other in &others {
            self.forget(other, leaving, within).await?;
        }
        self.settle(within, |picture| picture.views.values().all(|view| !view.nodes.contains_key(leaving))).await
    }

    /// One node forgets another. A replica refuses while it still holds the other for its master, which passes.
    async fn forget(&mut self, node: &NodeId, gone: &NodeId, within: Duration) -> Result<(), AdminError> {
        let end = Instant::now() + within;
        loop {
            match self.link(node)?.ok(&Command::new("CLUSTER FORGET").arg(gone)).await {
                Ok(()) => return Ok(()),
                Err(crate::connection::Error::Reply { message, .. }) if message.contains("Unknown node") => {
                    return Ok(());
                }
                Err(crate::connection::Error::Reply { message, .. })
                    if message.contains("my master") && Instant::now() < end =>
                {
                    sleep(LOOK_EVERY).await
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Copies the functions of some master to a new one. Versions before 7 have none.
    async fn copy_functions(&mut self, server: &Address) -> Result<(), AdminError> {
        let Some(source) = self.picture().masters().find(|node| !node.slots.is_empty()).map(|node| node.id.clone())
        else {
            return Ok(());
        };
        let link = self.link(&source)?;
        if link.info().await?.version() < (7, 0, 0) {
            return Ok(());
        }
        let dump = Command::new("FUNCTION DUMP");
        let answer = link.call(&dump).await?;
        let Value::Bulk(functions) = &answer else {
            return Err(link.unexpected(&dump, "bytes", &answer).into());
        };
        let mut fresh = self.dialer().connect(server).await?;
        fresh.ok(&Command::new("FUNCTION RESTORE").arg(functions).arg("REPLACE")).await?;
        Ok(())
    }
}
