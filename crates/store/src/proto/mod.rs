//! etcd's v3 interface as generated types, with client and server ends, and the way between them and the types of this
//! crate.
//!
//! The sources are `crates/store/proto/*.proto`; `scripts/proto` makes the Rust from them, which is committed so that
//! a build needs no `protoc`.

mod convert;
mod status;

pub use convert::Malformed;
pub use status::{Asked, error, status};

/// The interface described: a `google.protobuf.FileDescriptorSet` of all sources, in protobuf's own encoding. For who
/// reads and writes messages by their description, as JSON gateways and clients of server reflection do.
pub const DESCRIPTORS: &[u8] = include_bytes!("descriptors.bin");

/// Keys and events.
#[allow(missing_docs, clippy::all, reason = "generated; the names are etcd's")]
pub mod mvccpb {
    include!("mvccpb.rs");
}

/// Requests, responses and services.
#[allow(missing_docs, clippy::all, reason = "generated; the names are etcd's")]
pub mod etcdserverpb {
    include!("etcdserverpb.rs");
}

/// The gRPC health protocol.
#[allow(missing_docs, clippy::all, reason = "generated; the names are the protocol's")]
pub mod health {
    include!("grpc.health.v1.rs");
}
