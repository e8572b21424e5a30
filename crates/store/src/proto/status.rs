//! Errors on the wire: codes and texts exactly as etcd's, because its clients tell errors apart by text.
//!
//! Source: etcd's `api/v3rpc/rpctypes/error.go`.

use tonic::{Code, Status};

use crate::{
    Error, LeaseId, Revision,
    limits::{LEASE_TTL_SECONDS_MAX, REQUEST_BYTES_MAX, TXN_OPS_MAX},
};

const EMPTY_KEY: &str = "etcdserver: key is not provided";
const KEY_NOT_FOUND: &str = "etcdserver: key not found";
const VALUE_PROVIDED: &str = "etcdserver: value is provided";
const LEASE_PROVIDED: &str = "etcdserver: lease is provided";
const TOO_MANY_OPS: &str = "etcdserver: too many operations in txn request";
const DUPLICATE_KEY: &str = "etcdserver: duplicate key given in txn request";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE_REVISION: &str = "etcdserver: mvcc: required revision is a future revision";
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";
const LEASE_EXISTS: &str = "etcdserver: lease already exists";
const LEASE_TTL_TOO_LARGE: &str = "etcdserver: too large lease TTL";
const REQUEST_TOO_LARGE: &str = "etcdserver: request is too large";
const TOO_MANY_REQUESTS: &str = "etcdserver: too many requests";
const STOPPED: &str = "etcdserver: server stopped";
const UNHEALTHY: &str = "etcdserver: unhealthy cluster";
const CORRUPT: &str = "etcdserver: corrupt cluster";
/// Not etcd's: it has no such state.
const FENCED: &str = "regrow: the store is being moved, try again";
const DENIED: &str = "etcdserver: permission denied";
/// For want of credentials. etcd's clients do not ask again after this one.
const USER_EMPTY: &str = "etcdserver: user name is empty";
/// For wrong ones. etcd's clients that have a name and a password ask for a new token then.
const INVALID_TOKEN: &str = "etcdserver: invalid auth token";

/// Metadata that says why, where etcd's text does not: its clients compare the text, people want the reason.
const REASON: &str = "regrow-reason";

/// Bytes of a reason that travel.
const REASON_BYTES_MAX: usize = 1024;

/// An error as an etcd server says it.
pub fn status(error: &Error) -> Status {
    let (code, text) = match error {
        Error::Denied { reason } => return with_reason(Status::permission_denied(DENIED), reason),
        Error::Anonymous { reason } => return with_reason(Status::invalid_argument(USER_EMPTY), reason),
        Error::Unauthenticated { reason } => return with_reason(Status::unauthenticated(INVALID_TOKEN), reason),
        Error::EmptyKey => (Code::InvalidArgument, EMPTY_KEY),
        Error::KeyNotFound => (Code::InvalidArgument, KEY_NOT_FOUND),
        Error::ValueProvided => (Code::InvalidArgument, VALUE_PROVIDED),
        Error::LeaseProvided => (Code::InvalidArgument, LEASE_PROVIDED),
        Error::TooManyOps { .. } => (Code::InvalidArgument, TOO_MANY_OPS),
        Error::DuplicateKey { .. } => (Code::InvalidArgument, DUPLICATE_KEY),
        Error::RequestTooLarge { .. } => (Code::InvalidArgument, REQUEST_TOO_LARGE),
        Error::Compacted { .. } => (Code::OutOfRange, COMPACTED),
        Error::FutureRevision { .. } => (Code::OutOfRange, FUTURE_REVISION),
        Error::LeaseTtlTooLarge { .. } => (Code::OutOfRange, LEASE_TTL_TOO_LARGE),
        Error::LeaseNotFound(_) => (Code::NotFound, LEASE_NOT_FOUND),
        Error::LeaseExists(_) => (Code::FailedPrecondition, LEASE_EXISTS),
        Error::NoSpace => (Code::ResourceExhausted, NO_SPACE),
        Error::TooManyWatches { .. } | Error::TooManySnapshots { .. } => (Code::ResourceExhausted, TOO_MANY_REQUESTS),
        Error::Corrupt { .. } => (Code::DataLoss, CORRUPT),
        Error::Fenced => (Code::Unavailable, FENCED),
        Error::Closed | Error::Locked { .. } => (Code::Unavailable, STOPPED),
        Error::Disk { .. } | Error::Unavailable { .. } | Error::Endpoint { .. } => (Code::Unavailable, UNHEALTHY),
    };
    Status::new(code, text)
}

