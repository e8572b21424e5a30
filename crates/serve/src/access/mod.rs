//! Who is there, and what they may do.
//!
//! **Flow.** An entrance proves who is at a connection ([`Peer`]); the [`Guard`] finds the [`Caller`] in that and in what a
//! request shows; the rules are [`regrow_control::access`]. Each door does no more than they allow: the etcd door gives
//! each caller a store of its own (`Guarded`), the others ask before they do something. What is done, and what is refused,
//! goes to [`audit`].
//!
//! Why so: `docs/design/0051-access.md`.

pub mod audit;
mod caller;
mod guard;
mod http;
mod keys;
mod peer;
mod screen;
mod shown;
mod store;
pub mod tokens;
mod visit;

pub use audit::{Audit, From, Outcome, What};
pub use caller::{Caller, Refused};
pub use guard::Guard;
pub(crate) use http::{Why, guarded};
pub(crate) use keys::Standing;
pub use keys::{HANDSHAKES_MAX, Keys, Material};
pub use peer::{Certificate, CertificateKind, NODE, Origin, Peer};
pub(crate) use shown::{Kept, Shown};
pub(crate) use store::Guarded;
pub use visit::Visit;
