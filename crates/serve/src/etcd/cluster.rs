//! Members: there is one.

use regrow_store::proto::etcdserverpb as pb;
use tonic::{Request, Response, Status, async_trait};

use super::{Door, not_offered};

const ONE_MEMBER: &str = "regrow: this store is one member for itself, members cannot be added, removed or changed; \
                          for more than one use an etcd cluster as the store";

#[async_trait]
impl pb::cluster_server::Cluster for Door {
    async fn member_add(&self, _: Request<pb::MemberAddRequest>) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(not_offered(ONE_MEMBER))
    }

    async fn member_remove(
        &self,
        _: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        Err(not_offered(ONE_MEMBER))
    }

    async fn member_update(
        &self,
        _: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        Err(not_offered(ONE_MEMBER))
    }

    async fn member_list(&self, _: Request<pb::MemberListRequest>) -> Result<Response<pb::MemberListResponse>, Status> {
        let member = pb::Member {
            id: self.identity.member(),
            name: self.identity.name().to_owned(),
            peer_ur_ls: Vec::new(),
            client_ur_ls: self.identity.urls().to_vec(),
            is_learner: false,
        };
        Ok(Response::new(pb::MemberListResponse { header: self.now().await?, members: vec![member] }))
    }

    async fn member_promote(
        &self,
        _: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        Err(not_offered(ONE_MEMBER))
    }
}
