//! The copy of a store elsewhere: as it sends it, piece by piece.

use tonic::Streaming;

use super::{
    endpoints::{Endpoints, Kind},
    maintenance,
};
use crate::{
    BoxFuture, Result, Revision, Snapshot, SnapshotPart, SnapshotSource,
    proto::{self, Asked, etcdserverpb as pb},
};

/// Begins a copy at one member; it is that member's from its first piece to the last, so it fails with it.
pub(super) async fn snapshot(endpoints: &Endpoints) -> Result<Snapshot> {
    let call = |channel| async move { maintenance(channel).snapshot(pb::SnapshotRequest {}).await };
    let parts = endpoints.call(Kind::Read, Asked::default(), call).await?;
    // Which revision it is of, etcd does not tell.
    Ok(Snapshot::new(Revision(0), Box::new(Source(parts))))
}

struct Source(Streaming<pb::SnapshotResponse>);

impl SnapshotSource for Source {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<SnapshotPart>>> {
        Box::pin(async move {
            let part = self.0.message().await.map_err(|status| proto::error(&status, Asked::default()))?;
            Ok(part.map(|part| SnapshotPart { bytes: part.blob, remaining: part.remaining_bytes }))
        })
    }
}
