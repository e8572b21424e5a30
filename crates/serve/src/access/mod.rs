//! Who may do what: the doors prove who is there.

mod keys;
mod peer;

pub(crate) use keys::Standing;
pub use keys::{HANDSHAKES_MAX, Keys, Material};
pub use peer::{Certificate, CertificateKind, NODE, Origin, Peer};
