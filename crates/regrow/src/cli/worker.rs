use super::Target;
use crate::config::{Endpoints, Work, data_folder, node_name};
use crate::exit::Failure;
use crate::runtime::jobs::{Alone, work_alone};
use clap::Args;

/// Runs at a time when nothing else is said.
const ROOM_DEFAULT: u32 = 8;

/// Work on runs of jobs, without an agent
///
/// It takes runs from the queue in a store (--store) or in a Redis (--queue)
/// and carries them out here. Playbooks, inventories and files of secrets are
/// looked for where the job's spec was applied from, at the same path on this
/// machine; what a worker has can be said with --label, and asked for by a
/// job's `labels`. SIGTERM lets what runs end first, a second one ends it at
/// once: others take it as its job's `on_loss` says.
///
/// Examples:
///   regrow worker --store http://10.0.0.11:2379 --label ansible
///   regrow worker --queue redis://10.0.0.12:6379 --jobs 32
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Worker {
    /// The store, an etcd cluster or an agent's etcd door, as http://IP:PORT[,…]
    #[arg(long, env = "REGROW_STORE", value_name = "URL[,URL]")]
    store: Option<Endpoints>,
    /// Runs at a time, 1 to 4096
    #[arg(long, env = "REGROW_JOBS", value_name = "N", default_value_t = ROOM_DEFAULT)]
    jobs: u32,
    /// This worker's name. Default: the host's name
    #[arg(long, env = "REGROW_NODE", value_name = "NAME")]
    node: Option<String>,
    #[command(flatten)]
    work: Work,
}

impl Worker {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        if self.jobs == 0 {
            return Err(Failure::usage("--jobs 0: a worker without runs has nothing to do"));
        }
        let data = data_folder(target.data.as_deref(), true);
        let access = target.access.clone().or_of(&data);
        let jobs = self.work.settle(Some(self.jobs), false)?;
        let node = node_name(self.node.as_deref())?;
        work_alone(Alone { node, data, store: self.store, access, jobs }).await
    }
}
