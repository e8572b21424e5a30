//! Who answers.

use regrow_store::{Revision, proto::etcdserverpb::ResponseHeader};

/// The term told in headers. It rises with each election in etcd; the one member here leads for ever.
pub(super) const TERM: u64 = 1;

/// The version of etcd's interface that clients may count on: manual progress that can be trusted came with 3.5.13.
pub(super) const VERSION: &str = "3.5.21";

/// What this member tells of itself.
#[derive(Debug, Clone)]
pub struct Identity {
    cluster: u64,
    member: u64,
    name: String,
    urls: Vec<String>,
}

impl Identity {
    /// A member by its name, reached at `urls` (`http://IP:PORT`). Ids are made from the name: the same after a
    /// restart, other ones on another node.
    pub fn new(name: &str, urls: Vec<String>) -> Self {
        let (cluster, member) = (id("cluster", name), id("member", name));
        Self { cluster, member, name: name.to_owned(), urls }
    }

    /// The id of the one member. Never 0, which means "all members" in requests.
    pub fn member(&self) -> u64 {
        self.member
    }

    pub(super) fn cluster(&self) -> u64 {
        self.cluster
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn urls(&self) -> &[String] {
        &self.urls
    }

    pub(super) fn header(&self, revision: Revision) -> ResponseHeader {
        ResponseHeader { cluster_id: self.cluster, member_id: self.member, revision: revision.0, raft_term: TERM }
    }
}

/// FNV-1a, 64 bits, with a salt; 0 becomes 1. Source: draft-eastlake-fnv.
fn id(salt: &str, name: &str) -> u64 {
    let bytes = salt.bytes().chain([0]).chain(name.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids stay over restarts, differ between nodes, and member and cluster are told apart.
    #[test]
    fn ids_follow_the_name() {
        let header = |name: &str| Identity::new(name, vec![]).header(Revision(7));
        let (one, two) = (header("one"), header("two"));
        assert_eq!(one, header("one"));
        assert!(one.cluster_id != two.cluster_id && one.member_id != two.member_id);
        assert!(one.cluster_id != one.member_id && one.revision == 7);
    }
}
