//! The care of the store.

use futures_util::stream::{BoxStream, StreamExt, poll_fn};
use regrow_store::{HashRequest, HashResponse, Revision, Snapshot, proto::etcdserverpb as pb};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tonic::{Request, Response, Status, async_trait};

use super::{
    Door,
    identity::{TERM, VERSION},
    limits::{SNAPSHOT_PARTS_MAX, SNAPSHOT_STALL},
    not_offered, refusal,
};

const ACTIVATE: &str = "regrow: alarms cannot be raised by hand; NOSPACE is raised, and lowered, by the store itself";
const DOWNGRADE: &str = "regrow: there is no etcd version to downgrade";

#[async_trait]
impl pb::maintenance_server::Maintenance for Door {
    /// A disarmed NOSPACE is not forgotten while there is no space: the alarm is the state of the store, not a memory
    /// of it.
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let request = request.into_inner();
        let action = pb::alarm_request::AlarmAction::try_from(request.action);
        let status = self.store.status().await.map_err(refusal)?;
        if !matches!(action, Ok(pb::alarm_request::AlarmAction::Get)) {
            self.may_care("change alarms", "alarm")?;
        }
        let raised = pb::AlarmMember { member_id: self.identity.member(), alarm: pb::AlarmType::Nospace.into() };
        let asked = request.alarm == i32::from(pb::AlarmType::None) || request.alarm == raised.alarm;
        let alarms = match action {
            Ok(pb::alarm_request::AlarmAction::Get) if status.no_space && asked => vec![raised],
            Ok(pb::alarm_request::AlarmAction::Get | pb::alarm_request::AlarmAction::Deactivate) => Vec::new(),
            Ok(pb::alarm_request::AlarmAction::Activate) => return Err(not_offered(ACTIVATE)),
            Err(_) => return Err(Status::invalid_argument("etcdserver: invalid alarm action")),
        };
        Ok(Response::new(pb::AlarmResponse { header: self.header(status.revision), alarms }))
    }

    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let status = self.store.status().await.map_err(refusal)?;
        let member = self.identity.member();
        let errors = status.no_space.then(|| format!("memberID:{member} alarm:NOSPACE "));
        let index = u64::try_from(status.revision.0).unwrap_or(0);
        let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Ok(Response::new(pb::StatusResponse {
            header: self.header(status.revision),
            version: VERSION.to_owned(),
            db_size: size(status.db_size),
            leader: member,
            raft_index: index,
            raft_term: TERM,
            raft_applied_index: index,
            errors: errors.into_iter().collect(),
            db_size_in_use: size(status.db_size_in_use),
            is_learner: false,
            storage_version: String::new(),
            db_size_quota: size(status.quota),
        }))
    }

    /// There is nothing to do: the store gives space back by itself, a segment at a time.
    async fn defragment(&self, _: Request<pb::DefragmentRequest>) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.may_care("defragment the store", "defragment")?;
        Ok(Response::new(pb::DefragmentResponse { header: self.now().await? }))
    }

    async fn hash(&self, _: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let response = self.checksum(Revision(0)).await?;
        Ok(Response::new(pb::HashResponse { header: self.header(response.revision), hash: response.hash }))
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        let response = self.checksum(Revision(request.into_inner().revision)).await?;
        Ok(Response::new(pb::HashKvResponse {
            header: self.header(response.revision),
            hash: response.hash,
            compact_revision: response.compact_revision.0,
            hash_revision: response.hash_revision.0,
        }))
    }

    type SnapshotStream = BoxStream<'static, Result<pb::SnapshotResponse, Status>>;

    /// A task reads the store and waits for the client, but not for ever: history is held back meanwhile.
    async fn snapshot(&self, _: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let snapshot = self.store.snapshot().await.map_err(refusal)?;
        let header = self.header(snapshot.revision());
        let (out, mut parts) = mpsc::channel(SNAPSHOT_PARTS_MAX);
        let mut task = JoinSet::new();
        task.spawn(send(snapshot, header, out));
        let parts = poll_fn(move |context| {
            let _task = &task;
            parts.poll_recv(context)
        });
        Ok(Response::new(parts.boxed()))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        self.may_care("move the leader", "move-leader")?;
        if request.into_inner().target_id != self.identity.member() {
            return Err(Status::failed_precondition("etcdserver: bad leader transferee"));
        }
        Ok(Response::new(pb::MoveLeaderResponse { header: self.now().await? }))
    }

    async fn downgrade(&self, _: Request<pb::DowngradeRequest>) -> Result<Response<pb::DowngradeResponse>, Status> {
        Err(not_offered(DOWNGRADE))
    }
}

impl Door {
    async fn checksum(&self, revision: Revision) -> Result<HashResponse, Status> {
        self.store.hash(HashRequest { revision }).await.map_err(refusal)
    }
}

type Part = Result<pb::SnapshotResponse, Status>;

/// Sends a snapshot until its end, or until the client takes nothing for too long.
async fn send(mut snapshot: Snapshot, header: Option<pb::ResponseHeader>, out: mpsc::Sender<Part>) {
    while let Some(part) = snapshot.next().await {
        let part = part.map_err(refusal).map(|part| pb::SnapshotResponse {
            header,
            remaining_bytes: part.remaining,
            blob: part.bytes,
            version: String::new(),
        });
        match timeout(SNAPSHOT_STALL, out.send(part)).await {
            Ok(Ok(())) => {}
            // The client is gone.
            Ok(Err(_)) => return,
            Err(_) => {
                drop(snapshot);
                let seconds = SNAPSHOT_STALL.as_secs();
                let late = Status::deadline_exceeded(format!("regrow: the snapshot was not read on for {seconds} s"));
                // It may never look.
                let _ = out.send(Err(late)).await;
                return;
            }
        }
    }
}
