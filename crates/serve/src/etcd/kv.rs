//! Keys.

use regrow_store::proto::etcdserverpb as pb;
use tonic::{Request, Response, Status, async_trait};

use super::{Door, refusal};

#[async_trait]
impl pb::kv_server::Kv for Door {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let response = self.store.range(request.into_inner().try_into()?).await.map_err(refusal)?;
        let header = self.header(response.revision);
        Ok(Response::new(pb::RangeResponse { header, ..response.into() }))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let response = self.store.put(request.into_inner().into()).await.map_err(refusal)?;
        let header = self.header(response.revision);
        Ok(Response::new(pb::PutResponse { header, ..response.into() }))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let response = self.store.delete_range(request.into_inner().into()).await.map_err(refusal)?;
        let header = self.header(response.revision);
        Ok(Response::new(pb::DeleteRangeResponse { header, ..response.into() }))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let request = request.into_inner().try_into()?;
        regrow_store::check_txn(&request).map_err(refusal)?;
        let response = self.store.txn(request).await.map_err(refusal)?;
        let header = self.header(response.revision);
        Ok(Response::new(pb::TxnResponse { header, ..response.into() }))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let response = self.store.compact(request.into_inner().into()).await.map_err(refusal)?;
        Ok(Response::new(pb::CompactionResponse { header: self.header(response.revision) }))
    }
}