fn with_reason(mut status: Status, reason: &str) -> Status {
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let reason: String = reason.chars().map(plain).take(REASON_BYTES_MAX).collect();
    if let Ok(reason) = reason.parse() {
        status.metadata_mut().insert(REASON, reason);
    }
    status
}

fn reason(status: &Status, otherwise: &str) -> String {
    let reason = status.metadata().get(REASON).and_then(|reason| reason.to_str().ok());
    reason.unwrap_or(otherwise).to_owned()
}

/// What a request asked for, as far as the errors of this crate tell it and those on the wire do not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// The revision of a range, a hash, a compaction.
    pub revision: Revision,
    /// The lease of a put or of a request on leases.
    pub lease: LeaseId,
    /// The time-to-live of a grant, in seconds.
    pub ttl: i64,
    /// Bytes of keys and values.
    pub bytes: usize,
}

/// What an etcd server's answer means. Where the wire leaves it out, `compacted` and `current` are 0: the caller has to
/// ask for them. Whatever is not known is `Unavailable`, with code and text.
pub fn error(status: &Status, asked: Asked) -> Error {
    match status.message() {
        EMPTY_KEY => Error::EmptyKey,
        KEY_NOT_FOUND => Error::KeyNotFound,
        VALUE_PROVIDED => Error::ValueProvided,
        LEASE_PROVIDED => Error::LeaseProvided,
        TOO_MANY_OPS => Error::TooManyOps { ops: TXN_OPS_MAX + 1, max: TXN_OPS_MAX },
        DUPLICATE_KEY => Error::DuplicateKey { key: bytes::Bytes::new() },
        REQUEST_TOO_LARGE => Error::RequestTooLarge { bytes: asked.bytes, max: REQUEST_BYTES_MAX },
        COMPACTED => Error::Compacted { requested: asked.revision, compacted: Revision(0) },
        FUTURE_REVISION => Error::FutureRevision { requested: asked.revision, current: Revision(0) },
        LEASE_TTL_TOO_LARGE => Error::LeaseTtlTooLarge { ttl: asked.ttl, max: LEASE_TTL_SECONDS_MAX },
        LEASE_NOT_FOUND => Error::LeaseNotFound(asked.lease),
        LEASE_EXISTS => Error::LeaseExists(asked.lease),
        NO_SPACE => Error::NoSpace,
        FENCED => Error::Fenced,
        DENIED => {
            let otherwise = "the store does not allow this with the credentials given";
            Error::Denied { reason: reason(status, otherwise) }
        }
        USER_EMPTY => Error::Anonymous { reason: reason(status, "the store asks for credentials") },
        text if text == INVALID_TOKEN || status.code() == Code::Unauthenticated => {
            Error::Unauthenticated { reason: reason(status, text) }
        }
        text => Error::Unavailable { reason: format!("{:?}: {text}", status.code()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server of ours says, a client of ours understands, for every error that a client may act on.
    #[test]
    fn errors_survive_the_wire() {
        let asked = Asked { revision: Revision(7), lease: LeaseId(9), ttl: 11, bytes: 13 };
        for error in [
            Error::EmptyKey,
            Error::KeyNotFound,
            Error::ValueProvided,
            Error::LeaseProvided,
            Error::TooManyOps { ops: TXN_OPS_MAX + 1, max: TXN_OPS_MAX },
            Error::DuplicateKey { key: bytes::Bytes::new() },
            Error::RequestTooLarge { bytes: 13, max: REQUEST_BYTES_MAX },
            Error::Compacted { requested: Revision(7), compacted: Revision(0) },
            Error::FutureRevision { requested: Revision(7), current: Revision(0) },
            Error::LeaseTtlTooLarge { ttl: 11, max: LEASE_TTL_SECONDS_MAX },
            Error::LeaseNotFound(LeaseId(9)),
            Error::LeaseExists(LeaseId(9)),
            Error::NoSpace,
            Error::Fenced,
            Error::Denied { reason: "token/a may not read /b".to_owned() },
            Error::Anonymous { reason: "credentials are needed to read /b".to_owned() },
            Error::Unauthenticated { reason: "the token has expired".to_owned() },
        ] {
            assert_eq!(super::error(&status(&error), asked).to_string(), error.to_string());
        }
        let stopped = super::error(&status(&Error::Closed), asked);
        assert!(stopped.is_retryable(), "{stopped}");
    }
}
