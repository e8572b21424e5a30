//! Requests and responses on leases.

use bytes::Bytes;

use crate::{LeaseId, Revision};

/// Grants a lease: keys attached to it are deleted, in one revision, when it is not kept alive.
///
/// Errors: `LeaseExists`, `LeaseTtlTooLarge`, `NoSpace`, `Disk`, `Closed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeaseGrantRequest {
    /// The id; 0: the store chooses.
    pub id: LeaseId,
    /// Seconds to live without a keep-alive; raised to `limits::LEASE_TTL_SECONDS_MIN`.
    pub ttl: i64,
}

/// A lease is granted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeaseGrantResponse {
    /// Where the store is; a grant does not raise it.
    pub revision: Revision,
    /// The lease.
    pub id: LeaseId,
    /// Seconds it lives without a keep-alive.
    pub ttl: i64,
}

/// A lease is revoked, its keys are deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeaseRevokeResponse {
    /// Where the store is.
    pub revision: Revision,
}

/// A lease lives on for its full time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeaseKeepAliveResponse {
    /// Where the store is.
    pub revision: Revision,
    /// The lease.
    pub id: LeaseId,
    /// Seconds it lives from now without a further keep-alive.
    pub ttl: i64,
}

/// Asks about a lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeaseTimeToLiveRequest {
    /// The lease.
    pub id: LeaseId,
    /// Whether to list its keys.
    pub keys: bool,
}

/// A lease as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseTimeToLiveResponse {
    /// Where the store is.
    pub revision: Revision,
    /// The lease.
    pub id: LeaseId,
    /// Whole seconds left.
    pub ttl: i64,
    /// Seconds it was granted for.
    pub granted_ttl: i64,
    /// The keys attached to it in ascending order, if asked for.
    pub keys: Vec<Bytes>,
}

/// All leases in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeasesResponse {
    /// Where the store is.
    pub revision: Revision,
    /// Their ids. As in etcd, those that end first come first.
    pub leases: Vec<LeaseId>,
}
