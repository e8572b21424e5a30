//! How etcd's clients show a token: as the password of any name. They get it back, and send it with each call.

use regrow_store::proto::etcdserverpb as pb;
use tonic::{Request, Response, Status, async_trait};

use super::{Door, refusal};
use crate::access::{Outcome, What};

const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";
const FAILED: &str = "etcdserver: authentication failed, invalid user ID or password";

#[async_trait]
impl pb::auth_server::Auth for Door {
    async fn auth_status(&self, _: Request<pb::AuthStatusRequest>) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let revision = self.behind.status().await.map_err(refusal)?.revision;
        let (header, enabled) = (self.header(revision), !self.guard.is_open());
        Ok(Response::new(pb::AuthStatusResponse { header, enabled, auth_revision: 1 }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        // Clients with a name and a password go on without a token then.
        if self.guard.is_open() {
            return Err(Status::failed_precondition(NOT_ENABLED));
        }
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let holder = self.guard.holder(&password);
        if let Err(why) = holder.may(&regrow_control::access::Asked::Store) {
            if let Some(visit) = &self.visit {
                // A name may be anything, a token by mistake too.
                let name = if regrow_model::access::is_token(&name) { String::new() } else { name };
                visit.tell(
                    "authenticate",
                    What::Named(name.chars().take(64).collect()),
                    Outcome::Refused(why.to_string()),
                );
            }
            return Err(Status::invalid_argument(FAILED));
        }
        let revision = self.behind.status().await.map_err(refusal)?.revision;
        Ok(Response::new(pb::AuthenticateResponse { header: self.header(revision), token: password }))
    }
}
